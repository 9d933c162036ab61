//! How a node gossips.

use alloc::string::String;
use alloc::{sync::Arc, vec::Vec};
use core::time::Duration;

use crate::limit::LimitHash;
use crate::wire::DEFAULT_CLUSTER;

/// Times and sizes of the gossip. The defaults suit a cluster in one data center.
#[derive(Debug, Clone)]
pub struct GossipSettings {
    /// The name of the cluster: peers of another one are refused.
    pub cluster: Arc<str>,
    /// Where others can dial this node: `IP:port`, or `:port` at the IP that they see; `None` if it does not listen.
    pub advertised: Option<String>,
    /// Whether addresses are learned from peers that this node dialed.
    pub peer_exchange: bool,
    /// How long a node that stops may wait for a peer to confirm its last updates.
    pub leave_timeout: Duration,
    /// How long after its start a node calls itself ready at the latest.
    pub ready_timeout: Duration,
    /// Time between two rounds, on average.
    pub interval: Duration,
    /// Time between two digests to a peer, on average.
    pub digest_interval: Duration,
    /// With fewer links than this, each node sends its own changes to every peer.
    pub direct_up_to: usize,
    /// In a larger cluster, how many peers a round's rumors are sent to: those that asked for them, and others by chance.
    pub fanout: usize,
    /// The longest frame, in bytes without its header; the config allows 16 KiB to 16 MiB.
    pub frame_bytes_max: usize,
    /// The most frames that wait for a slow peer.
    pub frames_queued_max: usize,
    /// The most links at a time.
    pub links_max: usize,
    /// How long a peer may take to introduce itself.
    pub handshake_timeout: Duration,
    /// A peer that was not heard from for this long is taken for gone.
    pub silence_timeout: Duration,
    /// A member that was silent for this long is none any more for limits that heed cuts; `None` for never.
    pub presumed_dead_after: Option<Duration>,
    /// Whether some limit allows less while members are silent.
    pub heeds_cuts: bool,
    /// A difference between a peer's clock and ours is reported from this on.
    pub clock_offset_max: Duration,
    /// The limits in force here, each name once, which are compared with those of peers.
    pub limits: Arc<[LimitHash]>,
}

impl Default for GossipSettings {
    fn default() -> GossipSettings {
        GossipSettings {
            cluster: DEFAULT_CLUSTER.into(),
            advertised: None,
            peer_exchange: false,
            leave_timeout: Duration::from_secs(1),
            ready_timeout: Duration::from_secs(10),
            interval: Duration::from_millis(50),
            digest_interval: Duration::from_secs(1),
            direct_up_to: 128,
            fanout: 4,
            frame_bytes_max: 64 * 1024,
            frames_queued_max: 8,
            links_max: 2048,
            handshake_timeout: Duration::from_secs(5),
            silence_timeout: Duration::from_secs(5),
            presumed_dead_after: Some(Duration::from_secs(60)),
            heeds_cuts: false,
            clock_offset_max: Duration::from_millis(500),
            limits: Vec::new().into(),
        }
    }
}
