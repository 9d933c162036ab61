//! Sessions: one counter for as long as it is used, which expires a while after its last use.

use core::time::Duration;

use super::{Life, WINDOW_MAX};
use crate::time::{Timestamp, whole_ms};

/// How long a counter lives after its last use. The use is noted rounded down to a sixteenth of that, so that of uses close
/// to each other only the first must be sent to the peers; the counter lives a sixteenth longer in return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    ttl_ms: u64,
}

impl Lifetime {
    /// A lifetime of `ttl` after the last use, in whole milliseconds: at least 1, at most 366 days.
    pub fn new(ttl: Duration) -> Lifetime {
        Lifetime { ttl_ms: whole_ms(ttl.min(WINDOW_MAX)).max(1) }
    }

    /// How long a counter lives that is used now.
    #[inline]
    pub fn used(self, now: Timestamp) -> Life {
        let step_ms = (self.ttl_ms / 16).max(1);
        Life::Use { at: now.0 - now.0 % step_ms, ttl_ms: self.ttl_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_at_most_a_sixteenth_late_and_never_early() {
        for ttl_ms in [1, 15, 16, 17, 16_000, 366 * 24 * 3_600_000] {
            let ttl = Duration::from_millis(ttl_ms);
            for now in [0, 1, 999, 1000, 123_456, 1_790_000_000_123] {
                let left = Lifetime::new(ttl).used(Timestamp(now)).end().since(Timestamp(now));
                // Both sixteenths are of whole milliseconds.
                let latest = ttl + Duration::from_millis(ttl_ms / 16);
                let early = Duration::from_millis(1).min(Duration::from_millis(ttl_ms / 16));
                assert!(left + early >= ttl && left <= latest, "{left:?} of {ttl:?} at {now}");
            }
        }
    }

    #[test]
    fn uses_close_to_each_other_are_one() {
        let lifetime = Lifetime::new(Duration::from_secs(16));
        assert_eq!(lifetime.used(Timestamp(0)), lifetime.used(Timestamp(999)));
        assert_ne!(lifetime.used(Timestamp(999)), lifetime.used(Timestamp(1_000)));
    }
}
