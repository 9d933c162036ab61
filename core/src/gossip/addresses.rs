//! The peers' addresses: which to dial, and when again.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use crate::id::ReplicaId;
use crate::link::LinkId;

/// How long an address that failed is left alone: twice as long after each failure, from the least to the most.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct Addresses(BTreeMap<String, Address>);

#[derive(Debug)]
struct Address {
    state: State,
    failures: u32,
    /// Whether it answered or failed at least once.
    tried: bool,
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
    /// Makes these the addresses; the ones known before keep their state.
    pub(super) fn set(&mut self, addresses: Vec<String>, now: Duration) {
        self.0.retain(|address, _| addresses.contains(address));
        for address in addresses {
            let state = State::Idle { until: now };
            self.0.entry(address).or_insert(Address {
                state,
                failures: 0,
                tried: false,
                replica: None,
            });
        }
    }

    /// Takes the addresses that are due to be dialed.
    pub(super) fn due(&mut self, now: Duration) -> Vec<String> {
        let mut due = Vec::new();
        for (address, known) in &mut self.0 {
            if matches!(known.state, State::Idle { until } if until <= now) {
                known.state = State::Dialing;
                due.push(address.clone());
            }
        }
        due
    }

    /// An address did not answer, or its link is gone. `jitter` is from 0 to 1.
    pub(super) fn failed(&mut self, address: &str, now: Duration, jitter: f64) {
        if let Some(known) = self.0.get_mut(address) {
            let backoff = (BACKOFF_MIN * (1 << known.failures.min(8))).min(BACKOFF_MAX);
            known.failures += 1;
            known.tried = true;
            known.state = State::Idle { until: now + backoff.mul_f64(0.5 + jitter / 2.0) };
        }
    }

    /// A connection to this address is established.
    pub(super) fn linked(&mut self, address: &str, link: LinkId) {
        if let Some(known) = self.0.get_mut(address) {
            known.state = State::Linked(link);
        }
    }

    /// A peer has introduced itself at this address.
    pub(super) fn met(&mut self, address: &str, replica: &ReplicaId) {
        if let Some(known) = self.0.get_mut(address) {
            known.replica = Some(replica.clone());
            known.failures = 0;
            known.tried = true;
        }
    }

    /// Another link leads to the peer at this address: it need not be dialed while that is there.
    pub(super) fn mark_redundant(&mut self, address: &str, replica: &ReplicaId) {
        if let Some(known) = self.0.get_mut(address) {
            known.replica = Some(replica.clone());
            known.tried = true;
            known.state = State::Redundant;
        }
    }

    /// The last link to this peer is gone: its addresses are to be dialed again.
    pub(super) fn clear_redundant(&mut self, replica: &ReplicaId, now: Duration) {
        for known in self.0.values_mut() {
            if known.state == State::Redundant && known.replica.as_ref() == Some(replica) {
                known.state = State::Idle { until: now + BACKOFF_MIN };
            }
        }
    }

    /// This address leads to ourselves and is never dialed again.
    pub(super) fn own(&mut self, address: &str) {
        if let Some(known) = self.0.get_mut(address) {
            known.state = State::Own;
            known.tried = true;
        }
    }

    /// The peer that was last met at this address.
    pub(super) fn replica_at(&self, address: &str) -> Option<&ReplicaId> {
        self.0.get(address)?.replica.as_ref()
    }

    /// Whether each address has answered or failed at least once.
    pub(super) fn all_tried(&self) -> bool {
        self.0.values().all(|known| known.tried)
    }

    /// The addresses of others, with the peer that was last met there.
    pub(super) fn of_peers(&self) -> impl Iterator<Item = (&String, Option<&ReplicaId>)> {
        let others = self.0.iter().filter(|(_, known)| known.state != State::Own);
        others.map(|(address, known)| (address, known.replica.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn failures_back_off_to_a_cap_and_success_starts_over() {
        let mut addresses = Addresses::default();
        addresses.set(vec!["a:1".into()], Duration::ZERO);
        let mut now = Duration::ZERO;
        let mut waits = Vec::new();
        for _ in 0..10 {
            assert_eq!(addresses.due(now), ["a:1"]);
            addresses.failed("a:1", now, 1.0);
            let State::Idle { until } = addresses.0["a:1"].state else { panic!("it waits") };
            waits.push(until - now);
            assert!(addresses.due(now).is_empty());
            now = until;
        }
        assert!(waits.is_sorted());
        assert_eq!((waits[0], waits[9]), (BACKOFF_MIN, BACKOFF_MAX));
    }
}
