//! Counts of what a table, and the gossip about it, refused.

use core::sync::atomic::{AtomicU64, Ordering};

use super::Bound;

/// What was rejected since the start, in numbers.
///
/// ```
/// use tallymesh::Rejections;
///
/// /// What an operator is told when a bound was reached since the last look.
/// fn complaint(before: &Rejections, now: &Rejections) -> Option<String> {
///     let refused = now.counters_refused - before.counters_refused;
///     (refused > 0).then(|| format!("{refused} counters had no room: raise counters.max_counters"))
/// }
/// # assert_eq!(complaint(&Rejections::default(), &Rejections::default()), None);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default))]
#[non_exhaustive]
pub struct Rejections {
    /// Counters that were needed and not made, because there were `max_counters` already.
    pub counters_refused: u64,
    /// Cells from peers that cannot be true and were dropped.
    pub cells_implausible: u64,
    /// Cells from peers that came after their counter's end and grace.
    pub cells_late: u64,
    /// Messages from peers that this version does not know and skipped.
    pub messages_unknown: u64,
    /// Addresses of members that peers told and that cannot be dialed: no IP address and port, or one that leads nowhere.
    pub addresses_implausible: u64,
    /// How often peers sent something of a replica that there was no room to remember, because there were `max_replicas`. It
    /// is asked for again until there is room.
    pub replicas_refused: u64,
    /// Cells from peers that had no room in their counter, because it had cells of `max_replicas_per_counter`. They are asked
    /// for again until there is room.
    pub cells_refused: u64,
    /// Connections that were closed at once, because there were `max_connections`.
    pub connections_refused: u64,
    /// Frames from peers that were longer than `max_frame_bytes`; each ended its connection.
    pub frames_refused: u64,
    /// How often what was due to a peer had to wait for a second or more, because `max_frames_queued` frames waited for it
    /// already. Nothing is lost by it: the peer gets a later, merged delta.
    pub frames_delayed: u64,
    /// How often addresses of peers were left out, because there were as many as a node takes (4,096).
    pub addresses_refused: u64,
    /// Connections that came in and were closed, because they did not prove that they have a key of the cluster, or of a member.
    pub strangers_refused: u64,
}

impl Rejections {
    /// How often something was refused over this bound.
    pub fn refused(&self, bound: Bound) -> u64 {
        match bound {
            Bound::Counters => self.counters_refused,
            Bound::Replicas => self.replicas_refused,
            Bound::ReplicasPerCounter => self.cells_refused,
            Bound::Connections => self.connections_refused,
            Bound::FrameBytes => self.frames_refused,
            Bound::FramesQueued => self.frames_delayed,
            Bound::Addresses => self.addresses_refused,
        }
    }
}

/// The same, while it is counted.
#[derive(Debug, Default)]
pub(super) struct RejectionCounts {
    refused: [AtomicU64; Bound::ALL.len()],
    cells_implausible: AtomicU64,
    cells_late: AtomicU64,
    messages_unknown: AtomicU64,
    addresses_implausible: AtomicU64,
    strangers_refused: AtomicU64,
}

impl RejectionCounts {
    pub(super) fn counter_refused(&self) {
        self.refused(Bound::Counters, 1);
    }

    pub(super) fn refused(&self, bound: Bound, times: usize) {
        if let Some(count) = self.refused.get(bound as usize) {
            count.fetch_add(times as u64, Ordering::Relaxed);
        }
    }

    pub(super) fn cells_implausible(&self, cells: usize) {
        self.cells_implausible.fetch_add(cells as u64, Ordering::Relaxed);
    }

    pub(super) fn cell_late(&self) {
        self.cells_late.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn messages_unknown(&self, messages: u64) {
        self.messages_unknown.fetch_add(messages, Ordering::Relaxed);
    }

    pub(super) fn addresses_implausible(&self, addresses: u64) {
        self.addresses_implausible.fetch_add(addresses, Ordering::Relaxed);
    }

    pub(super) fn stranger_refused(&self) {
        self.strangers_refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Rejections {
        let refused = |bound: Bound| {
            self.refused.get(bound as usize).map_or(0, |count| count.load(Ordering::Relaxed))
        };
        Rejections {
            counters_refused: refused(Bound::Counters),
            cells_implausible: self.cells_implausible.load(Ordering::Relaxed),
            cells_late: self.cells_late.load(Ordering::Relaxed),
            messages_unknown: self.messages_unknown.load(Ordering::Relaxed),
            addresses_implausible: self.addresses_implausible.load(Ordering::Relaxed),
            replicas_refused: refused(Bound::Replicas),
            cells_refused: refused(Bound::ReplicasPerCounter),
            connections_refused: refused(Bound::Connections),
            frames_refused: refused(Bound::FrameBytes),
            frames_delayed: refused(Bound::FramesQueued),
            addresses_refused: refused(Bound::Addresses),
            strangers_refused: self.strangers_refused.load(Ordering::Relaxed),
        }
    }
}
