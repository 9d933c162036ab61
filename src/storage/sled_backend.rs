//! Storage in sled 0.34, used the way it is safe.

use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Storage, StorageError};

/// A sled database, plus our own handle of its file.
pub struct SledStorage {
    db: sled::Db,
    file: File,
    /// The directory of the database.
    path: PathBuf,
    compact_from_bytes: u64,
}

/// More does not make single inserts faster, and less memory is left over for the counters.
const CACHE_BYTES: u64 = 32 * 1024 * 1024;
/// A smaller file is not worth a compaction.
const COMPACT_FROM_BYTES: u64 = 64 * 1024 * 1024;
/// Single inserts keep the file at about four times what is in it; from here on, most of it is waste.
const COMPACT_FROM_RATIO: u64 = 16;

/// The directory's own lock is ours by now, so who holds sled's is a thread of sled's that has not ended yet.
const LOCK_ATTEMPTS: u32 = 500;
const LOCK_WAIT: Duration = Duration::from_millis(10);

impl SledStorage {
    /// Opens the database in this directory, or makes one.
    ///
    /// # Errors
    /// Any refusal of sled's. sled panics on many a damaged file; that is an error here too.
    pub fn open(path: &Path) -> Result<SledStorage, StorageError> {
        SledStorage::open_compacting_from(path, COMPACT_FROM_BYTES)
    }

    pub(super) fn open_compacting_from(
        path: &Path,
        compact_from_bytes: u64,
    ) -> Result<SledStorage, StorageError> {
        finish_compaction(path)?;
        let (db, file) = open_database(path)?;
        Ok(SledStorage { db, file, path: path.to_owned(), compact_from_bytes })
    }

    /// Whether most of the file is no longer needed.
    fn is_wasteful(&self) -> Result<bool, StorageError> {
        let file_path = self.path.join("db");
        let metadata = self.file.metadata().map_err(io_error("measure", &file_path))?;
        if metadata.len() < self.compact_from_bytes {
            return Ok(false);
        }
        let mut live_bytes = 0;
        self.scan(&[], &mut |key, value| live_bytes += (key.len() + value.len()) as u64)?;
        Ok(metadata.len() / COMPACT_FROM_RATIO > live_bytes)
    }
}

/// Opens the database and its file, and makes both names durable.
fn open_database(path: &Path) -> Result<(sled::Db, File), StorageError> {
    let config = sled::Config::new().path(path).cache_capacity(CACHE_BYTES);
    let mut attempts_left = LOCK_ATTEMPTS;
    let db = loop {
        attempts_left -= 1;
        match without_panic(|| config.open())? {
            Err(error) if attempts_left > 0 && is_locked(&error) => std::thread::sleep(LOCK_WAIT),
            opened => break opened?,
        }
    };
    let file_path = path.join("db");
    let file = File::open(&file_path).map_err(io_error("open", &file_path))?;
    sync_dir(path)?;
    if let Some(parent) = path.parent() {
        sync_dir(parent)?;
    }
    Ok((db, file))
}

/// Whether somebody holds the database. sled says so only in words.
fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if error.to_string().contains("acquire lock"))
}

/// Where a compaction writes the copy, and where it puts the original until the copy has its name.
fn compaction_paths(path: &Path) -> (PathBuf, PathBuf) {
    (path.with_extension("new"), path.with_extension("old"))
}

/// Clears up after a compaction that a crash interrupted: the original counts until it is the copy that has the name.
fn finish_compaction(path: &Path) -> Result<(), StorageError> {
    let (new, old) = compaction_paths(path);
    if old.exists() && !path.exists() {
        fs::rename(&old, path).map_err(io_error("rename", &old))?;
    }
    for leftover in [new, old] {
        if leftover.exists() {
            fs::remove_dir_all(&leftover).map_err(io_error("remove", &leftover))?;
        }
    }
    Ok(())
}

impl Storage for SledStorage {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        // Never `apply_batch`: large batches over old keys take memory without bound.
        let replaced = without_panic(|| self.db.insert(key, value))??;
        Ok(replaced.map(|value| value.to_vec()))
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(without_panic(|| self.db.get(key))??.map(|value| value.to_vec()))
    }

    fn remove(&mut self, key: &[u8]) -> Result<(), StorageError> {
        without_panic(|| self.db.remove(key))??;
        Ok(())
    }

    fn scan(&self, prefix: &[u8], visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), StorageError> {
        let mut entries = self.db.scan_prefix(prefix);
        while let Some(entry) = without_panic(|| entries.next())? {
            let (key, value) = entry?;
            visit(&key, &value);
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        without_panic(|| self.db.flush())??;
        // sled's flush ends in sync_file_range, which does not survive a loss of power.
        self.file.sync_data().map_err(io_error("sync", &self.path.join("db")))
    }

    fn compact(&mut self) -> Result<bool, StorageError> {
        if !self.is_wasteful()? {
            return Ok(false);
        }
        let (new, old) = compaction_paths(&self.path);
        let mut copy = SledStorage::open(&new)?;
        let mut written = Ok(());
        self.scan(&[], &mut |key, value| {
            if written.is_ok() {
                written = copy.put(key, value).map(drop);
            }
        })?;
        written?;
        copy.sync()?;
        drop(copy);
        fs::rename(&self.path, &old).map_err(io_error("rename", &self.path))?;
        fs::rename(&new, &self.path).map_err(io_error("rename", &new))?;
        (self.db, self.file) = open_database(&self.path)?;
        fs::remove_dir_all(&old).map_err(io_error("remove", &old))?;
        Ok(true)
    }
}

fn without_panic<T>(run: impl FnOnce() -> T) -> Result<T, StorageError> {
    // sled's own state may be torn after a panic, but the database is only closed after one.
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        StorageError::Panicked(text.unwrap_or_else(|| "without a word".to_owned()))
    })
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(path: &Path) -> Result<(), StorageError> {
    let synced = File::open(path).and_then(|dir| dir.sync_all());
    synced.map_err(io_error("sync directory", path))
}

pub(super) fn io_error<'a>(
    doing: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> StorageError + 'a {
    move |source| StorageError::Io { doing, path: path.to_owned(), source }
}
