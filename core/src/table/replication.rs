//! Versions, watermarks and deltas: how a table's changes reach its peers, and theirs reach it.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::heeding::Heeding;
use super::replicas::Replicas;
use super::shard::{Shard, trim};
use super::slot::Slot;
use super::{Bound, SLOTS_PER_LOCK, SlotId, Table, shard_of};
use crate::crdt::{
    COUNT_MAX, Marks, Merged, ReplicaIndex, UPDATE_BYTES_ESTIMATE, Update, VersionVector,
};
use crate::id::{NodeId, ReplicaId, Version};
use crate::key::{CounterKey, Ends, ends_of, is_of_limit};
use crate::limit::WINDOW_MAX;
use crate::link::LinkName;
use crate::mutant::mutant;
use crate::time::Timestamp;

/// Which list of dirty counters a harvest takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirtySet {
    /// Every counter whose own cell changed since the last harvest.
    All,
    /// Only counters past the urgent fraction of their limit.
    Urgent,
}

impl DirtySet {
    fn list(self, shard: &mut Shard) -> &mut Vec<u32> {
        match self {
            DirtySet::All => &mut shard.dirty,
            DirtySet::Urgent => &mut shard.urgent,
        }
    }
}

/// A part of a replica's updates, read in version order.
#[derive(Debug, PartialEq, Eq)]
pub struct Part {
    /// The updates, by ascending version.
    pub updates: Vec<Update>,
    /// Where the next part begins.
    pub to: Version,
    /// The watermark when this part was read: what is beyond may have holes.
    pub complete_to: Version,
    /// In the last part: the reader then has everything up to here.
    pub watermark: Option<Version>,
}

/// What came of a peer's updates.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The cells that changed here.
    pub new: Vec<SlotId>,
    /// Updates that cannot be true and were dropped.
    pub implausible: usize,
    /// The bounds over which updates were refused, each once: not all that was sent is held now.
    pub refused: Vec<Bound>,
}

/// What a merge of one update has led to.
struct Took {
    merged: Merged,
    slot: SlotId,
    ends: Timestamp,
    /// It began a newer generation of the counter here.
    begins: bool,
    /// The counter's value before and after.
    values: (u64, u64),
}

impl Table {
    /// The replica that this table writes as.
    pub fn own_replica(&self) -> ReplicaId {
        self.lock_replicas().id(ReplicaIndex::OWN).clone()
    }

    /// Gives every changed own cell of the set a version, which makes it fit to be sent and stored. Returns their slots; of
    /// the urgent set, also those of cells that got their version elsewhere meanwhile.
    pub fn harvest(&self, set: DirtySet) -> Vec<SlotId> {
        let mut harvested = Vec::new();
        for shard_index in 0..self.shards.len() {
            // Only what was listed at the start, or a busy thread could keep us here forever.
            let mut left = {
                let mut shard = self.lock(shard_index);
                trim(set.list(&mut shard));
                set.list(&mut shard).len()
            };
            while left > 0 {
                let mut replicas = self.lock_replicas();
                let mut shard = self.lock(shard_index);
                // Another thread may harvest too.
                left = left.min(set.list(&mut shard).len());
                for _ in 0..left.min(SLOTS_PER_LOCK) {
                    left -= 1;
                    let Some(slot_index) = set.list(&mut shard).pop() else { break };
                    let Some(slot) = shard.slot_mut(slot_index) else { continue };
                    if set == DirtySet::Urgent {
                        slot.urgent = false;
                    }
                    let id = SlotId::new(shard_index, slot_index);
                    let stamped = replicas.stamp(id, slot);
                    if stamped {
                        shard.mark_unpersisted(slot_index);
                    }
                    if stamped || set == DirtySet::Urgent {
                        harvested.push(id);
                    }
                }
            }
        }
        let own = ReplicaIndex::OWN;
        self.lock_replicas().compact(own, |version, slot| self.is_live(own, version, slot));
        harvested
    }

    /// Whether anything was ever heard of the replica.
    pub fn knows(&self, replica: &ReplicaId) -> bool {
        self.lock_replicas().index(replica).is_some()
    }

    /// The watermark of one replica; of the own one, the last version assigned.
    pub fn watermark(&self, replica: &ReplicaId) -> Version {
        let replicas = self.lock_replicas();
        replicas.index(replica).map_or(Version::ZERO, |index| replicas.watermark(index))
    }

    /// Whether anything of the replica is held that is as late as this version, or all up to it was.
    pub fn reaches(&self, replica: &ReplicaId, version: Version) -> bool {
        let replicas = self.lock_replicas();
        let latest = |index| replicas.watermark(index).max(replicas.latest_ahead(index));
        if replicas.heeding.has_forgotten(replica) {
            // Nothing more of it is waited for.
            return true;
        }
        replicas.index(replica).is_some_and(|index| latest(index) >= version)
    }

    /// The last version assigned to an own cell.
    pub fn own_watermark(&self) -> Version {
        self.lock_replicas().watermark(ReplicaIndex::OWN)
    }

    /// The watermarks of all replicas that still matter and have updates.
    pub fn version_vector(&self) -> VersionVector {
        let replicas = self.lock_replicas();
        let with_updates = replicas.iter().filter(|(_, replica)| replica.watermark > Version::ZERO);
        with_updates.map(|(_, replica)| (replica.id.clone(), replica.watermark)).collect()
    }

    /// The updates of a replica after `from`, as many as fit in about `bytes_max`, at least one. `None` when nothing is known
    /// of the replica, or nothing after `from`.
    pub fn updates_after(
        &self,
        replica: &ReplicaId,
        from: Version,
        bytes_max: usize,
    ) -> Option<Part> {
        let mut replicas = self.lock_replicas();
        let index = replicas.index(replica)?;
        let listed_max = bytes_max / UPDATE_BYTES_ESTIMATE + 1;
        let mut after = replicas.updates_after(index, from);
        let listed: Vec<(Version, SlotId)> = after.by_ref().take(listed_max).collect();
        let all_listed = after.next().is_none();
        drop(after);
        if listed.is_empty() && replicas.watermark(index) <= from {
            return None;
        }
        let last_before = replicas.last_version(index);
        let complete_to = Version::ZERO;
        let mut part = Part { updates: Vec::new(), to: from, complete_to, watermark: None };
        let mut bytes = 0;
        for (version, slot) in listed {
            if let Some(update) = self.update(&mut replicas, index, slot)
                && (update.version == version || update.version > last_before)
            {
                bytes += update.key.len() + UPDATE_BYTES_ESTIMATE;
                if bytes > bytes_max && !part.updates.is_empty() {
                    part.complete_to = replicas.watermark(index);
                    return Some(part);
                }
                part.updates.push(update);
            }
            part.to = version;
        }
        if all_listed {
            // Cells that got their version only now are in as well, so nothing held is left out.
            part.to = replicas.last_version(index);
            part.watermark = Some(replicas.watermark(index));
        }
        part.complete_to = replicas.watermark(index);
        part.updates.sort_by_key(|update| update.version);
        part.updates.dedup_by_key(|update| update.version);
        Some(part)
    }

    /// The cells of a replica in these slots, to be sent out of order.
    pub fn updates(&self, replica: &ReplicaId, slots: &[SlotId]) -> Vec<Update> {
        let mut replicas = self.lock_replicas();
        let Some(index) = replicas.index(replica) else { return Vec::new() };
        slots.iter().filter_map(|slot| self.update(&mut replicas, index, *slot)).collect()
    }

    /// A cell as it is sent. An own cell that changed since the last harvest gets its version now: under the old one it
    /// must not be seen with other values.
    fn update(&self, replicas: &mut Replicas, index: ReplicaIndex, id: SlotId) -> Option<Update> {
        let mut shard = self.lock(id.shard());
        let slot = shard.slot_mut(id.index())?;
        if mutant!(DirtyClearedAtSend) && index == ReplicaIndex::OWN {
            slot.dirty = false;
        }
        if index == ReplicaIndex::OWN && replicas.heeding.own_is_forgotten {
            return None;
        }
        let stamped = index == ReplicaIndex::OWN && replicas.stamp(id, slot);
        let cell = slot.counter.cell(index)?;
        let update = Update {
            key: slot.key.to_vec(),
            version: cell.version,
            generation: slot.counter.generation(),
            p: cell.p,
            n: cell.n,
            marks: slot.counter.marks(),
        };
        if stamped {
            shard.mark_unpersisted(id.index());
        }
        Some(update)
    }

    /// Merges cells that a peer sent, in any order; watermarks stay where they are.
    ///
    /// Cells of the own replica change nothing: no other node writes our cells.
    pub fn apply(&self, now: Timestamp, replica: &ReplicaId, updates: &[Update]) -> Applied {
        self.merge_all(now, None, replica, updates)
    }

    /// As [`apply`](Self::apply), and notes that this link brought them.
    pub fn apply_from(
        &self,
        now: Timestamp,
        link: &Arc<LinkName>,
        replica: &ReplicaId,
        updates: &[Update],
    ) -> Applied {
        self.merge_all(now, Some(link), replica, updates)
    }

    fn merge_all(
        &self,
        now: Timestamp,
        link: Option<&Arc<LinkName>>,
        replica: &ReplicaId,
        updates: &[Update],
    ) -> Applied {
        let mut applied = Applied::default();
        for some in updates.chunks(SLOTS_PER_LOCK) {
            let mut replicas = self.lock_replicas();
            if replicas.heeding.has_forgotten(replica) {
                self.rejected.cells_forgotten(updates.len());
                break;
            }
            let Some(index) = replicas.index_or_insert(replica, self.bounds.replicas_max) else {
                self.rejected.refused(Bound::Replicas, 1);
                applied.refused.push(Bound::Replicas);
                break;
            };
            if index == ReplicaIndex::OWN {
                let last_assigned = replicas.watermark(index);
                applied.implausible +=
                    some.iter().filter(|update| update.version > last_assigned).count();
                continue;
            }
            let (new_before, latest) = (applied.new.len(), self.version_max(now, replica));
            for update in some {
                let took = match update.version <= latest {
                    true => {
                        self.apply_update(now, (index, &replica.node, &replicas.heeding), update)
                    }
                    false => Err(Rejection::Implausible),
                };
                match took {
                    Ok(Took { merged: Merged::New, slot, ends, begins, values }) => {
                        replicas.hold(index, update.version, slot, ends);
                        if let Some(link) = link.filter(|_| replicas.crossings.may_be(values)) {
                            replicas.crossings.note(now, link, replica, update, values);
                        }
                        applied.new.push(slot);
                        if begins {
                            replicas.begun.note(index, update.version);
                        }
                    }
                    Ok(Took { merged: Merged::Known | Merged::Superseded, .. }) => {}
                    Err(Rejection::Late) => self.rejected.cell_late(),
                    Err(Rejection::Full(bound)) => {
                        self.rejected.refused(bound, 1);
                        if !applied.refused.contains(&bound) {
                            applied.refused.push(bound);
                        }
                    }
                    Err(Rejection::Implausible) => applied.implausible += 1,
                }
            }
            let new = applied.new.len() - new_before;
            if let Some(link) = link.filter(|_| new > 0) {
                replicas.replica_mut(index).bringers.note(now, link, new as u64);
            }
        }
        self.rejected.cells_implausible(applied.implausible);
        applied
    }

    /// Moves a replica's watermark, after all its updates from `from` to there were applied. `false` when `from` is past the
    /// present watermark, so that something in between is missing, or when there is no room to remember the replica.
    pub fn complete(&self, replica: &ReplicaId, from: Version, watermark: Version) -> bool {
        let mut replicas = self.lock_replicas();
        if replicas.heeding.has_forgotten(replica) {
            return true;
        }
        match replicas.index_or_insert(replica, self.bounds.replicas_max) {
            None => {
                self.rejected.refused(Bound::Replicas, 1);
                false
            }
            Some(ReplicaIndex::OWN) => true,
            Some(index) if from > replicas.watermark(index) => false,
            Some(index) => {
                let is_live = |version, slot| self.is_live(index, version, slot);
                replicas.complete(index, watermark, is_live);
                true
            }
        }
    }

    /// Notes that a replica's own link has brought all its updates from `from` on. If its watermark here is higher still, only
    /// the replica can tell whether it ever gave that out.
    pub fn confirm(&self, replica: &ReplicaId, from: Version) {
        let mut replicas = self.lock_replicas();
        let Some(index) = replicas.index(replica) else { return };
        let known = replicas.replica_mut(index);
        if from <= known.confirmed {
            known.confirmed = known.watermark;
        }
    }

    /// How much of a replica its own link has brought, or the disk, and no other.
    pub fn confirmed(&self, replica: &ReplicaId) -> Version {
        let replicas = self.lock_replicas();
        let confirmed = |index| replicas.replica(index).confirmed;
        replicas.index(replica).map_or(Version::ZERO, confirmed)
    }

    #[expect(clippy::expect_used, reason = "the slot was found or filled")]
    fn apply_update(
        &self,
        now: Timestamp,
        (replica, node, heeding): (ReplicaIndex, &NodeId, &Heeding),
        update: &Update,
    ) -> Result<Took, Rejection> {
        let ends = self.check(now, update)?;
        let key_hash = self.key_hash(&update.key);
        let mut shard = self.lock(shard_of(key_hash));
        let slot_index = match shard.find(key_hash, &update.key) {
            Some(slot_index) => slot_index,
            None => match self.take_room_for(node, &update.key) {
                Some(claim) => shard.insert(key_hash, &update.key, update.marks, claim),
                None => return Err(Rejection::Full(Bound::Counters)),
            },
        };
        // A node that swept a counter makes a new one with the same key only after the grace. Here the old one may not be
        // swept yet, and must not be merged with the new one; half the grace is left for clocks that differ.
        let is_long_expired = |slot: &Slot| slot.ends().plus(self.bounds.grace / 2) <= now;
        if ends > now && shard.slot(slot_index).is_some_and(is_long_expired) {
            shard.recycle(slot_index);
        }
        let slot = shard.slot_mut(slot_index).expect("the slot holds a counter");
        let is_crowded =
            |slot: &Slot| slot.counter.peers_held() >= self.bounds.replicas_per_counter_max;
        if slot.counter.cell(replica).is_none() && is_crowded(slot) {
            return Err(Rejection::Full(Bound::ReplicasPerCounter));
        }
        let (generation, before) = (slot.counter.generation(), slot.counter.value());
        self.note_if_cut(&mut shard, slot_index);
        let slot = shard.slot_mut(slot_index).expect("the slot holds a counter");
        let mut marks = update.marks;
        if mutant!(SessionCutAtMerge) {
            marks.at = marks.at.min(now.0);
        }
        let counts = |index| heeding.counts(index);
        let (merged, marks_grew) =
            slot.counter.merge_where(replica, update.generation, update.cell(), marks, counts);
        let begins = slot.counter.generation() != generation;
        if begins {
            // The newer generation removed the own cell: nothing is left that needs a version.
            slot.dirty = false;
            self.note_begun_if_cut(&mut shard, slot_index);
        }
        let slot = shard.slot(slot_index).expect("the slot holds a counter");
        let (ends, values) = (slot.ends(), (before, slot.counter.value()));
        if merged == Merged::New || marks_grew {
            shard.mark_unpersisted(slot_index);
        }
        let slot = SlotId::new(shard_of(key_hash), slot_index);
        Ok(Took { merged, slot, ends, begins, values })
    }

    /// Checks that an update can be true and is still wanted; returns when its counter ends.
    fn check(&self, now: Timestamp, update: &Update) -> Result<Timestamp, Rejection> {
        let plausible = update.p <= COUNT_MAX
            && update.n <= COUNT_MAX
            && update.version > Version::ZERO
            && update.marks.at <= Marks::AT_MAX
            && (update.generation <= self.generation_max(now) || mutant!(GenerationUnbounded))
            && update.key.len() <= self.bounds.key_bytes_max
            && CounterKey::check(&update.key).is_ok();
        // In a limit's counter no cell takes back more than it charged; a plain one may take what another added.
        let is_unbalanced = update.n > update.p && is_of_limit(&update.key);
        if is_unbalanced && !mutant!(CellBelowZeroMerged) {
            return Err(Rejection::Implausible);
        }
        if !plausible && !mutant!(ForgedCellMerged) {
            return Err(Rejection::Implausible);
        }
        let Marks { at, p0, .. } = update.marks;
        // What is no key has come here by a mutant only.
        let ends = ends_of(&update.key).unwrap_or(Ends::AfterUse);
        let ends_at = update.ends().unwrap_or(Timestamp(at));
        let latest_begin = now.plus(self.bounds.future_max);
        let begins = match ends {
            Ends::WithWindow(window) => window.start() <= latest_begin,
            Ends::AfterUse => {
                Timestamp(at) <= latest_begin && u128::from(p0) <= WINDOW_MAX.as_millis()
            }
            Ends::AtNanos | Ends::Earliest | Ends::After(_) => true,
        };
        let believable = begins && ends_at <= latest_begin.plus(WINDOW_MAX * 2);
        if !believable && !mutant!(ForgedCellMerged) {
            return Err(Rejection::Implausible);
        }
        if ends_at.plus(self.bounds.grace) <= now && !mutant!(ExpiredRecreated) {
            return Err(Rejection::Late);
        }
        Ok(ends_at)
    }

    pub(super) fn is_live(&self, index: ReplicaIndex, version: Version, slot: SlotId) -> bool {
        self.live_marks(index, version, slot).is_some()
    }

    /// The marks of the counter in a slot, if it holds the cell of this version.
    pub(super) fn live_marks(
        &self,
        index: ReplicaIndex,
        version: Version,
        slot: SlotId,
    ) -> Option<Marks> {
        self.if_live(index, version, slot, |slot| slot.counter.marks())
    }

    /// What is read `of` the counter in a slot, if it holds the cell of this version.
    pub(super) fn if_live<T>(
        &self,
        index: ReplicaIndex,
        version: Version,
        slot: SlotId,
        of: impl FnOnce(&Slot) -> T,
    ) -> Option<T> {
        let shard = self.lock(slot.shard());
        let slot = shard.slot(slot.index())?;
        let cell = slot.counter.cell(index)?;
        (cell.version == version).then(|| of(slot))
    }
}

/// Why an update was not merged.
enum Rejection {
    /// Its counter expired longer than the grace ago.
    Late,
    /// There is no room for it, by this bound.
    Full(Bound),
    /// It cannot be true.
    Implausible,
}
