//! Wake flags: which of the node's threads sleep until something changes. Every decision reads them, so it is one load.

use std::sync::atomic::{AtomicU8, Ordering};

/// A thread that stops its rounds when there is nothing to do in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Worker {
    Disk = 1,
    Gossip = 2,
}

/// One flag for each thread that must be woken when something changes.
///
/// A thread announces its sleep, then scans the table once more: a change after the scan must take the shard's lock after it,
/// and so sees the announcement.
#[derive(Debug, Default)]
pub(super) struct WakeFlags(AtomicU8);

impl WakeFlags {
    /// Whether a thread must be woken from now on.
    pub(super) fn set(&self, worker: Worker, asleep: bool) {
        // Written only where it differs, or every decision would pay for each round.
        match (self.is_set(worker), asleep) {
            (false, true) => _ = self.0.fetch_or(worker as u8, Ordering::Relaxed),
            (true, false) => _ = self.0.fetch_and(!(worker as u8), Ordering::Relaxed),
            _ => {}
        }
    }

    /// Whether any thread must be woken.
    #[inline]
    pub(super) fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// Whether this thread must be woken.
    pub(super) fn is_set(&self, worker: Worker) -> bool {
        self.0.load(Ordering::Relaxed) & worker as u8 != 0
    }

    /// Whether a thread must be woken; it counts as awake from now on, so that one caller wakes it and not all.
    pub(super) fn take(&self, worker: Worker) -> bool {
        self.0.fetch_and(!(worker as u8), Ordering::Relaxed) & worker as u8 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thread_is_woken_once_and_the_other_sleeps_on() {
        let flags = WakeFlags::default();
        assert!(!flags.any());
        flags.set(Worker::Disk, true);
        flags.set(Worker::Gossip, true);
        assert!(flags.take(Worker::Disk));
        assert!(!flags.take(Worker::Disk) && flags.any());
        flags.set(Worker::Gossip, false);
        assert!(!flags.take(Worker::Gossip) && !flags.any());
    }
}
