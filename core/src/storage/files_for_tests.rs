//! A directory in memory for tests, whose process can be killed in the middle of any operation, and a writer of format 1.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use std::sync::{Arc, Mutex, MutexGuard};

use super::record::{META_KEY, Totals, encode, replica_key};
use super::{Files, Identity, KvStore, MemoryStore, StorageError};

/// Handles share what is on the disk, as the lives of a node do.
#[derive(Clone, Default)]
pub(super) struct TestFiles(Arc<Mutex<Platter>>);

#[derive(Default)]
struct Platter {
    identity: Option<Identity>,
    note: Option<Vec<u8>>,
    databases: BTreeMap<u32, Database>,
    present: Option<u32>,
    begun: Option<u32>,
    last: u32,
    aside: Vec<u32>,
    rejected: BTreeMap<String, String>,
    /// So many operations from now, the process is killed.
    fuse: Option<usize>,
    operations: usize,
}

#[derive(Default, Clone)]
struct Database {
    durable: MemoryStore,
    shown: MemoryStore,
}

impl TestFiles {
    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap()
    }

    /// A directory with this database, as a closed node left it.
    pub(super) fn with(identity: Identity, note: Vec<u8>, store: MemoryStore) -> TestFiles {
        let files = TestFiles::default();
        let mut platter = files.platter();
        (platter.identity, platter.note) = (Some(identity), Some(note));
        platter.databases.insert(1, Database { durable: store.clone(), shown: store });
        (platter.present, platter.last) = (Some(1), 1);
        drop(platter);
        files
    }

    /// Another directory with the same in it.
    pub(super) fn copied(&self) -> TestFiles {
        let (files, from) = (TestFiles::default(), self.platter());
        let mut to = files.platter();
        (to.identity, to.note) = (from.identity.clone(), from.note.clone());
        (to.databases, to.present, to.last) = (from.databases.clone(), from.present, from.last);
        drop(to);
        files
    }

    /// Kills the process at so many operations from now.
    pub(super) fn kill_at(&self, operation: usize) {
        self.platter().fuse = Some(operation);
    }

    /// How many operations there have been.
    pub(super) fn operations(&self) -> usize {
        self.platter().operations
    }

    /// What the next process finds: all that was written, or only what was synced.
    pub(super) fn crash(&self, loses_unsynced: bool) {
        let mut platter = self.platter();
        platter.fuse = None;
        for database in platter.databases.values_mut() {
            match loses_unsynced {
                true => database.shown = database.durable.clone(),
                false => database.durable = database.shown.clone(),
            }
        }
        platter.begun = None;
    }

    pub(super) fn identity(&self) -> Option<Identity> {
        self.platter().identity.clone()
    }

    /// How many databases were set aside.
    pub(super) fn aside(&self) -> usize {
        self.platter().aside.len()
    }

    /// Copies of rejected records by their names.
    pub(super) fn rejected(&self) -> BTreeMap<String, String> {
        self.platter().rejected.clone()
    }

    /// The present database, while no process uses it.
    pub(super) fn with_database<T>(&self, with: impl FnOnce(&mut MemoryStore) -> T) -> T {
        let mut platter = self.platter();
        let present = platter.present.unwrap();
        let database = platter.databases.get_mut(&present).unwrap();
        let done = with(&mut database.shown);
        database.durable = database.shown.clone();
        done
    }

    fn store(&self, number: u32) -> Box<dyn KvStore> {
        Box::new(TestStore { files: self.clone(), number })
    }
}

impl Platter {
    fn step(&mut self) -> Result<(), StorageError> {
        self.operations += 1;
        let Some(left) = &mut self.fuse else { return Ok(()) };
        *left = left.saturating_sub(1);
        if *left > 0 {
            return Ok(());
        }
        let source = "the process was killed".into();
        Err(StorageError::Io { doing: "use", place: "test".into(), advice: "none", source })
    }

    fn make(&mut self) -> u32 {
        self.last += 1;
        self.databases.insert(self.last, Database::default());
        self.last
    }
}

impl Files for TestFiles {
    fn place(&self) -> &str {
        "test"
    }

    fn read_identity(&self) -> Result<Option<Identity>, StorageError> {
        Ok(self.identity())
    }

    fn write_identity(&mut self, identity: &Identity) -> Result<(), StorageError> {
        let mut platter = self.platter();
        platter.step()?;
        platter.identity = Some(identity.clone());
        Ok(())
    }

    fn read_note(&self) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.platter().note.clone())
    }

    fn write_note(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        let mut platter = self.platter();
        platter.step()?;
        platter.note = Some(bytes.to_vec());
        Ok(())
    }

    fn has_database(&self) -> bool {
        self.platter().present.is_some()
    }

    fn open_database(&mut self) -> Result<Box<dyn KvStore>, StorageError> {
        let mut platter = self.platter();
        platter.step()?;
        let present = platter.present.unwrap_or_else(|| platter.make());
        platter.present = Some(present);
        drop(platter);
        Ok(self.store(present))
    }

    fn set_database_aside(&mut self, number: u64) -> Result<String, StorageError> {
        let mut platter = self.platter();
        platter.step()?;
        let present = platter.present.take();
        platter.aside.extend(present);
        Ok(number.to_string())
    }

    fn begin_database(&mut self) -> Result<Box<dyn KvStore>, StorageError> {
        let mut platter = self.platter();
        platter.step()?;
        let begun = platter.make();
        platter.begun = Some(begun);
        drop(platter);
        Ok(self.store(begun))
    }

    fn install_database(&mut self) -> Result<Box<dyn KvStore>, StorageError> {
        let mut platter = self.platter();
        platter.step()?;
        let begun = platter.begun.take().unwrap();
        platter.present = Some(begun);
        drop(platter);
        Ok(self.store(begun))
    }

    fn keep_rejected(&mut self, name: &str, text: &str) -> Result<Option<String>, StorageError> {
        let mut platter = self.platter();
        platter.step()?;
        platter.rejected.insert(name.into(), text.into());
        Ok(Some(name.into()))
    }

    fn abandon_database(&mut self) {
        self.platter().begun = None;
    }
}

struct TestStore {
    files: TestFiles,
    number: u32,
}

impl TestStore {
    fn with<T>(
        &self,
        run: impl FnOnce(&mut Database) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let mut platter = self.files.platter();
        run(platter.databases.get_mut(&self.number).unwrap())
    }

    fn changing<T>(
        &self,
        run: impl FnOnce(&mut Database) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        self.files.platter().step()?;
        self.with(run)
    }
}

impl KvStore for TestStore {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.changing(|database| database.shown.put(key, value))
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.with(|database| database.shown.get(key))
    }

    fn remove(&mut self, key: &[u8]) -> Result<(), StorageError> {
        self.changing(|database| database.shown.remove(key))
    }

    fn scan(&self, prefix: &[u8], visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), StorageError> {
        // Whatever is visited may be written elsewhere meanwhile.
        self.with(|database| Ok(database.shown.clone()))?.scan(prefix, visit)
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.changing(|database| {
            database.durable = database.shown.clone();
            Ok(())
        })
    }

    fn is_wasteful(&self, _: u64) -> Result<bool, StorageError> {
        Ok(false)
    }
}

/// A replica of format 1: its number, node, boot and nonce.
pub(super) type OldReplica = (u32, &'static str, u64, u64);
/// A counter of format 1: its key, generation, end, and cells of replica number, version, p and n.
pub(super) type OldCounter = (Vec<u8>, u32, u64, Vec<(u32, u64, u64, u64)>);

/// A database as format 1 had it, at checkpoint 3.
pub(super) fn format_1(
    replicas: &[OldReplica],
    counters: &[OldCounter],
    watermarks: &[(u32, u64)],
    clock: u64,
) -> MemoryStore {
    let mut store = MemoryStore::default();
    for (number, node, boot, nonce) in replicas {
        let key = replica_key(*number);
        store.put(&key, &encode(&key, &(node, (boot, nonce))).0).unwrap();
    }
    let mut totals = Totals::default();
    for (key, generation, expires_at, cells) in counters {
        let key = [b"c", &key[..]].concat();
        let record = (2_u64, None::<u32>, Some((generation, expires_at, cells)));
        let (bytes, crc) = encode(&key, &record);
        totals.add(crc);
        store.put(&key, &bytes).unwrap();
    }
    let meta = (1_u32, "a", 3_u64, (totals.count, totals.sum), clock, watermarks);
    store.put(META_KEY, &encode(META_KEY, &meta).0).unwrap();
    store
}
