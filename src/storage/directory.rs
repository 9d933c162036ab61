//! A node's data directory: who may use it, what it has been, and what to do when the database in it is damaged.
//!
//! ```text
//! LOCK             locked while a process uses the directory; holds that process's number
//! identity.toml    format, node id, boot number: written anew, durably, at every start
//! checkpoint       number of the last checkpoint that is certain to be in the database (8 bytes LE), and their CRC-32
//!                  (4 bytes LE); a database that ends before it has lost its end
//! db/              the sled database
//! db.new/, db.old/ a compaction under way
//! db.damaged-N/    a database that could not be trusted, kept aside
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::record::FORMAT;
use super::recover::RecoverError;
use super::sled_backend::{io_error, sync_dir};
use super::{Checkpointer, Damage, Recovered, SledStorage, Storage, StorageError, recover};
use crate::id::NodeId;
use crate::table::StoredCounter;

/// A directory held by this process; let go when dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
    identity: Option<Identity>,
    checkpoint: Option<File>,
}

/// What a directory says of itself outside the database, so that a lost database is never taken for a new one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub format: u32,
    pub node: String,
    /// How often a node has started on this directory.
    pub boot: u64,
    /// Whether there has been a database in it.
    pub database: bool,
}

/// A database that passed every check, or a new one.
pub struct OpenedDatabase {
    pub storage: SledStorage,
    /// `None` for a new one.
    pub recovered: Option<Recovered>,
    /// Where the damaged one before it went, and what was wrong.
    pub set_aside: Option<(PathBuf, Damage)>,
}

const IDENTITY: &str = "identity.toml";
const DATABASE: &str = "db";
const CHECKPOINT: &str = "checkpoint";

impl DataDir {
    /// Makes the directory if need be, and locks it.
    ///
    /// # Errors
    /// When another process holds it, or it is no directory of this version, or the file system refuses.
    pub fn open(path: &Path) -> Result<DataDir, StorageError> {
        fs::create_dir_all(path).map_err(io_error("create", path))?;
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_dir(parent)?;
        }
        DataDir::lock(path)
    }

    /// Locks a directory that must be there already.
    ///
    /// # Errors
    /// As [`open`](Self::open), and when there is no data directory at this path.
    pub fn open_existing(path: &Path) -> Result<DataDir, StorageError> {
        let missing =
            |why: &str| StorageError::Missing { path: path.to_owned(), why: why.to_owned() };
        if !path.is_dir() {
            return Err(missing("there is no directory"));
        }
        if !path.join(IDENTITY).exists() && !path.join(DATABASE).exists() {
            return Err(missing("it holds neither identity.toml nor db"));
        }
        DataDir::lock(path)
    }

    fn lock(path: &Path) -> Result<DataDir, StorageError> {
        let lock_path = path.join("LOCK");
        let mut lock = OpenOptions::new()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(io_error("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Who it is helps, but not knowing it must not hide that somebody is.
                let _ = lock.read_to_string(&mut holder);
                let holder = Some(holder.trim().to_owned()).filter(|text| !text.is_empty());
                return Err(StorageError::Held { path: path.to_owned(), holder });
            }
            Err(TryLockError::Error(source)) => return Err(io_error("lock", &lock_path)(source)),
        }
        lock.set_len(0).map_err(io_error("write", &lock_path))?;
        write!(lock, "process {}", std::process::id()).map_err(io_error("write", &lock_path))?;
        let identity = read_identity(path)?;
        Ok(DataDir { path: path.to_owned(), _lock: lock, identity, checkpoint: None })
    }

    /// What the directory said of itself when it was opened.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// Opens the database and hands each counter in it to `visit`. A damaged one is kept aside under a new name and a new
    /// one begun; `start_over` is called then, to throw away what was visited.
    ///
    /// # Errors
    /// When the directory is another node's or another version's, or the file system refuses.
    pub fn open_database(
        &self,
        node: &NodeId,
        mut visit: impl FnMut(StoredCounter),
        mut start_over: impl FnMut(),
    ) -> Result<OpenedDatabase, StorageError> {
        let path = self.path.join(DATABASE);
        let used_before = self.identity.as_ref().is_some_and(|identity| identity.database);
        let damage = match self.read_database(&path, &mut visit) {
            Ok((storage, Some(recovered))) => {
                self.check_node(node.as_str(), Some(recovered.meta.node.as_str()))?;
                return Ok(OpenedDatabase { storage, recovered: Some(recovered), set_aside: None });
            }
            Ok((storage, None)) if !used_before => {
                return Ok(OpenedDatabase { storage, recovered: None, set_aside: None });
            }
            Ok((_, None)) => Damage::NoMeta,
            Err(ReadError::Damage(damage)) => damage,
            Err(ReadError::Other(error)) => return Err(error),
        };
        if !used_before && matches!(damage, Damage::NoMeta) {
            let why = "its db is not tallymesh's".to_owned();
            return Err(StorageError::Foreign { path: self.path.clone(), why });
        }
        start_over();
        let aside = self.free_name();
        if path.exists() {
            fs::rename(&path, &aside).map_err(io_error("rename", &path))?;
            sync_dir(&self.path)?;
        }
        let storage = SledStorage::open(&path)?;
        Ok(OpenedDatabase { storage, recovered: None, set_aside: Some((aside, damage)) })
    }

    /// Reads the database and leaves everything as it is.
    ///
    /// # Errors
    /// When there is none, or it is damaged, or the file system refuses.
    pub fn read(&self, mut visit: impl FnMut(StoredCounter)) -> Result<Recovered, StorageError> {
        let foreign = |why: String| StorageError::Foreign { path: self.path.clone(), why };
        let path = self.path.join(DATABASE);
        if !path.is_dir() {
            return Err(foreign("its db is missing".to_owned()));
        }
        match self.read_database(&path, &mut visit) {
            Ok((_, Some(recovered))) => Ok(recovered),
            Ok((_, None)) => Err(foreign(Damage::NoMeta.to_string())),
            Err(ReadError::Damage(damage)) => {
                Err(StorageError::Damaged { path, why: damage.to_string() })
            }
            Err(ReadError::Other(error)) => Err(error),
        }
    }

    fn read_database(
        &self,
        path: &Path,
        visit: &mut impl FnMut(StoredCounter),
    ) -> Result<(SledStorage, Option<Recovered>), ReadError> {
        let storage =
            SledStorage::open(path).map_err(|error| match error {
                StorageError::Panicked(_)
                | StorageError::Sled(
                    sled::Error::Corruption { .. } | sled::Error::ReportableBug(_),
                ) => ReadError::Damage(Damage::Unreadable(error)),
                other => ReadError::Other(other),
            })?;
        match recover(&storage, visit) {
            Ok(Some(recovered)) if recovered.checkpoint < self.noted_checkpoint() => {
                let (expected, found) = (self.noted_checkpoint(), recovered.checkpoint);
                Err(ReadError::Damage(Damage::Older { expected, found }))
            }
            Ok(recovered) => Ok((storage, recovered)),
            Err(RecoverError::Damage(damage)) => Err(ReadError::Damage(damage)),
            Err(error @ RecoverError::OtherFormat { .. }) => {
                let (path, why) = (self.path.clone(), error.to_string());
                Err(ReadError::Other(StorageError::Foreign { path, why }))
            }
        }
    }

    /// Takes the next boot number, durably. Nothing may be admitted before this.
    ///
    /// # Errors
    /// When the directory is another node's, or the file system refuses.
    pub fn next_boot(&mut self, node: &NodeId) -> Result<u64, StorageError> {
        self.check_node(node.as_str(), self.identity.as_ref().map(|identity| &*identity.node))?;
        let before = self.identity.as_ref();
        let identity = Identity {
            format: FORMAT,
            node: node.as_str().to_owned(),
            boot: before.map_or(0, |identity| identity.boot) + 1,
            database: before.is_some_and(|identity| identity.database),
        };
        let boot = identity.boot;
        self.write_identity(identity)?;
        Ok(boot)
    }

    /// Begins checkpoints on a database that was just opened; from then on, its absence is damage.
    ///
    /// # Errors
    /// Any of the storage's.
    pub fn begin_checkpoints(
        &mut self,
        storage: Box<dyn Storage>,
        recovered: Option<&Recovered>,
        node: &NodeId,
    ) -> Result<Checkpointer, StorageError> {
        let checkpointer = Checkpointer::on(storage, recovered, node)?;
        if let Some(identity) = self.identity.clone().filter(|identity| !identity.database) {
            self.write_identity(Identity { database: true, ..identity })?;
        }
        let path = self.path.join(CHECKPOINT);
        let file = OpenOptions::new().create(true).write(true).truncate(true).open(&path);
        self.checkpoint = Some(file.map_err(io_error("open", &path))?);
        self.note_checkpoint(checkpointer.durable_epoch())?;
        Ok(checkpointer)
    }

    /// Notes, outside the database, how far it is certain to go. This is not synced: after a loss of power an older number
    /// may be found, which is as true.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn note_checkpoint(&mut self, epoch: u64) -> Result<(), StorageError> {
        let Some(file) = &mut self.checkpoint else { return Ok(()) };
        let epoch = epoch.to_le_bytes();
        let mut bytes = epoch.to_vec();
        bytes.extend_from_slice(&crc32fast::hash(&epoch).to_le_bytes());
        let written = file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(&bytes));
        written.map_err(io_error("write", &self.path.join(CHECKPOINT)))
    }

    /// How far the database is certain to go; 0 when that is not known.
    fn noted_checkpoint(&self) -> u64 {
        let Ok(bytes) = fs::read(self.path.join(CHECKPOINT)) else { return 0 };
        match (bytes.first_chunk::<8>(), bytes.get(8..)) {
            (Some(epoch), Some(crc)) if crc == crc32fast::hash(epoch).to_le_bytes() => {
                u64::from_le_bytes(*epoch)
            }
            _ => 0,
        }
    }

    fn write_identity(&mut self, identity: Identity) -> Result<(), StorageError> {
        let path = self.path.join(IDENTITY);
        let new = self.path.join("identity.toml.new");
        // Proven: plain fields are always valid TOML.
        let text = toml::to_string(&identity).expect("an identity is valid TOML");
        let written = File::create(&new).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
        written.map_err(io_error("write", &new))?;
        fs::rename(&new, &path).map_err(io_error("rename", &new))?;
        sync_dir(&self.path)?;
        self.identity = Some(identity);
        Ok(())
    }

    fn check_node(&self, expected: &str, found: Option<&str>) -> Result<(), StorageError> {
        match found.filter(|found| *found != expected) {
            None => Ok(()),
            Some(found) => Err(StorageError::OtherNode {
                path: self.path.clone(),
                found: found.to_owned(),
                expected: expected.to_owned(),
            }),
        }
    }

    fn free_name(&self) -> PathBuf {
        let boot = self.identity.as_ref().map_or(0, |identity| identity.boot);
        let name = |n: u64| self.path.join(format!("{DATABASE}.damaged-{n}"));
        let free = (boot..).map(name).find(|name| !name.exists());
        // Proven: there are more numbers than files.
        free.expect("some name is free")
    }
}

enum ReadError {
    Damage(Damage),
    Other(StorageError),
}

fn read_identity(path: &Path) -> Result<Option<Identity>, StorageError> {
    let file = path.join(IDENTITY);
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("read", &file)(error)),
    };
    let foreign = |why: String| StorageError::Foreign { path: path.to_owned(), why };
    let identity: Identity =
        toml::from_str(&text).map_err(|error| foreign(format!("{IDENTITY}: {error}")))?;
    if identity.format != FORMAT {
        let found = identity.format;
        return Err(foreign(format!("it has format {found}, and this version reads {FORMAT}")));
    }
    Ok(Some(identity))
}
