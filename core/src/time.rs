//! Time as a value: what core is handed instead of a clock.

mod text;

use alloc::{format, string::String};
use core::fmt;
use core::str::FromStr;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use serde::{Deserialize, Serialize};

pub use text::{InvalidDuration, format_duration, parse_duration};

use crate::mutant::mutant;
use crate::sync::{SystemTime, UNIX_EPOCH};

/// A moment in wall-clock time: milliseconds since the Unix epoch, UTC.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The moment `duration` later, at the latest the end of time.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tallymesh::{InvalidTimestamp, Timestamp};
    ///
    /// let noon: Timestamp = "2026-01-31T12:00:00Z".parse()?;
    /// let later = noon.plus(Duration::from_secs(90));
    /// assert_eq!(later.to_string(), "2026-01-31T12:01:30.000Z");
    /// let refused: Result<Timestamp, InvalidTimestamp> = "noon".parse();
    /// assert!(refused.unwrap_err().to_string().starts_with("\"noon\" is no timestamp"));
    /// # Ok::<(), InvalidTimestamp>(())
    /// ```
    #[inline]
    pub fn plus(self, duration: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(whole_ms(duration)))
    }

    /// This moment, or the first one after it that is whole steps, of whole seconds, after 1970.
    pub(crate) fn rounded_up(self, step: Duration) -> Timestamp {
        let step_ms = whole_ms(step).div_ceil(1_000).max(1).saturating_mul(1_000);
        Timestamp(self.0.checked_next_multiple_of(step_ms).unwrap_or(self.0))
    }

    /// How long after `earlier` this is; zero if it is before.
    #[inline]
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// A text or a moment that no [`Timestamp`] stands for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} is no timestamp: use a moment of RFC 3339 from 1970 on, such as \"2026-01-31T12:00:00Z\""
)]
pub struct InvalidTimestamp(String);

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    /// Reads RFC 3339, such as `2026-01-31T12:00:00.250Z`; what is less than a millisecond is cut off. Reads what is written,
    /// also of moments after the year 9999.
    fn from_str(text: &str) -> Result<Timestamp, InvalidTimestamp> {
        // As a moment after the year 9999 is written.
        if let Some(ms) = text.strip_suffix(AFTER_1970).and_then(|ms| ms.parse().ok()) {
            return Ok(Timestamp(ms));
        }
        let moment = text.parse::<jiff::Timestamp>().ok();
        let ms = moment.and_then(|moment| u64::try_from(moment.as_millisecond()).ok());
        ms.map(Timestamp).ok_or_else(|| InvalidTimestamp(format!("{text:?}")))
    }
}

impl TryFrom<SystemTime> for Timestamp {
    type Error = InvalidTimestamp;

    /// What is less than a millisecond is cut off. A moment before 1970 is an error.
    fn try_from(moment: SystemTime) -> Result<Timestamp, InvalidTimestamp> {
        match moment.duration_since(UNIX_EPOCH) {
            Ok(since) => Ok(Timestamp(whole_ms(since))),
            Err(before) => {
                let before = format_duration(before.duration());
                Err(InvalidTimestamp(format!("a moment {before} before 1970")))
            }
        }
    }
}

impl From<Timestamp> for SystemTime {
    /// A moment past the system's last one is the end of the year 9999.
    fn from(timestamp: Timestamp) -> SystemTime {
        let moment = UNIX_EPOCH.checked_add(Duration::from_millis(timestamp.0));
        moment.unwrap_or_else(|| UNIX_EPOCH + END_OF_9999)
    }
}

/// What stands behind the number of a moment that has no date.
const AFTER_1970: &str = " ms after 1970";

const END_OF_9999: Duration = Duration::from_secs(253_402_300_799);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // jiff ends with the year 9999, and a peer or a damaged disk may well name a later one.
        let ms = i64::try_from(self.0).ok();
        match ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()) {
            Some(moment) => write!(f, "{moment:.3}"),
            None => write!(f, "{}{AFTER_1970}", self.0),
        }
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

/// How late a clock may be that is read without asking the processor: a kernel notes the time every tick, of up to 10 ms, and on a
/// virtual machine that has lost its processor for a while several ticks late (15 ms were seen with a tick of 4). What could
/// end within this is decided by a clock that is exact.
pub const COARSE_LATE_MAX: Duration = Duration::from_millis(250);

/// A wall clock that never steps back: it remembers the latest time that was acted on, so that a closed window stays closed
/// whatever the system's clock does.
///
/// ```
/// use std::time::Duration;
/// use tallymesh_core::time::{MonotonicWall, Timestamp};
///
/// let ms = Duration::from_millis;
/// let clock = MonotonicWall::at(Timestamp(0));
/// clock.read(Timestamp(90_000));
/// // The system's clock was set back by 80 seconds.
/// let moment = clock.read(Timestamp(10_000));
/// assert_eq!((moment.wall, moment.behind()), (Timestamp(90_000), ms(80_000)));
/// assert_eq!(moment.wait(ms(500)), ms(80_500));
/// ```
#[derive(Debug)]
pub struct MonotonicWall {
    mark: AtomicU64,
}

/// What a [`MonotonicWall`] showed, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The time to act on, never earlier than one that was acted on before.
    pub wall: Timestamp,
    /// What the system's clock showed.
    reading: Timestamp,
}

impl Moment {
    /// How far the system's clock is behind the time that is acted on: zero, unless it was set back. Until it has caught up,
    /// time stands still.
    #[inline]
    pub fn behind(self) -> Duration {
        self.wall.since(self.reading)
    }

    /// How long to wait from this moment on, by a clock that is exact, until the system's shows a time that is `later` than the
    /// one acted on now: it must first catch up with that. In whole milliseconds, rounded up.
    pub fn wait(self, later: Duration) -> Duration {
        Duration::from_millis(whole_ms_up(later.saturating_add(self.behind())))
    }
}

impl MonotonicWall {
    /// A clock that never shows a time before `mark`.
    pub fn at(mark: Timestamp) -> MonotonicWall {
        MonotonicWall { mark: AtomicU64::new(mark.0) }
    }

    /// Takes note of a reading of the system's clock. Returns it, or the latest one so far if that is later.
    #[inline]
    pub fn observe(&self, reading: Timestamp) -> Timestamp {
        let mark = self.mark.load(Ordering::Relaxed);
        if mutant!(ClockStepsBack) {
            return reading;
        }
        if reading.0 <= mark {
            return Timestamp(mark);
        }
        // Written at most once a millisecond, so that threads do not contend for it at every decision.
        Timestamp(self.mark.fetch_max(reading.0, Ordering::Relaxed).max(reading.0))
    }

    /// As [`observe`](Self::observe), and remembers what the system's clock showed.
    #[inline]
    pub fn read(&self, reading: Timestamp) -> Moment {
        Moment { wall: self.observe(reading), reading }
    }
}

/// A duration in whole milliseconds, at most `u64::MAX` of them; what is less than one is cut off.
#[inline]
pub fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A duration in whole milliseconds, at most `u64::MAX` of them; what is less than one counts as one.
#[inline]
pub fn whole_ms_up(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_monotonic_wall_clock_never_steps_back() {
        let mark = MonotonicWall::at(Timestamp(1_000));
        let shown = [900, 1_100, 1_050, 1_200].map(|reading| mark.observe(Timestamp(reading)).0);
        assert_eq!(shown, [1_000, 1_100, 1_100, 1_200]);
    }

    #[test]
    fn a_wait_reaches_past_the_mark_in_whole_milliseconds() {
        let clock = MonotonicWall::at(Timestamp(0));
        let wait = |reading, later| clock.read(Timestamp(reading)).wait(later);
        let (ms, us) = (Duration::from_millis, Duration::from_micros);
        assert_eq!(wait(1_000, us(96_700)), ms(97));
        assert_eq!(wait(1_000, us(1)), ms(1));
        // Set back by 90 s: the wait is longer by so much, and falls as the clock catches up.
        assert_eq!(wait(91_000, ms(97)), ms(97));
        assert_eq!([1_000, 5_000].map(|reading| wait(reading, ms(97))), [ms(90_097), ms(86_097)]);
        assert_eq!(clock.read(Timestamp(91_001)).behind(), Duration::ZERO);
        assert_eq!(clock.read(Timestamp(0)).wait(Duration::MAX), ms(u64::MAX));
    }

    proptest::proptest! {
        /// Whatever the clock shows, its phase and how late it is: who waits as told finds the exact one where it should be.
        #[test]
        fn who_waits_as_told_finds_the_exact_clock_there(
            late_us in 0_u64..250_000,
            asked_us in 0_u64..1_000_000,
            behind_ms in 0_u64..100_000,
            later_ms in 1_u64..1_000,
        ) {
            let shown = |us: u64| Timestamp(us / 1_000);
            let coarse = shown(asked_us.saturating_sub(late_us));
            let clock = MonotonicWall::at(Timestamp(coarse.0 + behind_ms));
            let moment = clock.read(coarse);
            let wait = moment.wait(Duration::from_millis(later_ms));
            let then = clock.read(shown(asked_us + wait.as_micros() as u64)).wall;
            proptest::prop_assert!(then.0 >= moment.wall.0 + later_ms, "{then:?} after {wait:?}");
        }
    }

    #[test]
    fn a_timestamp_is_read_as_it_is_written() {
        let moment = Timestamp(1_769_860_800_250);
        assert_eq!(moment.to_string().parse(), Ok(moment));
        assert_eq!("1970-01-01T01:00:01+01:00".parse(), Ok(Timestamp(1_000)));
        for ms in [0, 1, 253_402_300_799_999, 253_402_300_800_000, u64::MAX - 1, u64::MAX] {
            assert_eq!(Timestamp(ms).to_string().parse(), Ok(Timestamp(ms)));
        }
        for bad in ["", "now", "2026-01-31", "1969-12-31T23:59:59Z"] {
            let message = bad.parse::<Timestamp>().unwrap_err().to_string();
            assert!(message.contains(bad) && message.contains("RFC 3339"), "{message}");
        }
    }

    #[test]
    fn a_timestamp_is_a_moment_of_the_system_and_back() {
        let moment = UNIX_EPOCH + Duration::from_micros(1_500_700);
        assert_eq!(Timestamp::try_from(moment), Ok(Timestamp(1_500)));
        assert_eq!(SystemTime::from(Timestamp(1_500)), UNIX_EPOCH + Duration::from_millis(1_500));
        let before = Timestamp::try_from(UNIX_EPOCH - Duration::from_secs(1));
        assert!(before.unwrap_err().to_string().contains("1s before 1970"));
        assert!(SystemTime::from(Timestamp(u64::MAX)) > UNIX_EPOCH);
    }

    #[test]
    fn a_timestamp_prints_as_utc_and_never_panics() {
        assert_eq!(Timestamp(1_000).to_string(), "1970-01-01T00:00:01.000Z");
        assert!(Timestamp(u64::MAX).to_string().contains("ms"));
        assert_eq!(Timestamp(u64::MAX).plus(Duration::from_secs(1)), Timestamp(u64::MAX));
        assert_eq!(Timestamp(5).since(Timestamp(9)), Duration::ZERO);
    }
}
