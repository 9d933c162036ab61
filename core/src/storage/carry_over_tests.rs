//! A directory of format 1 becomes one of the present format, whole, whatever interrupts it.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use super::files_for_tests::{OldCounter, TestFiles, format_1};
use super::*;
use crate::crdt::Cell;
use crate::id::{NodeId, ReplicaId, Version};
use crate::key::{CounterKey, CounterKind};
use crate::limit::{Limit, Window};
use crate::table::{Bounds, CounterState, Table};
use crate::time::Timestamp;

const TTL: Duration = Duration::from_secs(1_600);
/// When the node of format 1 was closed.
const CLOCK: u64 = 1_790_000_000_000;
const MINUTE: u64 = CLOCK / 60_000;

fn start() -> Start {
    Start { nonce: 3, hash_seeds: [1, 2, 3, 4], ..Start::default() }
}

fn node() -> NodeId {
    "a".parse().unwrap()
}

fn limits() -> Vec<Limit> {
    vec![
        Limit::new("calls", 9, Window::Session { ttl: TTL }).per("session"),
        Limit::new("a minute", 9, Window::Fixed(Duration::from_secs(60))).per("user").per("tool"),
    ]
}

fn text(text: &str) -> Vec<u8> {
    [&[text.len() as u8], text.as_bytes()].concat()
}

/// A key of format 1, with the window of this length that has this index.
fn key(window: Option<(u64, u64)>, limit: &str, values: &[&str]) -> Vec<u8> {
    let mut key = Vec::new();
    let mut number = |number| crate::varint::write(number, |byte| key.push(byte));
    match window {
        None => number(0),
        Some((length_ms, index)) => {
            number(length_ms);
            number(index);
        }
    }
    key.extend(text(limit));
    key.push(values.len() as u8);
    values.iter().for_each(|value| key.extend(text(value)));
    key
}

/// A counter that ends a minute after the node was closed, and holds `p` and a refund of another life's.
fn counter(key: Vec<u8>, p: u64) -> OldCounter {
    (key, 1, CLOCK + 60_000, vec![(0, 10 + p, p, 0), (1, 20 + p, 3, 1)])
}

fn counters() -> Vec<OldCounter> {
    vec![
        counter(key(None, "calls", &["s0"]), 1),
        counter(key(None, "calls", &["s1"]), 2),
        // Of another `per`, or of no limit at all.
        counter(key(None, "calls", &["s0", "t"]), 3),
        counter(key(None, "gone", &[]), 4),
        counter(key(Some((60_000, MINUTE)), "a minute", &["u", "t"]), 5),
        counter(key(Some((60_000, MINUTE)), "a minute", &["u"]), 6),
        counter(key(Some((30_000, 2 * MINUTE)), "a minute", &["u", "t"]), 7),
    ]
}

/// A closed directory of format 1: two lives of a node.
fn old(counters: &[OldCounter]) -> TestFiles {
    let identity =
        Identity { format: 1, node: "a".into(), boot: 2, database: true, ..Identity::default() };
    let replicas = [(0, "a", 1, 7), (1, "a", 2, 8), (2, "b", 5, 9)];
    let store = format_1(&replicas, counters, &[(0, 40), (1, 50), (2, 60)], CLOCK);
    TestFiles::with(identity, Note(3).bytes(), store)
}

fn open(files: &TestFiles, told: &mut Vec<CarriedOver>) -> Result<Opened, StorageError> {
    let limits = limits();
    let rules = CarryOver { limits: &limits, counters_ttl: TTL };
    let dir = DataDir::on(Box::new(files.clone()))?;
    StateStore::open(dir, &node(), &Bounds::default(), &rules, start(), |event| {
        if let OpenEvent::CarriedOver(carried) = event {
            told.push(carried);
        }
    })
}

fn all(table: &Table) -> Vec<CounterState> {
    let (mut found, mut next) = (Vec::new(), None);
    loop {
        let (page, after) = table.page(next);
        found.extend(page);
        next = after;
        if next.is_none() {
            break;
        }
    }
    found.sort_by(|a, b| a.key.cmp(&b.key));
    found
}

/// What must be found, whatever happened meanwhile.
fn check(opened: &Opened) {
    let counters = all(&opened.table);
    assert_eq!(opened.set_aside.as_ref().map(|(_, damage)| alloc::format!("{damage}")), None);
    assert_eq!(counters.len(), 7);
    let minute = Timestamp(MINUTE * 60_000);
    let limits = limits();
    let plain = |name: &str, values: &[&str]| CounterKey::new(name, values).unwrap();
    let window = |length_ms| crate::key::WindowSpan::at(length_ms, minute).unwrap();
    let of_limit =
        |limit: usize, values: &[&str], window| limits[limit].key_for(values, window).unwrap();
    let windowed = |length_ms, values: &[&str]| {
        CounterKey::windowed("a minute", values, window(length_ms)).unwrap()
    };
    for (key, p) in [
        (of_limit(0, &["s0"], None), 1),
        (of_limit(0, &["s1"], None), 2),
        (plain("calls", &["s0", "t"]), 3),
        (plain("gone", &[]), 4),
        (of_limit(1, &["u", "t"], Some(window(60_000))), 5),
        (windowed(60_000, &["u"]), 6),
        (windowed(30_000, &["u", "t"]), 7),
    ] {
        let found = counters.iter().find(|counter| counter.key == key);
        let found = found.unwrap_or_else(|| panic!("{key} is not among {counters:?}"));
        assert_eq!((found.value, found.generation), (p + 2, 1), "{key}");
        let cells: Vec<(u64, Cell)> =
            found.cells.iter().map(|(of, cell)| (of.incarnation.boot, *cell)).collect();
        let cell = |version, p, n| Cell { version: Version(version), p, n };
        assert_eq!(cells, [(1, cell(10 + p, p, 0)), (2, cell(20 + p, 3, 1))], "{key}");
        if key.kind() != CounterKind::FixedWindow {
            let step = TTL / 16;
            let ends = Timestamp(CLOCK + 60_000);
            assert!(found.expires_at.plus(step) >= ends, "{key}: {}", found.expires_at);
            assert!(found.expires_at <= ends.plus(step), "{key}: {}", found.expires_at);
            assert!(found.marks.at <= CLOCK, "{key} was not used in the future");
        }
    }
    assert_eq!(opened.clock, Timestamp(CLOCK));
    let watermark = |replica: &str| {
        let replica: ReplicaId = replica.parse().unwrap();
        opened.table.watermark(&replica)
    };
    assert_eq!(watermark("a#1.0000000000000007"), Version(40));
    assert_eq!(watermark("b#5.0000000000000009"), Version(60));
    assert!(opened.table.own_replica().incarnation.boot >= 3);
}

#[test]
fn each_counter_goes_to_the_limit_of_its_name_if_it_fits_and_else_belongs_to_none() {
    let files = old(&counters());
    let mut told = Vec::new();
    let opened = open(&files, &mut told).unwrap();
    check(&opened);
    assert_eq!(told, [CarriedOver { of_limits: 3, of_no_limit: 4, left_out: 0 }]);
    drop(opened);
    assert_eq!(files.identity().unwrap().format, FORMAT);
    // The next start finds nothing left to do.
    let mut told = Vec::new();
    check(&open(&files, &mut told).unwrap());
    assert_eq!((told.len(), files.aside()), (0, 0));
}

#[test]
fn a_cell_of_a_limit_takes_back_no_more_than_it_charged() {
    let below_zero = |key, version: u64| -> OldCounter {
        let cells = vec![(0, 10 + version, 5, 0), (1, 20 + version, 1, 4)];
        (key, 1, CLOCK + 60_000, cells)
    };
    let of_limit = below_zero(key(None, "calls", &["s0"]), 1);
    let plain = below_zero(key(None, "gone", &[]), 2);
    let opened = open(&old(&[of_limit, plain]), &mut Vec::new()).unwrap();
    let value = |key: &CounterKey| opened.table.counter(key.as_bytes()).unwrap().value;
    assert_eq!(value(&limits()[0].key_for(&["s0"], None).unwrap()), 5);
    assert_eq!(value(&CounterKey::new("gone", &[]).unwrap()), 2);
}

#[test]
fn a_kill_at_each_step_leaves_one_format_or_the_other_whole() {
    let whole = old(&counters());
    let all_operations = {
        let files = whole.copied();
        drop(open(&files, &mut Vec::new()).unwrap());
        files.operations()
    };
    assert!(all_operations > 20);
    let (mut formats, mut refused) = (Vec::new(), 0);
    for operation in 1..=all_operations {
        for loses_unsynced in [false, true] {
            let files = whole.copied();
            files.kill_at(operation);
            refused += u32::from(open(&files, &mut Vec::new()).is_err());
            files.crash(loses_unsynced);
            // Which format it is, is told by the database.
            let is_old = files.with_database(|store| {
                let meta = store.get(b"m").unwrap().unwrap();
                meta[4] != 0x80 | 7
            });
            formats.push(is_old);
            // A version that reads format 1 only must never open a database of the present one.
            assert!(is_old || files.identity().unwrap().format == FORMAT, "at {operation}");
            check(&open(&files, &mut Vec::new()).unwrap());
            assert_eq!(files.aside(), 0, "at {operation}");
            check(&open(&files, &mut Vec::new()).unwrap());
        }
    }
    assert!(formats.contains(&true) && formats.contains(&false), "both are met");
    assert_eq!(refused as usize, 2 * all_operations, "each kill was noticed");
}

#[test]
fn a_damaged_database_of_format_1_is_set_aside_as_ever() {
    for harm in 0..4 {
        let files = old(&counters());
        files.with_database(|store| {
            let counter = [b"c", &key(None, "gone", &[])[..]].concat();
            match harm {
                0 => store.remove(&counter).unwrap(),
                1 => store.remove(b"r\x00\x00\x00\x01").unwrap(),
                2 => store.remove(b"m").unwrap(),
                _ => {
                    let mut value = store.get(&counter).unwrap().unwrap();
                    *value.last_mut().unwrap() ^= 1;
                    store.put(&counter, &value).unwrap();
                }
            }
        });
        let opened = open(&files, &mut Vec::new()).unwrap();
        assert!(opened.set_aside.is_some() && opened.table.is_empty(), "harm {harm}");
        assert_eq!(files.identity().unwrap().format, FORMAT);
    }
    // A database that lost its end.
    let files = old(&counters());
    let mut dir = files.clone();
    dir.write_note(&Note(4).bytes()).unwrap();
    assert!(open(&files, &mut Vec::new()).unwrap().set_aside.is_some());
}

#[test]
fn another_node_s_directory_is_refused_and_left_alone() {
    let files = old(&counters());
    let mut dir = files.clone();
    dir.write_identity(&Identity { node: "b".to_owned(), ..files.identity().unwrap() }).unwrap();
    let dir = DataDir::on(Box::new(files.clone())).unwrap();
    let rules = CarryOver::default();
    let error =
        StateStore::open(dir, &"b".parse().unwrap(), &Bounds::default(), &rules, start(), |_| {});
    assert!(matches!(error, Err(StorageError::OtherNode { .. })));
    assert_eq!(files.identity().unwrap().format, 1);
}

#[test]
fn a_key_that_no_version_should_have_written_costs_that_counter_only() {
    let names: Vec<alloc::string::String> = (0..33).map(|n| alloc::format!("v{n}")).collect();
    let values: Vec<&str> = names.iter().map(|name| &**name).collect();
    let mut with_bad = counters();
    with_bad.push(counter(key(None, "calls", &values), 8));
    let files = old(&with_bad);
    let mut told = Vec::new();
    let opened = open(&files, &mut told).unwrap();
    assert_eq!(told, [CarriedOver { of_limits: 3, of_no_limit: 4, left_out: 1 }]);
    assert_eq!(all(&opened.table).len(), 7);
    // What it held of these replicas is to be told by the peers.
    let watermark = |replica: &str| opened.table.watermark(&replica.parse().unwrap());
    assert_eq!(watermark("a#1.0000000000000007"), Version::ZERO);
    assert_eq!(watermark("b#5.0000000000000009"), Version(60));
}
