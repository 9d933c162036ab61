//! Comparing what two nodes have: each finds out what it lacks, and asks for it.
//!
//! A digest names the members, whose entries change all the time, and has one checksum over all other replicas. Where that is
//! another one than here, the receiver answers with a digest that has the checksums of 256 buckets, and is sent the entries of
//! the buckets that differ, one bucket after the other as the queue takes them. So lives that ended cost nothing, as long as both
//! have the same of them.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use super::Gossip;
use super::exchange::ENVELOPE_BYTES;
use super::link::Link;
use crate::crdt::DigestEntry;
use crate::id::{ReplicaId, Version};
use crate::link::LinkId;
use crate::table::BUCKETS;
use crate::time::Now;
use crate::wire::Message;

/// The most that an entry of a digest takes.
const DIGEST_ENTRY_BYTES: usize = 136;
/// The most that the checksums of all buckets take.
const BUCKETS_BYTES: usize = BUCKETS * 5 + 16;
/// How long the entries that were asked for may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long it may take to fetch what one entry shows to be missing, before its bucket is worth comparing again.
const FETCH_TIME: Duration = Duration::from_micros(200);

/// A part of a digest, as [`Message::Digest`] has it.
pub(super) struct DigestPart {
    pub after: Option<ReplicaId>,
    pub entries: Vec<DigestEntry>,
    pub last: bool,
    pub others: Option<u32>,
    pub buckets: Vec<u32>,
    pub operator: Option<u64>,
}

/// How far the comparison with one peer has come.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// The replicas that the digest that is coming in has named so far.
    named: Vec<ReplicaId>,
    /// The buckets whose entries the peer waits for.
    owed: BTreeSet<usize>,
    /// Whether the last of them has its message still to come, also where there is none.
    owes_end: bool,
    /// Not before this is the peer asked for buckets again.
    ask_from: Duration,
    /// How many entries of the buckets that come in show something that is missing.
    missing: u32,
}

impl Comparison {
    /// Takes the next bucket that the peer waits for.
    pub(super) fn next_owed(&mut self) -> Option<Owed> {
        let bucket = self.owed.pop_first();
        if bucket.is_none() && !self.owes_end {
            return None;
        }
        let last = self.owed.is_empty();
        self.owes_end = !last;
        Some(Owed { bucket, last })
    }

    /// Whether the peer waits for any.
    pub(super) fn owes(&self) -> bool {
        self.owes_end
    }
}

/// A bucket to be sent, if there is any; and whether it is the last.
pub(super) struct Owed {
    bucket: Option<usize>,
    last: bool,
}

impl Gossip {
    /// Says what we have: of each member by name, of all others by a checksum; `with_buckets` by those of all buckets. In as many
    /// parts as it takes.
    pub(super) fn digest_messages(&self, now: Now, with_buckets: bool) -> Vec<Message> {
        let members = self.links.values().filter_map(Link::peer);
        let entries = self.table.digest_of(members);
        let sums = self.table.bucket_sums(now.wall, entries.iter().map(|entry| &entry.replica));
        let buckets = if with_buckets { sums.halves() } else { Vec::new() };
        let mut parts = entries.chunks(self.entries_per_message(with_buckets)).peekable();
        let (mut messages, mut after) = (Vec::new(), None);
        while let Some(part) = parts.next() {
            let last = parts.peek().is_none();
            messages.push(Message::Digest {
                after,
                entries: part.to_vec(),
                last,
                others: last.then(|| sums.total()),
                buckets: if last { buckets.clone() } else { Vec::new() },
                operator: self.table.entries_checksum(now.wall).filter(|_| last),
            });
            after = part.last().map(|entry| entry.replica.clone());
        }
        messages
    }

    /// Sends a digest.
    pub(super) fn send_digest(&mut self, now: Now, link: LinkId, with_buckets: bool) {
        let digest = self.digest_messages(now, with_buckets);
        self.send_parts(link, &digest);
    }

    /// Sends the parts of a digest. A peer is told of itself what it has brought itself: what others said beyond that, it
    /// sends again, and so a lie about it wears off.
    pub(super) fn send_parts(&mut self, link: LinkId, digest: &[Message]) {
        let peer = self.links.get(&link).and_then(Link::peer).cloned();
        let confirmed = peer.map(|peer| (self.confirmed(&peer), peer));
        for message in digest {
            let mut told = message.clone();
            if let (Message::Digest { entries, .. }, Some((confirmed, peer))) =
                (&mut told, &confirmed)
            {
                let its_own = entries.iter_mut().filter(|entry| entry.replica == *peer);
                its_own.for_each(|entry| entry.watermark = entry.watermark.min(*confirmed));
            }
            self.send(link, &told);
        }
    }

    /// Up to where a peer's updates are here for certain. Where nodes hear of most others through third ones, those are believed.
    pub(super) fn confirmed(&self, peer: &ReplicaId) -> Version {
        let watermark = self.table.watermark(peer);
        match self.is_direct() {
            true => watermark.min(self.table.confirmed(peer)),
            false => watermark,
        }
    }

    fn entries_per_message(&self, with_buckets: bool) -> usize {
        let around = ENVELOPE_BYTES + if with_buckets { BUCKETS_BYTES } else { 0 };
        (self.settings.frame_bytes_max.saturating_sub(around) / DIGEST_ENTRY_BYTES).max(1)
    }

    /// Takes in a part of a digest.
    pub(super) fn digest(&mut self, now: Now, link: LinkId, peer: &ReplicaId, part: DigestPart) {
        let DigestPart { after, entries, last, others, buckets, operator } = part;
        let end = entries.last().map(|entry| entry.replica.clone());
        let names_own = entries.iter().find(|entry| entry.replica == self.own);
        let covers_own = after.as_ref().is_none_or(|after| *after < self.own)
            && (last || end.is_some_and(|end| self.own <= end));
        if let Some(held) = names_own.map(|entry| entry.watermark) {
            self.place_own_stream(now, link, held);
        } else if covers_own {
            self.place_own_stream(now, link, Version::ZERO);
        }
        self.compare_all(now, link, peer, &entries);
        let Some(state) = self.links.get_mut(&link) else { return };
        let named = &mut state.comparison.named;
        if after.is_none() {
            named.clear();
        }
        // There are no more members than links, and the peer itself.
        if named.len() <= self.settings.links_max {
            named.extend(entries.into_iter().map(|entry| entry.replica));
        }
        if last {
            let named = core::mem::take(named);
            self.compare_others(now, link, &named, others, &buckets);
            self.compare_operator(now, link, operator);
        }
        self.pump(now, link);
    }

    /// Compares the checksums of a digest, which has named these replicas by themselves, with our own.
    fn compare_others(
        &mut self,
        now: Now,
        link: LinkId,
        named: &[ReplicaId],
        others: Option<u32>,
        buckets: &[u32],
    ) {
        let sums = self.table.bucket_sums(now.wall, named);
        let Some(state) = self.links.get_mut(&link) else { return };
        if !buckets.is_empty() {
            let differs = |bucket: &usize| !sums.is_equal(*bucket, buckets);
            state.comparison.owed = (0..BUCKETS).filter(differs).collect();
            state.comparison.owes_end = true;
        } else if others.is_none_or(|others| others == sums.total()) {
            state.goals.all_named();
        } else if state.comparison.ask_from <= now.monotonic {
            state.comparison.ask_from = now.monotonic + ANSWER_TIMEOUT;
            state.comparison.missing = 0;
            self.send_digest(now, link, true);
        }
    }

    /// Sends what we have of the replicas in a bucket.
    pub(super) fn send_bucket(&mut self, now: Now, link: LinkId, owed: Owed) {
        let entries = owed
            .bucket
            .map(|bucket| self.table.digest_of_bucket(now.wall, bucket))
            .unwrap_or_default();
        let mut parts = entries.chunks(self.entries_per_message(false)).peekable();
        loop {
            let entries = parts.next().unwrap_or_default().to_vec();
            let is_end = parts.peek().is_none();
            if !entries.is_empty() || is_end && owed.last {
                self.send(link, &Message::Entries { entries, last: is_end && owed.last });
            }
            if is_end {
                return;
            }
        }
    }

    /// Takes in what a peer has of replicas in buckets that differ.
    pub(super) fn entries(
        &mut self,
        now: Now,
        link: LinkId,
        peer: &ReplicaId,
        entries: &[DigestEntry],
        last: bool,
    ) {
        let missing = self.compare_all(now, link, peer, entries);
        if let Some(state) = self.links.get_mut(&link) {
            let comparison = &mut state.comparison;
            comparison.missing = comparison.missing.saturating_add(missing as u32);
            if last {
                comparison.ask_from = now.monotonic + FETCH_TIME * comparison.missing;
                state.goals.all_named();
            }
        }
        self.pump(now, link);
    }

    /// Takes in entries; returns how many show something that is missing here.
    fn compare_all(
        &mut self,
        now: Now,
        link: LinkId,
        peer: &ReplicaId,
        entries: &[DigestEntry],
    ) -> usize {
        let mut missing = BTreeMap::new();
        for theirs in entries {
            if theirs.replica == self.own {
                self.look_into_own_entry(now, link, theirs);
                continue;
            }
            if self.table.has_forgotten(&theirs.replica) {
                continue;
            }
            if theirs.watermark > self.table.version_max(now.wall, &theirs.replica) {
                // What is not believed is not waited for.
                self.table.count_implausible();
                self.implausible(link, peer, &theirs.replica, 1);
                continue;
            }
            let is_over = self.table.hear_end(now.wall, theirs);
            if is_over && !self.is_linked(&theirs.replica) {
                // Nothing of it is left that could be asked for.
                continue;
            }
            let ours = self.table.digest_entry(&theirs.replica);
            if ours.watermark < theirs.watermark {
                missing.insert(theirs.replica.clone(), theirs.watermark);
            }
            self.compare(now, link, peer, (&ours, theirs));
        }
        let count = missing.len();
        if let Some(state) = self.links.get_mut(&link) {
            state.goals.add(missing.into_iter());
        }
        count
    }

    fn is_linked(&self, replica: &ReplicaId) -> bool {
        self.links.values().any(|link| link.peer() == Some(replica))
    }

    /// Asks the peer for what it has of a replica and we have not.
    fn compare(
        &mut self,
        now: Now,
        link: LinkId,
        peer: &ReplicaId,
        (ours, theirs): (&DigestEntry, &DigestEntry),
    ) {
        // What a peer has beyond its watermark may be new to us even if ours is higher.
        let behind =
            ours.watermark < theirs.watermark || theirs.ahead != 0 && theirs.ahead != ours.ahead;
        if !behind {
            return self.repair.not_behind(&theirs.replica);
        }
        let has_own_link = theirs.replica == *peer || self.is_linked(&theirs.replica);
        if self.is_direct() && has_own_link {
            // Its own stream brings this, unless something is wrong with it.
            let behind_for = self.repair.behind_for(&theirs.replica, now.monotonic);
            if behind_for < self.settings.digest_interval * 2 {
                return;
            }
        }
        let from = self.writers_link(now, &theirs.replica).unwrap_or(link);
        self.request(now, from, &theirs.replica, ours.watermark);
    }
}
