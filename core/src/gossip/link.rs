//! One connection to a peer, and what is known of the peer by it.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use super::chain::IncomingChains;
use super::comparison::Comparison;
use super::feed::Feed;
use super::operator::OperatorExchange;
use super::peer_clock::PeerClock;
use super::peers::PeerAbsence;
use super::streams::Streams;
use super::suspicion::Probe;
use super::sync_goals::SyncGoals;
use crate::id::ReplicaId;
use crate::link::{LinkName, Proven};
use crate::time::Timestamp;
use crate::wire::{Message, Outbox};

#[derive(Debug)]
pub(super) struct Link {
    dialed: Option<String>,
    /// The IP address of the other end.
    remote: Option<IpAddr>,
    opened_at: Duration,
    heard_at: Duration,
    peer: Option<ReplicaId>,
    /// What it is called where it is told who brought something, once the peer is known.
    name: Option<Arc<LinkName>>,
    /// What the transport has proven of the peer.
    pub proven: Proven,
    /// Why the peer will be absent once the link is gone; `None` as long as the end would be a sign of trouble.
    ends_as: Option<PeerAbsence>,
    /// Frames handed to the shell that have not left yet.
    queued: usize,
    /// Since when something is due and has to wait, because as many frames are queued as may be.
    full_since: Option<Duration>,
    /// Whether that was reported.
    full_is_told: bool,
    outbox: Outbox,
    /// Whether the peer waits to hear our watermark of its updates.
    ack_due: bool,
    /// Whether the peer is about to stop.
    leaving: bool,
    /// Up to which change of the members the peer was told of them.
    pub members_told: u64,
    /// When the peer was heard last before this link, if it is remembered: what it may have missed came after.
    pub away_since: Option<Timestamp>,
    /// What is being sent.
    pub streams: Streams,
    /// What is coming in.
    pub incoming: IncomingChains,
    /// What the peer had when we met.
    pub goals: SyncGoals,
    /// Which of the two tells the other all news.
    pub feed: Feed,
    /// The peer's clock.
    pub clock: PeerClock,
    /// The limits that say something else at the peer.
    pub different_limits: BTreeSet<Arc<str>>,
    /// How long the peer keeps what has ended, if it is another time than here.
    pub grace: Option<Duration>,
    /// The comparison of what both have.
    pub comparison: Comparison,
    /// Whether the peer owes an answer.
    pub probe: Probe,
    /// What the two ask each other of the operator's entries.
    pub operator: OperatorExchange,
}

impl Link {
    /// A link whose peer is not known yet; `dialed` is the address, if it was us. `mark` is that of its [`Streams`].
    pub(super) fn new(
        dialed: Option<String>,
        remote: Option<IpAddr>,
        now: Duration,
        mark: u16,
    ) -> Link {
        Link {
            dialed,
            remote,
            opened_at: now,
            heard_at: now,
            peer: None,
            name: None,
            proven: Proven::Nobody,
            ends_as: None,
            queued: 0,
            full_since: None,
            full_is_told: false,
            outbox: Outbox::default(),
            ack_due: false,
            leaving: false,
            members_told: 0,
            away_since: None,
            streams: Streams::new(now, mark),
            incoming: IncomingChains::default(),
            goals: SyncGoals::default(),
            feed: Feed::default(),
            clock: PeerClock::default(),
            different_limits: BTreeSet::new(),
            grace: None,
            comparison: Comparison::default(),
            probe: Probe::default(),
            operator: OperatorExchange::default(),
        }
    }

    /// The address that we dialed, if it was us.
    pub(super) fn dialed(&self) -> Option<&String> {
        self.dialed.as_ref()
    }

    /// The IP address of the other end, where it is known.
    pub(super) fn remote(&self) -> Option<IpAddr> {
        self.remote
    }

    /// The peer, once the handshake is done.
    pub(super) fn peer(&self) -> Option<&ReplicaId> {
        self.peer.as_ref()
    }

    /// The handshake is done.
    pub(super) fn introduce(&mut self, peer: ReplicaId) {
        let key = self.proven.fingerprint().map(String::from);
        let seen = self.remote.map(|remote| remote.to_string());
        let address = seen.or_else(|| self.dialed.clone());
        self.name = Some(Arc::new(LinkName { node: peer.node.clone(), key, address }));
        self.peer = Some(peer);
    }

    /// What the link is called, once the handshake is done.
    pub(super) fn name(&self) -> Option<Arc<LinkName>> {
        self.name.clone()
    }

    /// Another link leads to the peer, so it does not go away with this one.
    pub(super) fn disown(&mut self) {
        self.peer = None;
    }

    /// The link ends on purpose, which is no sign of trouble.
    pub(super) fn end_as(&mut self, absence: PeerAbsence) {
        self.ends_as = Some(absence);
    }

    /// Why the peer is absent if this was the only link to it and is gone.
    pub(super) fn absence(&self) -> PeerAbsence {
        self.ends_as.unwrap_or(PeerAbsence::Lost)
    }

    /// The peer is about to stop, and waits to hear our watermark of its updates.
    pub(super) fn hear_leaving(&mut self) {
        self.leaving = true;
        self.ack_due = true;
    }

    /// Whether the peer is about to stop.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving
    }

    /// A frame came in.
    pub(super) fn hear(&mut self, now: Duration) {
        self.heard_at = now;
    }

    /// How long ago the peer was last heard.
    pub(super) fn silent_for(&self, now: Duration) -> Duration {
        now.saturating_sub(self.heard_at)
    }

    /// How long ago the connection was established.
    pub(super) fn open_for(&self, now: Duration) -> Duration {
        now.saturating_sub(self.opened_at)
    }

    /// Adds a message to the frame under way; returns the frame that had to be finished first, which counts as queued.
    pub(super) fn push(&mut self, message: &Message, bytes_max: usize) -> Option<Vec<u8>> {
        let frame = self.outbox.push(message, bytes_max)?;
        self.queued += 1;
        Some(frame)
    }

    /// The frame under way, if there is one, which counts as queued.
    pub(super) fn finish_frame(&mut self) -> Option<Vec<u8>> {
        let frame = self.outbox.finish()?;
        self.queued += 1;
        Some(frame)
    }

    /// Queued frames have left.
    pub(super) fn left(&mut self, frames: usize) {
        self.queued = self.queued.saturating_sub(frames);
        self.full_since = None;
    }

    /// Something is due, and as many frames are queued as may be. Returns whether that has gone on for `patience` without
    /// that a single frame has left, once for each time that it does.
    pub(super) fn is_stuck(&mut self, now: Duration, patience: Duration) -> bool {
        let Some(since) = self.full_since else {
            (self.full_since, self.full_is_told) = (Some(now), false);
            return false;
        };
        let is_stuck = !self.full_is_told && now.saturating_sub(since) >= patience;
        self.full_is_told |= is_stuck;
        is_stuck
    }

    /// How many frames are queued.
    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    /// The peer waits to hear our watermark of its updates.
    pub(super) fn owe_ack(&mut self) {
        self.ack_due = true;
    }

    /// Whether the peer waits to hear our watermark.
    pub(super) fn owes_ack(&self) -> bool {
        self.ack_due
    }

    /// Whether the peer waited to hear our watermark, and which peer; it is told now.
    pub(super) fn take_ack(&mut self) -> Option<ReplicaId> {
        core::mem::take(&mut self.ack_due).then(|| self.peer.clone()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_queued_until_they_have_left() {
        let mut link = Link::new(None, None, Duration::ZERO, 0);
        assert_eq!(link.finish_frame(), None);
        assert!(link.push(&Message::Ping {}, 4).is_none());
        assert_eq!(link.queued(), 0);
        while link.push(&Message::Ping {}, 4).is_none() {}
        assert!(link.finish_frame().is_some());
        assert_eq!(link.queued(), 2);
        link.left(1);
        link.left(7);
        assert_eq!(link.queued(), 0);
    }

    #[test]
    fn an_ack_is_owed_once() {
        let mut link = Link::new(None, None, Duration::ZERO, 0);
        link.owe_ack();
        assert!(link.owes_ack());
        assert_eq!(link.take_ack(), None, "the peer is not known");
        assert!(!link.owes_ack());
    }
}
