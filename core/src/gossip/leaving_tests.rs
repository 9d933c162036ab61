//! Who leaves takes no count along, and who arrives knows when it has all.

use core::time::Duration;

use super::test_net::{Net, address_of, replica};
use super::{GossipSettings, Input, Waiting};
use crate::id::Version;
use crate::time::{Now, Timestamp};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn what_was_counted_last_is_confirmed_before_the_goodbye_however_long_a_round_is() {
    let slow = GossipSettings { interval: SECOND * 60, ..GossipSettings::default() };
    for settings in [GossipSettings::default(), slow] {
        let mut net = Net::new(&["a", "b"], &settings);
        net.run(SECOND * 3);
        net.add_to(0, "x", 7);
        assert_eq!(net.members[0].gossip.unconfirmed(), 0, "it has no version yet");
        net.input(0, Input::Stop);
        assert!(!net.members[0].gossip.has_left());
        assert_eq!(net.members[0].gossip.unconfirmed(), 1);
        net.run(MS * 20);
        assert!(net.members[0].gossip.has_left());
        assert_eq!(net.members[0].gossip.unconfirmed(), 0);
        net.members[0].up = false;
        assert_eq!(net.values("x"), [7]);
    }
}

#[test]
fn in_a_large_cluster_every_peer_is_told() {
    let settings = GossipSettings { direct_up_to: 0, fanout: 1, ..GossipSettings::default() };
    let mut net = Net::new(&["a", "b", "c", "d", "e", "f"], &settings);
    net.run(SECOND * 3);
    net.add_to(0, "x", 7);
    net.input(0, Input::Stop);
    net.run(MS * 20);
    assert!(net.members[0].gossip.has_left());
    net.members[0].up = false;
    assert_eq!(net.values("x"), [7; 5]);
}

#[test]
fn without_an_answer_it_leaves_when_the_time_is_up_and_says_how_much_is_missing() {
    let mut net = Net::new(&["a", "b"], &GossipSettings::default());
    net.run(SECOND * 3);
    net.members[1].up = false;
    // The other hangs: what is sent to it goes nowhere.
    net.loss = 1.0;
    net.add_to(0, "x", 7);
    net.add_to(0, "y", 7);
    net.input(0, Input::Stop);
    net.run(MS * 990);
    assert!(!net.members[0].gossip.has_left());
    net.run(MS * 20);
    assert!(net.members[0].gossip.has_left());
    assert_eq!(net.members[0].gossip.unconfirmed(), 2);
}

/// The one that confirmed takes the goodbye at its word and is the first to hang up; another one may be slow.
#[test]
fn what_was_confirmed_stays_so_when_the_one_that_did_is_gone() {
    let mut net = Net::new(&["a", "b", "c"], &GossipSettings::default());
    net.run(SECOND * 3);
    net.members[2].up = false;
    net.frames.clear();
    net.add_to(0, "x", 7);
    net.input(0, Input::Stop);
    let to_c: alloc::vec::Vec<_> =
        net.ends.iter().filter(|(_, end)| end.0 == 2).map(|(link, _)| *link).collect();
    net.frames.retain(|(_, at, _)| !to_c.contains(at));
    while !net.members[0].gossip.has_left() {
        net.step();
        assert!(net.now < SECOND * 5);
    }
    assert_eq!(net.members[0].gossip.unconfirmed(), 0);
    let of_b = net.ends.iter().find(|(_, end)| (end.0, end.1) == (1, 0)).map(|(link, _)| *link);
    if let Some(link) = of_b {
        net.hang_up(link);
    }
    net.run(MS * 20);
    assert_eq!(net.members[0].gossip.unconfirmed(), 0);
}

/// One that is just being met has our name already: without a goodbye, it would count us as lost for a day.
#[test]
fn who_is_just_being_met_is_told_goodbye_as_well() {
    let settings = GossipSettings::default();
    let mut net = Net::new(&["a", "b"], &settings);
    net.run(SECOND * 3);
    let late = net.join("late", &settings, &[0, 1]);
    net.input(0, Input::Stop);
    assert!(net.members[0].gossip.has_left(), "there is nothing to confirm");
    net.run(MS * 20);
    net.members[0].up = false;
    let of_a: alloc::vec::Vec<_> =
        net.ends.iter().filter(|(_, end)| end.0 == 0).map(|(link, _)| *link).collect();
    of_a.into_iter().for_each(|link| net.hang_up(link));
    net.run(SECOND * 3);
    assert_eq!(net.members[late].gossip.cluster_size(), 2);
    assert_eq!(net.members[1].gossip.cluster_size(), 2);
}

#[test]
fn without_peers_it_leaves_at_once() {
    let mut net = Net::new(&["a"], &GossipSettings::default());
    net.join("alone", &GossipSettings::default(), &[]);
    net.run(SECOND);
    net.add_to(1, "x", 7);
    net.input(1, Input::Stop);
    assert!(net.members[1].gossip.has_left());
    assert_eq!(net.members[1].gossip.unconfirmed(), 0);
}

/// Or the shell would ask it again and again.
#[test]
fn what_was_urgent_before_the_goodbye_is_due_no_more() {
    let mut net = Net::new(&["a"], &GossipSettings::default());
    net.join("alone", &GossipSettings::default(), &[]);
    net.run(SECOND);
    // The second one has to wait for its time.
    net.input(1, Input::Urgent);
    net.input(1, Input::Urgent);
    net.input(1, Input::Stop);
    let gossip = &mut net.members[1].gossip;
    assert!(gossip.has_left());
    let now = Now { wall: Timestamp(2_000), monotonic: SECOND * 2 };
    gossip.handle_timeout(now);
    assert!(gossip.poll_timeout() > now.monotonic);
}

/// Two that leave at one moment may not take each other's word for it: both would be gone.
#[test]
fn who_leaves_confirms_nothing_to_who_leaves() {
    let mut net = Net::new(&["a", "b", "c"], &GossipSettings::default());
    net.run(SECOND * 3);
    let hangs = |net: &mut Net, hangs: bool| net.members[2].up = !hangs;
    hangs(&mut net, true);
    net.frames.clear();
    for index in [0, 1] {
        net.add_to(index, "x", 7);
        net.input(index, Input::Stop);
    }
    let to_c: alloc::vec::Vec<_> =
        net.ends.iter().filter(|(_, end)| end.0 == 2).map(|(link, _)| *link).collect();
    let (held, rest) = net.frames.drain(..).partition(|(_, at, _)| to_c.contains(at));
    net.frames = rest;
    net.run(MS * 200);
    assert!(!net.members[0].gossip.has_left() && !net.members[1].gossip.has_left());
    hangs(&mut net, false);
    let _: &std::collections::VecDeque<_> = &held;
    net.frames.extend(held);
    net.run(MS * 50);
    assert!(net.members[0].gossip.has_left() && net.members[1].gossip.has_left());
    assert_eq!(net.values("x")[2], 14);

    // Where all leave, none waits for another.
    let mut net = Net::new(&["a", "b"], &GossipSettings::default());
    net.run(SECOND * 3);
    for index in [0, 1] {
        net.add_to(index, "x", 7);
        net.input(index, Input::Stop);
    }
    net.run(MS * 20);
    assert!(net.members[0].gossip.has_left() && net.members[1].gossip.has_left());
}

#[test]
fn a_node_is_ready_when_all_was_tried_and_who_answered_is_caught_up() {
    let settings = GossipSettings::default();
    let mut net = Net::new(&["a"], &settings);
    for n in 0..2_000 {
        net.add_to(0, &alloc::format!("c{n}"), 1);
    }
    net.run(SECOND);
    let seed = 0;
    let unused = 200;
    let late = net.join("late", &settings, &[seed, unused]);
    assert!(!net.members[late].gossip.is_ready());
    let mut waited_for_state = false;
    while !net.members[late].gossip.is_ready() {
        let waiting = net.members[late].gossip.waiting_for();
        assert!(!waiting.is_empty());
        waited_for_state |= waiting.iter().any(|what| matches!(what, Waiting::CatchingUp { .. }));
        net.step();
        assert!(net.now < SECOND * 5);
    }
    assert!(waited_for_state);
    assert_eq!(net.members[late].table.watermark(&replica("a", 1, 0)), Version(2_000));
    assert!(net.members[late].gossip.waiting_for().is_empty());

    // One that joins later is nothing that it waited for.
    let later = net.join("later", &settings, &[seed, late]);
    while !net.members[later].gossip.is_ready() {
        assert_eq!(net.members[late].gossip.waiting_for(), []);
        net.step();
        assert!(net.now < SECOND * 10);
    }

    // Without peers at once, and without a name's address when the time is up.
    let alone = net.join("alone", &settings, &[]);
    assert!(net.members[alone].gossip.is_ready());
    let unresolved = super::PeerAddresses { name: "b:1".into(), addresses: [].into() };
    net.input(alone, Input::Peers([unresolved].into()));
    assert!(net.members[alone].gossip.is_ready(), "once ready, always ready");
    let waits = net.join("waits", &settings, &[seed]);
    let named = super::PeerAddresses { name: address_of(seed), addresses: [].into() };
    net.input(waits, Input::Peers([named].into()));
    net.run(settings.ready_timeout - SECOND);
    assert!(!net.members[waits].gossip.is_ready());
    assert!(matches!(net.members[waits].gossip.waiting_for()[..], [Waiting::Unresolved { .. }]));
    net.run(SECOND * 2);
    assert!(net.members[waits].gossip.is_ready());
    assert!(matches!(net.members[waits].gossip.waiting_for()[..], [Waiting::Unresolved { .. }]));
    let named = super::PeerAddresses { name: "b:1".into(), addresses: [address_of(seed)].into() };
    net.input(waits, Input::Peers([named].into()));
    assert_eq!(net.members[waits].gossip.waiting_for(), []);
}
