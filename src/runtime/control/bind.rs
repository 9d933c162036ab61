//! How the socket comes to its path: readable by its owner from its first moment, in the place of one that a crash has left, and never in the
//! place of anything else.

use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 32;
/// A directory in which each user may replace only what is theirs, such as `/tmp`.
const STICKY: u32 = 0o1000;
const OTHERS_WRITE: u32 = 0o002;

/// Which file it is: its device and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity(u64, u64);

impl Identity {
    fn of(metadata: &Metadata) -> Identity {
        Identity(metadata.dev(), metadata.ino())
    }
}

/// Listens there.
///
/// # Errors
/// `AddrInUse` if another process does; else why it cannot be.
pub(super) fn bind(path: &Path) -> io::Result<(UnixListener, Identity)> {
    check_directory(path)?;
    make_room(path)?;
    let (socket, address) = (socket()?, SocketAddrUnix::new(path)?);
    rustix::net::bind(&socket, &address)?;
    // Who connects before it listens is refused, so there is no moment at which others could.
    let prepared = fs::set_permissions(path, Permissions::from_mode(0o600))
        .and_then(|()| fs::symlink_metadata(path))
        .map(|metadata| Identity::of(&metadata));
    let identity = prepared.and_then(|identity| {
        rustix::net::listen(&socket, BACKLOG)?;
        // Another process that started meanwhile may have taken it for one that a crash has left.
        match fs::symlink_metadata(path) {
            Ok(now) if Identity::of(&now) == identity => Ok(identity),
            _ => Err(io::ErrorKind::AddrInUse.into()),
        }
    })?;
    Ok((UnixListener::from(socket), identity))
}

/// Removes the socket, unless another file is there by now.
pub(super) fn remove(path: &Path, identity: &Identity) {
    let is_ours = fs::symlink_metadata(path).is_ok_and(|now| Identity::of(&now) == *identity);
    if is_ours {
        // What cannot be removed is stale for the next process, which replaces it.
        let _ = fs::remove_file(path);
    }
}

/// Where all users may write, any of them could put a socket of their own in the place of this one.
fn check_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    let mode = fs::metadata(directory)
        .map_err(|error| {
            io::Error::new(error.kind(), format!("its directory {}: {error}", directory.display()))
        })?
        .mode();
    if mode & OTHERS_WRITE != 0 && mode & STICKY == 0 {
        let why = format!(
            "all users may write in its directory {}: use another one, or take that right away (chmod o-w)",
            directory.display()
        );
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    Ok(())
}

/// Removes a socket at which no process listens.
fn make_room(path: &Path) -> io::Result<()> {
    let there = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        there => there?,
    };
    if !there.file_type().is_socket() {
        let why = "there is something of that name that is no socket, and it is left as it is";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
    }
    let (probe, address) = (UnixStream::from(socket()?), SocketAddrUnix::new(path)?);
    // One that hangs must not keep us.
    probe.set_nonblocking(true)?;
    match rustix::net::connect(&probe, &address) {
        Err(Errno::CONNREFUSED) => match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        },
        Err(Errno::NOENT) => Ok(()),
        // It is full, not gone.
        Ok(()) | Err(Errno::AGAIN | Errno::INPROGRESS) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) => Err(error.into()),
    }
}

fn socket() -> io::Result<OwnedFd> {
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    #[test]
    fn only_its_owner_may_connect() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let (listener, identity) = bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        remove(&path, &identity);
        assert!(!path.exists());
        drop(listener);
    }

    #[test]
    fn a_live_one_is_an_error_and_a_stale_one_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let (listener, old) = bind(&path).unwrap();
        assert_eq!(bind(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
        drop(listener);
        let (_listener, new) = bind(&path).unwrap();
        remove(&path, &Identity(old.0, old.1 + 1_000_000));
        assert!(path.exists(), "another one's is left alone");
        remove(&path, &new);
        assert!(!path.exists());
    }

    /// As one of a process that is halted: its queue is full, and nothing takes from it.
    #[test]
    fn one_that_hangs_is_live() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let (_listener, _) = bind(&path).unwrap();
        let mut waiting = Vec::new();
        let address = SocketAddrUnix::new(&path).unwrap();
        let is_full = (0..10_000).any(|_| {
            let stream = UnixStream::from(socket().unwrap());
            stream.set_nonblocking(true).unwrap();
            let refused = rustix::net::connect(&stream, &address).is_err();
            waiting.push(stream);
            refused
        });
        assert!(is_full);
        assert_eq!(bind(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
    }

    #[test]
    fn what_is_no_socket_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        fs::write(&path, "precious").unwrap();
        let error = bind(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        let error = bind(&dir.path().join("none/s")).unwrap_err();
        assert!(error.to_string().contains("none"), "{error}");
    }

    #[test]
    fn a_directory_that_all_may_write_in_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let open = dir.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
        let error = bind(&open.join("s")).unwrap_err();
        assert!(error.to_string().contains("chmod o-w"), "{error}");
        fs::set_permissions(&open, Permissions::from_mode(0o1777)).unwrap();
        bind(&open.join("s")).unwrap();
    }
}
