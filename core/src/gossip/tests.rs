//! Machines that talk to each other, and how they agree.

use alloc::{borrow::ToOwned, format, string::String, vec, vec::Vec};
use std::time::Duration;

use super::test_net::{Net, link_up, replica};
use super::*;

#[test]
fn three_members_find_each_other_over_one_link_each_and_leave_themselves_alone() {
    let mut net = Net::new(&["a", "b", "c"], &GossipSettings::default());
    net.run(Duration::from_secs(3));
    for index in 0..3 {
        assert_eq!(net.links(index), 2, "of member {index}");
        assert!(net.members[index].gossip.is_caught_up());
        let peers = net.members[index].gossip.peers(net.time());
        assert!(peers.len() == 2 && peers.iter().all(|peer| peer.connected), "{peers:?}");
        assert!(peers.iter().all(|peer| peer.clock_offset_ms == Some(0)), "{peers:?}");
    }
    let own = net.reports.iter().filter(|(_, report)| matches!(report, Report::OwnAddress { .. }));
    assert_eq!(own.count(), 3);
}

#[test]
fn a_change_reaches_everybody_within_a_round_and_is_acknowledged() {
    let mut net = Net::new(&["a", "b", "c"], &GossipSettings::default());
    net.run(Duration::from_secs(1));
    net.add_to(0, "x", 5);
    net.run(Duration::from_millis(70));
    assert_eq!(net.values("x"), [5, 5, 5]);
    net.run(Duration::from_millis(70));
    let peers = net.members[0].gossip.peers(net.time());
    assert!(peers.iter().all(|peer| peer.lag == 0), "{peers:?}");
}

#[test]
fn members_with_nothing_to_tell_rest_and_tell_a_change_as_soon_as_ever() {
    for direct_up_to in [32, 1] {
        let settings = GossipSettings {
            digest_interval: Duration::from_secs(60),
            silence_timeout: Duration::from_secs(120),
            direct_up_to,
            ..GossipSettings::default()
        };
        let mut net = Net::new(&["a", "b", "c"], &settings);
        net.run(Duration::from_secs(200));
        let mut rested = 0;
        for round in 1..=20 {
            net.add_to(round % 3, "x", 1);
            net.run(Duration::from_millis(150));
            assert_eq!(net.values("x"), [round as u64; 3], "direct up to {direct_up_to}");
            let awake = |net: &Net, index: usize| {
                let due = net.members[index].gossip.poll_timeout();
                due.saturating_sub(net.time().monotonic) < Duration::from_millis(60)
            };
            assert!((0..3).all(|index| awake(&net, index)), "they stay awake for a while");
            net.run(Duration::from_secs(3));
            rested += (0..3).filter(|index| !awake(&net, *index)).count();
        }
        // Now and then a digest is due, which looks like being awake.
        assert!(rested > 55, "{rested} of 60, direct up to {direct_up_to}");
    }
}

#[test]
fn what_is_urgent_does_not_wait_for_the_round() {
    let slow = GossipSettings { interval: Duration::from_secs(30), ..GossipSettings::default() };
    let mut net = Net::new(&["a", "b"], &slow);
    net.run(Duration::from_secs(12));
    let policy = crate::limit::Policy::new([crate::limit::Limit::new(
        "x",
        2,
        crate::limit::Window::Session { ttl: Duration::from_secs(3600) },
    )])
    .unwrap();
    let now = net.time().wall;
    let peers = net.members[0].gossip.peers(net.time());
    assert!(peers.iter().all(|peer| peer.connected), "slow rounds do not make peers seem gone");
    for _ in 0..2 {
        let mut demands = crate::limit::Demands::default();
        policy.find_demands(&crate::limit::Request::new(), now, 512, &mut demands).unwrap();
        net.members[0].table.acquire(now, &demands);
    }
    // A checkpoint may give the change its version before it is sent.
    net.members[0].table.harvest(crate::table::DirtySet::All);
    net.input(0, Input::Urgent);
    net.run(Duration::from_millis(3));
    let key = policy.key_under(0, [], now);
    let values = net.members.iter().map(|member| member.table.value(now, &key));
    assert_eq!(values.collect::<Vec<_>>(), [2, 2]);
}

#[test]
fn an_idle_cluster_says_little() {
    let mut net = Net::new(&["a", "b", "c"], &GossipSettings::default());
    net.add_to(0, "x", 5);
    net.run(Duration::from_secs(5));
    let before = net.sent_bytes;
    net.run(Duration::from_secs(10));
    let per_second = (net.sent_bytes - before) / 10;
    assert!(per_second < 3 * 2 * 300, "{per_second} bytes a second");
}

#[test]
fn sides_of_a_partition_count_on_and_agree_after_it() {
    let mut net = Net::new(&["a", "b", "c"], &GossipSettings::default());
    net.run(Duration::from_secs(1));
    net.partition(1);
    net.add_to(0, "x", 3);
    net.add_to(1, "x", 4);
    net.run(Duration::from_secs(3));
    assert_eq!(net.values("x"), [3, 4, 4]);
    net.cut.clear();
    net.converge(Duration::from_secs(10));
    assert_eq!(net.values("x"), [7, 7, 7]);
}

#[test]
fn loss_duplication_and_reordering_are_repaired() {
    let mut net = Net::new(&["a", "b", "c", "d"], &GossipSettings::default());
    net.run(Duration::from_secs(1));
    net.loss = 0.2;
    for round in 0..200 {
        let index = round % 4;
        net.add_to(index, &format!("k{}", round % 17), 1);
        net.run(Duration::from_millis(20));
    }
    net.loss = 0.0;
    net.converge(Duration::from_secs(10));
    let total: u64 = (0..17).map(|n| net.values(&format!("k{n}"))[0]).sum();
    assert_eq!(total, 200);
}

#[test]
fn what_only_one_survivor_heard_of_the_dead_reaches_the_other() {
    let mut net = Net::new(&["a", "b", "c"], &GossipSettings::default());
    net.run(Duration::from_secs(1));
    net.partition(2);
    net.add_to(0, "x", 9);
    net.run(Duration::from_millis(200));
    assert_eq!(net.values("x"), [9, 9, 0]);
    net.members[0].up = false;
    net.cut = vec![(0, 1), (0, 2)];
    let dead: Vec<_> =
        net.ends.iter().filter(|(_, (a, _, _))| *a == 0).map(|(link, _)| *link).collect();
    for link in dead {
        net.hang_up(link);
    }
    net.converge(Duration::from_secs(10));
    assert_eq!(net.values("x"), [9, 9]);
}

#[test]
fn a_large_cluster_passes_news_on_in_rounds() {
    let names: Vec<String> = (0..24).map(|n| format!("n{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let settings = GossipSettings { direct_up_to: 8, fanout: 4, ..GossipSettings::default() };
    let mut net = Net::new(&names, &settings);
    net.run(Duration::from_secs(3));
    net.add_to(0, "x", 5);
    net.run(Duration::from_millis(600));
    let heard = net.values("x").iter().filter(|value| **value == 5).count();
    assert!(heard >= 20, "{heard} of 24 have heard");
    net.converge(Duration::from_secs(30));
    assert_eq!(net.values("x"), [5; 24]);
}

#[test]
fn a_backlog_larger_than_a_frame_arrives_whole() {
    let settings = GossipSettings { frame_bytes_max: 16_384, ..GossipSettings::default() };
    let mut net = Net::new(&["a", "b"], &settings);
    for n in 0..5_000 {
        net.add_to(0, &format!("key number {n}"), n);
    }
    net.converge(Duration::from_secs(5));
    assert_eq!(net.members[1].table.len(), 5_000);
}

#[test]
fn two_live_processes_of_one_name_are_told_so_and_do_not_merge() {
    let settings = GossipSettings::default();
    let mut net = Net::new(&["a", "b"], &settings);
    net.run(Duration::from_secs(1));
    net.add(replica("a", 1, 99), &settings);
    net.run(Duration::from_secs(2));
    let told: Vec<usize> = net
        .reports
        .iter()
        .filter(|(_, report)| {
            matches!(
                report,
                Report::NodeIdInUse { .. } | Report::Refused { reason: CloseReason::NodeIdInUse }
            )
        })
        .map(|(index, _)| *index)
        .collect();
    for index in 0..3 {
        assert!(told.contains(&index), "member {index} must say so: {told:?}");
    }
}

#[test]
fn a_restarted_member_takes_the_place_of_its_former_life_once_that_does_not_answer() {
    let settings = GossipSettings::default();
    let mut net = Net::new(&["a", "b"], &settings);
    net.run(Duration::from_secs(1));
    // b has not noticed yet that a is gone when its next life says hello.
    net.members[0].up = false;
    net.silent = vec![(0, 1), (1, 0)];
    net.cut = vec![(0, 2)];
    net.add(replica("a", 2, 50), &settings);
    net.run(Duration::from_millis(1_100));
    net.add_to(2, "x", 1);
    net.run(Duration::from_millis(200));
    assert_eq!(net.values("x"), [1, 1]);
    assert!(!net.reports.iter().any(|(_, r)| matches!(r, Report::NodeIdInUse { .. })));
}

#[test]
fn garbage_closes_the_link_and_nothing_else() {
    let mut net = Net::new(&["a", "b"], &GossipSettings::default());
    net.run(Duration::from_secs(1));
    net.add_to(0, "x", 2);
    for garbage in [&b""[..], b"GET / HTTP/1.1\r\n\r\n", &[0xff; 400]] {
        let link = LinkId(net.next_link);
        net.next_link += 1;
        net.ends.insert(link, (0, 0, LinkId(u64::MAX)));
        net.input(0, link_up(link, None));
        net.input(0, Input::Link(LinkEvent::Frame { link, bytes: garbage.to_vec() }));
        assert!(net.reports.iter().any(|(_, report)| {
            matches!(report, Report::BadFrame { link: bad, .. } if *bad == link)
        }));
        assert!(!net.ends.contains_key(&link), "the link is closed");
    }
    net.run(Duration::from_secs(1));
    assert_eq!(net.values("x"), [2, 2]);
}

#[test]
fn a_stranger_that_says_nothing_is_hung_up_on() {
    let mut net = Net::new(&["a", "b"], &GossipSettings::default());
    let link = LinkId(1_000_000);
    net.ends.insert(link, (0, 0, LinkId(u64::MAX)));
    net.input(0, link_up(link, None));
    // The handshake's time-out, and the time until the next digest.
    net.run(Duration::from_secs(7));
    assert!(!net.ends.contains_key(&link));
    assert_eq!(handshakes_failed(&net), [(0, None, HandshakeFailure::TimedOut)]);
}

fn handshakes_failed(net: &Net) -> Vec<(usize, Option<&str>, HandshakeFailure)> {
    let failed = net.reports.iter().filter_map(|(index, report)| match report {
        Report::HandshakeFailed { dialed, reason } => Some((*index, dialed.as_deref(), *reason)),
        _ => None,
    });
    failed.collect()
}

#[test]
fn links_that_end_before_a_hello_are_reported_with_the_address_that_was_dialed() {
    let settings = GossipSettings { links_max: 1, ..GossipSettings::default() };
    let mut net = Net::new(&["a"], &settings);
    net.run(Duration::from_secs(1));
    assert!(handshakes_failed(&net).is_empty(), "to meet oneself is no failure");
    let address = || Some("0".to_owned());
    for (link, dialed) in [(1_000, address()), (1_001, None), (1_002, address())] {
        net.ends.insert(LinkId(link), (0, 0, LinkId(u64::MAX)));
        net.input(0, link_up(LinkId(link), dialed));
    }
    net.input(0, Input::Link(LinkEvent::Down { link: LinkId(1_000) }));
    net.input(0, Input::Link(LinkEvent::Down { link: LinkId(1_001) }));
    // The machine closed this one itself, and has said why.
    net.input(0, Input::Link(LinkEvent::Down { link: LinkId(1_002) }));
    assert_eq!(
        handshakes_failed(&net),
        [(0, Some("0"), HandshakeFailure::Closed), (0, None, HandshakeFailure::Closed),]
    );
}

#[test]
fn an_ordinary_life_has_no_failed_handshakes_and_an_address_without_answer_is_reported() {
    let mut net = Net::new(&["a", "b", "c"], &GossipSettings::default());
    net.run(Duration::from_secs(3));
    assert!(handshakes_failed(&net).is_empty(), "links that were resolved as duplicates are none");
    let no_answer = |net: &Net| {
        let is_of_c = |report: &Report| matches!(report, Report::NoAnswer { address, error } if address == "2" && error == "unreachable");
        net.reports.iter().filter(|(index, report)| *index == 0 && is_of_c(report)).count()
    };
    assert_eq!(no_answer(&net), 0);
    net.partition(2);
    net.run(Duration::from_secs(3));
    assert!(no_answer(&net) > 3);
}

/// What a member shows of its only peer.
fn only_peer(net: &Net, index: usize) -> PeerStatus {
    let peers = net.members[index].gossip.peers(net.time());
    let [peer] = &peers[..] else { panic!("one peer: {peers:?}") };
    peer.clone()
}

fn reports_of(net: &Net, index: usize, is_one: fn(&Report) -> bool) -> usize {
    net.reports.iter().filter(|(at, report)| *at == index && is_one(report)).count()
}

#[test]
fn a_peer_that_falls_silent_stays_listed_with_what_it_had_confirmed() {
    let mut net = Net::new(&["a", "b"], &GossipSettings::default());
    for n in 0..10 {
        net.add_to(0, &format!("k{n}"), 1);
    }
    net.run(Duration::from_secs(3));
    assert_eq!((only_peer(&net, 0).lag, only_peer(&net, 0).absence), (0, None));
    // It is stopped: connections stand, and nothing answers.
    (net.loss, net.cut) = (1.0, vec![(0, 1)]);
    let silent_from = net.now;
    for n in 10..19 {
        net.add_to(0, &format!("k{n}"), 1);
    }
    net.run(Duration::from_secs(60));
    let peer = only_peer(&net, 0);
    assert_eq!((peer.connected, peer.absence, peer.lag), (false, Some(PeerAbsence::Lost), 9));
    assert_eq!(peer.replica, Some(net.members[1].table.own_replica()));
    let silent_for = net.now - silent_from;
    let heard = peer.last_heard.unwrap();
    assert!((silent_for..silent_for + Duration::from_secs(2)).contains(&heard), "{heard:?}");
    assert_eq!(
        reports_of(&net, 0, |report| matches!(report, Report::PeerLost { connected: 0, .. })),
        1
    );

    (net.loss, net.cut) = (0.0, Vec::new());
    net.run(Duration::from_secs(10));
    let peer = only_peer(&net, 0);
    assert_eq!((peer.connected, peer.absence, peer.lag), (true, None, 0));
    let back = |report: &Report| matches!(report, Report::PeerBack { away, .. } if *away > Duration::from_secs(60));
    assert_eq!(reports_of(&net, 0, back), 1);
    assert_eq!(reports_of(&net, 0, |report| matches!(report, Report::PeerDown { .. })), 0);
}

#[test]
fn a_peer_that_stops_or_begins_another_life_is_not_called_lost() {
    let settings = GossipSettings::default();
    let mut net = Net::new(&["a", "b"], &settings);
    net.run(Duration::from_secs(1));
    net.cut = vec![(0, 1)];
    net.input(1, Input::Stop);
    net.members[1].up = false;
    net.run(Duration::from_secs(20));
    let peer = only_peer(&net, 0);
    assert_eq!((peer.connected, peer.absence), (false, Some(PeerAbsence::Stopped)));
    assert!(peer.last_heard >= Some(Duration::from_secs(19)));
    // Its next life comes from another address, which leads to it; the former address is still in the config.
    net.add(replica("b", 2, 9), &settings);
    net.run(Duration::from_secs(5));
    let peers = net.members[0].gossip.peers(net.time());
    assert_eq!(peers.len(), 2, "one for each address: {peers:?}");
    assert!(peers.iter().all(|peer| peer.connected), "{peers:?}");
    assert_eq!(reports_of(&net, 0, |report| matches!(report, Report::PeerLost { .. })), 0);
}

#[test]
fn a_peer_that_came_by_itself_stays_listed_when_it_is_lost() {
    let mut net = Net::new(&["a", "b"], &GossipSettings::default());
    net.input(0, Input::Peers(Vec::new()));
    net.run(Duration::from_secs(1));
    assert_eq!((only_peer(&net, 0).address, only_peer(&net, 0).connected), (None, true));
    net.partition(1);
    net.add_to(0, "x", 1);
    net.run(Duration::from_secs(5));
    let peer = only_peer(&net, 0);
    assert_eq!((peer.address, peer.absence, peer.lag), (None, Some(PeerAbsence::Lost), 1));
}

#[test]
fn what_never_answered_and_what_has_no_address_is_listed_and_waited_for() {
    let mut net = Net::new(&["a", "b"], &GossipSettings::default());
    net.partition(1);
    net.members[1].up = false;
    let unresolved = PeerAddresses { name: "not-yet.invalid:7946".to_owned(), addresses: vec![] };
    let refusing = PeerAddresses::from("1".to_owned());
    for missing in [&[unresolved.clone(), refusing.clone()][..], &[unresolved], &[refusing]] {
        net.input(0, Input::Peers(missing.to_vec()));
        net.run(Duration::from_secs(3));
        let peers = net.members[0].gossip.peers(net.time());
        assert_eq!(peers.len(), missing.len(), "{peers:?}");
        for peer in peers {
            let expected = match peer.address.as_deref() {
                Some("1") => PeerAbsence::Unanswered,
                _ => PeerAbsence::Unresolved,
            };
            assert_eq!((peer.absence, peer.last_heard), (Some(expected), None));
        }
        assert!(!net.members[0].gossip.is_caught_up(), "{missing:?}");
    }
    net.cut.clear();
    net.members[1].up = true;
    net.run(Duration::from_secs(10));
    assert!(net.members[0].gossip.is_caught_up());
    assert_eq!(only_peer(&net, 0).absence, None);
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let run = || {
        let mut net = Net::new(&["a", "b", "c"], &GossipSettings::default());
        net.loss = 0.1;
        for n in 0..40 {
            net.add_to(n % 3, &format!("k{n}"), 1);
            net.run(Duration::from_millis(30));
        }
        (net.sent_bytes, net.next_link, net.values("k1"))
    };
    assert_eq!(run(), run());
}
