//! Which of the node's threads sleep until something changes. Every decision asks, so it is one load.

use std::sync::atomic::{AtomicU8, Ordering};

/// A thread that stops its rounds when there is nothing to do in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sleeper {
    Disk = 1,
    Gossip = 2,
}

/// The threads that must be woken when something changes.
///
/// A thread says that it may fall asleep *before* it looks through the table for the last time: whoever changes a shard after
/// that look has locked it after it, and so sees what was said.
#[derive(Debug, Default)]
pub(super) struct Sleepers(AtomicU8);

impl Sleepers {
    /// Says whether a thread must be woken from now on.
    pub fn set(&self, sleeper: Sleeper, sleeps: bool) {
        // Written only where it differs, or every decision would pay for each round.
        match (self.sleeps(sleeper), sleeps) {
            (false, true) => _ = self.0.fetch_or(sleeper as u8, Ordering::Relaxed),
            (true, false) => _ = self.0.fetch_and(!(sleeper as u8), Ordering::Relaxed),
            _ => {}
        }
    }

    /// Whether any thread must be woken.
    #[inline]
    pub fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// Whether this thread must be woken.
    pub fn sleeps(&self, sleeper: Sleeper) -> bool {
        self.0.load(Ordering::Relaxed) & sleeper as u8 != 0
    }

    /// Whether a thread must be woken; it counts as awake from now on, so that one caller wakes it and not all.
    pub fn take(&self, sleeper: Sleeper) -> bool {
        self.0.fetch_and(!(sleeper as u8), Ordering::Relaxed) & sleeper as u8 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sleeper_is_woken_once_and_the_other_sleeps_on() {
        let sleepers = Sleepers::default();
        assert!(!sleepers.any());
        sleepers.set(Sleeper::Disk, true);
        sleepers.set(Sleeper::Gossip, true);
        assert!(sleepers.take(Sleeper::Disk));
        assert!(!sleepers.take(Sleeper::Disk) && sleepers.any());
        sleepers.set(Sleeper::Gossip, false);
        assert!(!sleepers.take(Sleeper::Gossip) && !sleepers.any());
    }
}
