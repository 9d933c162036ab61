//! A node's data directory: whose it is, what it has been, and what to do when the database in it is damaged.
//!
//! ```text
//! LOCK             locked while a process uses the directory; holds that process's number
//! identity.toml    format, node id, boot number: written anew, durably, at every start
//! checkpoint       number of the last checkpoint that is certain to be in the database (8 bytes LE), and their CRC-32
//!                  (4 bytes LE); a database that ends before it has lost its end
//! db/              the sled database
//! db.opening/      a copy of the database, for sled to make a snapshot of
//! db.new/, db.old/ a rewrite of the database under way
//! db.damaged-N/    a database that could not be trusted, kept aside
//! ```

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::file_system::FileSystem;
use super::record::FORMAT;
use super::recover::{Damage, RecoverError, boots_of};
use super::{Files, Recovered, Storage, StorageError, recover};
use tallymesh_core::id::NodeId;
use tallymesh_core::mutant::mutant;
use tallymesh_core::table::ReadCounter;

/// A directory that belongs to this process alone; let go when dropped.
pub struct DataDir {
    files: Box<dyn Files>,
    identity: Option<Identity>,
    /// The last checkpoint that the file of this name tells of.
    noted: u64,
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

/// A database as it was found.
pub enum Found {
    /// It passed every check.
    Whole(Box<dyn Storage>, Recovered),
    /// There was none.
    New(Box<dyn Storage>),
    /// It cannot be trusted; what was visited must be thrown away.
    Damaged(Damage),
}

const IDENTITY: &str = "identity.toml";
const CHECKPOINT: &str = "checkpoint";

impl DataDir {
    /// Makes the directory if need be, and locks it.
    ///
    /// # Errors
    /// When another process holds it, or it is no directory of this version, or the file system refuses.
    pub fn open(path: &Path) -> Result<DataDir, StorageError> {
        DataDir::over(Box::new(FileSystem::open(path)?))
    }

    /// Locks a directory that must be there already.
    ///
    /// # Errors
    /// As [`open`](Self::open), and when there is no data directory at this path.
    pub fn open_existing(path: &Path) -> Result<DataDir, StorageError> {
        DataDir::must_exist(path)?;
        DataDir::over(Box::new(FileSystem::lock(path)?))
    }

    /// Nothing, if there is a data directory at this path.
    ///
    /// # Errors
    /// When there is none.
    pub fn must_exist(path: &Path) -> Result<(), StorageError> {
        let missing =
            |why: &str| StorageError::Missing { path: path.to_owned(), why: why.to_owned() };
        if !path.is_dir() {
            return Err(missing("there is no directory"));
        }
        if !path.join(IDENTITY).exists() && !path.join("db").exists() {
            return Err(missing("it holds neither identity.toml nor db"));
        }
        Ok(())
    }

    /// A directory on these files, which nobody else may use.
    ///
    /// # Errors
    /// When it is no directory of this version, or the files cannot be read.
    pub fn over(files: Box<dyn Files>) -> Result<DataDir, StorageError> {
        let identity = read_identity(&*files)?;
        let noted = files.read(CHECKPOINT)?.as_deref().and_then(read_checkpoint).unwrap_or(0);
        Ok(DataDir { files, identity, noted })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.files.path()
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
    /// When the directory is another node's, or the file system refuses.
    pub fn open_database(&mut self, node: &NodeId) -> Result<Opening, StorageError> {
        self.check_node(node.as_str(), self.identity.as_ref().map(|identity| &*identity.node))?;
        if self.was_used() && !self.files.has_database() {
            return Ok(Opening::Damaged(Damage::NoMeta));
        }
        match self.files.open_database() {
            Ok(storage) => Ok(Opening::Open(storage)),
            Err(error) if is_damage(&error) => Ok(Opening::Damaged(Damage::Unreadable(error))),
            Err(error) => Err(error),
        }
    }

    /// Takes the next boot number, durably: higher than the identity says, and than any incarnation of the node that the
    /// database knows. Nothing may be admitted before this.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn next_boot(&mut self, node: &NodeId, opening: &Opening) -> Result<u64, StorageError> {
        let in_identity = self.identity.as_ref().map_or(0, |identity| identity.boot);
        let in_database = match opening {
            Opening::Open(storage) => boots_of(&**storage, node),
            Opening::Damaged(_) => 0,
        };
        let step = if mutant!(ReplicaIdReused) { 0 } else { 1 };
        let boot = in_identity.max(in_database).saturating_add(step).max(1);
        self.write_identity(Identity {
            format: FORMAT,
            node: node.as_str().to_owned(),
            boot,
            database: self.was_used(),
        })?;
        Ok(boot)
    }

    /// Checks all that is in an opened database, and hands each counter in it to `visit`.
    ///
    /// # Errors
    /// When the database is another node's, another version's, or something else's.
    pub fn read_database(
        &self,
        opening: Opening,
        node: Option<&NodeId>,
        visit: impl FnMut(ReadCounter<'_>),
    ) -> Result<Found, StorageError> {
        let storage = match opening {
            Opening::Open(storage) => storage,
            Opening::Damaged(damage) => return Ok(Found::Damaged(damage)),
        };
        let foreign = |why: String| StorageError::Foreign { path: self.path().to_owned(), why };
        match recover(&*storage, visit) {
            Ok(Some(recovered)) => {
                if let Some(node) = node {
                    self.check_node(node.as_str(), Some(recovered.meta.node.as_str()))?;
                }
                if recovered.checkpoint < self.noted {
                    let (expected, found) = (self.noted, recovered.checkpoint);
                    return Ok(Found::Damaged(Damage::Older { expected, found }));
                }
                Ok(Found::Whole(storage, recovered))
            }
            Ok(None) if !self.was_used() => Ok(Found::New(storage)),
            Ok(None) => Ok(Found::Damaged(Damage::NoMeta)),
            Err(RecoverError::Damage(Damage::NoMeta)) if !self.was_used() => {
                Err(foreign("its db is not tallymesh's".to_owned()))
            }
            Err(RecoverError::Damage(damage)) => Ok(Found::Damaged(damage)),
            Err(error @ RecoverError::OtherFormat { .. }) => Err(foreign(error.to_string())),
        }
    }

    /// Reads a database that must be there, and leaves everything as it is.
    ///
    /// # Errors
    /// When there is none, or it is damaged, or the file system refuses.
    pub fn read(&mut self, visit: impl FnMut(ReadCounter<'_>)) -> Result<Recovered, StorageError> {
        let damaged = |dir: &DataDir, damage: &Damage| {
            let path = dir.path().join("db");
            StorageError::Damaged { path, why: damage.to_string() }
        };
        if !self.files.has_database() {
            return Err(damaged(self, &Damage::NoMeta));
        }
        let opening = match self.files.open_database() {
            Ok(storage) => Opening::Open(storage),
            Err(error) if is_damage(&error) => Opening::Damaged(Damage::Unreadable(error)),
            Err(error) => return Err(error),
        };
        match self.read_database(opening, None, visit)? {
            Found::Whole(_, recovered) => Ok(recovered),
            Found::New(_) => Err(damaged(self, &Damage::NoMeta)),
            Found::Damaged(damage) => Err(damaged(self, &damage)),
        }
    }

    /// Keeps a damaged database aside, and begins a new one.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn replace_damaged(&mut self) -> Result<(PathBuf, Box<dyn Storage>), StorageError> {
        let boot = self.identity.as_ref().map_or(0, |identity| identity.boot);
        let aside = self.files.set_database_aside(boot)?;
        Ok((aside, self.files.open_database()?))
    }

    /// The last checkpoint that was certain. A new database goes on counting from there, or it would be taken for an old one.
    pub fn noted_checkpoint(&self) -> u64 {
        self.noted
    }

    /// Notes that there is a database now: from here on, its absence is damage.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn note_database(&mut self) -> Result<(), StorageError> {
        match self.identity.clone().filter(|identity| !identity.database) {
            Some(identity) => self.write_identity(Identity { database: true, ..identity }),
            None => Ok(()),
        }
    }

    /// Notes, outside the database, how far it is certain to go. This is not synced: after a loss of power an older number
    /// may be found, which is as true.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn note_checkpoint(&mut self, epoch: u64) -> Result<(), StorageError> {
        if epoch > self.noted {
            let number = epoch.to_le_bytes();
            let mut bytes = number.to_vec();
            bytes.extend_from_slice(&crc32fast::hash(&number).to_le_bytes());
            self.files.overwrite(CHECKPOINT, &bytes)?;
            self.noted = epoch;
        }
        Ok(())
    }

    /// The files, for a rewrite of the database.
    pub fn files(&mut self) -> &mut dyn Files {
        &mut *self.files
    }

    fn write_identity(&mut self, identity: Identity) -> Result<(), StorageError> {
        // Proven: plain fields are always valid TOML.
        let text = toml::to_string(&identity).expect("an identity is valid TOML");
        self.files.replace(IDENTITY, text.as_bytes())?;
        self.identity = Some(identity);
        Ok(())
    }

    fn check_node(&self, expected: &str, found: Option<&str>) -> Result<(), StorageError> {
        match found.filter(|found| *found != expected) {
            None => Ok(()),
            Some(found) => Err(StorageError::OtherNode {
                path: self.path().to_owned(),
                found: found.to_owned(),
                expected: expected.to_owned(),
            }),
        }
    }
}

/// A database that was opened and not yet checked.
pub enum Opening {
    Open(Box<dyn Storage>),
    Damaged(Damage),
}

/// Whether an error of the database's speaks of what is in it, and not of the file system around it.
pub(super) fn is_damage(error: &StorageError) -> bool {
    match error {
        StorageError::Panicked(_) => true,
        StorageError::Sled { source: sled::Error::Io(error) } => matches!(
            error.kind(),
            std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof
        ),
        StorageError::Sled { source } => {
            // A flipped bit in its settings makes sled think of another version of itself.
            matches!(
                source,
                sled::Error::Corruption { .. }
                    | sled::Error::ReportableBug(_)
                    | sled::Error::Unsupported(_)
            )
        }
        _ => false,
    }
}

pub(super) fn read_checkpoint(bytes: &[u8]) -> Option<u64> {
    let (epoch, crc) = bytes.split_first_chunk::<8>()?;
    (crc == crc32fast::hash(epoch).to_le_bytes()).then(|| u64::from_le_bytes(*epoch))
}

pub(super) fn read_identity(files: &dyn Files) -> Result<Option<Identity>, StorageError> {
    let Some(bytes) = files.read(IDENTITY)? else { return Ok(None) };
    let foreign = |why: String| StorageError::Foreign { path: files.path().to_owned(), why };
    let text = String::from_utf8_lossy(&bytes);
    let identity: Identity = toml::from_str(&text).map_err(|error| {
        foreign(format!(
            "{IDENTITY} cannot be read ({}); if the directory is this node's, delete that file and the boot number is taken \
             from the database",
            error.message()
        ))
    })?;
    if identity.format != FORMAT {
        let found = identity.format;
        return Err(foreign(format!("it has format {found}, and this version reads {FORMAT}")));
    }
    Ok(Some(identity))
}
