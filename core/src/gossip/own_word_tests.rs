//! What a third one says of a replica, against what the replica says itself.

use alloc::{vec, vec::Vec};
use core::time::Duration;

use super::test_net::*;
use super::*;
use crate::crdt::{Delta, Update};
use crate::id::Version;

const SECOND: Duration = Duration::from_secs(1);
/// The link over which the liar speaks, to `a`.
const LIAR: LinkId = LinkId(1_000_000);

/// `a` and `b`, which have counted 1 together in `x`, and a liar with a link to `a`.
fn net(settings: &GossipSettings) -> Net {
    let mut net = Net::new(&["a", "b"], settings);
    net.add_to(1, "x", 1);
    net.converge(SECOND * 20);
    net
}

/// The liar comes, if it is not there any more, and says this.
fn lie(net: &mut Net, messages: &[Message]) {
    if net.ends.insert(LIAR, (0, 0, LinkId(u64::MAX))).is_none()
        || !net.members[0].gossip.links.contains_key(&LIAR)
    {
        net.input(0, link_up(LIAR, None));
        net.hear(0, LIAR, &[hello(replica("liar", 1, 99))]);
    }
    net.hear(0, LIAR, messages);
}

fn latest(net: &Net) -> Version {
    net.members[0].table.version_max(net.time().wall, &b())
}

fn b() -> ReplicaId {
    replica("b", 1, 1)
}

/// All of `b` up to there, and nothing in it.
fn watermark(to: Version) -> Message {
    Message::Delta(Delta {
        replica: b(),
        from: Version::ZERO,
        chain: 7,
        part: 0,
        watermark: Some(to),
        as_of: None,
        begun: Vec::new(),
        updates: Vec::new(),
    })
}

/// `b` has counted so much in `x`.
fn cell(net: &Net, version: Version, p: u64) -> Message {
    let marks = net.members[0].table.counter(key("x").as_bytes()).unwrap().marks;
    let key = key("x").as_bytes().to_vec();
    let update = Update { key, version, generation: 0, p, n: 0, marks };
    Message::Push { replica: b(), updates: vec![update], at_once: false }
}

fn complaints(net: &Net, index: usize) -> usize {
    let is_it = |(at, report): &&(usize, Report)| {
        *at == index && matches!(report, Report::NeverGivenOut { .. })
    };
    net.reports.iter().filter(is_it).count()
}

/// The lies are believed while `b` is away. Once it is back, what it counts is seen, and it rests.
fn heals(settings: &GossipSettings, lies: impl Fn(&Net) -> Vec<Message>) {
    let mut net = net(settings);
    net.partition(1);
    let said = lies(&net);
    lie(&mut net, &said);
    net.hang_up(LIAR);
    let a = &net.members[0].table;
    assert!(a.reaches(&b(), Version(1 << 40)), "the lie is believed");
    net.cut.clear();
    net.run(SECOND * 8);
    net.add_to(1, "x", 50);
    net.run(SECOND * 8);
    assert_eq!(net.values("x"), [51, 51]);
    assert!(complaints(&net, 1) > 0 && complaints(&net, 0) == 0);
    let given_out = net.members[1].table.own_watermark();
    net.converge(SECOND * 20);
    net.run(SECOND * 60);
    assert_eq!(net.members[1].table.own_watermark(), given_out, "nothing is sent again at rest");
}

#[test]
fn a_forged_watermark_heals() {
    for direct_up_to in [32, 0] {
        let settings = GossipSettings { direct_up_to, ..GossipSettings::default() };
        heals(&settings, |net| vec![watermark(latest(net))]);
    }
}

#[test]
fn a_forged_version_of_a_cell_heals() {
    for direct_up_to in [32, 0] {
        let settings = GossipSettings { direct_up_to, ..GossipSettings::default() };
        heals(&settings, |net| vec![cell(net, latest(net), 0)]);
        heals(&settings, |net| vec![cell(net, latest(net), 900)]);
    }
}

#[test]
fn what_is_past_all_that_can_be_is_dropped_and_its_teller_named() {
    let mut net = net(&GossipSettings::default());
    net.partition(1);
    let beyond = Version(latest(&net).0 + 1);
    let said = [watermark(beyond), cell(&net, beyond, 900), watermark(Version(u64::MAX))];
    lie(&mut net, &said);
    assert_eq!(net.members[0].table.watermark(&b()), Version(1));
    assert_eq!(net.values("x")[0], 1);
    let named = |(_, report): &&(usize, Report)| match report {
        Report::Implausible { from, about, .. } => *from == replica("liar", 1, 99) && *about == b(),
        _ => false,
    };
    assert_eq!(net.reports.iter().filter(named).count(), 3);
}

#[test]
fn of_a_connected_replica_only_its_own_link_is_believed() {
    let mut net = net(&GossipSettings::default());
    let said = [watermark(latest(&net)), cell(&net, Version(9), 900)];
    lie(&mut net, &said);
    assert_eq!(net.members[0].table.watermark(&b()), Version(1));
    assert_eq!(net.values("x"), [1, 1]);
    net.run(SECOND * 5);
    assert_eq!(complaints(&net, 1), 0);
}

#[test]
fn a_watermark_that_is_given_out_before_it_is_heard_of_is_not_believed_for_good() {
    let mut net = net(&GossipSettings::default());
    net.partition(1);
    lie(&mut net, &[watermark(Version(40))]);
    net.hang_up(LIAR);
    let names: Vec<_> = (0..60).map(|number| alloc::format!("k{number}")).collect();
    for name in &names {
        net.add_to(1, name, 1);
        net.run(Duration::from_millis(60));
    }
    assert!(net.members[1].table.own_watermark() > Version(40));
    net.cut.clear();
    net.run(SECOND * 8);
    let missing = names.iter().filter(|name| net.values(name) != [1, 1]).count();
    assert_eq!(missing, 0);
    let sent = net.sent_bytes;
    net.run(SECOND * 20);
    assert!(net.sent_bytes - sent < 20_000, "at rest there are digests only");
}

#[test]
fn a_replica_whose_own_link_brings_nothing_is_heard_through_others() {
    let settings = GossipSettings { silence_timeout: SECOND * 600, ..GossipSettings::default() };
    let mut net = Net::new(&["a", "b", "c"], &settings);
    net.run(SECOND * 3);
    net.silent.push((1, 0));
    net.add_to(1, "x", 7);
    net.run(settings.digest_interval * 8);
    assert_eq!(net.values("x"), [7, 7, 7]);
    assert_eq!(net.links(0), 2, "its link is up");
}

#[test]
fn own_versions_are_raised_at_most_once_a_digest_interval() {
    let settings = GossipSettings::default();
    let mut net = net(&settings);
    let own = |net: &Net| net.members[0].table.own_watermark();
    for found in 1..=100 {
        lie(&mut net, &[Message::Ack { watermark: Version(found << 30) }]);
    }
    assert_eq!((own(&net), complaints(&net, 0)), (Version(1 << 30), 100));
    net.run(settings.digest_interval);
    lie(&mut net, &[Message::Ack { watermark: Version(u64::MAX) }]);
    assert!(own(&net) < Version(2 << 30), "no node can hold that");
    lie(&mut net, &[Message::Ack { watermark: Version(3 << 30) }]);
    assert_eq!(own(&net), Version(3 << 30));
}
