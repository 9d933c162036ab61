//! tallymesh: asked with strings or through handles, in memory or as it is used.

use std::sync::Arc;
use std::time::Duration;

use tallymesh::{Config, Limit, Limiter, Meter, Request, Window};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::{Answer, Decide};
use crate::keys::TOOL;

/// Where the state is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A data directory, with checkpoints every 10 ms, and a socket that peers may connect to.
    Disk,
    /// Memory, alone.
    Memory,
}

/// Asked with strings: session and tool.
pub struct Keyed {
    node: Arc<Node>,
}

/// Asked through a handle for each key, which was made beforehand.
pub struct Handles {
    node: Arc<Node>,
    meters: Vec<Meter>,
}

struct Node {
    limiter: Limiter,
    sessions: Vec<String>,
    runtime: Runtime,
    _directory: Option<TempDir>,
}

impl Keyed {
    /// One limit per session and tool.
    pub fn new(sessions: Vec<String>, place: Place, answer: Answer) -> Keyed {
        Keyed { node: Arc::new(Node::open(sessions, place, answer)) }
    }

    /// Handles to the same counters.
    pub fn handles(&self) -> Handles {
        let node = Arc::clone(&self.node);
        let meter = |session: &String| node.limiter.meter(&Request::tool_call(session, TOOL));
        Handles { meters: node.sessions.iter().map(meter).collect(), node }
    }
}

impl Decide for Keyed {
    fn decide(&self, _caller: usize, key: usize) -> bool {
        let node = &*self.node;
        node.limiter.acquire(&Request::tool_call(&node.sessions[key], TOOL)).is_allowed()
    }

    fn settle(&self) {
        self.node.settle();
    }
}

impl Decide for Handles {
    fn decide(&self, _caller: usize, key: usize) -> bool {
        self.meters[key].acquire(1).is_allowed()
    }

    fn settle(&self) {
        self.node.settle();
    }
}

impl Node {
    fn open(sessions: Vec<String>, place: Place, answer: Answer) -> Node {
        let window = Window::Session { ttl: Duration::from_secs(3600) };
        let limit = Limit::new("calls", answer.max(), window).per("session").per("tool");
        let settings = Config::builder("bench").limit(limit);
        let directory = (place == Place::Disk).then(crate::cluster::directory);
        let settings = match &directory {
            Some(directory) => settings.data_dir(directory.path()).listen("127.0.0.1:0"),
            None => settings.in_memory(),
        };
        let runtime = crate::cluster::runtime();
        let limiter = crate::cluster::open(&runtime, settings);
        Node { limiter, sessions, runtime, _directory: directory }
    }

    fn settle(&self) {
        self.runtime.block_on(self.limiter.counters().flush()).expect("the disk works");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Its threads must not go on beside those of the next; the state is thrown away with the directory.
        let _ = self.runtime.block_on(self.limiter.close());
    }
}
