//! A disk that forgets, fails and rots: what was written and not synced may or may not survive a crash, write by write.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::rngs::StdRng;
use rand::seq::IteratorRandom;
use rand::{RngExt, SeedableRng};
use tallymesh_core::storage::{Files, Identity, KvStore, StorageError};

/// Where the disk is, for messages.
const PLACE: &str = "simulated disk";
const IDENTITY: &str = "identity.toml";
const NOTE: &str = "checkpoint";

type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

/// A handle of one node's disk; clones share it, as the lives of a node do.
#[derive(Debug, Clone)]
pub struct SimDisk(Arc<Mutex<Platter>>);

#[derive(Debug)]
struct Platter {
    random: StdRng,
    /// Small files: what is durable, and what reads show.
    files: BTreeMap<String, (Vec<u8>, Vec<u8>)>,
    databases: BTreeMap<u64, Database>,
    present: Option<u64>,
    begun: Option<u64>,
    next_database: u64,
    sync_fails: bool,
    full: bool,
    /// So many operations on, the process is killed in the middle of one.
    fuse: Option<u32>,
    dead: bool,
    /// Something was changed behind the process's back.
    tampered: bool,
    /// A process set the database aside, and may have been killed before it could say so.
    set_aside: bool,
    /// The small files do not tell, or do not tell any more, of all that is in the database, so that the loss of its end
    /// could not be found out: between a write and the note of it, or after a crash took the note.
    lost_note: bool,
}

#[derive(Debug, Clone, Default)]
struct Database {
    durable: Entries,
    /// Later writes, in order; `None` removes.
    pending: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// What reads show: durable, pending, and what failed to be synced.
    shown: Entries,
    /// What was durable some syncs ago.
    before: Entries,
    syncs: u64,
}

/// All that is durable on a disk.
#[derive(Debug, Clone)]
pub struct Backup {
    files: BTreeMap<String, Vec<u8>>,
    database: Option<Entries>,
    tampered: bool,
}

impl SimDisk {
    /// An empty disk, which takes its chances from `seed`.
    pub fn new(seed: u64) -> SimDisk {
        SimDisk(Arc::new(Mutex::new(Platter {
            random: StdRng::seed_from_u64(seed),
            files: BTreeMap::new(),
            databases: BTreeMap::new(),
            present: None,
            begun: None,
            next_database: 0,
            sync_fails: false,
            full: false,
            fuse: None,
            dead: false,
            tampered: false,
            set_aside: false,
            lost_note: false,
        })))
    }

    /// The process is killed: of the writes since the last sync, some are lost. With `tears`, one may be half written.
    pub fn crash(&self, tears: bool) {
        let mut platter = self.platter();
        let Platter { random, files, databases, tampered, lost_note, .. } = &mut *platter;
        for (durable, shown) in files.values_mut() {
            if random.random() {
                durable.clone_from(shown);
            }
            *lost_note |= durable != shown;
            shown.clone_from(durable);
        }
        for database in databases.values_mut() {
            *tampered |= database.crash(random, tears);
        }
        if let Some(begun) = platter.begun.take() {
            platter.databases.remove(&begun);
        }
        platter.fuse = None;
        platter.dead = false;
    }

    /// The disk is replaced by an empty one.
    pub fn wipe(&self) {
        let mut platter = self.platter();
        platter.files.clear();
        platter.databases.clear();
        (platter.present, platter.begun) = (None, None);
        (platter.sync_fails, platter.full, platter.tampered) = (false, false, false);
    }

    /// What a copy of the directory holds, made while its process may be running.
    pub fn copy(&self) -> Backup {
        let platter = self.platter();
        let files = platter.files.iter().map(|(name, (_, shown))| (name.clone(), shown.clone()));
        let present = platter.present.and_then(|present| platter.databases.get(&present));
        Backup {
            files: files.collect(),
            database: present.map(|database| database.shown.clone()),
            tampered: platter.tampered,
        }
    }

    /// What a copy of a closed directory holds.
    pub fn backup(&self) -> Backup {
        let platter = self.platter();
        let files =
            platter.files.iter().map(|(name, (durable, _))| (name.clone(), durable.clone()));
        let present = platter.present.and_then(|present| platter.databases.get(&present));
        Backup {
            files: files.collect(),
            database: present.map(|database| database.durable.clone()),
            tampered: platter.tampered,
        }
    }

    /// The directory is replaced by a copy.
    pub fn restore(&self, backup: &Backup) {
        self.wipe();
        let mut platter = self.platter();
        let files = backup.files.iter();
        platter.files =
            files.map(|(name, bytes)| (name.clone(), (bytes.clone(), bytes.clone()))).collect();
        platter.tampered = backup.tampered;
        if let Some(entries) = &backup.database {
            let number = platter.make_database();
            let database = platter.database(number);
            database.durable.clone_from(entries);
            database.shown.clone_from(entries);
            platter.present = Some(number);
        }
    }

    /// From now on, syncs fail or do not.
    pub fn set_sync_fails(&self, fails: bool) {
        self.platter().sync_fails = fails;
    }

    /// From now on, the disk takes no more or does again.
    pub fn set_full(&self, full: bool) {
        self.platter().full = full;
    }

    /// Kills the process at so many operations from now.
    pub fn set_fuse(&self, operations: u32) {
        self.platter().fuse = Some(operations);
    }

    /// The process is not killed at a write any more.
    pub fn cut_fuse(&self) {
        self.platter().fuse = None;
    }

    /// Whether the process was killed in the middle of an operation.
    pub fn is_dead(&self) -> bool {
        self.platter().dead
    }

    /// Whether anything was changed behind the process's back.
    pub fn is_tampered(&self) -> bool {
        self.platter().tampered
    }

    /// Whether the database was set aside since this was last asked.
    pub fn take_set_aside(&self) -> bool {
        std::mem::take(&mut self.platter().set_aside)
    }

    /// Forgets the tampering: what it had changed is no longer in use.
    pub fn forgive(&self) {
        self.platter().tampered = false;
    }

    /// What an operator does who was told that the identity cannot be read.
    pub fn remove_identity(&self) {
        self.platter().files.remove(IDENTITY);
    }

    /// Flips a bit, loses a record, or loses the end of the database; once, until that has been found out.
    pub fn rot(&self) {
        let mut platter = self.platter();
        if platter.tampered {
            return;
        }
        let Platter { random, files, databases, present, lost_note, .. } = &mut *platter;
        let Some(database) = present.and_then(|present| databases.get_mut(&present)) else {
            return;
        };
        let harmed = match random.random_range(0..10_u32) {
            0 => {
                let file = files.values_mut().choose(random);
                file.is_some_and(|(durable, shown)| {
                    let harmed = flip(random, durable);
                    shown.clone_from(durable);
                    harmed
                })
            }
            1 | 2 if !*lost_note => {
                database.durable.clone_from(&database.before);
                database.shown.clone_from(&database.before);
                database.pending.clear();
                // Only by the file beside it can this be found out; it has reached the disk by then.
                files.values_mut().for_each(|(durable, shown)| durable.clone_from(shown));
                true
            }
            kind => {
                let key = database.durable.keys().choose(random).cloned();
                key.is_some_and(|key| match database.durable.get_mut(&key) {
                    // What a last, unfinished checkpoint wrote is vouched for by its checksum alone.
                    Some(value) if kind > 4 || *lost_note => {
                        let harmed = flip(random, value);
                        database.shown.insert(key, value.clone());
                        harmed
                    }
                    _ => {
                        database.shown.remove(&key);
                        database.durable.remove(&key).is_some()
                    }
                })
            }
        };
        platter.tampered |= harmed;
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, name: &str) -> Option<Vec<u8>> {
        self.platter().files.get(name).map(|(_, shown)| shown.clone())
    }

    fn open(&self, number: u64) -> Box<dyn KvStore> {
        Box::new(SimStore { disk: self.clone(), number })
    }
}

fn flip(random: &mut StdRng, bytes: &mut [u8]) -> bool {
    if bytes.is_empty() {
        return false;
    }
    let place = random.random_range(0..bytes.len());
    bytes[place] ^= 1 << random.random_range(0..8_u32);
    true
}

fn refused(why: &str) -> StorageError {
    let place = PLACE.to_owned();
    StorageError::Io { doing: "write", place, advice: "wait", source: why.into() }
}

impl Platter {
    fn make_database(&mut self) -> u64 {
        self.next_database += 1;
        self.databases.insert(self.next_database, Database::default());
        self.next_database
    }

    fn database(&mut self, number: u64) -> &mut Database {
        self.databases.entry(number).or_default()
    }

    /// Whether an operation comes to pass: the fuse may burn down at it, or before.
    fn step(&mut self) -> Result<(), StorageError> {
        if let Some(left) = &mut self.fuse {
            *left = left.saturating_sub(1);
            self.dead |= *left == 0;
        }
        if self.dead { Err(refused("the process was killed")) } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), StorageError> {
        self.step()?;
        if self.full { Err(refused("no space is left")) } else { Ok(()) }
    }
}

impl Database {
    /// Loses some of what is pending; says whether a record was torn.
    fn crash(&mut self, random: &mut StdRng, tears: bool) -> bool {
        let pending = std::mem::take(&mut self.pending);
        let kept_to = random.random_range(0..=pending.len());
        let in_order = random.random_bool(0.5);
        let torn = if tears && random.random_bool(0.3) { kept_to.checked_sub(1) } else { None };
        let mut tore = false;
        for (place, (key, value)) in pending.into_iter().enumerate() {
            let kept = if in_order { place < kept_to } else { random.random() };
            if torn == Some(place) {
                if let Some(mut value) = value.filter(|value| value.len() > 1) {
                    value.truncate(random.random_range(1..value.len()));
                    self.durable.insert(key, value);
                    tore = true;
                }
            } else if kept {
                self.apply(key, value);
            }
        }
        self.shown.clone_from(&self.durable);
        tore
    }

    fn apply(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        match value {
            Some(value) => self.durable.insert(key, value),
            None => self.durable.remove(&key),
        };
    }
}

impl Files for SimDisk {
    fn place(&self) -> &str {
        PLACE
    }

    fn read_identity(&self) -> Result<Option<Identity>, StorageError> {
        let Some(bytes) = self.read(IDENTITY) else { return Ok(None) };
        // As the library's files are, so that what rots is the same.
        let identity = toml::from_str(&String::from_utf8_lossy(&bytes)).map_err(|error| {
            StorageError::Foreign { place: PLACE.to_owned(), why: error.message().to_owned() }
        })?;
        Ok(Some(identity))
    }

    fn write_identity(&mut self, identity: &Identity) -> Result<(), StorageError> {
        // Proven: plain fields are always valid TOML.
        let text = toml::to_string(identity).expect("an identity is valid TOML");
        let mut platter = self.platter();
        platter.write()?;
        if platter.sync_fails {
            return Err(refused("the sync failed"));
        }
        let bytes = text.into_bytes();
        platter.files.insert(IDENTITY.to_owned(), (bytes.clone(), bytes));
        Ok(())
    }

    fn read_note(&self) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.read(NOTE))
    }

    fn write_note(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        let mut platter = self.platter();
        platter.write()?;
        platter.files.entry(NOTE.to_owned()).or_default().1 = bytes.to_vec();
        // It tells of the last checkpoint whose entry is synced, not of the records of one whose entry is yet to be.
        let present = platter.present.and_then(|present| platter.databases.get(&present));
        platter.lost_note = present.is_some_and(|database| !database.pending.is_empty());
        Ok(())
    }

    fn has_database(&self) -> bool {
        self.platter().present.is_some()
    }

    fn open_database(&mut self) -> Result<Box<dyn KvStore>, StorageError> {
        let mut platter = self.platter();
        platter.step()?;
        let number = match platter.present {
            Some(number) => number,
            None => platter.make_database(),
        };
        platter.present = Some(number);
        drop(platter);
        Ok(self.open(number))
    }

    fn set_database_aside(&mut self, number: u64) -> Result<String, StorageError> {
        let mut platter = self.platter();
        platter.step()?;
        if let Some(present) = platter.present.take() {
            platter.databases.remove(&present);
        }
        platter.set_aside = true;
        Ok(format!("damaged-{number}"))
    }

    fn begin_database(&mut self) -> Result<Box<dyn KvStore>, StorageError> {
        let mut platter = self.platter();
        platter.write()?;
        let number = platter.make_database();
        if let Some(before) = platter.begun.replace(number) {
            platter.databases.remove(&before);
        }
        drop(platter);
        Ok(self.open(number))
    }

    fn install_database(&mut self) -> Result<Box<dyn KvStore>, StorageError> {
        let mut platter = self.platter();
        platter.step()?;
        let Some(number) = platter.begun.take() else { return Err(refused("nothing was begun")) };
        if let Some(before) = platter.present.replace(number) {
            platter.databases.remove(&before);
        }
        drop(platter);
        Ok(self.open(number))
    }

    fn keep_rejected(&mut self, name: &str, _text: &str) -> Result<Option<String>, StorageError> {
        self.platter().write()?;
        Ok(Some(name.to_owned()))
    }

    fn abandon_database(&mut self) {
        let mut platter = self.platter();
        if let Some(number) = platter.begun.take() {
            platter.databases.remove(&number);
        }
    }
}

struct SimStore {
    disk: SimDisk,
    number: u64,
}

impl KvStore for SimStore {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        let mut platter = self.disk.platter();
        platter.write()?;
        platter.lost_note = true;
        let database = platter.database(self.number);
        database.pending.push((key.to_vec(), Some(value.to_vec())));
        Ok(database.shown.insert(key.to_vec(), value.to_vec()))
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.disk.platter().database(self.number).shown.get(key).cloned())
    }

    fn remove(&mut self, key: &[u8]) -> Result<(), StorageError> {
        let mut platter = self.disk.platter();
        platter.write()?;
        let database = platter.database(self.number);
        database.pending.push((key.to_vec(), None));
        database.shown.remove(key);
        Ok(())
    }

    fn scan(&self, prefix: &[u8], visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), StorageError> {
        let shown = self.disk.platter().database(self.number).shown.clone();
        let from = shown.range(prefix.to_vec()..);
        for (key, value) in from.take_while(|(key, _)| key.starts_with(prefix)) {
            visit(key, value);
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        let mut platter = self.disk.platter();
        platter.step()?;
        if platter.sync_fails {
            // As Linux does: what could not be written counts as clean from now on, although it is only in memory.
            let Platter { random, databases, .. } = &mut *platter;
            let database = databases.entry(self.number).or_default();
            database.pending.retain(|_| random.random());
            return Err(refused("the sync failed"));
        }
        let database = platter.database(self.number);
        if database.syncs.is_multiple_of(8) {
            database.before = database.durable.clone();
        }
        database.syncs += 1;
        for (key, value) in std::mem::take(&mut database.pending) {
            database.apply(key, value);
        }
        Ok(())
    }

    fn is_wasteful(&self, _live_bytes: u64) -> Result<bool, StorageError> {
        // The world asks seldom, and wants a rewrite then, so that rewrites meet every other fault.
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use tallymesh_core::storage::conforms;

    use super::*;

    #[test]
    fn it_behaves_as_every_backend_owes() {
        let mut disk = SimDisk::new(1);
        conforms(|| disk.open_database().unwrap());
    }

    #[test]
    fn a_crash_loses_only_what_was_not_synced() {
        let mut lost = 0;
        for seed in 0..50 {
            let mut disk = SimDisk::new(seed);
            let mut storage = disk.open_database().unwrap();
            storage.put(b"synced", b"1").unwrap();
            storage.sync().unwrap();
            storage.put(b"pending", b"1").unwrap();
            disk.crash(false);
            let storage = disk.open_database().unwrap();
            assert!(storage.get(b"synced").unwrap().is_some());
            lost += usize::from(storage.get(b"pending").unwrap().is_none());
        }
        assert!((5..45).contains(&lost), "{lost} of 50 lost");
    }

    #[test]
    fn what_failed_to_sync_can_be_read_and_is_not_there_after_a_crash() {
        let mut lost = 0;
        for seed in 0..50 {
            let mut disk = SimDisk::new(seed);
            let mut storage = disk.open_database().unwrap();
            storage.put(b"a", b"1").unwrap();
            disk.set_sync_fails(true);
            assert!(storage.sync().is_err());
            disk.set_sync_fails(false);
            storage.sync().unwrap();
            assert!(storage.get(b"a").unwrap().is_some());
            disk.crash(false);
            lost += usize::from(disk.open_database().unwrap().get(b"a").unwrap().is_none());
        }
        assert!((5..45).contains(&lost), "{lost} of 50 lost");
    }
}
