//! What the transport has proven of a peer, and what the machine makes of it.

use alloc::{string::ToString, vec};

use super::test_net::*;
use super::*;
use crate::id::ReplicaId;
use crate::link::Proven;

const FINGERPRINT: &str = "0123456789abcdef";

fn by_cluster_key(replica: ReplicaId) -> Proven {
    Proven::ClusterKey { fingerprint: FINGERPRINT.to_string(), replica }
}

fn by_node_key(replica: ReplicaId) -> Proven {
    Proven::NodeKey { fingerprint: FINGERPRINT.to_string(), replica }
}

/// The member at index 0 has a link up on which this was proven.
fn up(net: &mut Net, link: LinkId, dialed: Option<&str>, peer: Proven) {
    let dialed = dialed.map(ToString::to_string);
    net.input(0, Input::Link(LinkEvent::Up { link, dialed, remote: None, peer }));
}

fn alone() -> Net {
    let mut net = Net::new(&["a"], &GossipSettings::default());
    net.input(0, Input::Peers(vec!["b:1".to_string().into()]));
    net
}

#[test]
fn a_hello_of_another_replica_than_the_one_that_was_proven_ends_the_link() {
    for proven in [by_cluster_key, by_node_key] {
        let mut net = alone();
        let (b, c) = (replica("b", 1, 7), replica("c", 1, 7));
        up(&mut net, LinkId(100), None, proven(b.clone()));
        net.hear(0, LinkId(100), &[hello(c)]);
        assert_eq!(net.links(0), 0);
        let reason = HandshakeFailure::OtherReplica;
        assert!(net.reports.contains(&(0, Report::HandshakeFailed { dialed: None, reason })));
        // Also one of its own name that is of another life.
        up(&mut net, LinkId(101), None, proven(b.clone()));
        net.hear(0, LinkId(101), &[hello(replica("b", 2, 7))]);
        assert_eq!(net.links(0), 0);
        up(&mut net, LinkId(102), None, proven(b.clone()));
        net.hear(0, LinkId(102), &[hello(b)]);
        let peers = net.members[0].gossip.peers(net.time());
        let known = peers.iter().find(|peer| peer.connected).unwrap();
        assert_eq!(known.key.as_deref(), Some(FINGERPRINT));
    }
}

#[test]
fn what_does_not_prove_itself_is_counted_and_shown_and_dialed_again() {
    let mut net = alone();
    let unproven = |dialed: Option<&str>| {
        let (dialed, remote) = (dialed.map(ToString::to_string), Some("10.0.0.9".to_string()));
        Input::Link(LinkEvent::Unproven { dialed, remote, error: "it hung up".to_string() })
    };
    net.input(0, unproven(None));
    assert_eq!(net.members[0].table.rejections().strangers_refused, 1);
    net.input(0, unproven(Some("b:1")));
    let peer = |net: &Net| net.members[0].gossip.peers(net.time()).remove(0);
    assert_eq!(peer(&net).absence, Some(PeerAbsence::Unproven));
    assert_eq!(net.members[0].table.rejections().strangers_refused, 1, "it was not a stranger's");
    // Something else is wrong with it now.
    let failed = LinkEvent::DialFailed { address: "b:1".to_string(), error: "refused".to_string() };
    net.input(0, Input::Link(failed));
    assert_eq!(peer(&net).absence, Some(PeerAbsence::Unanswered));
    net.input(0, unproven(Some("b:1")));
    up(&mut net, LinkId(100), Some("b:1"), by_node_key(replica("b", 1, 7)));
    net.hear(0, LinkId(100), &[hello(replica("b", 1, 7))]);
    assert_eq!((peer(&net).connected, peer(&net).absence), (true, None));
}

/// A transport that replaces a link brings another one to the same address.
#[test]
fn a_second_link_to_an_address_takes_the_place_of_the_first_and_neither_is_dialed_again() {
    let mut net = alone();
    let b = replica("b", 1, 7);
    up(&mut net, LinkId(100), Some("b:1"), by_cluster_key(b.clone()));
    net.hear(0, LinkId(100), &[hello(b.clone())]);
    up(&mut net, LinkId(101), Some("b:1"), by_cluster_key(b.clone()));
    let connected = |net: &Net| net.members[0].gossip.peers(net.time())[0].connected;
    assert!(connected(&net), "the old one is there");
    net.hear(0, LinkId(101), &[hello(b)]);
    assert!(connected(&net) && net.links(0) == 1);
    assert!(!net.reports.iter().any(|(_, report)| matches!(report, Report::PeerLost { .. })));
    let dials = |net: &mut Net| {
        let now = net.time();
        net.members[0].gossip.handle_timeout(now);
        let outputs = core::iter::from_fn(|| net.members[0].gossip.poll_output());
        outputs.filter(|output| matches!(output, Output::Dial { .. })).count()
    };
    net.now += Duration::from_secs(4);
    assert_eq!(dials(&mut net), 0);
}
