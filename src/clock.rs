//! The one place where the time is read.

#[cfg(test)]
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tallymesh_core::time::{Moment, MonotonicWall, Now, Timestamp, whole_ms};

/// From here on, a clock that is behind is worth a line in the log and a reason in the health: less than this, a clock that is
/// set right takes back every now and then.
pub(crate) const STANDS_STILL_FROM: Duration = Duration::from_secs(1);

/// Between two readings of a clock that go on at the same time.
const MOMENT: Duration = Duration::from_millis(10);

/// The system's clocks; the wall clock never steps back, so that a closed window stays closed.
#[derive(Debug)]
pub(crate) struct Clock {
    start: Instant,
    wall: MonotonicWall,
    /// How far the system's clock is set off.
    #[cfg(test)]
    set_off_ms: AtomicI64,
}

impl Clock {
    /// A clock that starts at `high_water` if the system's is behind that.
    #[allow(clippy::disallowed_methods)]
    pub(crate) fn new(high_water: Timestamp) -> Clock {
        Clock {
            start: Instant::now(),
            wall: MonotonicWall::at(high_water),
            #[cfg(test)]
            set_off_ms: AtomicI64::new(0),
        }
    }

    /// The wall clock, or the latest time it ever showed if that is later; on Linux up to [`COARSE_LATE_MAX`](tallymesh_core::time::COARSE_LATE_MAX) late.
    #[inline]
    pub(crate) fn wall(&self) -> Timestamp {
        self.moment().wall
    }

    /// As [`wall`](Self::wall), with what a wait is told by.
    #[inline]
    pub(crate) fn moment(&self) -> Moment {
        self.wall.read(self.shown(coarse_wall()))
    }

    /// As [`moment`](Self::moment), by the exact clock, which costs several times as much. Decisions are made no earlier than
    /// what it shows.
    pub(crate) fn exact(&self) -> Moment {
        self.wall.read(self.shown(exact_wall()))
    }

    /// How far the system's clock is behind the time that is acted on: zero, unless it was set back by more than a
    /// moment, since another thread may have read a later time just now.
    pub(crate) fn behind(&self) -> Duration {
        let behind = self.exact().behind();
        if behind > MOMENT { behind } else { Duration::ZERO }
    }

    /// Both clocks.
    pub(crate) fn now(&self) -> Now {
        Now { wall: self.wall(), monotonic: self.monotonic() }
    }

    /// Time since the clock was made.
    #[allow(clippy::disallowed_methods)]
    pub(crate) fn monotonic(&self) -> Duration {
        Instant::now() - self.start
    }

    #[cfg(not(test))]
    #[inline(always)]
    fn shown(&self, reading: Timestamp) -> Timestamp {
        reading
    }

    #[cfg(test)]
    fn shown(&self, reading: Timestamp) -> Timestamp {
        Timestamp(reading.0.saturating_add_signed(self.set_off_ms.load(Ordering::Relaxed)))
    }

    /// Sets the system's clock off, as this instance sees it.
    #[cfg(test)]
    pub(crate) fn set_off(&self, ms: i64) {
        self.set_off_ms.store(ms, Ordering::Relaxed);
    }
}

/// What the system's wall clock shows, forwards or backwards; on Linux as of the last tick of the kernel, up to
/// [`COARSE_LATE_MAX`](tallymesh_core::time::COARSE_LATE_MAX) ago.
#[inline]
pub(crate) fn coarse_wall() -> Timestamp {
    #[cfg(target_os = "linux")]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        Timestamp(seconds.saturating_mul(1_000) + time.tv_nsec as u64 / 1_000_000)
    }
    #[cfg(not(target_os = "linux"))]
    exact_wall()
}

/// What the system's wall clock shows at this very moment.
#[allow(clippy::disallowed_methods)]
pub(crate) fn exact_wall() -> Timestamp {
    let time = SystemTime::now().duration_since(UNIX_EPOCH);
    Timestamp(time.map_or(0, whole_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_never_shows_a_time_before_its_mark() {
        let future = exact_wall().plus(Duration::from_secs(3600));
        assert_eq!(Clock::new(future).wall(), future);
    }

    #[test]
    fn a_clock_that_is_set_back_is_behind_and_waits_are_longer_by_so_much() {
        let (clock, seconds) = (Clock::new(Timestamp(0)), Duration::from_secs);
        clock.set_off(90_000);
        clock.wall();
        clock.set_off(0);
        assert!(clock.behind() > seconds(80) && clock.behind() <= seconds(90));
        let wait = clock.moment().wait(seconds(4));
        assert!(wait > seconds(84) && wait <= seconds(95), "{wait:?}");
        clock.set_off(90_000);
        assert_eq!(clock.behind(), Duration::ZERO);
    }

    #[test]
    fn the_exact_clock_is_not_behind_the_coarse_one() {
        let clock = Clock::new(Timestamp(0));
        for _ in 0..1_000 {
            let coarse = clock.wall();
            let exact = clock.exact().wall;
            assert!(coarse <= exact && exact <= clock.wall());
        }
    }
}
