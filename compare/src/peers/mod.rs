//! Those who decide.

mod governor;
mod limitador;
mod redis;
mod redis_server;
mod sharded_map;
mod tallymesh;

pub use self::governor::{Governor, GovernorKeyMade};
pub use self::limitador::{Limitador, LimitadorPrepared};
pub use self::redis::Redis;
pub use self::redis_server::RedisServer;
pub use self::sharded_map::{Map, ShardedMap};
pub use self::tallymesh::{Keyed, Place};

use ::hdrhistogram::Histogram;

use crate::clock::{nanoseconds_since, now};

/// What the decisions of a run are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// There is always room.
    Allowed,
    /// One decision was allowed before the run, and none is in it.
    Denied,
}

impl Answer {
    /// All there are.
    pub const ALL: [Answer; 2] = [Answer::Allowed, Answer::Denied];

    /// For a table.
    pub fn name(self) -> &'static str {
        match self {
            Answer::Allowed => "allowed",
            Answer::Denied => "denied",
        }
    }

    /// The limit that makes it so.
    fn max(self) -> u64 {
        match self {
            Answer::Allowed => 1 << 40,
            Answer::Denied => 1,
        }
    }
}

/// A limiter that decides whether a key may go ahead.
pub trait Decide: Sync {
    /// Decides once, as the caller of this number; keys are numbers of strings that were made beforehand.
    fn decide(&self, caller: usize, key: usize) -> bool;

    /// Waits for work in the background, which must not slow the others' rounds down.
    fn settle(&self) {}
}

/// The same for many keys, so that a call through a vtable is not counted with every decision.
pub trait Peer: Sync {
    /// How many of these were allowed.
    fn decide_all(&self, caller: usize, keys: &[u32]) -> usize;

    /// Each by itself: nanoseconds, those of the timer included.
    fn time_each(&self, keys: &[u32], measured: &mut Histogram<u64>);

    /// Batches of decisions for one key: nanoseconds of a whole batch.
    fn time_hot(&self, key: usize, batch: usize, batches: usize, measured: &mut Histogram<u64>);

    /// As [`Decide::settle`].
    fn settle(&self);
}

impl<D: Decide> Peer for D {
    fn decide_all(&self, caller: usize, keys: &[u32]) -> usize {
        keys.iter().filter(|key| self.decide(caller, **key as usize)).count()
    }

    fn time_each(&self, keys: &[u32], measured: &mut Histogram<u64>) {
        for key in keys {
            let begun = now();
            std::hint::black_box(self.decide(0, *key as usize));
            measured.saturating_record(nanoseconds_since(begun));
        }
    }

    fn time_hot(&self, key: usize, batch: usize, batches: usize, measured: &mut Histogram<u64>) {
        for _ in 0..batches {
            let begun = now();
            for _ in 0..batch {
                std::hint::black_box(self.decide(0, std::hint::black_box(key)));
            }
            measured.saturating_record(nanoseconds_since(begun));
        }
    }

    fn settle(&self) {
        Decide::settle(self);
    }
}
