//! How far a peer's clock is from ours, and how long a message to it and back takes: by one ping at a time.

use core::time::Duration;

use crate::time::{Now, Timestamp};

#[derive(Debug, Default)]
pub(super) struct PeerClock {
    /// When the ping under way was sent.
    pinged_at: Option<Duration>,
    estimate: Option<Estimate>,
}

/// What the last ping has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Estimate {
    /// The peer's clock minus ours, in milliseconds, within about half of `round_trip`.
    pub offset_ms: i64,
    pub round_trip: Duration,
}

impl PeerClock {
    /// Whether to send a ping now, because none is under way; if so, it counts as sent.
    pub(super) fn ping(&mut self, now: Duration) -> bool {
        let idle = self.pinged_at.is_none();
        self.pinged_at.get_or_insert(now);
        idle
    }

    /// A ping is sent now, whether or not one is under way.
    pub(super) fn ping_again(&mut self, now: Duration) {
        self.pinged_at = Some(now);
    }

    /// The answer to the ping under way, if one is: the peer's clock showed `wall`.
    pub(super) fn pong(&mut self, now: Now, wall: Timestamp) -> Option<Estimate> {
        let pinged_at = self.pinged_at.take()?;
        let round_trip = now.monotonic.saturating_sub(pinged_at);
        let halfway = now.wall.0.saturating_sub(round_trip.as_millis() as u64 / 2);
        // The peer may say any number.
        let offset = i128::from(wall.0) - i128::from(halfway);
        let offset_ms = offset.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
        self.estimate = Some(Estimate { offset_ms, round_trip });
        self.estimate
    }

    pub(super) fn estimate(&self) -> Option<Estimate> {
        self.estimate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peers_clock_is_read_halfway_and_only_once_for_each_ping() {
        let mut clock = PeerClock::default();
        let at = |ms| Now { wall: Timestamp(10_000 + ms), monotonic: Duration::from_millis(ms) };
        assert!(clock.ping(at(0).monotonic) && !clock.ping(at(5).monotonic));
        let estimate = clock.pong(at(20), Timestamp(9_510)).unwrap();
        assert_eq!((estimate.offset_ms, estimate.round_trip), (-500, Duration::from_millis(20)));
        assert_eq!(clock.pong(at(30), Timestamp(0)), None, "nothing was asked");
        assert_eq!(clock.estimate(), Some(estimate));
    }

    #[test]
    fn a_clock_beyond_all_times_is_as_far_off_as_can_be() {
        for (wall, offset_ms) in
            [(0, -10_000), (1 << 63, i64::MAX - 9_999), (u64::MAX, i64::MAX), (10_000, 0)]
        {
            let mut clock = PeerClock::default();
            let now = Now { wall: Timestamp(10_000), monotonic: Duration::ZERO };
            assert!(clock.ping(now.monotonic));
            assert_eq!(clock.pong(now, Timestamp(wall)).unwrap().offset_ms, offset_ms, "{wall}");
        }
    }
}
