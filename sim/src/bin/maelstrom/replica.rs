//! One counter that may fall below zero, as two that only grow, one for each sign: the production table and gossip machine, with Maelstrom's messages for a transport.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rand::RngExt;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tallymesh_core::gossip::{Gossip, GossipSettings, Input, Output};
use tallymesh_core::id::{Incarnation, NodeId, ReplicaId};
use tallymesh_core::key::CounterKey;
use tallymesh_core::limit::Lifetime;
use tallymesh_core::link::{LinkEvent, LinkId, Proven};
use tallymesh_core::table::{Bounds, CountError, Op, Table};
use tallymesh_core::time::Now;

use crate::links::{LinkName, Links, Met};
use crate::log;
use crate::message::{Message, Refusal};

/// The type of the messages between nodes, as [`Parcel`] writes it.
pub const KIND: &str = "tallymesh";

/// Longer than any run.
const LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// What one node tells another over a link. What the machine says in one go travels in one message, so that the network
/// cannot reorder it: a hello stays before what follows it, a goodbye before the close.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename = "tallymesh")]
pub struct Parcel {
    link: LinkName,
    /// In base64.
    frames: Vec<String>,
    /// Whether the link ends with these frames.
    close: bool,
}

/// A member of the cluster.
#[derive(Debug)]
pub struct Replica {
    own: ReplicaId,
    /// Where positive deltas are added up, and negative ones: a single counter holds nothing below zero.
    added: CounterKey,
    subtracted: CounterKey,
    table: Arc<Table>,
    gossip: Gossip,
    links: Links,
    outgoing: VecDeque<Message>,
}

impl Replica {
    /// Joins the cluster of these nodes as `node`.
    pub fn new(
        now: Now,
        settings: GossipSettings,
        random: &mut StdRng,
        node: NodeId,
        nodes: &[String],
    ) -> Replica {
        // Nothing is kept on disk that would number the starts, so the time does: a later life takes the earlier one's place.
        let incarnation = Incarnation { boot: now.wall.0, nonce: random.random() };
        let links = Links::new(node.as_str(), now.wall.0);
        let peers =
            nodes.iter().filter(|peer| *peer != node.as_str()).cloned().map(Into::into).collect();
        let own = ReplicaId { node, incarnation };
        let table = Arc::new(Table::new(own.clone(), Bounds::default(), random.random()));
        let gossip = Gossip::new(table.clone(), settings, random.random(), now);
        let key = |name| CounterKey::new(name, &[]).expect("a short key");
        let (added, subtracted) = (key("added"), key("subtracted"));
        let outgoing = VecDeque::new();
        let mut replica = Replica { own, added, subtracted, table, gossip, links, outgoing };
        replica.gossip.handle_input(now, Input::Peers(peers));
        replica.drain(now);
        replica
    }

    /// Adds to the counter; a negative `delta` is subtracted.
    pub fn add(&mut self, now: Now, delta: i64) -> Result<(), Refusal> {
        let key = if delta < 0 { &self.subtracted } else { &self.added };
        let change = Op::Add(delta.unsigned_abs());
        let changed = self.table.execute(now.wall, key, change, Lifetime::new(LIFETIME));
        changed.map_err(|error| match error {
            CountError::CounterExhausted { .. } => Refusal::abort(error),
            error => Refusal::temporarily_unavailable(error),
        })?;
        if self.gossip.must_be_told() {
            self.gossip.handle_input(now, Input::Changed);
            self.drain(now);
        }
        Ok(())
    }

    /// What the counter has come to.
    pub fn total(&self, now: Now) -> i64 {
        let sum = |key: &CounterKey| {
            i64::try_from(self.table.value(now.wall, key.as_bytes())).unwrap_or(i64::MAX)
        };
        sum(&self.added).saturating_sub(sum(&self.subtracted))
    }

    /// Takes in what another node sent.
    pub fn receive(&mut self, now: Now, peer: &str, parcel: &Parcel) -> Result<(), Refusal> {
        let frames: Result<Vec<_>, _> =
            parcel.frames.iter().map(|frame| BASE64.decode(frame)).collect();
        let frames = frames.map_err(Refusal::malformed)?;
        let link = match self.links.meet(&parcel.link, peer) {
            Met::Known(link) => link,
            Met::New(link) => {
                self.link_event(now, link_up(link, None));
                link
            }
            Met::Gone => {
                // The other end may have missed that it was closed.
                if !parcel.close {
                    self.post(parcel.link.clone(), peer, Vec::new(), true);
                }
                return Ok(());
            }
        };
        for bytes in frames {
            self.link_event(now, LinkEvent::Frame { link, bytes });
        }
        if parcel.close {
            self.link_event(now, LinkEvent::Down { link });
            self.links.remove(link);
        }
        self.drain(now);
        Ok(())
    }

    /// Does what is due by now.
    pub fn handle_timeout(&mut self, now: Now) {
        if now.monotonic >= self.poll_timeout() {
            self.gossip.handle_timeout(now);
            self.drain(now);
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next, on the monotonic clock.
    pub fn poll_timeout(&self) -> Duration {
        self.gossip.poll_timeout()
    }

    /// The next message to another node.
    pub fn poll_output(&mut self) -> Option<Message> {
        self.outgoing.pop_front()
    }

    /// Does all that the machine wants done, and posts what it has to say in one message for each link.
    fn drain(&mut self, now: Now) {
        let mut said: BTreeMap<LinkId, (Vec<String>, bool)> = BTreeMap::new();
        while let Some(output) = self.gossip.poll_output() {
            match output {
                Output::Dial { address } => {
                    let link = self.links.dial(&address);
                    self.link_event(now, link_up(link, Some(address)));
                }
                Output::Send { link, frame } => {
                    said.entry(link).or_default().0.push(BASE64.encode(frame));
                    self.link_event(now, LinkEvent::Sent { link, frames: 1 });
                }
                Output::Close { link } => said.entry(link).or_default().1 = true,
                Output::Report { report, .. } => log(&format!("{report:?}")),
            }
        }
        for (link, (frames, close)) in said {
            let Some((name, peer)) = self.links.end(link).cloned() else { continue };
            self.post(name, &peer, frames, close);
            if close {
                self.links.remove(link);
            }
        }
    }

    fn link_event(&mut self, now: Now, event: LinkEvent) {
        self.gossip.handle_input(now, Input::Link(event));
    }

    fn post(&mut self, link: LinkName, peer: &str, frames: Vec<String>, close: bool) {
        let parcel = serde_json::to_value(Parcel { link, frames, close });
        let Ok(Value::Object(body)) = parcel else { unreachable!("a parcel is a JSON object") };
        let (src, dest) = (self.own.node.to_string(), peer.to_owned());
        self.outgoing.push_back(Message { src, dest, body });
    }
}

fn link_up(link: LinkId, dialed: Option<String>) -> LinkEvent {
    LinkEvent::Up { link, dialed, remote: None, peer: Proven::Nobody }
}
