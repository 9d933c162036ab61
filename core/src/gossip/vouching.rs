//! Believing what a peer vouches for: that a chain had all of a replica up to a watermark, but for what has ended or was superseded.
//!
//! What is missing from the chain is never asked for again, so both must be true here too: the counters have ended by our clock, and the
//! newer generations that superseded the rest are here.

use alloc::vec::Vec;

use super::Gossip;
use super::chain::Vouched;
use super::link::Link;
use crate::crdt::{Begun, Delta};
use crate::id::{ReplicaId, Version};
use crate::link::LinkId;
use crate::mutant::mutant;
use crate::table::Bound;
use crate::time::{Now, Timestamp};

impl Gossip {
    /// Whether a chain's watermark can be believed: by a clock that is far ahead of ours, counters have ended and were dropped
    /// that are live here. Who takes such a node's word would never ask anyone for them again.
    pub(super) fn can_vouch(&self, now: Timestamp, delta: &Delta) -> bool {
        let latest = now.plus(self.table.grace() / 2);
        delta.as_of.is_none_or(|as_of| as_of <= latest) || mutant!(WatermarkOfFutureBelieved)
    }

    /// Takes in that a whole chain leads to a watermark: now, or once all is here that `begun` names. `about` is the replica, and what its
    /// watermark was before the chain's last part.
    pub(super) fn hear_vouched(
        &mut self,
        now: Now,
        link: LinkId,
        about: (&ReplicaId, Version),
        vouched: Vouched,
        begun: &[Begun],
    ) {
        let (replica, before) = about;
        let is_here = |Begun(needed, version): &Begun| self.table.reaches(needed, *version);
        // What begins at a far clock is not taken in here, so to wait for it would hide the mistake.
        if begun.iter().all(is_here) || mutant!(WatermarkOfFutureBelieved) {
            self.believe(now, link, replica, before, vouched);
        } else if self.table.complete(replica, Version::ZERO, Version::ZERO) {
            if let Some(state) = self.links.get_mut(&link)
                && state.incoming.wait(now.monotonic, (replica, vouched), begun)
            {
                self.repair.answer_under_way(replica, now.monotonic);
            }
        } else {
            // No more wait than replicas are known.
            self.bound_reached(Bound::Replicas);
        }
        self.believe_waiting(now);
    }

    /// Believes what was put off and waits for nothing any more.
    pub(super) fn believe_waiting(&mut self, now: Now) {
        let table = &self.table;
        let links = self.links.iter_mut();
        let believed =
            links.map(|(link, state)| (*link, state.incoming.take_believed(now.monotonic, table)));
        let believed: Vec<_> = believed.filter(|(_, some)| !some.is_empty()).collect();
        for (link, some) in believed {
            for (replica, vouched) in some {
                let before = self.table.watermark(&replica);
                self.believe(now, link, &replica, before, vouched);
            }
        }
    }

    fn believe(
        &mut self,
        now: Now,
        link: LinkId,
        replica: &ReplicaId,
        before: Version,
        vouched: Vouched,
    ) {
        self.vouched_as_of = self.vouched_as_of.max(vouched.as_of.unwrap_or_default());
        let moved = self.table.complete(replica, vouched.from, vouched.watermark);
        let by_its_writer = |link: &Link| link.peer() == Some(replica);
        if moved && self.links.get(&link).is_some_and(by_its_writer) {
            self.table.confirm(replica, vouched.from);
        }
        let watermark = self.table.watermark(replica);
        if watermark > before {
            self.repair.moved(replica);
            self.reached(replica, watermark);
            if !self.is_direct() {
                // Also if all cells were here: those who got them by a push wait for it.
                self.rumors.hear(replica, before, link, Vec::new());
            }
        }
        match moved {
            true => {}
            // There is no room to remember it; the next digest asks for it again.
            false if !self.table.knows(replica) => self.bound_reached(Bound::Replicas),
            false => self.request(now, link, replica, watermark),
        }
    }

    fn reached(&mut self, replica: &ReplicaId, watermark: Version) {
        for state in self.links.values_mut() {
            state.goals.reached(replica, watermark);
        }
    }
}
