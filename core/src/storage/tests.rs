//! Every backend under one suite, and what recovery makes of crashes and damage.

use alloc::{format, string::ToString, vec};
use std::sync::{Arc, Mutex, MutexGuard};

use proptest::prelude::*;

use super::conformance::conforms;
use super::record::{META_KEY, Meta, counter_key};
use super::recover::{RecoverError, recover};
use super::*;
use crate::id::{Incarnation, NodeId, ReplicaId};
use crate::key::CounterKey;
use crate::limit::Lifetime;
use crate::table::{Bounds, Op, Restore, Table};
use crate::time::Timestamp;

/// How many checkpoints a life has in these tests.
const ROUNDS: u64 = 6;
const TTL_MS: u64 = 9_000_000;

fn node() -> NodeId {
    "a".parse().unwrap()
}

fn table(boot: u64) -> Table {
    let own = ReplicaId { node: node(), incarnation: Incarnation { boot, nonce: 7 } };
    Table::new(own, Bounds::default(), [1, 2, 3, 4])
}

fn ttl(ms: u64) -> Lifetime {
    Lifetime::new(core::time::Duration::from_millis(ms))
}

fn add(table: &Table, name: &str, amount: u64) {
    let key = CounterKey::new(name, &[]).unwrap();
    table.execute(Timestamp(0), &key, Op::Add(amount), ttl(TTL_MS)).unwrap();
}

fn value(table: &Table, name: &str) -> u64 {
    table.value(Timestamp(0), CounterKey::new(name, &[]).unwrap().as_bytes())
}

fn sweep(table: &Table, now: u64) {
    let mut next = table.sweep(Timestamp(now), None);
    while next.is_some() {
        next = table.sweep(Timestamp(now), next);
    }
}

/// What a new life finds.
fn recovered(storage: &dyn KvStore) -> Result<(Table, Option<Recovered>), RecoverError> {
    recovered_as(2, storage)
}

fn recovered_as(
    boot: u64,
    storage: &dyn KvStore,
) -> Result<(Table, Option<Recovered>), RecoverError> {
    let table = table(boot);
    let mut restore = Restore::into(&table);
    let found = recover(storage, |counter| restore.add(&counter))?;
    if let Some(found) = &found {
        restore.finish(found.marks());
    }
    Ok((table, found))
}

fn writer(shared: &Shared, found: Option<&Recovered>) -> CheckpointWriter {
    let meta = found.map_or_else(|| Meta::first(node(), 0), |found| found.meta.clone());
    CheckpointWriter::on(Box::new(shared.clone()), meta, found).unwrap()
}

#[test]
fn memory_conforms() {
    let shared = Shared::default();
    let storage = conforms(|| Box::new(shared.clone()));
    assert!(!storage.is_wasteful(0).unwrap(), "so small a storage is not worth a copy");
}

/// Memory that several handles share, and that can be told to lose writes as a crash would, or to fail.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Platter>>);

#[derive(Default)]
struct Platter {
    kept: MemoryStore,
    /// After so many writes, the rest are lost.
    writes_left: Option<usize>,
    fails: bool,
}

impl Shared {
    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap()
    }
}

impl Platter {
    fn takes_write(&mut self) -> bool {
        match &mut self.writes_left {
            None => true,
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
        }
    }
}

impl KvStore for Shared {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        let mut disk = self.platter();
        if disk.takes_write() { disk.kept.put(key, value) } else { Ok(None) }
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.platter().kept.get(key)
    }

    fn remove(&mut self, key: &[u8]) -> Result<(), StorageError> {
        let mut disk = self.platter();
        if disk.takes_write() { disk.kept.remove(key) } else { Ok(()) }
    }

    fn scan(&self, prefix: &[u8], visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), StorageError> {
        self.platter().kept.scan(prefix, visit)
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        match self.platter().fails {
            true => Err(StorageError::Corrupt { what: "no".into(), source: None }),
            false => Ok(()),
        }
    }

    fn is_wasteful(&self, live_bytes: u64) -> Result<bool, StorageError> {
        self.platter().kept.is_wasteful(live_bytes)
    }
}

/// A life of a node: counts over several checkpoints, with new, changed and expired counters among them. Gives what was
/// counted in `x` as of each completed checkpoint.
fn live(shared: &Shared, table: &Table, found: Option<&Recovered>) -> Vec<u64> {
    let mut writer = writer(shared, found);
    let mut written = vec![value(table, "x")];
    for round in 0..ROUNDS {
        add(table, "x", 1);
        add(table, &format!("y{round}"), 1);
        let brief = CounterKey::new(&format!("brief{round}"), &[]).unwrap();
        table.execute(Timestamp(round), &brief, Op::Add(1), ttl(1)).unwrap();
        if round == 2 {
            sweep(table, 2 + 60_000);
        }
        writer.write(table, Timestamp(round)).unwrap();
        written.push(value(table, "x"));
        writer.sync_meta().unwrap();
    }
    written
}

#[test]
fn what_a_checkpoint_wrote_is_found_again() {
    let (shared, first) = (Shared::default(), table(1));
    assert!(recovered(&shared).unwrap().1.is_none(), "a new storage is empty, not damaged");
    live(&shared, &first, None);
    let (second, found) = recovered(&shared).unwrap();
    let found = found.unwrap();
    assert_eq!(value(&second, "x"), ROUNDS);
    assert_eq!(second.state_checksum(Timestamp(0)), first.state_checksum(Timestamp(0)));
    assert_eq!(
        found.marks().map(|mark| (mark.replica, mark.watermark)).collect::<Vec<_>>(),
        [(first.own_replica(), first.watermark(&first.own_replica()))]
    );
    assert_eq!(found.meta.clock, Timestamp(ROUNDS - 1));
}

#[test]
fn a_crash_at_any_write_leaves_the_last_checkpoint_or_a_newer_state() {
    let all_writes = {
        let shared = Shared::default();
        shared.platter().writes_left = Some(usize::MAX);
        live(&shared, &table(1), None);
        usize::MAX - shared.platter().writes_left.unwrap()
    };
    assert!(all_writes > 20);
    for crash_at in 1..=all_writes {
        let shared = Shared::default();
        shared.platter().writes_left = Some(crash_at);
        live(&shared, &table(1), None);
        shared.platter().writes_left = None;
        let (second, found) = match recovered(&shared) {
            Ok(recovered) => recovered,
            Err(error) => panic!("a crash at write {crash_at} is taken for damage: {error}"),
        };
        assert!(value(&second, "x") <= ROUNDS);
        // The next life goes on from there, and crashes nowhere.
        live(&shared, &second, found.as_ref());
        let (third, _) = recovered_as(3, &shared).unwrap();
        assert_eq!(value(&third, "x"), value(&second, "x"));
        assert_eq!(
            third.state_checksum(Timestamp(0)),
            second.state_checksum(Timestamp(0)),
            "at {crash_at}"
        );
    }
}

#[test]
fn what_was_counted_by_a_clock_that_jumped_is_not_there_without_the_jump() {
    const DAY_MS: u64 = 86_400_000;
    let mut kept = 0;
    for writes in 0..12 {
        let (shared, table) = (Shared::default(), table(1));
        let mut before = writer(&shared, None);
        add(&table, "before", 1);
        before.write(&table, Timestamp(1_000)).unwrap();
        add(&table, "after", 1);
        shared.platter().writes_left = Some(writes);
        before.write(&table, Timestamp(DAY_MS)).unwrap();
        shared.platter().writes_left = None;
        let (table, found) = recovered(&shared).unwrap();
        let clock = found.unwrap().clock();
        assert!(value(&table, "after") == 0 || clock == Timestamp(DAY_MS), "{writes} writes");
        kept += value(&table, "after");
    }
    assert!((1..12).contains(&kept), "{kept} of 12 kept it");
}

#[test]
fn expired_counters_leave_the_storage() {
    let (shared, table) = (Shared::default(), table(1));
    let mut writer = writer(&shared, None);
    for n in 0..50 {
        let key = CounterKey::new(&n.to_string(), &[]).unwrap();
        table.execute(Timestamp(0), &key, Op::Add(1), ttl(1_000)).unwrap();
    }
    writer.write(&table, Timestamp(0)).unwrap();
    sweep(&table, 70_000);
    for now in [70_000, 80_000, 90_000] {
        writer.write(&table, Timestamp(now)).unwrap();
    }
    let mut counters = 0;
    shared.scan(b"c", &mut |_, _| counters += 1).unwrap();
    assert_eq!(counters, 0);
    assert!(recovered(&shared).is_ok());
}

#[test]
fn a_counter_that_comes_back_between_two_checkpoints_stays() {
    let (shared, table) = (Shared::default(), table(1));
    let mut writer = writer(&shared, None);
    let key = CounterKey::new("x", &[]).unwrap();
    table.execute(Timestamp(0), &key, Op::Add(1), ttl(1_000)).unwrap();
    writer.write(&table, Timestamp(0)).unwrap();
    sweep(&table, 70_000);
    add(&table, "x", 2);
    writer.write(&table, Timestamp(70_000)).unwrap();
    add(&table, "y", 1);
    writer.write(&table, Timestamp(70_001)).unwrap();
    let (second, _) = recovered(&shared).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(value(&second, "x"), 2);
}

#[test]
fn a_failed_sync_is_an_error() {
    let (shared, table) = (Shared::default(), table(1));
    let mut writer = writer(&shared, None);
    add(&table, "x", 1);
    shared.platter().fails = true;
    assert!(writer.write(&table, Timestamp(0)).is_err());
}

#[test]
fn a_missing_counter_an_old_one_and_a_flipped_bit_are_damage() {
    let damage = |harm: &dyn Fn(&mut MemoryStore)| {
        let shared = Shared::default();
        live(&shared, &table(1), None);
        harm(&mut shared.platter().kept);
        match recovered(&shared) {
            Err(RecoverError::Damage(damage)) => damage.to_string(),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("it went unnoticed"),
        }
    };
    let x = counter_key(CounterKey::new("x", &[]).unwrap().as_bytes());
    let missing = damage(&|storage| storage.remove(&x).unwrap());
    assert!(missing.contains("counted 11 records of counters and 10"), "{missing}");
    let flipped = damage(&|storage| {
        let mut bytes = storage.get(&x).unwrap().unwrap();
        bytes[6] ^= 1;
        storage.put(&x, &bytes).unwrap();
    });
    assert!(flipped.contains("1 of"), "{flipped}");
    let y = counter_key(CounterKey::new("y1", &[]).unwrap().as_bytes());
    let elsewhere = damage(&|storage| {
        let bytes = storage.get(&x).unwrap().unwrap();
        storage.put(&y, &bytes).unwrap();
    });
    assert!(elsewhere.contains("1 of"), "{elsewhere}");
    let no_meta = damage(&|storage| storage.remove(META_KEY).unwrap());
    assert!(no_meta.contains("missing"), "{no_meta}");
    let old = {
        let shared = Shared::default();
        let table = table(1);
        let mut writer = writer(&shared, None);
        add(&table, "x", 1);
        writer.write(&table, Timestamp(0)).unwrap();
        shared.get(&x).unwrap().unwrap()
    };
    damage(&|storage| {
        storage.put(&x, &old).unwrap();
    });
}

#[test]
fn another_format_is_refused_by_its_number() {
    let shared = Shared::default();
    live(&shared, &table(1), None);
    let (_, found) = recovered(&shared).unwrap();
    let meta = record::Meta { format: 7, ..found.unwrap().meta };
    let (bytes, _) = record::encode(META_KEY, &meta);
    shared.platter().kept.put(META_KEY, &bytes).unwrap();
    let error = recovered(&shared).err().unwrap().to_string();
    assert!(error.contains("format 7"), "{error}");
}

proptest! {
    #[test]
    fn arbitrary_records_are_damage_or_nothing_and_never_panic(
        entries in prop::collection::vec((prop::collection::vec(any::<u8>(), 1..30), prop::collection::vec(any::<u8>(), 0..60)), 0..8),
    ) {
        let mut storage = MemoryStore::default();
        for (key, value) in &entries {
            storage.put(key, value).unwrap();
            let (encoded, _) = record::encode(key, value);
            storage.put(&counter_key(key), &encoded).unwrap();
        }
        let _ = recovered(&storage);
    }
}

#[test]
fn a_boot_that_a_peer_made_up_is_not_heeded_and_one_of_ones_own_is() {
    let shared = Shared::default();
    let before = table(100);
    let key = CounterKey::new("x", &[]).unwrap().as_bytes().to_vec();
    let marks = crate::crdt::Marks { at: 0, p0: TTL_MS, n0: 0 };
    for (version, boot) in [(1, 90), (1, u64::MAX), (1, 1 << 63)] {
        let of = ReplicaId { node: node(), incarnation: Incarnation { boot, nonce: 9 } };
        let version = crate::id::Version(version);
        let update =
            crate::crdt::Update { key: key.clone(), version, generation: 0, p: 1, n: 0, marks };
        assert_eq!(before.apply(Timestamp(0), &of, &[update]).new.len(), 1);
    }
    writer(&shared, None).write(&before, Timestamp(0)).unwrap();
    assert_eq!(super::recover::boots_of(&shared, &node(), 1_000), 90);
    assert_eq!(super::recover::boots_of(&shared, &node(), u64::MAX), u64::MAX);
}
