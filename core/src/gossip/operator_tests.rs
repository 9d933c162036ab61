//! What the operator said reaches all who can believe it, and nothing else does.

use alloc::vec::Vec;
use core::time::Duration;

use serde_bytes::ByteBuf;

use super::test_net::*;
use super::*;
use crate::operator::{EntrySource, OperatorEntry, OperatorPublicKey};

const SEED: [u8; 32] = [9; 32];
const HOUR: Duration = Duration::from_secs(3600);

/// Members that believe the operator, but for those of these indexes.
fn net(names: &[&str], without_key: &[usize]) -> Net {
    let net = Net::new(names, &GossipSettings::default());
    for (index, member) in net.members.iter().enumerate() {
        let key = (!without_key.contains(&index)).then(|| OperatorPublicKey::of_seed(&SEED));
        member.table.set_operator_key(key, "default".into());
    }
    net
}

fn quarantine(net: &Net, node: &str) -> OperatorEntry {
    let node = node.parse().unwrap();
    OperatorEntry::quarantine(&node, net.time().wall, HOUR).signed(&SEED, "default")
}

fn give(net: &Net, index: usize, entry: OperatorEntry) {
    let wall = net.time().wall;
    net.members[index].table.take_entry(wall, entry, EntrySource::Here).unwrap();
}

fn entries(net: &Net) -> Vec<usize> {
    let wall = net.time().wall;
    net.members.iter().map(|member| member.table.operator_entries(wall).len()).collect()
}

fn run_until(net: &mut Net, within: Duration, is_so: impl Fn(&Net) -> bool) {
    let end = net.now + within;
    while !is_so(net) {
        assert!(net.now < end, "not within {within:?}");
        net.run(Duration::from_millis(20));
    }
}

#[test]
fn an_entry_reaches_all_and_takes_effect() {
    let mut net = net(&["a", "b", "c", "bad"], &[]);
    net.run(Duration::from_millis(500));
    net.add_to(0, "x", 3);
    net.add_to(3, "x", 1_000);
    run_until(&mut net, HOUR, |net| net.values("x") == [1_003; 4]);
    give(&net, 1, quarantine(&net, "bad"));
    // At the node itself it is as it was.
    run_until(&mut net, Duration::from_secs(5), |net| net.values("x") == [3, 3, 3, 1_003]);
    assert_eq!(entries(&net), [1; 4]);
    let taken = |(_, report): &&(usize, Report)| matches!(report, Report::EntryTaken { .. });
    assert_eq!(net.reports.iter().filter(taken).count(), 3, "each says so once");
    net.converge(Duration::from_secs(5));
}

#[test]
fn who_was_away_hears_of_it_when_it_is_back() {
    let mut net = net(&["a", "b", "c"], &[]);
    net.run(Duration::from_millis(500));
    net.partition(2);
    give(&net, 0, quarantine(&net, "x"));
    run_until(&mut net, Duration::from_secs(5), |net| entries(net) == [1, 1, 0]);
    net.run(Duration::from_secs(60));
    assert_eq!(entries(&net), [1, 1, 0]);
    net.cut.clear();
    run_until(&mut net, Duration::from_secs(60), |net| entries(net) == [1; 3]);
}

#[test]
fn many_entries_come_frame_by_frame() {
    let mut net = net(&["a", "b"], &[]);
    net.run(Duration::from_millis(500));
    for n in 0..600 {
        give(&net, n % 2, quarantine(&net, &alloc::format!("n{n}")));
    }
    run_until(&mut net, Duration::from_secs(30), |net| entries(net) == [600; 2]);
}

#[test]
fn where_nothing_was_said_nothing_is_sent_of_it_and_little_where_all_know_it() {
    let mut quiet = net(&["a", "b"], &[]);
    let mut said = net(&["a", "b"], &[]);
    for net in [&mut quiet, &mut said] {
        net.run(Duration::from_secs(5));
    }
    give(&said, 0, quarantine(&said, "x"));
    for net in [&mut quiet, &mut said] {
        net.run(Duration::from_secs(10));
        net.sent_bytes = 0;
        net.run(Duration::from_secs(60));
    }
    let digests = 2 * 60 * 4 / 3;
    assert!(
        said.sent_bytes <= quiet.sent_bytes + digests * 12,
        "{} {}",
        said.sent_bytes,
        quiet.sent_bytes
    );
}

#[test]
fn a_node_without_the_key_takes_nothing_and_asks_for_nothing() {
    let mut net = net(&["a", "b"], &[1]);
    net.run(Duration::from_millis(500));
    give(&net, 0, quarantine(&net, "x"));
    net.run(Duration::from_secs(20));
    assert_eq!(entries(&net), [1, 0]);
    assert_eq!(net.members[1].table.rejections().entries_refused, 0);
}

/// A member that lies says that it has entries, and sends these when it is asked.
fn liar_sends(net: &mut Net, sent: &[OperatorEntry]) -> u64 {
    // It is asked so often, and no more.
    net.run(GossipSettings::default().digest_interval * 4);
    let link = net.ends.iter().find(|(_, (of, to, _))| (*of, *to) == (0, 1)).map(|(link, _)| *link);
    let link = link.unwrap();
    let digest = Message::Digest {
        after: None,
        entries: Vec::new(),
        last: true,
        others: None,
        buckets: Vec::new(),
        operator: Some(7),
    };
    let entries = sent.iter().map(|entry| ByteBuf::from(entry.to_bytes())).collect();
    let before = net.members[0].table.rejections().entries_refused;
    net.hear(0, link, &[digest, Message::OperatorEntries { entries }]);
    net.members[0].table.rejections().entries_refused - before
}

#[test]
fn a_members_word_is_not_the_operators() {
    let mut net = net(&["a", "b"], &[]);
    net.run(Duration::from_millis(500));
    let now = net.time().wall;
    let good = |node: &str| OperatorEntry::quarantine(&node.parse().unwrap(), now, HOUR);
    let unsigned = good("x");
    let wrong_key = good("x").signed(&[8; 32], "default");
    let elsewhere = good("x").signed(&SEED, "another");
    for entry in [unsigned, wrong_key, elsewhere] {
        assert_eq!(
            liar_sends(&mut net, &[entry.clone(), entry]),
            2,
            "after the first, none is looked at"
        );
    }
    assert_eq!(entries(&net)[0], 0);
    let refused = |(_, report): &&(usize, Report)| matches!(report, Report::EntryRefused { .. });
    assert_eq!(net.reports.iter().filter(refused).count(), 3);
    // What the operator signed is as good from a liar as from anyone.
    let true_one = good("y").signed(&SEED, "default");
    assert_eq!(liar_sends(&mut net, core::slice::from_ref(&true_one)), 0);
    assert_eq!(entries(&net)[0], 1);
    // Played back after it was lifted, it does nothing.
    let lifted = OperatorEntry::release(&"y".parse().unwrap(), now.plus(Duration::from_millis(1)));
    give(&net, 0, lifted.signed(&SEED, "default"));
    assert_eq!(liar_sends(&mut net, &[true_one]), 0);
    assert_eq!(net.members[0].table.operator_entries(now)[0].action, "release");
    // What was not asked for is not looked at.
    let link = net.ends.iter().find(|(_, (of, to, _))| (*of, *to) == (0, 1)).map(|(link, _)| *link);
    let unasked = good("z").signed(&SEED, "default");
    let entry = ByteBuf::from(unasked.to_bytes());
    net.hear(0, link.unwrap(), &[Message::OperatorEntries { entries: alloc::vec![entry] }]);
    assert_eq!(entries(&net)[0], 1);
}

#[test]
fn a_forgotten_replica_stays_forgotten_among_peers_that_have_it() {
    let mut net = net(&["a", "b", "bad", "c"], &[]);
    net.run(Duration::from_millis(500));
    net.add_to(0, "x", 3);
    net.add_to(2, "x", 1_000);
    run_until(&mut net, HOUR, |net| net.values("x") == [1_003; 4]);
    // The liar is gone, and none but the peers could tell its cells again.
    let bad = net.members[2].table.own_replica();
    net.members[2].up = false;
    for link in
        net.ends.iter().filter(|(_, (of, ..))| *of == 2).map(|(link, _)| *link).collect::<Vec<_>>()
    {
        net.hang_up(link);
    }
    // One is away meanwhile, and has all of it still when it is back.
    net.partition(3);
    let forget = OperatorEntry::forget(&bad, net.time().wall).signed(&SEED, "default");
    give(&net, 0, forget);
    run_until(&mut net, Duration::from_secs(10), |net| net.values("x") == [3, 3, 1_003]);
    net.cut.clear();
    run_until(&mut net, Duration::from_secs(60), |net| net.values("x") == [3, 3, 3]);
    net.run(Duration::from_secs(10));
    assert_eq!(net.values("x"), [3, 3, 3]);
    assert!(net.members.iter().filter(|member| member.up).all(|member| !member.table.knows(&bad)));
    net.converge(Duration::from_secs(5));
}
