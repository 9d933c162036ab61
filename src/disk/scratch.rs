//! A directory for as long as it is needed, among the system's temporary files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tallymesh_core::storage::StorageError;

use super::file_system::io_error;
use super::sled::wait_until_closed;

/// Removed when dropped, together with the database `db` in it.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// Makes a directory that nothing else uses.
    ///
    /// # Errors
    /// When the file system returns an error.
    pub(crate) fn new() -> Result<Scratch, StorageError> {
        let process = std::process::id();
        for number in 0_u64.. {
            let path = std::env::temp_dir().join(format!("tallymesh-{process}-{number}"));
            match make_private(&path) {
                Ok(()) => return Ok(Scratch(path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(io_error("create", &path)(error)),
            }
        }
        // Proven: there are more numbers than files.
        unreachable!("some name is free")
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // The system clears up what stays behind.
        let _ = wait_until_closed(&self.0.join("db"));
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Session ids are in the keys, and the directory around it is everybody's.
fn make_private(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        let mut builder = fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(path)
    }
    // On Windows the directory for temporary files is each user's own.
    #[cfg(not(unix))]
    fs::create_dir(path)
}
