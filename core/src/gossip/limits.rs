//! Whether the limits of a peer say the same as the own ones of their names, and whether it keeps what has ended for as long.
//!
//! Each hello carries a digest of all limits and the grace. Where the digests differ, each side sends the hash of each of its
//! limits, and its grace; a limit that only one side has is no difference.

use alloc::vec::Vec;
use core::time::Duration;

use super::exchange::ENVELOPE_BYTES;
use super::{Gossip, Report};
use crate::limit::LimitHash;
use crate::link::LinkId;
use crate::table::GRACE_MAX;
use crate::time::whole_ms;
use crate::wire::Message;

/// The most that one limit takes in a message: a name of 128 bytes, and a number.
const LIMIT_BYTES: usize = 144;

impl Gossip {
    /// Sends the own limits and grace to a peer whose digest is this one, if that differs.
    pub(super) fn send_limits(&mut self, link: LinkId, theirs: u64) {
        if theirs == self.rules_digest() {
            return;
        }
        let limits = self.settings.limits.clone();
        let grace_ms = whole_ms(self.table.grace());
        let room = self.settings.frame_bytes_max.saturating_sub(ENVELOPE_BYTES);
        self.send(link, &Message::Limits { limits: Vec::new(), grace_ms });
        for part in limits.chunks((room / LIMIT_BYTES).max(1)) {
            self.send(link, &Message::Limits { limits: part.to_vec(), grace_ms });
        }
    }

    /// A digest of what peers should have in common.
    pub(super) fn rules_digest(&self) -> u64 {
        LimitHash::digest(&self.settings.limits).wrapping_add(whole_ms(self.table.grace()))
    }

    /// Notes how long a peer keeps what has ended: where nodes differ, the longest time counts for replicas.
    pub(super) fn compare_grace(&mut self, link: LinkId, grace_ms: u64) {
        let Some(state) = self.links.get_mut(&link) else { return };
        let Some(replica) = state.peer().cloned() else { return };
        let theirs = Duration::from_millis(grace_ms).min(GRACE_MAX);
        let ours = self.table.grace();
        if grace_ms == 0 || theirs == ours || state.grace.replace(theirs) == Some(theirs) {
            return;
        }
        self.table.heed_grace(theirs);
        self.report_of(link, Report::GraceDiffers { replica, theirs, ours });
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
            self.report_of(link, Report::LimitsDiffer { replica, limits: found });
        }
    }
}
