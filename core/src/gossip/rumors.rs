//! What is to be passed on next. Only large clusters use it: there, each node passes on what it heard of any replica to a few
//! peers, once, as people pass on a rumor; in small ones each node sends its own changes to all.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::id::{ReplicaId, Version};
use crate::link::LinkId;
use crate::table::SlotId;

/// What is new of one replica since the last round.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Rumor {
    /// Up to this version it was spread before.
    pub spread: Version,
    /// The one link that all of it came over, if it was one: it need not hear it again.
    pub source: Option<LinkId>,
    /// Cells past the watermark, to be passed on as they are.
    pub ahead: Vec<SlotId>,
}

/// The rumors of all replicas that have some. Of the own replica, it is always known how far it was spread.
#[derive(Debug, Default)]
pub(super) struct Rumors(BTreeMap<ReplicaId, Rumor>);

impl Rumors {
    /// A link brought cells of a replica, whose watermark was `before` until then, or moved that watermark.
    pub(super) fn hear(
        &mut self,
        replica: &ReplicaId,
        before: Version,
        link: LinkId,
        new: Vec<SlotId>,
    ) {
        let first = || Rumor { spread: before, ..Rumor::default() };
        let rumor = self.0.entry(replica.clone()).or_insert_with(first);
        let first_since_round = rumor.ahead.is_empty() && rumor.spread == before;
        rumor.source = (first_since_round || rumor.source == Some(link)).then_some(link);
        rumor.ahead.extend(new);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes what was heard of others.
    pub(super) fn take_heard(&mut self) -> BTreeMap<ReplicaId, Rumor> {
        core::mem::take(&mut self.0)
    }

    /// Takes all rumors, to spread them in a round; there is always one of the own replica.
    pub(super) fn take(&mut self, own: &ReplicaId) -> BTreeMap<ReplicaId, Rumor> {
        let mut rumors = self.take_heard();
        rumors.entry(own.clone()).or_default();
        rumors
    }

    /// The round is over and has spread the own replica up to this watermark.
    pub(super) fn own_spread(&mut self, own: &ReplicaId, watermark: Version) {
        self.0.insert(own.clone(), Rumor { spread: watermark, ..Rumor::default() });
    }

    /// Whether nothing is left to spread, seen that the own watermark is this.
    pub(super) fn all_spread(&self, own: &ReplicaId, watermark: Version) -> bool {
        self.0.iter().all(|(replica, rumor)| {
            rumor.ahead.is_empty() && replica == own && rumor.spread >= watermark
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Incarnation;
    use crate::key::CounterKey;
    use crate::limit::Lifetime;
    use crate::table::{Bounds, DirtySet, Op, Table};
    use crate::time::Timestamp;

    fn replica(node: &str) -> ReplicaId {
        ReplicaId { node: node.parse().unwrap(), incarnation: Incarnation { boot: 1, nonce: 1 } }
    }

    fn a_slot() -> Vec<SlotId> {
        let table = Table::new(replica("own"), Bounds::default(), [1, 2, 3, 4]);
        let key = CounterKey::new("x", &[]).unwrap();
        table
            .execute(
                Timestamp(1),
                &key,
                Op::Add(1),
                Lifetime::new(core::time::Duration::from_secs(90_000)),
            )
            .unwrap();
        table.harvest(DirtySet::All);
        let update = table.updates_after(&replica("own"), Version::ZERO, 1_000).unwrap();
        table.apply(Timestamp(1), &replica("a"), &update.updates).new
    }

    #[test]
    fn a_rumor_has_a_source_only_while_all_of_it_came_from_there() {
        let (mut rumors, own, a) = (Rumors::default(), replica("own"), replica("a"));
        rumors.hear(&a, Version(3), LinkId(1), a_slot());
        rumors.hear(&a, Version(3), LinkId(1), a_slot());
        assert!(!rumors.all_spread(&own, Version(0)));
        let taken = rumors.take(&own);
        assert_eq!(taken[&a].source, Some(LinkId(1)));
        assert_eq!((taken[&a].spread, taken[&a].ahead.len()), (Version(3), 2));
        assert_eq!(taken[&own], Rumor::default());

        rumors.hear(&a, Version(4), LinkId(1), a_slot());
        rumors.hear(&a, Version(4), LinkId(2), a_slot());
        assert_eq!(rumors.take(&own)[&a].source, None);
    }

    #[test]
    fn after_a_round_only_own_changes_are_left_to_spread() {
        let (mut rumors, own) = (Rumors::default(), replica("own"));
        rumors.take(&own);
        rumors.own_spread(&own, Version(5));
        assert!(rumors.all_spread(&own, Version(5)));
        assert!(!rumors.all_spread(&own, Version(6)));
        assert_eq!(rumors.take(&own)[&own].spread, Version(5));
    }
}
