//! Storage in sled 0.34, used the way it is safe.

use std::fs::{self, File};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::file_system::{io_error, sync_dir};
use super::{Storage, StorageError};

/// A sled database, plus our own handle of its file.
pub struct SledStorage {
    db: sled::Db,
    file: File,
    /// The database's file.
    file_path: PathBuf,
}

/// More does not make single inserts faster, and less memory is left over for the counters.
const CACHE_BYTES: u64 = 32 * 1024 * 1024;
/// A smaller file is not worth a copy.
const WASTEFUL_FROM_BYTES: u64 = 64 * 1024 * 1024;
/// Single inserts keep the file at about four times what is in it; from here on, most of it is waste.
const WASTEFUL_FROM_RATIO: u64 = 16;

/// The directory's own lock is ours by now, so who holds sled's is a thread of sled's that has not ended yet.
const LOCK_ATTEMPTS: u32 = 500;
const LOCK_WAIT: Duration = Duration::from_millis(10);

impl SledStorage {
    /// Opens the database in this directory, or makes one, and makes its names durable.
    ///
    /// # Errors
    /// Any refusal of sled's. sled panics on many a damaged file; that is an error here too.
    pub fn open(path: &Path) -> Result<SledStorage, StorageError> {
        remove_unfinished_snapshots(path)?;
        let config = sled::Config::new().path(path).cache_capacity(CACHE_BYTES);
        let mut attempts_left = LOCK_ATTEMPTS;
        let db = loop {
            attempts_left -= 1;
            match without_panic(|| config.open())? {
                Err(error) if attempts_left > 0 && is_locked(&error) => {
                    std::thread::sleep(LOCK_WAIT);
                }
                opened => break opened?,
            }
        };
        // sled does not sync its settings, and cannot open a database without them.
        let settings = path.join("conf");
        File::open(&settings)
            .and_then(|file| file.sync_all())
            .map_err(io_error("sync", &settings))?;
        let file_path = path.join("db");
        let file = File::open(&file_path).map_err(io_error("open", &file_path))?;
        sync_dir(path)?;
        if let Some(parent) = path.parent() {
            sync_dir(parent)?;
        }
        Ok(SledStorage { db, file, file_path })
    }
}

/// A crash may leave a snapshot half written, which sled would then take for its newest.
fn remove_unfinished_snapshots(path: &Path) -> Result<(), StorageError> {
    let Ok(entries) = fs::read_dir(path) else { return Ok(()) };
    for entry in entries.flatten() {
        let name = entry.path();
        if name.extension().is_some_and(|extension| extension == "generating") {
            fs::remove_file(&name).map_err(io_error("remove", &name))?;
        }
    }
    Ok(())
}

/// Whether somebody holds the database. sled says so only in words.
fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if error.to_string().contains("acquire lock"))
}

/// Waits until sled has let go of a database that was closed: its threads may outlive the handle, and write by path.
pub(super) fn wait_until_closed(path: &Path) -> Result<(), StorageError> {
    let file_path = path.join("db");
    let Ok(file) = File::open(&file_path) else { return Ok(()) };
    for _ in 0..LOCK_ATTEMPTS {
        if file.try_lock().is_ok() {
            return file.unlock().map_err(io_error("unlock", &file_path));
        }
        std::thread::sleep(LOCK_WAIT);
    }
    Err(StorageError::Panicked("sled does not let go of a database that was closed".to_owned()))
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
        self.file.sync_data().map_err(io_error("sync", &self.file_path))
    }

    fn is_wasteful(&self, live_bytes: u64) -> Result<bool, StorageError> {
        let metadata = self.file.metadata().map_err(io_error("measure", &self.file_path))?;
        let bytes = metadata.len();
        Ok(bytes >= WASTEFUL_FROM_BYTES && bytes / WASTEFUL_FROM_RATIO > live_bytes)
    }
}

pub(super) fn without_panic<T>(run: impl FnOnce() -> T) -> Result<T, StorageError> {
    // sled's own state may be torn after a panic, but the database is only closed after one.
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        StorageError::Panicked(text.unwrap_or_else(|| "without a word".to_owned()))
    })
}
