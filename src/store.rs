//! The counter store: replicated, persistent counters without any limits on them.

mod settings;

use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::engine::Engine;
use crate::runtime::{Closed, DurabilityError, OpenError};
use crate::status::{Health, Status};
use tallymesh_core::crdt::VersionVector;
use tallymesh_core::gossip::PeerStatus;
use tallymesh_core::id::ReplicaId;
use tallymesh_core::key::CounterKey;
use tallymesh_core::limit::Lifetime;
use tallymesh_core::table::{CountError, CounterState, DirtySet, Op, OpResult, Rejections};
use tallymesh_core::time::Timestamp;

/// Counters that every instance of the cluster may add to, and that survive its restarts.
///
/// A cheap handle: clones share one store. Reads and writes never wait for the disk or the network.
///
/// ```
/// use tallymesh::{Config, CounterKey, CounterStore};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = CounterStore::open(Config::builder("a").in_memory().build()?).await?;
/// let key = CounterKey::new("tokens", &["session-42"])?;
/// store.add(&key, 700)?;
/// assert_eq!(store.subtract(&key, 50)?.taken, 50);
/// assert_eq!(store.value(&key), 650);
/// store.close().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct CounterStore {
    engine: Arc<Engine>,
}

impl CounterStore {
    /// Recovers what the data directory holds, takes a new incarnation, and joins the peers.
    ///
    /// Waits up to `gossip.sync_timeout` for every peer of the config to answer and for what it has, so that a restarted
    /// instance does not admit what the others know to be used up, but for what they counted within their last
    /// `gossip.interval`. If it opens without, the log says what is missing.
    ///
    /// # Errors
    /// When the data directory is held (by another process or this one), belongs to another node or version, or cannot be
    /// written; or when the address to listen at cannot be had. A damaged database is no error: it is set aside, said so in
    /// the log, and the state relearned from the peers.
    ///
    /// ```
    /// # use tallymesh::{Config, CounterStore, Holder, OpenError, StorageError};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// let config = || Config::builder("a").data_dir(dir.path()).build();
    /// let store = CounterStore::open(config()?).await?;
    /// match CounterStore::open(config()?).await {
    ///     // One instance at a time works on a directory: use a clone of it.
    ///     Err(OpenError::Storage(StorageError::Held { by: Holder::ThisProcess, .. })) => {}
    ///     other => panic!("{other:?}"),
    /// }
    /// store.close().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn open(config: Config) -> Result<CounterStore, OpenError> {
        Ok(CounterStore { engine: Arc::new(Engine::open(config).await?) })
    }

    /// Adds to a counter, and returns its value.
    ///
    /// A counter without a window lives until it has not been changed for `counters.ttl`.
    ///
    /// # Errors
    /// When the counter is new and there is no room, the key is too long, its window is not the present one, this instance
    /// has counted 2^53 - 1 in it, or the store is closed.
    ///
    /// ```
    /// use tallymesh::{Config, CountError, CounterKey, CounterStore};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = CounterStore::open(Config::builder("a").in_memory().max_counters(1).build()?).await?;
    /// store.add(&CounterKey::new("calls", &["u1"])?, 1)?;
    /// let refused = store.add(&CounterKey::new("calls", &["u2"])?, 1).unwrap_err();
    /// assert_eq!(refused, CountError::TooManyCounters { max: 1 });
    /// # store.close().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn add(&self, key: &CounterKey, amount: u64) -> Result<u64, CountError> {
        self.execute(key, Op::Add(amount))
    }

    /// As [`add`](Self::add), to a counter without a window that is to live for this time after the change: from 1 ms to 366
    /// days, in the place of `counters.ttl`. The longest time that was given counts.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tallymesh::{Config, CounterKey, CounterStore};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let store = CounterStore::open(Config::builder("a").in_memory().build()?).await?;
    /// let blocked = CounterKey::new("blocked", &["u7"])?;
    /// store.add_for(&blocked, 1, Duration::from_secs(12))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn add_for(&self, key: &CounterKey, amount: u64, ttl: Duration) -> Result<u64, CountError> {
        self.apply(key, Op::Add(amount), Lifetime::new(ttl)).map(|result| result.value)
    }

    /// Subtracts from a counter, whichever instance added to it, but at most what it holds as far as this instance knows.
    /// Returns how much that was.
    ///
    /// Instances that subtract at one moment may take one unit twice. The value then reads 0 and what is added next makes up
    /// for it: see [`CounterState::credit`].
    ///
    /// # Errors
    /// When the key is too long, or its window is not the present one. A counter that does not exist is left so.
    pub fn subtract(&self, key: &CounterKey, amount: u64) -> Result<Subtracted, CountError> {
        let lifetime = self.engine().counter_lifetime();
        self.apply(key, Op::Subtract(amount), lifetime).map(Subtracted::of)
    }

    /// Resets a counter on every instance. What others add while the reset has not reached them may be lost by it.
    ///
    /// # Errors
    /// As [`add`](Self::add); a counter that does not exist is left so.
    pub fn reset(&self, key: &CounterKey) -> Result<(), CountError> {
        self.execute(key, Op::Reset).map(drop)
    }

    fn execute(&self, key: &CounterKey, op: Op) -> Result<u64, CountError> {
        self.apply(key, op, self.engine().counter_lifetime()).map(|result| result.value)
    }

    fn apply(&self, key: &CounterKey, op: Op, lifetime: Lifetime) -> Result<OpResult, CountError> {
        let engine = self.engine();
        let result = engine.table().execute(engine.now(), key, op, lifetime)?;
        engine.executed(result);
        Ok(result)
    }

    #[inline]
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The counter's value as far as this instance knows; 0 for one that does not exist or has expired.
    pub fn value(&self, key: &CounterKey) -> u64 {
        self.engine.table().value(self.engine.now(), key.as_bytes())
    }

    /// Every counter that has not expired, in no particular order. Counters that change meanwhile are shown as they were at
    /// some moment of the iteration. The iterator reads a few counters at a time, holds no lock between two of them, and may
    /// outlive the handle.
    pub fn iter(&self) -> impl Iterator<Item = CounterState> + use<> {
        let (engine, now) = (self.engine.clone(), self.engine.now());
        let mut next = Some(None);
        let pages = std::iter::from_fn(move || {
            let (page, following) = engine.table().page(next?);
            next = following.map(Some);
            Some(page)
        });
        pages.flatten().filter(move |counter| counter.expires_at > now)
    }

    /// How many counters there are, expired ones within their grace included.
    pub fn len(&self) -> usize {
        self.engine.table().len()
    }

    /// Whether there is no counter.
    pub fn is_empty(&self) -> bool {
        self.engine.table().is_empty()
    }

    /// Who this instance writes as.
    pub fn replica(&self) -> ReplicaId {
        self.engine.table().own_replica()
    }

    /// What this instance has of each replica. Equal vectors on two instances mean equal state.
    pub fn version_vector(&self) -> VersionVector {
        self.engine.table().harvest(DirtySet::All);
        self.engine.table().version_vector()
    }

    /// A checksum over all counters that have not expired: equal on two instances with equal state. Takes time in proportion
    /// to the number of counters.
    pub fn state_checksum(&self) -> u64 {
        self.engine.table().state_checksum(self.engine.now())
    }

    /// The time by which this instance decides: the system's, unless that stepped back. Exact, where a decision may be behind it
    /// by a tick of the kernel or a few; those after this call are made no earlier than what it returns.
    pub fn now(&self) -> Timestamp {
        self.engine.exact().wall
    }

    /// How long to wait until [`now`](Self::now) has reached a moment, in whole milliseconds, rounded up; zero if it has. Longer
    /// than the difference between the two while the system's clock is [behind](Status::clock_behind_ms).
    ///
    /// ```
    /// # use tallymesh::{Config, CounterStore, WindowSpan};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let store = CounterStore::open(Config::builder("a").in_memory().build()?).await?;
    /// let minute = WindowSpan::at(60_000, store.now())?;
    /// assert!(store.wait_until(minute.end()).as_secs() <= 60);
    /// assert!(store.wait_until(minute.start()).is_zero());
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait_until(&self, moment: Timestamp) -> Duration {
        let now = self.engine.exact();
        match moment.since(now.wall) {
            Duration::ZERO => Duration::ZERO,
            later => now.wait(later),
        }
    }

    /// How this instance is doing: its health, peers, rejections and sizes at one moment.
    pub fn status(&self) -> Status {
        Status::of(self.engine.runtime(), self.engine.requests_unmatched())
    }

    /// The [peers](Status::peers), as of the last round: those of the config, and others that were ever met, also when they are
    /// gone.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tallymesh::{Config, CounterStore, PeerAbsence};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let config = Config::builder("a").in_memory().peers(["no-such-host.invalid:7946"]);
    /// # let config = config.sync_timeout(Duration::ZERO);
    /// let store = CounterStore::open(config.build()?).await?;
    /// for peer in store.peers() {
    ///     assert_eq!((peer.connected, peer.absence), (false, Some(PeerAbsence::Unresolved)));
    /// }
    /// # store.close().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn peers(&self) -> Vec<PeerStatus> {
        self.status().peers
    }

    /// Where this instance [listens](Status::address), with the real port if the config said port 0.
    pub fn address(&self) -> Option<std::net::SocketAddr> {
        self.status().address
    }

    /// The slot of this process, if the config has [`slots`](crate::ConfigBuilder::slots).
    pub fn slot(&self) -> Option<usize> {
        self.engine.slot
    }

    /// Whether the store [runs, and whether counts reach the disk](Status::health).
    pub fn health(&self) -> Health {
        self.status().health
    }

    /// Where the database went, if it was found damaged when the store was opened.
    pub fn set_aside(&self) -> Option<&std::path::Path> {
        self.engine.runtime().set_aside.as_deref()
    }

    /// What was [rejected](Status::rejections) since the start, in numbers.
    pub fn rejections(&self) -> Rejections {
        self.status().rejections
    }

    /// Resolves when this instance is ready to be asked: it has tried every address that it knows, and has all that each member
    /// that answered had then; at the latest `gossip.ready_timeout` after the start. Without peers, and for a closed store, at
    /// once. What it waits for, the [status](Status::waiting_for) says.
    ///
    /// An instance of an orchestrator that arrives waits for this before it takes traffic, so that it does not admit what others
    /// know to be used up.
    ///
    /// ```
    /// # use tallymesh::{Config, CounterStore};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = CounterStore::open(Config::builder("a").in_memory().build()?).await?;
    /// store.ready().await;
    /// assert!(store.status().ready);
    /// # store.close().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn ready(&self) {
        self.engine.runtime().ready().await;
    }

    /// Whether the store was closed: then nothing is counted any more.
    pub fn is_closed(&self) -> bool {
        self.engine.is_closed()
    }

    /// Resolves when everything counted before the call survives a loss of power.
    ///
    /// # Errors
    /// When the disk has failed, or the store is closed.
    pub async fn flush(&self) -> Result<(), DurabilityError> {
        self.engine.runtime().disk.flush().await
    }

    /// Refuses what would be counted from now on, by any handle of the store, sends what is left to the peers, waits until one
    /// has confirmed it, at most for `gossip.leave_timeout`, tells them goodbye, writes a last checkpoint, and stops. What was
    /// counted before is in that checkpoint; how much of it no peer has confirmed, [`Closed`] says.
    ///
    /// Once begun it goes on, whether it is waited for or not; all callers get the same outcome, whenever they call. A store
    /// that is dropped instead does the same, and its last drop waits for the checkpoint for at most 100 ms.
    ///
    /// # Errors
    /// When the disk has failed.
    pub async fn close(&self) -> Result<Closed, DurabilityError> {
        self.engine.close().await
    }

    /// As [`close`](Self::close), where nothing can be awaited, such as at the end of a process: blocks the thread until the
    /// last checkpoint is written and the peers are told, or the time is up.
    ///
    /// # Errors
    /// When the disk has failed, or the time is up ([`DurabilityError::Unfinished`]): then the store closes all the same, as
    /// long as the process lives.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tallymesh::{Config, CounterKey, CounterStore};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = CounterStore::open(Config::builder("a").in_memory().build()?).await?;
    /// store.close_within(Duration::from_secs(1))?;
    /// assert!(store.add(&CounterKey::new("calls", &[])?, 1).is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn close_within(&self, at_most: Duration) -> Result<Closed, DurabilityError> {
        self.engine.runtime().close_within(at_most)
    }
}

/// What became of a subtraction.
///
/// ```
/// use tallymesh::{Config, CounterKey, CounterStore, Subtracted};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = CounterStore::open(Config::builder("a").in_memory().build()?).await?;
/// let key = CounterKey::new("tokens", &["session-42"])?;
/// store.add(&key, 5)?;
/// let Subtracted { taken, value, .. } = store.subtract(&key, 10)?;
/// assert_eq!((taken, value), (5, 0));
/// # store.close().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Subtracted {
    /// How much was taken: what was asked for, or what was there.
    pub taken: u64,
    /// The counter's value now.
    pub value: u64,
}

impl Subtracted {
    pub(crate) fn of(result: OpResult) -> Subtracted {
        Subtracted { taken: result.taken, value: result.value }
    }
}

impl std::fmt::Debug for CounterStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CounterStore({}, {} counters)", self.replica(), self.len())
    }
}
