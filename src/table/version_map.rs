//! Slots by version, eight bytes each: what the logs of updates are made of.
//!
//! Versions mostly come in order, so the entries stand in chunks that are filled from the front, and each notes its version
//! as an offset from its chunk's first. Nothing is ever copied into room of twice its size, and chunks that are drained are
//! free for those that fill. What comes out of order moves no more than one chunk's entries.

use std::collections::VecDeque;

use super::SlotId;
use crate::id::Version;

/// A map from versions to slots, ascending by version.
#[derive(Debug, Default)]
pub(super) struct VersionMap {
    /// In order; none is empty.
    chunks: VecDeque<Chunk>,
    length: usize,
}

#[derive(Debug)]
struct Chunk {
    first: Version,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// From the chunk's first version.
    offset: u32,
    slot: SlotId,
}

/// The most entries in a chunk: 4 KiB of them.
const CHUNK_ENTRIES: usize = 512;

impl VersionMap {
    pub fn len(&self) -> usize {
        self.length
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The highest version.
    pub fn last(&self) -> Option<Version> {
        self.chunks.back().map(Chunk::last)
    }

    /// Sets the slot of a version.
    pub fn insert(&mut self, version: Version, slot: SlotId) {
        let goes_last = self.last().is_none_or(|last| last < version);
        let number = if goes_last { self.chunks.len() } else { self.chunks_from(version) };
        let number = match number.checked_sub(1) {
            Some(number) => number,
            None if self.chunks.front_mut().is_some_and(|chunk| chunk.begin_at(version)) => 0,
            None => return self.insert_chunk(0, version, slot),
        };
        let chunk = &mut self.chunks[number];
        // What is too far off for an offset is past every entry of the chunk.
        let Some(offset) = chunk.offset(version) else {
            return self.insert_chunk(number + 1, version, slot);
        };
        let found = if goes_last {
            Err(chunk.entries.len())
        } else {
            chunk.entries.binary_search_by_key(&offset, |entry| entry.offset)
        };
        let place = match found {
            Ok(held) => return chunk.entries[held].slot = slot,
            Err(place) => place,
        };
        if chunk.entries.len() < CHUNK_ENTRIES {
            chunk.entries.insert(place, Entry { offset, slot });
            self.length += 1;
        } else if place == CHUNK_ENTRIES {
            self.insert_chunk(number + 1, version, slot);
        } else {
            let half = chunk.split_off(CHUNK_ENTRIES / 2);
            self.chunks.insert(number + 1, half);
            self.insert(version, slot);
        }
    }

    /// The entries after `from`.
    pub fn after(&self, from: Version) -> impl Iterator<Item = (Version, SlotId)> {
        let number = self.chunks_from(from).saturating_sub(1);
        self.chunks.range(number..).flat_map(move |chunk| chunk.iter_from(chunk.place_after(from)))
    }

    pub fn iter(&self) -> impl Iterator<Item = (Version, SlotId)> {
        self.chunks.iter().flat_map(|chunk| chunk.iter_from(0))
    }

    /// Takes out the entries up to `version`.
    pub fn take_up_to(&mut self, version: Version) -> VersionMap {
        let mut beyond = self.chunks.split_off(self.chunks_from(version));
        if let Some(chunk) = self.chunks.back_mut() {
            let place = chunk.place_after(version);
            if place < chunk.entries.len() {
                beyond.push_front(chunk.split_off(place));
            }
        }
        let length = beyond.iter().map(|chunk| chunk.entries.len()).sum();
        let mut taken = std::mem::replace(self, VersionMap { chunks: beyond, length });
        taken.length -= length;
        taken
    }

    /// Drops the entries that are not to be kept.
    pub fn retain(&mut self, mut keep: impl FnMut(Version, SlotId) -> bool) {
        for (version, slot) in std::mem::take(self).into_entries() {
            if keep(version, slot) {
                self.insert(version, slot);
            }
        }
    }

    /// Each chunk is given back once the next is begun.
    pub fn into_entries(self) -> impl Iterator<Item = (Version, SlotId)> {
        self.chunks.into_iter().flat_map(|chunk| {
            let first = chunk.first;
            chunk.entries.into_iter().map(move |entry| entry.after(first))
        })
    }

    /// How many chunks begin at `version` or before.
    fn chunks_from(&self, version: Version) -> usize {
        self.chunks.partition_point(|chunk| chunk.first <= version)
    }

    fn insert_chunk(&mut self, number: usize, version: Version, slot: SlotId) {
        // After a full chunk, another one is likely to fill; a small map, or one with gaps, should not take that much room.
        let before = number.checked_sub(1).and_then(|before| self.chunks.get(before));
        let fills = before.is_some_and(|before| before.entries.len() == CHUNK_ENTRIES);
        let mut entries = Vec::with_capacity(if fills { CHUNK_ENTRIES } else { 1 });
        entries.push(Entry { offset: 0, slot });
        self.chunks.insert(number, Chunk { first: version, entries });
        self.length += 1;
    }
}

impl Chunk {
    fn last(&self) -> Version {
        let offset = self.entries.last().map_or(0, |entry| entry.offset);
        Version(self.first.0 + u64::from(offset))
    }

    fn offset(&self, version: Version) -> Option<u32> {
        u32::try_from(version.0.checked_sub(self.first.0)?).ok()
    }

    /// The place of the first entry after a version.
    fn place_after(&self, version: Version) -> usize {
        let offset = |entry: &Entry| self.first.0 + u64::from(entry.offset);
        self.entries.partition_point(|entry| offset(entry) <= version.0)
    }

    fn iter_from(&self, place: usize) -> impl Iterator<Item = (Version, SlotId)> {
        self.entries[place..].iter().map(|entry| entry.after(self.first))
    }

    /// Makes room for entries from an earlier version on, if the last offset allows it.
    fn begin_at(&mut self, version: Version) -> bool {
        if u32::try_from(self.last().0 - version.0).is_err() {
            return false;
        }
        let earlier = (self.first.0 - version.0) as u32;
        self.entries.iter_mut().for_each(|entry| entry.offset += earlier);
        self.first = version;
        true
    }

    /// Takes out the entries from a place on, of which there is one at least.
    fn split_off(&mut self, place: usize) -> Chunk {
        let mut entries = self.entries.split_off(place);
        let offset = entries[0].offset;
        entries.iter_mut().for_each(|entry| entry.offset -= offset);
        Chunk { first: Version(self.first.0 + u64::from(offset)), entries }
    }
}

impl Entry {
    fn after(self, first: Version) -> (Version, SlotId) {
        (Version(first.0 + u64::from(self.offset)), self.slot)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u64),
        /// So many one after another, from here.
        Run(u64, u64),
        TakeUpTo(u64),
        Retain(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        // Near ones, which meet, and some that are too far apart for an offset.
        let version = || prop_oneof![1_u64..3_000, (1_u64..9).prop_map(|far| far << 31)];
        prop_oneof![
            4 => version().prop_map(Step::Insert),
            2 => (version(), 1_u64..1_500).prop_map(|(from, length)| Step::Run(from, length)),
            1 => version().prop_map(Step::TakeUpTo),
            1 => (2_u64..5).prop_map(Step::Retain),
        ]
    }

    fn entries(map: &VersionMap) -> Vec<(Version, SlotId)> {
        map.iter().collect()
    }

    fn entries_of(model: &BTreeMap<Version, SlotId>) -> Vec<(Version, SlotId)> {
        model.iter().map(|(version, slot)| (*version, *slot)).collect()
    }

    proptest! {
        #[test]
        fn it_behaves_like_a_map(steps in prop::collection::vec(step(), 0..40), from in 0_u64..4_000) {
            let mut map = VersionMap::default();
            let mut model = BTreeMap::new();
            for (number, step) in steps.into_iter().enumerate() {
                let slot = SlotId(number as u32);
                match step {
                    Step::Insert(version) => {
                        map.insert(Version(version), slot);
                        model.insert(Version(version), slot);
                    }
                    Step::Run(from, length) => for version in (from..from + length).map(Version) {
                        map.insert(version, slot);
                        model.insert(version, slot);
                    },
                    Step::TakeUpTo(version) => {
                        let taken = map.take_up_to(Version(version));
                        let beyond = model.split_off(&Version(version + 1));
                        let expected = std::mem::replace(&mut model, beyond);
                        prop_assert_eq!(taken.len(), expected.len());
                        prop_assert_eq!(entries(&taken), entries_of(&expected));
                        prop_assert_eq!(taken.into_entries().count(), expected.len());
                    }
                    Step::Retain(divisor) => {
                        map.retain(|version, _| version.0 % divisor == 0);
                        model.retain(|version, _| version.0 % divisor == 0);
                    }
                }
                prop_assert_eq!(map.len(), model.len());
                prop_assert_eq!(map.is_empty(), model.is_empty());
                prop_assert_eq!(map.last(), model.last_key_value().map(|(version, _)| *version));
            }
            prop_assert_eq!(entries(&map), entries_of(&model));
            let after: Vec<_> = map.after(Version(from)).collect();
            let expected: Vec<_> =
                model.range(Version(from + 1)..).map(|(version, slot)| (*version, *slot)).collect();
            prop_assert_eq!(after, expected);
            prop_assert!(map.chunks.iter().all(|chunk| !chunk.entries.is_empty()));
        }
    }

    #[test]
    fn whatever_the_order_chunks_are_half_full_at_least() {
        const COUNT: u64 = 100_000;
        let orders: [fn(u64) -> u64; 3] =
            [|n| n, |n| COUNT - n, |n| n.wrapping_mul(48_271) % COUNT];
        for order in orders {
            let mut map = VersionMap::default();
            (0..COUNT).for_each(|n| map.insert(Version(order(n) + 1), SlotId(n as u32)));
            assert_eq!(map.len() as u64, COUNT);
            assert!(map.chunks.len() <= 2 * COUNT as usize / CHUNK_ENTRIES + 1);
        }
    }
}
