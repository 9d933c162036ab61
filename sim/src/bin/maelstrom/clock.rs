//! The one place where this program reads the time.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tallymesh_core::time::Now;
use tallymesh_core::time::Timestamp;

/// The system's wall clock as of the start, carried on by the monotonic one: so it never steps back.
#[derive(Debug)]
pub struct Clock {
    start: Instant,
    start_wall: Timestamp,
}

impl Clock {
    /// A clock that starts at the system's time.
    pub fn start() -> Clock {
        let (wall, start) = read();
        let since_epoch = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { start, start_wall: Timestamp(0).plus(since_epoch) }
    }

    /// Both clocks.
    pub fn now(&self) -> Now {
        let monotonic = read().1.duration_since(self.start);
        Now { wall: self.start_wall.plus(monotonic), monotonic }
    }
}

#[allow(clippy::disallowed_methods, reason = "the machines take the time as an argument from here")]
fn read() -> (SystemTime, Instant) {
    (SystemTime::now(), Instant::now())
}
