//! When urgent changes may be sent. A limit that is hit hard must not cost a frame for each call, so two urgent pushes keep
//! a distance; a change that comes too soon after a push waits for the rest of it, together with those that follow.

use core::time::Duration;

/// The least time between two urgent pushes.
const SPACING: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub(super) struct Urgent {
    /// When something urgent is to be sent, if there is anything.
    due_at: Option<Duration>,
    /// From when on it may be.
    allowed_from: Duration,
}

impl Urgent {
    pub(super) fn new(now: Duration) -> Urgent {
        Urgent { due_at: None, allowed_from: now }
    }

    /// There is something urgent to send. Returns whether it may be sent now; if not, it is due later.
    pub(super) fn want(&mut self, now: Duration) -> bool {
        self.due_at.get_or_insert(self.allowed_from.max(now));
        self.allowed_from <= now
    }

    pub(super) fn is_due(&self, now: Duration) -> bool {
        self.due_at.is_some_and(|at| now >= at)
    }

    pub(super) fn sent(&mut self, now: Duration) {
        self.due_at = None;
        self.allowed_from = now + SPACING;
    }

    pub(super) fn next_timeout(&self) -> Option<Duration> {
        self.due_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_goes_at_once_and_the_next_ones_together_after_the_spacing() {
        let start = Duration::from_secs(1);
        let mut urgent = Urgent::new(start);
        assert!(!urgent.is_due(start) && urgent.next_timeout().is_none());
        assert!(urgent.want(start));
        urgent.sent(start);
        let soon = start + SPACING / 2;
        assert!(!urgent.want(soon) && !urgent.want(soon));
        assert_eq!(urgent.next_timeout(), Some(start + SPACING));
        assert!(!urgent.is_due(soon) && urgent.is_due(start + SPACING));
        urgent.sent(start + SPACING);
        assert_eq!(urgent.next_timeout(), None);
    }
}
