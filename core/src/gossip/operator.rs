//! What the operator said, from node to node.
//!
//! A digest has a checksum over all entries, where there are any. Who has other ones, and a key to believe them by, asks with the
//! hashes of its own and is sent what it lacks, as much as fits in a frame; the next digest brings the rest. So where nothing was
//! ever said, nothing is sent, and where all know the same, eight bytes with each digest.
//!
//! Checking a signature takes much longer than a decision. So entries are looked at only when they were asked for, and none
//! after the first that is not believed.

use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use core::time::Duration;

use serde_bytes::ByteBuf;

use super::exchange::ENVELOPE_BYTES;
use super::{Gossip, Report};
use crate::id::ReplicaId;
use crate::link::LinkId;
use crate::operator::{EntryError, EntrySource, OperatorEntry};
use crate::table::Taken;
use crate::time::Now;
use crate::wire::Message;

/// What one link asks and answers.
#[derive(Debug, Default)]
pub(super) struct OperatorExchange {
    /// The peer was asked, and has not answered.
    is_asked: bool,
    /// Not before this is the peer asked again: a digest is shorter than the question.
    asks_from: Duration,
    /// Not before this is the peer answered again.
    answers_from: Duration,
}

impl Gossip {
    /// Compares a peer's checksum with our own, and asks where they differ.
    pub(super) fn compare_operator(&mut self, now: Now, link: LinkId, theirs: Option<u64>) {
        if theirs.is_none() || theirs == self.table.entries_checksum(now.wall) {
            return;
        }
        let Some(known) = self.table.entries_known(now.wall) else { return };
        let Some(state) = self.links.get_mut(&link) else { return };
        if now.monotonic < state.operator.asks_from {
            return;
        }
        state.operator.asks_from = now.monotonic + self.settings.digest_interval / 2;
        state.operator.is_asked = true;
        self.send(link, &Message::OperatorAsk { known });
    }

    /// Sends a peer what it lacks, once for each of its digests.
    pub(super) fn tell_operator(&mut self, now: Now, link: LinkId, known: &[u64]) {
        let bytes_max = self.settings.frame_bytes_max.saturating_sub(ENVELOPE_BYTES);
        let Some(state) = self.links.get_mut(&link) else { return };
        if now.monotonic < state.operator.answers_from {
            return;
        }
        state.operator.answers_from = now.monotonic + self.settings.digest_interval / 2;
        let entries = self.table.entries_missing(now.wall, known, bytes_max);
        if !entries.is_empty() {
            let entries = entries.into_iter().map(ByteBuf::from).collect();
            self.send(link, &Message::OperatorEntries { entries });
        }
    }

    /// Takes in what was asked for.
    pub(super) fn hear_operator(
        &mut self,
        now: Now,
        link: LinkId,
        peer: &ReplicaId,
        entries: &[ByteBuf],
    ) {
        let Some(state) = self.links.get_mut(&link) else { return };
        if !core::mem::take(&mut state.operator.is_asked) {
            let error = "it was not asked for".to_owned();
            return self.refuse_entries(link, peer, entries.len(), error);
        }
        for (index, bytes) in entries.iter().enumerate() {
            let Err(error) = self.hear_entry(now, link, bytes) else { continue };
            // The others are as likely to be wrong, and each takes time to find out.
            return self.refuse_entries(link, peer, entries.len() - index, error);
        }
    }

    /// Takes in one entry.
    ///
    /// # Errors
    /// What speaks against the rest of them.
    fn hear_entry(&mut self, now: Now, link: LinkId, bytes: &[u8]) -> Result<(), String> {
        let entry = OperatorEntry::from_bytes(bytes).map_err(|error| error.to_string())?;
        match self.table.take_entry(now.wall, entry.clone(), EntrySource::Peer) {
            Ok(Taken::New) => self.report_of(link, Report::EntryTaken { entry }),
            // A peer whose clock is behind, or that was away, knows no better.
            Ok(Taken::Known) | Err(EntryError::Ended { .. } | EntryError::Superseded { .. }) => {}
            // The others may come before those that are held.
            Err(EntryError::Full) => self.table.refuse_entries(1),
            Err(error) => return Err(error.to_string()),
        }
        Ok(())
    }

    fn refuse_entries(&mut self, link: LinkId, peer: &ReplicaId, entries: usize, error: String) {
        self.table.refuse_entries(entries);
        self.report_of(link, Report::EntryRefused { from: peer.clone(), error });
    }
}
