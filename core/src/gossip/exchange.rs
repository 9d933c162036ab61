//! Digests, deltas and requests: finding out what either side lacks, and sending it.

use alloc::borrow::ToOwned;
use alloc::string::ToString;
use alloc::vec::Vec;

use super::chain::Arrival;
use super::{Gossip, Report};
use crate::crdt::{Delta, DigestEntry, UPDATE_BYTES_MAX, Update};
use crate::id::{ReplicaId, Version};
use crate::link::LinkId;
use crate::mutant::mutant;
use crate::table::Applied;
use crate::time::{Now, Timestamp};
use crate::wire::{Message, read_frame};

/// Room in a frame for what is around the updates of a delta, and around the entries of a digest.
pub(super) const ENVELOPE_BYTES: usize = 512;
/// The most that an entry of a digest takes.
const DIGEST_ENTRY_BYTES: usize = 128;

impl Gossip {
    /// Takes in a frame: any number of messages.
    pub(super) fn frame(&mut self, now: Now, link: LinkId, bytes: &[u8]) {
        let Some(state) = self.links.get_mut(&link) else { return };
        state.hear(now.monotonic);
        let received = match read_frame(bytes, self.settings.frame_bytes_max) {
            Ok(received) => received,
            Err(error) => {
                self.report(Report::BadFrame { link, error: error.to_string() });
                return self.drop_link(now, link);
            }
        };
        self.table.skipped_messages(received.unknown);
        for message in received.messages {
            // A message may have closed the link.
            let Some(state) = self.links.get(&link) else { return };
            match (message, state.peer().cloned()) {
                (Message::Hello { protocols, replica, limits_digest }, _) => {
                    self.hello(now, link, &protocols, replica, limits_digest);
                }
                (Message::Goodbye { reason }, _) => self.goodbye(now, link, reason),
                (message, Some(peer)) => self.message(now, link, &peer, message),
                (_, None) => {
                    let error = "it does not begin with a hello".to_owned();
                    self.report(Report::BadFrame { link, error });
                    return self.drop_link(now, link);
                }
            }
        }
    }

    fn message(&mut self, now: Now, link: LinkId, peer: &ReplicaId, message: Message) {
        if matches!(message, Message::Delta(_) | Message::Push { .. }) {
            // There is something to pass on or to confirm.
            self.end_rest(now);
        }
        match message {
            Message::Digest { after, entries, last } => {
                self.digest(now, link, peer, after, entries, last);
            }
            Message::Delta(delta) => self.delta(now, link, peer, &delta),
            Message::Push { replica, updates, at_once } => {
                let before = self.table.watermark(&replica);
                let mut applied = self.table.apply(now.wall, &replica, &updates);
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
            Message::Ack { watermark } => self.acked(link, watermark),
            Message::Request { replica, from } => {
                let known = self.table.knows(&replica);
                if let Some(state) = self.links.get_mut(&link).filter(|_| known) {
                    state.streams.begin(&replica, from);
                    self.pump(now, link);
                }
            }
            Message::Ping {} => self.send(link, &Message::Pong { wall: now.wall }),
            Message::Pong { wall } => self.pong(now, link, peer, wall),
            Message::Conflict { other } => self.report(Report::NodeIdInUse { other }),
            Message::Limits { limits } => self.compare_limits(link, &limits),
            Message::Feed { passes_on, is_fed } => self.hear_terms(now, link, passes_on, is_fed),
            Message::Hello { .. } | Message::Goodbye { .. } => {}
        }
    }

    /// Sends what we have of every replica, in as many parts as it takes.
    pub(super) fn send_digest(&mut self, link: LinkId) {
        let digest = self.table.digest();
        let per_part = (self.settings.frame_bytes_max.saturating_sub(ENVELOPE_BYTES)
            / DIGEST_ENTRY_BYTES)
            .max(1);
        let mut parts = digest.chunks(per_part).peekable();
        let mut after = None;
        while let Some(part) = parts.next() {
            let last = parts.peek().is_none();
            let entries = part.to_vec();
            let next = part.last().map(|entry| entry.replica.clone());
            self.send(link, &Message::Digest { after, entries, last });
            after = next;
        }
    }

    fn digest(
        &mut self,
        now: Now,
        link: LinkId,
        peer: &ReplicaId,
        after: Option<ReplicaId>,
        entries: Vec<DigestEntry>,
        last: bool,
    ) {
        let end = entries.last().map(|entry| entry.replica.clone());
        let names_own = entries.iter().find(|entry| entry.replica == self.own);
        let covers_own = after.is_none_or(|after| after < self.own)
            && (last || end.is_some_and(|end| self.own <= end));
        if let Some(held) = names_own.map(|entry| entry.watermark) {
            self.place_own_stream(now, link, held);
        } else if covers_own {
            self.place_own_stream(now, link, Version::ZERO);
        }
        for theirs in &entries {
            if theirs.replica != self.own {
                self.compare(now, link, peer, theirs);
            }
        }
        if let Some(state) = self.links.get_mut(&link) {
            let missing = entries.iter().filter(|entry| {
                entry.replica != self.own && self.table.watermark(&entry.replica) < entry.watermark
            });
            state.goals.add(missing.map(|entry| (entry.replica.clone(), entry.watermark)), last);
        }
        self.pump(now, link);
    }

    /// Begins or corrects the stream of own updates: the peer says that it has them up to `held`.
    fn place_own_stream(&mut self, now: Now, link: LinkId, held: Version) {
        let patience = self.settings.digest_interval.min(self.settings.interval * 4);
        if let Some(state) = self.links.get_mut(&link) {
            state.streams.place_own(&self.own, held, now.monotonic, patience);
        }
    }

    /// Asks the peer for what it has of a replica and we have not.
    fn compare(&mut self, now: Now, link: LinkId, peer: &ReplicaId, theirs: &DigestEntry) {
        let ours = self.table.digest_entry(&theirs.replica);
        // What a peer has beyond its watermark may be new to us even if ours is higher.
        let behind =
            ours.watermark < theirs.watermark || theirs.ahead != 0 && theirs.ahead != ours.ahead;
        if !behind {
            return self.repair.not_behind(&theirs.replica);
        }
        let has_own_link = theirs.replica == *peer
            || self.links.values().any(|link| link.peer() == Some(&theirs.replica));
        if self.is_direct() && has_own_link {
            // Its own stream brings this, unless something is wrong with it.
            let behind_for = self.repair.behind_for(&theirs.replica, now.monotonic);
            if behind_for < self.settings.digest_interval * 2 {
                return;
            }
        }
        self.request(now, link, &theirs.replica, ours.watermark);
    }

    /// Asks for a replica's updates, unless a peer was asked for them just now.
    fn request(&mut self, now: Now, link: LinkId, replica: &ReplicaId, from: Version) {
        if self.repair.ask(replica, now.monotonic, self.settings.digest_interval / 2) {
            self.send(link, &Message::Request { replica: replica.clone(), from });
        }
    }

    fn delta(&mut self, now: Now, link: LinkId, peer: &ReplicaId, delta: &Delta) {
        let before = self.table.watermark(&delta.replica);
        let applied = self.table.apply(now.wall, &delta.replica, &delta.updates);
        // What was refused is not held, so the watermark must not vouch for it.
        let has_hole =
            applied.without_room || applied.implausible > 0 || !self.can_vouch(now.wall, delta);
        self.applied(link, peer, (&delta.replica, before), applied);
        let mut whole = self.part_arrived(now, link, delta, has_hole);
        if mutant!(WatermarkMovedByPart) {
            whole = whole.or(delta.updates.last().map(|update| update.version));
        }
        let moved = match whole {
            // The watermark stays; the cells are asked for again when the next digest shows them missing.
            _ if has_hole => return,
            None => return,
            Some(watermark) => {
                self.vouched_as_of = self.vouched_as_of.max(delta.as_of.unwrap_or_default());
                self.table.complete(&delta.replica, delta.from, watermark)
            }
        };
        if let Some(state) = self.links.get_mut(&link)
            && delta.replica == *peer
        {
            state.owe_ack();
        }
        let watermark = self.table.watermark(&delta.replica);
        if watermark > before {
            self.repair.moved(&delta.replica);
            self.reached(&delta.replica, watermark);
            if !self.is_direct() {
                // Also if all cells were here: those who got them by a push wait for it.
                self.rumors.hear(&delta.replica, before, link, Vec::new());
            }
        }
        if !moved {
            self.request(now, link, &delta.replica, watermark);
        }
    }

    /// Whether a chain's watermark can be believed: by a clock that is far ahead of ours, counters have ended and were dropped
    /// that are live here. Who takes such a node's word would never ask anyone for them again.
    fn can_vouch(&self, now: Timestamp, delta: &Delta) -> bool {
        let latest = now.plus(self.table.grace() / 2);
        delta.as_of.is_none_or(|as_of| as_of <= latest) || mutant!(WatermarkOfFutureBelieved)
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

    fn reached(&mut self, replica: &ReplicaId, watermark: Version) {
        for state in self.links.values_mut() {
            state.goals.reached(replica, watermark);
        }
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
            let updates = applied.implausible;
            let (from, about) = (peer.clone(), about.clone());
            self.report(Report::Implausible { from, about, updates });
        }
        if self.is_direct() || applied.new.is_empty() {
            return;
        }
        self.rumors.hear(about, before, link, applied.new);
    }

    fn acked(&mut self, link: LinkId, version: Version) {
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
            let replicas = state.streams.replicas();
            if replicas.is_empty() {
                return;
            }
            for replica in replicas {
                let Some(state) = self.links.get_mut(&link) else { return };
                if state.queued() >= self.settings.frames_queued_max {
                    return;
                }
                let delta = state.streams.next_delta(&self.table, &self.own, &replica, bytes_max);
                if let Some(mut delta) = delta {
                    delta.as_of = delta.watermark.map(|_| as_of);
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
