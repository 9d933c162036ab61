//! The peers, as seen from here.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use super::Gossip;
use super::link::Link;
use crate::id::{ReplicaId, Version};
use crate::time::Now;

/// A peer, as seen from here.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct PeerStatus {
    /// The address from the config that leads to it; `None` for a peer that only connected to us.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub address: Option<String>,
    /// Its replica; `None` until it has introduced itself.
    #[cfg_attr(feature = "serde", serde(default, with = "crate::text::displayed"))]
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub replica: Option<ReplicaId>,
    /// Whether a link to it is up.
    pub connected: bool,
    /// How many of our own updates it has not confirmed yet.
    pub lag: u64,
    /// Its clock minus ours in milliseconds, within about half of `round_trip`.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub clock_offset_ms: Option<i64>,
    /// How long a message to it and back took last.
    #[cfg_attr(feature = "serde", serde(default, with = "crate::text::duration"))]
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub round_trip: Option<Duration>,
    /// The limits of ours that say something else there: another maximum, window, `when` or `per` under the same name.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Vec::is_empty"))]
    pub different_limits: Vec<String>,
    /// How long ago it was last heard.
    #[cfg_attr(feature = "serde", serde(default, with = "crate::text::duration"))]
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub last_heard: Option<Duration>,
}

impl PeerStatus {
    fn of_link(link: &Link, address: Option<String>, now: Now, own: Version) -> PeerStatus {
        let estimate = link.clock.estimate();
        PeerStatus {
            address,
            replica: link.peer().cloned(),
            connected: link.peer().is_some(),
            lag: link.streams.lag(own),
            clock_offset_ms: estimate.map(|estimate| estimate.offset_ms),
            round_trip: estimate.map(|estimate| estimate.round_trip),
            different_limits: link.different_limits.iter().map(ToString::to_string).collect(),
            last_heard: Some(link.silent_for(now.monotonic)),
        }
    }

    fn unlinked(address: String, replica: Option<ReplicaId>, own: Version) -> PeerStatus {
        PeerStatus {
            address: Some(address),
            replica,
            connected: false,
            lag: own.0,
            clock_offset_ms: None,
            round_trip: None,
            different_limits: Vec::new(),
            last_heard: None,
        }
    }
}

impl Gossip {
    /// Every address, and every peer that came by itself.
    pub fn peers(&self, now: Now) -> Vec<PeerStatus> {
        let own = self.table.watermark(&self.own);
        let mut shown = Vec::new();
        let mut peers = Vec::new();
        for (address, replica) in self.addresses.of_peers() {
            let leads_there = |link: &&Link| replica.is_some() && link.peer() == replica;
            let link = self.links.values().find(leads_there);
            peers.push(match link {
                Some(link) => PeerStatus::of_link(link, Some(address.clone()), now, own),
                None => PeerStatus::unlinked(address.clone(), replica.cloned(), own),
            });
            shown.extend(link.and_then(|link| link.peer().cloned()));
        }
        let by_itself = |link: &&Link| link.peer().is_some_and(|peer| !shown.contains(peer));
        let by_themselves = self.links.values().filter(by_itself);
        peers.extend(by_themselves.map(|link| PeerStatus::of_link(link, None, now, own)));
        peers
    }
}
