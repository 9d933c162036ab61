//! Whose word counts: of itself a replica knows best, and of one that is connected, a third one need not tell.
//!
//! Think of a ledger in which another hand has signed in one's name: one signs again below it, with a later number.
//! A peer that holds a version of ours that we never gave out was lied to, or lies: it would drop as old what we count from now on. So
//! the next versions are given above that one, and all own cells are sent again under them; at most once a digest interval, as
//! a peer may say so without end.

use super::link::Link;
use super::{Gossip, Report};
use crate::crdt::{DigestEntry, Update};
use crate::id::{ReplicaId, Version};
use crate::link::LinkId;
use crate::mutant::mutant;
use crate::time::Now;

/// A link that was silent for so many digest intervals does not speak for its peer any more.
const SILENT_DIGESTS: u32 = 2;

impl Gossip {
    /// What a peer says of `replica` where the replica's own link is there to say it: then it is left to that. In a large cluster
    /// it is not, since there nodes hear of most others through third ones.
    pub(super) fn is_left_to_its_writer(
        &self,
        now: Now,
        peer: &ReplicaId,
        replica: &ReplicaId,
    ) -> bool {
        replica != peer && self.writers_link(now, replica).is_some() && !mutant!(HearsayBelieved)
    }

    /// The link over which a replica tells us all its updates itself.
    pub(super) fn writers_link(&self, now: Now, replica: &ReplicaId) -> Option<LinkId> {
        let most = self.settings.digest_interval * SILENT_DIGESTS;
        let speaks = |link: &Link| {
            link.peer() == Some(replica)
                && !link.feed.peer_passes_on()
                && link.silent_for(now.monotonic) < most
        };
        let mut links = self.links.iter().filter(|_| self.is_direct());
        links.find(|(_, link)| speaks(link)).map(|(link, _)| *link)
    }

    /// A peer sends updates as ours.
    pub(super) fn hear_own_updates(&mut self, now: Now, link: LinkId, updates: &[Update]) {
        // It changes nothing, and counts what cannot be true.
        let own = self.own.clone();
        self.table.apply(now.wall, &own, updates);
        let latest = updates.iter().map(|update| update.version).max();
        self.hear_of_own(now, link, latest.unwrap_or_default());
    }

    /// A peer's digest says what it holds of us. Beyond what is complete there may be what we never gave out; only its updates tell.
    pub(super) fn look_into_own_entry(&mut self, now: Now, link: LinkId, held: &DigestEntry) {
        if held.ahead != 0 {
            let (own, from) = (self.own.clone(), self.table.own_watermark());
            self.request(now, link, &own, from);
        }
    }

    /// A peer says that it holds of us what has the version `found`.
    pub(super) fn hear_of_own(&mut self, now: Now, link: LinkId, found: Version) {
        if found <= self.table.own_watermark() || self.leaving.is_some() || mutant!(OwnWordWithheld)
        {
            return;
        }
        let Some(from) = self.links.get(&link).and_then(Link::peer).cloned() else { return };
        self.report_of(link, Report::NeverGivenOut { from, found });
        let again_at = self.outgrown_at.map(|at| at + self.settings.digest_interval);
        if again_at.is_none_or(|at| at <= now.monotonic) && self.table.outgrow(now.wall, found) {
            self.outgrown_at = Some(now.monotonic);
            self.end_rest(now);
        }
    }
}
