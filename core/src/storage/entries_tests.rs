//! What the operator said, across restarts, crashes and damage.

use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::time::Duration;

use super::files_for_tests::TestFiles;
use super::record::{ENTRY_PREFIX, encode};
use super::*;
use crate::crdt::{Marks, Update};
use crate::id::{Incarnation, NodeId, ReplicaId, Version};
use crate::key::CounterKey;
use crate::operator::{EntrySource, OperatorEntry};
use crate::table::{Bounds, Table};
use crate::time::Timestamp;

const NOW: Timestamp = Timestamp(1_790_000_000_000);
const HOUR: Duration = Duration::from_secs(3600);

fn node() -> NodeId {
    "a".parse().unwrap()
}

fn bad() -> ReplicaId {
    ReplicaId { node: "bad".parse().unwrap(), incarnation: Incarnation { boot: 1, nonce: 7 } }
}

fn open(files: &TestFiles) -> Result<(Opened, Vec<String>), StorageError> {
    let mut rejected = Vec::new();
    let dir = DataDir::on(Box::new(files.clone()))?;
    let start = Start { clock: NOW, nonce: 3, hash_seeds: [1, 2, 3, 4] };
    let opened = StateStore::open(
        dir,
        &node(),
        &Bounds::default(),
        &CarryOver::default(),
        start,
        |event| {
            if let OpenEvent::Rejected { what, .. } = event {
                rejected.push(what.to_string());
            }
        },
    )?;
    Ok((opened, rejected))
}

fn key(name: &str) -> CounterKey {
    CounterKey::new(name, &[]).unwrap()
}

fn value(table: &Table, name: &str) -> u64 {
    table.value(NOW, key(name).as_bytes())
}

/// So many replicas count in `x`, one of them 1,000.
fn count(table: &Table, replicas: u64) {
    let others = (0..replicas).map(|n| ReplicaId {
        node: alloc::format!("n{n}").parse().unwrap(),
        incarnation: Incarnation { boot: 1, nonce: n },
    });
    for (replica, p) in others.map(|other| (other, 1)).chain([(bad(), 1_000)]) {
        let update = Update {
            key: key("x").as_bytes().into(),
            version: Version(1),
            generation: 0,
            p,
            n: 0,
            marks: Marks { at: NOW.0, p0: 9_000_000, n0: 0 },
        };
        table.apply(NOW, &replica, &[update]);
        table.complete(&replica, Version::ZERO, Version(1));
    }
}

fn give(table: &Table, entry: OperatorEntry) {
    table.take_entry(NOW, entry, EntrySource::Here).unwrap();
    table.heed(NOW, usize::MAX);
}

fn quarantine() -> OperatorEntry {
    OperatorEntry::quarantine(&bad().node, NOW, HOUR)
}

fn write(opened: &mut Opened) -> Result<(), StorageError> {
    opened.store.write(&opened.table, NOW)?;
    opened.store.sync_meta()
}

#[test]
fn what_the_operator_said_holds_from_the_first_decision_of_the_next_life() {
    for replicas in [3, 40] {
        let files = TestFiles::default();
        let (mut first, _) = open(&files).unwrap();
        count(&first.table, replicas);
        write(&mut first).unwrap();
        give(&first.table, quarantine());
        write(&mut first).unwrap();
        drop(first);
        files.crash(true);
        let (mut second, _) = open(&files).unwrap();
        assert_eq!(value(&second.table, "x"), replicas);
        assert_eq!(second.table.operator_entries(NOW)[0].progress, 100);
        give(&second.table, OperatorEntry::release(&bad().node, Timestamp(NOW.0 + 1)));
        write(&mut second).unwrap();
        drop(second);
        let (mut third, _) = open(&files).unwrap();
        assert_eq!(value(&third.table, "x"), replicas + 1_000, "it was kept all the while");
        give(&third.table, OperatorEntry::forget(&bad(), NOW));
        assert_eq!(value(&third.table, "x"), replicas);
        write(&mut third).unwrap();
        drop(third);
        files.crash(true);
        let (fourth, rejected) = open(&files).unwrap();
        assert_eq!((value(&fourth.table, "x"), rejected.len()), (replicas, 0));
        assert!(!fourth.table.knows(&bad()) && fourth.table.has_forgotten(&bad()));
        count(&fourth.table, 0);
        assert_eq!(value(&fourth.table, "x"), replicas, "it is not learned again");
    }
}

#[test]
fn a_crash_at_any_step_leaves_no_hole() {
    let files = TestFiles::default();
    let (mut first, _) = open(&files).unwrap();
    count(&first.table, 3);
    write(&mut first).unwrap();
    drop(first);
    for operation in 1.. {
        for loses_unsynced in [false, true] {
            let files = files.copied();
            let Ok((mut opened, _)) = open(&files) else { panic!("it opens") };
            give(&opened.table, OperatorEntry::forget(&bad(), NOW));
            let before = files.operations();
            files.kill_at(operation);
            let died = write(&mut opened).is_err();
            assert!(died || files.operations() - before < operation);
            drop(opened);
            files.crash(loses_unsynced);
            let (next, rejected) = open(&files).unwrap();
            assert_eq!((files.aside(), rejected.len()), (0, 0));
            let (watermark, held) = (next.table.watermark(&bad()), value(&next.table, "x"));
            match next.table.has_forgotten(&bad()) {
                true => assert_eq!((watermark, held), (Version::ZERO, 3)),
                // Where the entry was lost, all that its watermark vouches for is there.
                false => assert_eq!((watermark, held), (Version(1), 1_003)),
            }
            if !died && loses_unsynced {
                return;
            }
        }
    }
}

#[test]
fn an_entry_that_ends_leaves_the_disk() {
    let files = TestFiles::default();
    let (mut opened, _) = open(&files).unwrap();
    give(&opened.table, quarantine());
    write(&mut opened).unwrap();
    let entries = |files: &TestFiles| {
        let mut entries = 0;
        let count = &mut |_: &[u8], _: &[u8]| entries += 1;
        files.with_database(|store| store.scan(&[ENTRY_PREFIX], count)).unwrap();
        entries
    };
    assert_eq!(entries(&files), 1);
    let after = quarantine().kept().plus(Bounds::default().grace);
    opened.table.heed(after, 0);
    opened.store.write(&opened.table, after).unwrap();
    assert_eq!(entries(&files), 0);
}

#[test]
fn a_database_that_is_written_anew_has_the_entries() {
    let files = TestFiles::default();
    let (mut opened, _) = open(&files).unwrap();
    give(&opened.table, quarantine());
    write(&mut opened).unwrap();
    opened.store.rebuild(&opened.table, NOW).unwrap();
    drop(opened);
    let (next, _) = open(&files).unwrap();
    assert_eq!(next.table.operator_entries(NOW).len(), 1);
}

#[test]
fn a_damaged_entry_is_damage_and_one_that_is_none_is_rejected() {
    let live = || {
        let files = TestFiles::default();
        let (mut opened, _) = open(&files).unwrap();
        give(&opened.table, quarantine());
        write(&mut opened).unwrap();
        drop(opened);
        let mut found = None;
        let look = &mut |key: &[u8], value: &[u8]| found = Some((key.to_vec(), value.to_vec()));
        files.with_database(|store| store.scan(&[ENTRY_PREFIX], look)).unwrap();
        let (key, value) = found.unwrap();
        (files, key, value)
    };
    let (files, key, mut value) = live();
    *value.last_mut().unwrap() ^= 1;
    files.with_database(|store| store.put(&key, &value)).unwrap();
    let mut examined = Examination::of(&files).unwrap();
    files.with_database(|store| examined.read_database(store)).unwrap();
    assert_eq!(examined.damage.len(), 1);
    assert_eq!(examined.damage[0].consequence, Consequence::SetAside);
    assert!(examined.damage[0].what.contains("operator's entry"), "{:?}", examined.damage);
    let (next, _) = open(&files).unwrap();
    assert!(next.set_aside.is_some());

    let (files, key, _) = live();
    let none = [("entry", serde_bytes::Bytes::new(b"none"))];
    let none: alloc::collections::BTreeMap<_, _> = none.into_iter().collect();
    files.with_database(|store| store.put(&key, &encode(&key, &none).0)).unwrap();
    let mut examined = Examination::of(&files).unwrap();
    files.with_database(|store| examined.read_database(store)).unwrap();
    assert_eq!(examined.damage[0].consequence, Consequence::Rejected);
    let (next, rejected) = open(&files).unwrap();
    assert!(next.set_aside.is_none() && next.table.operator_entries(NOW).is_empty());
    assert_eq!(rejected.len(), 1);
}

#[test]
fn the_incarnation_of_a_replica_that_goes_on_is_durable_first() {
    let files = TestFiles::default();
    let (mut opened, _) = open(&files).unwrap();
    let former = opened.table.own_replica();
    give(&opened.table, OperatorEntry::forget(&former, NOW));
    files.kill_at(1);
    assert!(opened.store.reincarnate(&opened.table, NOW).is_err());
    assert!(
        opened.table.must_reincarnate() && opened.table.own_replica() == former,
        "it is as it was"
    );
    files.crash(false);
    let (mut opened, _) = open(&files).unwrap();
    let own = opened.table.own_replica();
    give(&opened.table, OperatorEntry::forget(&own, NOW));
    assert_eq!(opened.store.reincarnate(&opened.table, NOW).unwrap(), own);
    let reincarnated = opened.table.own_replica().incarnation;
    assert!(reincarnated.boot > own.incarnation.boot);
    files.crash(true);
    let next = open(&files).unwrap().0.table.own_replica().incarnation;
    assert!(next.boot > reincarnated.boot);
}
