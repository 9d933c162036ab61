//! Bounds that are reached: each is counted and reported, none blames a peer, and nothing passes for complete.

use alloc::vec;
use alloc::vec::Vec;

use super::test_net::*;
use super::*;
use crate::id::Version;
use crate::table::Bounds;

/// A cluster of `a` and `b`, where `b` has these bounds; `a` counts 1 in each of three counters.
fn pair(bounds: Bounds) -> Net {
    let mut net = Net::new(&["a"], &GossipSettings::default());
    net.add_with(replica("b", 1, 1), &GossipSettings::default(), bounds);
    for name in ["x", "y", "z"] {
        net.add_to(0, name, 1);
    }
    net
}

fn reached(net: &Net, index: usize) -> Vec<Bound> {
    let bounds = net.reports.iter().filter_map(|(at, report)| match report {
        Report::BoundReached { bound } if *at == index => Some(*bound),
        Report::Implausible { .. } => panic!("a bound blames a peer"),
        _ => None,
    });
    bounds.collect()
}

#[test]
fn without_room_for_a_counter_a_watermark_stays_and_what_is_missing_is_asked_for_again() {
    let mut net = pair(Bounds { counters_max: 2, ..Bounds::default() });
    net.run(Duration::from_secs(5));
    let b = &net.members[1].table;
    assert_eq!((b.len(), b.watermark(&replica("a", 1, 0))), (2, Version::ZERO));
    let refused = b.rejections().counters_refused;
    assert!(refused > 2, "asked for again with each digest: {refused}");
    assert!(reached(&net, 1).iter().all(|bound| *bound == Bound::Counters));
    assert!(reached(&net, 1).len() > 2 && reached(&net, 0).is_empty());
}

#[test]
fn without_room_for_a_replica_nothing_of_it_passes_for_complete() {
    let mut net = pair(Bounds { replicas_max: 1, ..Bounds::default() });
    net.run(Duration::from_secs(5));
    let b = &net.members[1].table;
    assert_eq!((b.len(), b.watermark(&replica("a", 1, 0))), (0, Version::ZERO));
    assert_eq!((b.replicas_known(), b.rejections().cells_implausible), (1, 0));
    assert!(b.rejections().replicas_refused > 2);
    assert!(reached(&net, 1).contains(&Bound::Replicas));
    assert_eq!(only_lag(&net, 0), 3, "the other side sees that its counts do not arrive");
    // A chain without a cell is refused as well.
    let refused = b.rejections().replicas_refused;
    assert!(!b.complete(&replica("c", 1, 1), Version::ZERO, Version(1)));
    assert_eq!(b.rejections().replicas_refused, refused + 1);
}

#[test]
fn without_room_in_a_counter_a_cell_is_refused_and_not_called_implausible() {
    let mut net = pair(Bounds { replicas_per_counter_max: 1, ..Bounds::default() });
    net.run(Duration::from_secs(2));
    assert_eq!(net.members[1].table.watermark(&replica("a", 1, 0)), Version(3));
    net.add(replica("c", 1, 2), &GossipSettings::default());
    net.add_to(2, "x", 5);
    net.run(Duration::from_secs(5));
    assert_eq!(net.values("x"), [6, 1, 6]);
    let b = &net.members[1].table;
    assert_eq!(b.watermark(&replica("c", 1, 2)), Version::ZERO, "it vouches for nothing it lacks");
    assert_eq!(b.rejections().cells_implausible, 0);
    assert!(b.rejections().cells_refused > 2);
    assert!(reached(&net, 1).iter().all(|bound| *bound == Bound::ReplicasPerCounter));
    assert!(!reached(&net, 1).is_empty());
}

#[test]
fn a_connection_too_many_is_told_why_it_ends() {
    let settings = GossipSettings { links_max: 1, ..GossipSettings::default() };
    let mut net = Net::new(&["a", "b"], &settings);
    net.run(Duration::from_secs(1));
    net.add(replica("c", 1, 2), &GossipSettings::default());
    net.run(Duration::from_secs(1));
    assert!(net.members[0].table.rejections().connections_refused > 0);
    assert!(reached(&net, 0).contains(&Bound::Connections));
    assert!(net.reports.contains(&(2, Report::Refused { reason: CloseReason::Full })));
}

#[test]
fn a_frame_that_is_too_long_ends_the_link_without_a_peer_that_is_lost() {
    let mut net = Net::new(&["a", "b"], &GossipSettings::default());
    net.run(Duration::from_secs(1));
    let at_b = *net.ends.iter().find(|(_, (index, ..))| *index == 1).unwrap().0;
    // Its header alone, as a transport passes it on.
    let mut header = vec![0; crate::wire::FRAME_HEADER_BYTES];
    header[3] = 0x7f;
    net.input(1, Input::Link(LinkEvent::Frame { link: at_b, bytes: header }));
    net.run(Duration::from_millis(50));
    assert_eq!(net.members[1].table.rejections().frames_refused, 1);
    assert_eq!(reached(&net, 1), [Bound::FrameBytes]);
    let is_sign_of_trouble =
        |report: &Report| matches!(report, Report::PeerLost { .. } | Report::BadFrame { .. });
    assert!(!net.reports.iter().any(|(_, report)| is_sign_of_trouble(report)));
    let refused = (0, Report::Refused { reason: CloseReason::FrameTooLong });
    assert!(net.reports.contains(&refused));
    // Before a hello, it is garbage: a client that asks this port for a page begins with such a length.
    net.ends.insert(LinkId(1_000), (1, 1, LinkId(u64::MAX)));
    net.input(1, link_up(LinkId(1_000), None));
    let bytes = b"GET / HT".to_vec();
    net.input(1, Input::Link(LinkEvent::Frame { link: LinkId(1_000), bytes }));
    assert_eq!(net.members[1].table.rejections().frames_refused, 1);
}

#[test]
fn a_queue_that_does_not_get_shorter_is_counted_once_for_each_time() {
    let settings =
        GossipSettings { silence_timeout: Duration::from_secs(60), ..Default::default() };
    let mut net = Net::new(&["a", "b"], &settings);
    net.run(Duration::from_secs(1));
    let at_a = *net.ends.iter().find(|(_, (index, ..))| *index == 0).unwrap().0;
    net.stalled.insert(at_a);
    for _ in 0..60 {
        net.add_to(0, "x", 1);
        net.run(Duration::from_millis(100));
    }
    let delayed = |net: &Net| net.members[0].table.rejections().frames_delayed;
    assert_eq!((delayed(&net), reached(&net, 0)), (1, vec![Bound::FramesQueued]));
    net.stalled.clear();
    let late = core::mem::take(&mut net.unsent);
    for frames in late.into_values() {
        net.input(0, Input::Link(LinkEvent::Sent { link: at_a, frames }));
    }
    net.converge(Duration::from_secs(3));
    assert_eq!((net.values("x"), delayed(&net)), (vec![60, 60], 1));
}

/// How many updates the only peer of a member has not confirmed.
fn only_lag(net: &Net, index: usize) -> u64 {
    let peers = net.members[index].gossip.peers(net.time());
    peers.iter().filter(|peer| peer.connected).map(|peer| peer.lag).sum()
}
