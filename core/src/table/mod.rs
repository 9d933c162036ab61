//! The sharded table of counters: what every decision reads and writes.
//!
//! Decisions lock the shards they touch, in ascending order, and nothing else. Replication and persistence lock the
//! replicas first and then one shard at a time, a few hundred slots long, so that a decision never waits for a whole
//! harvest, merge or checkpoint.

mod admission;
mod expiry;
#[cfg(test)]
mod handle_tests;
mod index;
mod op;
mod persistence;
mod replicas;
mod replication;
mod shard;
#[cfg(test)]
mod tests;
mod update_log;
mod version_map;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ahash::RandomState;

pub use admission::{Charged, Outcome};
pub use op::{Change, Changed, CountError};
pub use persistence::{ReadCounter, Restore, StoredCounter};
pub use replication::{Applied, Scope};
pub use shard::{LastSeen, Resolved};

use crate::crdt::{Cell, PnCounter, ReplicaIndex};
use crate::id::ReplicaId;
use crate::key::{CounterKey, window_of};
use crate::time::Timestamp;
use replicas::Replicas;
use shard::{Shard, Slot};

const SHARDS: usize = 64;
const SHARD_BITS: u32 = SHARDS.trailing_zeros();

/// How many slots are worked on under one hold of a shard's lock.
pub const SLOTS_PER_LOCK: usize = 32;

/// Where a counter is: its place and its shard in one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SlotId(u32);

impl SlotId {
    fn new(shard: usize, place: u32) -> SlotId {
        SlotId(place << SHARD_BITS | shard as u32)
    }

    fn shard(self) -> usize {
        self.0 as usize % SHARDS
    }

    fn place(self) -> u32 {
        self.0 >> SHARD_BITS
    }
}

/// What a table holds at the most, and how it treats time.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// The most counters held.
    pub counters_max: usize,
    /// The longest key in bytes.
    pub key_bytes_max: usize,
    /// The most replicas known.
    pub replicas_max: usize,
    /// The most cells in one counter.
    pub replicas_per_counter_max: usize,
    /// Whether a request that needs a counter past `counters_max` is admitted uncounted instead of denied.
    pub admit_when_full: bool,
    /// How long an expired counter is still kept for stragglers.
    pub grace: Duration,
    /// A counter from a window that starts later than this after now is not believed.
    pub future_max: Duration,
    /// The fraction of a limit past which a change does not wait for the tick.
    pub urgent_fraction: f64,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            counters_max: 1_000_000,
            key_bytes_max: 512,
            replicas_max: 65_536,
            replicas_per_counter_max: 1_024,
            admit_when_full: false,
            grace: Duration::from_secs(60),
            future_max: Duration::from_secs(600),
            urgent_fraction: 0.7,
        }
    }
}

/// Counts of what went wrong, since the start.
#[derive(Debug, Default)]
pub struct Mishaps {
    /// Counters that were needed and not made, because of `counters_max`.
    pub full: AtomicU64,
    /// Cells from peers that were not believed.
    pub implausible: AtomicU64,
    /// Cells from peers that came after their counter had expired.
    pub late: AtomicU64,
}

impl Mishaps {
    fn count(what: &AtomicU64) {
        what.fetch_add(1, Ordering::Relaxed);
    }
}

/// All counters of one process. Shared between threads; every call is short.
#[derive(Debug)]
pub struct Table {
    shards: Box<[Mutex<Shard>]>,
    replicas: Mutex<Replicas>,
    counters: AtomicUsize,
    /// How many peers are connected.
    peers: AtomicU64,
    bounds: Bounds,
    hasher: RandomState,
    pub mishaps: Mishaps,
}

/// One counter as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CounterState {
    /// What it counts.
    pub key: CounterKey,
    /// `sum p - sum n`, at least 0.
    pub value: u64,
    /// How often it was reset.
    pub generation: u32,
    /// When it ends.
    pub expires_at: Timestamp,
    /// Every replica's cell, by replica id.
    pub cells: Vec<(ReplicaId, Cell)>,
}

impl Table {
    /// An empty table of the replica `own`. `seed` keys the hash, so that nobody can choose keys that collide.
    pub fn new(own: ReplicaId, bounds: Bounds, seed: [u64; 4]) -> Table {
        Table {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            replicas: Mutex::new(Replicas::new(own)),
            counters: AtomicUsize::new(0),
            peers: AtomicU64::new(0),
            bounds,
            hasher: RandomState::with_seeds(seed[0], seed[1], seed[2], seed[3]),
            mishaps: Mishaps::default(),
        }
    }

    /// The table of a node that keeps its state in memory only: what changes is not listed for any checkpoint.
    pub fn without_storage(self) -> Table {
        (0..self.shards.len()).for_each(|number| self.lock(number).lists_unpersisted = false);
        self
    }

    /// Notes how many peers are connected, which tells how much may have been counted unheard.
    pub fn set_peers(&self, peers: usize) {
        self.peers.store(peers as u64, Ordering::Relaxed);
    }

    /// How many counters are held, expired ones within their grace included.
    pub fn len(&self) -> usize {
        self.counters.load(Ordering::Relaxed)
    }

    /// Whether no counter is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The counter's value now; 0 when there is none or it has ended.
    pub fn value(&self, now: Timestamp, key: &[u8]) -> u64 {
        let hash = self.hash(key);
        let shard = self.lock(shard_of(hash));
        let slot = shard.find(hash, key).and_then(|place| shard.slot(place));
        slot.map_or(0, |slot| value_at(now, slot))
    }

    /// One counter as it stands, expired or not.
    #[cfg(feature = "mutants")]
    pub fn counter(&self, key: &[u8]) -> Option<CounterState> {
        let hash = self.hash(key);
        let replicas = self.lock_replicas();
        let shard = self.lock(shard_of(hash));
        let slot = shard.find(hash, key).and_then(|place| shard.slot(place));
        slot.map(|slot| state_of(slot, &replicas))
    }

    /// The generation of one counter, and the version of a replica's cell in it.
    #[cfg(feature = "mutants")]
    pub fn held(&self, key: &[u8], replica: &ReplicaId) -> Option<(u32, crate::id::Version)> {
        let hash = self.hash(key);
        let index = self.lock_replicas().index(replica);
        let shard = self.lock(shard_of(hash));
        let slot = shard.find(hash, key).and_then(|place| shard.slot(place))?;
        let cell = index.and_then(|index| slot.counter.cell(index));
        Some((
            slot.counter.generation(),
            cell.map_or(crate::id::Version::ZERO, |cell| cell.version),
        ))
    }

    /// Where the counter with this key is, if there is one.
    pub fn resolve(&self, key: &[u8]) -> Resolved {
        let hash = self.hash(key);
        let number = shard_of(hash);
        let shard = self.lock(number);
        let found = shard.find(hash, key).and_then(|place| Some((place, shard.slot(place)?.life)));
        found.map_or(Resolved::NONE, |(place, life)| Resolved {
            slot: SlotId::new(number, place),
            life,
        })
    }

    /// The value of a counter that was resolved before; `None` if it is not there any more.
    pub fn value_resolved(&self, now: Timestamp, resolved: Resolved) -> Option<u64> {
        let shard = self.lock(resolved.slot.shard());
        let place = shard.place_of(resolved)?;
        shard.slot(place).map(|slot| value_at(now, slot))
    }

    /// The counters of one stretch of one shard, and where the next stretch begins.
    pub fn page(&self, from: Option<SlotId>) -> (Vec<CounterState>, Option<SlotId>) {
        let from = from.unwrap_or(SlotId(0));
        let replicas = self.lock_replicas();
        let shard = self.lock(from.shard());
        let end = from.place().saturating_add(SLOTS_PER_LOCK as u32).min(shard.places());
        let slots = (from.place()..end).filter_map(|place| shard.slot(place));
        let page = slots.map(|slot| state_of(slot, &replicas)).collect();
        let next = if end < shard.places() {
            Some(SlotId::new(from.shard(), end))
        } else {
            (from.shard() + 1 < SHARDS).then(|| SlotId::new(from.shard() + 1, 0))
        };
        (page, next)
    }

    #[inline]
    fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash_one(key)
    }

    #[inline]
    fn lock(&self, shard: usize) -> MutexGuard<'_, Shard> {
        // Nothing that runs under the lock leaves a shard half changed when it panics.
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_replicas(&self) -> MutexGuard<'_, Replicas> {
        self.replicas.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes room for one more counter, if there is any.
    fn reserve_counter(&self) -> bool {
        let room = |held| (held < self.bounds.counters_max).then_some(held + 1);
        self.counters.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_ok()
    }

    fn release_counter(&self) {
        self.counters.fetch_sub(1, Ordering::Relaxed);
    }
}

fn shard_of(hash: u64) -> usize {
    (hash >> (64 - SHARD_BITS)) as usize
}

/// A counter whose time has passed reads 0, although its cells are kept for the grace.
fn value_at(now: Timestamp, slot: &Slot) -> u64 {
    if slot.expires_at <= now { 0 } else { slot.counter.value() }
}

/// When a counter ends by its key alone.
fn window_end(key: &[u8]) -> Option<Timestamp> {
    window_of(key).ok().flatten().map(|window| window.end())
}

fn state_of(slot: &Slot, replicas: &Replicas) -> CounterState {
    CounterState {
        // Proven when the slot was made: only valid keys get in.
        key: CounterKey::from_bytes(&slot.key).expect("a slot's key is valid"),
        value: slot.counter.value(),
        generation: slot.counter.generation(),
        expires_at: slot.expires_at,
        cells: cells_of(&slot.counter)
            .map(|(index, cell)| (replicas.id(index).clone(), cell))
            .collect::<std::collections::BTreeMap<_, _>>()
            .into_iter()
            .collect(),
    }
}

fn cells_of(counter: &PnCounter) -> impl Iterator<Item = (ReplicaIndex, Cell)> {
    let own = counter.cell(ReplicaIndex::OWN).map(|cell| (ReplicaIndex::OWN, cell));
    own.into_iter().chain(counter.peers())
}
