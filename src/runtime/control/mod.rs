//! The control socket: a unix socket at which the owner of the process asks a node that runs.
//!
//! What is asked and answered is text, a line each, and other rooms' business: here is who may connect, how many, how long a line may be and how
//! long it may take. All of it is on a thread of its own, so that neither a decision nor the gossip waits for whom it serves.

mod bind;
mod serve;

use std::future::Future;
use std::io;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tokio::sync::watch;

use self::bind::Identity;
use super::{OpenError, lock, spawn};

/// What answers the lines that come in.
pub(crate) trait Answers: Send + Sync + 'static {
    /// The answer to a line, or to what was no line; without a line break.
    fn answer(&self, asked: Result<String, NoLine>) -> Answer;
}

/// An answer that takes its time: it lets others go first between two pieces of work.
pub(crate) type Answer = Pin<Box<dyn Future<Output = String> + Send>>;

/// Why there is no line to answer. The connection ends after that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoLine {
    /// It has more bytes than a line may have.
    TooLong,
    /// It took longer to come than it may.
    TooSlow,
    /// It is not UTF-8.
    NotText,
    /// There are as many connections as are served at once.
    Busy,
}

/// The most connections that are served at once.
pub(crate) const CONNECTIONS_MAX: usize = 16;
/// The longest line that is read, in bytes.
pub(crate) const LINE_BYTES_MAX: usize = 64 * 1024;

/// The socket of a node, from its opening to its close.
pub(crate) struct ControlSocket {
    /// Where it is, whatever the process's directory is by then.
    path: PathBuf,
    /// Which file it is, so that another one in its place is left alone.
    identity: Identity,
    /// Until it is served.
    listener: Mutex<Option<UnixListener>>,
    stop: watch::Sender<bool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl ControlSocket {
    /// Listens there; what connects is served only after [`serve`](Self::serve).
    ///
    /// # Errors
    /// When another process listens there, the path is taken by what is no socket, or the system returns an error.
    pub(super) fn open(path: &Path) -> Result<ControlSocket, OpenError> {
        let failed = |source| OpenError::Control { path: path.to_owned(), source };
        let absolute = std::path::absolute(path).map_err(failed)?;
        let (listener, identity) = match bind::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err(OpenError::ControlHeld { path: path.to_owned() });
            }
            bound => bound.map_err(failed)?,
        };
        Ok(ControlSocket {
            path: absolute,
            identity,
            listener: Mutex::new(Some(listener)),
            stop: watch::Sender::new(false),
            thread: Mutex::default(),
        })
    }

    /// Starts to serve what connects.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(crate) fn serve(&self, answers: Arc<dyn Answers>) -> Result<(), OpenError> {
        let Some(listener) = lock(&self.listener).take() else { return Ok(()) };
        let stop = self.stop.subscribe();
        let serving = serve::Serving::new(listener, answers, stop).map_err(OpenError::Threads)?;
        let thread = spawn("control", move || serving.run())?;
        *lock(&self.thread) = Some(thread);
        Ok(())
    }

    /// Removes the socket, and has all connections end.
    pub(super) fn end(&self) {
        lock(&self.listener).take();
        if !self.stop.send_replace(true) {
            bind::remove(&self.path, &self.identity);
        }
    }

    /// The thread that has served, the first time that it is asked for. It ends soon after [`end`](Self::end).
    pub(super) fn take_thread(&self) -> Option<JoinHandle<()>> {
        lock(&self.thread).take()
    }
}

impl Drop for ControlSocket {
    /// As for an opening that is given up.
    fn drop(&mut self) {
        self.end();
    }
}
