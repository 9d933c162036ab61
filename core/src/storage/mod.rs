//! Where state outlives the process: a small trait over ordered keys, its backends, and what is kept in them.

mod check;
mod checkpoint;
#[cfg(any(test, feature = "simulation"))]
mod conformance;
mod directory;
mod file_system;
#[cfg(test)]
mod memory;
mod persister;
mod progress;
mod record;
mod recover;
mod scratch;
mod sled_backend;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub use check::{Consequence, Finding, check};
#[cfg(feature = "simulation")]
pub use conformance::conforms;
pub use directory::DataDir;
pub use persister::{Opened, Persister};
#[cfg(feature = "simulation")]
pub use recover::Damage;

use checkpoint::Checkpointer;
use recover::{Recovered, recover};
use sled_backend::SledStorage;

/// Bytes by key, durable after [`sync`](Self::sync). One writer.
///
/// A backend need not offer transactions: after a crash any of the writes since the last sync may be there or not.
pub trait Storage: Send {
    /// Writes a value and returns the one it replaces.
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<Option<Vec<u8>>, StorageError>;

    /// The value under a key.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError>;

    /// Removes a key.
    fn remove(&mut self, key: &[u8]) -> Result<(), StorageError>;

    /// Calls `visit` with every key and value whose key begins with `prefix`, ascending.
    fn scan(&self, prefix: &[u8], visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), StorageError>;

    /// Returns once all writes so far survive a loss of power.
    fn sync(&mut self) -> Result<(), StorageError>;

    /// Whether a copy of what is in it, `live_bytes` of keys and values, would give back much disk space.
    fn is_wasteful(&self, live_bytes: u64) -> Result<bool, StorageError>;
}

/// What [`DataDir`] needs of a file system: a few small files, and the database. The simulator brings its own.
pub trait Files: Send {
    /// Where this is, for messages.
    fn path(&self) -> &Path;

    /// The content of a file; `None` when there is none.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StorageError>;

    /// Gives a file new content, durably: after a crash it has the old or the new.
    fn replace(&mut self, name: &str, bytes: &[u8]) -> Result<(), StorageError>;

    /// Writes to a file in place, without waiting for the disk.
    fn overwrite(&mut self, name: &str, bytes: &[u8]) -> Result<(), StorageError>;

    /// Whether there is a database, in whatever state.
    fn has_database(&self) -> bool;

    /// Opens the database, or makes one.
    fn open_database(&mut self) -> Result<Box<dyn Storage>, StorageError>;

    /// Gives the database a name that no other has, from this number on, so that the next one opened is new.
    fn set_database_aside(&mut self, number: u64) -> Result<PathBuf, StorageError>;

    /// Makes a new, empty database beside the present one, in the place of any that was begun before.
    fn begin_database(&mut self) -> Result<Box<dyn Storage>, StorageError>;

    /// Puts the database begun last in the place of the present one, and opens it. Both must have been let go, and the new
    /// one synced. A crash leaves one of the two.
    fn install_database(&mut self) -> Result<Box<dyn Storage>, StorageError>;

    /// Removes a database that was begun and will not be installed.
    fn abandon_database(&mut self);
}

/// What to do about an error of the file system's.
fn advice(error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            "free some space, or choose another data_dir"
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "make it writable for this process, or choose another data_dir"
        }
        ErrorKind::AlreadyExists | ErrorKind::NotADirectory | ErrorKind::IsADirectory => {
            "something else is in its place; move that away, or choose another data_dir"
        }
        _ => "mend the disk, or choose another data_dir",
    }
}

fn advice_on_sled(error: &sled::Error) -> &'static str {
    match error {
        sled::Error::Io(error) => advice(error),
        _ => "mend the disk, or move the data_dir's db away and let the peers bring the state back",
    }
}

/// A backend's refusal.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The file system refused.
    #[error("{doing} {path}: {source}; {}", advice(source))]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// sled refused.
    #[error("sled: {source}; {}", advice_on_sled(source))]
    Sled {
        /// What it said.
        #[from]
        source: sled::Error,
    },
    /// sled gave up in the middle.
    #[error("sled panicked: {0}")]
    Panicked(String),
    /// An earlier refusal ended the writing.
    #[error("writing ended at an earlier error")]
    GivenUp,
    /// Another process holds the directory.
    #[error(
        "data directory {path} is held by another process{}; give each instance its own data_dir, or stop that process",
        holder.as_ref().map(|holder| format!(" ({holder})")).unwrap_or_default()
    )]
    Held {
        /// The directory.
        path: PathBuf,
        /// Who holds it, by its own word.
        holder: Option<String>,
    },
    /// The directory belongs to another node.
    #[error(
        "data directory {path} belongs to node {found:?}, this is node {expected:?}; set data_dir or node.id to match, \
         and never copy a data directory"
    )]
    OtherNode {
        /// The directory.
        path: PathBuf,
        /// The name in the directory.
        found: String,
        /// The name in the config.
        expected: String,
    },
    /// The directory was written by another version, or by something else.
    #[error(
        "data directory {path} is not one of this version: {why}; choose another data_dir, or move it away"
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// What the directory holds cannot be trusted.
    #[error(
        "{path} is damaged: {why}; when its node starts, it sets the damaged database aside and relearns the state from \
         its peers"
    )]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// There is no such directory.
    #[error("{path} is no data directory: {why}")]
    Missing {
        /// The directory.
        path: PathBuf,
        /// What was found.
        why: String,
    },
}
