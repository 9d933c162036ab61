//! The members: every node that was ever met, as far as it is remembered. Of those without a link, what is known stays here.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use core::fmt;
use core::time::Duration;

use super::link::Link;
use super::peers::PeerAbsence;
use crate::id::{NodeId, ReplicaId, Version};
use crate::time::{Now, Timestamp};

/// The most members that are remembered, and the most addresses that are learned.
pub const PEERS_MAX: usize = 4096;

/// A member that was silent for this long is none any more.
pub const MEMBER_FORGOTTEN_AFTER: Duration = Duration::from_secs(24 * 3600);

/// For so long a member that said goodbye is shown.
const GOODBYE_SHOWN_FOR: Duration = Duration::from_secs(3600);

/// How this node has come to know a peer.
///
/// ```
/// use tallymesh::{PeerSource, PeerStatus};
///
/// /// How many members this node would not know without another that told of them.
/// fn learned(peers: &[PeerStatus]) -> usize {
///     peers.iter().filter(|peer| peer.source == Some(PeerSource::Exchange)).count()
/// }
/// assert_eq!(learned(&[]), 0);
/// assert_eq!(PeerSource::DialedUs.to_string(), "dialed_us");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum PeerSource {
    /// It is in the config.
    Config,
    /// Another member told its address.
    Exchange,
    /// It connected to us.
    DialedUs,
}

/// A member as it is remembered when this node starts again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownMember {
    /// The member.
    pub replica: ReplicaId,
    /// Since when this life of it has been one.
    pub since: Timestamp,
    /// When it was last heard.
    pub heard: Timestamp,
    /// Where it says that it can be dialed.
    pub address: Option<String>,
    /// How its address was learned.
    pub source: PeerSource,
}

impl PeerSource {
    const NAMED: [(PeerSource, &str); 3] = [
        (PeerSource::Config, "config"),
        (PeerSource::Exchange, "exchange"),
        (PeerSource::DialedUs, "dialed_us"),
    ];
}

impl fmt::Display for PeerSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = PeerSource::NAMED.iter().find(|(source, _)| source == self);
        f.write_str(named.map_or("", |(_, name)| name))
    }
}

#[derive(Debug, Default)]
pub(super) struct Members {
    all: BTreeMap<NodeId, Member>,
    /// Counts what other members are told of.
    changes: u64,
}

/// A member as it was when it was last seen.
#[derive(Debug)]
pub(super) struct Member {
    pub replica: ReplicaId,
    /// Its watermark of our own replica, as it said.
    pub acked: Version,
    /// Since when this life of it has been a member.
    pub since: Timestamp,
    pub heard: Timestamp,
    /// Why there is no link to it; `None` while there is one.
    pub absence: Option<PeerAbsence>,
    /// Where it says that it can be dialed.
    pub address: Option<String>,
    pub source: PeerSource,
    /// The number of the change that brought it or took it away.
    pub changed: u64,
}

impl Member {
    /// Whether it counts as one of the cluster: it is connected, or was lost.
    fn is_counted(&self) -> bool {
        matches!(self.absence, None | Some(PeerAbsence::Lost))
    }
}

impl Members {
    /// A link to this member is up. Returns what it has confirmed already, and since when it was lost, if it was.
    ///
    /// At most `max` are remembered: the one heard longest ago goes first, of those that no address `is_configured` for.
    pub(super) fn meet(
        &mut self,
        now: Timestamp,
        (replica, address): (&ReplicaId, Option<String>),
        source: Option<PeerSource>,
        max: usize,
        configured: impl FnOnce() -> BTreeSet<NodeId>,
    ) -> (Version, Option<Timestamp>) {
        let known = self.all.get(&replica.node);
        let same_life = known.filter(|known| known.replica == *replica);
        // Another life of it may have lost what this one had.
        let acked = same_life.map_or(Version::ZERO, |known| known.acked);
        let since = same_life.filter(|known| known.is_counted()).map_or(now, |known| known.since);
        let lost = known.filter(|known| known.absence == Some(PeerAbsence::Lost));
        let lost_at = lost.map(|known| known.heard);
        let source = source.or(known.map(|known| known.source)).unwrap_or(PeerSource::DialedUs);
        if known.is_none() {
            self.make_room(max, configured);
        }
        self.changes += 1;
        let member = Member {
            replica: replica.clone(),
            acked,
            since,
            heard: now,
            absence: None,
            address,
            source,
            changed: self.changes,
        };
        self.all.insert(replica.node.clone(), member);
        (acked, lost_at)
    }

    fn make_room(&mut self, max: usize, configured: impl FnOnce() -> BTreeSet<NodeId>) {
        if self.all.len() < max {
            return;
        }
        let configured = configured();
        let gone = self.all.iter().filter(|(_, member)| member.absence.is_some());
        let oldest = gone.min_by_key(|(node, member)| {
            (configured.contains(*node), member.is_counted(), member.heard)
        });
        if let Some(oldest) = oldest.map(|(node, _)| node.clone()) {
            self.all.remove(&oldest);
        }
    }

    /// Notes what a link to a member has shown of it, before the link goes. `absence` is why there is no other one.
    pub(super) fn note(&mut self, now: Now, link: &Link, absence: Option<PeerAbsence>) {
        let Some(replica) = link.peer() else { return };
        if let Some(known) = self.all.get_mut(&replica.node)
            && known.replica == *replica
        {
            let silent_for = link.silent_for(now.monotonic).as_millis() as u64;
            let heard = Timestamp(now.wall.0.saturating_sub(silent_for));
            known.acked = known.acked.max(link.streams.acknowledged());
            known.heard = known.heard.max(heard);
            if known.absence != absence {
                self.changes += 1;
                known.absence = absence;
                known.changed = self.changes;
            }
        }
    }

    /// Another member says that this one said goodbye. Returns whether it counted as lost here.
    pub(super) fn has_stopped(&mut self, replica: &ReplicaId) -> bool {
        let known = self.all.get_mut(&replica.node).filter(|known| known.replica == *replica);
        let lost = known.filter(|known| known.absence == Some(PeerAbsence::Lost));
        let Some(lost) = lost else { return false };
        self.changes += 1;
        (lost.absence, lost.changed) = (Some(PeerAbsence::Stopped), self.changes);
        true
    }

    /// This node has started again, and knew these members before.
    pub(super) fn remember(&mut self, known: KnownMember) {
        let KnownMember { replica, since, heard, address, source } = known;
        if self.all.len() < PEERS_MAX {
            let (acked, absence) = (Version::ZERO, Some(PeerAbsence::Lost));
            let node = replica.node.clone();
            let member =
                Member { replica, acked, since, heard, absence, address, source, changed: 0 };
            self.all.entry(node).or_insert(member);
        }
    }

    /// Forgets who was silent for so long that it is no member any more, and who said goodbye a while ago.
    pub(super) fn forget(&mut self, now: Timestamp) {
        self.all.retain(|_, member| {
            let kept_for = match member.absence {
                None => return true,
                Some(PeerAbsence::Stopped) => GOODBYE_SHOWN_FOR,
                Some(_) => MEMBER_FORGOTTEN_AFTER,
            };
            now.since(member.heard) < kept_for
        });
    }

    /// The number of the last change.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// The member of this name, if it is remembered.
    pub(super) fn get(&self, node: &NodeId) -> Option<&Member> {
        self.all.get(node)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.all.values()
    }

    /// Those that count as ones of the cluster.
    pub(super) fn counted(&self) -> impl Iterator<Item = &Member> {
        self.all.values().filter(|member| member.is_counted())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Incarnation;
    use alloc::{format, vec::Vec};

    fn replica(node: &str, boot: u64) -> ReplicaId {
        ReplicaId { node: node.parse().unwrap(), incarnation: Incarnation { boot, nonce: 1 } }
    }

    fn link(replica: &ReplicaId, acked: u64, heard_s: u64) -> Link {
        let mut link = Link::new(None, None, Duration::ZERO, 0);
        link.introduce(replica.clone());
        link.streams.acked(Version(acked));
        link.hear(Duration::from_secs(heard_s));
        link
    }

    fn at(second: u64) -> Now {
        Now { wall: Timestamp(second * 1000), monotonic: Duration::from_secs(second) }
    }

    fn meet(members: &mut Members, replica: &ReplicaId, s: u64) -> (Version, Option<Timestamp>) {
        members.meet(at(s).wall, (replica, None), None, 9, BTreeSet::new)
    }

    #[test]
    fn what_a_life_has_confirmed_is_kept_for_that_life() {
        let mut members = Members::default();
        let first = replica("b", 1);
        assert_eq!(meet(&mut members, &first, 1), (Version::ZERO, None));
        members.note(at(9), &link(&first, 10, 7), Some(PeerAbsence::Lost));
        let back = meet(&mut members, &first, 20);
        assert_eq!(back, (Version(10), Some(Timestamp(7_000))));
        members.note(at(22), &link(&first, 12, 21), Some(PeerAbsence::Stopped));
        assert_eq!(meet(&mut members, &replica("b", 2), 30), (Version::ZERO, None));
        // A link of the former life that ends late says nothing of this one.
        members.note(at(32), &link(&first, 12, 31), Some(PeerAbsence::Lost));
        assert_eq!(members.get(&"b".parse().unwrap()).unwrap().absence, None);
    }

    #[test]
    fn names_without_end_take_bounded_room_and_the_configured_and_connected_stay() {
        let mut members = Members::default();
        let configured = || BTreeSet::from(["configured".parse().unwrap()]);
        let meet = |members: &mut Members, replica: &ReplicaId, s| {
            members.meet(at(s).wall, (replica, None), None, 20, configured)
        };
        for node in ["configured", "connected"] {
            meet(&mut members, &replica(node, 1), 0);
        }
        members.note(at(0), &link(&replica("configured", 1), 1, 0), Some(PeerAbsence::Lost));
        for n in 0..1_000 {
            let stranger = replica(&format!("stranger-{n}"), 1);
            meet(&mut members, &stranger, n);
            members.note(at(n), &link(&stranger, 0, n), Some(PeerAbsence::Stopped));
        }
        assert_eq!(members.all.len(), 20);
        for node in ["configured", "connected", "stranger-999", "stranger-982"] {
            assert!(members.get(&node.parse().unwrap()).is_some(), "{node}");
        }
    }

    #[test]
    fn a_goodbye_takes_a_member_out_at_once_and_silence_after_a_day() {
        let mut members = Members::default();
        let (says_goodbye, falls_silent) = (replica("b", 1), replica("c", 1));
        meet(&mut members, &says_goodbye, 1);
        meet(&mut members, &falls_silent, 2);
        assert_eq!(members.counted().count(), 2);
        let before = members.changes();
        members.note(at(5), &link(&says_goodbye, 0, 5), Some(PeerAbsence::Stopped));
        members.note(at(5), &link(&falls_silent, 0, 5), Some(PeerAbsence::Lost));
        assert_eq!(members.changes(), before + 2, "both are told");
        assert_eq!(
            members.counted().map(|member| &member.replica).collect::<Vec<_>>(),
            [&falls_silent]
        );
        members.forget(at(5 + 3_600).wall);
        assert_eq!(members.iter().count(), 1);
        // Back after a pause it is the same member, and after a restart another one.
        meet(&mut members, &falls_silent, 4_000);
        assert_eq!(members.get(&"c".parse().unwrap()).unwrap().since, Timestamp(2_000));
        meet(&mut members, &replica("c", 2), 5_000);
        assert_eq!(members.get(&"c".parse().unwrap()).unwrap().since, Timestamp(5_000_000));
        members.note(at(5_000), &link(&replica("c", 2), 0, 5_000), Some(PeerAbsence::Lost));
        members.forget(at(5_000 + 24 * 3_600).wall);
        assert_eq!(members.iter().count(), 0);
    }
}
