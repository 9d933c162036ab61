//! The one place where the time is read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::time::{Now, Timestamp};

/// The system's clocks; the wall clock never steps back, so that a closed window stays closed.
#[derive(Debug)]
pub(crate) struct Clock {
    start: Instant,
    high_water: AtomicU64,
}

impl Clock {
    /// A clock that starts at `high_water` if the system's is behind that.
    #[allow(clippy::disallowed_methods)]
    pub fn new(high_water: Timestamp) -> Clock {
        Clock { start: Instant::now(), high_water: AtomicU64::new(high_water.0) }
    }

    /// The wall clock, or the latest time it ever showed if that is later.
    pub fn wall(&self) -> Timestamp {
        self.not_before_high_water(system_wall())
    }

    /// Both clocks.
    pub fn now(&self) -> Now {
        Now { wall: self.wall(), monotonic: self.monotonic() }
    }

    /// Time since the clock was made.
    #[allow(clippy::disallowed_methods)]
    pub fn monotonic(&self) -> Duration {
        Instant::now() - self.start
    }

    fn not_before_high_water(&self, reading: Timestamp) -> Timestamp {
        let high_water = self.high_water.load(Ordering::Relaxed);
        if reading.0 <= high_water {
            return Timestamp(high_water);
        }
        // Written once a millisecond at the most, so that threads do not fight over it at every decision.
        Timestamp(self.high_water.fetch_max(reading.0, Ordering::Relaxed).max(reading.0))
    }
}

/// What the system's wall clock shows, forwards or backwards; on Linux as of the last tick of the kernel, at most 10 ms ago.
pub(crate) fn system_wall() -> Timestamp {
    #[cfg(target_os = "linux")]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        Timestamp(seconds.saturating_mul(1_000) + time.tv_nsec as u64 / 1_000_000)
    }
    #[cfg(not(target_os = "linux"))]
    #[allow(clippy::disallowed_methods)]
    {
        use std::time::{SystemTime, UNIX_EPOCH};
        let time = SystemTime::now().duration_since(UNIX_EPOCH);
        Timestamp(time.map_or(0, crate::time::whole_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_never_steps_back() {
        let clock = Clock::new(Timestamp(1_000));
        let readings = [900, 1_100, 1_050, 1_200];
        let shown = readings.map(|reading| clock.not_before_high_water(Timestamp(reading)).0);
        assert_eq!(shown, [1_000, 1_100, 1_100, 1_200]);
    }

    #[test]
    fn a_high_water_mark_in_the_future_holds() {
        let future = system_wall().plus(Duration::from_secs(3600));
        assert_eq!(Clock::new(future).wall(), future);
    }
}
