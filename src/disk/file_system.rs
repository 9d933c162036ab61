//! A data directory on a real file system: locked by this process, with its database in sled.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tallymesh_core::storage::{FORMAT, Files, Identity, KvStore, StorageError};

use super::durable::{rename, sync_dir};
use super::lock::DirectoryLock;
use super::sled::{SledStore, wait_until_closed};

/// A directory held by this process; let go when dropped.
#[derive(Debug)]
pub(crate) struct FileSystem {
    path: PathBuf,
    /// The same as text, for messages.
    place: String,
    _lock: DirectoryLock,
    /// The file that is written in place, kept open once it is.
    note: Option<File>,
}

pub(super) const IDENTITY: &str = "identity.toml";
const NOTE: &str = "checkpoint";
pub(super) const DATABASE: &str = "db";
/// A database on its way to the place of the present one, and the present one until the other has its name.
const DATABASE_NEW: &str = "db.new";
const DATABASE_OLD: &str = "db.old";
/// Copies of records that were left out of the database.
const REJECTED: &str = "rejected";
/// How many there may be: enough to see what is wrong.
const REJECTED_MAX: usize = 256;

impl FileSystem {
    /// Makes the directory if need be, and locks it.
    ///
    /// # Errors
    /// When it is held already, or the file system returns an error.
    pub(crate) fn open(path: &Path) -> Result<FileSystem, StorageError> {
        fs::create_dir_all(path).map_err(io_error("create", path))?;
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_dir(parent)?;
        }
        FileSystem::lock(path)
    }

    /// Locks a directory that must be there already.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) fn lock(path: &Path) -> Result<FileSystem, StorageError> {
        let lock = DirectoryLock::take(path)?;
        let place = path.display().to_string();
        Ok(FileSystem { path: path.to_owned(), place, _lock: lock, note: None })
    }

    /// Copies the present database, file by file, to a path where nothing is.
    ///
    /// # Errors
    /// When the file system returns an error.
    pub(crate) fn copy_database(&self, to: &Path) -> Result<(), StorageError> {
        let present = self.path.join(DATABASE);
        match present.exists() {
            true => copy_dir(&present, to),
            false => copy_dir(&self.path.join(DATABASE_OLD), to),
        }
    }

    /// What was set aside, databases and rejected records, with its size in bytes.
    ///
    /// # Errors
    /// When the file system returns an error.
    pub(crate) fn kept_aside(&self) -> Result<Vec<(PathBuf, u64)>, StorageError> {
        let mut aside = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(io_error("list", &self.path))? {
            let entry = entry.map_err(io_error("list", &self.path))?;
            let name = entry.file_name();
            if name == REJECTED || name.to_string_lossy().starts_with("db.damaged-") {
                let path = entry.path();
                aside.push((path.clone(), size_of(&path).map_err(io_error("measure", &path))?));
            }
        }
        aside.sort();
        Ok(aside)
    }

    /// The content of a file; `None` when there is none.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StorageError> {
        let path = self.path.join(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("read", &path)(error)),
        }
    }

    /// Gives a file new content, durably: after a crash it has the old or the new.
    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), StorageError> {
        let path = self.path.join(name);
        let new = self.path.join(format!("{name}.new"));
        let written = File::create(&new).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
        written.map_err(io_error("write", &new))?;
        rename(&new, &path)?;
        sync_dir(&self.path)
    }

    /// Clears up after a rewrite that a crash interrupted: the present database counts until the new one has its name.
    fn finish_rewrite(&self) -> Result<(), StorageError> {
        let [present, new, old] =
            [DATABASE, DATABASE_NEW, DATABASE_OLD].map(|name| self.path.join(name));
        if old.exists() && !present.exists() {
            rename(&old, &present)?;
        }
        remove_dir(&new)?;
        remove_dir(&old)
    }
}

impl Files for FileSystem {
    fn place(&self) -> &str {
        &self.place
    }

    fn read_identity(&self) -> Result<Option<Identity>, StorageError> {
        let Some(bytes) = self.read(IDENTITY)? else { return Ok(None) };
        let text = String::from_utf8_lossy(&bytes);
        let identity = toml::from_str(&text).or_else(|error| newer_identity(&text).ok_or(error));
        let identity = identity.map_err(|error| {
            let why = format!(
                "{IDENTITY} cannot be read ({}); if the directory is this node's, delete that file and the boot number is \
                 taken from the database",
                error.message()
            );
            StorageError::Foreign { place: self.place.clone(), why }
        })?;
        Ok(Some(identity))
    }

    fn write_identity(&mut self, identity: &Identity) -> Result<(), StorageError> {
        let text = to_toml(identity);
        self.replace(IDENTITY, text.as_bytes())
    }

    fn read_note(&self) -> Result<Option<Vec<u8>>, StorageError> {
        self.read(NOTE)
    }

    fn write_note(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        let path = self.path.join(NOTE);
        let file = match &mut self.note {
            Some(file) => file,
            None => {
                let file = OpenOptions::new().create(true).write(true).truncate(false).open(&path);
                self.note.insert(file.map_err(io_error("open", &path))?)
            }
        };
        let written = file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(bytes));
        written.and_then(|()| file.set_len(bytes.len() as u64)).map_err(io_error("write", &path))
    }

    fn has_database(&self) -> bool {
        [DATABASE, DATABASE_OLD].iter().any(|name| self.path.join(name).exists())
    }

    fn open_database(&mut self) -> Result<Box<dyn KvStore>, StorageError> {
        self.finish_rewrite()?;
        Ok(Box::new(SledStore::open(&self.path.join(DATABASE))?))
    }

    fn set_database_aside(&mut self, number: u64) -> Result<String, StorageError> {
        let name = |n: u64| format!("{DATABASE}.damaged-{n}");
        let is_taken = |number: u64| self.path.join(name(number)).exists();
        let mut number = number;
        while is_taken(number) {
            number += 1;
        }
        let name = name(number);
        let path = self.path.join(DATABASE);
        if path.exists() {
            wait_until_closed(&path)?;
            rename(&path, &self.path.join(&name))?;
            sync_dir(&self.path)?;
        }
        Ok(name)
    }

    fn begin_database(&mut self) -> Result<Box<dyn KvStore>, StorageError> {
        let path = self.path.join(DATABASE_NEW);
        remove_dir(&path)?;
        Ok(Box::new(SledStore::open(&path)?))
    }

    fn install_database(&mut self) -> Result<Box<dyn KvStore>, StorageError> {
        let [present, new, old] =
            [DATABASE, DATABASE_NEW, DATABASE_OLD].map(|name| self.path.join(name));
        wait_until_closed(&new)?;
        wait_until_closed(&present)?;
        remove_dir(&old)?;
        if present.exists() {
            rename(&present, &old)?;
        }
        rename(&new, &present)?;
        sync_dir(&self.path)?;
        let storage = SledStore::open(&present)?;
        remove_dir(&old)?;
        Ok(Box::new(storage))
    }

    fn keep_rejected(&mut self, name: &str, text: &str) -> Result<Option<String>, StorageError> {
        let dir = self.path.join(REJECTED);
        fs::create_dir_all(&dir).map_err(io_error("create", &dir))?;
        let path = dir.join(name);
        let place = path.display().to_string();
        if !path.exists() {
            let held = fs::read_dir(&dir).map_err(io_error("list", &dir))?.count();
            if held >= REJECTED_MAX {
                return Ok(None);
            }
            self.replace(&format!("{REJECTED}/{name}"), text.as_bytes())?;
            sync_dir(&dir)?;
        }
        Ok(Some(place))
    }

    fn abandon_database(&mut self) {
        // What cannot be removed now is removed at the next start.
        let _ = remove_dir(&self.path.join(DATABASE_NEW));
    }
}

/// An identity of a later format, of which nothing but the number can be relied upon: that is enough to refuse it by name.
fn newer_identity(text: &str) -> Option<Identity> {
    let fields: toml::Table = text.parse().ok()?;
    let format = u32::try_from(fields.get("format")?.as_integer()?).ok()?;
    let is_newer = format > FORMAT;
    is_newer.then(|| Identity { format, ..Identity::default() })
}

#[expect(clippy::expect_used, reason = "plain fields are always valid TOML")]
fn to_toml(identity: &Identity) -> String {
    toml::to_string(identity).expect("an identity is valid TOML")
}

pub(super) fn copy_dir(from: &Path, to: &Path) -> Result<(), StorageError> {
    fs::create_dir(to).map_err(io_error("create", to))?;
    for entry in fs::read_dir(from).map_err(io_error("list", from))? {
        let path = entry.map_err(io_error("list", from))?.path();
        let Some(name) = path.file_name() else { continue };
        match path.is_dir() {
            true => copy_dir(&path, &to.join(name))?,
            false => _ = fs::copy(&path, to.join(name)).map_err(io_error("copy", &path))?,
        }
    }
    Ok(())
}

/// The bytes of all files in a directory, or of a file.
fn size_of(path: &Path) -> io::Result<u64> {
    if !path.is_dir() {
        return Ok(fs::metadata(path)?.len());
    }
    fs::read_dir(path)?.map(|entry| size_of(&entry?.path())).sum()
}

pub(super) fn remove_dir(path: &Path) -> Result<(), StorageError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io_error("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// What the system said about a file, with what to do about it.
pub(super) fn io_error<'a>(
    doing: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> StorageError + 'a {
    move |source| {
        let (place, advice) = (path.display().to_string(), advice(&source));
        StorageError::Io { doing, place, advice, source: source.into() }
    }
}

/// What to do about an error of the file system's.
pub(super) fn advice(error: &io::Error) -> &'static str {
    use io::ErrorKind;
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            "free some space, or choose another data directory"
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "make it writable for this process, or choose another data directory"
        }
        ErrorKind::AlreadyExists | ErrorKind::NotADirectory | ErrorKind::IsADirectory => {
            "something else is in its place; move that away, or choose another data directory"
        }
        _ => "fix or replace the disk, or choose another data directory",
    }
}
