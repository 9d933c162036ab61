//! From a key's hash to the place of its counter: open addressing with linear probing.
//!
//! An entry is eight bytes and holds half of the hash, so that a lookup costs one cache miss before the counter's own, and
//! growing needs no key. Entries are removed by shifting the ones behind them back (Knuth, TAOCP 3, 6.4, algorithm R), so
//! there are no tombstones to clean up.

/// Places by hash. Which of several keys with one hash is meant is for the caller to say.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// A power of two long, or empty; at most three quarters are in use.
    entries: Box<[Entry]>,
    used: usize,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    tag: u32,
    place: u32,
}

/// The place of an entry that is not in use.
const FREE: u32 = u32::MAX;
const SMALLEST: usize = 8;

impl Index {
    /// The place of the entry with this tag that `is_it`.
    #[inline]
    pub fn find(&self, tag: u32, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        self.position(tag, is_it).map(|position| self.entries[position].place)
    }

    #[inline]
    fn position(&self, tag: u32, is_it: impl Fn(u32) -> bool) -> Option<usize> {
        if self.entries.is_empty() {
            return None;
        }
        let mut position = self.home(tag);
        loop {
            let entry = self.entries[position];
            if entry.place == FREE {
                return None;
            }
            if entry.tag == tag && is_it(entry.place) {
                return Some(position);
            }
            position = self.after(position);
        }
    }

    /// Adds an entry; the place must not be in yet.
    pub fn insert(&mut self, tag: u32, place: u32) {
        if (self.used + 1) * 4 > self.entries.len() * 3 {
            self.grow();
        }
        self.put(Entry { tag, place });
        self.used += 1;
    }

    /// Removes the entry of a place.
    pub fn remove(&mut self, tag: u32, place: u32) {
        let Some(mut hole) = self.position(tag, |held| held == place) else { return };
        self.used -= 1;
        let mut next = self.after(hole);
        while self.entries[next].place != FREE {
            // An entry may fill the hole if the hole is on its way from its home.
            let home = self.home(self.entries[next].tag);
            if self.distance(home, next) >= self.distance(hole, next) {
                self.entries[hole] = self.entries[next];
                hole = next;
            }
            next = self.after(next);
        }
        self.entries[hole].place = FREE;
    }

    fn put(&mut self, entry: Entry) {
        let mut position = self.home(entry.tag);
        while self.entries[position].place != FREE {
            position = self.after(position);
        }
        self.entries[position] = entry;
    }

    fn grow(&mut self) {
        let length = (self.entries.len() * 2).max(SMALLEST);
        let free = Entry { tag: 0, place: FREE };
        let before = std::mem::replace(&mut self.entries, vec![free; length].into());
        for entry in before {
            if entry.place != FREE {
                self.put(entry);
            }
        }
    }

    fn home(&self, tag: u32) -> usize {
        tag as usize & (self.entries.len() - 1)
    }

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
        /// Few distinct tags make for many collisions, and wrap around the end.
        #[test]
        fn it_behaves_like_a_map(steps in prop::collection::vec((any::<bool>(), 0_u32..40), 0..300)) {
            let tag = |place: u32| place % 7 + 5;
            let mut index = Index::default();
            let mut model = BTreeMap::new();
            for (insert, place) in steps {
                if insert && !model.contains_key(&place) {
                    index.insert(tag(place), place);
                    model.insert(place, tag(place));
                } else if !insert {
                    index.remove(tag(place), place);
                    model.remove(&place);
                }
                for place in 0..40 {
                    let found = index.find(tag(place), |held| held == place);
                    prop_assert_eq!(found, model.contains_key(&place).then_some(place));
                }
            }
            prop_assert_eq!(index.used, model.len());
        }
    }
}
