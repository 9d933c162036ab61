//! Whether the limits of a peer say the same as the own ones of their names.
//!
//! Each hello carries a digest of all limits. Where the digests differ, each side sends the hash of each of its limits; a
//! limit that only one side has is no difference.

use alloc::vec::Vec;

use super::exchange::ENVELOPE_BYTES;
use super::{Gossip, Report};
use crate::limit::LimitHash;
use crate::link::LinkId;
use crate::wire::Message;

/// The most that one limit takes in a message: a name of 128 bytes, and a number.
const LIMIT_BYTES: usize = 144;

impl Gossip {
    /// Sends the own limits to a peer whose digest is this one, if that differs and both have any.
    pub(super) fn send_limits(&mut self, link: LinkId, theirs: u64) {
        let limits = self.settings.limits.clone();
        if theirs == 0 || theirs == LimitHash::digest(&limits) {
            return;
        }
        let room = self.settings.frame_bytes_max.saturating_sub(ENVELOPE_BYTES);
        for part in limits.chunks((room / LIMIT_BYTES).max(1)) {
            self.send(link, &Message::Limits { limits: part.to_vec() });
        }
    }

    /// Notes which of the own limits say something else at the peer. No more is remembered than there are own limits.
    pub(super) fn compare_limits(&mut self, link: LinkId, theirs: &[LimitHash]) {
        let Some(state) = self.links.get_mut(&link) else { return };
        let Some(replica) = state.peer().cloned() else { return };
        let mut found = Vec::new();
        for own in self.settings.limits.iter() {
            let differs = |limit: &LimitHash| limit.name == own.name && limit.hash != own.hash;
            if theirs.iter().any(differs) && state.different_limits.insert(own.name.clone()) {
                found.push(own.name.clone());
            }
        }
        if !found.is_empty() {
            self.report(Report::LimitsDiffer { replica, limits: found });
        }
    }
}
