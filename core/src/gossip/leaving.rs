//! Leaving: a node that stops sends what is left of its own updates to every peer, and says goodbye once one peer that stays has
//! confirmed all of it, or has not for too long.

use alloc::vec::Vec;
use core::time::Duration;

use super::link::Link;
use super::{Gossip, PeerAbsence};
use crate::id::Version;
use crate::link::LinkId;
use crate::mutant::mutant;
use crate::table::DirtySet;
use crate::time::Now;
use crate::wire::{CloseReason, Message};

#[derive(Debug)]
pub(super) struct Leaving {
    /// It waits for a confirmation until then; `None` once it has said goodbye.
    until: Option<Duration>,
}

impl Gossip {
    /// Begins to leave.
    pub(super) fn stop(&mut self, now: Now) {
        if self.leaving.is_some() {
            return;
        }
        self.table.harvest(DirtySet::All);
        self.addresses = super::addresses::Addresses::default();
        self.leaving = Some(Leaving { until: Some(now.monotonic + self.settings.leave_timeout) });
        for link in self.staying_or_leaving() {
            // Who learns that we go confirms at once, and does not take our confirmation for one that lasts. By the digest it
            // asks for what it has not got of others.
            self.send(link, &Message::Leaving {});
            if !mutant!(GoodbyeFirst) {
                self.pump(now, link);
                self.send_digest(now, link, false);
            }
        }
    }

    /// Whether the machine has said goodbye, after [`Input::Stop`](super::Input::Stop): once its last frames are sent, the
    /// connections may be closed.
    pub fn has_left(&self) -> bool {
        self.leaving.as_ref().is_some_and(|leaving| leaving.until.is_none())
    }

    /// How many frames were handed to the shell and have not left yet.
    pub fn frames_queued(&self) -> usize {
        self.links.values().map(Link::queued).sum()
    }

    /// How many updates of our own no peer has confirmed, of those that are connected and stay, or were lost; 0 where there was
    /// never a peer. When the node [has left](Self::has_left), these are on its disk only.
    pub fn unconfirmed(&self) -> u64 {
        let linked = self.links.values().filter(|link| link.peer().is_some() && !link.is_leaving());
        let linked = linked.map(|link| link.streams.acknowledged());
        let lost = self.members.iter().filter(|met| met.absence == Some(PeerAbsence::Lost));
        let confirmed = linked.chain(lost.map(|met| met.acked)).max();
        if self.members.iter().next().is_none() && !self.has_peers {
            return 0;
        }
        self.table.own_watermark().0.saturating_sub(confirmed.unwrap_or(Version::ZERO).0)
    }

    /// Says goodbye if it is time.
    pub(super) fn leave_if_confirmed(&mut self, now: Now) {
        let Some(until) = self.leaving.as_ref().and_then(|leaving| leaving.until) else { return };
        let own = self.table.own_watermark();
        let mut staying = self.links.values().filter(|link| link.peer().is_some());
        let confirms = |link: &Link| {
            // Of the chains that it asked for none may break off: it may be about others whom we alone have heard.
            !link.is_leaving() && link.streams.lag(own) == 0 && link.streams.has_sent_all(None)
        };
        let is_time = now.monotonic >= until
            || staying.clone().all(Link::is_leaving)
            || staying.any(confirms)
            || mutant!(GoodbyeFirst);
        if !is_time {
            return;
        }
        self.leaving = Some(Leaving { until: None });
        // Also where the other has not introduced itself: it has our name already, or is about to.
        for link in self.links.keys().copied().collect::<Vec<_>>() {
            self.send(link, &Message::Goodbye { reason: CloseReason::Stopping });
        }
    }

    /// When the machine stops waiting for a confirmation.
    pub(super) fn leaves_at(&self) -> Option<Duration> {
        self.leaving.as_ref().and_then(|leaving| leaving.until)
    }

    fn staying_or_leaving(&self) -> Vec<LinkId> {
        let links = self.links.iter().filter(|(_, link)| link.peer().is_some());
        links.map(|(link, _)| *link).collect()
    }
}
