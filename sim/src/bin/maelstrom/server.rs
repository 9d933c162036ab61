//! What each kind of message is answered.

use std::collections::VecDeque;
use std::time::Duration;

use rand::rngs::StdRng;
use serde::Deserialize;
use serde_json::{Map, Value};
use tallymesh_core::gossip::GossipSettings;
use tallymesh_core::id::NodeId;
use tallymesh_core::time::Now;

use crate::log;
use crate::message::{Message, Refusal, body};
use crate::replica::{KIND, Replica};

#[derive(Debug, Deserialize)]
struct Init {
    node_id: NodeId,
    node_ids: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Add {
    delta: i64,
}

/// A node from its start on; it has a name once `init` was received.
#[derive(Debug)]
pub struct Server {
    settings: GossipSettings,
    random: StdRng,
    replica: Option<Replica>,
    replies: VecDeque<Message>,
}

impl Server {
    /// A node that waits for its `init`.
    pub fn new(settings: GossipSettings, random: StdRng) -> Server {
        Server { settings, random, replica: None, replies: VecDeque::new() }
    }

    /// Takes in a line, which may be anything.
    pub fn handle_line(&mut self, now: Now, line: &[u8]) {
        if line.trim_ascii().is_empty() {
            return;
        }
        let message: Message = match serde_json::from_slice(line) {
            Ok(message) => message,
            Err(error) => return log(&format!("a line is no message: {error}")),
        };
        let body = match self.answer(now, &message) {
            Ok(Some(body)) => body,
            Ok(None) => return,
            Err(refusal) => {
                log(&format!("a message from {} is refused: {refusal}", message.src));
                refusal.body()
            }
        };
        self.replies.extend(message.reply(body));
    }

    /// Does what is due by now.
    pub fn handle_timeout(&mut self, now: Now) {
        if let Some(replica) = &mut self.replica {
            replica.handle_timeout(now);
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next, on the monotonic clock; `None` before `init`.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.replica.as_ref().map(Replica::poll_timeout)
    }

    /// The next message to send.
    pub fn poll_output(&mut self) -> Option<Message> {
        self.replies.pop_front().or_else(|| self.replica.as_mut()?.poll_output())
    }

    fn answer(
        &mut self,
        now: Now,
        message: &Message,
    ) -> Result<Option<Map<String, Value>>, Refusal> {
        let body = match message.kind()? {
            "init" => {
                self.init(now, message.fields()?)?;
                body([("type", "init_ok".into())])
            }
            "topology" => {
                // Every node talks to all others, whatever Maelstrom proposes.
                self.replica()?;
                body([("type", "topology_ok".into())])
            }
            "add" => {
                let Add { delta } = message.fields()?;
                self.replica()?.add(now, delta)?;
                body([("type", "add_ok".into())])
            }
            "read" => {
                let total = self.replica()?.total(now);
                body([("type", "read_ok".into()), ("value", total.into())])
            }
            KIND => {
                self.replica()?.receive(now, &message.src, &message.fields()?)?;
                return Ok(None);
            }
            other => return Err(Refusal::not_supported(other)),
        };
        Ok(Some(body))
    }

    fn init(&mut self, now: Now, init: Init) -> Result<(), Refusal> {
        if self.replica.is_some() {
            return Err(Refusal::precondition_failed("the node is initialised already"));
        }
        let settings = self.settings.clone();
        let Init { node_id, node_ids } = init;
        self.replica = Some(Replica::new(now, settings, &mut self.random, node_id, &node_ids));
        Ok(())
    }

    fn replica(&mut self) -> Result<&mut Replica, Refusal> {
        let before_init = || Refusal::temporarily_unavailable("the node is not initialised yet");
        self.replica.as_mut().ok_or_else(before_init)
    }
}
