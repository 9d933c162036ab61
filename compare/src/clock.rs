//! The time, which a benchmark may read.

use std::time::Instant;

use hdrhistogram::Histogram;

/// Now.
#[allow(clippy::disallowed_methods)]
pub fn now() -> Instant {
    Instant::now()
}

/// Nanoseconds since then.
pub fn nanoseconds_since(begun: Instant) -> u64 {
    (now() - begun).as_nanos() as u64
}

/// A histogram of nanoseconds, up to a minute, to three digits.
pub fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are in order")
}

/// What two readings of the clock take with nothing between them: part of everything that is timed by itself.
pub fn timer_alone() -> Histogram<u64> {
    let mut measured = latencies();
    for _ in 0..200_000 {
        let begun = now();
        measured.saturating_record(nanoseconds_since(begun));
    }
    measured
}
