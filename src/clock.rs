//! The one place where the time is read.

use std::time::{Duration, Instant};

use tallymesh_core::time::{MonotonicWall, Now, Timestamp};

/// The system's clocks; the wall clock never steps back, so that a closed window stays closed.
#[derive(Debug)]
pub(crate) struct Clock {
    start: Instant,
    wall: MonotonicWall,
}

impl Clock {
    /// A clock that starts at `high_water` if the system's is behind that.
    #[allow(clippy::disallowed_methods)]
    pub(crate) fn new(high_water: Timestamp) -> Clock {
        Clock { start: Instant::now(), wall: MonotonicWall::at(high_water) }
    }

    /// The wall clock, or the latest time it ever showed if that is later.
    pub(crate) fn wall(&self) -> Timestamp {
        self.wall.observe(system_wall())
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
        Timestamp(time.map_or(0, tallymesh_core::time::whole_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_never_shows_a_time_before_its_mark() {
        let future = system_wall().plus(Duration::from_secs(3600));
        assert_eq!(Clock::new(future).wall(), future);
    }
}
