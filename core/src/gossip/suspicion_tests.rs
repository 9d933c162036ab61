//! Which members are suspected, and when.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};
use core::time::Duration;

use super::test_net::Net;
use super::*;
use crate::limit::{Demands, Limit, Policy, Request, WhenCutOff, Window};

const SECOND: Duration = Duration::from_secs(1);

fn settings() -> GossipSettings {
    let presumed_dead_after = Some(SECOND * 20);
    GossipSettings { heeds_cuts: true, presumed_dead_after, ..GossipSettings::default() }
}

/// A cluster in which every pair is connected and every node has been asked.
fn met(names: &[&str]) -> Net {
    let mut net = Net::new(names, &settings());
    ask(&net);
    net.run(SECOND * 3);
    net
}

/// Asks a limit that heeds cuts on every node.
fn ask(net: &Net) {
    let limit = Limit::new("l", 1_000, Window::Fixed(SECOND * 3_600));
    let policy = Policy::new([limit.when_cut_off(WhenCutOff::Share)]).unwrap();
    for member in &net.members {
        let (mut demands, now) = (Demands::default(), net.time().wall);
        policy.find_demands(&Request::new(), now, 512, &mut demands).unwrap();
        member.table.acquire(now, &demands);
    }
}

/// Who is suspected at a node.
fn suspected(net: &Net, index: usize) -> Vec<String> {
    net.members[index].gossip.cut_off().map_or(Vec::new(), |cut| cut.suspected)
}

fn sides(net: &Net) -> Vec<(u16, u16)> {
    let sides = net.members.iter().map(|member| member.table.sides());
    sides.map(|sides| (sides.side, sides.members)).collect()
}

fn silence(net: &mut Net, from: &[usize], to: &[usize], both_ways: bool) {
    for (a, b) in from.iter().flat_map(|a| to.iter().map(move |b| (*a, *b))) {
        net.silent.push((a, b));
        if both_ways {
            net.silent.push((b, a));
        }
    }
}

/// How long until these are the sides of all nodes.
fn until(net: &mut Net, expected: &[(u16, u16)], within: Duration) -> Duration {
    let start = net.now;
    while sides(net) != expected {
        assert!(net.now - start < within, "{:?} instead of {expected:?}", sides(net));
        net.run(Duration::from_millis(10));
    }
    net.now - start
}

#[test]
fn a_silent_cut_is_noticed_on_both_sides_and_is_over_once_they_hear_each_other_for_a_while() {
    for both_ways in [true, false] {
        let mut net = met(&["a", "b", "c"]);
        assert!(sides(&net).iter().all(|sides| *sides == (0, 0)));
        silence(&mut net, &[0], &[1, 2], both_ways);
        for index in 0..3 {
            net.add_to(index, "x", 1);
        }
        let took = until(&mut net, &[(1, 3), (2, 3), (2, 3)], SECOND);
        assert!(took < Duration::from_millis(400), "{took:?} with updates to confirm");
        assert_eq!(suspected(&net, 0), ["b", "c"]);
        assert_eq!(suspected(&net, 2), ["a"]);
        net.silent.clear();
        net.run(Duration::from_millis(500));
        assert_eq!(sides(&net)[0], (1, 3), "what the others counted may still be missing");
        until(&mut net, &[(0, 0); 3], SECOND * 10);
        assert_eq!(net.values("x"), [3; 3]);
        let ended = |(_, report): &&(usize, Report)| matches!(report, Report::CutOffEnded { .. });
        assert_eq!(net.reports.iter().filter(ended).count(), 3, "each said so once");
    }
}

#[test]
fn at_rest_it_is_noticed_while_a_limit_that_heeds_it_is_in_use() {
    let mut net = met(&["a", "b"]);
    net.run(SECOND * 10);
    silence(&mut net, &[0], &[1], true);
    assert!(until(&mut net, &[(1, 2), (1, 2)], SECOND) < Duration::from_millis(700));
    // Where none is asked, nothing more is sent than ever.
    let mut idle = Net::new(&["a", "b"], &settings());
    idle.run(SECOND * 100);
    let before = idle.sent_bytes;
    idle.run(SECOND * 60);
    let mut plain = Net::new(&["a", "b"], &GossipSettings::default());
    plain.run(SECOND * 100);
    let plain_before = plain.sent_bytes;
    plain.run(SECOND * 60);
    let (sent, plainly) = (idle.sent_bytes - before, plain.sent_bytes - plain_before);
    assert!(sent <= plainly + plainly / 10, "{sent} bytes instead of {plainly}");
}

#[test]
fn a_lone_new_node_is_cut_off_from_the_peers_of_its_config_until_it_has_met_them() {
    let mut net = Net::new(&["a"], &settings());
    let addresses = || ["0", "1", "2"].map(|address| String::from(address).into()).to_vec();
    net.input(0, Input::Peers(addresses()));
    net.run(SECOND);
    assert_eq!(sides(&net), [(1, 3)]);
    assert_eq!(suspected(&net, 0), ["1", "2"]);
    net.add(super::test_net::replica("b", 1, 1), &settings());
    net.input(0, Input::Peers(addresses()));
    net.run(SECOND * 6);
    assert_eq!((sides(&net)[0], suspected(&net, 0)), ((2, 3), ["2"].map(String::from).to_vec()));
    net.run(SECOND * 20);
    assert_eq!(sides(&net)[0], (0, 0), "it is presumed dead");
}

#[test]
fn a_goodbye_leaves_at_once_and_who_crashes_is_presumed_dead_after_a_while() {
    let mut net = met(&["a", "b", "c", "d"]);
    net.input(3, Input::Stop);
    while !net.members[3].gossip.has_left() {
        net.step();
    }
    net.members[3].up = false;
    net.run(SECOND * 2);
    assert_eq!(sides(&net)[..3], [(0, 0); 3]);
    silence(&mut net, &[2], &[0, 1], true);
    net.add_to(0, "x", 1);
    net.add_to(1, "x", 1);
    net.run(SECOND);
    assert_eq!(sides(&net)[..2], [(2, 3); 2]);
    net.run(SECOND * 30);
    assert_eq!(sides(&net)[..2], [(0, 0); 2]);
    let dead = net.reports.iter().filter_map(|(index, report)| match report {
        Report::CutOffEnded { dead, .. } if *index < 2 => Some(dead.clone()),
        _ => None,
    });
    assert_eq!(dead.flatten().map(|name| name.to_string()).collect::<Vec<_>>(), ["c", "c"]);
    // It comes back, and is one of them at once.
    net.silent.clear();
    net.run(SECOND * 10);
    assert_eq!(sides(&net)[..3], [(0, 0); 3]);
}

#[test]
fn without_limits_that_heed_it_nothing_is_suspected() {
    let mut net = Net::new(&["a", "b"], &GossipSettings::default());
    net.run(SECOND);
    silence(&mut net, &[0], &[1], true);
    net.add_to(0, "x", 1);
    net.run(SECOND * 20);
    assert_eq!(sides(&net), [(0, 0); 2]);
}
