//! Slots by version, eight bytes each: what the logs of updates are made of.
//!
//! Versions mostly come in order, so the entries stand in chunks that are filled from the front, and each notes its version
//! as an offset from its chunk's first. Nothing is ever copied into room of twice its size, and chunks that are drained are
//! free for those that fill. Whatever order a peer sends them in, an insertion moves no more than one chunk's entries.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::SlotId;
use crate::id::Version;

/// A map from versions to slots, ascending by version.
#[derive(Debug, Default)]
pub(super) struct VersionMap {
    /// By their first versions; none is empty.
    chunks: BTreeMap<Version, Chunk>,
    length: usize,
}

/// Ascending by offset, which is 0 in the first entry.
type Chunk = Vec<Entry>;

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// From the chunk's first version.
    offset: u32,
    slot: SlotId,
}

/// The most entries in a chunk: 4 KiB of them.
const CHUNK_ENTRIES: usize = 512;

impl VersionMap {
    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The highest version.
    pub(super) fn last(&self) -> Option<Version> {
        let (first, chunk) = self.chunks.last_key_value()?;
        chunk.last().map(|entry| entry.version(*first))
    }

    /// Sets the slot of a version.
    pub(super) fn insert(&mut self, version: Version, slot: SlotId) {
        let before = self.chunks.range_mut(..=version).next_back();
        let Some((first, chunk)) = before else { return self.insert_first(version, slot) };
        // What is too far off for an offset is past every entry of the chunk.
        let Ok(offset) = u32::try_from(version.0 - first.0) else {
            return self.insert_chunk(version, slot, 1);
        };
        let goes_last = chunk.last().is_none_or(|last| last.offset < offset);
        let found = if goes_last {
            Err(chunk.len())
        } else {
            chunk.binary_search_by_key(&offset, |entry| entry.offset)
        };
        match found {
            Ok(held) => {
                if let Some(entry) = chunk.get_mut(held) {
                    entry.slot = slot;
                }
            }
            Err(at) if chunk.len() < CHUNK_ENTRIES => {
                chunk.insert(at, Entry { offset, slot });
                self.length += 1;
            }
            // Another one is likely to fill; a small map, or one with gaps, should not take that much room.
            Err(CHUNK_ENTRIES) => self.insert_chunk(version, slot, CHUNK_ENTRIES),
            Err(_) => {
                let (first, half) = split_off(*first, chunk, CHUNK_ENTRIES / 2);
                self.chunks.insert(first, half);
                self.insert(version, slot);
            }
        }
    }

    /// The entries after `from`.
    pub(super) fn after(&self, from: Version) -> impl Iterator<Item = (Version, SlotId)> {
        let holds_it = self.chunks.range(..=from).next_back();
        let begin = holds_it.map_or(from, |(first, _)| *first);
        self.chunks.range(begin..).flat_map(move |(first, chunk)| {
            let at = index_after(*first, chunk, from);
            chunk.iter().skip(at).map(|entry| (entry.version(*first), entry.slot))
        })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Version, SlotId)> {
        self.chunks.iter().flat_map(|(first, chunk)| {
            chunk.iter().map(|entry| (entry.version(*first), entry.slot))
        })
    }

    /// Takes out the entries up to `version`.
    pub(super) fn take_up_to(&mut self, version: Version) -> VersionMap {
        let Some(after) = version.0.checked_add(1) else { return core::mem::take(self) };
        let mut beyond = self.chunks.split_off(&Version(after));
        if let Some((first, chunk)) = self.chunks.iter_mut().next_back() {
            let at = index_after(*first, chunk, version);
            if at < chunk.len() {
                beyond.extend([split_off(*first, chunk, at)]);
            }
        }
        let length = beyond.values().map(Vec::len).sum();
        let mut taken = core::mem::replace(self, VersionMap { chunks: beyond, length });
        taken.length -= length;
        taken
    }

    /// Drops the entries that are not to be kept.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(Version, SlotId) -> bool) {
        for (version, slot) in core::mem::take(self).into_entries() {
            if keep(version, slot) {
                self.insert(version, slot);
            }
        }
    }

    /// All entries; each chunk is freed once the next is begun.
    pub(super) fn into_entries(self) -> impl Iterator<Item = (Version, SlotId)> {
        self.chunks.into_iter().flat_map(|(first, chunk)| {
            chunk.into_iter().map(move |entry| (entry.version(first), entry.slot))
        })
    }

    /// Inserts a version before all others: into the first chunk, if its last offset allows that.
    fn insert_first(&mut self, version: Version, slot: SlotId) {
        let fits = self.chunks.first_entry().filter(|chunk| {
            let earlier = chunk.key().0 - version.0;
            let last = chunk.get().last().map_or(0, |entry| u64::from(entry.offset));
            chunk.get().len() < CHUNK_ENTRIES && u32::try_from(earlier + last).is_ok()
        });
        let Some(chunk) = fits else { return self.insert_chunk(version, slot, 1) };
        let (first, mut chunk) = chunk.remove_entry();
        let earlier = (first.0 - version.0) as u32;
        chunk.iter_mut().for_each(|entry| entry.offset += earlier);
        chunk.insert(0, Entry { offset: 0, slot });
        self.chunks.insert(version, chunk);
        self.length += 1;
    }

    fn insert_chunk(&mut self, version: Version, slot: SlotId, room: usize) {
        let mut chunk = Vec::with_capacity(room);
        chunk.push(Entry { offset: 0, slot });
        self.chunks.insert(version, chunk);
        self.length += 1;
    }
}

/// The index of the first entry after a version.
fn index_after(first: Version, chunk: &Chunk, version: Version) -> usize {
    chunk.partition_point(|entry| entry.version(first) <= version)
}

/// Takes out the entries from an index on, of which there is at least one.
fn split_off(first: Version, chunk: &mut Chunk, at: usize) -> (Version, Chunk) {
    let mut entries = chunk.split_off(at);
    let offset = entries.first().map_or(0, |entry| entry.offset);
    entries.iter_mut().for_each(|entry| entry.offset -= offset);
    (Version(first.0 + u64::from(offset)), entries)
}

impl Entry {
    fn version(self, first: Version) -> Version {
        Version(first.0 + u64::from(self.offset))
    }
}

#[cfg(test)]
mod tests {
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
            prop_assert!(map.chunks.values().all(|chunk| !chunk.is_empty()));
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
