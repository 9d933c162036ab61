//! When addresses are dialed, and what is told of them.

use super::*;
use crate::id::Incarnation;
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
    assert!(set(vec![peer("b:1", &["1", "2"]), peer("c:1", &["2", "3"])], &unlinked).is_empty());
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

#[test]
fn what_seems_to_be_our_own_is_dialed_again_after_a_while() {
    let mut addresses = Addresses::default();
    addresses.set(vec!["a:1".to_string().into()], &BTreeMap::new(), Duration::ZERO);
    assert_eq!(addresses.due(Duration::ZERO), ["a:1"]);
    let mut now = Duration::ZERO;
    for round in 0..3 {
        addresses.own("a:1");
        assert_eq!(addresses.are_all_own(), round == 0, "that is told once");
        assert!(addresses.due(now).is_empty());
        now += OWN_AGAIN_AFTER;
        assert!(addresses.due(now - Duration::from_millis(1)).is_empty());
        assert_eq!(addresses.due(now), ["a:1"]);
        assert!(addresses.all["a:1"].seems_own && addresses.of_peers().count() == 0);
        addresses.linked("a:1", LinkId(round));
        assert!(addresses.of_peers().count() == 0, "it is shown as no peer meanwhile");
    }
    let peer =
        ReplicaId { node: "b".parse().unwrap(), incarnation: Incarnation { boot: 1, nonce: 1 } };
    addresses.met("a:1", &peer);
    addresses.own("a:1");
    assert!(addresses.are_all_own(), "and again once a peer was there");
}
