//! Frames, deltas and requests: sending what a peer lacks, and taking in what it sends.

use alloc::borrow::ToOwned;
use alloc::string::ToString;

use super::chain::{Arrival, Vouched};
use super::comparison::DigestPart;
use super::link::Link;
use super::{Gossip, PeerAbsence, Report};
use crate::crdt::{Delta, UPDATE_BYTES_MAX, Update};
use crate::id::{ReplicaId, Version};
use crate::link::LinkId;
use crate::mutant::mutant;
use crate::table::{Applied, Bound};
use crate::time::Now;
use crate::wire::{CloseReason, FrameError, Message, read_frame};

/// Room in a frame for what is around the updates of a delta, and around the entries of a digest.
pub(super) const ENVELOPE_BYTES: usize = 512;
/// The most that news of others takes for what it relies on, in a large cluster.
const BEGUN_BYTES_MAX: usize = 512;

impl Gossip {
    /// Takes in a frame: any number of messages.
    pub(super) fn frame(&mut self, now: Now, link: LinkId, bytes: &[u8]) {
        let Some(state) = self.links.get_mut(&link) else { return };
        state.hear(now.monotonic);
        if self.keep_for_later(now, link, bytes) {
            return;
        }
        let Some(state) = self.links.get(&link) else { return };
        let received = match read_frame(bytes, self.settings.frame_bytes_max) {
            Ok(received) => received,
            Err(FrameError::TooLong(..)) if state.peer().is_some() => {
                self.refuse(Bound::FrameBytes);
                return self.close_on_purpose(
                    now,
                    link,
                    CloseReason::FrameTooLong,
                    PeerAbsence::Refused,
                );
            }
            Err(error) => {
                self.report_of(link, Report::BadFrame { link, error: error.to_string() });
                return self.drop_link(now, link);
            }
        };
        self.table.skipped_messages(received.unknown);
        for message in received.messages {
            // A message may have closed the link.
            let Some(state) = self.links.get(&link) else { return };
            match (message, state.peer().cloned()) {
                (hello @ Message::Hello { .. }, _) => {
                    self.hello(now, link, hello);
                    if self.keep_for_later(now, link, bytes) {
                        return;
                    }
                }
                (Message::Goodbye { reason }, _) => self.goodbye(now, link, reason),
                (message, Some(peer)) => self.message(now, link, &peer, message),
                (_, None) => {
                    let error = "it does not begin with a hello".to_owned();
                    self.report_of(link, Report::BadFrame { link, error });
                    return self.drop_link(now, link);
                }
            }
        }
        if self.links.get(&link).is_some_and(Link::is_leaving) {
            // It waits to hear that before it goes.
            self.send_ack(link);
        }
    }

    fn message(&mut self, now: Now, link: LinkId, peer: &ReplicaId, message: Message) {
        if matches!(message, Message::Delta(_) | Message::Push { .. }) {
            // There is something to pass on or to confirm.
            self.end_rest(now);
        }
        match message {
            Message::Digest { after, entries, last, others, buckets, operator } => {
                let part = DigestPart { after, entries, last, others, buckets, operator };
                self.digest(now, link, peer, part);
            }
            Message::OperatorAsk { known } => self.tell_operator(now, link, &known),
            Message::OperatorEntries { entries } => {
                self.hear_operator(now, link, peer, &entries);
            }
            Message::Entries { entries, last } => self.entries(now, link, peer, &entries, last),
            Message::Push { replica, updates, .. } if replica == self.own => {
                self.hear_own_updates(now, link, &updates);
            }
            Message::Delta(delta) if delta.replica == self.own => {
                self.hear_of_own(now, link, delta.watermark.unwrap_or_default());
                self.hear_own_updates(now, link, &delta.updates);
            }
            Message::Delta(Delta { replica, .. }) | Message::Push { replica, .. }
                if self.is_left_to_its_writer(now, peer, &replica) => {}
            Message::Delta(delta) => self.delta(now, link, peer, &delta),
            Message::Push { replica, updates, at_once } => {
                let before = self.table.watermark(&replica);
                let mut applied = self.merge(now, link, &replica, &updates);
                // What a node pushes of its own is urgent.
                if !self.is_direct() && (at_once || replica == *peer) && !applied.new.is_empty() {
                    let new = core::mem::take(&mut applied.new);
                    self.urgent_rumors.hear(&replica, before, link, new);
                }
                self.applied(link, peer, (&replica, before), applied);
                if let Some(update) = updates.last().filter(|_| mutant!(WatermarkMovedByPush)) {
                    self.table.complete(&replica, before, update.version);
                }
            }
            Message::Ack { watermark } => self.acked(now, link, watermark),
            Message::Request { replica, from } => {
                if replica == self.own {
                    self.hear_of_own(now, link, from);
                }
                let known = self.table.knows(&replica);
                if let Some(state) = self.links.get_mut(&link).filter(|_| known) {
                    state.streams.begin(&replica, from);
                    self.pump(now, link);
                }
            }
            Message::Ping {} => self.send(link, &Message::Pong { wall: now.wall }),
            Message::Pong { wall } => {
                self.pong(now, link, peer, wall);
                self.is_there(now, link);
            }
            Message::Conflict { other } => self.report_of(link, Report::NodeIdInUse { other }),
            Message::Limits { limits, grace_ms } => {
                self.compare_grace(link, grace_ms);
                self.compare_limits(link, &limits);
            }
            Message::Members { members } => self.hear_of_members(now, link, members),
            Message::Leaving {} => {
                if let Some(state) = self.links.get_mut(&link) {
                    state.hear_leaving();
                }
            }
            Message::Feed { passes_on, is_fed } => self.hear_terms(now, link, passes_on, is_fed),
            Message::Hello { .. } | Message::Goodbye { .. } => {}
        }
    }

    /// Begins or corrects the stream of own updates: the peer says that it has them up to `held`.
    pub(super) fn place_own_stream(&mut self, now: Now, link: LinkId, held: Version) {
        self.hear_of_own(now, link, held);
        let held = held.min(self.table.own_watermark());
        let patience = self.settings.digest_interval.min(self.settings.interval * 4);
        if let Some(state) = self.links.get_mut(&link) {
            state.streams.place_own(&self.own, held, now.monotonic, patience);
        }
    }

    /// Asks for a replica's updates, unless a peer was asked for them just now.
    pub(super) fn request(&mut self, now: Now, link: LinkId, replica: &ReplicaId, from: Version) {
        if self.repair.ask(replica, now.monotonic, self.settings.digest_interval / 2) {
            self.send(link, &Message::Request { replica: replica.clone(), from });
        }
    }

    fn delta(&mut self, now: Now, link: LinkId, peer: &ReplicaId, delta: &Delta) {
        let before = self.table.watermark(&delta.replica);
        let latest = self.table.version_max(now.wall, &delta.replica);
        let mut applied = self.merge(now, link, &delta.replica, &delta.updates);
        if delta.watermark.is_some_and(|to| to > latest) {
            self.table.count_implausible();
            applied.implausible += 1;
        }
        // What was refused is not held, so the watermark must not vouch for it.
        let has_hole = !applied.refused.is_empty()
            || applied.implausible > 0
            || !self.can_vouch(now.wall, delta);
        self.applied(link, peer, (&delta.replica, before), applied);
        let mut whole = self.part_arrived(now, link, delta, has_hole);
        if mutant!(WatermarkMovedByPart) {
            whole = whole.or(delta.updates.last().map(|update| update.version));
        }
        // Where there is a hole, the watermark stays; the cells are asked for again when the next digest shows them missing.
        let Some(watermark) = whole.filter(|_| !has_hole) else { return };
        if let Some(state) = self.links.get_mut(&link).filter(|_| delta.replica == *peer) {
            state.owe_ack();
        }
        let vouched = Vouched { from: delta.from, watermark, as_of: delta.as_of };
        self.hear_vouched(now, link, (&delta.replica, before), vouched, &delta.begun);
    }

    /// Merges what a link brought.
    fn merge(&self, now: Now, link: LinkId, replica: &ReplicaId, updates: &[Update]) -> Applied {
        match self.links.get(&link).and_then(Link::name) {
            Some(name) => self.table.apply_from(now.wall, &name, replica, updates),
            // It was closed by a message of the same frame.
            None => Applied::default(),
        }
    }

    /// Notes a part of a chain; returns the watermark that the chain leads to once it is whole.
    fn part_arrived(
        &mut self,
        now: Now,
        link: LinkId,
        delta: &Delta,
        has_hole: bool,
    ) -> Option<Version> {
        match self.links.get_mut(&link)?.incoming.arrived(delta, has_hole) {
            Arrival::Whole(watermark) => return Some(watermark),
            Arrival::UnderWay => self.repair.answer_under_way(&delta.replica, now.monotonic),
            Arrival::Void => {}
        }
        None
    }

    /// Notes what a peer brought, for the next round and for the operator. `about` is the replica whose cells came, and our
    /// watermark of it before.
    fn applied(
        &mut self,
        link: LinkId,
        peer: &ReplicaId,
        about: (&ReplicaId, Version),
        applied: Applied,
    ) {
        let (about, before) = about;
        if applied.implausible > 0 {
            self.implausible(link, peer, about, applied.implausible);
        }
        for bound in applied.refused {
            self.bound_reached(bound);
        }
        if self.is_direct() || applied.new.is_empty() {
            return;
        }
        self.rumors.hear(about, before, link, applied.new);
    }

    pub(super) fn implausible(
        &mut self,
        link: LinkId,
        peer: &ReplicaId,
        about: &ReplicaId,
        updates: usize,
    ) {
        let (from, about) = (peer.clone(), about.clone());
        self.report_of(link, Report::Implausible { from, about, updates });
    }

    fn acked(&mut self, now: Now, link: LinkId, version: Version) {
        self.answered(link);
        self.hear_of_own(now, link, version);
        let version = version.min(self.table.own_watermark());
        if let Some(state) = self.links.get_mut(&link) {
            state.streams.acked(version);
        }
    }

    /// Sends what the link is due, as long as it is not backed up: the chains under way in turn.
    pub(super) fn pump(&mut self, now: Now, link: LinkId) {
        let as_of = now.wall.max(self.vouched_as_of);
        let bytes_max = self.settings.frame_bytes_max.saturating_sub(ENVELOPE_BYTES);
        let direct = self.is_direct();
        loop {
            let own_watermark = self.table.own_watermark();
            let Some(state) = self.links.get_mut(&link) else { return };
            if state.peer().is_none() {
                return;
            }
            if direct {
                state.streams.follow_own(&self.own, own_watermark);
            }
            if state.streams.has_sent_all(None) && !state.comparison.owes() {
                return;
            }
            if state.queued() >= self.settings.frames_queued_max {
                return self.queue_is_full(now, link);
            }
            if let Some(bucket) = state.comparison.next_owed() {
                self.send_bucket(now, link, bucket);
                continue;
            }
            let replicas = state.streams.replicas(&self.own);
            for replica in replicas {
                let Some(state) = self.links.get_mut(&link) else { return };
                if state.queued() >= self.settings.frames_queued_max {
                    return self.queue_is_full(now, link);
                }
                let is_own = replica == self.own;
                let begun_max = match direct {
                    // What is counted here relies on nothing of others.
                    _ if is_own => 0,
                    true => bytes_max / 4,
                    // All is passed on by chains there.
                    false => (bytes_max / 4).min(BEGUN_BYTES_MAX),
                };
                let bytes_max = bytes_max - begun_max;
                let delta = state.streams.next_delta(&self.table, &self.own, &replica, bytes_max);
                if let Some(mut delta) = delta {
                    if delta.watermark.is_some() {
                        delta.as_of = Some(as_of);
                        if !is_own {
                            delta.begun = self.table.begun(now.wall, begun_max);
                        }
                    }
                    self.send(link, &Message::Delta(delta));
                }
            }
        }
    }

    /// Splits updates into messages that fit in a frame; `at_once` asks the receiver to pass them on without waiting.
    pub(super) fn push_updates(
        &mut self,
        link: LinkId,
        replica: &ReplicaId,
        updates: &[Update],
        at_once: bool,
    ) {
        let bytes_max = self.settings.frame_bytes_max.saturating_sub(ENVELOPE_BYTES);
        let mut rest = updates;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = rest.iter().take_while(|update| {
                bytes += update.key.len() + UPDATE_BYTES_MAX;
                bytes <= bytes_max
            });
            let (part, later) = rest.split_at(fits.count().max(1));
            let (replica, updates) = (replica.clone(), part.to_vec());
            self.send(link, &Message::Push { replica, updates, at_once });
            rest = later;
        }
    }
}
