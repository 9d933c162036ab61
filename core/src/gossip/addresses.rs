//! The peers' addresses: which to dial, and when again.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::event::PeerAddresses;
use super::members::{PEERS_MAX, PeerSource};
use super::peers::PeerAbsence;
use crate::id::{NodeId, ReplicaId};
use crate::link::LinkId;

/// How long an address that failed is left alone: twice as long after each failure, from the least to the most.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// What seems to be our own address is dialed again after so long: another node may have come there, or something else said so.
const OWN_AGAIN_AFTER: Duration = Duration::from_secs(60);
/// So many times the wait is doubled at most.
const FAILURES_MOST: u32 = 8;

/// An address that no peer names any more is forgotten when it has not answered for so long.
const LEARNED_KEPT_FOR: Duration = Duration::from_secs(300);
/// After so many failures in a row an address that others name is called unreachable: until then they may not have told yet that
/// it is gone.
const FAILURES_UNREACHABLE: u32 = 5;

#[derive(Debug, Default)]
pub(super) struct Addresses {
    /// The peers of the config, each with the addresses that its name has.
    peers: Vec<PeerAddresses>,
    all: BTreeMap<String, Address>,
    /// Whether it was told that all of them are our own, since one was not.
    is_told_all_own: bool,
}

#[derive(Debug)]
struct Address {
    state: State,
    failures: u32,
    /// Whether it answered or failed at least once.
    tried: bool,
    /// Whether it answered at least once: a peer introduced itself there, or it is our own.
    answered: bool,
    /// The peer that was last met there, or that others say is there.
    replica: Option<ReplicaId>,
    is_configured: bool,
    /// The links over which it was named by peers that have not taken that back.
    named_over: BTreeSet<LinkId>,
    /// Since when it has not answered.
    failing_since: Option<Duration>,
    is_of_other_cluster: bool,
    /// Whether what answered last did not prove who it is.
    is_unproven: bool,
    /// Whether it is our own, as far as is known, also while that is tried again.
    seems_own: bool,
}

/// An address, and what is known of it.
pub(super) struct Seen<'a> {
    pub address: &'a String,
    /// The peer that was last met there, or that others say is there.
    pub replica: Option<&'a ReplicaId>,
    pub source: PeerSource,
    /// Why no node was met there, if none was.
    pub absence: Option<PeerAbsence>,
}

/// Whether an address that others name was taken in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Learned {
    Yes,
    /// There are as many as are remembered.
    NoRoom,
}

impl Address {
    fn new(until: Duration) -> Address {
        Address {
            state: State::Idle { until },
            failures: 0,
            tried: false,
            answered: false,
            replica: None,
            is_configured: false,
            named_over: BTreeSet::new(),
            failing_since: None,
            is_of_other_cluster: false,
            is_unproven: false,
            seems_own: false,
        }
    }

    fn is_of(&self, node: &NodeId) -> bool {
        self.replica.as_ref().is_some_and(|replica| replica.node == *node)
    }

    fn source(&self) -> PeerSource {
        if self.is_configured { PeerSource::Config } else { PeerSource::Exchange }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// Not to be dialed before this.
    Idle {
        until: Duration,
    },
    Dialing,
    Linked(LinkId),
    /// Another link leads to the same peer.
    Redundant,
    /// It is our own, as far as is known; to be dialed again then, once that was decided.
    Own {
        again: Option<Duration>,
    },
}

impl Addresses {
    /// Makes these the peers of the config; the addresses known before keep their state, and `linked` are those that a link
    /// leads to. Returns the addresses whose peers were taken off the list, and that no other member names. One that a peer's name
    /// does not mean any more is not among them: a name server may leave out a peer that is busy for a while.
    pub(super) fn set(
        &mut self,
        peers: Vec<PeerAddresses>,
        linked: &BTreeMap<String, LinkId>,
        now: Duration,
    ) -> Vec<String> {
        let addresses: BTreeSet<&String> = peers.iter().flat_map(|peer| &peer.addresses).collect();
        let names: BTreeSet<&String> = peers.iter().map(|peer| &peer.name).collect();
        let stay = self.peers.iter().filter(|peer| names.contains(&peer.name));
        let meant: BTreeSet<&String> = stay.flat_map(|peer| &peer.addresses).collect();
        let has_left = |(address, known): &(&String, &Address)| {
            let is_wanted = addresses.contains(address) || meant.contains(address);
            known.is_configured && known.named_over.is_empty() && !is_wanted
        };
        let left = self.all.iter().filter(has_left);
        let removed = left.map(|(address, _)| address.clone()).collect();
        self.all.retain(|address, known| {
            let was_configured = core::mem::take(&mut known.is_configured);
            known.is_configured = addresses.contains(address);
            known.is_configured || !was_configured || !known.named_over.is_empty()
        });
        for address in addresses {
            let known = self.all.entry(address.clone()).or_insert_with(|| Address {
                state: match linked.get(address) {
                    Some(link) => State::Linked(*link),
                    None => State::Idle { until: now },
                },
                ..Address::new(now)
            });
            known.is_configured = true;
        }
        self.peers = peers;
        removed
    }

    /// Whether this is an address of a peer on the list.
    pub(super) fn has(&self, address: &str) -> bool {
        self.all.contains_key(address)
    }

    /// Whether there are addresses, all of them are our own, and that was not told before.
    pub(super) fn are_all_own(&mut self) -> bool {
        let are_own = !self.all.is_empty() && self.all.values().all(|known| known.seems_own);
        let are_own = are_own && self.unresolved().next().is_none();
        are_own && !core::mem::replace(&mut self.is_told_all_own, true)
    }

    /// A peer has a link to this replica, and says over `link` that it can be dialed here. While a link of ours leads there,
    /// it need not be.
    pub(super) fn learn(
        &mut self,
        address: &str,
        replica: &ReplicaId,
        (link, is_connected): (LinkId, bool),
        now: Duration,
    ) -> Learned {
        if !self.all.contains_key(address) {
            let learned = self.all.values().filter(|known| !known.is_configured);
            if learned.count() >= PEERS_MAX {
                return Learned::NoRoom;
            }
        }
        let known = self.all.entry(address.into()).or_insert_with(|| Address::new(now));
        known.named_over.insert(link);
        if !known.is_configured || known.replica.is_none() {
            known.replica = Some(replica.clone());
        }
        if let State::Idle { until } = &mut known.state {
            // A peer has just reached it.
            *until = now.min(*until);
            if is_connected && !known.is_configured {
                known.state = State::Redundant;
                known.tried = true;
            }
        }
        Learned::Yes
    }

    /// An address that was learned before this node started again.
    pub(super) fn recall(&mut self, address: &str, replica: &ReplicaId, now: Duration) {
        if self.all.len() < PEERS_MAX {
            let known = self.all.entry(address.into()).or_insert_with(|| Address::new(now));
            known.replica.get_or_insert_with(|| replica.clone());
        }
    }

    /// The peer at the other end of `link` has no link to this node any more.
    pub(super) fn unname(&mut self, node: &NodeId, link: LinkId) {
        for known in self.all.values_mut().filter(|known| known.is_of(node)) {
            known.named_over.remove(&link);
        }
    }

    /// This link is gone, and with it what was named over it.
    pub(super) fn teller_gone(&mut self, link: LinkId) {
        for known in self.all.values_mut() {
            known.named_over.remove(&link);
        }
    }

    /// A link to this replica is up: the addresses that others told of it need not be dialed.
    pub(super) fn connected(&mut self, replica: &ReplicaId) {
        let told = self.all.values_mut().filter(|known| !known.is_configured);
        for known in told.filter(|known| known.is_of(&replica.node)) {
            known.replica = Some(replica.clone());
            known.failing_since = None;
            if matches!(known.state, State::Idle { .. }) {
                known.state = State::Redundant;
                known.tried = true;
            }
        }
    }

    /// This node has said goodbye: what others told of it leads nowhere.
    pub(super) fn stopped(&mut self, node: &NodeId) {
        self.all.retain(|_, known| known.is_configured || !known.is_of(node));
    }

    /// At this address is a node of another cluster: it is dialed again only after the longest wait.
    pub(super) fn of_other_cluster(&mut self, address: &str) {
        if let Some(known) = self.all.get_mut(address) {
            known.is_of_other_cluster = true;
            known.tried = true;
            if let State::Idle { until } = &mut known.state
                && known.failures < FAILURES_MOST
            {
                *until += BACKOFF_MAX;
            }
            known.failures = known.failures.max(FAILURES_MOST);
        }
    }

    /// Forgets the addresses that no peer names any more and that have not answered for a while.
    pub(super) fn forget(&mut self, now: Duration) {
        self.all.retain(|_, known| {
            let is_wanted = known.is_configured || !known.named_over.is_empty();
            let is_in_use = !matches!(known.state, State::Idle { .. } | State::Own { .. });
            let is_fresh = known
                .failing_since
                .is_none_or(|since| now.saturating_sub(since) < LEARNED_KEPT_FOR);
            is_wanted || is_in_use || is_fresh && !known.seems_own
        });
    }

    /// Takes the addresses that are due to be dialed.
    pub(super) fn due(&mut self, now: Duration) -> Vec<String> {
        let mut due = Vec::new();
        for (address, known) in &mut self.all {
            match &mut known.state {
                State::Idle { until } if *until <= now => known.state = State::Dialing,
                // It stays what it seems to be until something else is met there.
                State::Own { again: Some(until) } if *until <= now => {
                    known.state = State::Own { again: None };
                }
                State::Own { again: again @ None } => {
                    *again = Some(now + OWN_AGAIN_AFTER);
                    continue;
                }
                _ => continue,
            }
            due.push(address.clone());
        }
        due
    }

    /// An address did not answer, or its link is gone. `jitter` is from 0 to 1.
    pub(super) fn failed(&mut self, address: &str, now: Duration, jitter: f64) {
        if let Some(known) = self.all.get_mut(address) {
            let backoff = (BACKOFF_MIN * (1 << known.failures.min(FAILURES_MOST))).min(BACKOFF_MAX);
            known.failures += 1;
            known.is_unproven = false;
            known.seems_own = false;
            known.failing_since.get_or_insert(now);
            known.tried = true;
            known.state = State::Idle { until: now + backoff.mul_f64(0.5 + jitter / 2.0) };
        }
    }

    /// What answers at this address, which [`failed`](Self::failed), did not prove who it is.
    pub(super) fn unproven(&mut self, address: &str) {
        if let Some(known) = self.all.get_mut(address) {
            known.is_unproven = true;
        }
    }

    /// A connection to this address is established.
    pub(super) fn linked(&mut self, address: &str, link: LinkId) {
        if let Some(known) = self.all.get_mut(address) {
            known.state = State::Linked(link);
            known.is_unproven = false;
        }
    }

    /// Whether a newer link than this one leads to the address.
    pub(super) fn has_other_link(&self, address: &str, link: LinkId) -> bool {
        let known = self.all.get(address);
        known.is_some_and(|known| matches!(known.state, State::Linked(other) if other != link))
    }

    /// A peer has introduced itself at this address.
    pub(super) fn met(&mut self, address: &str, replica: &ReplicaId) {
        self.is_told_all_own = false;
        if let Some(known) = self.all.get_mut(address) {
            known.replica = Some(replica.clone());
            known.failures = 0;
            known.failing_since = None;
            known.is_of_other_cluster = false;
            known.seems_own = false;
            known.tried = true;
            known.answered = true;
        }
    }

    /// Another link leads to the peer at this address: it need not be dialed while that is there.
    pub(super) fn mark_redundant(&mut self, address: &str, replica: &ReplicaId) {
        if let Some(known) = self.all.get_mut(address) {
            known.replica = Some(replica.clone());
            known.tried = true;
            known.answered = true;
            known.failing_since = None;
            known.seems_own = false;
            known.state = State::Redundant;
        }
    }

    /// The last link to this peer is gone: its addresses are to be dialed again.
    pub(super) fn clear_redundant(&mut self, replica: &ReplicaId, now: Duration) {
        for known in self.all.values_mut() {
            // Others may have told of another life of it.
            let is_its = known.replica.as_ref() == Some(replica)
                || !known.is_configured && known.is_of(&replica.node);
            if known.state == State::Redundant && is_its {
                known.state = State::Idle { until: now + BACKOFF_MIN };
            }
        }
    }

    /// This address leads to ourselves, and is dialed again only after a long while.
    pub(super) fn own(&mut self, address: &str) {
        if let Some(known) = self.all.get_mut(address) {
            known.state = State::Own { again: None };
            known.seems_own = true;
            known.tried = true;
            known.answered = true;
        }
    }

    /// The peers that were met at addresses of the config.
    pub(super) fn replicas(&self) -> impl Iterator<Item = &ReplicaId> {
        let configured = self.all.values().filter(|known| known.is_configured);
        configured.filter_map(|known| known.replica.as_ref())
    }

    /// The replicas that others tell of now.
    pub(super) fn told(&self) -> impl Iterator<Item = &ReplicaId> {
        let told = self.all.values().filter(|known| !known.named_over.is_empty());
        told.filter(|known| !known.seems_own).filter_map(|known| known.replica.as_ref())
    }

    /// If this address is known from others only: who is there by what they say, and whether it is time to say that it does not
    /// answer.
    pub(super) fn told_of(&self, address: &str) -> Option<(&ReplicaId, bool)> {
        let known = self.all.get(address).filter(|known| !known.is_configured)?;
        let is_time = known.failures == FAILURES_UNREACHABLE && !known.named_over.is_empty();
        Some((known.replica.as_ref()?, is_time))
    }

    /// How this address came to be known.
    pub(super) fn source(&self, address: &str) -> Option<PeerSource> {
        self.all.get(address).map(Address::source)
    }

    /// The addresses that have neither answered nor failed.
    pub(super) fn untried(&self) -> impl Iterator<Item = &String> {
        self.all.iter().filter(|(_, known)| !known.tried).map(|(address, _)| address)
    }

    /// The peer that was last met at this address.
    pub(super) fn replica_at(&self, address: &str) -> Option<&ReplicaId> {
        self.all.get(address)?.replica.as_ref()
    }

    /// Whether each address has answered or failed at least once, and of each peer of the config one has answered. A name may
    /// have addresses that lead nowhere, such as one of another family.
    pub(super) fn all_answered(&self) -> bool {
        let has_answered = |peer: &PeerAddresses| {
            let known = || peer.addresses.iter().filter_map(|address| self.all.get(address));
            known().all(|address| address.tried) && known().any(|address| address.answered)
        };
        self.peers.iter().all(has_answered)
    }

    /// The names of the config that have no address.
    pub(super) fn unresolved(&self) -> impl Iterator<Item = &String> {
        let unresolved = self.peers.iter().filter(|peer| peer.addresses.is_empty());
        unresolved.map(|peer| &peer.name)
    }

    /// The other addresses of the names that this is an address of, each with whether a peer was met there.
    pub(super) fn siblings<'a>(
        &'a self,
        address: &'a str,
    ) -> impl Iterator<Item = (&'a str, bool)> {
        let of_name = move |peer: &&PeerAddresses| peer.addresses.iter().any(|one| one == address);
        let named = self.peers.iter().filter(of_name).flat_map(|peer| &peer.addresses);
        named.filter(move |one| *one != address).map(|one| {
            let met = self.all.get(one).is_some_and(|known| known.answered);
            (one.as_str(), met)
        })
    }

    /// The addresses of others: first those of the config.
    pub(super) fn of_peers(&self) -> impl Iterator<Item = Seen<'_>> {
        let others = || self.all.iter().filter(|(_, known)| !known.seems_own);
        let configured = others().filter(|(_, known)| known.is_configured);
        let told = others().filter(|(_, known)| !known.is_configured);
        configured.chain(told).map(|(address, known)| {
            let absence = match known.is_configured {
                _ if known.is_of_other_cluster => Some(PeerAbsence::OtherCluster),
                _ if known.is_unproven => Some(PeerAbsence::Unproven),
                true => None,
                false => (known.failures > 0).then_some(PeerAbsence::Unreachable),
            };
            Seen { address, replica: known.replica.as_ref(), source: known.source(), absence }
        })
    }
}

#[cfg(test)]
mod tests;
