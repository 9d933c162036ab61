//! A slot holds one counter; references to slots find it again without its key.
//!
//! A slot is used again once its counter is gone. So each counter gets a tag when it is put in a slot, and a reference
//! carries the tag of the counter that it is meant for: where the tags differ, that counter is gone, and another one is
//! never taken for it (a generational index, which guards against ABA).

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use super::slot_key::SlotKey;
use super::{SHARD_BITS, SHARDS};
use crate::crdt::{COUNT_MAX, Marks, PnCounter, ReplicaIndex};
use crate::key::{CounterKind, end_after_use, ends_of, kind_of};
use crate::limit::{Lifetime, Term};
use crate::time::Timestamp;

/// A counter in its slot. Two cache lines, side by side.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Slot {
    pub key: SlotKey,
    pub counter: PnCounter,
    /// Tells this counter from earlier ones in the same slot.
    pub tag: u32,
    /// The own cell changed since the last harvest.
    pub dirty: bool,
    /// Listed for an urgent push.
    pub urgent: bool,
    /// Changed since the last checkpoint.
    pub unpersisted: bool,
    /// What storage holds under its key.
    pub stored: Stored,
}

/// What storage holds under a counter's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stored {
    /// Nothing that has to be deleted with this counter, although an earlier one of its key may be there.
    Nothing,
    /// An earlier counter of its key, of which nothing may be kept.
    Earlier,
    /// The counter itself.
    This,
}

impl Slot {
    /// When the counter ends, as all nodes reckon. It may be dropped a grace later.
    #[inline]
    pub(super) fn ends(&self) -> Timestamp {
        let (at, p0) = self.counter.use_marks();
        // No slot is filled with a key that was not checked.
        ends_of(&self.key).map_or(Timestamp(0), |ends| ends.end(at, p0))
    }

    /// When it ends for a limit with this term: where nodes have different times to live, after the lesser of the own one and
    /// that of the node that used it. A window must be the counter's.
    #[inline(always)]
    pub(super) fn ends_under(&self, term: Term) -> Timestamp {
        match term {
            Term::Window(window) => window.end(),
            Term::Use { ttl_ms, .. } => {
                let (at, p0) = self.counter.use_marks();
                end_after_use(at, p0.min(ttl_ms))
            }
        }
    }

    /// When it ends for a limit with this term once that use is noted.
    #[inline(always)]
    pub(super) fn ends_once_used(&self, term: Term) -> Timestamp {
        match term {
            Term::Window(window) => window.end(),
            Term::Use { at: used_at, ttl_ms } => {
                end_after_use(self.counter.use_marks().0.max(used_at), ttl_ms)
            }
        }
    }

    /// How long the counter lives after a use that is not its limit's: a session keeps its time to live.
    pub(super) fn term_kept(&self, now: Timestamp, term: Term) -> Term {
        match self.counter.use_marks() {
            (_, ttl_ms) if ttl_ms > 0 && kind_of(&self.key) == CounterKind::Session => {
                Lifetime::new(Duration::from_millis(ttl_ms)).used(now)
            }
            _ => term,
        }
    }

    /// The counter's value now: 0 once it has ended, although its cells are kept for the grace.
    #[inline]
    pub(super) fn value_at(&self, now: Timestamp) -> u64 {
        if self.ends() <= now { 0 } else { self.counter.value() }
    }

    /// The same, for a limit with this term.
    #[inline(always)]
    pub(super) fn value_under(&self, now: Timestamp, term: Term) -> u64 {
        if self.ends_under(term) <= now { 0 } else { self.counter.value() }
    }

    /// How much the own cell can still count now: everything again once the counter has ended.
    pub(super) fn room_at(&self, now: Timestamp) -> u64 {
        if self.ends() <= now { COUNT_MAX } else { self.counter.room() }
    }

    /// Whether the counter has been used, and lives at least as long as this use would make it.
    pub(super) fn is_kept_for(&self, now: Timestamp, term: Term) -> bool {
        let is_used = self.counter.generation() > 0
            || self.counter.cell(ReplicaIndex::OWN).is_some()
            || self.counter.peers_held() > 0;
        let ((at, p0), marks) = (self.counter.use_marks(), marks_of(term));
        is_used && self.ends() > now && marks.at <= at && marks.p0 <= p0
    }
}

/// What a use adds to a counter's marks.
#[inline(always)]
pub(super) fn marks_of(term: Term) -> Marks {
    match term {
        Term::Window(_) => Marks::default(),
        Term::Use { at, ttl_ms } => Marks { at, p0: ttl_ms, n0: 0 },
    }
}

/// Where a slot is: its index in its shard, and the shard, in one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SlotId(pub(super) u32);

impl SlotId {
    /// The slot of this [`number`](Self::number). Any number is that of some slot, if only of an empty one.
    pub fn from_number(number: u32) -> SlotId {
        SlotId(number)
    }

    /// A number that stands for it.
    pub fn number(self) -> u32 {
        self.0
    }

    /// The slot in which a walk over the table begins.
    pub(super) const FIRST: SlotId = SlotId(0);

    #[inline]
    pub(super) fn new(shard: usize, slot_index: u32) -> SlotId {
        SlotId(slot_index << SHARD_BITS | shard as u32)
    }

    #[inline]
    pub(super) fn shard(self) -> usize {
        self.0 as usize % SHARDS
    }

    #[inline]
    pub(super) fn index(self) -> u32 {
        self.0 >> SHARD_BITS
    }
}

/// A direct reference to a slot; valid until the counter in it is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotRef {
    pub(super) slot: SlotId,
    pub(super) tag: u32,
}

impl SlotRef {
    /// A reference to no counter.
    pub const NONE: SlotRef = SlotRef { slot: SlotId(u32::MAX), tag: 0 };
}

/// A [`SlotRef`] for handles that threads share: packed into one word, so a reader never sees half of an update.
#[derive(Debug)]
pub struct CachedSlot(AtomicU64);

impl CachedSlot {
    /// The reference that was set last.
    #[inline]
    pub fn get(&self) -> SlotRef {
        let bits = self.0.load(Ordering::Relaxed);
        SlotRef { slot: SlotId((bits >> 32) as u32), tag: bits as u32 }
    }

    /// Replaces the reference.
    pub fn set(&self, slot_ref: SlotRef) {
        let bits = u64::from(slot_ref.slot.0) << 32 | u64::from(slot_ref.tag);
        self.0.store(bits, Ordering::Relaxed);
    }
}

impl Default for CachedSlot {
    /// Refers to no counter yet.
    fn default() -> CachedSlot {
        let cached = CachedSlot(AtomicU64::new(0));
        cached.set(SlotRef::NONE);
        cached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_fills_two_cache_lines() {
        assert_eq!(size_of::<Option<Slot>>(), 128);
    }

    #[test]
    fn an_id_is_an_index_and_a_shard() {
        let id = SlotId::new(SHARDS - 1, 12_345);
        assert_eq!((id.shard(), id.index()), (SHARDS - 1, 12_345));
    }

    #[test]
    fn a_cached_reference_reads_back_as_set() {
        let cached = CachedSlot::default();
        assert_eq!(cached.get(), SlotRef::NONE);
        let slot_ref = SlotRef { slot: SlotId::new(3, 4), tag: u32::MAX };
        cached.set(slot_ref);
        assert_eq!(cached.get(), slot_ref);
    }
}
