//! The running instance: the one place where table, storage, transport and clock meet.
//!
//! Two threads of its own do all that waits: one gossips, one writes checkpoints. So a busy executor of the
//! embedder, a slow disk and a slow peer do not delay each other, and none of them delays a decision.

mod bounds_watch;
mod changes;
mod clock_watch;
#[cfg(unix)]
mod control;
mod descriptors;
mod disk_thread;
mod gossip_thread;
mod log;
mod peer_sources;
mod restarts;
mod signals;
mod slots;
#[cfg(test)]
mod tests;
mod wakers;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::config::Config;
use crate::log_line;
#[cfg(unix)]
pub(crate) use bounds_watch::BoundReport;
use bounds_watch::{for_whom, words};
use changes::{Change, InForce};
pub use changes::{ReloadTlsError, SetKeysError, SetMembersError, SetPeersError};
#[cfg(unix)]
pub(crate) use control::{Answer, Answers, CONNECTIONS_MAX, ControlSocket, LINE_BYTES_MAX, NoLine};
use disk_thread::DiskThread;
pub(crate) use signals::Seen;
use signals::Signals;
pub(crate) use slots::open_in_slot;
use tallymesh_core::operator::OperatorEntry;
use tallymesh_core::storage::StorageError;
use tallymesh_core::table::{Bound, Table};
use wakers::Worker;

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
    /// Another live process answers at the path of the control socket.
    #[error(
        "another live process answers at the control socket {}: end it, or give this node another node.control",
        path.display()
    )]
    #[non_exhaustive]
    ControlHeld {
        /// The path.
        path: PathBuf,
    },
    /// The control socket cannot be made at its path.
    #[error("cannot make the control socket {}: {source}", path.display())]
    #[non_exhaustive]
    Control {
        /// The path.
        path: PathBuf,
        /// The system's error, or what is in its way.
        source: std::io::Error,
    },
    /// Another process holds the directory of this one's slot, or listens at its port.
    #[error(
        "slot {slot} is taken: {source}; give each process a slot of its own, or none to have it take a free one"
    )]
    #[non_exhaustive]
    SlotTaken {
        /// The slot.
        slot: usize,
        /// What is held.
        source: Box<OpenError>,
    },
    /// Each slot is taken.
    #[error("each of the {} slots is taken: {}; raise node.slots, or end what holds them", taken.len(), each(taken))]
    #[non_exhaustive]
    NoFreeSlot {
        /// What is held of each slot, in order.
        taken: Vec<OpenError>,
    },
    /// Could not start a thread or event loop.
    #[error("cannot start the node's threads: {0}")]
    Threads(#[source] std::io::Error),
    /// One of the node's threads panicked while opening; its message is on standard error.
    #[error("the node's {0} thread stopped while opening")]
    Stopped(&'static str),
}

fn each(taken: &[OpenError]) -> String {
    let each = taken.iter().enumerate().map(|(slot, why)| format!("slot {slot}: {why}"));
    each.collect::<Vec<_>>().join("; ")
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
    /// The last checkpoint takes longer than the caller waits. It is still being written.
    #[error("the last checkpoint is still being written; wait for longer, or await `close`")]
    Unfinished,
}

/// What is said, at the start and in the health, of a node that others can reach and that has no key.
const OPEN: &str = "gossip.insecure is set and there is no gossip.key: each process that reaches gossip.listen can read, raise and reset all \
                    counters; give all nodes a key (`tallymesh keygen`)";

/// How long the last drop of a store may write.
const DROP_WRITES_MAX: Duration = Duration::from_millis(100);

/// The running instance.
pub(crate) struct Runtime {
    pub table: Arc<Table>,
    pub clock: Arc<Clock>,
    pub disk: Arc<DiskThread>,
    signals: Arc<Signals>,
    threads: Mutex<Option<Threads>>,
    /// Where operators ask; `None` if nowhere.
    #[cfg(unix)]
    pub control: Option<ControlSocket>,
    /// Where it listens.
    pub address: Option<SocketAddr>,
    /// Where a damaged database was put at the start.
    pub set_aside: Option<PathBuf>,
    /// Whether nothing is kept on disk, by the config.
    pub in_memory: bool,
    /// As it was opened.
    config: Config,
    changes: mpsc::Sender<Change>,
    /// `None` where peers prove nothing.
    credentials: Option<InForce>,
    /// Whether others can reach it, and need not prove who they are.
    is_open: bool,
}

/// What an instance leaves behind that has closed.
///
/// ```
/// # use tallymesh::{Config, CounterStore};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = CounterStore::open(Config::builder("a").in_memory().build()?).await?;
/// let closed = store.close().await?;
/// assert_eq!(closed.unconfirmed, 0, "without peers there is none to confirm anything");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Closed {
    /// How many updates of this instance's own no peer has confirmed: they are on its disk only, and reach the others when it is
    /// opened again; without a disk they are lost. 0 for an instance that never knew of a peer.
    pub unconfirmed: u64,
}

struct Threads {
    gossip: JoinHandle<()>,
    disk: JoinHandle<()>,
}

/// Starts a thread of this name.
fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, OpenError> {
    let builder = std::thread::Builder::new().name(format!("tallymesh-{name}"));
    builder.spawn(run).map_err(OpenError::Threads)
}

impl Runtime {
    /// Recovers the state, starts to listen and to write, and waits a bounded while for the peers' state.
    pub(crate) async fn open(config: &Config) -> Result<Runtime, OpenError> {
        let signals = Arc::new(Signals::default());
        let (disk, disk_thread, started) = disk_thread::start(config, signals.clone()).await?;
        let disk_thread::Started { table, members, clock, set_aside } = started;
        // An opening that is dropped must not leave threads behind that hold the directory.
        let abandoned = StopOnDrop(Some((disk.clone(), signals.clone())));
        // Before the peers are waited for, who would see a node come and go.
        #[cfg(unix)]
        let control = match config.control().map(ControlSocket::open).transpose() {
            Ok(control) => control,
            Err(error) => {
                drop(abandoned);
                disk.ended().await;
                return Err(error);
            }
        };
        table.watch_limits(&config.limits);
        let (changes, taken) = mpsc::channel(1);
        let gossip = gossip_thread::start(
            config,
            (table.clone(), members),
            clock.clone(),
            (disk.clone(), &signals),
            taken,
        )
        .await;
        let (gossip_thread, address) = match gossip {
            Ok(started) => started,
            Err(error) => {
                drop(abandoned);
                disk.ended().await;
                return Err(error);
            }
        };
        abandoned.disarm();
        if config.is_open() {
            log_line::write(|| tracing::warn!("{OPEN}"));
        }
        let threads = Threads { gossip: gossip_thread, disk: disk_thread };
        let threads = Mutex::new(Some(threads));
        Ok(Runtime {
            table,
            clock,
            disk,
            signals,
            threads,
            #[cfg(unix)]
            control,
            address,
            set_aside,
            in_memory: config.data_dir.is_none(),
            config: config.clone(),
            changes,
            credentials: config.credentials.clone().map(InForce::new),
            is_open: config.is_open(),
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

    /// The peers, and what else the gossip thread shows of itself.
    pub(crate) fn seen(&self) -> Seen {
        lock(&self.signals.seen).clone()
    }

    /// Resolves when the node is ready to be asked, or closed.
    pub(crate) async fn ready(&self) {
        // The sender lives as long as we do.
        let _ = self.signals.ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// What is said of connections that the process may not open.
    pub(crate) fn few_descriptors(&self) -> Option<String> {
        self.signals.few_descriptors.get().cloned()
    }

    /// What is said of threads that stopped.
    pub(crate) fn threads_stopped(&self) -> Vec<String> {
        lock(&self.signals.restarts).reasons(self.clock.monotonic())
    }

    /// How often a thread stopped and was started again.
    pub(crate) fn thread_restarts(&self) -> u64 {
        lock(&self.signals.restarts).times()
    }

    /// How many lines were left out of the log, or could not be written.
    pub(crate) fn log_lines_dropped(&self) -> u64 {
        self.signals.log_lines_dropped.load(Ordering::Relaxed) + log_line::lost()
    }

    /// What is said as long as others can reach this node and need not prove who they are.
    pub(crate) fn openness(&self) -> Option<String> {
        self.is_open.then(|| OPEN.to_owned())
    }

    /// What is said of each bound that is reached: because the node is full, or because something was refused lately.
    pub(crate) fn bounds_reached(&self) -> Vec<String> {
        let mut watch = lock(&self.signals.bounds);
        let lately = watch.look(self.clock.monotonic(), self.table.rejections());
        drop(watch);
        let max = &self.config.bounds;
        let held = [
            (Bound::Counters, self.table.len(), max.counters_max),
            (Bound::Replicas, self.table.replicas_known(), max.replicas_max),
        ];
        let reached = Bound::ALL.into_iter().filter(|bound| {
            let is_full = |(of, held, max): &(Bound, usize, usize)| of == bound && held >= max;
            held.iter().any(is_full) || lately.contains(bound)
        });
        let told = reached.map(|bound| match held.iter().find(|(of, ..)| *of == bound) {
            Some((_, held, max)) => {
                let crowded = match bound {
                    Bound::Counters => for_whom(&self.table.crowded()),
                    _ => String::new(),
                };
                format!("{} ({held} of {max}{crowded})", words(bound))
            }
            None => words(bound).to_owned(),
        });
        told.collect()
    }

    /// Every bound, how much of it is taken, and what to do where it was reached.
    #[cfg(unix)]
    pub(crate) fn bounds(&self) -> Vec<BoundReport> {
        let held = |bound: Bound| match bound {
            Bound::Counters => Some(self.table.len()),
            Bound::Replicas => Some(self.table.replicas_known()),
            Bound::Connections => {
                Some(self.seen().peers.iter().filter(|peer| peer.connected).count())
            }
            _ => None,
        };
        BoundReport::all(&self.config, held, &self.table.rejections())
    }

    /// Writes into the log what the operator said to this node.
    pub(crate) fn operator_said(&self, entry: &OperatorEntry) {
        log_line::write(|| match entry.is_signed() {
            true => {
                tracing::warn!(%entry, "the operator has said something to this node, which tells the others")
            }
            false => tracing::warn!(
                %entry,
                "the operator has said something to this node; it holds here alone, since there is no operator.public_key"
            ),
        });
    }

    /// Whether [`close`](Self::close) was called.
    pub(crate) fn is_closing(&self) -> bool {
        self.table.is_closed()
    }

    /// Refuses what would be counted from now on, says goodbye to the peers, writes the last checkpoint, and stops. The threads
    /// do that by themselves: a caller that stops waiting stops nothing, and every caller gets the same outcome.
    pub(crate) async fn close(&self) -> Result<Closed, DurabilityError> {
        self.begin_to_close();
        #[cfg(unix)]
        if let Some(serving) = self.control.as_ref().and_then(ControlSocket::take_thread) {
            // It waits for nothing; a panic there has ended no more than a connection.
            let _ = serving.join();
        }
        self.disk.ended().await;
        if let Some(Threads { gossip, disk }) = lock(&self.threads).take() {
            // They are over, but for their last instructions; what a panic said is in the outcome.
            let _ = (gossip.join(), disk.join());
        }
        self.disk.outcome().map(|()| self.closed())
    }

    /// As [`close`](Self::close), for a thread that cannot await: waits for at most this long. The checkpoint does not wait for
    /// the goodbyes.
    pub(crate) fn close_within(&self, at_most: Duration) -> Result<Closed, DurabilityError> {
        self.begin_to_close();
        self.disk.stop();
        // A peer that does not read its goodbye must not make a checkpoint look unfinished.
        self.signals.wait_for_end(at_most, |end| end.disk_ended && end.gossip_ended);
        match self.disk.is_stopped() {
            true => self.disk.outcome().map(|()| self.closed()),
            false => Err(DurabilityError::Unfinished),
        }
    }

    fn closed(&self) -> Closed {
        Closed { unconfirmed: self.signals.unconfirmed.load(Ordering::Relaxed) }
    }

    fn begin_to_close(&self) {
        self.table.close();
        #[cfg(unix)]
        if let Some(control) = &self.control {
            control.end();
        }
        if self.signals.want_end() {
            self.disk.stop();
        }
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
            signals.want_end();
            disk.stop();
        }
    }
}

impl Drop for Runtime {
    /// Stops the threads, and waits a moment for the last checkpoint, since the process may end after this.
    fn drop(&mut self) {
        self.begin_to_close();
        self.disk.stop();
        self.signals.wait_for_end(DROP_WRITES_MAX, |end| end.disk_ended);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What these mutexes guard is replaced whole, so a panic elsewhere leaves it usable.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
