//! What makes files and their names durable, on each kind of system.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;

use tallymesh_core::storage::StorageError;

use super::file_system::io_error;

/// Opens a file that is there, to sync it. Windows syncs only what may be written to.
pub(super) fn open_to_sync(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(cfg!(windows)).open(path)
}

/// Makes the names in a directory durable.
#[cfg(not(windows))]
pub(super) fn sync_dir(path: &Path) -> Result<(), StorageError> {
    let synced = File::open(path).and_then(|dir| dir.sync_all());
    synced.map_err(io_error("sync directory", path))
}

/// Makes the names in a directory durable, as far as the file system offers that: Windows does not promise that a directory can
/// be flushed. Where that is refused, names are as durable as the file system's own journal makes them.
#[cfg(windows)]
pub(super) fn sync_dir(path: &Path) -> Result<(), StorageError> {
    use std::os::windows::fs::OpenOptionsExt;

    /// Without it, Windows opens no directory.
    const FILE_FLAG_BACKUP_SEMANTICS: u32 = 0x0200_0000;
    /// `ERROR_INVALID_FUNCTION`, `ERROR_ACCESS_DENIED`, `ERROR_NOT_SUPPORTED` and `ERROR_INVALID_PARAMETER`.
    const NOT_OFFERED: [i32; 4] = [1, 5, 50, 87];
    let mut options = OpenOptions::new();
    options.write(true).custom_flags(FILE_FLAG_BACKUP_SEMANTICS);
    match options.open(path).and_then(|dir| dir.sync_all()) {
        Err(error) if error.raw_os_error().is_some_and(|code| NOT_OFFERED.contains(&code)) => {
            // A directory that is not there is an error all the same.
            fs::metadata(path).map(drop).map_err(io_error("sync directory", path))
        }
        synced => synced.map_err(io_error("sync directory", path)),
    }
}

/// Gives a file or directory another name, in place of what has that.
#[cfg(not(windows))]
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), StorageError> {
    fs::rename(from, to).map_err(io_error("rename", from))
}

/// Gives a file or directory another name, in place of what has that. Windows refuses it while anybody has the file, or one in
/// the directory, open: a scanner for viruses does so for a moment.
#[cfg(windows)]
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), StorageError> {
    use std::time::Duration;

    /// `ERROR_ACCESS_DENIED`, `ERROR_SHARING_VIOLATION` and `ERROR_LOCK_VIOLATION`.
    const IN_USE: [i32; 3] = [5, 32, 33];
    let is_in_use =
        |error: &io::Error| error.raw_os_error().is_some_and(|code| IN_USE.contains(&code));
    for _ in 0..200 {
        match fs::rename(from, to) {
            Err(error) if is_in_use(&error) => std::thread::sleep(Duration::from_millis(10)),
            renamed => return renamed.map_err(io_error("rename", from)),
        }
    }
    fs::rename(from, to).map_err(io_error("rename", from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_synced_and_what_is_not_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "text").unwrap();
        open_to_sync(&file).and_then(|file| file.sync_all()).unwrap();
        open_to_sync(&file).and_then(|file| file.sync_data()).unwrap();
        sync_dir(dir.path()).unwrap();
        assert!(open_to_sync(&dir.path().join("none")).is_err());
        let error = sync_dir(&dir.path().join("none")).unwrap_err().to_string();
        assert!(error.contains("sync directory") && error.contains("none"), "{error}");
    }

    #[test]
    fn a_rename_takes_the_place_of_a_file_and_moves_directories() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("a"), "new").unwrap();
        fs::write(path("b"), "old").unwrap();
        rename(&path("a"), &path("b")).unwrap();
        assert_eq!(fs::read_to_string(path("b")).unwrap(), "new");
        fs::create_dir(path("from")).unwrap();
        rename(&path("from"), &path("to")).unwrap();
        assert!(path("to").is_dir() && !path("from").exists());
        assert!(rename(&path("none"), &path("c")).is_err());
    }
}
