//! Which number names which replica in the database, and for how long.
//!
//! A number is never given twice. Its record goes once the table has forgotten the replica and no record of a counter names
//! the number any more, and that is durable: a cell whose replica has no record is taken for damage.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::record::StateRecord;
use crate::id::ReplicaId;

#[derive(Debug, Default)]
pub(super) struct Numbers {
    by_replica: BTreeMap<ReplicaId, u32>,
    /// How many records of counters and pages have a cell of a number.
    named: BTreeMap<u32, u32>,
    /// Of replicas that the table has forgotten.
    forgotten: BTreeMap<u32, ReplicaId>,
    /// Nothing names them, and their marks are gone: their records are next.
    unused: BTreeMap<u32, ReplicaId>,
}

impl Numbers {
    pub(super) fn of_recovered(
        replicas: &BTreeMap<u32, ReplicaId>,
        named: &BTreeMap<u32, u32>,
    ) -> Numbers {
        let by_replica =
            replicas.iter().map(|(number, replica)| (replica.clone(), *number)).collect();
        Numbers { by_replica, named: named.clone(), ..Numbers::default() }
    }

    /// The number of a replica, which is needed.
    pub(super) fn get(&mut self, replica: &ReplicaId) -> Option<u32> {
        let number = *self.by_replica.get(replica)?;
        self.forgotten.remove(&number);
        Some(number)
    }

    pub(super) fn insert(&mut self, replica: ReplicaId, number: u32) {
        self.by_replica.insert(replica, number);
    }

    /// Notes that a record was put in the place of another.
    pub(super) fn replaced(&mut self, before: Option<&StateRecord>, after: Option<&StateRecord>) {
        if cells_of(before).eq(cells_of(after)) {
            return;
        }
        let before: BTreeSet<u32> = cells_of(before).collect();
        let after: BTreeSet<u32> = cells_of(after).collect();
        // First those that are new, so that none is dropped that stays.
        for number in after {
            *self.named.entry(number).or_default() += 1;
        }
        for number in before {
            if let Some(named) = self.named.get_mut(&number) {
                *named = named.saturating_sub(1);
                if *named == 0 {
                    self.named.remove(&number);
                }
            }
        }
    }

    /// Notes that the table has forgotten a replica.
    pub(super) fn forget(&mut self, replica: ReplicaId) {
        if let Some(number) = self.by_replica.get(&replica) {
            self.forgotten.insert(*number, replica);
        }
    }

    /// The numbers of forgotten replicas that no record names any more. Their marks are to go now, and their records once that is
    /// durable.
    pub(super) fn take_unnamed(&mut self) -> Vec<u32> {
        let forgotten = core::mem::take(&mut self.forgotten);
        let is_named = |number: &u32| self.named.contains_key(number);
        let (still, unnamed) = forgotten.into_iter().partition(|(number, _)| is_named(number));
        self.forgotten = still;
        let numbers = BTreeMap::keys(&unnamed).copied().collect();
        self.unused.extend(unnamed);
        numbers
    }

    /// Forgets the replicas that no record names and of which nothing is kept: a crash has left their records.
    pub(super) fn forget_left(&mut self, is_kept: impl Fn(u32) -> bool) {
        let left = self
            .by_replica
            .iter()
            .filter(|(_, number)| !self.named.contains_key(number) && !is_kept(**number));
        self.unused = left.map(|(replica, number)| (*number, replica.clone())).collect();
    }

    /// How many records have a cell of each number.
    #[cfg(test)]
    pub(super) fn named(&self) -> &BTreeMap<u32, u32> {
        &self.named
    }

    /// The numbers whose records go now.
    pub(super) fn take_unused(&mut self) -> Vec<u32> {
        let unused = core::mem::take(&mut self.unused);
        unused.values().for_each(|replica| _ = self.by_replica.remove(replica));
        unused.into_keys().collect()
    }
}

/// The numbers of the replicas that a record has cells of.
fn cells_of(state: Option<&StateRecord>) -> impl Iterator<Item = u32> {
    state.into_iter().flat_map(|state| &state.cells).map(|(number, _)| *number)
}
