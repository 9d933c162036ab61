//! The running instance: the one place where table, storage, transport and clock meet.
//!
//! Two threads of its own do all that waits: one gossips, one writes checkpoints. So a busy executor of the
//! embedder, a slow disk and a slow peer do not delay each other, and none of them delays a decision.

mod disk_thread;
mod gossip_thread;
mod log;
mod random;
#[cfg(test)]
mod tests;
mod wakers;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::{Notify, oneshot};

use crate::clock::Clock;
use crate::config::Config;
use disk_thread::DiskThread;
pub(crate) use random::random;
use tallymesh_core::gossip::PeerStatus;
use tallymesh_core::storage::StorageError;
use tallymesh_core::table::Table;
use wakers::{WakeFlags, Worker};

/// Why a store could not be opened.
///
/// ```
/// use tallymesh::{Config, Limiter, OpenError, StorageError};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// let config = Config::builder("a").data_dir(dir.path()).build()?;
/// let limiter = Limiter::open(config.clone()).await?;
/// // A data directory takes one limiter.
/// let second = Limiter::open(config).await.unwrap_err();
/// assert!(matches!(second, OpenError::Storage(StorageError::Held { .. })));
/// # limiter.close().await?;
/// # Ok(())
/// # }
/// ```
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
        /// The system's error.
        source: std::io::Error,
    },
    /// Could not start a thread or event loop.
    #[error("cannot start the node's threads: {0}")]
    Threads(#[source] std::io::Error),
    /// One of the node's threads panicked while opening; its message is on standard error.
    #[error("the node's {0} thread stopped while opening")]
    Stopped(&'static str),
}

/// Why something could not be made durable.
///
/// ```
/// use tallymesh::{Config, CounterStore, DurabilityError};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = CounterStore::open(Config::builder("a").in_memory().build()?).await?;
/// store.close().await?;
/// assert_eq!(store.flush().await, Err(DurabilityError::Closed));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DurabilityError {
    /// Writing failed, now or earlier. Decisions continue from memory, and nothing is durable until all of it could be
    /// written into a new database, which is tried again and again.
    #[error(
        "the disk failed ({reason}); counts are kept in memory only until it takes writes again: free some space, or fix or replace it"
    )]
    Degraded {
        /// What failed last.
        reason: String,
    },
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
}

/// The running instance.
pub(crate) struct Runtime {
    pub table: Arc<Table>,
    pub clock: Arc<Clock>,
    pub disk: Arc<DiskThread>,
    signals: Arc<Signals>,
    threads: Mutex<Option<Threads>>,
    /// Where it listens.
    pub address: Option<SocketAddr>,
    /// Where a damaged database was put at the start.
    pub set_aside: Option<PathBuf>,
    /// Whether nothing is kept on disk, by the config.
    pub in_memory: bool,
    /// The most counters, by the config.
    pub counters_max: usize,
    closing: AtomicBool,
}

/// The signals between the embedder's threads and our own.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    /// A counter went past the urgent fraction of its limit.
    pub urgent: Notify,
    /// Something changed while the gossip thread slept.
    pub changed: Notify,
    asleep: WakeFlags,
    pub stop: Notify,
    pub peers: Mutex<Vec<PeerStatus>>,
}

struct Threads {
    gossip: NamedThread,
    disk: NamedThread,
}

/// A thread, whose end can be awaited.
struct NamedThread {
    handle: JoinHandle<()>,
    ended: oneshot::Receiver<()>,
}

impl NamedThread {
    /// Starts a thread of this name. `ended` resolves when it ends, also by a panic: the sender is dropped then.
    fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<NamedThread, OpenError> {
        let (end, ended) = oneshot::channel();
        let handle = std::thread::Builder::new()
            .name(format!("tallymesh-{name}"))
            .spawn(move || {
                let _end: oneshot::Sender<()> = end;
                run();
            })
            .map_err(OpenError::Threads)?;
        Ok(NamedThread { handle, ended })
    }

    async fn join(self) {
        // An error only says that the sender is gone, which is what is waited for.
        let _ = self.ended.await;
        let _ = self.handle.join();
    }
}

impl Runtime {
    /// Recovers the state, starts to listen and to write, and waits a bounded while for the peers' state.
    pub(crate) async fn open(config: &Config) -> Result<Runtime, OpenError> {
        let signals = Arc::new(Signals::default());
        let (disk, disk_thread, started) = disk_thread::start(config, signals.clone()).await?;
        let disk_thread::Started { table, clock, set_aside } = started;
        // An opening that is dropped must not leave threads behind that hold the directory.
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
        Ok(Runtime {
            table,
            clock,
            disk,
            signals,
            threads,
            address,
            set_aside,
            in_memory: config.data_dir.is_none(),
            counters_max: config.bounds.counters_max,
            closing: AtomicBool::new(false),
        })
    }

    /// The table changed: wakes the threads that sleep.
    #[inline]
    pub(crate) fn changed(&self) {
        self.disk.changed();
        self.touched();
    }

    /// As [`changed`](Self::changed), where only the end of a counter may have moved: that is not worth a write of its own.
    #[inline]
    pub(crate) fn touched(&self) {
        if self.signals.asleep.any() {
            self.wake_threads();
        }
    }

    #[cold]
    fn wake_threads(&self) {
        if self.signals.asleep.take(Worker::Disk) {
            self.disk.wake_up();
        }
        if self.signals.asleep.take(Worker::Gossip) {
            self.signals.changed.notify_one();
        }
    }

    /// Wakes the gossip thread to send what is urgent.
    pub(crate) fn wake_urgent(&self) {
        self.signals.urgent.notify_one();
    }

    pub(crate) fn peers(&self) -> Vec<PeerStatus> {
        lock(&self.signals.peers).clone()
    }

    /// Whether [`close`](Self::close) was called.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// Says goodbye to the peers, writes the last checkpoint, and stops. A second call finds nothing left to do.
    pub(crate) async fn close(&self) -> Result<(), DurabilityError> {
        self.closing.store(true, Ordering::Relaxed);
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

/// Stops the threads of an opening that is given up.
struct StopOnDrop(Option<(Arc<DiskThread>, Arc<Signals>)>);

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

impl Drop for Runtime {
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
