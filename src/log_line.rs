//! Lines in the log: where they cannot be written, nothing but the line is lost.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

/// How many lines were lost in this process.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Runs what writes to the log. The embedder's subscriber may panic, as one does that prints to a pipe that is closed or to a disk
/// that is full: that must end neither a thread of ours nor a decision.
pub(crate) fn write(line: impl FnOnce()) {
    // A subscriber is made to be shared by threads, any of which may panic.
    if catch_unwind(AssertUnwindSafe(line)).is_err() {
        LOST.fetch_add(1, Ordering::Relaxed);
    }
}

/// How many lines could not be written in this process.
pub(crate) fn lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}
