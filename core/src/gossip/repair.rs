//! What is missing, and whether to ask for it. Digests show that a peer has more of a replica than we have. Most of it is
//! on its way already, so a request waits until the replica's own link has had time to bring it, and a replica that was
//! asked for just now is not asked for again.

use alloc::collections::BTreeMap;
use core::time::Duration;

use super::sync_goals::REPLICAS_MAX;
use crate::id::ReplicaId;

#[derive(Debug, Default)]
pub(super) struct Repair {
    /// Since when a peer's digest shows us behind on a replica whose own link should bring it.
    behind_since: BTreeMap<ReplicaId, Duration>,
    /// When a replica was last asked for, or last came in by a chain that is still under way.
    requested_at: BTreeMap<ReplicaId, Duration>,
}

impl Repair {
    /// A digest shows nothing of this replica that we lack.
    pub(super) fn not_behind(&mut self, replica: &ReplicaId) {
        self.behind_since.remove(replica);
    }

    /// A digest shows us behind on this replica, whose own link should bring what is missing; returns for how long it has
    /// not.
    pub(super) fn behind_for(&mut self, replica: &ReplicaId, now: Duration) -> Duration {
        match self.behind_since.get(replica) {
            Some(since) => now.saturating_sub(*since),
            None => {
                if self.behind_since.len() < REPLICAS_MAX {
                    self.behind_since.insert(replica.clone(), now);
                }
                Duration::ZERO
            }
        }
    }

    /// Whether to ask for a replica now: not if it was asked for less than `again_after` ago. If so, it counts as asked for.
    pub(super) fn ask(
        &mut self,
        replica: &ReplicaId,
        now: Duration,
        again_after: Duration,
    ) -> bool {
        let asked_at = self.requested_at.get(replica);
        let has_room = asked_at.is_some() || self.requested_at.len() < REPLICAS_MAX;
        if !has_room || asked_at.is_some_and(|at| now.saturating_sub(*at) < again_after) {
            return false;
        }
        self.answer_under_way(replica, now);
        true
    }

    /// A part of a chain about this replica came in: as good as an answer, so nothing need be asked for.
    pub(super) fn answer_under_way(&mut self, replica: &ReplicaId, now: Duration) {
        if self.requested_at.len() < REPLICAS_MAX || self.requested_at.contains_key(replica) {
            self.requested_at.insert(replica.clone(), now);
        }
    }

    /// The watermark of this replica moved: what is missing next may be asked for at once.
    pub(super) fn moved(&mut self, replica: &ReplicaId) {
        self.requested_at.remove(replica);
        self.behind_since.remove(replica);
    }

    /// Forgets what is older than this, so that replicas that are gone take no room.
    pub(super) fn forget(&mut self, now: Duration, older_than: Duration) {
        let is_recent = |at: &Duration| now.saturating_sub(*at) < older_than;
        self.requested_at.retain(|_, at| is_recent(at));
        self.behind_since.retain(|_, at| is_recent(at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Incarnation;

    const SECOND: Duration = Duration::from_secs(1);

    fn replica() -> ReplicaId {
        let incarnation = Incarnation { boot: 1, nonce: 1 };
        ReplicaId { node: "a".parse().unwrap(), incarnation }
    }

    #[test]
    fn a_replica_is_asked_for_once_in_a_while_and_at_once_after_progress() {
        let (mut repair, a) = (Repair::default(), replica());
        assert!(repair.ask(&a, SECOND, SECOND));
        assert!(!repair.ask(&a, SECOND * 3 / 2, SECOND));
        repair.answer_under_way(&a, SECOND * 3 / 2);
        assert!(!repair.ask(&a, SECOND * 2, SECOND));
        repair.moved(&a);
        assert!(repair.ask(&a, SECOND * 2, SECOND));
        assert!(repair.ask(&a, SECOND * 3, SECOND));
    }

    #[test]
    fn how_long_it_is_behind_starts_over_when_it_has_caught_up() {
        let (mut repair, a) = (Repair::default(), replica());
        assert_eq!(repair.behind_for(&a, SECOND), Duration::ZERO);
        assert_eq!(repair.behind_for(&a, SECOND * 3), SECOND * 2);
        repair.not_behind(&a);
        assert_eq!(repair.behind_for(&a, SECOND * 4), Duration::ZERO);
        repair.forget(SECOND * 9, SECOND);
        assert!(repair.behind_since.is_empty() && repair.requested_at.is_empty());
    }
}
