//! What a hello may say, and what else a peer of another version may send.

use alloc::{collections::BTreeSet, format, sync::Arc, vec, vec::Vec};
use core::time::Duration;

use super::test_net::{Net, link_up, replica};
use super::{GossipSettings, Input, Output, Report};
use crate::limit::LimitHash;
use crate::link::{LinkEvent, LinkId};
use crate::wire::{CloseReason, Message, Outbox, read_frame};

const LINK: LinkId = LinkId(1_000);

fn frame(messages: &[Message]) -> Vec<u8> {
    let mut outbox = Outbox::default();
    for message in messages {
        assert!(outbox.push(message, 60_000).is_none());
    }
    outbox.finish().unwrap()
}

fn hello(protocols: &[u32]) -> Message {
    let protocols = protocols.to_vec();
    let cluster = "default".into();
    let replica = replica("z", 1, 9);
    Message::Hello { protocols, replica, limits_digest: 0, cluster, advertised: None }
}

/// A member alone, and a stranger that has connected to it.
fn met_by_a_stranger() -> Net {
    let mut net = Net::new(&["a"], &GossipSettings::default());
    net.input(0, link_up(LINK, None));
    net
}

/// What the member does about a frame of the stranger's: what it sends, and whether it closes the link.
fn answer(net: &mut Net, bytes: Vec<u8>) -> (Vec<Message>, bool) {
    let now = net.time();
    let gossip = &mut net.members[0].gossip;
    gossip.handle_input(now, Input::Link(LinkEvent::Frame { link: LINK, bytes }));
    let (mut sent, mut closed) = (Vec::new(), false);
    while let Some(output) = gossip.poll_output() {
        match output {
            Output::Send { frame, .. } => {
                sent.extend(read_frame(&frame, 60_000).unwrap().messages);
            }
            Output::Close { .. } => closed = true,
            Output::Report { report, .. } => net.reports.push((0, report)),
            Output::Dial { .. } => {}
        }
    }
    (sent, closed)
}

#[test]
fn a_peer_that_speaks_other_protocols_too_is_met() {
    let mut net = met_by_a_stranger();
    let (_, closed) = answer(&mut net, frame(&[hello(&[7, 2, 3])]));
    assert!(!closed);
    assert!(net.reports.contains(&(0, Report::PeerUp { replica: replica("z", 1, 9) })));
}

#[test]
fn a_peer_without_a_protocol_in_common_is_told_so_and_left() {
    for protocols in [&[1, 3][..], &[]] {
        let mut net = met_by_a_stranger();
        let (sent, closed) = answer(&mut net, frame(&[hello(protocols)]));
        let goodbye = Message::Goodbye { reason: CloseReason::OtherProtocol };
        assert_eq!((sent.last(), closed), (Some(&goodbye), true));
        let report = Report::OtherProtocol { protocols: protocols.to_vec() };
        assert!(net.reports.contains(&(0, report)));
    }
}

#[test]
fn what_is_not_known_is_counted_and_the_link_stays() {
    let mut net = met_by_a_stranger();
    answer(&mut net, frame(&[hello(&[2])]));
    let later = rmp_serde::to_vec_named(&alloc::collections::BTreeMap::from([("later", 5)]));
    let mut bytes = frame(&[Message::Ping {}]);
    let payload = [&later.unwrap()[..], &bytes.split_off(8)].concat();
    let mut bytes = (payload.len() as u32).to_le_bytes().to_vec();
    bytes.extend(crc32fast::hash(&payload).to_le_bytes());
    bytes.extend(&payload);
    let (sent, closed) = answer(&mut net, bytes);
    assert!(matches!(sent[..], [Message::Pong { .. }]), "what stands beside it is heard: {sent:?}");
    assert!(!closed);
    assert_eq!(net.members[0].table.rejections().messages_unknown, 1);
}

#[test]
fn a_goodbye_for_a_reason_to_come_is_one() {
    let mut net = met_by_a_stranger();
    answer(&mut net, frame(&[hello(&[2])]));
    let (_, closed) = answer(&mut net, frame(&[Message::Goodbye { reason: CloseReason::Other }]));
    assert!(closed);
    assert!(net.reports.contains(&(0, Report::Refused { reason: CloseReason::Other })));
}

fn limits(hashes: &[(&str, u32)]) -> Arc<[LimitHash]> {
    hashes.iter().map(|(name, hash)| LimitHash { name: (*name).into(), hash: *hash }).collect()
}

#[test]
fn limits_of_one_name_that_differ_are_told_of_on_both_sides() {
    let settings = |hashes| GossipSettings { limits: limits(hashes), ..GossipSettings::default() };
    let mut net = Net::new(&[], &GossipSettings::default());
    net.add(replica("a", 1, 1), &settings(&[("x", 1), ("y", 2), ("own", 3)]));
    net.add(replica("b", 1, 2), &settings(&[("y", 9), ("x", 1), ("other", 3)]));
    net.add(replica("c", 1, 3), &settings(&[("own", 3), ("x", 1), ("y", 2)]));
    net.run(Duration::from_secs(3));
    let differ = |net: &Net, member: usize, peer: &str| {
        let peers = net.members[member].gossip.peers(net.time());
        let is_it = |replica: &crate::id::ReplicaId| replica.node.as_str() == peer;
        let found = peers.into_iter().find(|found| found.replica.as_ref().is_some_and(is_it));
        found.unwrap().different_limits
    };
    for (member, peer, expected) in
        [(0, "b", &["y"][..]), (1, "a", &["y"]), (1, "c", &["y"]), (0, "c", &[]), (2, "a", &[])]
    {
        assert_eq!(differ(&net, member, peer), expected, "{member} of {peer}");
    }
    let told = net.reports.iter().filter_map(|(member, report)| match report {
        Report::LimitsDiffer { replica, limits } => Some((*member, replica.node.as_str(), limits)),
        _ => None,
    });
    // A second link between two members, which is closed at once, may tell it again.
    let told: BTreeSet<_> = told.collect();
    let names: Vec<_> = told.iter().map(|(member, peer, _)| (*member, *peer)).collect();
    assert_eq!(names, [(0, "b"), (1, "a"), (1, "c"), (2, "b")]);
    assert!(told.iter().all(|(.., limits)| limits.iter().map(|name| &**name).eq(["y"])));
}

#[test]
fn many_limits_come_in_parts_and_a_peer_cannot_have_more_remembered_than_there_are() {
    let names: Vec<_> = (0..600).map(|n| format!("{n:0>128}")).collect();
    let of = |hash| -> Vec<(&str, u32)> { names.iter().map(|name| (&name[..], hash)).collect() };
    let settings = |hash| GossipSettings {
        limits: limits(&of(hash)),
        frame_bytes_max: 16 * 1024,
        ..GossipSettings::default()
    };
    let mut net = Net::new(&[], &GossipSettings::default());
    net.add(replica("a", 1, 1), &settings(1));
    net.add(replica("b", 1, 2), &settings(2));
    net.run(Duration::from_secs(3));
    let peers = net.members[0].gossip.peers(net.time());
    let found: Vec<usize> = peers.iter().map(|peer| peer.different_limits.len()).collect();
    assert!(found.contains(&600), "{found:?}");

    let mut net = met_by_a_stranger();
    answer(&mut net, frame(&[hello(&[2])]));
    let made_up = limits(&[("x", 1), ("y", 2)]).to_vec();
    let (sent, closed) =
        answer(&mut net, frame(&[Message::Limits { limits: made_up, grace_ms: 0 }]));
    assert_eq!((sent, closed), (vec![], false));
    let peers = net.members[0].gossip.peers(net.time());
    assert!(peers.iter().all(|peer| peer.different_limits.is_empty()));
}
