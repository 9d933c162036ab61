//! The lock of a data directory: the system's, which keeps other processes out, and our own list, which tells them from us.
//!
//! The system refuses a second lock of the same process as it refuses another process's, and does not say which it was. So
//! the directories that this process holds are listed here, by what they are and not by how they are called.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tallymesh_core::storage::{Holder, StorageError};

use super::file_system::io_error;

const NAME: &str = "LOCK";
/// Where the holder's name stands. On Windows a locked file can be read by its holder only.
const HOLDER: &str = if cfg!(windows) { "LOCK.holder" } else { NAME };

/// A directory that this process holds; let go when dropped.
#[derive(Debug)]
pub(super) struct DirectoryLock {
    /// Unlocked when it is dropped.
    file: Option<File>,
    held: Held,
}

/// A directory that is held by a process: a process that was forked off has a copy of the list, and holds none of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Held {
    process: u32,
    directory: DirectoryId,
}

/// A directory, by whatever path.
#[cfg(unix)]
type DirectoryId = (u64, u64);
#[cfg(not(unix))]
type DirectoryId = std::path::PathBuf;

static HELD: Mutex<BTreeSet<Held>> = Mutex::new(BTreeSet::new());

impl DirectoryLock {
    /// Locks a directory.
    ///
    /// # Errors
    /// When it is held already, or the file system returns an error.
    pub(super) fn take(directory: &Path) -> Result<DirectoryLock, StorageError> {
        let held = Held {
            process: std::process::id(),
            directory: identity(directory).map_err(io_error("read", directory))?,
        };
        let refused = |by| StorageError::Held { place: directory.display().to_string(), by };
        let mut list = list();
        if list.contains(&held) {
            return Err(refused(Holder::ThisProcess));
        }
        let path = directory.join(NAME);
        let file = OpenOptions::new()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .open(&path)
            .map_err(io_error("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                // The holder's name helps, but not knowing it must not hide that the directory is held.
                let name = fs::read_to_string(directory.join(HOLDER)).unwrap_or_default();
                let name = Some(name.trim().to_owned()).filter(|text| !text.is_empty());
                let name = name.map(|name| match name == own_name() {
                    true => format!("{name}{SAME_NUMBER}"),
                    false => name,
                });
                return Err(refused(Holder::OtherProcess(name)));
            }
            Err(TryLockError::Error(source)) => return Err(io_error("lock", &path)(source)),
        }
        let path = directory.join(HOLDER);
        fs::write(&path, own_name()).map_err(io_error("write", &path))?;
        list.insert(held.clone());
        Ok(DirectoryLock { file: Some(file), held })
    }
}

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        // Both at once for a thread that waits for the list: to be free here is to be free of the system's lock.
        let mut list = list();
        if let Some(file) = self.file.take() {
            // Not only closed: a process that is just being started by another thread has a copy, which would hold the lock. If
            // it fails, the end of the copies lets go.
            let _ = file.unlock();
        }
        list.remove(&self.held);
    }
}

/// What is said of a holder that has the number of this process, and is not in its list.
const SAME_NUMBER: &str = ", which is the number of this one: another copy of tallymesh in it, or a process of another container";

/// How this process names itself to those that find the directory held.
fn own_name() -> String {
    format!("process {}", std::process::id())
}

fn list() -> MutexGuard<'static, BTreeSet<Held>> {
    // It is changed in one step.
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(unix)]
fn identity(directory: &Path) -> io::Result<DirectoryId> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(directory).map(|metadata| (metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn identity(directory: &Path) -> io::Result<DirectoryId> {
    directory.canonicalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(directory: &Path) -> Holder {
        match DirectoryLock::take(directory).unwrap_err() {
            StorageError::Held { by, .. } => by,
            other => panic!("{other}"),
        }
    }

    #[cfg(unix)]
    fn another_name(path: &Path) -> std::path::PathBuf {
        let link = path.with_extension("link");
        std::os::unix::fs::symlink(path, &link).unwrap();
        link
    }

    /// Links need a privilege on Windows; and capital letters make no other name there.
    #[cfg(not(unix))]
    fn another_name(path: &Path) -> std::path::PathBuf {
        path.with_file_name("DATA")
    }

    #[test]
    fn a_directory_is_ours_by_whatever_path_and_free_once_it_is_let_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        std::fs::create_dir(&path).unwrap();
        let paths = [path.clone(), dir.path().join("data/../data"), another_name(&path)];
        for _ in 0..2 {
            let lock = DirectoryLock::take(&path).unwrap();
            for path in &paths {
                assert_eq!(holder(path), Holder::ThisProcess, "{}", path.display());
            }
            drop(lock);
        }
    }

    /// As it is between the fork and the exec of a process that another thread starts.
    #[test]
    fn a_copy_of_the_handle_does_not_hold_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let lock = DirectoryLock::take(dir.path()).unwrap();
        let copy = lock.file.as_ref().unwrap().try_clone().unwrap();
        drop(lock);
        drop(DirectoryLock::take(dir.path()).unwrap());
        drop(copy);
    }

    /// Windows does not rename what is in use.
    #[cfg(unix)]
    #[test]
    fn a_directory_is_ours_after_it_was_moved_and_another_in_its_place_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        std::fs::create_dir(&path).unwrap();
        let lock = DirectoryLock::take(&path).unwrap();
        std::fs::rename(&path, dir.path().join("moved")).unwrap();
        std::fs::create_dir(&path).unwrap();
        drop(DirectoryLock::take(&path).unwrap());
        assert_eq!(holder(&dir.path().join("moved")), Holder::ThisProcess);
        drop(lock);
    }

    /// As after a fork: the list says that another process holds the directory, and the system that it is held.
    #[test]
    fn what_a_parent_holds_is_not_taken_for_ours() {
        let dir = tempfile::tempdir().unwrap();
        let lock = DirectoryLock::take(dir.path()).unwrap();
        let parents = Held { process: lock.held.process + 1, ..lock.held.clone() };
        list().insert(parents.clone());
        list().remove(&lock.held);
        let by = Holder::OtherProcess(Some(format!("{}{SAME_NUMBER}", own_name())));
        assert_eq!(holder(dir.path()), by);
        list().remove(&parents);
    }

    #[test]
    fn only_one_of_many_threads_gets_it() {
        let dir = tempfile::tempdir().unwrap();
        let taken = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| DirectoryLock::take(dir.path()))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        let refused = |taken: &Result<_, StorageError>| {
            matches!(taken, Err(StorageError::Held { by: Holder::ThisProcess, .. }))
        };
        assert_eq!(taken.iter().filter(|taken| refused(taken)).count(), 7);
    }
}
