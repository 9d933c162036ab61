//! The places of a shard, in chunks: growing copies nothing, so it holds no decision up and leaves no holes behind.

use super::shard::Slot;

/// Places numbered from 0. They are never given back, only emptied.
#[derive(Debug, Default)]
pub(super) struct Slots {
    chunks: Vec<Box<Chunk>>,
    length: u32,
}

type Chunk = [Option<Slot>; CHUNK_SLOTS];
/// 8 KiB of them.
const CHUNK_SLOTS: usize = 64;

impl Slots {
    /// How many places there are, used or not.
    pub fn len(&self) -> u32 {
        self.length
    }

    #[inline]
    pub fn get(&self, place: u32) -> Option<&Slot> {
        self.chunks.get(place as usize / CHUNK_SLOTS)?[place as usize % CHUNK_SLOTS].as_ref()
    }

    #[inline]
    pub fn get_mut(&mut self, place: u32) -> Option<&mut Slot> {
        self.place_mut(place)?.as_mut()
    }

    /// Empties a place.
    pub fn take(&mut self, place: u32) -> Option<Slot> {
        self.place_mut(place)?.take()
    }

    /// Fills a place that is there.
    pub fn put(&mut self, place: u32, slot: Slot) {
        if let Some(empty) = self.place_mut(place) {
            *empty = Some(slot);
        }
    }

    /// Fills a new place.
    pub fn push(&mut self, slot: Slot) -> u32 {
        let place = self.length;
        if place as usize == self.chunks.len() * CHUNK_SLOTS {
            self.chunks.push(Box::new([const { None }; CHUNK_SLOTS]));
        }
        self.length += 1;
        self.put(place, slot);
        place
    }

    #[inline]
    fn place_mut(&mut self, place: u32) -> Option<&mut Option<Slot>> {
        let chunk = self.chunks.get_mut(place as usize / CHUNK_SLOTS)?;
        Some(&mut chunk[place as usize % CHUNK_SLOTS])
    }
}
