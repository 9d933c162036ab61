//! tallymesh, in memory or as it is used.

use std::time::Duration;

use tallymesh::{Config, Limit, Limiter, Request, Window};
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
    limiter: Limiter,
    sessions: Vec<String>,
    runtime: Runtime,
    _directory: Option<TempDir>,
}

impl Keyed {
    /// One limit per session and tool.
    pub fn new(sessions: Vec<String>, place: Place, answer: Answer) -> Keyed {
        let window = Window::Session { ttl: Duration::from_secs(3600) };
        let limit = Limit::new("calls", answer.max(), window).per("session").per("tool");
        let settings = Config::builder("bench").limit(limit);
        let directory = (place == Place::Disk).then(crate::cluster::directory);
        let settings = match &directory {
            Some(directory) => settings.data_dir(directory.path()).listen("127.0.0.1:0"),
            None => settings.in_memory(),
        };
        let runtime = crate::cluster::runtime();
        let limiter = runtime
            .block_on(Limiter::open(settings.build().expect("the settings are valid")))
            .expect("the directory and a port are ours");
        Keyed { limiter, sessions, runtime, _directory: directory }
    }
}

impl Decide for Keyed {
    fn decide(&self, _caller: usize, key: usize) -> bool {
        self.limiter.acquire(&Request::tool_call(&self.sessions[key], TOOL)).is_allowed()
    }

    fn settle(&self) {
        self.runtime.block_on(self.limiter.counters().flush()).expect("the disk works");
    }
}
