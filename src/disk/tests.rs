//! The file system and sled under core's storage: the suite for backends, starts on real directories, and rewrites.

use std::path::Path;

use tallymesh_core::id::{Incarnation, NodeId, ReplicaId};
use tallymesh_core::key::CounterKey;
use tallymesh_core::limit::Lifetime;
use tallymesh_core::storage::{
    CarryOver, CheckpointWriter, Files, KvStore, Meta, OpenEvent, Opened, Start, StateStore,
    StorageError, conforms, recover,
};
use tallymesh_core::table::{Bounds, Op, Restore, Table};
use tallymesh_core::time::Timestamp;

use super::*;
use std::time::Duration;

const TTL: Duration = Duration::from_secs(9_000);
/// With a clock that shows nothing, boot numbers only count.
const BEGINNING: Start = Start { clock: Timestamp(0), nonce: 7, hash_seeds: [1, 2, 3, 4] };

fn node() -> NodeId {
    "a".parse().unwrap()
}

fn table(boot: u64) -> Table {
    let own = ReplicaId { node: node(), incarnation: Incarnation { boot, nonce: 7 } };
    Table::new(own, Bounds::default(), [1, 2, 3, 4])
}

fn add(table: &Table, name: &str, amount: u64) {
    let key = CounterKey::new(name, &[]).unwrap();
    table.execute(Timestamp(0), &key, Op::Add(amount), Lifetime::new(TTL)).unwrap();
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

/// How many counters the next start finds.
fn recovered(store: &dyn KvStore) -> usize {
    let table = table(2);
    let mut restore = Restore::into(&table);
    let found = recover(store, |counter| restore.add(&counter)).unwrap().unwrap();
    restore.finish(found.marks());
    table.len()
}

#[test]
fn a_rewrite_gives_disk_back_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = FileSystem::open(dir.path()).unwrap();
    let mut writer =
        CheckpointWriter::on(files.open_database().unwrap(), Meta::first(node(), 0), None).unwrap();
    let table = table(1);
    for n in 0..10_000 {
        let key =
            CounterKey::new(&n.to_string(), &["a value of some length, to fill the disk"]).unwrap();
        let ttl = if n < 100 { TTL } else { Duration::from_secs(1) };
        table.execute(Timestamp(0), &key, Op::Add(1), Lifetime::new(ttl)).unwrap();
    }
    writer.write(&table, Timestamp(0)).unwrap();
    sweep(&table, 70_000);
    for now in [70_000, 80_000, 90_000] {
        writer.write(&table, Timestamp(now)).unwrap();
    }
    let bytes = || std::fs::metadata(dir.path().join("db/db")).unwrap().len();
    let before = bytes();
    let mut writer = writer.moved(&mut files).unwrap();
    assert!(bytes() * 2 < before, "{before} to {} bytes", bytes());
    // It goes on in the new place, and is found there.
    add(&table, "new", 1);
    writer.write(&table, Timestamp(90_000)).unwrap();
    writer.sync_meta().unwrap();
    drop(writer);
    assert_eq!(recovered(&*files.open_database().unwrap()), 101);
    let left = [dir.path().join("db.new"), dir.path().join("db.old")];
    assert!(left.iter().all(|path| !path.exists()), "nothing else is left");
}

#[test]
fn a_crash_in_a_rewrite_leaves_the_old_or_the_new() {
    let dir = tempfile::tempdir().unwrap();
    let (path, old, new) =
        (dir.path().join("db"), dir.path().join("db.old"), dir.path().join("db.new"));
    let mut files = FileSystem::open(dir.path()).unwrap();
    let mut storage = files.open_database().unwrap();
    storage.put(b"a", b"1").unwrap();
    storage.sync().unwrap();
    drop(storage);
    let mut has_it = || files.open_database().unwrap().get(b"a").unwrap().is_some();
    // While the copy was being written.
    std::fs::create_dir(&new).unwrap();
    assert!(has_it() && !new.exists());
    // Between the two renames.
    std::fs::rename(&path, &old).unwrap();
    std::fs::create_dir(&new).unwrap();
    assert!(has_it() && !old.exists() && !new.exists());
    // Before the old one was removed.
    std::fs::create_dir(&old).unwrap();
    assert!(has_it() && !old.exists());
}

#[test]
fn sled_conforms() {
    let dir = tempfile::tempdir().unwrap();
    let storage = conforms(|| Box::new(SledStore::open(&dir.path().join("db")).unwrap()));
    assert!(!storage.is_wasteful(0).unwrap(), "so small a storage is not worth a copy");
}

/// One life on a directory, which counts 1: what was set aside, the boot number, and what it found.
fn start(path: &Path, name: &str) -> Result<(Option<String>, u64, u64), StorageError> {
    let name: NodeId = name.parse().unwrap();
    let opened = StateStore::open(
        super::open(path)?,
        &name,
        &Bounds::default(),
        &CarryOver::default(),
        BEGINNING,
        |_| {},
    )?;
    let Opened { mut store, table, set_aside, .. } = opened;
    let (boot, before) = (table.own_replica().incarnation.boot, value(&table, "x"));
    add(&table, "x", 1);
    store.write(&table, Timestamp(0))?;
    store.sync_meta()?;
    Ok((set_aside.map(|(name, _)| name), boot, before))
}

#[test]
fn a_lost_identity_is_made_up_for_by_the_database() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        start(dir.path(), "a").unwrap();
    }
    std::fs::write(dir.path().join("identity.toml"), b"").unwrap();
    let error = start(dir.path(), "a").unwrap_err().to_string();
    assert!(error.contains("delete that file"), "{error}");
    std::fs::remove_file(dir.path().join("identity.toml")).unwrap();
    assert!(start(dir.path(), "b").unwrap_err().to_string().contains("\"a\""));
    std::fs::remove_file(dir.path().join("identity.toml")).unwrap();
    assert_eq!(start(dir.path(), "a").unwrap(), (None, 4, 3));
}

#[test]
fn after_a_failure_everything_is_written_into_a_new_database() {
    let dir = tempfile::tempdir().unwrap();
    let node = node();
    let data_dir = super::open(dir.path()).unwrap();
    let opened = StateStore::open(
        data_dir,
        &node,
        &Bounds::default(),
        &CarryOver::default(),
        BEGINNING,
        |_| {},
    )
    .unwrap();
    let Opened { mut store, table, .. } = opened;
    add(&table, "x", 1);
    store.write(&table, Timestamp(0)).unwrap();
    add(&table, "x", 2);
    add(&table, "y", 1);
    store.rebuild(&table, Timestamp(5)).unwrap();
    add(&table, "y", 1);
    store.write(&table, Timestamp(6)).unwrap();
    store.sync_meta().unwrap();
    drop(store);
    let contents = crate::inspect(dir.path()).unwrap();
    let values: Vec<u64> = contents.counters.iter().map(|counter| counter.value).collect();
    assert_eq!(values, [3, 2]);
    assert_eq!(start(dir.path(), "a").unwrap(), (None, 2, 3));
}

#[test]
fn every_start_takes_the_next_boot_number_and_finds_the_counts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/down");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    for boot in 1..4 {
        assert_eq!(start(&path, "a").unwrap(), (None, boot, boot - 1));
    }
    let contents = crate::inspect(&path).unwrap();
    assert_eq!((contents.node.as_str(), contents.boot), ("a", 3));
    assert_eq!((contents.counters[0].value, contents.counters[0].cells.len()), (3, 3));
    assert_eq!(contents.replicas.len(), 3);
}

#[test]
fn a_directory_is_one_process_s_and_one_node_s() {
    let dir = tempfile::tempdir().unwrap();
    start(dir.path(), "a").unwrap();
    let error = start(dir.path(), "b").unwrap_err().to_string();
    assert!(error.contains("\"a\"") && error.contains("\"b\""), "{error}");
    let held = super::open(dir.path()).unwrap();
    let error = start(dir.path(), "a").unwrap_err().to_string();
    let told = "open in this process already: close it first, or attach";
    assert!(error.contains(told), "{error}");
    drop(held);
    start(dir.path(), "a").unwrap();
}

#[test]
fn a_lost_or_damaged_database_is_set_aside_and_never_taken_for_a_new_one() {
    for (number, harm) in [
        (|path: &Path| std::fs::remove_dir_all(path.join("db")).unwrap()) as fn(&Path),
        |path| std::fs::remove_file(path.join("db/db")).unwrap(),
        |path| std::fs::write(path.join("db/db"), b"").unwrap(),
        |path| std::fs::write(path.join("db/db"), [0x5a; 100_000]).unwrap(),
        |path| {
            let file = std::fs::OpenOptions::new().write(true).open(path.join("db/db")).unwrap();
            file.set_len(250).unwrap();
        },
    ]
    .into_iter()
    .enumerate()
    {
        let dir = tempfile::tempdir().unwrap();
        start(dir.path(), "a").unwrap();
        start(dir.path(), "a").unwrap();
        harm(dir.path());
        let (set_aside, boot, before) = start(dir.path(), "a").unwrap();
        assert!(set_aside.is_some(), "harm number {number}: {boot} {before}");
        assert_eq!((boot, before), (3, 0));
        assert_eq!(start(dir.path(), "a").unwrap(), (None, 4, 1), "and goes on from there");
    }
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let foreign = ::sled::open(dir.path().join("db")).unwrap();
    foreign.insert("another", "program's").unwrap();
    foreign.flush().unwrap();
    drop(foreign);
    let error = start(dir.path(), "a").unwrap_err().to_string();
    assert!(error.contains("not tallymesh's"), "{error}");
    std::fs::write(
        dir.path().join("identity.toml"),
        "format = 9\nnode = \"a\"\nboot = 1\ndatabase = true",
    )
    .unwrap();
    let error = start(dir.path(), "a").unwrap_err().to_string();
    assert!(error.contains("format 9") && error.contains("a later one"), "{error}");
    let identity = "format = 0\nnode = \"a\"\nboot = 1\ndatabase = true";
    std::fs::write(dir.path().join("identity.toml"), identity).unwrap();
    let error = start(dir.path(), "a").unwrap_err().to_string();
    assert!(error.contains("format 0, which no version writes"), "{error}");
    let nothing = tempfile::tempdir().unwrap();
    assert!(crate::inspect(nothing.path()).is_err());
    assert_eq!(
        std::fs::read_dir(nothing.path()).unwrap().count(),
        0,
        "inspection leaves nothing behind"
    );
}

#[test]
fn an_identity_is_written_to_the_byte_as_it_always_was() {
    let fixture = include_bytes!("../../tests/fixtures/format-2/lives/identity.toml");
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("identity.toml"), fixture).unwrap();
    let mut files = FileSystem::open(dir.path()).unwrap();
    let identity = files.read_identity().unwrap().unwrap();
    std::fs::remove_file(dir.path().join("identity.toml")).unwrap();
    files.write_identity(&identity).unwrap();
    assert_eq!(std::fs::read(dir.path().join("identity.toml")).unwrap(), fixture);
}

#[test]
fn damage_is_told_before_the_database_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    start(dir.path(), "a").unwrap();
    std::fs::write(dir.path().join("db/db"), [0x5a; 100_000]).unwrap();
    let data_dir = super::open(dir.path()).unwrap();
    let mut told = Vec::new();
    let opened = StateStore::open(
        data_dir,
        &node(),
        &Bounds::default(),
        &CarryOver::default(),
        BEGINNING,
        |event| {
            if let OpenEvent::SettingAside { place, damage } = event {
                let is_still_there = Path::new(place).join("db/db").exists();
                told.push((is_still_there, damage.to_string()));
            }
        },
    );
    let (name, _) = opened.unwrap().set_aside.unwrap();
    let [(is_still_there, damage)] = &told[..] else { panic!("told {} times", told.len()) };
    assert!(*is_still_there && !damage.is_empty());
    assert!(dir.path().join(name).exists());
}

#[test]
fn a_database_that_is_still_locked_is_busy_and_not_set_aside() {
    // A small one is opened at once, and a large one copied first.
    for values in [1, 3_000] {
        let dir = tempfile::tempdir().unwrap();
        start(dir.path(), "a").unwrap();
        let db = ::sled::open(dir.path().join("db")).unwrap();
        (0..values).for_each(|n: u32| _ = db.insert(n.to_be_bytes(), vec![7; 400]).unwrap());
        db.flush().unwrap();
        drop(db);
        // What else may hold it: a thread of sled's that has not ended yet, or another program.
        let file = std::fs::File::open(dir.path().join("db/db")).unwrap();
        while file.try_lock().is_err() {
            std::thread::yield_now();
        }
        let error = start(dir.path(), "a").unwrap_err();
        assert!(matches!(error, StorageError::Busy { .. }) && !error.is_corrupt(), "{error}");
        assert!(error.to_string().contains("try again"), "{error}");
        drop(file);
        let (set_aside, _, before) = start(dir.path(), "a").unwrap();
        assert_eq!((set_aside, before), (None, 1));
    }
}

#[test]
fn fields_that_a_newer_version_added_to_the_identity_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    start(dir.path(), "a").unwrap();
    let path = dir.path().join("identity.toml");
    let read = || std::fs::read_to_string(&path).unwrap();
    let newer = "cluster = \"default\"\n[advertise]\naddress = \"10.0.0.7:7946\"\nports = [1, 2]\n";
    std::fs::write(&path, read() + newer).unwrap();
    assert_eq!(start(dir.path(), "a").unwrap(), (None, 2, 1));
    let kept: toml::Table = read().parse().unwrap();
    let expected: toml::Table = newer.parse().unwrap();
    for (field, value) in &expected {
        assert_eq!(kept.get(field), Some(value), "{}", read());
    }
    assert_eq!(kept["boot"].as_integer(), Some(2));
}

#[test]
fn a_later_identity_is_refused_by_its_number_whatever_else_it_holds() {
    let dir = tempfile::tempdir().unwrap();
    start(dir.path(), "a").unwrap();
    let path = dir.path().join("identity.toml");
    std::fs::write(&path, "format = 3\nname = \"a\"\n").unwrap();
    let error = start(dir.path(), "a").unwrap_err();
    assert!(matches!(error, StorageError::OtherFormat { found: 3, .. }), "{error}");
}

#[test]
fn copies_of_rejected_records_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = FileSystem::open(dir.path()).unwrap();
    for number in 0..300 {
        let kept = files.keep_rejected(&format!("record {number}"), "text").unwrap();
        assert_eq!(kept.is_some(), number < 256, "{number}");
    }
    let again = files.keep_rejected("record 7", "other").unwrap().unwrap();
    assert_eq!(std::fs::read_to_string(again).unwrap(), "text");
    assert_eq!(std::fs::read_dir(dir.path().join("rejected")).unwrap().count(), 256);
    assert_eq!(files.kept_aside().unwrap(), [(dir.path().join("rejected"), 256 * 4)]);
}
