//! Forgetting counters whose time has passed.

use super::{SLOTS_PER_LOCK, SlotId, Table};
use crate::time::Timestamp;

impl Table {
    /// How many stretches a sweep of the whole table takes, about.
    pub fn stretches(&self) -> usize {
        self.shards.len() + self.len() / SLOTS_PER_LOCK
    }

    /// Drops the counters of one stretch that expired longer than the grace ago; returns where the next stretch begins.
    pub fn sweep(&self, now: Timestamp, from: Option<SlotId>) -> Option<SlotId> {
        let from = from.unwrap_or(SlotId(0));
        let mut shard = self.lock(from.shard());
        let end = from.place().saturating_add(SLOTS_PER_LOCK as u32).min(shard.places());
        for place in from.place()..end {
            let slot = shard.slot(place);
            let over = slot.filter(|slot| slot.expires_at.plus(self.bounds.grace) <= now);
            if let Some(hash) = over.map(|slot| self.hash(&slot.key)) {
                shard.remove(hash, place);
                self.release_counter();
            }
        }
        if end < shard.places() {
            Some(SlotId::new(from.shard(), end))
        } else {
            (from.shard() + 1 < self.shards.len()).then(|| SlotId::new(from.shard() + 1, 0))
        }
    }
}
