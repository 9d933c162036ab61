//! What the operator says, in one table and between several.

use alloc::{string::ToString, vec::Vec};
use core::time::Duration;

use super::tests::{replica, sync, table, ttl};
use super::*;
use crate::crdt::{Marks, Update};
use crate::id::Version;
use crate::key::CounterKey;
use crate::operator::{EntryError, EntrySource, OperatorEntry, OperatorPublicKey};
use crate::time::Timestamp;

const SEED: [u8; 32] = [9; 32];
const HOUR: Duration = Duration::from_secs(3600);
const NOW: Timestamp = Timestamp(1_000);

fn key(name: &str) -> CounterKey {
    CounterKey::new("l", &[name]).unwrap()
}

fn add(table: &Table, name: &str, amount: u64) {
    table.execute(NOW, &key(name), Op::Add(amount), ttl(9_000_000)).unwrap();
}

fn value(table: &Table, name: &str) -> u64 {
    table.value(NOW, key(name).as_bytes())
}

/// A table that believes the operator.
fn believing(node: &str) -> Table {
    let table = table(node);
    table.set_operator_key(Some(OperatorPublicKey::of_seed(&SEED)), "c".into());
    table
}

fn give(table: &Table, entry: OperatorEntry) {
    table.take_entry(NOW, entry.signed(&SEED, "c"), EntrySource::Peer).unwrap();
}

fn quarantine(node: &str, at: u64) -> OperatorEntry {
    OperatorEntry::quarantine(&node.parse().unwrap(), Timestamp(at), HOUR)
}

fn release(node: &str, at: u64) -> OperatorEntry {
    OperatorEntry::release(&node.parse().unwrap(), Timestamp(at))
}

fn forget(replica: &ReplicaId, at: u64) -> OperatorEntry {
    OperatorEntry::forget(replica, Timestamp(at))
}

fn heed(table: &Table) {
    table.heed(NOW, usize::MAX);
}

/// What a node of this name would send of counters, however wrong.
fn forged(table: &Table, node: &str, cells: &[(&str, u64)]) -> ReplicaId {
    let from = replica(node, 1);
    for (version, (name, p)) in (1..).zip(cells) {
        let update = Update {
            key: key(name).as_bytes().into(),
            version: Version(version),
            generation: 0,
            p: *p,
            n: 0,
            marks: Marks { at: 900, p0: 9_000_000, n0: 0 },
        };
        table.apply(NOW, &from, &[update]);
    }
    table.complete(&from, Version::ZERO, Version(cells.len() as u64));
    from
}

#[test]
fn a_quarantined_node_counts_for_nothing_and_comes_back_whole() {
    let table = believing("a");
    add(&table, "x", 3);
    forged(&table, "bad", &[("x", 1_000), ("y", 50)]);
    forged(&table, "good", &[("x", 4)]);
    assert_eq!((value(&table, "x"), value(&table, "y")), (1_007, 50));
    let before = table.state_checksum(NOW);
    give(&table, quarantine("bad", 1));
    assert_eq!(table.operator_entries(NOW)[0].progress, 0, "not a counter goes by it yet");
    heed(&table);
    assert_eq!((value(&table, "x"), value(&table, "y")), (7, 0));
    assert_eq!(table.operator_entries(NOW)[0].progress, 100);
    let shown = table.counter(key("x").as_bytes()).unwrap();
    assert_eq!((shown.value, shown.cells.len()), (7, 3), "all cells are there");
    assert_eq!(table.state_checksum(NOW), before, "what is held is as ever");
    // What it counts meanwhile is kept, and counts for nothing.
    let later = replica("bad", 2);
    let update = Update {
        key: key("x").as_bytes().into(),
        version: Version(1),
        generation: 0,
        p: 30,
        n: 0,
        marks: Marks { at: 900, p0: 9_000_000, n0: 0 },
    };
    table.apply(NOW, &later, &[update]);
    assert_eq!(value(&table, "x"), 7, "also in another incarnation");
    give(&table, release("bad", 2));
    heed(&table);
    assert_eq!((value(&table, "x"), value(&table, "y")), (1_037, 50));
}

#[test]
fn a_quarantine_ends_by_itself() {
    let table = believing("a");
    forged(&table, "bad", &[("x", 10)]);
    give(&table, quarantine("bad", 1));
    heed(&table);
    assert_eq!(value(&table, "x"), 0);
    let end = Timestamp(1).plus(HOUR);
    table.heed(Timestamp(end.0 - 1), usize::MAX);
    assert_eq!(value(&table, "x"), 0);
    table.heed(end, usize::MAX);
    assert_eq!(value(&table, "x"), 10);
}

#[test]
fn a_node_in_quarantine_goes_on_counting_what_it_counted() {
    let table = believing("a");
    add(&table, "x", 3);
    give(&table, quarantine("a", 1));
    heed(&table);
    assert_eq!(value(&table, "x"), 3, "or it would admit without end");
    assert!(table.is_quarantined());
}

#[test]
fn a_walk_takes_pages_and_says_how_far_it_is() {
    let table = believing("a");
    let names: Vec<_> = (0..5_000).map(|n| n.to_string()).collect();
    let cells: Vec<_> = names.iter().map(|name| (&**name, 1)).collect();
    forged(&table, "bad", &cells);
    give(&table, quarantine("bad", 1));
    let (mut calls, mut last) = (0, 0);
    while table.operator_entries(NOW)[0].progress < 100 {
        table.heed(NOW, 8);
        let progress = table.operator_entries(NOW)[0].progress;
        assert!(progress >= last, "it only grows");
        (calls, last) = (calls + 1, progress);
    }
    assert!(calls > 8, "a page at a time, not all at once: {calls}");
    assert!(names.iter().all(|name| value(&table, name) == 0));
}

#[test]
fn after_a_forget_a_node_holds_what_it_would_without() {
    let (with, without) = (believing("a"), believing("a"));
    for table in [&with, &without] {
        add(table, "x", 3);
        forged(table, "good", &[("x", 4), ("z", 1)]);
        table.harvest(DirtySet::All);
    }
    let bad = forged(&with, "bad", &[("x", 1_000), ("only its own", 5)]);
    give(&with, forget(&bad, 1));
    // From the very moment it is given, nothing more of it is taken in.
    let applied = forged(&with, "bad", &[("late", 9)]);
    assert_eq!((applied, value(&with, "late")), (bad.clone(), 0));
    heed(&with);
    assert_eq!(with.state_checksum(NOW), without.state_checksum(NOW));
    assert_eq!((with.len(), with.version_vector()), (without.len(), without.version_vector()));
    assert!(!with.knows(&bad) && with.has_forgotten(&bad));
    // It is refused later too, and that is counted.
    forged(&with, "bad", &[("x", 2_000)]);
    assert_eq!(with.state_checksum(NOW), without.state_checksum(NOW));
    assert!(with.rejections().cells_forgotten >= 2);
    // The node's other incarnations are none of it.
    sync(
        &{
            let next = Table::new(replica("bad", 2), Bounds::default(), [1, 2, 3, 4]);
            add(&next, "x", 1);
            next
        },
        &with,
        NOW.0,
    );
    assert_eq!(value(&with, "x"), 8);
}

#[test]
fn of_a_counter_with_many_cells_one_is_forgotten() {
    let table = believing("a");
    for node in 0..40 {
        forged(&table, &alloc::format!("n{node}"), &[("x", 1)]);
    }
    let bad = forged(&table, "bad", &[("x", 1_000)]);
    give(&table, forget(&bad, 1));
    heed(&table);
    assert_eq!(value(&table, "x"), 40);
}

#[test]
fn a_live_replica_that_is_forgotten_goes_on_as_another_and_loses_nothing_after() {
    let (a, b) = (believing("a"), believing("b"));
    add(&a, "x", 5);
    add(&a, "told only", 1);
    sync(&a, &b, NOW.0);
    assert_eq!(value(&b, "x"), 5);
    let first = a.own_replica();
    for table in [&a, &b] {
        give(table, forget(&first, 1));
        heed(table);
    }
    assert!(a.must_reincarnate() && !b.must_reincarnate());
    assert_eq!(value(&b, "x"), 0);
    // Counted between hearing it and the new name: nothing of this may go out under the old one, and none be lost.
    add(&a, "x", 7);
    sync(&a, &b, NOW.0);
    assert_eq!(value(&b, "x"), 0);
    let former = a.reincarnate(2);
    assert_eq!((former, a.must_reincarnate()), (first, false));
    assert_eq!((value(&a, "x"), value(&a, "told only")), (7, 0));
    add(&a, "x", 2);
    add(&a, "y", 1);
    sync(&a, &b, NOW.0);
    assert_eq!((value(&b, "x"), value(&b, "y"), value(&b, "told only")), (9, 1, 0));
    assert_eq!(a.state_checksum(NOW), b.state_checksum(NOW));
    sync(&b, &a, NOW.0);
    assert_eq!(value(&a, "x"), 9);
}

#[test]
fn a_receipt_of_what_was_told_takes_nothing_from_the_new_replica() {
    use crate::limit::{Demands, Limit, Policy, Request, Window};
    let a = believing("a");
    let policy = Policy::new([Limit::new("l", 9, Window::Session { ttl: HOUR })]).unwrap();
    let mut demands = Demands::default();
    policy.find_demands(&Request::new(), NOW, 512, &mut demands).unwrap();
    let Admission::Allowed { debits, .. } = a.acquire(NOW, &demands) else {
        panic!("there is room")
    };
    a.harvest(DirtySet::All);
    give(&a, forget(&a.own_replica(), 1));
    heed(&a);
    a.acquire(NOW, &demands);
    a.reincarnate(2);
    let counted = |table: &Table| table.page(None).0.len() + table.len();
    let before = counted(&a);
    assert!(a.refund(&debits, 1));
    let value: u64 = (0..64_u32)
        .flat_map(|shard| a.page(Some(SlotId(shard))).0)
        .map(|counter| counter.value)
        .sum();
    assert_eq!((value, counted(&a)), (1, before));
}

#[test]
fn only_what_the_operator_signed_is_believed() {
    let a = believing("a");
    let other_key = quarantine("b", 1).signed(&[8; 32], "c");
    let other_cluster = quarantine("b", 1).signed(&SEED, "d");
    let take = |entry, source| a.take_entry(NOW, entry, source).unwrap_err();
    for source in [EntrySource::Here, EntrySource::Peer] {
        assert_eq!(take(quarantine("b", 1), source), EntryError::NotSigned);
        assert_eq!(take(other_key.clone(), source), EntryError::WrongSignature);
        assert_eq!(take(other_cluster.clone(), source), EntryError::WrongSignature);
    }
    assert!(a.operator_entries(NOW).is_empty());
    // Without a key, a node believes its own caller, and no peer.
    let lone = table("a");
    let unsigned = || quarantine("b", 1);
    assert_eq!(lone.take_entry(NOW, unsigned(), EntrySource::Peer), Err(EntryError::NotSigned));
    let signed = unsigned().signed(&SEED, "c");
    assert_eq!(lone.take_entry(NOW, signed.clone(), EntrySource::Peer), Err(EntryError::NoKey));
    assert_eq!(lone.take_entry(NOW, signed, EntrySource::Here), Err(EntryError::NoKey));
    assert_eq!(lone.take_entry(NOW, unsigned(), EntrySource::Here), Ok(Taken::New));
    let held = &lone.operator_entries(NOW)[0];
    assert!(held.is_in_force && !held.is_told);
    assert_eq!(lone.entries_checksum(NOW), None, "it is told to no peer");
}
