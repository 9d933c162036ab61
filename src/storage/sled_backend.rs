//! Storage in sled 0.34, used the way it is safe.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::{Storage, StorageError};

/// A sled database, plus our own handle of its file.
pub(crate) struct SledStorage {
    db: sled::Db,
    file: File,
    path: PathBuf,
}

/// More does not make single inserts faster, and less memory is left over for the counters.
const CACHE_BYTES: u64 = 32 * 1024 * 1024;

impl SledStorage {
    /// Opens the database in this directory, or makes one.
    ///
    /// # Errors
    /// Any refusal of sled's. sled panics on many a damaged file; that is an error here too.
    pub fn open(path: &Path) -> Result<SledStorage, StorageError> {
        let config = sled::Config::new().path(path).cache_capacity(CACHE_BYTES);
        let db = without_panic(|| config.open())??;
        let file_path = path.join("db");
        let file = File::open(&file_path).map_err(|source| StorageError::Io {
            doing: "open",
            path: file_path.clone(),
            source,
        })?;
        sync_dir(path)?;
        Ok(SledStorage { db, file, path: file_path })
    }
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
        self.file.sync_data().map_err(|source| StorageError::Io {
            doing: "sync",
            path: self.path.clone(),
            source,
        })
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
    synced.map_err(|source| StorageError::Io {
        doing: "sync directory",
        path: path.to_owned(),
        source,
    })
}
