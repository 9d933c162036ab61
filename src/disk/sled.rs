//! The database in sled 0.34, used the way it is safe.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tallymesh_core::storage::{KvStore, StorageError};

use super::durable::{open_to_sync, rename, sync_dir};
use super::file_system::{advice, copy_dir, io_error, remove_dir};

/// A sled database, plus our own handle of its file.
pub(crate) struct SledStore {
    db: Database,
    file: File,
    /// The database's file.
    file_path: PathBuf,
}

/// More does not make single inserts faster, and less memory is left over for the counters.
const CACHE_BYTES: u64 = 32 * 1024 * 1024;
/// What sled writes to and frees at a time, unless told otherwise.
const SEGMENT_BYTES: u64 = 512 * 1024;
/// Beside a database, its copy while it is opened. What a crash leaves of one is removed when the next is made.
const COPY_EXTENSION: &str = "opening";
/// A smaller file is not worth a copy.
const WASTEFUL_FROM_BYTES: u64 = 64 * 1024 * 1024;
/// Single inserts keep the file at about four times what is in it; from here on, most of it is waste.
const WASTEFUL_FROM_RATIO: u64 = 16;

/// The directory's own lock is ours by now, so what still holds sled's is a thread of sled's that has not ended yet.
const LOCK_ATTEMPTS: u32 = 500;
const LOCK_WAIT: Duration = Duration::from_millis(10);

impl SledStore {
    /// Opens the database in this directory, or makes one, and makes its names durable.
    ///
    /// # Errors
    /// Any refusal of sled's. sled panics on many a damaged file; that is an error here too.
    pub(crate) fn open(path: &Path) -> Result<SledStore, StorageError> {
        remove_unfinished_snapshots(path)?;
        make_snapshot_durable(path)?;
        let config = sled::Config::new().path(path).cache_capacity(CACHE_BYTES);
        let mut attempts_left = LOCK_ATTEMPTS;
        let db = loop {
            attempts_left -= 1;
            match without_panic(|| config.open())? {
                Err(error) if attempts_left > 0 && is_locked(&error) => {
                    std::thread::sleep(LOCK_WAIT);
                }
                Err(error) if is_locked(&error) => {
                    return Err(StorageError::Busy { place: path.display().to_string() });
                }
                opened => break opened.map_err(sled_error)?,
            }
        };
        // sled does not sync its settings, and cannot open a database without them.
        let settings = path.join("conf");
        open_to_sync(&settings)
            .and_then(|file| file.sync_all())
            .map_err(io_error("sync", &settings))?;
        let file_path = path.join("db");
        let file = open_to_sync(&file_path).map_err(io_error("open", &file_path))?;
        sync_dir(path)?;
        if let Some(parent) = path.parent() {
            sync_dir(parent)?;
        }
        Ok(SledStore { db: Database(Some(db)), file, file_path })
    }
}

/// A crash may leave a snapshot half written, which sled would then take for its newest.
fn remove_unfinished_snapshots(path: &Path) -> Result<(), StorageError> {
    let Ok(entries) = fs::read_dir(path) else { return Ok(()) };
    let names = entries.flatten().map(|entry| entry.path());
    let unfinished: Vec<PathBuf> = names.filter(|name| is_unfinished(name)).collect();
    for name in &unfinished {
        fs::remove_file(name).map_err(io_error("remove", name))?;
    }
    // sled makes one of the same name again, and this one must not come back under it.
    if unfinished.is_empty() { Ok(()) } else { sync_dir(path) }
}

/// Gives the database the snapshot that sled is about to make of it, durably.
///
/// While sled opens a database, it takes a snapshot of where everything is, and overwrites what the snapshot no longer needs:
/// but the snapshot's name is not durable yet, and without it the rest of the log may not be found after a loss of power. So
/// sled opens a copy first, and the snapshot of that is the same.
fn make_snapshot_durable(path: &Path) -> Result<(), StorageError> {
    let file_path = path.join("db");
    match fs::metadata(&file_path) {
        // It is not overwritten: the log goes on in it.
        Ok(metadata) if metadata.len() <= SEGMENT_BYTES => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => _ = metadata.map_err(io_error("measure", &file_path))?,
    }
    wait_until_closed(path)?;
    let copy = path.with_extension(COPY_EXTENSION);
    remove_dir(&copy)?;
    copy_dir(path, &copy)?;
    // If it is damaged, opening the database itself will say so.
    let _ = without_panic(|| drop(sled::Config::new().path(&copy).open()));
    wait_until_closed(&copy)?;
    let (old, made) = (snapshots(path)?, snapshots(&copy)?);
    if let Some(new) = made.last().filter(|new| !old.contains(new)) {
        let unnamed = path.join(new).with_extension("generating");
        let copied =
            fs::copy(copy.join(new), &unnamed).and_then(|_| open_to_sync(&unnamed)?.sync_all());
        copied.map_err(io_error("write", &unnamed))?;
        rename(&unnamed, &path.join(new))?;
        sync_dir(path)?;
        for old in old {
            fs::remove_file(path.join(&old)).map_err(io_error("remove", &path.join(&old)))?;
        }
    }
    remove_dir(&copy)
}

/// The names of the finished snapshots in a database's directory, the newest last.
fn snapshots(path: &Path) -> Result<Vec<OsString>, StorageError> {
    let entries = fs::read_dir(path).map_err(io_error("list", path))?;
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(io_error("list", path))?.file_name();
        if name.to_string_lossy().starts_with("snap.") && !is_unfinished(Path::new(&name)) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn is_unfinished(snapshot: &Path) -> bool {
    snapshot.extension().is_some_and(|extension| extension == "generating")
}

/// Whether the database is locked. sled says so only in words.
fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if error.to_string().contains("acquire lock"))
}

/// Waits until sled has let go of a database that was closed: its threads may outlive the handle, and write by path.
pub(super) fn wait_until_closed(path: &Path) -> Result<(), StorageError> {
    let file_path = path.join("db");
    let Ok(file) = File::open(&file_path) else { return Ok(()) };
    for _ in 0..LOCK_ATTEMPTS {
        match file.try_lock() {
            Ok(()) => {
                // At once, where a process forked off has the file open too; else its closing does it, so a refusal is nothing.
                let _ = file.unlock();
                return Ok(());
            }
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => std::thread::sleep(LOCK_WAIT),
        }
    }
    // Who holds it says nothing of what is in it.
    Err(StorageError::Busy { place: path.display().to_string() })
}

/// A database that is closed without a panic: sled's own closing panics where a sync fails.
struct Database(Option<sled::Db>);

impl Database {
    #[expect(clippy::expect_used, reason = "only its drop takes the database away")]
    fn get(&self) -> &sled::Db {
        self.0.as_ref().expect("the database is open")
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // Nothing that a failed sync left undone was claimed to be durable.
        let _ = without_panic(|| drop(self.0.take()));
    }
}

impl KvStore for SledStore {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        // Never `apply_batch`: large batches over old keys take memory without bound.
        let replaced = without_panic(|| self.db.get().insert(key, value))?.map_err(sled_error)?;
        Ok(replaced.map(|value| value.to_vec()))
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(without_panic(|| self.db.get().get(key))?
            .map_err(sled_error)?
            .map(|value| value.to_vec()))
    }

    fn remove(&mut self, key: &[u8]) -> Result<(), StorageError> {
        without_panic(|| self.db.get().remove(key))?.map_err(sled_error)?;
        Ok(())
    }

    fn scan(&self, prefix: &[u8], visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), StorageError> {
        let mut entries = self.db.get().scan_prefix(prefix);
        while let Some(entry) = without_panic(|| entries.next())? {
            let (key, value) = entry.map_err(sled_error)?;
            visit(&key, &value);
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        without_panic(|| self.db.get().flush())?.map_err(sled_error)?;
        // sled's flush ends in sync_file_range, which does not survive a loss of power.
        self.file.sync_data().map_err(io_error("sync", &self.file_path))
    }

    fn is_wasteful(&self, live_bytes: u64) -> Result<bool, StorageError> {
        let metadata = self.file.metadata().map_err(io_error("measure", &self.file_path))?;
        let bytes = metadata.len();
        Ok(bytes >= WASTEFUL_FROM_BYTES && bytes / WASTEFUL_FROM_RATIO > live_bytes)
    }
}

pub(crate) fn without_panic<T>(run: impl FnOnce() -> T) -> Result<T, StorageError> {
    // sled's own state may be torn after a panic, but the database is only closed after one.
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let text = text.unwrap_or_else(|| "without a word".to_owned());
        StorageError::Corrupt { what: format!("sled panicked: {text}"), source: None }
    })
}

/// What sled said, and whether it speaks of what is in the database or of the file system around it.
fn sled_error(error: sled::Error) -> StorageError {
    const DATABASE_ADVICE: &str = "fix or replace the disk, or move `db` in the data directory away and let the peers bring the state back";
    let (advice, is_corrupt) = match &error {
        sled::Error::Io(error) => {
            let kinds = [io::ErrorKind::InvalidData, io::ErrorKind::UnexpectedEof];
            (advice(error), kinds.contains(&error.kind()))
        }
        // A flipped bit in its settings makes sled think of another version of itself.
        sled::Error::Corruption { .. }
        | sled::Error::ReportableBug(_)
        | sled::Error::Unsupported(_) => (DATABASE_ADVICE, true),
        _ => (DATABASE_ADVICE, false),
    };
    match is_corrupt {
        true => {
            let what = format!("sled: {error}; {advice}");
            StorageError::Corrupt { what, source: Some(error.into()) }
        }
        false => StorageError::Backend { backend: "sled", advice, source: error.into() },
    }
}
