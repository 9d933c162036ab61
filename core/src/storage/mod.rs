//! What outlives the process: which records there are, in what order they are written, and what is made of them at the
//! next start.
//!
//! The bytes themselves are kept by a backend behind two traits: [`KvStore`] for the database, [`Files`] for what stands
//! beside it. The library brings sled and a file system, the simulator a disk that forgets, fails and rots.

mod carry_over;
#[cfg(test)]
mod carry_over_tests;
mod checkpoint;
mod clock_mark;
mod conformance;
mod directory;
mod entries;
#[cfg(test)]
mod entries_tests;
mod error;
mod examine;
mod fields;
#[cfg(test)]
mod files_for_tests;
mod format_1;
mod marks;
mod members;
#[cfg(test)]
mod members_tests;
mod memory;
mod numbers;
#[cfg(test)]
mod page_tests;
mod put;
mod record;
mod recover;
mod rejected;
#[cfg(test)]
mod rejected_tests;
mod state_store;
#[cfg(test)]
mod tests;
mod walk;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

pub use carry_over::{CarriedOver, CarryOver};
pub use checkpoint::CheckpointWriter;
pub use clock_mark::ClockMark;
pub use conformance::conforms;
pub use directory::{DataDir, Identity, Note};
pub use error::{Holder, StorageError};
pub use examine::{Consequence, Examination, Finding};
pub use fields::Fields;
pub use memory::MemoryStore;
pub use record::{FORMAT, Meta};
pub use recover::{Damage, RecoverError, Recovered, recover};
pub use state_store::{OpenEvent, Opened, Start, StateStore};

/// Bytes by key, durable after [`sync`](Self::sync). One writer.
///
/// A backend need not offer transactions: after a crash any of the writes since the last sync may be there or not.
/// [`conforms`] is the suite that every implementation must pass.
pub trait KvStore: Send {
    /// Writes a value and returns the one it replaces.
    ///
    /// # Errors
    /// Whatever the backend fails at; [`StorageError::Corrupt`] if it finds its own content damaged. Likewise below.
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<Option<Vec<u8>>, StorageError>;

    /// The value under a key.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError>;

    /// Removes a key; one that is not there is no error.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    fn remove(&mut self, key: &[u8]) -> Result<(), StorageError>;

    /// Calls `visit` with every key and value whose key begins with `prefix`, ascending.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    fn scan(&self, prefix: &[u8], visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), StorageError>;

    /// Returns once all writes so far survive a loss of power.
    ///
    /// # Errors
    /// As [`put`](Self::put). Nothing written since the last sync may then be relied upon.
    fn sync(&mut self) -> Result<(), StorageError>;

    /// Whether a copy of what is in it, `live_bytes` of keys and values, would give back much disk space.
    ///
    /// # Errors
    /// When it cannot be measured.
    fn is_wasteful(&self, live_bytes: u64) -> Result<bool, StorageError>;
}

/// What [`DataDir`] needs of a file system: two small files, and the database. Held by one process at a time.
pub trait Files: Send {
    /// Where this is, for messages.
    fn place(&self) -> &str;

    /// What the directory says of itself; `None` if it says nothing yet.
    ///
    /// # Errors
    /// When the file cannot be read, or holds something else ([`StorageError::Foreign`]).
    fn read_identity(&self) -> Result<Option<Identity>, StorageError>;

    /// Replaces that, durably: after a crash there is the old or the new.
    ///
    /// # Errors
    /// When the file system returns one.
    fn write_identity(&mut self, identity: &Identity) -> Result<(), StorageError>;

    /// The bytes last written by [`write_note`](Self::write_note), or older ones after a loss of power.
    ///
    /// # Errors
    /// When the file cannot be read.
    fn read_note(&self) -> Result<Option<Vec<u8>>, StorageError>;

    /// Writes the note in place, without waiting for the disk.
    ///
    /// # Errors
    /// When the file system returns one.
    fn write_note(&mut self, bytes: &[u8]) -> Result<(), StorageError>;

    /// Whether there is a database, in whatever state.
    fn has_database(&self) -> bool;

    /// Opens the database, or makes one.
    ///
    /// # Errors
    /// When the backend or the file system returns one; [`StorageError::Corrupt`] if the database is damaged.
    fn open_database(&mut self) -> Result<Box<dyn KvStore>, StorageError>;

    /// Gives the database a name that no other has, from this number on, so that the next one opened is new. Returns that
    /// name.
    ///
    /// # Errors
    /// When the file system returns one.
    fn set_database_aside(&mut self, number: u64) -> Result<String, StorageError>;

    /// Makes a new, empty database beside the present one, in the place of any that was begun before.
    ///
    /// # Errors
    /// As [`open_database`](Self::open_database).
    fn begin_database(&mut self) -> Result<Box<dyn KvStore>, StorageError>;

    /// Puts the database begun last in the place of the present one, and opens it. Both must have been let go, and the new
    /// one synced. A crash leaves one of the two.
    ///
    /// # Errors
    /// As [`open_database`](Self::open_database).
    fn install_database(&mut self) -> Result<Box<dyn KvStore>, StorageError>;

    /// Keeps a copy of a rejected record under this name, durably, in a place that is bounded. Returns where that is; `None` if
    /// there is no room.
    ///
    /// # Errors
    /// When the file system returns an error.
    fn keep_rejected(&mut self, name: &str, text: &str) -> Result<Option<String>, StorageError>;

    /// Removes a database that was begun and will not be installed.
    fn abandon_database(&mut self);
}
