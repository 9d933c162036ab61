//! Time as a value: what core is handed instead of a clock.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::mutant::mutant;

/// A moment in wall-clock time: milliseconds since the Unix epoch, UTC.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The moment `duration` later, at the latest the end of time.
    #[inline]
    pub fn plus(self, duration: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(whole_ms(duration)))
    }

    /// How long after `earlier` this is; zero if it is before.
    #[inline]
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The formatter refuses years past 9999, which a peer or a damaged disk may well name.
        const YEAR_9999_MS: u64 = 253_402_300_799_000;
        if self.0 > YEAR_9999_MS {
            return write!(f, "{} ms after 1970", self.0);
        }
        let moment = std::time::UNIX_EPOCH + Duration::from_millis(self.0);
        write!(f, "{}", humantime::format_rfc3339_millis(moment))
    }
}

/// "Now", as handed to the machines of core.
///
/// Windows follow the wall clock, since every node must agree on them; timers follow the monotonic clock, since the wall
/// clock may jump or be held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The wall clock, never earlier than it has been before.
    pub wall: Timestamp,
    /// Time since some fixed moment of this process.
    pub monotonic: Duration,
}

/// A wall clock that never steps back: it remembers the latest time that was acted on, so that a closed window stays closed
/// whatever the system's clock does.
#[derive(Debug)]
pub struct MonotonicWall(AtomicU64);

impl MonotonicWall {
    /// A clock that never shows a time before `mark`.
    pub fn at(mark: Timestamp) -> MonotonicWall {
        MonotonicWall(AtomicU64::new(mark.0))
    }

    /// Takes note of a reading of the system's clock. Returns it, or the latest one so far if that is later.
    #[inline]
    pub fn observe(&self, reading: Timestamp) -> Timestamp {
        let mark = self.0.load(Ordering::Relaxed);
        if mutant!(ClockStepsBack) {
            return reading;
        }
        if reading.0 <= mark {
            return Timestamp(mark);
        }
        // Written at most once a millisecond, so that threads do not contend for it at every decision.
        Timestamp(self.0.fetch_max(reading.0, Ordering::Relaxed).max(reading.0))
    }
}

/// A duration in whole milliseconds, at most `u64::MAX` of them.
#[inline]
pub fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_monotonic_wall_clock_never_steps_back() {
        let mark = MonotonicWall::at(Timestamp(1_000));
        let shown = [900, 1_100, 1_050, 1_200].map(|reading| mark.observe(Timestamp(reading)).0);
        assert_eq!(shown, [1_000, 1_100, 1_100, 1_200]);
    }

    #[test]
    fn a_timestamp_prints_as_utc_and_never_panics() {
        assert_eq!(Timestamp(1_000).to_string(), "1970-01-01T00:00:01.000Z");
        assert!(Timestamp(u64::MAX).to_string().contains("ms"));
        assert_eq!(Timestamp(u64::MAX).plus(Duration::from_secs(1)), Timestamp(u64::MAX));
        assert_eq!(Timestamp(5).since(Timestamp(9)), Duration::ZERO);
    }
}
