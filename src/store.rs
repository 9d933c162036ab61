//! The counter store: replicated, persistent counters without any limits on them.

use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::engine::Engine;
use crate::runtime::{DurabilityError, OpenError};
use crate::status::{Health, Status};
use tallymesh_core::crdt::VersionVector;
use tallymesh_core::gossip::PeerStatus;
use tallymesh_core::id::ReplicaId;
use tallymesh_core::key::CounterKey;
use tallymesh_core::limit::Lifetime;
use tallymesh_core::table::{CountError, CounterState, DirtySet, Op, Rejections};
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
/// store.subtract(&key, 50)?;
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
    /// Waits up to `gossip.sync_timeout` for the state of the peers that answer, so that a restarted instance does not
    /// admit what the others know to be used up, but for what they counted within their last `gossip.interval`.
    ///
    /// # Errors
    /// When the data directory is held by another process, belongs to another node or version, or cannot be written; or
    /// when the address to listen at cannot be had. A damaged database is no error: it is set aside, said so in the log,
    /// and the state relearned from the peers.
    pub async fn open(config: Config) -> Result<CounterStore, OpenError> {
        Ok(CounterStore { engine: Arc::new(Engine::open(config).await?) })
    }

    /// Adds to a counter, and returns its value.
    ///
    /// A counter without a window lives until it has not been changed for `counters.ttl`.
    ///
    /// # Errors
    /// When the counter is new and there is no room, the key is too long, or its window is not the present one.
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
        self.execute_for(key, Op::Add(amount), Lifetime::new(ttl))
    }

    /// Subtracts from a counter, and returns its value, which is never below 0.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn subtract(&self, key: &CounterKey, amount: u64) -> Result<u64, CountError> {
        self.execute(key, Op::Subtract(amount))
    }

    /// Resets a counter on every instance. What others add while the reset has not reached them may be lost by it.
    ///
    /// # Errors
    /// As [`add`](Self::add); a counter that does not exist is left so.
    pub fn reset(&self, key: &CounterKey) -> Result<(), CountError> {
        self.execute(key, Op::Reset).map(drop)
    }

    fn execute(&self, key: &CounterKey, op: Op) -> Result<u64, CountError> {
        self.execute_for(key, op, self.engine().counter_lifetime())
    }

    fn execute_for(&self, key: &CounterKey, op: Op, lifetime: Lifetime) -> Result<u64, CountError> {
        let (engine, now) = (self.engine(), self.now());
        let result = engine.table().execute(now, key, op, lifetime)?;
        engine.executed(result);
        Ok(result.value)
    }

    #[inline]
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The counter's value as far as this instance knows; 0 for one that does not exist or has expired.
    pub fn value(&self, key: &CounterKey) -> u64 {
        self.engine.table().value(self.now(), key.as_bytes())
    }

    /// Every counter that has not expired, in no particular order. Counters that change meanwhile are shown as they were at
    /// some moment of the iteration.
    pub fn iter(&self) -> impl Iterator<Item = CounterState> + '_ {
        let now = self.now();
        let mut next = Some(None);
        let pages = std::iter::from_fn(move || {
            let (page, following) = self.engine.table().page(next?);
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
        self.engine.table().state_checksum(self.now())
    }

    /// The time by which this instance decides: the system's, unless that stepped back.
    pub fn now(&self) -> Timestamp {
        self.engine.now()
    }

    /// How this instance is doing: its health, peers, rejections and sizes at one moment.
    pub fn status(&self) -> Status {
        Status::of(self.engine.runtime())
    }

    /// The [peers](Status::peers), as of the last round.
    pub fn peers(&self) -> Vec<PeerStatus> {
        self.status().peers
    }

    /// Where this instance [listens](Status::address), with the real port if the config said port 0.
    pub fn address(&self) -> Option<std::net::SocketAddr> {
        self.status().address
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

    /// Whether the store was closed: then nothing is replicated or persisted any more.
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

    /// Sends what is left to the peers, tells them goodbye, writes a last checkpoint, and stops. Other handles of the store
    /// keep working, but nothing they do is replicated or persisted.
    ///
    /// A store that is dropped instead does the same on its own threads, and nothing tells when it is done.
    ///
    /// # Errors
    /// When the disk has failed.
    pub async fn close(&self) -> Result<(), DurabilityError> {
        self.engine.close().await
    }
}

impl std::fmt::Debug for CounterStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CounterStore({}, {} counters)", self.replica(), self.len())
    }
}
