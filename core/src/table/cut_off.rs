//! What a decision may admit while members are silent: the limit, or this side's cap.
//!
//! Of each counter, its value before its first change after a cut is noted in its shard; what other sides admit from then on is
//! not heard, so what this side may admit follows from that value: see `division`.

use crate::sync::{MutexGuard, PoisonError};
use core::sync::atomic::Ordering;

use super::admission::{Found, Target};
use super::division::{Division, Names, Sides};
use super::shard::Shard;
use super::slot::Slot;
use super::{Table, shard_of};
use crate::limit::{Demand, Demands, WhenCutOff};
use crate::time::Timestamp;

impl Table {
    /// Notes which members of the cluster are heard, this node included, and which are silent. Returns whether that changed
    /// anything.
    pub fn set_sides(&self, heard: &Names, silent: &Names) -> bool {
        let sides = {
            let mut division = self.lock_division();
            let Some(sides) = division.set(heard, silent) else { return false };
            self.sides.store(sides.word(), Ordering::Release);
            sides
        };
        if !sides.is_cut() {
            (0..self.shards.len()).for_each(|number| self.lock(number).notes.clear());
        }
        true
    }

    /// How many members there are at the first of the cuts, and how many are on this side; equal when no member is silent.
    #[inline(always)]
    pub fn sides(&self) -> Sides {
        Sides::of_word(self.sides.load(Ordering::Acquire))
    }

    /// Whether a limit that heeds cuts was asked since the last call of this.
    pub fn take_heeded(&self) -> bool {
        self.heeded.swap(false, Ordering::Relaxed)
    }

    /// What this side may admit in all under the limits of a request, of the one with the least: `None` when no member is silent, or
    /// none of the limits divides what it allows.
    pub fn cap(&self, now: Timestamp, demands: &Demands) -> Option<u64> {
        let sides = self.sides();
        let mut caps = demands.list.iter().filter(|_| sides.is_cut()).filter_map(|demand| {
            let (key, key_hash) = (demands.key(demand), self.key_hash(demands.key(demand)));
            let mut shard = self.lock(shard_of(key_hash));
            let target = Target::Key { key, hash: key_hash };
            let found = super::admission::find(now, demand, target, 0, &shard)?;
            self.cap_of(now, sides, demand, target, &found, &mut shard)
        });
        let first = caps.next()?;
        Some(caps.fold(first, u64::min))
    }

    /// Lowers what was found to be allowed to this side's cap.
    #[inline(always)]
    pub(super) fn heed_cut(
        &self,
        now: Timestamp,
        demand: &Demand,
        target: Target<'_>,
        found: &mut Found,
        shard: &mut Shard,
    ) {
        if demand.is_never_cut_off() {
            return;
        }
        if !self.heeded.load(Ordering::Relaxed) {
            self.heeded.store(true, Ordering::Relaxed);
        }
        let sides = self.sides();
        if sides.is_cut()
            && let Some(cap) = self.cap_of(now, sides, demand, target, found, shard)
        {
            found.allowed = found.allowed.min(cap);
        }
    }

    #[cold]
    fn cap_of(
        &self,
        now: Timestamp,
        sides: Sides,
        demand: &Demand,
        target: Target<'_>,
        found: &Found,
        shard: &mut Shard,
    ) -> Option<u64> {
        match demand.when_cut_off {
            WhenCutOff::Share => {}
            // What is used stays so.
            WhenCutOff::Deny => return sides.is_minor().then_some(found.used),
            WhenCutOff::Allow => return None,
        }
        let slot = found.slot_index.filter(|_| found.ends_at > now);
        let Some((slot_index, slot)) =
            slot.and_then(|slot_index| Some((slot_index, shard.slot(slot_index)?)))
        else {
            // It is new, or begins again with this request.
            let key = match (target, found.slot_index.and_then(|index| shard.slot(index))) {
                (Target::Key { key, .. }, _) => key,
                (Target::Slot(_), slot) => slot.map_or(&[][..], |slot| &slot.key),
            };
            return Some(self.lock_division().cap_of_unused(key, demand.max));
        };
        let counter = (slot.tag, slot.counter.generation());
        let noted = shard.notes.get(&slot_index);
        if let Some(cap) = noted.and_then(|note| note.cap_found(counter, sides.number, demand.max))
        {
            return Some(cap);
        }
        let division = self.lock_division();
        let (value, key) = (slot.counter.value(), slot.key.clone());
        division.note(&mut shard.notes, slot_index, counter, value);
        let note = shard.notes.get_mut(&slot_index)?;
        Some(division.cap(note, &key, demand.max))
    }

    /// Notes the value of a counter, before its first change after a cut.
    #[inline]
    pub(super) fn note_if_cut(&self, shard: &mut Shard, slot_index: u32) {
        if self.sides().is_cut() {
            self.note(shard, slot_index, |slot| slot.counter.value());
        }
    }

    /// The same of a counter that has just begun a generation by a merge: before it, there was nothing.
    pub(super) fn note_begun_if_cut(&self, shard: &mut Shard, slot_index: u32) {
        if self.sides().is_cut() {
            self.note(shard, slot_index, |_| 0);
        }
    }

    #[cold]
    fn note(&self, shard: &mut Shard, slot_index: u32, value: impl FnOnce(&Slot) -> u64) {
        let Some(slot) = shard.slot(slot_index) else { return };
        let (counter, value) = ((slot.tag, slot.counter.generation()), value(slot));
        self.lock_division().note(&mut shard.notes, slot_index, counter, value);
    }

    fn lock_division(&self) -> MutexGuard<'_, Division> {
        self.division.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
