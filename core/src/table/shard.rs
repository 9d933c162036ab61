//! One shard of the table: slots that hold counters, and the index that finds them by key.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use smallvec::SmallVec;

use super::index::Index;
use super::{SlotId, value_at};
use crate::crdt::PnCounter;
use crate::time::Timestamp;

/// A counter in its place. Two cache lines, side by side.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Slot {
    pub key: SlotKey,
    pub expires_at: Timestamp,
    pub counter: PnCounter,
    /// Tells this counter from earlier ones in the same place.
    pub life: u32,
    /// The own cell changed since the last harvest.
    pub dirty: bool,
    /// Listed for an urgent push.
    pub urgent: bool,
    /// Changed since the last checkpoint.
    pub unpersisted: bool,
    /// Storage holds a record of it.
    pub persisted: bool,
}

/// Keys of the usual length stand in the slot itself, which saves a decision a cache miss.
pub(super) type SlotKey = SmallVec<[u8; 40]>;

/// Where a counter is: found once by its key, it is found here without it, as long as it is the same counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolved {
    pub(super) slot: SlotId,
    pub(super) life: u32,
}

impl Resolved {
    /// No counter.
    pub const NONE: Resolved = Resolved { slot: SlotId(u32::MAX), life: 0 };
}

/// Where a counter was seen last, for handles that threads share: both parts in one number, so that they belong together.
#[derive(Debug)]
pub struct LastSeen(AtomicU64);

impl LastSeen {
    #[inline]
    pub fn get(&self) -> Resolved {
        let bits = self.0.load(Ordering::Relaxed);
        Resolved { slot: SlotId((bits >> 32) as u32), life: bits as u32 }
    }

    pub fn set(&self, resolved: Resolved) {
        let bits = u64::from(resolved.slot.0) << 32 | u64::from(resolved.life);
        self.0.store(bits, Ordering::Relaxed);
    }
}

impl Default for LastSeen {
    /// Nowhere yet.
    fn default() -> LastSeen {
        let seen = LastSeen(AtomicU64::new(0));
        seen.set(Resolved::NONE);
        seen
    }
}

#[derive(Debug)]
pub(super) struct Shard {
    index: Index,
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    lives: u32,
    /// Places to harvest. A place may stand here twice, or be empty by now; the slot's flag decides.
    pub dirty: Vec<u32>,
    pub urgent: Vec<u32>,
    pub unpersisted: Vec<u32>,
    /// Whether there is a storage, which takes from that list.
    pub lists_unpersisted: bool,
    /// Keys that storage still holds and the table has dropped.
    pub dropped: Vec<SlotKey>,
}

impl Default for Shard {
    fn default() -> Shard {
        Shard {
            index: Index::default(),
            slots: Vec::new(),
            free: Vec::new(),
            lives: 0,
            dirty: Vec::new(),
            urgent: Vec::new(),
            unpersisted: Vec::new(),
            lists_unpersisted: true,
            dropped: Vec::new(),
        }
    }
}

impl Shard {
    #[inline]
    pub fn find(&self, hash: u64, key: &[u8]) -> Option<u32> {
        self.index.find(hash as u32, |place| self.holds(place, key))
    }

    #[inline]
    fn holds(&self, place: u32, key: &[u8]) -> bool {
        self.slot(place).is_some_and(|slot| slot.key[..] == *key)
    }

    #[inline]
    pub fn slot(&self, place: u32) -> Option<&Slot> {
        self.slots.get(place as usize)?.as_ref()
    }

    #[inline]
    pub fn slot_mut(&mut self, place: u32) -> Option<&mut Slot> {
        self.slots.get_mut(place as usize)?.as_mut()
    }

    /// How many places there are, used or not.
    pub fn places(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Puts a new counter in a free place. The key must not be held.
    pub fn insert(&mut self, hash: u64, key: &[u8], expires_at: Timestamp) -> u32 {
        self.lives = self.lives.wrapping_add(1);
        let slot = Slot {
            key: SmallVec::from_slice(key),
            counter: PnCounter::default(),
            expires_at,
            life: self.lives,
            dirty: false,
            urgent: false,
            unpersisted: false,
            persisted: false,
        };
        let place = match self.free.pop() {
            Some(place) => {
                self.slots[place as usize] = Some(slot);
                place
            }
            None => {
                self.slots.push(Some(slot));
                self.slots.len() as u32 - 1
            }
        };
        self.index.insert(hash as u32, place);
        place
    }

    /// Before a counter is used: if its time has passed, it starts anew. Within the grace that is its next generation, which
    /// tells the nodes that still hold the old one; after it, nobody may hold it any more, and it is as new.
    #[inline]
    pub fn begin_anew_if_over(&mut self, now: Timestamp, grace: Duration, place: u32) {
        let Some(slot) = self.slot_mut(place).filter(|slot| slot.expires_at <= now) else {
            return;
        };
        if slot.expires_at.plus(grace) <= now {
            return self.renew(place);
        }
        #[cfg(feature = "mutants")]
        if crate::mutant::mutant!(OwnCellZeroed) {
            return slot.counter.zero_own();
        }
        slot.counter.reset();
    }

    /// Begins a counter that is over anew in its place, as if it had been dropped and were made now.
    pub fn renew(&mut self, place: u32) {
        self.lives = self.lives.wrapping_add(1);
        let life = self.lives;
        if let Some(slot) = self.slot_mut(place) {
            slot.counter = PnCounter::default();
            slot.expires_at = Timestamp(0);
            slot.life = life;
            slot.dirty = false;
        }
        self.mark_unpersisted(place);
    }

    /// Drops the counter in a place, and notes its key if storage has to forget it too.
    pub fn remove(&mut self, hash: u64, place: u32) {
        let Some(slot) = self.slots[place as usize].take() else { return };
        self.index.remove(hash as u32, place);
        self.free.push(place);
        if slot.persisted {
            self.dropped.push(slot.key);
        }
    }

    /// The place of a counter that was resolved before, if it is still the same counter.
    #[inline]
    pub fn place_of(&self, resolved: Resolved) -> Option<u32> {
        let place = resolved.slot.place();
        self.slot(place).filter(|slot| slot.life == resolved.life).map(|_| place)
    }

    /// Notes a denied use of a counter, where that moves its end: once a step, not once a call.
    pub fn touch(&mut self, now: Timestamp, place: u32, expires_at: Timestamp) {
        let Some(slot) = self.slot_mut(place) else { return };
        if value_at(now, slot) > 0 && slot.expires_at < expires_at {
            slot.expires_at = expires_at;
            self.mark_dirty(place);
        }
    }

    /// Lists a place for the next harvest.
    #[inline]
    pub fn mark_dirty(&mut self, place: u32) {
        let slot = self.slots[place as usize].as_mut();
        if let Some(slot) = slot.filter(|slot| !slot.dirty) {
            slot.dirty = true;
            self.dirty.push(place);
        }
    }

    /// Lists a place for an urgent push; whether it was not listed yet.
    pub fn mark_urgent(&mut self, place: u32) -> bool {
        let slot = self.slots[place as usize].as_mut();
        let Some(slot) = slot.filter(|slot| !slot.urgent) else { return false };
        slot.urgent = true;
        self.urgent.push(place);
        true
    }

    /// Lists a place for the next checkpoint.
    pub fn mark_unpersisted(&mut self, place: u32) {
        if !self.lists_unpersisted {
            return;
        }
        let slot = self.slots[place as usize].as_mut();
        if let Some(slot) = slot.filter(|slot| !slot.unpersisted) {
            slot.unpersisted = true;
            self.unpersisted.push(place);
        }
    }
}

/// Gives a list's room back after a burst: when it has far more than it lists now.
pub(super) fn trim(list: &mut Vec<u32>) {
    if list.capacity() > 8 * list.len() + 256 {
        list.shrink_to(2 * list.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_gives_its_room_back_after_a_burst_and_loses_nothing() {
        let mut list: Vec<u32> = (0..10_000).collect();
        list.truncate(5_000);
        trim(&mut list);
        assert!(list.capacity() >= 10_000, "so much may be listed again");
        list.truncate(500);
        trim(&mut list);
        assert!(list.iter().copied().eq(0..500) && list.capacity() < 2_000);
    }

    #[test]
    fn a_slot_fills_two_cache_lines() {
        assert_eq!(size_of::<Option<Slot>>(), 128);
    }
}
