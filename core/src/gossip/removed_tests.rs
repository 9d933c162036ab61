//! Peers that are taken off the list and put on it while the node runs.

use alloc::{string::ToString, vec, vec::Vec};

use super::test_net::*;
use super::*;

/// What a member shows of the peers that it has met, by their names.
fn absences(net: &Net, index: usize) -> Vec<(NodeName, Option<PeerAbsence>)> {
    let peers = net.members[index].gossip.peers(net.time());
    let met =
        peers.into_iter().filter_map(|peer| Some((peer.replica?.node.to_string(), peer.absence)));
    met.collect()
}

type NodeName = alloc::string::String;

/// Two members of which only the first dials.
fn pair() -> Net {
    let mut net = Net::new(&["a", "b"], &GossipSettings::default());
    net.input(1, Input::Peers(Vec::new()));
    net.input(0, Input::Peers(vec!["1".to_string().into()]));
    net.run(Duration::from_secs(1));
    net
}

#[test]
fn the_link_that_was_dialed_is_closed_and_neither_end_takes_the_other_for_lost() {
    let mut net = pair();
    assert_eq!((net.links(0), net.links(1)), (1, 1));
    net.input(0, Input::Peers(Vec::new()));
    net.run(Duration::from_secs(10));
    assert_eq!((net.links(0), net.links(1)), (0, 0), "and it is not dialed again");
    let removed = Some(PeerAbsence::Removed);
    assert_eq!(absences(&net, 0), [("b".to_string(), removed)]);
    assert_eq!(absences(&net, 1), [("a".to_string(), removed)]);
    let is_lost = |report: &Report| matches!(report, Report::PeerLost { .. });
    assert!(!net.reports.iter().any(|(_, report)| is_lost(report)));
    // On the list again, it is dialed again.
    net.add_to(1, "x", 3);
    net.input(0, Input::Peers(vec!["1".to_string().into()]));
    net.converge(Duration::from_secs(3));
    assert_eq!(net.values("x"), [3, 3]);
}

#[test]
fn a_link_that_came_in_stays() {
    let mut net = pair();
    net.input(1, Input::Peers(Vec::new()));
    net.run(Duration::from_secs(1));
    assert_eq!((net.links(0), absences(&net, 1)), (1, vec![("a".to_string(), None)]));
}

#[test]
fn an_address_that_its_name_does_not_mean_any_more_keeps_its_link_and_is_not_dialed_again() {
    let mut net = pair();
    let named = |addresses: &[&str]| {
        let addresses = addresses.iter().map(ToString::to_string).collect();
        Input::Peers(vec![PeerAddresses { name: "b.example:1".into(), addresses }])
    };
    net.input(0, Input::Peers(Vec::new()));
    net.input(0, named(&["1"]));
    net.run(Duration::from_secs(1));
    assert_eq!(net.links(0), 1);
    net.input(0, named(&[]));
    net.run(Duration::from_secs(1));
    assert_eq!((net.links(0), absences(&net, 0)), (1, vec![("b".to_string(), None)]));
    let up = |net: &Net| {
        let is_up = |report: &Report| matches!(report, Report::PeerUp { .. });
        net.reports.iter().filter(|(index, report)| *index == 0 && is_up(report)).count()
    };
    let before = up(&net);
    net.input(0, named(&["1"]));
    net.run(Duration::from_secs(1));
    assert_eq!((net.links(0), up(&net)), (1, before), "it is the link of before");
    net.input(0, named(&[]));
    let link = *net.ends.iter().find(|(_, (index, ..))| *index == 1).unwrap().0;
    net.hang_up(link);
    net.run(Duration::from_secs(10));
    assert_eq!(net.links(0), 0);
}

#[test]
fn an_address_that_is_taken_off_while_it_is_dialed_makes_no_link() {
    let mut net = Net::new(&["a"], &GossipSettings::default());
    net.run(Duration::from_secs(1));
    net.ends.insert(LinkId(1_000), (0, 0, LinkId(u64::MAX)));
    net.input(0, link_up(LinkId(1_000), Some("gone:1".into())));
    assert_eq!((net.links(0), net.ends.contains_key(&LinkId(1_000))), (0, false));
}

#[test]
fn a_list_of_only_ourselves_is_told_once() {
    let mut net = Net::new(&["a"], &GossipSettings::default());
    net.run(Duration::from_secs(20));
    let told = |net: &Net| {
        net.reports.iter().filter(|(_, report)| *report == Report::OnlyOwnAddresses).count()
    };
    assert_eq!(told(&net), 1);
    net.add(replica("b", 1, 1), &GossipSettings::default());
    net.run(Duration::from_secs(5));
    assert_eq!(told(&net), 1);
}
