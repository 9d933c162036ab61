//! Reading the table: single counters, pages of them, and a checksum over all.

use alloc::vec::Vec;
use core::time::Duration;

use siphasher::sip::SipHasher13;

use super::persistence::at_rest;
use super::replicas::Replicas;
use super::slot::Slot;
use super::{Rejections, SHARDS, SLOTS_PER_LOCK, SlotId, SlotRef, Table, cells_of, shard_of};
use crate::crdt::{Cell, Marks, ReplicaIndex};
use crate::id::{ReplicaId, Version};
use crate::key::CounterKey;
use crate::time::Timestamp;

/// One counter as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CounterState {
    /// What it counts.
    pub key: CounterKey,
    /// `sum p - sum n`, at least 0, without the cells of nodes that the operator has in quarantine.
    pub value: u64,
    /// How often it was reset.
    pub generation: u32,
    /// When it expires. A limit with a shorter time to live than that of another node may end it sooner.
    pub expires_at: Timestamp,
    /// Its three numbers that only grow.
    pub marks: Marks,
    /// Every replica's cell, by replica id.
    pub cells: Vec<(ReplicaId, Cell)>,
}

impl CounterState {
    /// How far below zero the sum is, where `value` says 0: what was taken more than once, by subtractions at several
    /// instances at once. What is added next makes up for it first.
    ///
    /// ```
    /// use tallymesh::{Cell, CounterState};
    ///
    /// fn total(counter: &CounterState) -> i128 {
    ///     i128::from(counter.value) - i128::from(counter.credit())
    /// }
    /// ```
    pub fn credit(&self) -> u64 {
        let sum = |of: fn(&Cell) -> u64| {
            self.cells.iter().fold(0_u64, |sum, (_, cell)| sum.saturating_add(of(cell)))
        };
        sum(|cell| cell.n).saturating_sub(sum(|cell| cell.p))
    }
}

/// One counter as it stands, without its cells.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CounterSummary {
    /// What it counts.
    pub key: CounterKey,
    /// `sum p - sum n`, at least 0.
    pub value: u64,
    /// How often it was reset.
    pub generation: u32,
    /// When it expires, as in [`CounterState::expires_at`].
    pub expires_at: Timestamp,
    /// When it was used last, rounded down to a sixteenth of its time to live; `None` for a window, of which that is not noted.
    pub last_use: Option<Timestamp>,
    /// Of how many replicas it has a cell.
    pub cells: usize,
}

impl Table {
    /// How long a counter is kept after its end.
    pub fn grace(&self) -> Duration {
        self.bounds.grace
    }

    /// How many counters there are, expired ones within their grace included.
    pub fn len(&self) -> usize {
        self.shares.held()
    }

    /// Whether there is no counter.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many replicas are remembered, the own one included.
    pub fn replicas_known(&self) -> usize {
        self.lock_replicas().len()
    }

    /// What was rejected since the start, in numbers.
    pub fn rejections(&self) -> Rejections {
        self.rejected.read()
    }

    /// The counter's value now; 0 when there is none or it has expired.
    pub fn value(&self, now: Timestamp, key: &[u8]) -> u64 {
        self.with_slot(key, |slot| slot.value_at(now)).unwrap_or(0)
    }

    /// The value of the counter that is referred to; `None` if it is gone.
    pub fn value_by_ref(&self, now: Timestamp, slot_ref: SlotRef) -> Option<u64> {
        let shard = self.lock(slot_ref.slot.shard());
        let slot_index = shard.index_of(slot_ref)?;
        shard.slot(slot_index).map(|slot| slot.value_at(now))
    }

    /// A reference to the counter with this key; [`SlotRef::NONE`] if there is none.
    pub fn resolve(&self, key: &[u8]) -> SlotRef {
        let key_hash = self.key_hash(key);
        let shard_index = shard_of(key_hash);
        let shard = self.lock(shard_index);
        let found = shard
            .find(key_hash, key)
            .and_then(|slot_index| Some((slot_index, shard.slot(slot_index)?.tag)));
        found.map_or(SlotRef::NONE, |(slot_index, tag)| SlotRef {
            slot: SlotId::new(shard_index, slot_index),
            tag,
        })
    }

    /// One counter as it stands, expired or not.
    pub fn counter(&self, key: &[u8]) -> Option<CounterState> {
        let replicas = self.lock_replicas();
        self.with_slot(key, |slot| state_of(slot, &replicas))
    }

    /// The generation of one counter, expired or not, and the version of a replica's cell in it; `Version::ZERO` if it has
    /// no cell of that replica.
    pub fn held(&self, key: &[u8], replica: &ReplicaId) -> Option<(u32, Version)> {
        let index = self.lock_replicas().index(replica);
        self.with_slot(key, |slot| {
            let cell = index.and_then(|index| slot.counter.cell(index));
            (slot.counter.generation(), cell.map_or(Version::ZERO, |cell| cell.version))
        })
    }

    fn with_slot<T>(&self, key: &[u8], read: impl FnOnce(&Slot) -> T) -> Option<T> {
        let key_hash = self.key_hash(key);
        let shard = self.lock(shard_of(key_hash));
        shard.slot(shard.find(key_hash, key)?).map(read)
    }

    /// The counters of one page, which is a few slots of one shard, and where the next page begins; `None` after the last.
    pub fn page(&self, from: Option<SlotId>) -> (Vec<CounterState>, Option<SlotId>) {
        let from = from.unwrap_or(SlotId::FIRST);
        let replicas = self.lock_replicas();
        let shard = self.lock(from.shard());
        let end = page_end(from, shard.slots());
        let slots = (from.index()..end).filter_map(|slot_index| shard.slot(slot_index));
        let page = slots.map(|slot| state_of(slot, &replicas)).collect();
        (page, next_page(from, end, shard.slots()))
    }

    /// As [`page`](Self::page), without the cells, and how many slots were looked at: at most [`SLOTS_PER_LOCK`]. No replica is
    /// locked.
    pub fn summaries(&self, from: Option<SlotId>) -> (Vec<CounterSummary>, usize, Option<SlotId>) {
        let from = from.unwrap_or(SlotId::FIRST);
        let shard = self.lock(from.shard());
        let end = page_end(from, shard.slots());
        let slots = (from.index()..end).filter_map(|slot_index| shard.slot(slot_index));
        let summaries = slots.map(summary_of).collect();
        let visited = end.saturating_sub(from.index()) as usize;
        (summaries, visited, next_page(from, end, shard.slots()))
    }

    /// A checksum over all counters that have not expired, equal on two nodes with equal state. Takes time in proportion to
    /// the number of counters.
    ///
    /// It is the sum, modulo 2^64, of the SipHash-1-3 (with a key of zeroes) of each counter. Hashed are, integers in little
    /// endian: the key's length in bytes (u32) and its byte form; the marks `at`, `p0` and `n0` (u64 each); the generation (u32); then for each
    /// replica whose cell has a version, in the order of the replica ids: the length of the node's name (u8) and the name,
    /// boot and nonce of the incarnation (u64 each), and the cell's version, `p` and `n` (u64 each).
    pub fn state_checksum(&self, now: Timestamp) -> u64 {
        let replicas = self.lock_replicas();
        let mut bytes = Vec::new();
        let mut sum = 0_u64;
        for shard_index in 0..self.shards.len() {
            let shard = self.lock(shard_index);
            let slots = (0..shard.slots()).filter_map(|slot_index| shard.slot(slot_index));
            for slot in slots.filter(|slot| slot.ends() > now) {
                bytes.clear();
                write_state(&mut bytes, slot, &replicas);
                sum = sum.wrapping_add(SipHasher13::new().hash(&bytes));
            }
        }
        sum
    }
}

/// Where a page ends that begins there.
pub(super) fn page_end(from: SlotId, slots: u32) -> u32 {
    from.index().saturating_add(SLOTS_PER_LOCK as u32).min(slots)
}

/// Where the page after that begins: in the same shard if there is more of it, else in the next one.
pub(super) fn next_page(from: SlotId, end: u32, slots: u32) -> Option<SlotId> {
    if end < slots {
        Some(SlotId::new(from.shard(), end))
    } else {
        (from.shard() + 1 < SHARDS).then(|| SlotId::new(from.shard() + 1, 0))
    }
}

#[expect(clippy::expect_used, reason = "no slot is filled with a key that was not checked")]
fn state_of(slot: &Slot, replicas: &Replicas) -> CounterState {
    let state = at_rest(slot, replicas).to_state().expect("a slot's key is valid");
    CounterState { value: slot.counter.value(), ..state }
}

#[expect(clippy::expect_used, reason = "no slot is filled with a key that was not checked")]
fn summary_of(slot: &Slot) -> CounterSummary {
    let (at, _) = slot.counter.use_marks();
    let own = slot.counter.cell(ReplicaIndex::OWN).is_some();
    CounterSummary {
        key: CounterKey::from_bytes(&slot.key).expect("a slot's key is valid"),
        value: slot.counter.value(),
        generation: slot.counter.generation(),
        expires_at: slot.ends(),
        last_use: (at > 0).then_some(Timestamp(at)),
        cells: slot.counter.peers_held() + usize::from(own),
    }
}

/// Appends what the state checksum hashes of one counter.
fn write_state(bytes: &mut Vec<u8>, slot: &Slot, replicas: &Replicas) {
    bytes.extend_from_slice(&(slot.key.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&slot.key);
    let Marks { at, p0, n0 } = slot.counter.marks();
    [at, p0, n0].iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
    bytes.extend_from_slice(&slot.counter.generation().to_le_bytes());
    let mut cells: Vec<_> = cells_of(&slot.counter)
        .filter(|(_, cell)| cell.version > Version::ZERO)
        .map(|(index, cell)| (replicas.id(index), cell))
        .collect();
    cells.sort();
    for (replica, cell) in cells {
        let name = replica.node.as_str().as_bytes();
        bytes.push(name.len() as u8);
        bytes.extend_from_slice(name);
        let incarnation = replica.incarnation;
        for number in [incarnation.boot, incarnation.nonce, cell.version.0, cell.p, cell.n] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use crate::crdt::Update;
    use crate::table::tests::{replica, table, ttl};
    use crate::table::{DirtySet, Op};

    use super::*;

    #[test]
    fn the_state_checksum_hashes_the_bytes_that_its_doc_lists() {
        let (table, key) = (table("a"), CounterKey::new("l", &["v"]).unwrap());
        table.execute(Timestamp(0), &key, Op::Add(5), ttl(1_000)).unwrap();
        table.harvest(DirtySet::All);
        let update = Update {
            key: key.as_bytes().into(),
            version: Version(9),
            generation: 0,
            p: 3,
            n: 1,
            marks: Marks { at: 62, p0: 1_000, n0: 0 },
        };
        table.apply(Timestamp(0), &replica("bc", 2), &[update]);
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&[8, 0, 0, 0, 0x20, 1, b'l', 0, 0, 1, 1, b'v']);
        [62, 1_000, 0_u64].iter().for_each(|n| bytes.extend_from_slice(&n.to_le_bytes()));
        bytes.extend_from_slice(&[0, 0, 0, 0]);
        for (name, numbers) in [(&b"a"[..], [1, 7, 1, 5, 0]), (b"bc", [2, 7, 9, 3, 1_u64])] {
            bytes.push(name.len() as u8);
            bytes.extend_from_slice(name);
            numbers.iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
        }
        assert_eq!(table.state_checksum(Timestamp(0)), SipHasher13::new().hash(&bytes));
        assert_eq!(
            table.state_checksum(Timestamp(62 + 1_062)),
            0,
            "an expired counter is not hashed"
        );
    }

    #[test]
    fn cells_without_a_version_are_not_hashed() {
        let (one, other, key) = (table("a"), table("a"), CounterKey::new("l", &[]).unwrap());
        for table in [&one, &other] {
            table.execute(Timestamp(0), &key, Op::Add(1), ttl(1_000)).unwrap();
        }
        one.execute(Timestamp(0), &key, Op::Add(1), ttl(1_000)).unwrap();
        assert_eq!(one.state_checksum(Timestamp(0)), other.state_checksum(Timestamp(0)));
        [&one, &other].iter().for_each(|table| drop(table.harvest(DirtySet::All)));
        assert_ne!(one.state_checksum(Timestamp(0)), other.state_checksum(Timestamp(0)));
    }

    #[test]
    fn a_look_at_summaries_takes_a_few_slots_under_one_lock() {
        let table = table("a");
        for number in 0..5_000_u32 {
            let key = CounterKey::new("l", &[&number.to_string()]).unwrap();
            table.execute(Timestamp(0), &key, Op::Add(2), ttl(1_000)).unwrap();
        }
        let (mut seen, mut visited, mut next) = (Vec::new(), 0, None);
        loop {
            let (some, slots, following) = table.summaries(next);
            assert!(some.len() <= slots && slots <= SLOTS_PER_LOCK, "{slots}");
            seen.extend(some);
            visited += slots;
            next = following.map(|next| SlotId::from_number(next.number()));
            if next.is_none() {
                break;
            }
        }
        assert_eq!((seen.len(), visited), (5_000, 5_000));
        let is_right = |one: &CounterSummary| (one.value, one.cells) == (2, 1);
        assert!(seen.iter().all(|one| is_right(one) && one.last_use.is_none()), "it began at 0");
        let (none, slots, next) = table.summaries(Some(SlotId::from_number(u32::MAX)));
        assert!(none.is_empty() && slots == 0 && next.is_none());
    }
}
