//! What a peer had when we met and we had not: once it is here, the link has caught up.

use alloc::collections::BTreeMap;

use crate::id::{ReplicaId, Version};

/// A peer cannot make us wait for more than this.
pub(super) const REPLICAS_MAX: usize = 65_536;

#[derive(Debug)]
pub(super) enum SyncGoals {
    /// The peer's first digest is coming in, and what it does not name by itself; so far it names these.
    Collecting(BTreeMap<ReplicaId, Version>),
    /// The digest is here; these are left to reach.
    Reaching(BTreeMap<ReplicaId, Version>),
}

impl Default for SyncGoals {
    fn default() -> SyncGoals {
        SyncGoals::Collecting(BTreeMap::new())
    }
}

impl SyncGoals {
    /// The peer names these versions that are missing here. Only what comes before all is named counts.
    pub(super) fn add(&mut self, missing: impl Iterator<Item = (ReplicaId, Version)>) {
        if let SyncGoals::Collecting(goals) = self {
            goals.extend(missing.take(REPLICAS_MAX.saturating_sub(goals.len())));
        }
    }

    /// The peer has named all that it has and we might lack.
    pub(super) fn all_named(&mut self) {
        if let SyncGoals::Collecting(goals) = self {
            *self = SyncGoals::Reaching(core::mem::take(goals));
        }
    }

    /// The watermark of a replica is this now.
    pub(super) fn reached(&mut self, replica: &ReplicaId, watermark: Version) {
        let (SyncGoals::Collecting(goals) | SyncGoals::Reaching(goals)) = self;
        if goals.get(replica).is_some_and(|goal| *goal <= watermark) {
            goals.remove(replica);
        }
    }

    pub(super) fn all_reached(&self) -> bool {
        matches!(self, SyncGoals::Reaching(goals) if goals.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Incarnation;

    fn replica(node: &str) -> ReplicaId {
        ReplicaId { node: node.parse().unwrap(), incarnation: Incarnation { boot: 1, nonce: 1 } }
    }

    #[test]
    fn goals_are_those_of_the_first_whole_digest() {
        let (a, b) = (replica("a"), replica("b"));
        let mut goals = SyncGoals::default();
        goals.add([(a.clone(), Version(3))].into_iter());
        assert!(!goals.all_reached());
        goals.add([(b.clone(), Version(5))].into_iter());
        goals.all_named();
        goals.add([(b.clone(), Version(9))].into_iter());
        goals.reached(&a, Version(3));
        goals.reached(&b, Version(4));
        assert!(!goals.all_reached());
        goals.reached(&b, Version(5));
        assert!(goals.all_reached());
    }

    #[test]
    fn an_empty_digest_leaves_nothing_to_reach() {
        let mut goals = SyncGoals::default();
        assert!(!goals.all_reached());
        goals.all_named();
        assert!(goals.all_reached());
    }
}
