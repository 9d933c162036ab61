//! One seed leads to all, a rumor of an address does no harm, and clusters stay apart.

use alloc::{format, string::String, string::ToString, vec, vec::Vec};
use core::time::Duration;

use super::test_net::{Net, address_of, replica};
use super::{GossipSettings, PeerAbsence, PeerSource, PeerStatus, Report};
use crate::id::ReplicaId;
use crate::wire::{MemberNews, Message};

const SECOND: Duration = Duration::from_secs(1);

fn settings() -> GossipSettings {
    let advertised = Some(":1".to_string());
    GossipSettings { advertised, peer_exchange: true, ..GossipSettings::default() }
}

/// A seed that knows no other, and members that know the seed alone.
fn one_seed(members: usize) -> Net {
    let mut net = Net::new(&[], &settings());
    net.join("seed", &settings(), &[]);
    for n in 1..members {
        net.join(&format!("m{n}"), &settings(), &[0]);
    }
    net
}

fn connected(net: &Net, index: usize) -> usize {
    let peers = net.members[index].gossip.peers(net.time());
    peers.iter().filter(|peer| peer.connected).count()
}

fn peer(net: &Net, index: usize, node: &str) -> Option<PeerStatus> {
    let is_it = |replica: &ReplicaId| replica.node.as_str() == node;
    let mut peers = net.members[index].gossip.peers(net.time()).into_iter();
    peers.find(|peer| peer.replica.as_ref().is_some_and(is_it))
}

/// Has a member tell another, over the link by which it was dialed, of these.
fn tell(net: &mut Net, from: usize, to: usize, entries: &[(&str, &str)]) {
    let entries = entries.iter().map(|(node, address)| MemberNews {
        replica: replica(node, 1, 77),
        address: Some((*address).to_string()),
        stopped: false,
    });
    let members = entries.collect();
    let links = &net.members[from].gossip.links;
    let leads_there =
        |link: &&crate::link::LinkId| net.ends.get(link).is_some_and(|end| end.1 == to);
    let link = *links.keys().find(leads_there).unwrap();
    let gossip = &mut net.members[from].gossip;
    gossip.send(link, &Message::Members { members });
    gossip.flush();
    net.outputs(from);
    net.run(Duration::from_millis(20));
}

#[test]
fn one_seed_leads_to_all_also_for_those_that_start_at_one_moment() {
    let mut net = one_seed(10);
    net.run(SECOND / 2);
    for index in 0..10 {
        assert_eq!(connected(&net, index), 9, "{index}");
        assert_eq!(net.members[index].gossip.cluster_size(), 10);
    }
    let late = net.join("late", &settings(), &[3]);
    net.run(SECOND / 2);
    assert_eq!(connected(&net, late), 10);
    assert!((0..10).all(|index| connected(&net, index) == 10));
    let of_seed = peer(&net, late, "m3").unwrap();
    assert_eq!((of_seed.source, of_seed.address), (Some(PeerSource::Config), Some(address_of(3))));
    let told = peer(&net, late, "m4").unwrap();
    assert_eq!(told.address, Some(address_of(4)));
    assert!(matches!(told.source, Some(PeerSource::Exchange | PeerSource::DialedUs)));
    assert_eq!(net.members[0].table.rejections().addresses_implausible, 0);
}

#[test]
fn who_is_lost_is_dialed_again_where_others_said_and_who_said_goodbye_is_not() {
    let mut net = one_seed(4);
    net.run(SECOND);
    net.partition(2);
    net.run(SECOND * 8);
    assert_eq!(connected(&net, 2), 1);
    assert_eq!(net.members[2].gossip.cluster_size(), 4, "silence alone takes none out");
    assert_eq!(peer(&net, 2, "m1").unwrap().absence, Some(PeerAbsence::Lost));
    net.cut.clear();
    net.run(SECOND * 8);
    assert!((0..4).all(|index| connected(&net, index) == 3));

    net.input(3, super::Input::Stop);
    net.run(SECOND / 4);
    assert!(net.members[3].gossip.has_left());
    net.members[3].up = false;
    net.reports.clear();
    net.run(SECOND * 10);
    for index in 0..3 {
        assert_eq!(net.members[index].gossip.cluster_size(), 3);
        assert_eq!(peer(&net, index, "m3").unwrap().absence, Some(PeerAbsence::Stopped));
    }
    let in_vain = net.reports.iter().filter(|(_, report)| {
        matches!(report, Report::NoAnswer { .. } | Report::Unreachable { .. })
    });
    assert_eq!(in_vain.count(), 0, "none dials who is gone");
}

#[test]
fn who_was_away_at_a_goodbye_hears_of_it_from_others() {
    let mut net = one_seed(4);
    net.run(SECOND);
    net.partition(2);
    net.run(SECOND * 8);
    net.input(1, super::Input::Stop);
    net.run(SECOND / 4);
    assert!(net.members[1].gossip.has_left());
    net.members[1].up = false;
    net.run(SECOND);
    assert_eq!(net.members[0].gossip.cluster_size(), 3);
    assert_eq!(net.members[2].gossip.cluster_size(), 4, "it is lost there");
    net.cut.clear();
    net.run(SECOND * 8);
    assert_eq!(net.members[2].gossip.cluster_size(), 3);
    assert_eq!(peer(&net, 2, "m1").unwrap().absence, Some(PeerAbsence::Stopped));
}

#[test]
fn who_comes_to_a_node_that_has_said_goodbye_does_not_meet_it() {
    let mut net = one_seed(2);
    net.run(SECOND);
    net.input(0, super::Input::Stop);
    net.run(SECOND / 4);
    assert!(net.members[0].gossip.has_left());
    let late = net.join("late", &settings(), &[0]);
    net.run(SECOND);
    assert!(peer(&net, late, "m0").is_none_or(|of_seed| of_seed.replica.is_none()));
    assert_eq!(connected(&net, late), 0);
}

#[test]
fn addresses_are_taken_only_from_who_was_dialed_and_only_if_that_is_allowed() {
    let mut net = Net::new(&[], &settings());
    net.join("seed", &settings(), &[]);
    let closed = GossipSettings { peer_exchange: false, ..settings() };
    net.join("a", &closed, &[0]);
    net.join("b", &closed, &[0]);
    net.run(SECOND);
    assert_eq!((connected(&net, 0), connected(&net, 1), connected(&net, 2)), (2, 1, 1));

    let mut net = one_seed(2);
    net.run(SECOND);
    // The member dialed the seed, so it may not tell it anything.
    tell(&mut net, 1, 0, &[("x", "10.0.0.7:1")]);
    assert_eq!(net.members[0].gossip.cluster_size(), 2);
    tell(&mut net, 0, 1, &[("x", "10.0.0.7:1")]);
    assert_eq!(net.members[1].gossip.cluster_size(), 3);
}

#[test]
fn garbage_is_counted_and_never_dialed() {
    let mut net = one_seed(2);
    net.run(SECOND);
    net.reports.clear();
    let garbage = [
        "",
        "seed",
        ":1",
        "host:1",
        "10.0.0.1",
        "10.0.0.1:0",
        "10.0.0.1:x",
        "0.0.0.0:1",
        "224.0.0.1:1",
        "255.255.255.255:1",
        "[::]:1",
        "[ff02::1]:1",
        "127.0.0.1:1",
        "[::1]:1",
    ];
    let names: Vec<String> = (0..garbage.len()).map(|n| format!("x{n}")).collect();
    let entries: Vec<_> = names.iter().map(String::as_str).zip(garbage).collect();
    tell(&mut net, 0, 1, &entries);
    net.run(SECOND);
    assert_eq!(net.members[1].table.rejections().addresses_implausible, garbage.len() as u64);
    assert_eq!(net.members[1].gossip.cluster_size(), 2);
    assert_eq!(net.reports, []);
}

#[test]
fn an_address_that_is_not_reached_is_said_once_and_dropped_when_none_names_it() {
    let mut net = one_seed(2);
    net.run(SECOND);
    tell(&mut net, 0, 1, &[("x", "10.0.0.200:1")]);
    net.run(SECOND * 60);
    let said = net.reports.iter().filter(|(_, report)| match report {
        Report::Unreachable { replica, address, .. } => {
            replica.node.as_str() == "x" && address == "10.0.0.200:1"
        }
        _ => false,
    });
    assert_eq!(said.count(), 1);
    assert_eq!(peer(&net, 1, "x").unwrap().absence, Some(PeerAbsence::Unreachable));
    net.run(SECOND * 600);
    assert!(peer(&net, 1, "x").is_some(), "it is still named");
    let link = *net.members[1].gossip.links.keys().next().unwrap();
    let gone = vec![MemberNews { replica: replica("x", 1, 77), address: None, stopped: false }];
    let now = net.time();
    net.members[1].gossip.hear_of_members(now, link, gone);
    net.run(SECOND * 3);
    assert_eq!(peer(&net, 1, "x"), None);
}

#[test]
fn no_more_addresses_are_learned_than_are_remembered() {
    let mut net = one_seed(2);
    net.run(SECOND);
    let names: Vec<String> = (0..5_000).map(|n| format!("x{n}")).collect();
    let addresses: Vec<String> =
        (0..5_000).map(|n| format!("10.1.{}.{}:1", n / 250, n % 250)).collect();
    let entries: Vec<_> =
        names.iter().map(String::as_str).zip(addresses.iter().map(String::as_str)).collect();
    for part in entries.chunks(300) {
        tell(&mut net, 0, 1, part);
    }
    // The other member, this one, and what was learned.
    assert_eq!(net.members[1].gossip.cluster_size(), 2 + super::PEERS_MAX);
    let full = |(_, report): &(usize, Report)| matches!(report, Report::TooManyMembers { .. });
    assert!(net.reports.iter().any(full));
    net.run(SECOND);
    assert_eq!(connected(&net, 1), 1, "the rest works");
}

#[test]
fn clusters_of_two_names_stay_apart_and_both_are_told_both_names() {
    let other = GossipSettings { cluster: "blue".into(), ..settings() };
    let mut net = Net::new(&[], &settings());
    net.join("seed", &settings(), &[]);
    net.join("a", &other, &[0]);
    net.join("b", &settings(), &[0]);
    net.run(SECOND * 2);
    assert_eq!((connected(&net, 0), connected(&net, 1), connected(&net, 2)), (1, 0, 1));
    let told = |index: usize, ours: &str, theirs: &str| {
        net.reports.iter().any(|(at, report)| match report {
            Report::OtherCluster { theirs: t, ours: o, .. } => {
                (*at, o.as_ref(), t.as_str()) == (index, ours, theirs)
            }
            _ => false,
        })
    };
    assert!(told(0, "default", "blue") && told(1, "blue", "default"));
    let seen = net.members[1].gossip.peers(net.time());
    assert_eq!(seen[0].absence, Some(PeerAbsence::OtherCluster));
    assert_eq!(net.members[1].gossip.cluster_size(), 1);
    // It is dialed on, but no more often than every few seconds.
    net.reports.clear();
    net.run(SECOND * 60);
    let again = net.reports.iter().filter(|(at, _)| *at == 1).count();
    assert!((10..30).contains(&again), "{again}");
}
