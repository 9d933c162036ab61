//! Dropping counters that expired longer than the grace ago.

use super::read::{next_page, page_end};
use super::{SLOTS_PER_LOCK, SlotId, Table};
use crate::time::Timestamp;

impl Table {
    /// How many pages a sweep of the whole table takes, about.
    pub fn pages(&self) -> usize {
        self.shards.len() + self.len() / SLOTS_PER_LOCK
    }

    /// Drops the counters of one page that expired longer than the grace ago. Returns where the next page begins; `None`
    /// after the last.
    pub fn sweep(&self, now: Timestamp, from: Option<SlotId>) -> Option<SlotId> {
        let from = from.unwrap_or(SlotId::FIRST);
        let mut shard = self.lock(from.shard());
        let end = page_end(from, shard.slots());
        for slot_index in from.index()..end {
            let slot = shard.slot(slot_index);
            let expired = slot.filter(|slot| slot.ends().plus(self.bounds.grace) <= now);
            if let Some(key_hash) = expired.map(|slot| self.key_hash(&slot.key))
                && let Some(claim) = shard.remove(key_hash, slot_index)
            {
                self.give_room_back(claim);
            }
        }
        next_page(from, end, shard.slots())
    }
}
