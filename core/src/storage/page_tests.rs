//! A counter of many cells through all that can become of it, with a crash at every write.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;
use std::sync::{Arc, Mutex, MutexGuard};

use serde::Serialize;

use super::Fields;
use super::record::{
    CounterRecord, META_KEY, Meta, counter_key, decode, encode, marks_key, page_key, replica_key,
};
use super::recover::{RecoverError, Recovered, recover};
use super::{CheckpointWriter, KvStore, StorageError};
use crate::crdt::{Marks, Update};
use crate::id::{Incarnation, ReplicaId, Version};
use crate::key::CounterKey;
use crate::limit::Lifetime;
use crate::table::{Bounds, Op, Restore, Table};
use crate::time::Timestamp;

const NOW: Timestamp = Timestamp(1_790_000_000_000);
const TTL: Duration = Duration::from_secs(1_600);
/// So many that their numbers fill more than one page.
const REPLICAS: u64 = 600;

fn key() -> CounterKey {
    CounterKey::new("large", &[]).unwrap()
}

fn replica(name: &str, boot: u64) -> ReplicaId {
    ReplicaId { node: name.parse().unwrap(), incarnation: Incarnation { boot, nonce: 7 } }
}

fn pod(number: u64) -> ReplicaId {
    replica(&format!("pod-{number}"), 1)
}

fn table(name: &str, boot: u64) -> Table {
    Table::new(replica(name, boot), Bounds::default(), [1, 2, 3, 4])
}

/// A disk that keeps some of what was not synced when its process is killed.
#[derive(Clone, Default)]
struct Lossy(Arc<Mutex<Platter>>);

#[derive(Clone, Default)]
struct Platter {
    durable: BTreeMap<Vec<u8>, Vec<u8>>,
    shown: BTreeMap<Vec<u8>, Vec<u8>>,
    pending: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Writes so far, but for those of replicas, of which there are many.
    writes: usize,
    killed_at: Option<usize>,
}

impl Lossy {
    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap()
    }

    fn write(&self, key: &[u8], value: Option<&[u8]>) -> Result<Option<Vec<u8>>, StorageError> {
        let mut platter = self.platter();
        platter.writes += usize::from(key.first() != Some(&b'r'));
        if platter.killed_at.is_some_and(|at| platter.writes >= at) {
            return Err(StorageError::Corrupt { what: "killed".into(), source: None });
        }
        platter.pending.push((key.to_vec(), value.map(<[u8]>::to_vec)));
        Ok(match value {
            Some(value) => platter.shown.insert(key.to_vec(), value.to_vec()),
            None => platter.shown.remove(key),
        })
    }

    /// What the next process finds: of what was not synced, by `seed`, nothing, all, or some.
    fn after_crash(&self, seed: u64) -> Lossy {
        let mut platter = self.platter().clone();
        let mut state = seed;
        for (key, value) in core::mem::take(&mut platter.pending) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(seed);
            let is_kept = match seed {
                0 => false,
                1 => true,
                _ => state >> 62 > 1,
            };
            match value.filter(|_| is_kept) {
                Some(value) => _ = platter.durable.insert(key, value),
                None if is_kept => _ = platter.durable.remove(&key),
                None => {}
            }
        }
        platter.shown = platter.durable.clone();
        platter.killed_at = None;
        Lossy(Arc::new(Mutex::new(platter)))
    }

    fn keys(&self, first: u8) -> Vec<Vec<u8>> {
        self.platter().shown.keys().filter(|key| key[0] == first).cloned().collect()
    }

    /// The counter's own record.
    fn main(&self) -> CounterRecord {
        let key = counter_key(key().as_bytes());
        decode(&key, &self.platter().shown[&key]).unwrap().0
    }
}

impl KvStore for Lossy {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.write(key, Some(value))
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.platter().shown.get(key).cloned())
    }

    fn remove(&mut self, key: &[u8]) -> Result<(), StorageError> {
        self.write(key, None).map(drop)
    }

    fn scan(&self, prefix: &[u8], visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), StorageError> {
        let shown = self.platter().shown.clone();
        for (key, value) in
            shown.range(prefix.to_vec()..).take_while(|(k, _)| k.starts_with(prefix))
        {
            visit(key, value);
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        let mut platter = self.platter();
        platter.pending.clear();
        platter.durable = platter.shown.clone();
        Ok(())
    }

    fn is_wasteful(&self, _: u64) -> Result<bool, StorageError> {
        Ok(false)
    }
}

fn writer(store: &Lossy, found: Option<&Recovered>) -> Result<CheckpointWriter, StorageError> {
    let meta =
        found.map_or_else(|| Meta::first("a".parse().unwrap(), 0), |found| found.meta.clone());
    CheckpointWriter::on(Box::new(store.clone()), meta, found)
}

fn recovered(store: &Lossy, boot: u64) -> Result<(Table, Option<Recovered>), RecoverError> {
    let table = table("a", boot);
    let mut restore = Restore::into(&table);
    let found = recover(store, |counter| restore.add(&counter))?;
    if let Some(found) = &found {
        restore.finish(found.marks());
    }
    Ok((table, found))
}

/// `to` learns all that it says it does not have.
fn sync(from: &Table, to: &Table, now: Timestamp) {
    from.harvest(crate::table::DirtySet::All);
    for (replica, _) in from.version_vector().iter() {
        let start = to.watermark(replica);
        let Some(part) = from.updates_after(replica, start, 1 << 30) else { continue };
        to.apply(now, replica, &part.updates);
        assert!(to.complete(replica, start, part.watermark.unwrap()));
    }
}

/// A peer that merges what pods count.
struct Peer {
    table: Table,
    versions: BTreeMap<u64, u64>,
}

impl Peer {
    fn count(&mut self, now: Timestamp, generation: u32, pods: impl Iterator<Item = u64>) {
        for number in pods {
            let version = self.versions.entry(number).or_default();
            *version += 1;
            let marks = Marks { at: now.0, p0: TTL.as_millis() as u64, n0: 0 };
            let (key, p) = (key().as_bytes().to_vec(), *version);
            let update = Update { key, version: Version(*version), generation, p, n: 0, marks };
            self.table.apply(now, &pod(number), &[update]);
            assert!(self.table.complete(&pod(number), Version(*version - 1), Version(*version)));
        }
    }
}

fn sweep(table: &Table, now: Timestamp) {
    let mut next = table.sweep(now, None);
    while next.is_some() {
        next = table.sweep(now, next);
    }
}

/// What happens before each checkpoint.
const STEPS: usize = 12;

fn step(number: usize, peer: &mut Peer, own: &Table) -> Timestamp {
    let over = NOW.plus(TTL * 2).plus(Bounds::default().grace * 2);
    let now = if number < 8 { NOW } else { over };
    match number {
        0 => peer.count(now, 0, 0..10),
        1 => peer.count(now, 0, 8..40),
        2 => peer.count(now, 0, 30..REPLICAS),
        3 => peer.count(now, 0, (0..REPLICAS).step_by(199)),
        // A reset, of which there are many cells at once, and one of which there are few.
        4 => peer.count(now, 1, (0..REPLICAS).step_by(3)),
        5 => peer.count(now, 2, 5..9),
        6 => peer.count(now, 2, 0..60),
        7 => {}
        // The counter ends, and comes back under its key: at once with many cells.
        8 => {
            sweep(&peer.table, now);
            sweep(own, now);
            peer.count(now, 0, 100..140);
        }
        9 => {}
        _ => peer.count(now, 0, 100..101),
    }
    sync(&peer.table, own, now);
    if [2, 5, 9].contains(&number) {
        own.execute(now, &key(), Op::Add(1), Lifetime::new(TTL)).unwrap();
    }
    sync(own, &peer.table, now);
    now
}

/// Runs all steps; returns the time of the last one that was begun.
fn live(store: &Lossy, peer: &mut Peer) -> Timestamp {
    let own = table("a", 1);
    let Ok(mut writer) = writer(store, None) else { return NOW };
    let mut now = NOW;
    for number in 0..STEPS {
        now = step(number, peer, &own);
        if writer.write(&own, now).is_err() || (number % 2 == 0 && writer.sync_meta().is_err()) {
            return now;
        }
    }
    now
}

fn peer() -> Peer {
    Peer { table: table("b", 1), versions: BTreeMap::new() }
}

/// That what the writer keeps in mind is what is in the database.
fn adds_up(writer: &CheckpointWriter, store: &Lossy, when: &str) {
    let found = recover(store, |_| {}).unwrap().unwrap();
    assert_eq!(writer.live_bytes, found.live_bytes, "{when}");
    assert_eq!(writer.numbers.named(), &found.named, "{when}");
    assert_eq!(writer.meta.totals, found.meta.totals, "{when}");
    assert!(found.void_pages.is_empty(), "{when}: {:?}", found.void_pages);
}

#[test]
fn a_crash_at_any_write_of_a_large_counter_loses_nothing_that_it_vouches_for() {
    let undisturbed = Lossy::default();
    live(&undisturbed, &mut peer());
    let all_writes = undisturbed.platter().writes;
    assert!(all_writes > 50, "{all_writes}");
    for killed_at in 1..=all_writes {
        let (store, mut peer) = (Lossy::default(), peer());
        store.platter().killed_at = Some(killed_at);
        let now = live(&store, &mut peer);
        for seed in 0..5 {
            let when = format!("killed at write {killed_at}, seed {seed}");
            let store = store.after_crash(seed);
            let (own, found) =
                recovered(&store, 2).unwrap_or_else(|error| panic!("{when}: {error}"));
            let mut writer = writer(&store, found.as_ref()).unwrap();
            sweep(&own, now);
            sync(&peer.table, &own, now);
            let expected = peer.table.state_checksum(now);
            assert_eq!(own.state_checksum(now), expected, "{when}: a hole");
            // And it goes on from there.
            for _ in 0..3 {
                writer.write(&own, now).unwrap();
            }
            writer.sync_meta().unwrap();
            adds_up(&writer, &store, &when);
            let (again, _) = recovered(&store.after_crash(0), 3).unwrap();
            assert_eq!(again.state_checksum(now), expected, "{when}: the next life");
        }
    }
}

#[test]
fn a_checkpoint_writes_the_pages_that_changed_and_no_others() {
    let (store, mut peer, own) = (Lossy::default(), peer(), table("a", 1));
    let mut writer = writer(&store, None).unwrap();
    peer.count(NOW, 0, 0..REPLICAS);
    sync(&peer.table, &own, NOW);
    writer.write(&own, NOW).unwrap();
    let main = store.main();
    assert!(main.state.is_some_and(|main| main.cells.is_empty() && main.pages_since > 0));
    let pages = store.keys(b'p');
    assert_eq!(pages, [page_key(key().as_bytes(), 0), page_key(key().as_bytes(), 1)]);
    peer.count(NOW, 0, 3..4);
    sync(&peer.table, &own, NOW);
    let before = store.platter().shown.clone();
    writer.write(&own, NOW).unwrap();
    let shown = store.platter().shown.clone();
    let changed: Vec<_> = pages.iter().filter(|key| before[*key] != shown[*key]).collect();
    assert_eq!(changed.len(), 1);
    // What is kept of replicas is written by pages too.
    let changed = store.keys(b'w').into_iter().filter(|key| before[key] != shown[key]);
    assert_eq!(changed.count(), 1);
    adds_up(&writer, &store, "after a change");
}

#[test]
fn pages_leave_with_their_counter_and_replicas_after_the_last_record_that_names_them() {
    let (store, mut peer, own) = (Lossy::default(), peer(), table("a", 1));
    let mut writer = writer(&store, None).unwrap();
    peer.count(NOW, 0, 0..REPLICAS);
    sync(&peer.table, &own, NOW);
    writer.write(&own, NOW).unwrap();
    assert_eq!(store.keys(b'r').len() as u64, REPLICAS);
    let end = NOW.plus(TTL * 2);
    let over = end.plus(Bounds::default().grace * 4);
    sweep(&own, over);
    for round in 0..12_u64 {
        let now = Timestamp(over.0 + round * 60_000);
        own.forget_ended(now, |_| false);
        writer.write(&own, now).unwrap();
        // Whatever a crash leaves of this: no record names a replica that has none.
        for seed in 0..4 {
            let found = recovered(&store.after_crash(seed), 2);
            assert!(found.is_ok(), "round {round}: {:?}", found.err());
        }
    }
    assert!(store.keys(b'c').is_empty() && store.keys(b'p').is_empty());
    assert!(store.keys(b'r').is_empty() && store.keys(b'w').is_empty());
    assert_eq!(own.replicas_known(), 1);
    assert_eq!(writer.live_bytes, 0);
    // No number is given again.
    peer.count(over, 0, 0..1);
    sync(&peer.table, &own, over);
    writer.write(&own, over).unwrap();
    assert_eq!(store.keys(b'r')[0], replica_key(REPLICAS as u32));
    assert_eq!(store.keys(b'w')[0], marks_key(REPLICAS as u32 / 256));
    let (again, _) = recovered(&store, 2).unwrap();
    assert_eq!(again.state_checksum(over), own.state_checksum(over));
}

#[test]
fn a_rejected_record_of_a_counter_takes_its_pages_along() {
    let (store, mut peer, own) = (Lossy::default(), peer(), table("a", 1));
    peer.count(NOW, 0, 0..REPLICAS);
    sync(&peer.table, &own, NOW);
    let mut first = writer(&store, None).unwrap();
    first.write(&own, NOW).unwrap();
    first.sync_meta().unwrap();
    let (key, mut record) = (counter_key(key().as_bytes()), store.main());
    if let Some(state) = &mut record.state {
        state.marks.at = Marks::AT_MAX + 1;
    }
    let (forged, crc) = encode(&key, &record);
    let held = store.platter().shown.insert(key, forged).unwrap();
    let mut meta = first.meta.clone();
    meta.totals.remove(u32::from_le_bytes(*held.first_chunk().unwrap()));
    meta.totals.add(crc);
    store.platter().shown.insert(META_KEY.to_vec(), encode(META_KEY, &meta).0);
    drop(first);
    let (found, recovered_from) = recovered(&store, 2).unwrap();
    assert_eq!(recovered_from.as_ref().unwrap().rejected.len(), 3, "the record, and two pages");
    assert_eq!(found.len(), 0);
    for number in [0, REPLICAS - 1] {
        assert_eq!(found.watermark(&pod(number)), Version::ZERO, "the peers tell it again");
    }
    let mut second = writer(&store, recovered_from.as_ref()).unwrap();
    sync(&peer.table, &found, NOW);
    (0..3).for_each(|_| _ = second.write(&found, NOW).unwrap());
    adds_up(&second, &store, "after the burial");
    let (again, recovered_from) = recovered(&store, 3).unwrap();
    assert!(recovered_from.unwrap().rejected.is_empty());
    assert_eq!(again.state_checksum(NOW), peer.table.state_checksum(NOW));
}

#[test]
fn what_an_earlier_build_kept_of_replicas_is_put_on_pages() {
    let (store, mut peer, own) = (Lossy::default(), peer(), table("a", 1));
    peer.count(NOW, 0, 0..2);
    sync(&peer.table, &own, NOW);
    let mut first = writer(&store, None).unwrap();
    first.write(&own, NOW).unwrap();
    let meta = first.meta.clone();
    drop(first);
    // Its entry had two fields more, and there were no pages.
    let former = Former { meta, watermarks: vec![(0, 1), (1, 1)], ends: vec![(0, 5), (1, 7)] };
    store.platter().shown.insert(META_KEY.to_vec(), encode(META_KEY, &former).0);
    store.platter().shown.remove(&marks_key(0));
    for boot in [2, 3] {
        let (again, found) = recovered(&store, boot).unwrap();
        assert_eq!(again.watermark(&pod(1)), Version(1), "boot {boot}");
        drop(writer(&store, found.as_ref()).unwrap());
        assert!(store.platter().shown.contains_key(&marks_key(0)));
        let meta: Fields = decode(META_KEY, &store.platter().shown[META_KEY]).unwrap().0;
        assert!(!format!("{meta:?}").contains("watermarks"));
    }
}

/// The last checkpoint's entry as earlier builds wrote it.
#[derive(Serialize)]
struct Former {
    #[serde(flatten)]
    meta: Meta,
    watermarks: Vec<(u32, u64)>,
    ends: Vec<(u32, u64)>,
}

#[test]
fn a_database_written_anew_has_every_cell() {
    let (store, mut peer, own) = (Lossy::default(), peer(), table("a", 1));
    let mut first = writer(&store, None).unwrap();
    peer.count(NOW, 0, 0..REPLICAS);
    sync(&peer.table, &own, NOW);
    first.write(&own, NOW).unwrap();
    let again = Lossy::default();
    let mut second = writer(&again, None).unwrap();
    own.mark_all_unpersisted();
    second.write(&own, NOW).unwrap();
    adds_up(&second, &again, "rewritten");
    let (found, _) = recovered(&again, 2).unwrap();
    assert_eq!(found.state_checksum(NOW), own.state_checksum(NOW));
    for number in [0, REPLICAS - 1] {
        assert_eq!(found.watermark(&pod(number)), Version(1));
    }
    assert!(!again.keys(b'p').is_empty());
}
