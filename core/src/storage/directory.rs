//! A node's data directory: whose it is, what it has been, and what to do when the database in it is damaged.
//!
//! ```text
//! LOCK             locked while a process uses the directory; holds that process's number
//! LOCK.holder      holds the number in its place where a locked file cannot be read: on Windows
//! identity.toml    format, node id, boot number: replaced, durably, at every start
//! checkpoint       number of the last checkpoint that is certain to be in the database (8 bytes LE), and their CRC-32
//!                  (4 bytes LE); a database that ends before it has lost its end
//! db/              the sled database
//! db.opening/      a copy of the database, for sled to make a snapshot of
//! db.new/, db.old/ a rewrite of the database under way
//! db.damaged-N/    a database that could not be trusted, set aside
//! rejected/        copies of single records that no version writes
//! ```

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::carry_over::{CarriedOver, CarryOver, carried_over};
use super::format_1;
use super::record::FORMAT;
use super::recover::{Damage, RecoverError, Recovered, boots_of, recover};
use super::walk::{BadMeta, read_meta};
use super::{Fields, Files, KvStore, StorageError};
use crate::id::{Incarnation, NodeId};
use crate::mutant::mutant;
use crate::table::StoredCounter;
use crate::time::Timestamp;

/// A directory that belongs to this process alone; let go when dropped.
pub struct DataDir {
    files: Box<dyn Files>,
    identity: Option<Identity>,
    noted: u64,
}

/// What a directory says of itself outside the database, so that a lost database is never taken for a new one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// The version of the disk format, [`FORMAT`].
    pub format: u32,
    /// The node's name.
    pub node: String,
    /// The boot number of the last start on this directory.
    pub boot: u64,
    /// Whether there has been a database in it.
    pub database: bool,
    /// What a newer version added.
    #[serde(flatten)]
    pub others: Fields,
}

/// The number of the last checkpoint that is certain to be in the database, as the file beside it holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Note(pub u64);

/// So far above what is known by oneself, a boot number that was found elsewhere is heeded: 17 minutes, where it is a time.
const BOOTS_AHEAD_MAX: u64 = 1 << 20;

impl Note {
    /// The number, little-endian, and its CRC-32.
    pub fn bytes(self) -> Vec<u8> {
        let number = self.0.to_le_bytes();
        let mut bytes = number.to_vec();
        bytes.extend_from_slice(&crc32fast::hash(&number).to_le_bytes());
        bytes
    }

    /// Reads what [`bytes`](Self::bytes) wrote; `None` if it is anything else.
    pub fn read(bytes: &[u8]) -> Option<Note> {
        let (number, crc) = bytes.split_first_chunk::<8>()?;
        (crc == crc32fast::hash(number).to_le_bytes()).then(|| Note(u64::from_le_bytes(*number)))
    }
}

/// A database as it was found.
pub(super) enum Found {
    /// It passed every check.
    Whole(Box<dyn KvStore>, Box<Recovered>),
    /// There was none.
    New(Box<dyn KvStore>),
    /// It cannot be trusted; what was visited must be thrown away.
    Damaged(Damage),
}

/// A database that was opened and not yet checked.
pub(super) enum Opening {
    Open(Box<dyn KvStore>),
    Damaged(Damage),
}

impl DataDir {
    /// A directory on these files, which nothing else may use meanwhile.
    ///
    /// # Errors
    /// When it is no directory of this version, or the files cannot be read.
    pub fn on(files: Box<dyn Files>) -> Result<DataDir, StorageError> {
        let identity = read_identity(&*files)?;
        let noted = files.read_note()?.as_deref().and_then(Note::read);
        Ok(DataDir { files, identity, noted: noted.map_or(0, |note| note.0) })
    }

    /// Where it is.
    pub fn place(&self) -> &str {
        self.files.place()
    }

    /// What the directory said of itself when it was opened.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// Whether a database was in use here before.
    fn was_used(&self) -> bool {
        self.noted > 0 || self.identity.as_ref().is_some_and(|identity| identity.database)
    }

    /// Opens the database. `Damaged` when it cannot even be opened.
    ///
    /// # Errors
    /// When the directory is another node's, or the file system returns an error.
    pub(super) fn open_database(&mut self, node: &NodeId) -> Result<Opening, StorageError> {
        self.check_node(node.as_str(), self.identity.as_ref().map(|identity| &*identity.node))?;
        if self.was_used() && !self.files.has_database() {
            return Ok(Opening::Damaged(Damage::NoMeta));
        }
        match self.files.open_database() {
            Ok(storage) => Ok(Opening::Open(storage)),
            Err(error) if error.is_corrupt() => Ok(Opening::Damaged(Damage::Unreadable(error))),
            Err(error) => Err(error),
        }
    }

    /// Takes the next boot number, durably: higher than the identity says, and at least the time in milliseconds, so that lives whose
    /// disk was lost are in order too; and higher than any incarnation of the node that the database knows, unless that is
    /// so far above both that only a lie of a peer can have brought it. Nothing may be admitted before this.
    ///
    /// # Errors
    /// When the file system returns an error.
    pub(super) fn next_boot(
        &mut self,
        node: &NodeId,
        opening: &Opening,
        clock: Timestamp,
    ) -> Result<u64, StorageError> {
        let in_identity = self.identity.as_ref().map_or(0, |identity| identity.boot);
        let in_database = match opening {
            Opening::Open(storage) => {
                let most = in_identity.max(clock.0).saturating_add(BOOTS_AHEAD_MAX);
                boots_of(&**storage, node, most)
            }
            Opening::Damaged(_) => 0,
        };
        let stored = in_identity.max(in_database);
        let boot = match stored > 0 && mutant!(ReplicaIdReused) {
            true => stored,
            false => Incarnation::boot_after(stored, clock.0),
        };
        self.write_boot(node, boot)?;
        Ok(boot)
    }

    /// Takes the next boot number while the node runs, durably.
    ///
    /// # Errors
    /// When the file system returns an error.
    pub(super) fn next_boot_while_open(
        &mut self,
        node: &NodeId,
        clock: Timestamp,
    ) -> Result<u64, StorageError> {
        let in_identity = self.identity.as_ref().map_or(0, |identity| identity.boot);
        let boot = Incarnation::boot_after(in_identity, clock.0);
        self.write_boot(node, boot)?;
        Ok(boot)
    }

    fn write_boot(&mut self, node: &NodeId, boot: u64) -> Result<(), StorageError> {
        let known = self.identity.as_ref();
        self.write_identity(Identity {
            // It stays until the database has another.
            format: known.map_or(FORMAT, |identity| identity.format),
            node: node.as_str().to_owned(),
            boot,
            database: self.was_used(),
            others: known.map_or_else(Fields::default, |identity| identity.others.clone()),
        })
    }

    /// If the database has format 1, puts one of the present format in its place that holds the same; otherwise returns it as it is.
    ///
    /// # Errors
    /// When it is another node's, or the file system returns an error. A damaged database is none.
    pub(super) fn carry_over(
        &mut self,
        node: &NodeId,
        opening: Opening,
        by: &CarryOver<'_>,
    ) -> Result<(Opening, Option<CarriedOver>), StorageError> {
        let old = match opening {
            Opening::Open(store) if matches!(read_meta(&*store), Err(BadMeta::OtherFormat(1))) => {
                store
            }
            opening => return Ok((opening, None)),
        };
        let contents = match format_1::read(&*old, |_| {}) {
            Ok(contents) => contents,
            Err(damage) => return Ok((Opening::Damaged(damage), None)),
        };
        self.check_node(node.as_str(), Some(contents.node.as_str()))?;
        if contents.checkpoint < self.noted {
            let (expected, found) = (self.noted, contents.checkpoint);
            return Ok((Opening::Damaged(Damage::Older { expected, found }), None));
        }
        let new = self.files.begin_database()?;
        let (writer, carried) = match carried_over(&*old, contents, new, by) {
            Ok(carried) => carried,
            Err(error) => {
                self.files.abandon_database();
                return Err(error);
            }
        };
        drop(old);
        // Before the new database is in place: a version that reads format 1 only must not open that, and take it for damaged.
        self.adopt_format()?;
        let store = writer.installed(&mut *self.files)?.into_store();
        Ok((Opening::Open(store), Some(carried)))
    }

    /// Says that the directory has the present format, before a database of that is put in it.
    ///
    /// # Errors
    /// When the file system returns an error.
    pub(super) fn adopt_format(&mut self) -> Result<(), StorageError> {
        match self.identity.clone().filter(|identity| identity.format != FORMAT) {
            Some(identity) => self.write_identity(Identity { format: FORMAT, ..identity }),
            None => Ok(()),
        }
    }

    /// Checks all that is in an opened database, and passes each counter in it to `visit`.
    ///
    /// # Errors
    /// When the database is another node's, another version's, or something else's.
    pub(super) fn read_database(
        &self,
        opening: Opening,
        node: Option<&NodeId>,
        visit: impl FnMut(StoredCounter<'_>),
    ) -> Result<Found, StorageError> {
        let storage = match opening {
            Opening::Open(storage) => storage,
            Opening::Damaged(damage) => return Ok(Found::Damaged(damage)),
        };
        let foreign = |why: String| StorageError::Foreign { place: self.place().to_owned(), why };
        match recover(&*storage, visit) {
            Ok(Some(recovered)) => {
                if let Some(node) = node {
                    self.check_node(node.as_str(), Some(recovered.meta.node.as_str()))?;
                }
                if recovered.checkpoint < self.noted {
                    let (expected, found) = (self.noted, recovered.checkpoint);
                    return Ok(Found::Damaged(Damage::Older { expected, found }));
                }
                Ok(Found::Whole(storage, Box::new(recovered)))
            }
            Ok(None) if !self.was_used() => Ok(Found::New(storage)),
            Ok(None) => Ok(Found::Damaged(Damage::NoMeta)),
            Err(RecoverError::Damage(Damage::NoMeta)) if !self.was_used() => {
                Err(foreign("its db is not tallymesh's".to_owned()))
            }
            Err(RecoverError::Damage(damage)) => Ok(Found::Damaged(damage)),
            Err(RecoverError::OtherFormat { found }) => Err(self.other_format(found)),
        }
    }

    /// Reads a database that must be there, and leaves everything as it is.
    ///
    /// # Errors
    /// When there is none, or it is damaged, or the file system returns an error.
    pub fn read(
        &mut self,
        visit: impl FnMut(StoredCounter<'_>),
    ) -> Result<Recovered, StorageError> {
        self.read_and_keep(visit).map(|(_, recovered)| recovered)
    }

    /// As [`read`](Self::read), for what goes on to write.
    pub(super) fn read_and_keep(
        &mut self,
        visit: impl FnMut(StoredCounter<'_>),
    ) -> Result<(Box<dyn KvStore>, Recovered), StorageError> {
        let damaged = |dir: &DataDir, damage: &Damage| {
            let place = format!("{}/db", dir.place());
            StorageError::Damaged { place, why: damage.to_string() }
        };
        if !self.files.has_database() {
            return Err(damaged(self, &Damage::NoMeta));
        }
        let opening = match self.files.open_database() {
            Ok(storage) => Opening::Open(storage),
            Err(error) if error.is_corrupt() => Opening::Damaged(Damage::Unreadable(error)),
            Err(error) => return Err(error),
        };
        match self.read_database(opening, None, visit)? {
            Found::Whole(store, recovered) => Ok((store, *recovered)),
            Found::New(_) => Err(damaged(self, &Damage::NoMeta)),
            Found::Damaged(damage) => Err(damaged(self, &damage)),
        }
    }

    /// Sets a damaged database aside, and begins a new one. Returns the name that it has now.
    ///
    /// # Errors
    /// When the file system returns an error.
    pub(super) fn replace_damaged(&mut self) -> Result<(String, Box<dyn KvStore>), StorageError> {
        let boot = self.identity.as_ref().map_or(0, |identity| identity.boot);
        let aside = self.files.set_database_aside(boot)?;
        Ok((aside, self.files.open_database()?))
    }

    /// The last checkpoint that was certain. A new database goes on counting from there, or it would be taken for an old one.
    pub(super) fn noted_checkpoint(&self) -> u64 {
        self.noted
    }

    /// Notes that there is a database now: from here on, its absence is damage.
    ///
    /// # Errors
    /// When the file system returns an error.
    pub(super) fn note_database(&mut self) -> Result<(), StorageError> {
        match self.identity.clone().filter(|identity| !identity.database) {
            Some(identity) => self.write_identity(Identity { database: true, ..identity }),
            None => Ok(()),
        }
    }

    /// Notes, outside the database, how far it is certain to go. This is not synced: after a loss of power an older number
    /// may be found, which is as true.
    ///
    /// # Errors
    /// When the file system returns an error.
    pub(super) fn note_checkpoint(&mut self, checkpoint: u64) -> Result<(), StorageError> {
        if checkpoint > self.noted {
            self.files.write_note(&Note(checkpoint).bytes())?;
            self.noted = checkpoint;
        }
        Ok(())
    }

    /// The files, for a rewrite of the database.
    pub(super) fn files(&mut self) -> &mut dyn Files {
        &mut *self.files
    }

    fn write_identity(&mut self, identity: Identity) -> Result<(), StorageError> {
        self.files.write_identity(&identity)?;
        self.identity = Some(identity);
        Ok(())
    }

    fn other_format(&self, found: u32) -> StorageError {
        other_format(self.place(), found)
    }

    fn check_node(&self, expected: &str, found: Option<&str>) -> Result<(), StorageError> {
        match found.filter(|found| *found != expected) {
            None => Ok(()),
            Some(found) => Err(StorageError::OtherNode {
                place: self.place().to_owned(),
                found: found.to_owned(),
                expected: expected.to_owned(),
            }),
        }
    }
}

/// What the directory says of itself, if this version can read it.
pub(super) fn read_identity(files: &dyn Files) -> Result<Option<Identity>, StorageError> {
    let Some(identity) = files.read_identity()? else { return Ok(None) };
    match identity.format {
        0 => {
            let why = "its identity says format 0, which no version writes".to_owned();
            Err(StorageError::Foreign { place: files.place().to_owned(), why })
        }
        1..=FORMAT => Ok(Some(identity)),
        later => Err(other_format(files.place(), later)),
    }
}

fn other_format(place: &str, found: u32) -> StorageError {
    StorageError::OtherFormat { place: place.to_owned(), found, read: FORMAT }
}
