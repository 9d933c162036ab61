//! What is known of each replica: its watermark, where its updates are, and when the last of its counters ends.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use super::SlotId;
use super::attribution::{Bringers, Crossings};
use super::begun::Beginners;
use super::digest::bucket_of;
use super::heeding::Heeding;
use super::slot::Slot;
use super::update_log::UpdateLog;
use super::version_map::VersionMap;
use crate::crdt::ReplicaIndex;
use crate::id::{ReplicaId, Version};
use crate::time::Timestamp;

/// What is kept of a replica beside its cells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaMark {
    /// The replica.
    pub replica: ReplicaId,
    /// Everything up to here is held, superseded or expired.
    pub watermark: Version,
    /// When the last counter ends that holds, or held, a cell of it; rounded up, so that it rarely changes.
    pub end: Timestamp,
}

#[derive(Debug)]
pub(super) struct Replica {
    pub id: ReplicaId,
    /// Everything up to here is held, superseded or expired. Of the own replica: the last version assigned.
    pub watermark: Version,
    /// How much of that its own link has brought, or the disk: the rest is others' word.
    pub confirmed: Version,
    /// When the last counter ends that holds, or held, a cell of it, as far as was seen so far; rounded up.
    pub end: Timestamp,
    /// When it is looked at next: see `forgetting`.
    look_at: Timestamp,
    /// Every live cell up to the watermark has its entry here ...
    log: UpdateLog,
    /// ... and every live cell past it, here: the dots beyond the version vector.
    ahead: VersionMap,
    /// The bucket that it is in, and its part in the checksum of that: see `digest`.
    pub bucket: usize,
    pub sum: u64,
    /// By which links its updates came.
    pub bringers: Bringers,
    /// Listed for the next checkpoint.
    is_changed: bool,
}

impl Replica {
    /// A replica of which nothing is known yet.
    fn new(id: ReplicaId, bucket: usize) -> Replica {
        Replica {
            id,
            watermark: Version::ZERO,
            confirmed: Version::ZERO,
            end: Timestamp(0),
            look_at: Timestamp(0),
            log: UpdateLog::default(),
            ahead: VersionMap::default(),
            bucket,
            sum: 0,
            bringers: Bringers::default(),
            is_changed: false,
        }
    }
}

/// All replicas that matter still; the own one is the first.
#[derive(Debug)]
pub(super) struct Replicas {
    /// By their indexes. None is given twice, so that what is left of a forgotten one is its empty place.
    known: Vec<Option<Box<Replica>>>,
    by_id: BTreeMap<ReplicaId, ReplicaIndex>,
    /// When each is looked at next, but for the own one.
    looks: BTreeSet<(Timestamp, ReplicaIndex)>,
    /// Those whose part in a checksum may have changed.
    pub unsummed: BTreeSet<ReplicaIndex>,
    /// The checksums of all buckets, as of the last look at what is unsummed, and which replicas are in them.
    pub buckets: Box<[u64; BUCKETS]>,
    in_bucket: Vec<BTreeSet<ReplicaIndex>>,
    /// What the next checkpoint takes, if there is a storage.
    changed: Vec<ReplicaIndex>,
    forgotten: Vec<ReplicaId>,
    pub has_storage: bool,
    /// The cells that took a counter over its limit.
    pub crossings: Crossings,
    /// What the operator has said of replicas.
    pub heeding: Heeding,
    /// Whose cells began newer generations here.
    pub begun: Beginners,
    /// The longest grace that any node of the cluster has, as far as is known.
    pub grace: Duration,
}

/// Replicas are compared in so many groups.
pub const BUCKETS: usize = 256;

impl Replicas {
    pub(super) fn new(own: ReplicaId, grace: Duration) -> Replicas {
        let mut replicas = Replicas {
            known: Vec::new(),
            by_id: BTreeMap::new(),
            looks: BTreeSet::new(),
            unsummed: BTreeSet::new(),
            buckets: Box::new([0; BUCKETS]),
            in_bucket: alloc::vec![BTreeSet::new(); BUCKETS],
            changed: Vec::new(),
            forgotten: Vec::new(),
            has_storage: true,
            crossings: Crossings::default(),
            heeding: Heeding::default(),
            begun: Beginners::default(),
            grace,
        };
        replicas.index_or_insert(&own, usize::MAX);
        replicas
    }

    pub(super) fn id(&self, index: ReplicaIndex) -> &ReplicaId {
        &self.replica(index).id
    }

    pub(super) fn index(&self, id: &ReplicaId) -> Option<ReplicaIndex> {
        self.by_id.get(id).copied()
    }

    /// The replica's index; `None` when it is not known and `replicas_max` are.
    pub(super) fn index_or_insert(
        &mut self,
        id: &ReplicaId,
        replicas_max: usize,
    ) -> Option<ReplicaIndex> {
        if let Some(index) = self.index(id) {
            return Some(index);
        }
        if self.len() >= replicas_max {
            return None;
        }
        let index = ReplicaIndex(u32::try_from(self.known.len()).ok()?);
        let bucket = bucket_of(id);
        self.in_bucket.get_mut(bucket)?.insert(index);
        self.known.push(Some(Box::new(Replica::new(id.clone(), bucket))));
        self.by_id.insert(id.clone(), index);
        if index == ReplicaIndex::OWN {
            self.heeding.own = Some(id.node.clone());
        } else {
            self.heeding.known(index, id);
        }
        if index != ReplicaIndex::OWN {
            self.looks.insert((Timestamp(0), index));
        }
        Some(index)
    }

    /// How many are known.
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// All that are known, in the order of their ids.
    pub(super) fn iter(&self) -> impl Iterator<Item = (ReplicaIndex, &Replica)> {
        self.by_id.values().map(|index| (*index, self.replica(*index)))
    }

    /// The replicas in a bucket.
    pub(super) fn in_bucket(&self, bucket: usize) -> impl Iterator<Item = ReplicaIndex> {
        self.in_bucket.get(bucket).into_iter().flatten().copied()
    }

    pub(super) fn watermark(&self, index: ReplicaIndex) -> Version {
        self.replica(index).watermark
    }

    /// The highest version of which anything is held.
    pub(super) fn last_version(&self, index: ReplicaIndex) -> Version {
        let replica = self.replica(index);
        replica.ahead.last().unwrap_or_default().max(replica.watermark)
    }

    /// Where the updates after `from` are, in version order; some of them changed again since.
    pub(super) fn updates_after(
        &self,
        index: ReplicaIndex,
        from: Version,
    ) -> impl Iterator<Item = (Version, SlotId)> {
        let replica = self.replica(index);
        replica.log.after(from).chain(replica.ahead.after(from))
    }

    /// The updates held past the watermark: the dots beyond the version vector.
    pub(super) fn ahead(&self, index: ReplicaIndex) -> impl Iterator<Item = (Version, SlotId)> {
        self.replica(index).ahead.iter()
    }

    /// The latest version of a cell past the watermark; 0 if there is none.
    pub(super) fn latest_ahead(&self, index: ReplicaIndex) -> Version {
        self.replica(index).ahead.last().unwrap_or_default()
    }

    /// Notes a cell that was merged, in a counter that ends then.
    pub(super) fn hold(
        &mut self,
        index: ReplicaIndex,
        version: Version,
        slot: SlotId,
        ends: Timestamp,
    ) {
        let replica = self.replica_mut(index);
        if version > replica.watermark {
            replica.ahead.insert(version, slot);
            self.unsummed.insert(index);
        } else {
            // It had ended here, and lives on elsewhere.
            replica.log.insert(version, slot);
        }
        self.raise_end(index, ends);
    }

    /// A counter that ends then holds, or held, a cell of this replica.
    pub(super) fn raise_end(&mut self, index: ReplicaIndex, end: Timestamp) {
        if end <= self.replica(index).end {
            return;
        }
        let step = self.grace;
        let replica = self.replica_mut(index);
        replica.end = end.rounded_up(step);
        let at = replica.end;
        self.changed(index);
        self.look_at(index, at);
    }

    /// Has a replica looked at next at this time.
    pub(super) fn look_at(&mut self, index: ReplicaIndex, at: Timestamp) {
        if index == ReplicaIndex::OWN {
            return;
        }
        let replica = self.replica_mut(index);
        let before = core::mem::replace(&mut replica.look_at, at);
        self.looks.remove(&(before, index));
        self.looks.insert((at, index));
    }

    /// Takes the next replica that is to be looked at by now.
    pub(super) fn take_look(&mut self, now: Timestamp) -> Option<ReplicaIndex> {
        let (at, index) = *self.looks.first()?;
        (at <= now).then(|| {
            self.looks.pop_first();
            index
        })
    }

    /// Moves the watermark, and the entries that it passes into the log.
    pub(super) fn complete(
        &mut self,
        index: ReplicaIndex,
        watermark: Version,
        mut is_live: impl FnMut(Version, SlotId) -> bool,
    ) {
        let replica = self.replica_mut(index);
        if watermark <= replica.watermark {
            return;
        }
        replica.watermark = watermark;
        for (version, slot) in replica.ahead.take_up_to(watermark).into_entries() {
            if is_live(version, slot) {
                replica.log.push(version, slot);
            }
        }
        self.changed(index);
        self.compact(index, is_live);
    }

    /// Drops stale log entries, if there are many.
    pub(super) fn compact(
        &mut self,
        index: ReplicaIndex,
        is_live: impl FnMut(Version, SlotId) -> bool,
    ) {
        let log = &mut self.replica_mut(index).log;
        if log.wants_compaction() {
            log.compact(is_live);
        }
    }

    /// Gives the own cell in a slot its next version, if it changed since it last got one.
    pub(super) fn stamp(&mut self, id: SlotId, slot: &mut Slot) -> bool {
        if self.heeding.own_is_forgotten {
            return false;
        }
        if !core::mem::take(&mut slot.dirty) {
            return false;
        }
        let own = self.replica_mut(ReplicaIndex::OWN);
        let version = own.watermark.next();
        own.watermark = version;
        own.log.push(version, id);
        let is_first = slot.counter.stamp_own(version) == Version::ZERO;
        if is_first && slot.counter.generation() > 0 {
            self.begun.note(ReplicaIndex::OWN, version);
        }
        let end = slot.ends();
        self.changed(ReplicaIndex::OWN);
        self.raise_end(ReplicaIndex::OWN, end);
        true
    }

    /// Starts a replica from what was stored: entries ascend by version.
    pub(super) fn restore(
        &mut self,
        index: ReplicaIndex,
        (watermark, end): (Version, Timestamp),
        entries: impl IntoIterator<Item = (Version, SlotId)>,
    ) {
        let replica = self.replica_mut(index);
        (replica.watermark, replica.confirmed, replica.end) = (watermark, watermark, end);
        for (version, slot) in entries {
            if version <= watermark {
                replica.log.push(version, slot);
            } else {
                replica.ahead.insert(version, slot);
            }
        }
        self.unsummed.insert(index);
        self.look_at(index, end);
    }

    /// Whether entries of cells are left, stale ones included.
    pub(super) fn has_entries(&self, index: ReplicaIndex) -> bool {
        let replica = self.replica(index);
        !replica.log.is_empty() || !replica.ahead.is_empty()
    }

    /// Drops every entry of cells that have changed or gone.
    pub(super) fn prune(
        &mut self,
        index: ReplicaIndex,
        mut is_live: impl FnMut(Version, SlotId) -> bool,
    ) {
        let replica = self.replica_mut(index);
        replica.log.compact(&mut is_live);
        replica.ahead.retain(is_live);
    }

    /// Gives back all that is kept of a replica, of which no cell may be left.
    pub(super) fn forget(&mut self, index: ReplicaIndex) {
        if index == ReplicaIndex::OWN {
            return;
        }
        let known = self.known.get_mut(index.0 as usize).and_then(Option::take);
        let Some(replica) = known else { return };
        self.by_id.remove(&replica.id);
        self.begun.forget(index);
        self.heeding.gone(index);
        if let Some(others) = self.in_bucket.get_mut(replica.bucket) {
            others.remove(&index);
        }
        self.looks.remove(&(replica.look_at, index));
        self.unsummed.remove(&index);
        self.correct_sum(replica.bucket, replica.sum, 0);
        if self.has_storage {
            self.forgotten.push(replica.id);
        }
    }

    /// Has the own replica be another one from now on, which has told nothing yet.
    pub(super) fn rename_own(&mut self, own: &ReplicaId) {
        let bucket = bucket_of(own);
        let mut renamed = Replica::new(own.clone(), bucket);
        let replica = self.replica_mut(ReplicaIndex::OWN);
        // It is listed under its index, not under its name.
        renamed.is_changed = replica.is_changed;
        let before = core::mem::replace(replica, renamed);
        self.by_id.remove(&before.id);
        self.by_id.insert(own.clone(), ReplicaIndex::OWN);
        for (number, others) in self.in_bucket.iter_mut().enumerate() {
            others.remove(&ReplicaIndex::OWN);
            if number == bucket {
                others.insert(ReplicaIndex::OWN);
            }
        }
        self.correct_sum(before.bucket, before.sum, 0);
        self.begun.forget(ReplicaIndex::OWN);
        self.unsummed.insert(ReplicaIndex::OWN);
        if self.has_storage {
            self.forgotten.push(before.id);
        }
    }

    /// Corrects the checksum of a replica's bucket by its part in it.
    fn correct_sum(&mut self, bucket: usize, before: u64, after: u64) {
        if let Some(sum) = self.buckets.get_mut(bucket) {
            *sum = sum.wrapping_sub(before).wrapping_add(after);
        }
    }

    /// Makes this a replica's part in the checksum of its bucket.
    pub(super) fn set_sum(&mut self, index: ReplicaIndex, sum: u64) {
        let replica = self.replica_mut(index);
        let (bucket, before) = (replica.bucket, core::mem::replace(&mut replica.sum, sum));
        self.correct_sum(bucket, before, sum);
    }

    /// The marks that changed since the last call.
    pub(super) fn take_changed(&mut self) -> Vec<ReplicaMark> {
        let changed = core::mem::take(&mut self.changed);
        let mark = |index: ReplicaIndex| {
            let replica = self.known.get_mut(index.0 as usize)?.as_mut()?;
            replica.is_changed = false;
            let Replica { id, watermark, end, .. } = &**replica;
            Some(ReplicaMark { replica: id.clone(), watermark: *watermark, end: *end })
        };
        changed.into_iter().filter_map(mark).collect()
    }

    /// Lists all marks for the next checkpoint, of a storage that is empty.
    pub(super) fn change_all(&mut self) {
        self.forgotten.clear();
        let all: Vec<ReplicaIndex> = self.by_id.values().copied().collect();
        all.into_iter().for_each(|index| self.changed(index));
    }

    /// The replicas that were forgotten since the last call.
    pub(super) fn take_forgotten(&mut self) -> Vec<ReplicaId> {
        core::mem::take(&mut self.forgotten)
    }

    fn changed(&mut self, index: ReplicaIndex) {
        self.unsummed.insert(index);
        let has_storage = self.has_storage;
        let replica = self.replica_mut(index);
        if has_storage && !core::mem::replace(&mut replica.is_changed, true) {
            self.changed.push(index);
        }
    }

    #[expect(
        clippy::indexing_slicing,
        clippy::expect_used,
        reason = "an index is only made for a replica that is known, and none is forgotten while a counter holds a cell of it"
    )]
    pub(super) fn replica(&self, index: ReplicaIndex) -> &Replica {
        self.known[index.0 as usize].as_ref().expect("the replica is known")
    }

    #[expect(clippy::indexing_slicing, clippy::expect_used, reason = "as above")]
    pub(super) fn replica_mut(&mut self, index: ReplicaIndex) -> &mut Replica {
        self.known[index.0 as usize].as_mut().expect("the replica is known")
    }
}
