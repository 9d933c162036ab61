//! From a key's hash to the slot of its counter: open addressing with linear probing.
//!
//! An entry is eight bytes and holds half of the hash, so that a lookup costs one cache miss before the counter's own, and
//! growing needs no key. Entries are removed by shifting the ones behind them back (Knuth, TAOCP 3, 6.4, algorithm R), so
//! there are no tombstones to clean up.

use alloc::{boxed::Box, vec};

/// Slots by hash. Several keys may have one hash; the caller says which is meant.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// A power of two long, or empty; at most three quarters are in use.
    entries: Box<[Entry]>,
    used: usize,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// The lower half of the key's hash.
    hash: u32,
    slot: u32,
}

/// The slot of an entry that is not in use.
const FREE: u32 = u32::MAX;
const SMALLEST: usize = 8;

impl Index {
    /// The slot of the entry with this hash that `is_it`.
    #[inline]
    pub(super) fn find(&self, hash: u32, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        self.position(hash, is_it).map(|position| self.entry(position).slot)
    }

    #[inline]
    fn position(&self, hash: u32, is_it: impl Fn(u32) -> bool) -> Option<usize> {
        if self.entries.is_empty() {
            return None;
        }
        let mut position = self.home(hash);
        loop {
            let entry = self.entry(position);
            if entry.slot == FREE {
                return None;
            }
            if entry.hash == hash && is_it(entry.slot) {
                return Some(position);
            }
            position = self.after(position);
        }
    }

    /// Adds an entry; the slot must not be in yet.
    pub(super) fn insert(&mut self, hash: u32, slot: u32) {
        if (self.used + 1) * 4 > self.entries.len() * 3 {
            self.grow();
        }
        self.put(Entry { hash, slot });
        self.used += 1;
    }

    /// Removes the entry of a slot.
    pub(super) fn remove(&mut self, hash: u32, slot: u32) {
        let Some(mut hole) = self.position(hash, |held| held == slot) else { return };
        self.used -= 1;
        let mut next = self.after(hole);
        while self.entry(next).slot != FREE {
            // An entry may fill the hole if the hole is on its way from its home.
            let home = self.home(self.entry(next).hash);
            if self.distance(home, next) >= self.distance(hole, next) {
                *self.entry_mut(hole) = self.entry(next);
                hole = next;
            }
            next = self.after(next);
        }
        self.entry_mut(hole).slot = FREE;
    }

    fn put(&mut self, entry: Entry) {
        let mut position = self.home(entry.hash);
        while self.entry(position).slot != FREE {
            position = self.after(position);
        }
        *self.entry_mut(position) = entry;
    }

    fn grow(&mut self) {
        let length = (self.entries.len() * 2).max(SMALLEST);
        let free = Entry { hash: 0, slot: FREE };
        let before = core::mem::replace(&mut self.entries, vec![free; length].into());
        for entry in before {
            if entry.slot != FREE {
                self.put(entry);
            }
        }
    }

    #[inline]
    #[expect(
        clippy::indexing_slicing,
        reason = "positions are masked by the length, which is a power of two"
    )]
    fn entry(&self, position: usize) -> Entry {
        self.entries[position]
    }

    #[expect(clippy::indexing_slicing, reason = "as above")]
    fn entry_mut(&mut self, position: usize) -> &mut Entry {
        &mut self.entries[position]
    }

    #[inline]
    fn home(&self, hash: u32) -> usize {
        hash as usize & (self.entries.len() - 1)
    }

    #[inline]
    fn after(&self, position: usize) -> usize {
        (position + 1) & (self.entries.len() - 1)
    }

    /// How many steps it takes from one position to another.
    fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & (self.entries.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Few distinct hashes make for many collisions, and wrap around the end.
        #[test]
        fn it_behaves_like_a_map(steps in prop::collection::vec((any::<bool>(), 0_u32..40), 0..300)) {
            let hash = |slot: u32| slot % 7 + 5;
            let mut index = Index::default();
            let mut model = BTreeMap::new();
            for (insert, slot) in steps {
                if insert && !model.contains_key(&slot) {
                    index.insert(hash(slot), slot);
                    model.insert(slot, hash(slot));
                } else if !insert {
                    index.remove(hash(slot), slot);
                    model.remove(&slot);
                }
                for slot in 0..40 {
                    let found = index.find(hash(slot), |held| held == slot);
                    prop_assert_eq!(found, model.contains_key(&slot).then_some(slot));
                }
            }
            prop_assert_eq!(index.used, model.len());
        }
    }
}
