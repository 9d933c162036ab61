//! Sessions: one counter for as long as it is used, which expires a while after its last use.

use core::time::Duration;

use crate::time::{Timestamp, whole_ms};

/// How long a counter lives after its last use. Its end is rounded up by at most a sixteenth of that, so that uses close to
/// each other have one end, and only the first must be sent to the peers.
#[derive(Debug, Clone, Copy)]
pub struct Lifetime {
    ttl_ms: u64,
    step_ms: u64,
}

impl Lifetime {
    /// A lifetime of `ttl` after the last use, in whole milliseconds.
    pub fn new(ttl: Duration) -> Lifetime {
        let ttl_ms = whole_ms(ttl);
        Lifetime { ttl_ms, step_ms: (ttl_ms / 16).max(1) }
    }

    /// When a counter that is used now expires, unless it is used again.
    #[inline]
    pub fn end(self, now: Timestamp) -> Timestamp {
        let end = now.0.saturating_add(self.ttl_ms);
        Timestamp(end.div_ceil(self.step_ms).saturating_mul(self.step_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_at_most_a_sixteenth_late_and_never_early() {
        let ttl = Duration::from_secs(16);
        let lifetime = Lifetime::new(ttl);
        for now in [0, 1, 999, 1000, 123_456] {
            let left = lifetime.end(Timestamp(now)).since(Timestamp(now));
            assert!(left >= ttl && left < ttl + Duration::from_secs(1), "{left:?} at {now}");
        }
    }

    #[test]
    fn uses_close_to_each_other_have_one_end() {
        let lifetime = Lifetime::new(Duration::from_secs(16));
        assert_eq!(lifetime.end(Timestamp(1)), lifetime.end(Timestamp(1_000)));
        assert_ne!(lifetime.end(Timestamp(1_000)), lifetime.end(Timestamp(1_001)));
    }
}
