//! The peers, as seen from here.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use super::Gossip;
use super::link::Link;
use super::met::Met;
use crate::id::{NodeId, ReplicaId, Version};
use crate::time::Now;

/// A peer, as seen from here.
///
/// ```
/// use tallymesh::PeerStatus;
///
/// /// What an operator is told of a peer that is behind.
/// fn complaint(peer: &PeerStatus) -> Option<String> {
///     let name = peer.address.as_deref().unwrap_or("a peer that dialed us");
///     match peer.connected {
///         false => Some(format!("{name} does not answer")),
///         true => (peer.lag > 1_000).then(|| format!("{name} has not confirmed {} updates", peer.lag)),
///     }
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct PeerStatus {
    /// The address from the config that leads to it, or the name there as long as that is not resolved; `None` for a peer that
    /// only connected to us.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub address: Option<String>,
    /// Its replica; `None` until it has introduced itself.
    #[cfg_attr(feature = "serde", serde(default, with = "crate::text::displayed"))]
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub replica: Option<ReplicaId>,
    /// Whether a link to it is up.
    pub connected: bool,
    /// Why none is; `None` while one is.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub absence: Option<PeerAbsence>,
    /// How many of our own updates it has not confirmed yet. Of a peer that is not connected, as it last said.
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

/// Why no link to a peer is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum PeerAbsence {
    /// Its name in the config was never resolved to an address.
    Unresolved,
    /// No peer has ever introduced itself at the address.
    Unanswered,
    /// It said that it stops.
    Stopped,
    /// One end took the other off its list of peers, and closed the link that it had dialed.
    Removed,
    /// One end closed the link over a bound of its own, such as `max_frame_bytes`; the log there says which.
    Refused,
    /// It was there, and did not say that it stops: it crashed, hangs, or the network is cut.
    Lost,
}

impl fmt::Display for PeerAbsence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PeerAbsence::Unresolved => "unresolved",
            PeerAbsence::Unanswered => "unanswered",
            PeerAbsence::Stopped => "stopped",
            PeerAbsence::Removed => "removed",
            PeerAbsence::Refused => "refused",
            PeerAbsence::Lost => "lost",
        })
    }
}

impl PeerStatus {
    fn of_link(link: &Link, address: Option<String>, now: Now, own: Version) -> PeerStatus {
        let estimate = link.clock.estimate();
        PeerStatus {
            address,
            replica: link.peer().cloned(),
            connected: link.peer().is_some(),
            absence: None,
            lag: link.streams.lag(own),
            clock_offset_ms: estimate.map(|estimate| estimate.offset_ms),
            round_trip: estimate.map(|estimate| estimate.round_trip),
            different_limits: link.different_limits.iter().map(ToString::to_string).collect(),
            last_heard: Some(link.silent_for(now.monotonic)),
        }
    }

    fn absent(met: &Met, address: Option<String>, now: Now, own: Version) -> PeerStatus {
        PeerStatus {
            address,
            replica: Some(met.replica.clone()),
            connected: false,
            absence: Some(met.absence.unwrap_or(PeerAbsence::Lost)),
            lag: own.0.saturating_sub(met.acked.0),
            clock_offset_ms: None,
            round_trip: None,
            different_limits: Vec::new(),
            last_heard: Some(now.monotonic.saturating_sub(met.heard_at)),
        }
    }

    fn never_met(address: String, absence: PeerAbsence, own: Version) -> PeerStatus {
        PeerStatus {
            address: Some(address),
            replica: None,
            connected: false,
            absence: Some(absence),
            lag: own.0,
            clock_offset_ms: None,
            round_trip: None,
            different_limits: Vec::new(),
            last_heard: None,
        }
    }
}

impl Gossip {
    /// Every peer of the config by its addresses, and every other that was ever met, as far as it is remembered.
    pub fn peers(&self, now: Now) -> Vec<PeerStatus> {
        let own = self.table.watermark(&self.own);
        let links = self.links.values().filter_map(|link| Some((&link.peer()?.node, link)));
        let links: BTreeMap<&NodeId, &Link> = links.collect();
        let status = |met: &Met, address: Option<String>| match links.get(&met.replica.node) {
            Some(link) => PeerStatus::of_link(link, address, now, own),
            None => PeerStatus::absent(met, address, now, own),
        };
        let mut shown = BTreeSet::new();
        let mut peers = Vec::new();
        for (address, replica) in self.addresses.of_peers() {
            let met = replica.and_then(|replica| self.met.get(&replica.node));
            peers.push(match met {
                Some(met) => status(met, Some(address.clone())),
                None => PeerStatus::never_met(address.clone(), PeerAbsence::Unanswered, own),
            });
            shown.extend(met.map(|met| &met.replica.node));
        }
        let unresolved = self.addresses.unresolved();
        peers.extend(
            unresolved
                .map(|name| PeerStatus::never_met(name.clone(), PeerAbsence::Unresolved, own)),
        );
        let others = self.met.iter().filter(|met| !shown.contains(&met.replica.node));
        peers.extend(others.map(|met| status(met, None)));
        peers
    }
}
