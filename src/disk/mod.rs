//! The machine's disk under core's two storage traits: a directory of files, with the database in sled.
//!
//! The only folder that knows sled. What sled says is turned into an opaque [`StorageError`] here.

mod durable;
mod file_system;
mod lock;
mod progress;
mod scratch;
mod sled;
#[cfg(test)]
mod tests;

use std::path::Path;

use tallymesh_core::storage::{DataDir, StorageError};

pub(crate) use file_system::FileSystem;
pub(crate) use progress::ReadProgress;
pub(crate) use scratch::Scratch;
pub(crate) use sled::{SledStore, without_panic};

/// Makes a data directory if need be, and locks it.
///
/// # Errors
/// When it is held already, or it is no directory of this version, or the file system returns an error.
pub(crate) fn open(path: &Path) -> Result<DataDir, StorageError> {
    DataDir::on(Box::new(FileSystem::open(path)?))
}

/// Locks a data directory that must be there already.
///
/// # Errors
/// As [`open`], and when there is no data directory at this path.
pub(crate) fn open_existing(path: &Path) -> Result<DataDir, StorageError> {
    must_exist(path)?;
    DataDir::on(Box::new(FileSystem::lock(path)?))
}

/// Nothing, if there is a data directory at this path.
///
/// # Errors
/// When there is none.
pub(crate) fn must_exist(path: &Path) -> Result<(), StorageError> {
    let missing = |why: &str| StorageError::Missing {
        place: path.display().to_string(),
        why: why.to_owned(),
    };
    if !path.is_dir() {
        return Err(missing("there is no directory"));
    }
    if !path.join(file_system::IDENTITY).exists() && !path.join(file_system::DATABASE).exists() {
        return Err(missing("it holds neither identity.toml nor db"));
    }
    Ok(())
}
