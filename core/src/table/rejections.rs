//! Counts of what a table refused.

use core::sync::atomic::{AtomicU64, Ordering};

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
}

/// The same, while it is counted.
#[derive(Debug, Default)]
pub(super) struct RejectionCounts {
    counters_refused: AtomicU64,
    cells_implausible: AtomicU64,
    cells_late: AtomicU64,
    messages_unknown: AtomicU64,
    addresses_implausible: AtomicU64,
}

impl RejectionCounts {
    pub(super) fn counter_refused(&self) {
        self.counters_refused.fetch_add(1, Ordering::Relaxed);
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

    pub(super) fn read(&self) -> Rejections {
        Rejections {
            counters_refused: self.counters_refused.load(Ordering::Relaxed),
            cells_implausible: self.cells_implausible.load(Ordering::Relaxed),
            cells_late: self.cells_late.load(Ordering::Relaxed),
            messages_unknown: self.messages_unknown.load(Ordering::Relaxed),
            addresses_implausible: self.addresses_implausible.load(Ordering::Relaxed),
        }
    }
}
