//! A running node: the one place where table, storage, transport and clock meet.
//!
//! Two threads of its own do all that waits: one gossips, one writes checkpoints. So neither a busy runtime of the
//! embedder's nor a slow disk or peer holds up the other, and none of them holds up a decision.

mod disk_thread;
mod gossip_thread;
mod log;
#[cfg(test)]
mod tests;
mod wakers;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::{Notify, oneshot};

use crate::clock::Clock;
use crate::config::Config;
use crate::storage::StorageError;
use disk_thread::Disk;
use tallymesh_core::gossip::PeerStatus;
use tallymesh_core::table::Table;
use wakers::{Sleeper, Sleepers};

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The data directory.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The address to listen at.
    #[error("cannot listen at {address}: {source}; is another process using it?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The system gave us no thread or no event loop.
    #[error("cannot start the node's threads: {0}")]
    Threads(#[source] std::io::Error),
    /// One of the node's threads panicked while opening; its message is on standard error.
    #[error("the node's {0} thread stopped while opening")]
    Stopped(&'static str),
}

/// Why something could not be made durable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DurabilityError {
    /// Writing failed, now or earlier. Decisions go on from memory, and nothing is durable until all of it could be written
    /// into a new database, which is tried again and again.
    #[error(
        "the disk failed ({reason}); counts are kept in memory only until it takes writes again: free some space, or mend it"
    )]
    Degraded {
        /// What failed last.
        reason: String,
    },
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
}

/// Whether counts reach the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// They do.
    Durable,
    /// They do not, for this reason; decisions go on from memory, and the disk is tried again.
    Degraded(String),
}

pub(crate) struct Node {
    pub table: Arc<Table>,
    pub clock: Arc<Clock>,
    pub disk: Arc<Disk>,
    signals: Arc<Signals>,
    threads: Mutex<Option<Threads>>,
    /// Where it listens.
    pub address: Option<SocketAddr>,
    /// Where a damaged database was put at the start.
    pub set_aside: Option<PathBuf>,
}

/// What the embedder's threads and the node's own tell each other.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    /// A counter went past the urgent fraction of its limit.
    pub urgent: Notify,
    /// Something changed while the gossip thread slept.
    pub changed: Notify,
    sleepers: Sleepers,
    pub stop: Notify,
    pub peers: Mutex<Vec<PeerStatus>>,
}

struct Threads {
    gossip: Joining,
    disk: Joining,
}

/// A thread, and word of its end that can be awaited.
struct Joining {
    handle: JoinHandle<()>,
    ended: oneshot::Receiver<()>,
}

impl Joining {
    /// Starts a thread of this name. `ended` resolves when it is over, even by a panic: the sender is dropped then.
    fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<Joining, OpenError> {
        let (end, ended) = oneshot::channel();
        let handle = std::thread::Builder::new()
            .name(format!("tallymesh-{name}"))
            .spawn(move || {
                let _end: oneshot::Sender<()> = end;
                run();
            })
            .map_err(OpenError::Threads)?;
        Ok(Joining { handle, ended })
    }

    async fn join(self) {
        // An error only says that the sender is gone, which is what is waited for.
        let _ = self.ended.await;
        let _ = self.handle.join();
    }
}

impl Node {
    /// Recovers the state, starts to listen and to write, and waits a bounded while for the peers' state.
    pub async fn open(config: &Config) -> Result<Node, OpenError> {
        let signals = Arc::new(Signals::default());
        let (disk, disk_thread, started) = disk_thread::start(config, signals.clone()).await?;
        let disk_thread::Started { table, clock, set_aside } = started;
        // Whoever gives the opening up must not leave threads behind that hold the directory.
        let abandoned = StopOnDrop(Some((disk.clone(), signals.clone())));
        let gossip =
            gossip_thread::start(config, table.clone(), clock.clone(), signals.clone()).await;
        let (gossip_thread, address) = match gossip {
            Ok(started) => started,
            Err(error) => {
                drop(abandoned);
                disk_thread.join().await;
                return Err(error);
            }
        };
        abandoned.disarm();
        let threads = Threads { gossip: gossip_thread, disk: disk_thread };
        let threads = Mutex::new(Some(threads));
        Ok(Node { table, clock, disk, signals, threads, address, set_aside })
    }

    /// Tells the threads of a change in the table.
    #[inline]
    pub fn changed(&self) {
        self.disk.changed();
        self.touched();
    }

    /// As [`changed`](Self::changed), of a counter whose end alone may have moved: that is not worth a write of its own.
    #[inline]
    pub fn touched(&self) {
        if self.signals.sleepers.any() {
            self.wake_sleepers();
        }
    }

    #[cold]
    fn wake_sleepers(&self) {
        if self.signals.sleepers.take(Sleeper::Disk) {
            self.disk.wake_up();
        }
        if self.signals.sleepers.take(Sleeper::Gossip) {
            self.signals.changed.notify_one();
        }
    }

    /// Wakes the gossip thread to send what is urgent.
    pub fn wake_urgent(&self) {
        self.signals.urgent.notify_one();
    }

    pub fn peers(&self) -> Vec<PeerStatus> {
        lock(&self.signals.peers).clone()
    }

    /// Tells the peers, writes the last checkpoint, and stops. A second call finds nothing left to do.
    pub async fn close(&self) -> Result<(), DurabilityError> {
        let threads = lock(&self.threads).take();
        if let Some(Threads { gossip, disk }) = threads {
            self.signals.stop.notify_one();
            gossip.join().await;
            self.disk.stop();
            disk.join().await;
        }
        self.disk.outcome()
    }
}

/// Stops the threads of an opening that does not come to its end.
struct StopOnDrop(Option<(Arc<Disk>, Arc<Signals>)>);

impl StopOnDrop {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        if let Some((disk, signals)) = &self.0 {
            signals.stop.notify_one();
            disk.stop();
        }
    }
}

impl Drop for Node {
    /// Stops the threads without waiting for them; the last checkpoint is still written.
    fn drop(&mut self) {
        self.signals.stop.notify_one();
        self.disk.stop();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What these mutexes guard is replaced whole, so a panic elsewhere leaves it usable.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
