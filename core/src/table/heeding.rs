//! What the operator says of replicas, brought about in the counters.
//!
//! A counter keeps the sum of its peers' cells, so that a decision need not walk them. So what changes which cells count has to
//! pass through every counter once: it walks over the table, a few slots at a time, as the sweep does. What comes in meanwhile is
//! already treated in the new way, and what the walk has passed is right for good. A decision never asks any of this.
//!
//! - **Quarantine**: the cells of a node stay where they are, are merged, told and stored as ever, and are left out of sums.
//! - **Forget**: the cells of a replica are removed, with what is kept of it, and what comes of it later is dropped.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use super::read::{next_page, page_end};
use super::{SlotId, Table};
use crate::crdt::ReplicaIndex;
use crate::id::{NodeId, ReplicaId};
use crate::operator::{
    EntryError, EntrySource, OperatorEntry, OperatorList, OperatorPublicKey, Standing,
};
use crate::sync::{MutexGuard, PoisonError};
use crate::time::Timestamp;

/// What a table does about what the operator said.
#[derive(Debug, Default)]
pub(super) struct Heeding {
    /// The own node: what it counts itself counts here in any case, or it would admit without end.
    pub own: Option<NodeId>,
    standing: Standing,
    /// The own replica is to be forgotten: nothing gets a version before the node goes on as another one.
    pub own_is_forgotten: bool,
    /// The replicas of nodes in quarantine.
    uncounted: BTreeSet<ReplicaIndex>,
    /// The replicas whose cells are being removed.
    leaving: BTreeSet<ReplicaIndex>,
    /// Where the walk goes on; `None` while there is none.
    next: Option<SlotId>,
}

impl Heeding {
    /// Whether this replica's cells count.
    #[inline]
    pub(super) fn counts(&self, index: ReplicaIndex) -> bool {
        !self.uncounted.contains(&index)
    }

    /// Whether nothing of this replica is taken in.
    #[inline]
    pub(super) fn has_forgotten(&self, replica: &ReplicaId) -> bool {
        self.standing.forgotten.contains(replica)
    }

    /// A replica of this index is known from now on.
    pub(super) fn known(&mut self, index: ReplicaIndex, replica: &ReplicaId) {
        if self.standing.quarantined.contains(&replica.node)
            && self.own.as_ref() != Some(&replica.node)
        {
            self.uncounted.insert(index);
        }
    }

    /// None is any more.
    pub(super) fn gone(&mut self, index: ReplicaIndex) {
        self.uncounted.remove(&index);
        self.leaving.remove(&index);
    }
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is new here.
    New,
    /// It is held already.
    Known,
}

/// What the operator said, as it stands.
///
/// ```
/// use tallymesh::{EntryStatus, Status};
///
/// /// What is still under way, in words.
/// fn under_way(status: &Status) -> Vec<String> {
///     let part = status.operator.iter().filter(|entry| entry.is_in_force && entry.progress < 100);
///     part.map(|EntryStatus { action, subject, .. }| format!("{action} {subject}")).collect()
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct EntryStatus {
    /// `forget`, `quarantine`, `release`, or what a later version knows.
    pub action: String,
    /// The replica or the node that it is about.
    pub subject: String,
    /// When it was given.
    pub at: Timestamp,
    /// Until when it has an effect.
    pub until: Timestamp,
    /// Whether it is signed by the operator's key of the config, so that it is told to the other nodes.
    pub is_told: bool,
    /// Whether it has an effect now.
    pub is_in_force: bool,
    /// How much of the table the entries have reached, in percent: 100 once each counter goes by them.
    pub progress: u8,
}

impl Table {
    pub(super) fn lock_operator(&self) -> MutexGuard<'_, OperatorList> {
        self.operator.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Entries that this key has signed for the cluster of this name are believed from now on.
    pub fn set_operator_key(&self, key: Option<OperatorPublicKey>, cluster: Arc<str>) {
        self.lock_operator().set_key(key, cluster);
    }

    /// Takes what was stored, before anything else uses the table, and brings it about.
    pub fn restore_entries(
        &self,
        now: Timestamp,
        entries: impl IntoIterator<Item = OperatorEntry>,
    ) {
        entries.into_iter().for_each(|entry| self.lock_operator().restore(entry));
        self.heed(now, usize::MAX);
    }

    /// Takes in what the operator says. [`heed`](Self::heed) brings it about.
    ///
    /// # Errors
    /// When it is not believed, is too late, or there is no room for it.
    pub fn take_entry(
        &self,
        now: Timestamp,
        entry: OperatorEntry,
        source: EntrySource,
    ) -> Result<Taken, EntryError> {
        if source == EntrySource::Here && self.is_closed() {
            return Err(EntryError::Closed);
        }
        let mut operator = self.lock_operator();
        let is_new = operator.take(now, entry, source)?;
        drop(operator);
        // What is refused from now on is refused before this returns.
        self.heed(now, 0);
        Ok(if is_new { Taken::New } else { Taken::Known })
    }

    /// When the latest entry about the same thing as this one was given.
    pub fn last_entry_at(&self, like: &OperatorEntry) -> Option<Timestamp> {
        self.lock_operator().held(like).map(OperatorEntry::at)
    }

    /// All entries, as they stand.
    pub fn operator_entries(&self, now: Timestamp) -> Vec<EntryStatus> {
        let progress = self.heeded_percent();
        let operator = self.lock_operator();
        let status = |(entry, is_told): (&OperatorEntry, bool)| {
            let (action, subject) = (entry.action().to_owned(), entry.subject().to_owned());
            let (at, until) = (entry.at(), entry.until());
            EntryStatus { action, subject, at, until, is_told, is_in_force: now < until, progress }
        };
        operator.iter().map(status).collect()
    }

    /// Counts entries that a peer sent and that were dropped.
    pub fn refuse_entries(&self, entries: usize) {
        self.rejected.entries_refused(entries);
    }

    /// A checksum over the entries that are told to others; `None` where there are none.
    pub fn entries_checksum(&self, now: Timestamp) -> Option<u64> {
        self.lock_operator().checksum(now)
    }

    /// What to ask a peer with that has other entries than this table; `None` if none of its would be believed.
    pub fn entries_known(&self, now: Timestamp) -> Option<Vec<u64>> {
        let operator = self.lock_operator();
        operator.has_key().then(|| operator.hashes(now))
    }

    /// The entries that are told and not among these, as bytes: as many as fit, and at least one.
    pub fn entries_missing(&self, now: Timestamp, among: &[u64], bytes_max: usize) -> Vec<Vec<u8>> {
        self.lock_operator().missing(now, among, bytes_max)
    }

    /// What storage has to be told of: kind and subject of each, with the entry, or `None` where it is gone.
    pub fn take_unwritten_entries(&self) -> Vec<(Box<str>, Box<str>, Option<OperatorEntry>)> {
        self.lock_operator().take_unwritten()
    }

    /// Lists all entries for a storage that is empty.
    pub fn unwrite_entries(&self) {
        self.lock_operator().unwrite_all();
    }

    /// Whether the operator had this replica forgotten: nothing of it is taken in.
    pub fn has_forgotten(&self, replica: &ReplicaId) -> bool {
        self.lock_replicas().heeding.has_forgotten(replica)
    }

    /// Whether the operator has this node itself in quarantine: at other nodes what it counts is taken for 0.
    pub fn is_quarantined(&self) -> bool {
        let heeding = &self.lock_replicas().heeding;
        heeding.own.as_ref().is_some_and(|own| heeding.standing.quarantined.contains(own))
    }

    /// Brings about what the operator said, in at most so many pages of the table. To be called now and then.
    pub fn heed(&self, now: Timestamp, pages_max: usize) {
        let mut operator = self.lock_operator();
        if let Some(standing) = operator.look(now) {
            self.begin_to_heed(standing);
        }
        drop(operator);
        for _ in 0..pages_max {
            if !self.heed_page() {
                return;
            }
        }
    }

    fn begin_to_heed(&self, standing: Standing) {
        let mut replicas = self.lock_replicas();
        if standing == replicas.heeding.standing {
            return;
        }
        let own = replicas.heeding.own.clone();
        let of_others = || replicas.iter().filter(|(index, _)| *index != ReplicaIndex::OWN);
        let is_uncounted =
            |node: &NodeId| own.as_ref() != Some(node) && standing.quarantined.contains(node);
        let uncounted = of_others().filter(|(_, replica)| is_uncounted(&replica.id.node));
        let leaving = of_others().filter(|(_, replica)| standing.forgotten.contains(&replica.id));
        let uncounted = uncounted.map(|(index, _)| index).collect();
        let leaving = leaving.map(|(index, _)| index).collect();
        let own_is_forgotten = standing.forgotten.contains(replicas.id(ReplicaIndex::OWN));
        self.must_reincarnate.store(own_is_forgotten, Ordering::Relaxed);
        let next = Some(SlotId::FIRST);
        replicas.heeding = Heeding { own, standing, own_is_forgotten, uncounted, leaving, next };
    }

    /// Goes on with the walk by one page; returns whether there is more of it.
    fn heed_page(&self) -> bool {
        let mut replicas = self.lock_replicas();
        let Some(from) = replicas.heeding.next else { return false };
        let heeding = &replicas.heeding;
        let mut shard = self.lock(from.shard());
        let end = page_end(from, shard.slots());
        for slot_index in from.index()..end {
            let Some(slot) = shard.slot_mut(slot_index) else { continue };
            let counter = &mut slot.counter;
            let removed = counter.remove(|index| heeding.leaving.contains(&index));
            counter.recount(|index| heeding.counts(index));
            if removed && counter.has_no_cells() {
                // Who never heard of that replica has no such counter.
                let key_hash = self.key_hash(&slot.key);
                if let Some(claim) = shard.remove(key_hash, slot_index) {
                    self.give_room_back(claim);
                }
            } else if removed {
                shard.mark_unpersisted(slot_index);
            }
        }
        let next = next_page(from, end, shard.slots());
        drop(shard);
        replicas.heeding.next = next;
        if next.is_none() {
            for index in core::mem::take(&mut replicas.heeding.leaving) {
                replicas.forget(index);
            }
        }
        next.is_some()
    }

    fn heeded_percent(&self) -> u8 {
        let next = self.lock_replicas().heeding.next;
        let Some(next) = next else { return 100 };
        (next.shard() * 100 / self.shards.len()) as u8
    }
}
