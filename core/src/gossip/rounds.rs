//! What happens by the clock: rounds of news, digests, pings, time-outs, and the sweep of expired counters.

use std::time::Duration;

use rand::RngExt;
use rand::seq::SliceRandom;

use super::link::Link;
use super::{Gossip, LinkId, News, Report};
use crate::crdt::Update;
use crate::id::{ReplicaId, Version};
use crate::table::DirtySet;
use crate::time::{Now, Timestamp};
use crate::wire::Message;

/// The least time between two urgent pushes: a limit that is hit hard must not cost a frame for each call.
const URGENT_SPACING: Duration = Duration::from_millis(1);

/// How long expired counters may wait for the sweep beyond their grace. A shorter time costs an idle node more than all else.
const SWEEP: Duration = Duration::from_secs(20);

/// After this many rounds in a row with nothing to tell, the machine rests: until something changes, there is a round only with
/// each digest.
pub(super) const REST_AFTER: u32 = 20;

impl Gossip {
    /// Whether the cluster is small enough that everybody tells everybody.
    pub(super) fn is_direct(&self) -> bool {
        self.links.len() < self.settings.direct_up_to
    }

    pub(super) fn jitter(&mut self) -> f64 {
        self.random.random()
    }

    pub(super) fn tick(&mut self, now: Now) {
        self.table.harvest(DirtySet::All);
        self.quiet_rounds = match self.has_nothing_to_tell() {
            true => (self.quiet_rounds + 1).min(REST_AFTER),
            false => 0,
        };
        let links = self.established();
        if self.is_direct() {
            for link in &links {
                self.mark_sending(now, *link);
                self.pump(*link);
            }
        } else {
            self.tell_news(now);
        }
        for link in links {
            self.send_ack(link);
        }
        self.sweep(now);
        // Rounds at the same beat on all nodes add up to twice the overshoot, so each is drawn anew.
        let factor = 0.9 + self.jitter() / 5.0;
        self.next_tick = now.monotonic + self.settings.interval.mul_f64(factor);
        if self.quiet_rounds >= REST_AFTER {
            self.next_tick = self.next_tick.max(self.next_digest);
        }
    }

    /// Goes on with the rounds, at some moment of a round as if they had never stopped.
    pub(super) fn end_rest(&mut self, now: Now) {
        if self.must_be_told() {
            let within = self.settings.interval.mul_f64(self.jitter());
            self.next_tick = self.next_tick.min(now.monotonic + within);
        }
        self.quiet_rounds = 0;
    }

    /// Whether all peers have heard, or will hear without this round, what there is to tell. Harvest before asking.
    fn has_nothing_to_tell(&self) -> bool {
        let own = self.table.own_watermark();
        let direct = self.is_direct();
        let heard = |link: &Link| {
            !link.ack_due && link.outgoing.is_empty() && (!direct || link.own_sent >= Some(own))
        };
        let is_old = |(replica, news): (&ReplicaId, &News)| {
            news.ahead.is_empty() && *replica == self.own && news.told >= own
        };
        let mut links = self.links.values().filter(|link| link.peer.is_some());
        links.all(heard) && (direct || self.news.iter().all(is_old))
    }

    /// Something urgent is there to be sent: at once, unless the last time was only just now.
    pub(super) fn want_urgent(&mut self, now: Now) {
        self.urgent_at.get_or_insert(self.urgent_from.max(now.monotonic));
        if self.urgent_from <= now.monotonic {
            self.push_urgent(now);
        }
    }

    /// Sends the counters that went past the urgent fraction of their limit, without waiting for the round.
    pub(super) fn push_urgent(&mut self, now: Now) {
        self.urgent_at = None;
        self.urgent_from = now.monotonic + URGENT_SPACING;
        let slots = self.table.harvest(DirtySet::Urgent);
        if slots.is_empty() {
            return;
        }
        let updates = self.table.updates(&self.own, &slots);
        let own = self.own.clone();
        let direct = self.is_direct();
        for link in if direct { self.established() } else { self.some_links() } {
            let Some(state) = self.links.get(&link) else { continue };
            if direct && state.own_sent.is_some() && state.queued == 0 {
                // Nothing waits before it, so the ordinary stream is as quick, and sends it only once.
                self.mark_sending(now, link);
                self.pump(link);
            } else if state.queued < 2 * self.settings.frames_queued_max {
                // A peer that is slower than this gets them with the rest.
                self.push_updates(link, &own, &updates);
            }
        }
    }

    fn established(&self) -> Vec<LinkId> {
        let links = self.links.iter().filter(|(_, state)| state.peer.is_some());
        links.map(|(link, _)| *link).collect()
    }

    /// A few links, drawn anew each time.
    fn some_links(&mut self) -> Vec<LinkId> {
        let mut links = self.established();
        let (drawn, _) = links.partial_shuffle(&mut self.random, self.settings.fanout);
        drawn.to_vec()
    }

    fn mark_sending(&mut self, now: Now, link: LinkId) {
        let own = self.table.own_watermark();
        if let Some(state) = self.links.get_mut(&link)
            && state.own_sent.is_some_and(|sent| sent < own)
        {
            state.own_sent_at = now.monotonic;
        }
    }

    /// Passes on what is new since the last round, whoever's it is, but not to where it came from.
    fn tell_news(&mut self, now: Now) {
        let own = self.own.clone();
        self.news.entry(own).or_default();
        let links = self.some_links();
        let mut news = std::mem::take(&mut self.news);
        for (replica, news) in &mut news {
            let watermark = self.table.watermark(replica);
            let ahead: Vec<_> = self.table.updates(replica, &std::mem::take(&mut news.ahead));
            let ahead: Vec<_> =
                ahead.into_iter().filter(|update| update.version > watermark).collect();
            for link in links.iter().filter(|link| news.source != Some(**link)) {
                self.tell(*link, replica, (news.told, watermark), &ahead);
            }
            news.told = watermark;
            news.source = None;
        }
        // What was told is no news; of many replicas, few change between two rounds.
        news.retain(|replica, _| *replica == self.own);
        self.news = news;
        for link in links {
            self.mark_sending(now, link);
            self.pump(link);
        }
    }

    /// Passes on a replica's news between two of its watermarks, and what is ahead of them.
    fn tell(
        &mut self,
        link: LinkId,
        replica: &ReplicaId,
        (told, watermark): (Version, Version),
        ahead: &[Update],
    ) {
        // A chain under way comes to the news by itself.
        if let Some(state) = self.links.get_mut(&link)
            && watermark > told
            && !state.outgoing.contains_key(replica)
        {
            let chain = state.begin_chain(told);
            state.outgoing.insert(replica.clone(), chain);
        }
        self.push_updates(link, replica, ahead);
    }

    fn send_ack(&mut self, link: LinkId) {
        let Some(state) = self.links.get_mut(&link) else { return };
        if std::mem::take(&mut state.ack_due)
            && let Some(peer) = state.peer.clone()
        {
            let watermark = self.table.watermark(&peer);
            self.send(link, &Message::Ack(watermark));
        }
    }

    /// Anti-entropy: sends digests to every peer in a small cluster, to a random one in a large one. Also finds out who is
    /// still there.
    pub(super) fn compare_notes(&mut self, now: Now) {
        self.drop_silent(now);
        let mut links = self.established();
        if !self.is_direct() {
            links.shuffle(&mut self.random);
            links.truncate(1);
        }
        for link in self.established() {
            self.ping(now, link);
        }
        for link in links {
            self.send_digest(link);
        }
        self.table.retire_replicas();
        let recent =
            |at: &Duration| now.monotonic.saturating_sub(*at) < self.settings.silence_timeout * 2;
        self.requested_at.retain(|_, at| recent(at));
        self.behind_since.retain(|_, at| recent(at));
        let factor = 0.75 + self.jitter() / 2.0;
        self.next_digest = now.monotonic + self.settings.digest_interval.mul_f64(factor);
    }

    pub(super) fn ping(&mut self, now: Now, link: LinkId) {
        if let Some(state) = self.links.get_mut(&link)
            && state.pinged_at.is_none()
        {
            state.pinged_at = Some(now.monotonic);
            self.send(link, &Message::Ping);
        }
    }

    pub(super) fn pong(&mut self, now: Now, link: LinkId, peer: &ReplicaId, wall: Timestamp) {
        let Some(state) = self.links.get_mut(&link) else { return };
        let Some(pinged_at) = state.pinged_at.take() else { return };
        let round_trip = now.monotonic.saturating_sub(pinged_at);
        let halfway = now.wall.0.saturating_sub(round_trip.as_millis() as u64 / 2);
        let offset_ms = wall.0 as i64 - halfway as i64;
        state.round_trip = Some(round_trip);
        state.clock_offset_ms = Some(offset_ms);
        let bound = self.settings.clock_offset_max + round_trip;
        if u128::from(offset_ms.unsigned_abs()) > bound.as_millis() {
            let replica = peer.clone();
            self.report(Report::ClockOffset { replica, offset_ms });
        }
    }

    /// Closes links whose other end does not introduce itself, or is not heard any more.
    fn drop_silent(&mut self, now: Now) {
        let since = |at: Duration| now.monotonic.saturating_sub(at);
        let silent = self.links.iter().filter(|(_, state)| match state.peer {
            None => since(state.opened_at) > self.settings.handshake_timeout,
            Some(_) => since(state.heard_at) > self.settings.silence_timeout,
        });
        for link in silent.map(|(link, _)| *link).collect::<Vec<_>>() {
            self.drop_link(now, link);
        }
    }

    /// Sweeps as much of the table as the time since the last round is of [`SWEEP`].
    fn sweep(&mut self, now: Now) {
        let elapsed = now.monotonic.saturating_sub(self.swept_at).min(SWEEP);
        self.swept_at = now.monotonic;
        let due = self.table.pages() as f64 * elapsed.as_secs_f64() / SWEEP.as_secs_f64();
        for _ in 0..due.ceil() as usize {
            self.next_sweep = self.table.sweep(now.wall, self.next_sweep);
        }
    }
}
