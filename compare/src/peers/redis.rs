//! Redis, one round trip for each decision.

use std::sync::{Mutex, PoisonError};

use redis::Connection;

use super::{Answer, Decide, RedisServer};

/// `INCR` and `EXPIRE` in one pipeline, over a connection of each caller's own.
pub struct Redis {
    connections: Vec<Mutex<Connection>>,
    keys: Vec<String>,
    max: u64,
}

const SECONDS: i64 = 3600;

impl Redis {
    /// With all keys at 1.
    pub fn new(server: &RedisServer, callers: usize, keys: Vec<String>, answer: Answer) -> Redis {
        let mut connection = server.connect();
        redis::cmd("FLUSHALL").exec(&mut connection).expect("the server runs");
        for keys in keys.chunks(1_000) {
            let mut pipeline = redis::pipe();
            for key in keys {
                pipeline.incr(key, 1).ignore().expire(key, SECONDS).ignore();
            }
            pipeline.exec(&mut connection).expect("the server runs");
        }
        let connections = (0..callers).map(|_| Mutex::new(server.connect())).collect();
        Redis { connections, keys, max: answer.max() }
    }
}

impl Decide for Redis {
    fn decide(&self, caller: usize, key: usize) -> bool {
        let key = &self.keys[key];
        let mut connection =
            self.connections[caller].lock().unwrap_or_else(PoisonError::into_inner);
        let mut pipeline = redis::pipe();
        pipeline.incr(key, 1).expire(key, SECONDS).ignore();
        let (count,): (u64,) = pipeline.query(&mut *connection).expect("the server runs");
        count <= self.max
    }
}
