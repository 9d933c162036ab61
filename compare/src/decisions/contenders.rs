//! Who takes part.

use crate::keys::{TOOL, session};
use crate::peers::{
    Answer, Governor, GovernorKeyMade, Keyed, Limitador, LimitadorPrepared, Peer, Place, Redis,
    RedisServer, ShardedMap,
};
use crate::size::Size;

/// Their names, in the order of the columns.
pub const CONTENDERS: [&str; 10] = [
    TALLYMESH,
    HANDLES,
    TALLYMESH_IN_MEMORY,
    HANDLES_IN_MEMORY,
    SHARDED_MAP,
    GOVERNOR,
    GOVERNOR_KEY_MADE,
    LIMITADOR,
    LIMITADOR_PREPARED,
    REDIS,
];

pub const TALLYMESH: &str = "tallymesh";
pub const TALLYMESH_IN_MEMORY: &str = "tallymesh, in memory";
pub const HANDLES: &str = "tallymesh, handle";
pub const HANDLES_IN_MEMORY: &str = "tallymesh, handle, in memory";
pub const SHARDED_MAP: &str = "sharded map";
pub const GOVERNOR: &str = "governor";
pub const GOVERNOR_KEY_MADE: &str = "governor, key made";
pub const LIMITADOR: &str = "limitador";
pub const LIMITADOR_PREPARED: &str = "limitador, prepared";
pub const REDIS: &str = "Redis";

/// One of them.
pub struct Contender {
    pub name: &'static str,
    /// Who is slow decides only this fraction of the times.
    share: usize,
    /// Whether it answers by a limit.
    pub limits: bool,
    pub peer: Box<dyn Peer>,
}

impl Contender {
    /// How often it decides in a round.
    pub fn operations(&self, size: &Size) -> usize {
        (size.operations / self.share).max(100)
    }
}

/// All of them, with a counter for every key.
pub fn all(
    keys: usize,
    answer: Answer,
    callers: usize,
    server: Option<&RedisServer>,
) -> Vec<Contender> {
    let sessions: Vec<String> = (0..keys).map(session).collect();
    let joined = || sessions.iter().map(|session| format!("{session}/{TOOL}")).collect();
    let on_disk = Keyed::new(sessions.clone(), Place::Disk, answer);
    let in_memory = Keyed::new(sessions.clone(), Place::Memory, answer);
    let mut all = vec![
        contender(HANDLES, 1, on_disk.handles()),
        contender(HANDLES_IN_MEMORY, 1, in_memory.handles()),
        contender(TALLYMESH, 1, on_disk),
        contender(TALLYMESH_IN_MEMORY, 1, in_memory),
        Contender { limits: false, ..contender(SHARDED_MAP, 1, ShardedMap::new(joined())) },
        contender(GOVERNOR, 1, Governor::new(joined(), answer)),
        contender(GOVERNOR_KEY_MADE, 1, GovernorKeyMade::new(&sessions, answer)),
        contender(LIMITADOR, 20, Limitador::new(&sessions, answer)),
        contender(LIMITADOR_PREPARED, 20, LimitadorPrepared::new(&sessions, answer)),
    ];
    all.sort_by_key(|contender| CONTENDERS.iter().position(|name| *name == contender.name));
    let every_key: Vec<u32> = (0..keys as u32).collect();
    for contender in &all {
        contender.peer.decide_all(0, &every_key);
        contender.peer.settle();
    }
    if let Some(server) = server {
        all.push(contender(REDIS, 300, Redis::new(server, callers, joined(), answer)));
    }
    all
}

fn contender(name: &'static str, share: usize, peer: impl Peer + 'static) -> Contender {
    Contender { name, share, limits: true, peer: Box::new(peer) }
}
