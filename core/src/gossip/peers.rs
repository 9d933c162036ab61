//! The peers, as seen from here.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use super::Gossip;
use super::link::Link;
use super::members::{KnownMember, Member, PeerSource};
use crate::id::{NodeId, ReplicaId, Version};
use crate::time::{Now, Timestamp};

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
    /// The address that leads to it: from the config (the name there as long as that is not resolved), as other members tell
    /// it, or as the peer says itself. `None` for one that connected to us and does not listen.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub address: Option<String>,
    /// Its replica; `None` until it has introduced itself.
    #[cfg_attr(feature = "serde", serde(default, with = "crate::text::displayed"))]
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub replica: Option<ReplicaId>,
    /// How its address was learned; `None` for a name that is not resolved.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub source: Option<PeerSource>,
    /// Since when this life of it has been a member; `None` until it has introduced itself.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub since: Option<Timestamp>,
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
    /// The fingerprint of the key that it has proven on the link to it: the cluster's, or its own one; `None` without a link or a key.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub key: Option<String>,
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
    /// Other members have told the address, and it does not answer here.
    Unreachable,
    /// At the address is a node of another cluster.
    OtherCluster,
    /// Something answers at the address, and does not prove that it has a key of the cluster, or of a member: it has another one or none, or does
    /// not accept ours.
    Unproven,
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
            PeerAbsence::Unreachable => "unreachable",
            PeerAbsence::OtherCluster => "other_cluster",
            PeerAbsence::Unproven => "unproven",
        })
    }
}

impl PeerStatus {
    fn of_link(
        (link, member): (&Link, &Member),
        address: Option<String>,
        now: Now,
        own: Version,
    ) -> PeerStatus {
        let estimate = link.clock.estimate();
        PeerStatus {
            address,
            replica: link.peer().cloned(),
            source: Some(member.source),
            since: Some(member.since),
            connected: link.peer().is_some(),
            absence: None,
            lag: link.streams.lag(own),
            clock_offset_ms: estimate.map(|estimate| estimate.offset_ms),
            round_trip: estimate.map(|estimate| estimate.round_trip),
            different_limits: link.different_limits.iter().map(ToString::to_string).collect(),
            key: link.proven.fingerprint().map(ToString::to_string),
            last_heard: Some(link.silent_for(now.monotonic)),
        }
    }

    fn absent(met: &Member, address: Option<String>, now: Now, own: Version) -> PeerStatus {
        PeerStatus {
            address,
            replica: Some(met.replica.clone()),
            source: Some(met.source),
            since: Some(met.since),
            connected: false,
            absence: Some(met.absence.unwrap_or(PeerAbsence::Lost)),
            lag: own.0.saturating_sub(met.acked.0),
            clock_offset_ms: None,
            round_trip: None,
            different_limits: Vec::new(),
            key: None,
            last_heard: Some(now.wall.since(met.heard)),
        }
    }

    fn never_met(
        (address, source): (String, Option<PeerSource>),
        replica: Option<ReplicaId>,
        absence: PeerAbsence,
        own: Version,
    ) -> PeerStatus {
        PeerStatus {
            address: Some(address),
            replica,
            source,
            since: None,
            connected: false,
            absence: Some(absence),
            lag: own.0,
            clock_offset_ms: None,
            round_trip: None,
            different_limits: Vec::new(),
            key: None,
            last_heard: None,
        }
    }
}

impl Gossip {
    /// Every peer of the config by its addresses, and every other that was ever met or told of, as far as it is remembered.
    pub fn peers(&self, now: Now) -> Vec<PeerStatus> {
        let own = self.table.watermark(&self.own);
        let links = self.links.values().filter_map(|link| Some((&link.peer()?.node, link)));
        let links: BTreeMap<&NodeId, &Link> = links.collect();
        let status = |met: &Member, address: Option<String>| match links.get(&met.replica.node) {
            Some(link) => PeerStatus::of_link((link, met), address, now, own),
            None => PeerStatus::absent(met, address, now, own),
        };
        let mut shown = BTreeSet::new();
        let mut peers = Vec::new();
        for seen in self.addresses.of_peers() {
            let node = seen.replica.map(|replica| &replica.node);
            let is_told = seen.source == PeerSource::Exchange;
            if is_told && node.is_some_and(|node| shown.contains(node)) {
                continue;
            }
            let address = seen.address.clone();
            let met = node.and_then(|node| self.members.get(node));
            let met = met.filter(|_| seen.absence != Some(PeerAbsence::OtherCluster));
            peers.push(match met {
                Some(met) => {
                    let mut status = status(met, Some(address));
                    if !status.connected && seen.absence == Some(PeerAbsence::Unproven) {
                        status.absence = seen.absence;
                    }
                    status
                }
                None => {
                    let replica = seen.replica.filter(|_| is_told).cloned();
                    let absence = seen.absence.unwrap_or(PeerAbsence::Unanswered);
                    PeerStatus::never_met((address, Some(seen.source)), replica, absence, own)
                }
            });
            shown.extend(node.filter(|_| is_told || met.is_some()));
        }
        peers.extend(self.addresses.unresolved().map(|name| {
            PeerStatus::never_met((name.clone(), None), None, PeerAbsence::Unresolved, own)
        }));
        let others = self.members.iter().filter(|met| !shown.contains(&met.replica.node));
        peers.extend(others.map(|met| status(met, met.address.clone())));
        peers
    }

    /// This node has started again, and knew these members before: they count as lost until they are met, and those whose addresses
    /// it may learn are dialed. To be called before anything else.
    pub fn remember(&mut self, members: impl IntoIterator<Item = KnownMember>, now: Now) {
        let members = members.into_iter().filter(|known| known.replica.node != self.own.node);
        for known in members {
            if let Some(address) = known
                .address
                .as_ref()
                .filter(|_| self.settings.peer_exchange && known.source == PeerSource::Exchange)
            {
                self.addresses.recall(address, &known.replica, now.monotonic);
            }
            self.members.remember(known);
        }
        self.members.forget(now.wall);
    }

    /// The members of the cluster that are to be remembered, should this node start again.
    pub fn known_members(&self, now: Now) -> Vec<KnownMember> {
        let silence = |node: &NodeId| {
            let links = self.links.values();
            let mut links = links.filter(|link| link.peer().is_some_and(|peer| peer.node == *node));
            links.next().map(|link| link.silent_for(now.monotonic).as_millis() as u64)
        };
        let known = self.members.counted().map(|met| KnownMember {
            replica: met.replica.clone(),
            since: met.since,
            heard: match silence(&met.replica.node) {
                Some(silent_for) => Timestamp(now.wall.0.saturating_sub(silent_for)),
                None => met.heard,
            },
            address: met.address.clone(),
            source: met.source,
        });
        known.collect()
    }

    /// A number that is another one whenever a member has come or gone.
    pub fn member_changes(&self) -> u64 {
        self.members.changes()
    }

    /// How many members the cluster has, as far as is known here, this node included: those that are connected, those that were
    /// lost and may be back, and those that others tell of.
    pub fn cluster_size(&self) -> usize {
        let mut known: BTreeSet<&NodeId> =
            self.members.counted().map(|met| &met.replica.node).collect();
        known.extend(self.addresses.told().map(|replica| &replica.node));
        known.len() + 1
    }
}
