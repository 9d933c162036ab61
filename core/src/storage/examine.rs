//! Reading all of a closed directory that can be read, and saying what is wrong with the rest.
//!
//! [`recover()`](super::recover()) answers whether a database can be trusted, and stops there. This goes on past whatever is
//! damaged, and judges each piece as the next start will.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::directory::{DataDir, Identity, is_damage, read_checkpoint, read_identity};
use super::file_system::FileSystem;
use super::record::{
    COUNTER_PREFIX, CounterRecord, FORMAT, META_KEY, Meta, REPLICA_PREFIX, Totals, decode,
};
use super::recover::Damage;
use super::scratch::Scratch;
use super::sled_backend::without_panic;
use super::{Files, SledStorage, Storage, StorageError};
use tallymesh_core::crdt::Cell;
use tallymesh_core::id::{ReplicaId, Version};
use tallymesh_core::key::CounterKey;
use tallymesh_core::table::StoredCounter;

/// What is wrong with one piece of a data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// Which piece it is, a counter by its key where that can be read, and what is wrong with it.
    pub what: String,
    /// What comes of it.
    pub consequence: Consequence,
}

/// What the next start of the node does about damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Consequence {
    /// The database is set aside as `db.damaged-N`, and the peers bring the state back.
    SetAside,
    /// The node refuses to start.
    Refused,
    /// The file is written anew from what is in the database.
    WrittenAnew,
    /// None.
    Ignored,
}

/// All that could be read, and all that is wrong.
#[derive(Debug, Default)]
pub struct Checked {
    pub identity: Option<Identity>,
    pub meta: Option<Meta>,
    pub replicas: BTreeMap<u32, ReplicaId>,
    pub counters: Vec<StoredCounter>,
    /// How many records there are, damaged ones included.
    pub records: u64,
    pub tombstones: u64,
    pub damage: Vec<Finding>,
    /// Databases kept aside, with their size in bytes.
    pub aside: Vec<(PathBuf, u64)>,
    /// As of the last completed checkpoint; see `recover`.
    totals: Totals,
}

/// Checks a directory that no process uses. sled writes to whatever it opens, so it is given a copy of the database, in the
/// system's directory for temporary files.
///
/// # Errors
/// When there is no data directory, or a process holds it, or a file in it cannot be copied.
pub fn check(path: &Path) -> Result<Checked, StorageError> {
    DataDir::must_exist(path)?;
    let files = FileSystem::lock(path)?;
    let mut checked = Checked { aside: files.databases_aside()?, ..Checked::default() };
    checked.read_identity(&files);
    let noted = checked.read_checkpoint(&files)?;
    let was_used = noted > 0 || checked.identity.as_ref().is_some_and(|identity| identity.database);
    if !files.has_database() {
        if was_used {
            checked.found(format!("db: {}", Damage::NoMeta), Consequence::SetAside);
        }
        return Ok(checked);
    }
    let scratch = Scratch::new()?;
    let copy = scratch.path().join("db");
    files.copy_database(&copy)?;
    match SledStorage::open(&copy) {
        Ok(storage) => {
            checked.read_database(&storage, noted, was_used);
            // sled may panic once more when it lets go.
            let _ = without_panic(|| drop(storage));
        }
        Err(error) => {
            let consequence = match is_damage(&error) {
                true => Consequence::SetAside,
                false => Consequence::Refused,
            };
            let place = copy.display().to_string();
            let error = error.to_string().replace(&place, &path.join("db").display().to_string());
            checked.found(format!("db: it cannot be opened: {error}"), consequence);
        }
    }
    Ok(checked)
}

impl Checked {
    fn found(&mut self, what: String, consequence: Consequence) {
        self.damage.push(Finding { what, consequence });
    }

    fn read_identity(&mut self, files: &dyn Files) {
        match read_identity(files) {
            Ok(Some(identity)) => self.identity = Some(identity),
            Ok(None) => {
                let what = "identity.toml: it is missing";
                self.found(what.to_owned(), Consequence::WrittenAnew);
            }
            Err(error) => self.found(format!("identity.toml: {error}"), Consequence::Refused),
        }
    }

    /// The checkpoint that the file of this name tells of. That there is no file is no damage: it is not synced.
    fn read_checkpoint(&mut self, files: &dyn Files) -> Result<u64, StorageError> {
        let Some(bytes) = files.read("checkpoint")? else { return Ok(0) };
        let noted = read_checkpoint(&bytes);
        if noted.is_none() {
            let what = "checkpoint: its checksum does not match, so whether the database lost its end cannot be told";
            self.found(what.to_owned(), Consequence::WrittenAnew);
        }
        Ok(noted.unwrap_or(0))
    }

    fn read_database(&mut self, storage: &dyn Storage, noted: u64, was_used: bool) {
        let entries = self.read_others(storage);
        self.read_meta(storage, entries, noted, was_used);
        self.scan(storage, "the replicas", REPLICA_PREFIX, Checked::read_replica);
        self.read_watermarks();
        let damage_before = self.damage.len();
        self.scan(storage, "the counters", COUNTER_PREFIX, Checked::read_counter);
        let Some(meta) = self.meta.as_ref().filter(|_| self.damage.len() == damage_before) else {
            // The sum cannot be right without the damaged records, and says nothing more.
            return;
        };
        if self.totals != meta.totals {
            let (expected, found) = (meta.totals.count, self.totals.count);
            let damage = Damage::Totals { expected, found };
            self.found(format!("db: {damage}"), Consequence::SetAside);
        }
    }

    /// Counts all entries, and finds those that this format knows nothing of.
    fn read_others(&mut self, storage: &dyn Storage) -> u64 {
        let mut entries = 0;
        let scanned = storage.scan(&[], &mut |key, _| {
            entries += 1;
            let kind = key.first().copied();
            if key != META_KEY && kind != Some(COUNTER_PREFIX) && kind != Some(REPLICA_PREFIX) {
                let what = format!("record {}: no record of this format has such a key", hex(key));
                self.found(what, Consequence::Ignored);
            }
        });
        if scanned.is_err() {
            // It is found again, and named, where the kinds of record are read.
            entries += 1;
        }
        self.records = entries;
        entries
    }

    fn read_meta(&mut self, storage: &dyn Storage, entries: u64, noted: u64, was_used: bool) {
        let bytes = match storage.get(META_KEY) {
            Ok(Some(bytes)) => bytes,
            Ok(None) if entries == 0 && !was_used => return,
            Ok(None) if !was_used => {
                let what = "db: it is not tallymesh's".to_owned();
                return self.found(what, Consequence::Refused);
            }
            Ok(None) => {
                return self.found(format!("db: {}", Damage::NoMeta), Consequence::SetAside);
            }
            Err(error) => {
                let what = format!("db: {}", Damage::Unreadable(error));
                return self.found(what, Consequence::SetAside);
            }
        };
        let meta = match decode::<Meta>(META_KEY, &bytes) {
            Ok((meta, _)) => meta,
            Err(error) => {
                let what = format!("db: {}: {error}", Damage::Meta);
                return self.found(what, Consequence::SetAside);
            }
        };
        if meta.format != FORMAT {
            let what =
                format!("db: it has format {}, and this version reads {FORMAT}", meta.format);
            return self.found(what, Consequence::Refused);
        }
        let node = self.identity.as_ref().map(|identity| identity.node.clone());
        if let Some(node) = node.filter(|node| node != meta.node.as_str()) {
            let found = &meta.node;
            let what = format!("db: it belongs to node {found}, and identity.toml to node {node}");
            self.found(what, Consequence::Refused);
        }
        self.meta = Some(meta);
        self.compare_with(noted);
    }

    fn compare_with(&mut self, noted: u64) {
        let found = self.meta.as_ref().map_or(0, |meta| meta.epoch);
        if found < noted {
            let damage = Damage::Older { expected: noted, found };
            self.found(format!("db: {damage}"), Consequence::SetAside);
        }
    }

    fn scan(
        &mut self,
        storage: &dyn Storage,
        which: &str,
        prefix: u8,
        mut read: impl FnMut(&mut Checked, &[u8], &[u8]),
    ) {
        let scanned = storage.scan(&[prefix], &mut |key, value| read(self, key, value));
        if let Err(error) = scanned {
            let what = format!("db: not all of {which} can be read: {error}");
            self.found(what, Consequence::SetAside);
        }
    }

    fn read_replica(&mut self, key: &[u8], value: &[u8]) {
        let Some(number) = key.get(1..).and_then(|number| number.try_into().ok()) else {
            let what = format!("replica record {}: its key is not 4 bytes of number", hex(key));
            return self.found(what, Consequence::SetAside);
        };
        let number = u32::from_be_bytes(number);
        match decode::<ReplicaId>(key, value) {
            Ok((replica, _)) => _ = self.replicas.insert(number, replica),
            Err(error) => self.found(format!("replica {number}: {error}"), Consequence::SetAside),
        }
    }

    fn read_watermarks(&mut self) {
        let Some(meta) = &self.meta else { return };
        let numbers = meta.watermarks.iter().map(|(number, _)| *number);
        let unknown: Vec<u32> =
            numbers.filter(|number| !self.replicas.contains_key(number)).collect();
        for number in unknown {
            let what = format!("the watermark of replica {number}: no replica has that number");
            self.found(what, Consequence::Ignored);
        }
    }

    fn read_counter(&mut self, key: &[u8], value: &[u8]) {
        let counter_key = CounterKey::from_bytes(&key[1..]);
        let name = match &counter_key {
            Ok(key) => format!("counter {key}"),
            Err(_) => format!("counter record {}", hex(key)),
        };
        let (record, crc) = match decode::<CounterRecord>(key, value) {
            Ok(decoded) => decoded,
            Err(error) => return self.found(format!("{name}: {error}"), Consequence::SetAside),
        };
        let is_newer = self.meta.as_ref().is_some_and(|meta| record.epoch > meta.epoch);
        let counted = match is_newer {
            true => record.replaced,
            false => record.state.is_some().then_some(crc),
        };
        counted.into_iter().for_each(|crc| self.totals.add(crc));
        if let Err(error) = counter_key {
            // A tombstone is only ever removed, whatever its key.
            let consequence = match record.state {
                Some(_) => Consequence::SetAside,
                None => Consequence::Ignored,
            };
            self.found(format!("{name}: {error}"), consequence);
        }
        let Some(state) = record.state else {
            self.tombstones += 1;
            return;
        };
        let mut cells = Vec::with_capacity(state.cells.len());
        for (number, version, p, n) in state.cells {
            match self.replicas.get(&number) {
                Some(replica) => cells.push((replica.clone(), cell(version, p, n))),
                None => {
                    let what = format!(
                        "{name}: it has a cell of replica {number}, which has no record that can be read"
                    );
                    self.found(what, Consequence::SetAside);
                }
            }
        }
        if CounterKey::from_bytes(&key[1..]).is_ok() {
            let (generation, expires_at) = (state.generation, state.expires_at);
            self.counters.push(StoredCounter {
                key: key[1..].to_vec(),
                generation,
                expires_at,
                cells,
            });
        }
    }
}

fn cell(version: Version, p: u64, n: u64) -> Cell {
    Cell { version, p, n }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
