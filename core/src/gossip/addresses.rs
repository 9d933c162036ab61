//! The peers' addresses: which to dial, and when again.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::event::PeerAddresses;
use crate::id::ReplicaId;
use crate::link::LinkId;

/// How long an address that failed is left alone: twice as long after each failure, from the least to the most.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct Addresses {
    /// The peers of the config, each with the addresses that its name has.
    peers: Vec<PeerAddresses>,
    all: BTreeMap<String, Address>,
}

#[derive(Debug)]
struct Address {
    state: State,
    failures: u32,
    /// Whether it answered or failed at least once.
    tried: bool,
    /// Whether it answered at least once: a peer introduced itself there, or it is our own.
    answered: bool,
    /// The peer that was last met there.
    replica: Option<ReplicaId>,
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
    /// It is our own.
    Own,
}

impl Addresses {
    /// Makes these the peers; the addresses known before keep their state, and `linked` are those that a link leads to.
    /// Returns the addresses whose peers were taken off the list. One that a peer's name does not mean any more is not among
    /// them: a name server may leave out a peer that is busy for a while.
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
        let left = self.all.keys().filter(|address| !addresses.contains(address));
        let removed = left.filter(|address| !meant.contains(address)).cloned().collect();
        self.all.retain(|address, _| addresses.contains(address));
        for address in addresses {
            self.all.entry(address.clone()).or_insert(Address {
                state: match linked.get(address) {
                    Some(link) => State::Linked(*link),
                    None => State::Idle { until: now },
                },
                failures: 0,
                tried: false,
                answered: false,
                replica: None,
            });
        }
        self.peers = peers;
        removed
    }

    /// Whether this is an address of a peer on the list.
    pub(super) fn has(&self, address: &str) -> bool {
        self.all.contains_key(address)
    }

    /// Whether there are addresses, and all of them are our own.
    pub(super) fn are_all_own(&self) -> bool {
        let is_own = |known: &Address| known.state == State::Own;
        !self.all.is_empty() && self.all.values().all(is_own) && self.unresolved().next().is_none()
    }

    /// Takes the addresses that are due to be dialed.
    pub(super) fn due(&mut self, now: Duration) -> Vec<String> {
        let mut due = Vec::new();
        for (address, known) in &mut self.all {
            if matches!(known.state, State::Idle { until } if until <= now) {
                known.state = State::Dialing;
                due.push(address.clone());
            }
        }
        due
    }

    /// An address did not answer, or its link is gone. `jitter` is from 0 to 1.
    pub(super) fn failed(&mut self, address: &str, now: Duration, jitter: f64) {
        if let Some(known) = self.all.get_mut(address) {
            let backoff = (BACKOFF_MIN * (1 << known.failures.min(8))).min(BACKOFF_MAX);
            known.failures += 1;
            known.tried = true;
            known.state = State::Idle { until: now + backoff.mul_f64(0.5 + jitter / 2.0) };
        }
    }

    /// A connection to this address is established.
    pub(super) fn linked(&mut self, address: &str, link: LinkId) {
        if let Some(known) = self.all.get_mut(address) {
            known.state = State::Linked(link);
        }
    }

    /// A peer has introduced itself at this address.
    pub(super) fn met(&mut self, address: &str, replica: &ReplicaId) {
        if let Some(known) = self.all.get_mut(address) {
            known.replica = Some(replica.clone());
            known.failures = 0;
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
            known.state = State::Redundant;
        }
    }

    /// The last link to this peer is gone: its addresses are to be dialed again.
    pub(super) fn clear_redundant(&mut self, replica: &ReplicaId, now: Duration) {
        for known in self.all.values_mut() {
            if known.state == State::Redundant && known.replica.as_ref() == Some(replica) {
                known.state = State::Idle { until: now + BACKOFF_MIN };
            }
        }
    }

    /// This address leads to ourselves and is never dialed again.
    pub(super) fn own(&mut self, address: &str) {
        if let Some(known) = self.all.get_mut(address) {
            known.state = State::Own;
            known.tried = true;
            known.answered = true;
        }
    }

    /// The peers that were met at addresses of the config.
    pub(super) fn replicas(&self) -> impl Iterator<Item = &ReplicaId> {
        self.all.values().filter_map(|known| known.replica.as_ref())
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

    /// The addresses of others, with the peer that was last met there.
    pub(super) fn of_peers(&self) -> impl Iterator<Item = (&String, Option<&ReplicaId>)> {
        let others = self.all.iter().filter(|(_, known)| known.state != State::Own);
        others.map(|(address, known)| (address, known.replica.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{string::ToString, vec};

    #[test]
    fn failures_back_off_to_a_cap_and_success_starts_over() {
        let mut addresses = Addresses::default();
        addresses.set(vec!["a:1".to_string().into()], &BTreeMap::new(), Duration::ZERO);
        let mut now = Duration::ZERO;
        let mut waits = Vec::new();
        for _ in 0..10 {
            assert_eq!(addresses.due(now), ["a:1"]);
            addresses.failed("a:1", now, 1.0);
            let State::Idle { until } = addresses.all["a:1"].state else { panic!("it waits") };
            waits.push(until - now);
            assert!(addresses.due(now).is_empty());
            now = until;
        }
        assert!(waits.is_sorted());
        assert_eq!((waits[0], waits[9]), (BACKOFF_MIN, BACKOFF_MAX));
    }

    #[test]
    fn a_peer_has_answered_once_all_its_addresses_were_tried_and_one_did() {
        let mut addresses = Addresses::default();
        assert!(addresses.all_answered(), "there is none");
        let peer = |addresses: &[&str]| PeerAddresses {
            name: "b:1".into(),
            addresses: addresses.iter().map(ToString::to_string).collect(),
        };
        let set = |known: &mut Addresses, peers| known.set(peers, &BTreeMap::new(), Duration::ZERO);
        set(&mut addresses, vec![peer(&[])]);
        assert!(!addresses.all_answered());
        assert_eq!(addresses.unresolved().collect::<Vec<_>>(), ["b:1"]);
        set(&mut addresses, vec![peer(&["::1", "127.0.0.1"])]);
        assert_eq!(addresses.unresolved().count(), 0);
        addresses.failed("::1", Duration::ZERO, 0.0);
        assert!(!addresses.all_answered());
        addresses.failed("127.0.0.1", Duration::ZERO, 0.0);
        assert!(!addresses.all_answered(), "a refusal is no answer");
        addresses.own("127.0.0.1");
        assert!(addresses.all_answered());
        set(&mut addresses, vec![peer(&["127.0.0.1"]), peer(&["10.0.0.1"])]);
        assert!(!addresses.all_answered(), "each peer has to");
    }

    #[test]
    fn what_a_name_does_not_mean_any_more_is_told_from_a_name_that_was_taken_off() {
        let mut addresses = Addresses::default();
        let peer = |name: &str, addresses: &[&str]| PeerAddresses {
            name: name.into(),
            addresses: addresses.iter().map(ToString::to_string).collect(),
        };
        let unlinked = BTreeMap::new();
        let mut set = |peers, linked: &_| addresses.set(peers, linked, Duration::ZERO);
        assert!(
            set(vec![peer("b:1", &["1", "2"]), peer("c:1", &["2", "3"])], &unlinked).is_empty()
        );
        // One address of b is another now; c is gone, but b still means one of its addresses.
        let removed = set(vec![peer("b:1", &["2", "4"])], &unlinked);
        assert_eq!(removed, ["3"]);
        assert!(addresses.has("4") && !addresses.has("1"));
        // An address that comes back finds its link.
        let linked = BTreeMap::from([("1".to_string(), LinkId(7))]);
        addresses.due(Duration::ZERO);
        addresses.set(vec![peer("b:1", &["1"])], &linked, Duration::ZERO);
        assert!(addresses.due(Duration::ZERO).is_empty() && !addresses.are_all_own());
        addresses.own("1");
        assert!(addresses.are_all_own());
    }
}
