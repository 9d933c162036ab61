//! What happens by the clock: rounds, anti-entropy, urgent pushes, pings and time-outs.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::time::Duration;

use rand::RngExt;

use super::link::Link;
use super::{Gossip, HandshakeFailure, Report};
use crate::crdt::Update;
use crate::id::{ReplicaId, Version};
use crate::link::LinkId;
use crate::table::{DirtySet, SlotId};
use crate::time::{Now, Timestamp};
use crate::wire::Message;

/// How many pages of the table a round takes at least to what the operator said: all of a small table at once.
const HEEDED_PAGES_MIN: usize = 64;

/// When the next round and the next digests are due, on the monotonic clock.
#[derive(Debug)]
pub(super) struct Timers {
    next_round: Duration,
    next_digest: Duration,
}

impl Timers {
    /// Both are due now.
    pub(super) fn new(now: Duration) -> Timers {
        Timers { next_round: now, next_digest: now }
    }

    pub(super) fn round_is_due(&self, now: Duration) -> bool {
        now >= self.next_round
    }

    pub(super) fn digest_is_due(&self, now: Duration) -> bool {
        now >= self.next_digest
    }

    /// Nothing is due before this.
    pub(super) fn pause(&mut self, until: Duration) {
        *self = Timers::new(until);
    }

    pub(super) fn next_timeout(&self) -> Duration {
        self.next_round.min(self.next_digest)
    }
}

impl Gossip {
    /// Whether the cluster is small enough that each node sends its changes to all.
    pub(super) fn is_direct(&self) -> bool {
        // Who leaves tells every peer, since what it passes on to a few may be passed on by none of them.
        self.leaving.is_some() || self.links.len() < self.settings.direct_up_to
    }

    /// A random number from 0 to 1.
    pub(super) fn jitter(&mut self) -> f64 {
        self.random.random()
    }

    /// A round: sends what changed since the last one, confirms what came in, and sweeps.
    pub(super) fn round(&mut self, now: Now) {
        self.table.harvest(DirtySet::All);
        let idle = self.has_nothing_to_send();
        self.rest.after_round(idle);
        self.choose_feeders();
        self.look_for_silent(now);
        let links = self.established();
        if self.is_direct() {
            for link in &links {
                self.send_own(now, *link);
            }
        } else {
            self.spread_rumors(now);
        }
        for link in links {
            self.send_ack(link);
            self.tell_members(link);
        }
        self.ask_whether_there(now);
        let pages = self.sweep.run(&self.table, now);
        self.table.heed(now.wall, pages.max(HEEDED_PAGES_MIN));
        // Rounds at the same beat on all nodes add up to twice the overshoot, so each interval is drawn again.
        let factor = 0.9 + self.jitter() / 5.0;
        self.timers.next_round = now.monotonic + self.settings.interval.mul_f64(factor);
        if self.rest.is_resting() {
            let next = self.timers.next_round.max(self.timers.next_digest);
            let to_notice = self.round_to_notice(now.monotonic).unwrap_or(next);
            self.timers.next_round = next.min(to_notice);
        }
    }

    /// Goes on with the rounds, at some moment of a round as if they had never stopped.
    pub(super) fn end_rest(&mut self, now: Now) {
        if self.rest.end() {
            let within = self.settings.interval.mul_f64(self.jitter());
            self.timers.next_round = self.timers.next_round.min(now.monotonic + within);
        }
    }

    /// Whether all peers have, or will get without this round, what there is to send. Harvest before asking.
    fn has_nothing_to_send(&self) -> bool {
        let own = self.table.own_watermark();
        let direct = self.is_direct();
        let mut links = self.links.values().filter(|link| link.peer().is_some());
        !self.has_members_to_tell()
            && links
                .all(|link| !link.owes_ack() && link.streams.has_sent_all(direct.then_some(own)))
            && (direct || self.rumors.all_spread(&self.own, own))
    }

    /// Something urgent is there to be sent: at once, unless the last time was only just now.
    pub(super) fn want_urgent(&mut self, now: Now) {
        if self.urgent.want(now.monotonic) {
            self.push_urgent(now);
        }
    }

    /// Sends the counters that went past the urgent fraction of their limit, without waiting for the round, and passes on those
    /// of others, in a large cluster.
    pub(super) fn push_urgent(&mut self, now: Now) {
        self.urgent.sent(now.monotonic);
        let slots = self.table.harvest(DirtySet::Urgent);
        let rumors = self.urgent_rumors.take_heard();
        if slots.is_empty() && rumors.is_empty() {
            return;
        }
        let direct = self.is_direct();
        let links = if direct { self.established() } else { self.news_links() };
        if !slots.is_empty() {
            self.push_own(now, &links, &slots);
        }
        for (replica, rumor) in rumors {
            let updates = self.table.updates(&replica, &rumor.ahead);
            for link in links.iter().filter(|link| rumor.source != Some(**link)) {
                let queued = self.links.get(link).map_or(usize::MAX, Link::queued);
                if queued < 2 * self.settings.frames_queued_max {
                    self.push_updates(*link, &replica, &updates, true);
                }
            }
        }
    }

    /// Sends own cells out of turn.
    fn push_own(&mut self, now: Now, links: &[LinkId], slots: &[SlotId]) {
        let updates = self.table.updates(&self.own, slots);
        let own = self.own.clone();
        let direct = self.is_direct();
        for link in links.iter().copied() {
            let Some(state) = self.links.get(&link) else { continue };
            if direct && state.streams.has_own_stream() && state.queued() == 0 {
                // Nothing waits before it, so the ordinary stream is as quick, and sends it only once.
                self.send_own(now, link);
            } else if state.queued() < 2 * self.settings.frames_queued_max {
                // A peer that is slower than this gets them with the rest.
                self.push_updates(link, &own, &updates, false);
            }
        }
    }

    pub(super) fn established(&self) -> Vec<LinkId> {
        let links = self.links.iter().filter(|(_, state)| state.peer().is_some());
        links.map(|(link, _)| *link).collect()
    }

    /// Sends what the link is due of the own updates, and of the chains under way.
    fn send_own(&mut self, now: Now, link: LinkId) {
        let own = self.table.own_watermark();
        let direct = self.is_direct();
        if let Some(state) = self.links.get_mut(&link)
            && state.streams.own_is_sent(now.monotonic, own)
            && direct
        {
            state.probe.asked(now.monotonic);
        }
        self.pump(now, link);
    }

    /// Passes on what is new since the last round, of any replica, but not over the link that it came from.
    fn spread_rumors(&mut self, now: Now) {
        let links = self.news_links();
        for (replica, rumor) in self.rumors.take(&self.own) {
            let watermark = self.table.watermark(&replica);
            let mut ahead = self.table.updates(&replica, &rumor.ahead);
            ahead.retain(|update| update.version > watermark);
            for link in links.iter().filter(|link| rumor.source != Some(**link)) {
                self.spread(*link, &replica, (rumor.spread, watermark), &ahead);
            }
            if replica == self.own {
                self.rumors.own_spread(&replica, watermark);
            }
        }
        for link in links {
            self.send_own(now, link);
        }
    }

    /// Passes on a replica's updates between two of its watermarks, and what is ahead of them.
    fn spread(
        &mut self,
        link: LinkId,
        replica: &ReplicaId,
        (spread, watermark): (Version, Version),
        ahead: &[Update],
    ) {
        // A chain under way comes to the rumor by itself.
        if let Some(state) = self.links.get_mut(&link)
            && watermark > spread
            && !state.streams.is_sending(replica)
        {
            state.streams.begin(replica, spread);
        }
        self.push_updates(link, replica, ahead, false);
    }

    pub(super) fn send_ack(&mut self, link: LinkId) {
        if let Some(peer) = self.links.get_mut(&link).and_then(Link::take_ack) {
            let watermark = self.confirmed(&peer);
            self.send(link, &Message::Ack { watermark });
        }
    }

    /// Sends digests to every peer in a small cluster, to a random one in a large one. Also finds out which peers are still
    /// there.
    pub(super) fn anti_entropy_round(&mut self, now: Now) {
        self.drop_silent(now);
        self.believe_waiting(now);
        let mut links = self.established();
        if !self.is_direct() {
            // Those that come first have every second one at least.
            let (first, others) = self.first_and_others(links);
            let is_their_turn = others.is_empty() || !first.is_empty() && self.random.random();
            links = self.draw(if is_their_turn { first } else { others }, 1);
        }
        for link in self.established() {
            self.ping(now, link);
        }
        let connected: BTreeSet<ReplicaId> =
            self.links.values().filter_map(Link::peer).cloned().collect();
        self.table.forget_ended(now.wall, |replica| connected.contains(replica));
        let digest = self.digest_messages(now, false);
        for link in links {
            self.send_parts(link, &digest);
        }
        self.members.forget(now.wall);
        self.tell_of_members();
        self.addresses.forget(now.monotonic);
        self.remind_feeders();
        self.repair.forget(now.monotonic, self.settings.silence_timeout * 2);
        let factor = 0.75 + self.jitter() / 2.0;
        self.timers.next_digest = now.monotonic + self.settings.digest_interval.mul_f64(factor);
    }

    pub(super) fn ping(&mut self, now: Now, link: LinkId) {
        if let Some(state) = self.links.get_mut(&link)
            && state.clock.ping(now.monotonic)
        {
            self.send(link, &Message::Ping {});
        }
    }

    pub(super) fn pong(&mut self, now: Now, link: LinkId, peer: &ReplicaId, wall: Timestamp) {
        self.answered(link);
        let Some(state) = self.links.get_mut(&link) else { return };
        let Some(estimate) = state.clock.pong(now, wall) else { return };
        state.probe.took(estimate.round_trip);
        let (replica, offset_ms) = (peer.clone(), estimate.offset_ms);
        let bound = self.settings.clock_offset_max + estimate.round_trip;
        if u128::from(offset_ms.unsigned_abs()) > bound.as_millis() {
            self.report_of(link, Report::ClockOffset { replica, offset_ms });
        }
    }

    /// Closes links whose peer does not introduce itself, or is not heard any more.
    fn drop_silent(&mut self, now: Now) {
        let silent = self.links.iter().filter(|(_, state)| match state.peer() {
            None => state.open_for(now.monotonic) > self.settings.handshake_timeout,
            Some(_) => state.silent_for(now.monotonic) > self.settings.silence_timeout,
        });
        for link in silent.map(|(link, _)| *link).collect::<Vec<_>>() {
            self.report_if_stranger(link, HandshakeFailure::TimedOut);
            self.drop_link(now, link);
        }
    }
}
