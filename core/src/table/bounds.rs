//! The bounds of a table, and the names of all bounds that something can be refused over.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

/// The longest [`grace`](Bounds::grace).
pub const GRACE_MAX: Duration = Duration::from_secs(24 * 3600);

/// How much a table may hold, and how it treats time.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// The most counters held.
    pub counters_max: usize,
    /// The names of the limits that are decided by: a part of the room for counters is [kept](super::Share::kept) for each.
    pub limits: Vec<Box<str>>,
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
            limits: Vec::new(),
            key_bytes_max: 512,
            replicas_max: 262_144,
            replicas_per_counter_max: 131_072,
            admit_when_full: false,
            grace: Duration::from_secs(60),
            future_max: Duration::from_secs(600),
            urgent_fraction: 0.7,
        }
    }
}

/// A bound of this node over which something was refused. It is no peer's fault: what to do about it is a setting here, or
/// fewer of what there is too much of.
///
/// ```
/// use tallymesh_core::table::{Bound, Rejections};
///
/// let none = Rejections::default();
/// assert!(Bound::ALL.iter().all(|bound| none.refused(*bound) == 0));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Bound {
    /// The most counters.
    Counters,
    /// The most replicas that are remembered.
    Replicas,
    /// The most replicas in one counter.
    ReplicasPerCounter,
    /// The most connections at a time.
    Connections,
    /// The longest frame.
    FrameBytes,
    /// The most frames that wait for a peer.
    FramesQueued,
    /// The most addresses of peers.
    Addresses,
}

impl Bound {
    /// All of them.
    pub const ALL: [Bound; 7] = [
        Bound::Counters,
        Bound::Replicas,
        Bound::ReplicasPerCounter,
        Bound::Connections,
        Bound::FrameBytes,
        Bound::FramesQueued,
        Bound::Addresses,
    ];
}
