//! The bounds of a table.

use core::time::Duration;

/// The longest [`grace`](Bounds::grace).
pub const GRACE_MAX: Duration = Duration::from_secs(24 * 3600);

/// How much a table may hold, and how it treats time.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// The most counters held.
    pub counters_max: usize,
    /// The longest key in bytes.
    pub key_bytes_max: usize,
    /// The most replicas known.
    pub replicas_max: usize,
    /// The most cells in one counter.
    pub replicas_per_counter_max: usize,
    /// Whether a request that needs a counter past `counters_max` is admitted uncounted instead of denied.
    pub admit_when_full: bool,
    /// How long an expired counter is still kept for updates that arrive late.
    pub grace: Duration,
    /// A counter of a window that starts later than this after now is implausible, and rejected.
    pub future_max: Duration,
    /// The fraction of a limit past which a change does not wait for the tick; 0 to 1.
    pub urgent_fraction: f64,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            counters_max: 1_000_000,
            key_bytes_max: 512,
            replicas_max: 65_536,
            replicas_per_counter_max: 1_024,
            admit_when_full: false,
            grace: Duration::from_secs(60),
            future_max: Duration::from_secs(600),
            urgent_fraction: 0.7,
        }
    }
}
