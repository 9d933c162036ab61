//! The peers that were ever met: what each has confirmed and when it was heard, for when there is no link that could tell.

use alloc::collections::{BTreeMap, BTreeSet};
use core::time::Duration;

use super::link::Link;
use super::peers::PeerAbsence;
use crate::id::{NodeId, ReplicaId, Version};

#[derive(Debug, Default)]
pub(super) struct MetPeers(BTreeMap<NodeId, Met>);

/// A peer as it was when it was last seen.
#[derive(Debug)]
pub(super) struct Met {
    pub replica: ReplicaId,
    /// Its watermark of our own replica, as it said.
    pub acked: Version,
    pub heard_at: Duration,
    /// Why there is no link to it; `None` while there is one.
    pub absence: Option<PeerAbsence>,
}

impl MetPeers {
    /// A link to this peer is up. Returns what it has confirmed already, and since when it was lost, if it was.
    ///
    /// At most `max` are remembered: the one heard longest ago goes first, of those that no address `is_configured` for.
    pub(super) fn meet(
        &mut self,
        replica: &ReplicaId,
        now: Duration,
        max: usize,
        configured: impl FnOnce() -> BTreeSet<NodeId>,
    ) -> (Version, Option<Duration>) {
        let met =
            Met { replica: replica.clone(), acked: Version::ZERO, heard_at: now, absence: None };
        let Some(known) = self.0.get_mut(&replica.node) else {
            self.make_room(max, configured);
            self.0.insert(replica.node.clone(), met);
            return (Version::ZERO, None);
        };
        let lost_at = (known.absence == Some(PeerAbsence::Lost)).then_some(known.heard_at);
        // Another life of it may have lost what this one had.
        let acked = if known.replica == *replica { known.acked } else { Version::ZERO };
        *known = Met { acked, ..met };
        (acked, lost_at)
    }

    fn make_room(&mut self, max: usize, configured: impl FnOnce() -> BTreeSet<NodeId>) {
        if self.0.len() < max {
            return;
        }
        let configured = configured();
        let gone = self.0.iter().filter(|(_, met)| met.absence.is_some());
        let oldest = gone.min_by_key(|(node, met)| (configured.contains(*node), met.heard_at));
        if let Some(oldest) = oldest.map(|(node, _)| node.clone()) {
            self.0.remove(&oldest);
        }
    }

    /// Notes what a link to a peer has shown of it, before the link goes. `absence` is why there is no other one.
    pub(super) fn note(&mut self, link: &Link, absence: Option<PeerAbsence>) {
        let Some(replica) = link.peer() else { return };
        if let Some(known) = self.0.get_mut(&replica.node)
            && known.replica == *replica
        {
            known.acked = known.acked.max(link.streams.acknowledged());
            known.heard_at = known.heard_at.max(link.heard_at());
            known.absence = absence;
        }
    }

    /// The peer of this name, if it was met.
    pub(super) fn get(&self, node: &NodeId) -> Option<&Met> {
        self.0.get(node)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Met> {
        self.0.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Incarnation;
    use alloc::format;

    fn replica(node: &str, boot: u64) -> ReplicaId {
        ReplicaId { node: node.parse().unwrap(), incarnation: Incarnation { boot, nonce: 1 } }
    }

    fn link(replica: &ReplicaId, acked: u64, heard_s: u64) -> Link {
        let mut link = Link::new(None, Duration::ZERO, 0);
        link.introduce(replica.clone());
        link.streams.acked(Version(acked));
        link.hear(Duration::from_secs(heard_s));
        link
    }

    #[test]
    fn what_a_life_has_confirmed_is_kept_for_that_life() {
        let mut met = MetPeers::default();
        let first = replica("b", 1);
        let meet = |met: &mut MetPeers, replica: &ReplicaId, s| {
            met.meet(replica, Duration::from_secs(s), 9, BTreeSet::new)
        };
        assert_eq!(meet(&mut met, &first, 1), (Version::ZERO, None));
        met.note(&link(&first, 10, 7), Some(PeerAbsence::Lost));
        let back = meet(&mut met, &first, 20);
        assert_eq!(back, (Version(10), Some(Duration::from_secs(7))));
        met.note(&link(&first, 12, 21), Some(PeerAbsence::Stopped));
        assert_eq!(meet(&mut met, &replica("b", 2), 30), (Version::ZERO, None));
        // A link of the former life that ends late says nothing of this one.
        met.note(&link(&first, 12, 31), Some(PeerAbsence::Lost));
        assert_eq!(met.get(&"b".parse().unwrap()).unwrap().absence, None);
    }

    #[test]
    fn names_without_end_take_bounded_room_and_the_configured_and_connected_stay() {
        let mut met = MetPeers::default();
        let configured = || BTreeSet::from(["configured".parse().unwrap()]);
        for node in ["configured", "connected"] {
            met.meet(&replica(node, 1), Duration::ZERO, 20, configured);
        }
        met.note(&link(&replica("configured", 1), 1, 0), Some(PeerAbsence::Lost));
        for n in 0..1_000 {
            let stranger = replica(&format!("stranger-{n}"), 1);
            met.meet(&stranger, Duration::from_secs(n), 20, configured);
            met.note(&link(&stranger, 0, n), Some(PeerAbsence::Stopped));
        }
        assert_eq!(met.0.len(), 20);
        for node in ["configured", "connected", "stranger-999", "stranger-982"] {
            assert!(met.get(&node.parse().unwrap()).is_some(), "{node}");
        }
    }
}
