//! Single records that no version writes, what a newer version writes, and a clock that was ahead.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use serde::Serialize;

use super::files_for_tests::TestFiles;
use super::record::{META_KEY, Meta, counter_key, decode, encode, replica_key};
use super::*;
use crate::crdt::COUNT_MAX;
use crate::id::{NodeId, ReplicaId, Version};
use crate::key::{CounterKey, CounterKind, WindowSpan};
use crate::limit::Lifetime;
use crate::table::{Bounds, Op, Table};
use crate::time::Timestamp;

const NOW: Timestamp = Timestamp(1_790_000_000_000);
const TTL: Duration = Duration::from_secs(1_600);

fn node() -> NodeId {
    "a".parse().unwrap()
}

/// What a start told.
#[derive(Debug, Default)]
struct Told {
    rejected: Vec<(String, String)>,
}

fn open(files: &TestFiles) -> (Opened, Told) {
    let mut told = Told::default();
    let dir = DataDir::on(Box::new(files.clone())).unwrap();
    let rules = CarryOver::default();
    let start = Start { nonce: 3, hash_seeds: [1, 2, 3, 4], ..Start::default() };
    let opened = StateStore::open(dir, &node(), &Bounds::default(), &rules, start, |event| {
        if let OpenEvent::Rejected { what, why, copy } = event {
            assert!(copy.is_some());
            told.rejected.push((what.to_owned(), why.to_owned()));
        }
    });
    (opened.unwrap(), told)
}

fn plain(name: &str) -> CounterKey {
    CounterKey::new(name, &[]).unwrap()
}

fn add(table: &Table, name: &str) {
    table.execute(NOW, &plain(name), Op::Add(1), Lifetime::new(TTL)).unwrap();
}

fn value(table: &Table, name: &str) -> u64 {
    table.value(NOW, plain(name).as_bytes())
}

/// A life that counts `x` and `y`; returns its replica.
fn live(files: &TestFiles) -> ReplicaId {
    let (Opened { mut store, table, .. }, _) = open(files);
    ["x", "y"].iter().for_each(|name| add(&table, name));
    store.write(&table, NOW).unwrap();
    store.sync_meta().unwrap();
    table.own_replica()
}

fn meta(files: &TestFiles) -> Meta {
    files.with_database(|store| decode(META_KEY, &store.get(META_KEY).unwrap().unwrap()).unwrap().0)
}

/// Puts a record into the database as one that was written there: its checksum is right, and the totals know it.
fn forge(files: &TestFiles, key: &[u8], record: &impl Serialize) {
    let mut meta = meta(files);
    files.with_database(|store| {
        let (bytes, crc) = encode(key, record);
        if key.first() == Some(&b'c') {
            if let Some(held) = store.get(key).unwrap() {
                meta.totals.remove(u32::from_le_bytes(*held.first_chunk().unwrap()));
            }
            meta.totals.add(crc);
        }
        store.put(key, &bytes).unwrap();
        store.put(META_KEY, &encode(META_KEY, &meta).0).unwrap();
    });
}

type Cells = Vec<(u32, u64, u64, u64)>;

/// A counter's record of replica 0's cells.
fn record(cells: Cells) -> (u64, Option<u32>, u32, Cells, u64, u64) {
    (1, None, 0, cells, NOW.0, 1_600_000)
}

/// A key of 33 values, as an earlier version made it.
fn key_of_33_values() -> Vec<u8> {
    let names: Vec<String> = (0..32).map(|n| alloc::format!("v{n}")).collect();
    let values: Vec<&str> = names.iter().map(|name| &**name).collect();
    let mut key = counter_key(CounterKey::new("l", &values).unwrap().as_bytes());
    // Behind the first letter, the head, the name of one byte and the tag.
    assert_eq!(key[6], 32);
    key[6] = 33;
    key.extend([1, b'x']);
    key
}

/// The database goes on without the one record, says so, and vouches for what it named no longer.
fn is_rejected(what: &str, part: &str, key: &[u8], record: &impl Serialize) {
    let files = TestFiles::default();
    let first = live(&files);
    forge(&files, key, record);
    for crash in [false, true] {
        let files = files.copied();
        let mut examination = Examination::of(&files).unwrap();
        let mut dir = files.clone();
        examination.read_database(&*dir.open_database().unwrap()).unwrap();
        let [finding] = &examination.damage[..] else { panic!("{what}: {examination:?}") };
        assert_eq!(finding.consequence, Consequence::Rejected, "{what}");
        if crash {
            // In the middle of what becomes of it.
            let dir = DataDir::on(Box::new(files.clone())).unwrap();
            files.kill_at(6);
            let rules = CarryOver::default();
            let start = Start { nonce: 3, hash_seeds: [1, 2, 3, 4], ..Start::default() };
            let opened = StateStore::open(dir, &node(), &Bounds::default(), &rules, start, |_| {});
            assert!(opened.is_err(), "{what}");
            files.crash(false);
        }
        let (opened, told) = open(&files);
        assert!(opened.set_aside.is_none(), "{what}: {:?}", opened.set_aside);
        if !crash {
            let [(_, why)] = &told.rejected[..] else { panic!("{what}: {told:?}") };
            assert!(why.contains(part), "{what}: {why}");
        }
        let [copy] = &files.rejected().into_values().collect::<Vec<_>>()[..] else {
            panic!("{what}: no copy")
        };
        assert!(copy.contains(part) && copy.contains("value "), "{what}: {copy}");
        assert_eq!(value(&opened.table, "y"), 1, "{what}: its neighbours are there");
        assert_eq!(opened.table.watermark(&first), Version::ZERO, "{what}");
        // The next start finds nothing wrong, and all that was counted meanwhile.
        let Opened { mut store, table, .. } = opened;
        add(&table, "y");
        store.write(&table, NOW).unwrap();
        store.write(&table, NOW).unwrap();
        store.sync_meta().unwrap();
        let (opened, told) = open(&files);
        assert!(opened.set_aside.is_none() && told.rejected.is_empty(), "{what}: {told:?}");
        assert_eq!(value(&opened.table, "y"), 2, "{what}");
    }
}

#[test]
fn a_record_that_no_version_writes_costs_that_record_only() {
    let x = counter_key(plain("x").as_bytes());
    let sound = || record(vec![(0, 1, 1, 0)]);
    is_rejected("a key with too many values", "too many values", &key_of_33_values(), &sound());
    is_rejected("a key of nothing", "", b"c", &sound());
    is_rejected("a count past the bound", "2^53", &x, &record(vec![(0, 1, COUNT_MAX + 1, 0)]));
    is_rejected("a cell without a version", "version", &x, &record(vec![(0, 0, 1, 0)]));
    let twice = record(vec![(0, 1, 1, 0), (0, 2, 1, 0)]);
    is_rejected("two cells of one replica", "one replica", &x, &twice);
    is_rejected("text for a counter", "shape", &x, &"text");
    is_rejected("a counter of another shape", "shape", &x, &(1, None::<u32>, "generation"));
    is_rejected("a number past its range", "shape", &x, &(1, None::<u32>, u64::MAX, ()));
}

#[test]
fn a_replica_s_record_that_no_version_writes_takes_its_cells_along_and_no_others() {
    let files = TestFiles::default();
    let first = live(&files);
    live(&files);
    let long = BTreeMap::from([("node", "n".repeat(65))]);
    forge(&files, &replica_key(0), &long);
    let (opened, told) = open(&files);
    assert!(opened.set_aside.is_none(), "{:?}", opened.set_aside);
    let [(what, why)] = &told.rejected[..] else { panic!("{told:?}") };
    assert_eq!((&**what, &**why), ("replica 0", "it is no replica"));
    assert_eq!((value(&opened.table, "x"), value(&opened.table, "y")), (1, 1));
    assert_eq!(opened.table.watermark(&first), Version::ZERO);
    drop(opened);
    let (opened, told) = open(&files);
    assert!(opened.set_aside.is_none() && told.rejected.is_empty(), "{told:?}");
    assert_eq!(value(&opened.table, "x"), 1);
}

#[test]
fn a_cell_without_a_replica_s_record_is_damage_since_that_record_is_lost() {
    let files = TestFiles::default();
    live(&files);
    forge(&files, &counter_key(plain("x").as_bytes()), &record(vec![(7, 1, 1, 0)]));
    assert!(open(&files).0.set_aside.is_some());
}

#[test]
fn a_replica_number_is_never_given_twice() {
    let files = TestFiles::default();
    live(&files);
    assert_eq!(meta(&files).next_replica, 1);
    // Its record has gone, and so have all counters that named it.
    files.with_database(|store| {
        for key in
            [replica_key(0), counter_key(plain("x").as_bytes()), counter_key(plain("y").as_bytes())]
        {
            store.remove(&key).unwrap();
        }
        let empty = Meta { next_replica: 1, ..Meta::first(node(), 2) };
        store.put(META_KEY, &encode(META_KEY, &empty).0).unwrap();
    });
    live(&files);
    files.with_database(|store| {
        assert!(store.get(&replica_key(0)).unwrap().is_none());
        assert!(store.get(&replica_key(1)).unwrap().is_some());
    });
}

#[test]
fn the_latest_end_of_a_replica_s_cells_is_kept_when_they_are_gone() {
    let files = TestFiles::default();
    live(&files);
    let step = TTL.as_secs() / 16;
    let used = NOW.0 / 1000 / step * step;
    let end = used + TTL.as_secs() + step;
    assert_eq!(meta(&files).ends, [(0, end)]);
    // A later life, in which a counter lives longer.
    let (Opened { mut store, table, .. }, _) = open(&files);
    let longer = WindowSpan::at(3_600_000_000, NOW).unwrap();
    let key = CounterKey::windowed("w", &[], longer).unwrap();
    table.execute(NOW, &key, Op::Add(1), Lifetime::new(TTL)).unwrap();
    store.write(&table, NOW).unwrap();
    store.sync_meta().unwrap();
    assert_eq!(meta(&files).ends, [(0, end), (1, longer.end().0.div_ceil(1000))]);
}

/// What a newer version of the format adds.
#[derive(Serialize)]
struct Newer<T: Serialize> {
    #[serde(flatten)]
    known: T,
    /// The members of a cluster, say.
    members: Vec<(String, u64)>,
}

#[test]
fn what_a_newer_version_added_survives_an_older_one_also_into_a_new_database() {
    let files = TestFiles::default();
    let first = live(&files);
    let known = meta(&files);
    files.with_database(|store| {
        let members = || vec![("b".to_owned(), 5)];
        let meta = Newer { known, members: members() };
        store.put(META_KEY, &encode(META_KEY, &meta).0).unwrap();
        let key = replica_key(0);
        let held = store.get(&key).unwrap().unwrap();
        let replica: super::record::ReplicaRecord = decode(&key, &held).unwrap().0;
        let replica = Newer { known: replica, members: members() };
        store.put(&key, &encode(&key, &replica).0).unwrap();
        store.put(b"zebra", b"anything").unwrap();
    });
    let has_it = |files: &TestFiles, when: &str| {
        files.with_database(|store| {
            let holds = |key: &[u8]| {
                let value = store.get(key).unwrap().unwrap();
                value.windows(7).any(|part| part == b"members")
            };
            assert!(holds(META_KEY), "{when}: the checkpoint");
            let mut replicas = 0;
            store
                .scan(b"r", &mut |key, value| {
                    let record = decode::<super::record::ReplicaRecord>(key, value).unwrap().0;
                    if record.replica() == first {
                        replicas += usize::from(holds(key));
                    }
                })
                .unwrap();
            assert_eq!(replicas, 1, "{when}: the replica");
            assert_eq!(store.get(b"zebra").unwrap().unwrap(), b"anything", "{when}: the record");
        });
    };
    let (Opened { mut store, table, set_aside, .. }, _) = open(&files);
    assert!(set_aside.is_none());
    add(&table, "x");
    store.write(&table, NOW).unwrap();
    store.sync_meta().unwrap();
    has_it(&files, "after a checkpoint");
    store.rebuild(&table, NOW).unwrap();
    has_it(&files, "in a new database");
    drop(store);
    let (opened, _) = open(&files);
    assert_eq!(value(&opened.table, "x"), 2);
    has_it(&files, "after a start");
}

#[test]
fn a_later_format_is_refused_by_its_number_whatever_else_it_holds() {
    let files = TestFiles::default();
    live(&files);
    files.with_database(|store| {
        let newer = BTreeMap::from([("format", 3), ("shape", 1)]);
        store.put(META_KEY, &encode(META_KEY, &newer).0).unwrap();
    });
    let open = |files: &TestFiles| {
        let dir = DataDir::on(Box::new(files.clone()))?;
        let start = Start { nonce: 3, hash_seeds: [1, 2, 3, 4], ..Start::default() };
        StateStore::open(dir, &node(), &Bounds::default(), &CarryOver::default(), start, |_| {})
    };
    let refused = |files: &TestFiles| match open(files) {
        Err(error @ StorageError::OtherFormat { found: 3, .. }) => {
            assert!(error.to_string().contains("a later one"), "{error}");
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it opened"),
    };
    refused(&files);
    // The file beside it tells so too.
    let files = TestFiles::default();
    live(&files);
    let mut dir = files.clone();
    dir.write_identity(&Identity { format: 3, ..files.identity().unwrap() }).unwrap();
    refused(&files);
    assert_eq!(files.aside(), 0);
}

/// A day.
const AHEAD: Duration = Duration::from_secs(24 * 3600);

#[test]
fn a_mark_that_is_ahead_is_shown_and_lowered_and_says_what_opens_again() {
    let files = TestFiles::default();
    live(&files);
    let hour = WindowSpan::at(3_600_000, NOW).unwrap();
    let week = WindowSpan::at(7 * 24 * 3_600_000, NOW).unwrap();
    let windows = ["hour", "week"].into_iter().zip([hour, week]);
    let windows: Vec<CounterKey> =
        windows.map(|(name, window)| CounterKey::windowed(name, &[], window).unwrap()).collect();
    let (Opened { mut store, table, .. }, _) = open(&files);
    let former = table.own_replica();
    for key in &windows {
        table.execute(NOW, key, Op::Add(1), Lifetime::new(TTL)).unwrap();
    }
    store.write(&table, NOW).unwrap();
    let later = NOW.plus(AHEAD);
    table.execute(later, &plain("ahead"), Op::Add(1), Lifetime::new(TTL)).unwrap();
    let to_come = CounterKey::windowed("to come", &[], WindowSpan::at(60_000, later).unwrap());
    let to_come = to_come.unwrap();
    table.execute(later, &to_come, Op::Add(1), Lifetime::new(TTL)).unwrap();
    store.write(&table, later).unwrap();
    store.sync_meta().unwrap();
    drop(store);

    let look = |lowered| {
        let mut dir = DataDir::on(Box::new(files.clone())).unwrap();
        dir.clock_mark(NOW, lowered)
    };
    for lowered in [false, false, true] {
        let found = look(lowered).unwrap();
        assert_eq!(found.mark, later);
        let names = |counters: &[crate::table::CounterState]| -> Vec<String> {
            counters.iter().map(|counter| counter.key.limit().to_owned()).collect()
        };
        assert_eq!(names(&found.reopened), ["hour", "x", "y"]);
        assert_eq!(found.reopened[0].key.kind(), CounterKind::FixedWindow);
        assert_eq!(names(&found.ahead), ["to come", "ahead"]);
    }
    let (opened, _) = open(&files);
    assert_eq!(opened.clock, NOW);
    assert_eq!(opened.table.value(NOW, windows[0].as_bytes()), 1, "it is open again");
    assert_eq!(opened.table.watermark(&former), Version::ZERO, "the peers are to tell it all");
    let ahead = opened.table.counter(plain("ahead").as_bytes()).unwrap();
    assert_eq!((ahead.value, ahead.cells.len()), (1, 1), "nothing that it counted is lost");
    assert!(ahead.marks.at <= NOW.0 && ahead.expires_at >= NOW.plus(TTL), "{ahead:?}");
    assert!(opened.table.counter(to_come.as_bytes()).is_none());
    drop(opened);
    let found = look(true).unwrap();
    assert_eq!((found.mark, found.reopened.len()), (NOW, 0), "there is nothing left to lower");
}

#[test]
fn a_kill_while_the_mark_is_lowered_leaves_it_or_has_lowered_it() {
    let whole = TestFiles::default();
    live(&whole);
    let (Opened { mut store, table, .. }, _) = open(&whole);
    add(&table, "x");
    let later = NOW.plus(AHEAD);
    table.execute(later, &plain("y"), Op::Add(1), Lifetime::new(TTL)).unwrap();
    table.execute(later, &plain("ahead"), Op::Add(1), Lifetime::new(TTL)).unwrap();
    store.write(&table, later).unwrap();
    store.sync_meta().unwrap();
    drop(store);
    let lower = |files: &TestFiles| {
        let mut dir = DataDir::on(Box::new(files.clone())).unwrap();
        dir.clock_mark(NOW, true).map(drop)
    };
    let operations = {
        let files = whole.copied();
        lower(&files).unwrap();
        files.operations()
    };
    for operation in 1..=operations {
        for loses_unsynced in [false, true] {
            let files = whole.copied();
            files.kill_at(operation);
            let _ = lower(&files);
            files.crash(loses_unsynced);
            let (opened, _) = open(&files);
            assert!(opened.set_aside.is_none(), "at {operation}");
            assert!([NOW, NOW.plus(AHEAD)].contains(&opened.clock), "at {operation}");
            assert_eq!(value(&opened.table, "x"), 2, "at {operation}");
            assert_eq!(value(&opened.table, "ahead"), 1, "at {operation}");
        }
    }
}
