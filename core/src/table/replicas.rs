//! What is known of each replica: its watermark, and where its updates are.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::SlotId;
use super::slot::Slot;
use super::update_log::UpdateLog;
use super::version_map::VersionMap;
use crate::crdt::ReplicaIndex;
use crate::id::{Incarnation, ReplicaId, Version};

#[derive(Debug)]
struct Replica {
    id: ReplicaId,
    /// Everything up to here is held, superseded or expired. Of the own replica: the last version assigned.
    watermark: Version,
    /// Every live cell up to the watermark has its entry here ...
    log: UpdateLog,
    /// ... and every live cell past it, here: the dots beyond the version vector.
    ahead: VersionMap,
}

/// All replicas of which anything was ever heard; the own one is the first.
#[derive(Debug)]
pub(super) struct Replicas {
    known: Vec<Replica>,
    by_id: BTreeMap<ReplicaId, ReplicaIndex>,
}

impl Replicas {
    pub(super) fn new(own: ReplicaId) -> Replicas {
        let mut replicas = Replicas { known: Vec::new(), by_id: BTreeMap::new() };
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
        if self.known.len() >= replicas_max {
            return None;
        }
        let index = ReplicaIndex(self.known.len() as u32);
        self.known.push(Replica {
            id: id.clone(),
            watermark: Version::ZERO,
            log: UpdateLog::default(),
            ahead: VersionMap::default(),
        });
        self.by_id.insert(id.clone(), index);
        Some(index)
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
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

    /// Notes a cell that was merged before the watermark reaches it.
    pub(super) fn hold_ahead(&mut self, index: ReplicaIndex, version: Version, slot: SlotId) {
        let replica = self.replica_mut(index);
        if version > replica.watermark {
            replica.ahead.insert(version, slot);
        }
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
        if !core::mem::take(&mut slot.dirty) {
            return false;
        }
        let own = self.replica_mut(ReplicaIndex::OWN);
        own.watermark = own.watermark.next();
        own.log.push(own.watermark, id);
        slot.counter.stamp_own(own.watermark);
        true
    }

    /// Starts a replica's log from what was stored: entries ascend by version.
    pub(super) fn restore(
        &mut self,
        index: ReplicaIndex,
        watermark: Version,
        entries: impl IntoIterator<Item = (Version, SlotId)>,
    ) {
        let replica = self.replica_mut(index);
        replica.watermark = watermark;
        for (version, slot) in entries {
            if version <= watermark {
                replica.log.push(version, slot);
            } else {
                replica.ahead.insert(version, slot);
            }
        }
    }

    /// The replicas that belong in a digest, with their watermarks: all but those whose node has started again since and of
    /// which no cell is left.
    pub(super) fn worth_sending(&self) -> impl Iterator<Item = (&ReplicaId, Version)> {
        let sent = self.known.iter().filter(|replica| !self.is_retired(replica));
        sent.map(|replica| (&replica.id, replica.watermark))
    }

    /// Whether a later incarnation of its node is known, so that this one will never write again.
    pub(super) fn has_successor(&self, index: ReplicaIndex) -> bool {
        self.is_succeeded(self.replica(index))
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

    #[expect(
        clippy::indexing_slicing,
        reason = "an index is only made for a replica that is known, and none is forgotten"
    )]
    fn replica(&self, index: ReplicaIndex) -> &Replica {
        &self.known[index.0 as usize]
    }

    #[expect(clippy::indexing_slicing, reason = "as above")]
    fn replica_mut(&mut self, index: ReplicaIndex) -> &mut Replica {
        &mut self.known[index.0 as usize]
    }

    fn is_retired(&self, replica: &Replica) -> bool {
        replica.log.is_empty() && replica.ahead.is_empty() && self.is_succeeded(replica)
    }

    fn is_succeeded(&self, replica: &Replica) -> bool {
        let boot = replica.id.incarnation.boot.saturating_add(1);
        let node = replica.id.node.clone();
        let later = ReplicaId { node, incarnation: Incarnation { boot, nonce: 0 } };
        let successor = self.by_id.range(later..).next();
        successor.is_some_and(|(id, _)| id.node == replica.id.node)
    }
}
