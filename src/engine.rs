//! What the limiter, the store and all handles share: the counters, the clock, the limits in force, and the threads.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tallymesh_core::limit::{Lifetime, Policy};
use tallymesh_core::table::{OpResult, Table};
use tallymesh_core::time::{Moment, Timestamp};

use crate::clock::Clock;
use crate::config::{Config, Unmatched};
use crate::denial::LimitRecord;
use crate::receipt::LifeId;
use crate::runtime::{Closed, DurabilityError, OpenError, Runtime, open_in_slot};
use crate::token::Tokens;

/// One running instance. A decision reaches all that it needs from here, and waits for none of it.
pub(crate) struct Engine {
    table: Arc<Table>,
    clock: Arc<Clock>,
    /// The threads, and how to wake them.
    runtime: Runtime,
    policy: Policy,
    /// The slot of this process, if there are several.
    pub slot: Option<usize>,
    /// What denials say of each limit of the policy.
    limit_records: Box<[&'static LimitRecord]>,
    cluster: Arc<str>,
    life: LifeId,
    tokens: Tokens,
    /// How long a counter without a window lives after its last change.
    counter_lifetime: Lifetime,
    /// The longest key of a counter, in bytes.
    pub key_bytes_max: usize,
    /// The most labels of a request.
    pub labels_max: usize,
    /// What happens to requests that no limit applies to.
    pub unmatched: Unmatched,
    /// How many of them there were.
    requests_unmatched: AtomicU64,
}

impl Engine {
    /// Recovers the state, starts the threads, and puts the limits in force.
    ///
    /// # Errors
    /// As [`CounterStore::open`](crate::CounterStore::open).
    #[expect(clippy::expect_used, reason = "a config that was built has checked the same limits")]
    pub(crate) async fn open(config: Config) -> Result<Engine, OpenError> {
        let policy =
            Policy::new(config.limits.iter().cloned()).expect("a config's limits are valid");
        let limit_records = policy.limits().iter().map(LimitRecord::of).collect();
        let life = LifeId::draw().map_err(OpenError::Threads)?;
        let (runtime, config, slot) = open_in_slot(&config).await?;
        let tokens = Tokens::new(config.node_id().clone(), life).map_err(OpenError::Threads)?;
        Ok(Engine {
            table: runtime.table.clone(),
            clock: runtime.clock.clone(),
            runtime,
            slot,
            policy,
            limit_records,
            cluster: config.gossip.cluster.clone(),
            life,
            tokens,
            counter_lifetime: Lifetime::new(config.counter_ttl),
            key_bytes_max: config.bounds.key_bytes_max,
            labels_max: config.labels_max,
            unmatched: config.unmatched,
            requests_unmatched: AtomicU64::new(0),
        })
    }

    /// All counters.
    #[inline]
    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    /// The limits in force.
    #[inline]
    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What denials say of the limit with this index.
    #[inline]
    pub(crate) fn limit_record(&self, limit_index: usize) -> Option<&'static LimitRecord> {
        self.limit_records.get(limit_index).copied()
    }

    /// Counts a request that no limit applies to; returns whether it is the first.
    pub(crate) fn count_unmatched(&self) -> bool {
        self.requests_unmatched.fetch_add(1, Ordering::Relaxed) == 0
    }

    /// The name of the cluster.
    pub(crate) fn cluster(&self) -> &str {
        &self.cluster
    }

    /// How many requests there were that no limit applies to.
    pub(crate) fn requests_unmatched(&self) -> u64 {
        self.requests_unmatched.load(Ordering::Relaxed)
    }

    /// Which life of a limiter this is: receipts carry it.
    #[inline]
    pub(crate) fn life(&self) -> LifeId {
        self.life
    }

    /// The tokens that receipts of this life were made.
    pub(crate) fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// The time by which this instance decides.
    #[inline]
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.wall()
    }

    /// As [`now`](Self::now), with what a wait is told by.
    #[inline]
    pub(crate) fn moment(&self) -> Moment {
        self.clock.moment()
    }

    /// The time of this very moment, by a clock that is exact.
    pub(crate) fn exact(&self) -> Moment {
        self.clock.exact()
    }

    /// The threads, for what is no part of a decision.
    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// How long a counter without a window lives after its last change, where nothing else is said.
    #[inline]
    pub(crate) fn counter_lifetime(&self) -> Lifetime {
        self.counter_lifetime
    }

    /// Wakes the threads that a charge or another change needs.
    #[inline]
    pub(crate) fn changed(&self) {
        self.runtime.changed();
    }

    /// As [`changed`](Self::changed), of a counter whose end alone may have moved: that is not worth a write of its own.
    #[inline]
    pub(crate) fn touched(&self) {
        self.runtime.touched();
    }

    /// Wakes the gossip thread to send what is urgent.
    #[inline]
    pub(crate) fn urgent(&self) {
        self.runtime.wake_urgent();
    }

    /// Wakes the threads that an operation on a counter needs.
    #[inline]
    pub(crate) fn executed(&self, result: OpResult) {
        if result.urgent {
            self.urgent();
        }
        match result.applied {
            true => self.changed(),
            false => self.touched(),
        }
    }

    /// Whether [`close`](Self::close) was called.
    pub(crate) fn is_closed(&self) -> bool {
        self.runtime.is_closing()
    }

    /// Refuses what would be counted, tells the peers what is left and goodbye, writes the last checkpoint, and stops the threads. Every call gets the
    /// same outcome.
    ///
    /// # Errors
    /// When the disk has failed.
    pub(crate) async fn close(&self) -> Result<Closed, DurabilityError> {
        self.runtime.close().await
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Engine({}, {} counters)", self.table().own_replica(), self.table().len())
    }
}
