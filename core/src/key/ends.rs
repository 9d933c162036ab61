//! When a counter ends. Its key says by which of five rules, so that a node that knows neither its limit nor its kind still
//! drops it at the right time.

use super::WindowSpan;
use crate::time::Timestamp;

/// By which rule a counter ends. It may be dropped when it ended longer than the grace ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ends {
    /// With the window in its key.
    WithWindow(WindowSpan),
    /// `p0` and a sixteenth of it after `at`, in milliseconds.
    AfterUse,
    /// At `at`, in nanoseconds.
    AtNanos,
    /// At `2^63 - 1 - at` in milliseconds: the greatest `at` is the earliest end.
    Earliest,
    /// So many milliseconds after `at`.
    After(u64),
}

impl Ends {
    pub(super) const WITH_WINDOW: u8 = 0;
    pub(super) const AFTER_USE: u8 = 1;
    pub(super) const AT_NANOS: u8 = 2;
    pub(super) const EARLIEST: u8 = 3;
    pub(super) const AFTER: u8 = 4;

    /// The rule's number in a key.
    pub(super) fn rule(self) -> u8 {
        match self {
            Ends::WithWindow(_) => Ends::WITH_WINDOW,
            Ends::AfterUse => Ends::AFTER_USE,
            Ends::AtNanos => Ends::AT_NANOS,
            Ends::Earliest => Ends::EARLIEST,
            Ends::After(_) => Ends::AFTER,
        }
    }

    /// When a counter with these marks ends.
    #[inline]
    pub(crate) fn end(self, at: u64, p0: u64) -> Timestamp {
        match self {
            Ends::WithWindow(window) => window.end(),
            Ends::AfterUse => end_after_use(at, p0),
            Ends::AtNanos => Timestamp(at.div_ceil(1_000_000)),
            Ends::Earliest => Timestamp((i64::MAX as u64).saturating_sub(at)),
            Ends::After(length_ms) => Timestamp(at.saturating_add(length_ms)),
        }
    }
}

/// When a counter ends that was used at `at`, rounded down to a sixteenth of `ttl_ms`, and lives so long after its use.
#[inline(always)]
pub(crate) fn end_after_use(at: u64, ttl_ms: u64) -> Timestamp {
    Timestamp(at.saturating_add(ttl_ms).saturating_add(ttl_ms / 16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_reads_the_marks_in_its_own_way() {
        let end = |ends: Ends| ends.end(5_000_001, 1_600).0;
        let window = WindowSpan::at(60_000, Timestamp(61_000)).unwrap();
        assert_eq!(end(Ends::WithWindow(window)), 120_000);
        assert_eq!(end(Ends::AfterUse), 5_000_001 + 1_700);
        assert_eq!(end(Ends::AtNanos), 6);
        assert_eq!(end(Ends::Earliest), i64::MAX as u64 - 5_000_001);
        assert_eq!(end(Ends::After(7)), 5_000_008);
    }

    #[test]
    fn ends_saturate() {
        assert_eq!(Ends::AfterUse.end(u64::MAX, u64::MAX), Timestamp(u64::MAX));
        assert_eq!(Ends::Earliest.end(u64::MAX, u64::MAX), Timestamp(0));
        assert_eq!(Ends::After(1).end(u64::MAX, u64::MAX), Timestamp(u64::MAX));
    }
}
