//! Checking a directory says what its node will do, whatever harm was done to it, and leaves it as it is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use tallymesh::{Config, Consequence, CounterKey, CounterStore, OpenError, StorageError};
use tallymesh_test_support::harm::Harm;

/// How many harms are drawn; `TALLYMESH_CHECK_HARMS` draws more.
const HARMS: u64 = 60;

async fn open(dir: &Path) -> Result<CounterStore, OpenError> {
    let config = Config::builder("a").data_dir(dir).persist_every(Duration::from_millis(1));
    CounterStore::open(config.build().unwrap()).await
}

/// One life with these amounts, over so many checkpoints that the database has a past.
async fn live(dir: &Path, amount: u64) {
    let store = open(dir).await.unwrap();
    for session in 0..300_u64 {
        store
            .add(&CounterKey::new("calls", &[&format!("s{session}")]).unwrap(), amount + session)
            .unwrap();
        if session % 50 == 0 {
            store.flush().await.unwrap();
        }
    }
    store.close().await.unwrap();
}

#[tokio::test]
async fn what_is_sound_is_said_to_be_and_held_directories_are_refused() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("a");
    live(&dir, 1).await;
    let before = files(&dir);
    let report = tallymesh::check(&dir).unwrap();
    assert_eq!(report.damage, []);
    assert_eq!(before, files(&dir));
    assert_eq!(report.contents, tallymesh::inspect(&dir).unwrap());
    assert_eq!((report.contents.counters.len(), report.contents.boot > 1), (300, true));
    // The counters, the replica and what is kept of it, the checkpoint's own.
    assert_eq!((report.records, report.tombstones), (303, 0));

    std::fs::create_dir(dir.join("db.damaged-7")).unwrap();
    std::fs::write(dir.join("db.damaged-7/db"), [1; 300]).unwrap();
    let report = tallymesh::check(&dir).unwrap();
    assert_eq!(report.kept_aside, [(dir.join("db.damaged-7"), 300)]);
    assert_eq!(report.damage, []);

    let holder = open(&dir).await.unwrap();
    let error = tallymesh::check(&dir).unwrap_err();
    assert!(matches!(error, StorageError::Held { .. }), "{error}");
    holder.close().await.unwrap();
}

#[tokio::test]
async fn every_damaged_record_is_named_and_the_others_are_read() {
    let temp = tempfile::tempdir().unwrap();
    live(temp.path(), 1).await;
    let key = |session: &str| CounterKey::new("calls", &[session]).unwrap();
    let record = |session: &str| [b"c", key(session).as_bytes()].concat();
    {
        let db = sled::open(temp.path().join("db")).unwrap();
        for session in ["s3", "s200"] {
            let mut value = db.get(record(session)).unwrap().unwrap().to_vec();
            *value.last_mut().unwrap() ^= 1;
            db.insert(record(session), value).unwrap();
        }
        db.insert(b"c\x05nonsense", b"text").unwrap();
        db.insert(b"x", b"text").unwrap();
        db.flush().unwrap();
    }
    let report = tallymesh::check(temp.path()).unwrap();
    let found: Vec<String> = report.damage.iter().map(|finding| finding.what.clone()).collect();
    for part in ["calls of \"s3\": its checksum", "calls of \"s200\": its checksum", "6305", "78:"]
    {
        assert_eq!(found.iter().filter(|what| what.contains(part)).count(), 1, "{part}: {found:?}");
    }
    assert_eq!(found.len(), 4, "{found:?}");
    assert_eq!(report.contents.counters.len(), 298);
    assert!(tallymesh::inspect(temp.path()).is_err(), "inspect is strict");
}

/// A record whose checksum is right, and which no version writes: `p` is 2^53. A later checkpoint wrote it, so that the totals
/// hold what it replaced.
fn forged(key: &[u8], replaced: &[u8]) -> Vec<u8> {
    let p = 1_u64 << 53;
    let replaced = u32::from_le_bytes(replaced[..4].try_into().unwrap());
    let record = [
        &[0x94, 0xcd, 0x7f, 0xff, 0xce][..],
        &replaced.to_be_bytes(),
        &[0, 0x91, 0x93, 0, 1, 0xcf],
        &p.to_be_bytes(),
    ];
    let record = record.concat();
    let crc = crc32fast::hash(&[key, &record].concat());
    [&crc.to_le_bytes()[..], &record].concat()
}

#[tokio::test]
async fn a_forged_record_costs_itself_and_is_said_and_copied() {
    let temp = tempfile::tempdir().unwrap();
    live(temp.path(), 1).await;
    let key = |session: &str| CounterKey::new("calls", &[session]).unwrap();
    let record = [b"c", key("s3").as_bytes()].concat();
    {
        let db = sled::open(temp.path().join("db")).unwrap();
        let held = db.get(&record).unwrap().unwrap();
        db.insert(&record, forged(&record, &held)).unwrap();
        db.flush().unwrap();
    }
    let report = tallymesh::check(temp.path()).unwrap();
    let [finding] = &report.damage[..] else { panic!("{:?}", report.damage) };
    assert_eq!(finding.consequence, Consequence::Rejected);
    assert!(finding.what.contains("calls of \"s3\": a cell counts more"), "{finding:?}");
    assert_eq!(report.contents.counters.len(), 299);
    assert_eq!(tallymesh::inspect(temp.path()).unwrap().counters.len(), 299);

    let store = open(temp.path()).await.unwrap();
    assert_eq!(store.set_aside(), None);
    assert_eq!((store.len(), store.value(&key("s3")), store.value(&key("s4"))), (299, 0, 5));
    let copies: Vec<_> = std::fs::read_dir(temp.path().join("rejected")).unwrap().collect();
    let [Ok(copy)] = &copies[..] else { panic!("{copies:?}") };
    let copy = std::fs::read_to_string(copy.path()).unwrap();
    assert!(copy.contains("calls of \"s3\"") && copy.contains("2^53"), "{copy}");
    store.close().await.unwrap();
    let report = tallymesh::check(temp.path()).unwrap();
    assert_eq!((report.damage.len(), report.kept_aside.len()), (0, 1), "{:?}", report.damage);
}

#[tokio::test]
async fn a_record_that_is_lost_or_old_is_noticed_by_the_totals() {
    let temp = tempfile::tempdir().unwrap();
    live(temp.path(), 1).await;
    {
        let db = sled::open(temp.path().join("db")).unwrap();
        let key = [b"c", CounterKey::new("calls", &["s9"]).unwrap().as_bytes()].concat();
        db.remove(key).unwrap().unwrap();
        db.flush().unwrap();
    }
    let report = tallymesh::check(temp.path()).unwrap();
    assert_eq!(report.damage.len(), 1, "{:?}", report.damage);
    assert!(
        report.damage[0].what.contains("300 records of counters and 299"),
        "{:?}",
        report.damage
    );
}

#[tokio::test]
async fn the_verdict_is_what_the_next_start_does_whatever_the_harm() {
    quiet_panics_of_sled();
    let temp = tempfile::tempdir().unwrap();
    let (dir, earlier) = (temp.path().join("a"), temp.path().join("earlier"));
    live(&dir, 1).await;
    copy(&dir, &earlier);
    live(&dir, 1000).await;
    let harms = std::env::var("TALLYMESH_CHECK_HARMS");
    let harms = harms.map_or(HARMS, |harms| harms.parse().expect("a number"));
    let mut verdicts = BTreeMap::new();
    for seed in 0..harms {
        let harm = Harm::draw(&mut StdRng::seed_from_u64(seed), &dir);
        let at = temp.path().join("harmed");
        copy(&dir, &at);
        harm.inflict(&at, &earlier);
        let before = files(&at);
        let report = tallymesh::check(&at).unwrap_or_else(|error| panic!("{seed} {harm}: {error}"));
        assert_eq!(before, files(&at), "{seed} {harm}: the check changed the directory");
        let is = |consequence| report.damage.iter().any(|found| found.consequence == consequence);
        let expected = match (is(Consequence::Refused), is(Consequence::SetAside)) {
            (true, _) => "refused",
            (false, true) => "set aside",
            (false, false) => "goes on",
        };
        let happened = match open(&at).await {
            Err(_) => "refused",
            Ok(store) => {
                let happened = if store.set_aside().is_some() { "set aside" } else { "goes on" };
                store.close().await.unwrap();
                happened
            }
        };
        assert_eq!(expected, happened, "{seed} {harm}: {:?}", report.damage);
        *verdicts.entry(expected).or_insert(0) += 1;
    }
    println!("{harms} harms: {verdicts:?}");
    assert!(verdicts.len() > 1, "{verdicts:?}");
}

/// What every file but the lock, and the one that names its holder, holds.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut files, mut dirs) = (BTreeMap::new(), vec![dir.to_owned()]);
    while let Some(next) = dirs.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if !path.ends_with("LOCK") && !path.ends_with("LOCK.holder") {
                let bytes = std::fs::read(&path).unwrap();
                files.insert(path, bytes);
            }
        }
    }
    files
}

/// Puts a copy of a directory in the place of whatever is there.
fn copy(from: &Path, to: &Path) {
    if to.exists() {
        std::fs::remove_dir_all(to).unwrap();
    }
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &to);
        } else {
            std::fs::copy(path, to).unwrap();
        }
    }
}

/// sled panics on damage; what comes of that is judged by what can be seen.
fn quiet_panics_of_sled() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.location().is_some_and(|temp| temp.file().contains("sled-")) {
            usual(panic);
        }
    }));
}
