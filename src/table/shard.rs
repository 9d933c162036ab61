//! One shard of the table: slots that hold counters, and the index that finds them by key.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::crdt::PnCounter;
use crate::time::Timestamp;

/// A counter in its place.
#[derive(Debug)]
pub(super) struct Slot {
    pub key: Box<[u8]>,
    pub counter: PnCounter,
    pub expires_at: Timestamp,
    /// Tells this counter from earlier ones in the same place.
    pub life: u32,
    /// Bits that stay in the index, so that growing it need not read keys.
    tag: u32,
    /// The own cell changed since the last harvest.
    pub dirty: bool,
    /// Listed for an urgent push.
    pub urgent: bool,
    /// Changed since the last checkpoint.
    pub unpersisted: bool,
    /// Storage holds a record of it.
    pub persisted: bool,
}

#[derive(Debug, Default)]
pub(super) struct Shard {
    index: HashTable<IndexEntry>,
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    lives: u32,
    /// Places to harvest. A place may stand here twice, or be empty by now; the slot's flag decides.
    pub dirty: Vec<u32>,
    pub urgent: Vec<u32>,
    pub unpersisted: Vec<u32>,
    /// Keys that storage still holds and the table has dropped.
    pub dropped: Vec<Box<[u8]>>,
}

#[derive(Debug, Clone, Copy)]
struct IndexEntry {
    tag: u32,
    place: u32,
}

impl IndexEntry {
    /// The index wants 64 bits of which it uses the highest and the lowest.
    fn spread(&self) -> u64 {
        spread(self.tag)
    }
}

fn spread(tag: u32) -> u64 {
    u64::from(tag) << 32 | u64::from(tag)
}

impl Shard {
    pub fn find(&self, hash: u64, key: &[u8]) -> Option<u32> {
        let tag = hash as u32;
        let is_it = |entry: &IndexEntry| entry.tag == tag && self.holds(entry.place, key);
        self.index.find(spread(tag), is_it).map(|entry| entry.place)
    }

    fn holds(&self, place: u32, key: &[u8]) -> bool {
        self.slot(place).is_some_and(|slot| *slot.key == *key)
    }

    pub fn slot(&self, place: u32) -> Option<&Slot> {
        self.slots.get(place as usize)?.as_ref()
    }

    pub fn slot_mut(&mut self, place: u32) -> Option<&mut Slot> {
        self.slots.get_mut(place as usize)?.as_mut()
    }

    /// How many places there are, used or not.
    pub fn places(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Puts a new counter in a free place. The key must not be held.
    pub fn insert(&mut self, hash: u64, key: &[u8], expires_at: Timestamp) -> u32 {
        let tag = hash as u32;
        self.lives = self.lives.wrapping_add(1);
        let slot = Slot {
            key: key.into(),
            counter: PnCounter::default(),
            expires_at,
            life: self.lives,
            tag,
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
        self.index.insert_unique(spread(tag), IndexEntry { tag, place }, IndexEntry::spread);
        place
    }

    /// Drops the counter in a place, and notes its key if storage has to forget it too.
    pub fn remove(&mut self, place: u32) {
        let Some(slot) = self.slots[place as usize].take() else { return };
        let same_place = |entry: &IndexEntry| entry.place == place;
        if let Entry::Occupied(entry) =
            self.index.entry(spread(slot.tag), same_place, IndexEntry::spread)
        {
            entry.remove();
        }
        self.free.push(place);
        if slot.persisted {
            self.dropped.push(slot.key);
        }
    }

    /// Lists a place for the next harvest.
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
        let slot = self.slots[place as usize].as_mut();
        if let Some(slot) = slot.filter(|slot| !slot.unpersisted) {
            slot.unpersisted = true;
            self.unpersisted.push(place);
        }
    }
}
