//! One shard of the table: slots that hold counters, and the index that finds them by key.

use alloc::vec::Vec;
use core::time::Duration;

use super::SlotRef;
use super::division::Notes;
use super::index::Index;
use super::shares::ClaimId;
use super::slot::{Slot, Stored, marks_of};
use super::slot_key::SlotKey;
use crate::crdt::{Marks, PnCounter, ReplicaIndex};
use crate::limit::Term;
use crate::mutant::mutant;
use crate::time::Timestamp;

#[derive(Debug)]
pub(super) struct Shard {
    index: Index,
    slots: Vec<Option<Slot>>,
    /// For whom each slot's counter takes room. Not in the slots, which decisions read.
    claims: Vec<ClaimId>,
    free: Vec<u32>,
    last_tag: u32,
    /// Slots to harvest. A slot may be listed twice, or be empty by now; its flag decides.
    pub dirty: Vec<u32>,
    pub urgent: Vec<u32>,
    pub unpersisted: Vec<u32>,
    /// Whether there is a storage, which takes from that list.
    pub lists_unpersisted: bool,
    /// Keys that storage still holds and the table has dropped.
    pub dropped: Vec<SlotKey>,
    /// What counters had when members fell silent; none while none are.
    pub notes: Notes,
}

impl Default for Shard {
    fn default() -> Shard {
        Shard {
            index: Index::default(),
            slots: Vec::new(),
            claims: Vec::new(),
            free: Vec::new(),
            last_tag: 0,
            dirty: Vec::new(),
            urgent: Vec::new(),
            unpersisted: Vec::new(),
            lists_unpersisted: true,
            dropped: Vec::new(),
            notes: Notes::new(),
        }
    }
}

impl Shard {
    /// The slot of the counter with this key.
    #[inline]
    pub(super) fn find(&self, key_hash: u64, key: &[u8]) -> Option<u32> {
        self.index.find(key_hash as u32, |slot_index| self.has_key(slot_index, key))
    }

    #[inline]
    fn has_key(&self, slot_index: u32, key: &[u8]) -> bool {
        self.slot(slot_index).is_some_and(|slot| slot.key[..] == *key)
    }

    #[inline]
    pub(super) fn slot(&self, slot_index: u32) -> Option<&Slot> {
        self.slots.get(slot_index as usize)?.as_ref()
    }

    #[inline]
    pub(super) fn slot_mut(&mut self, slot_index: u32) -> Option<&mut Slot> {
        self.slots.get_mut(slot_index as usize)?.as_mut()
    }

    /// How many slots there are, used or not.
    pub(super) fn slots(&self) -> u32 {
        self.slots.len() as u32
    }

    /// The slot that is referred to, if it still holds the same counter.
    #[inline]
    pub(super) fn index_of(&self, slot_ref: SlotRef) -> Option<u32> {
        let slot_index = slot_ref.slot.index();
        self.slot(slot_index).filter(|slot| slot.tag == slot_ref.tag).map(|_| slot_index)
    }

    /// Puts a new counter in a free slot. There must be none with this key yet.
    pub(super) fn insert(
        &mut self,
        key_hash: u64,
        key: &[u8],
        marks: Marks,
        claim: ClaimId,
    ) -> u32 {
        let mut counter = PnCounter::default();
        counter.raise(marks);
        let slot = Slot {
            key: SlotKey::of(key),
            counter,
            tag: self.next_tag(),
            dirty: false,
            urgent: false,
            unpersisted: false,
            stored: Stored::Nothing,
        };
        let slot_index = self.free.pop().unwrap_or(self.slots.len() as u32);
        match self.slots.get_mut(slot_index as usize) {
            Some(free) => *free = Some(slot),
            None => self.slots.push(Some(slot)),
        }
        match self.claims.get_mut(slot_index as usize) {
            Some(before) => *before = claim,
            None => self.claims.push(claim),
        }
        self.index.insert(key_hash as u32, slot_index);
        slot_index
    }

    fn next_tag(&mut self) -> u32 {
        self.last_tag = self.last_tag.wrapping_add(1);
        self.last_tag
    }

    /// Before a counter is used that may have ended here: begins it again. Until the grace after the end that all nodes reckon
    /// with, it gets its next generation, which replaces the old one on the nodes that still have it; after that no node may
    /// have it any more, and it is as new. Its marks must then be raised. Returns whether it has begun a generation.
    #[inline]
    pub(super) fn reset_if_ended(
        &mut self,
        now: Timestamp,
        grace: Duration,
        slot_index: u32,
        ends: impl FnOnce(&Slot) -> Timestamp,
    ) -> bool {
        let Some(slot) = self.slot_mut(slot_index).filter(|slot| ends(slot) <= now) else {
            return false;
        };
        if slot.ends().plus(grace) <= now {
            self.recycle(slot_index);
            return false;
        }
        if mutant!(OwnCellZeroed) {
            slot.counter.zero_own();
            return false;
        }
        slot.counter.reset();
        true
    }

    /// Replaces an expired counter by a new one with the same key, as if it had been swept and were made now.
    pub(super) fn recycle(&mut self, slot_index: u32) {
        let tag = self.next_tag();
        if let Some(slot) = self.slot_mut(slot_index) {
            slot.counter = PnCounter::default();
            slot.tag = tag;
            slot.dirty = false;
            if slot.stored == Stored::This {
                slot.stored = Stored::Earlier;
            }
        }
        self.mark_unpersisted(slot_index);
    }

    /// Begins the own cell again, for another replica. Of a counter of which nothing is left, and which is dropped, it returns for whom it took
    /// room.
    pub(super) fn begin_own_again(&mut self, key_hash: u64, slot_index: u32) -> Option<ClaimId> {
        let tag = self.next_tag();
        let slot = self.slot_mut(slot_index)?;
        slot.counter.cell(ReplicaIndex::OWN)?;
        slot.counter.begin_own_again();
        if slot.counter.has_no_cells() {
            return self.remove(key_hash, slot_index);
        }
        // What was taken from the former cell must not be given back to the new one.
        slot.tag = tag;
        slot.dirty = false;
        if slot.counter.cell(ReplicaIndex::OWN).is_some() {
            self.mark_dirty(slot_index);
        }
        self.mark_unpersisted(slot_index);
        None
    }

    /// Drops the counter in a slot, and notes its key if storage has to forget it too. Returns for whom it took room.
    pub(super) fn remove(&mut self, key_hash: u64, slot_index: u32) -> Option<ClaimId> {
        let slot = self.slots.get_mut(slot_index as usize).and_then(Option::take)?;
        self.index.remove(key_hash as u32, slot_index);
        self.free.push(slot_index);
        self.notes.remove(&slot_index);
        if slot.stored != Stored::Nothing {
            self.dropped.push(slot.key);
        }
        self.claims.get(slot_index as usize).copied()
    }

    /// Notes a denied use of a counter, where that moves its end: once a step of its lifetime, not once a call.
    pub(super) fn touch(&mut self, now: Timestamp, slot_index: u32, term: Term) {
        let Some(slot) = self.slot_mut(slot_index) else { return };
        if slot.value_under(now, term) > 0 && slot.counter.raise(marks_of(term)) {
            self.mark_dirty(slot_index);
        }
    }

    /// Lists a slot for the next harvest.
    #[inline]
    pub(super) fn mark_dirty(&mut self, slot_index: u32) {
        if let Some(slot) = self.slot_mut(slot_index).filter(|slot| !slot.dirty) {
            slot.dirty = true;
            self.dirty.push(slot_index);
        }
    }

    /// Lists a slot for an urgent push; returns whether it was not listed yet.
    pub(super) fn mark_urgent(&mut self, slot_index: u32) -> bool {
        let slot = self.slot_mut(slot_index).filter(|slot| !slot.urgent);
        let Some(slot) = slot else { return false };
        slot.urgent = true;
        self.urgent.push(slot_index);
        true
    }

    /// Lists a slot for the next checkpoint.
    pub(super) fn mark_unpersisted(&mut self, slot_index: u32) {
        if !self.lists_unpersisted {
            return;
        }
        if let Some(slot) = self.slot_mut(slot_index).filter(|slot| !slot.unpersisted) {
            slot.unpersisted = true;
            self.unpersisted.push(slot_index);
        }
    }
}

/// Frees a list's memory after a burst: when it has far more than it lists now.
pub(super) fn trim(list: &mut Vec<u32>) {
    if list.capacity() > 8 * list.len() + 256 {
        list.shrink_to(2 * list.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_frees_its_memory_after_a_burst_and_loses_nothing() {
        let mut list: Vec<u32> = (0..10_000).collect();
        list.truncate(5_000);
        trim(&mut list);
        assert!(list.capacity() >= 10_000, "so much may be listed again");
        list.truncate(500);
        trim(&mut list);
        assert!(list.iter().copied().eq(0..500) && list.capacity() < 2_000);
    }
}
