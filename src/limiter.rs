//! The limiter: limits on top of the counter store.

use std::cell::Cell;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::config::Config;
use crate::node::{DurabilityError, OpenError};
use crate::store::CounterStore;
use tallymesh_core::gossip::PeerStatus;
use tallymesh_core::key::CounterKey;
use tallymesh_core::limit::{Demands, Denial, DenialReason, KeyTooLong, Limit, Policy, Request};
use tallymesh_core::table::{Admission, CountError, Debit, Table};
use tallymesh_core::time::Timestamp;

thread_local! {
    /// Room for the keys of a request's counters, used again and again, so that a decision need not allocate.
    static KEYS: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Decides whether requests may go ahead, under limits that apply across instances and restarts.
///
/// A cheap handle: clones share one limiter. A decision is made from memory, in well under a microsecond.
///
/// ```
/// use std::time::Duration;
/// use tallymesh::{Config, Decision, Limit, Limiter, Request, Window};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let ttl = Duration::from_secs(3600);
/// let booking = Limit::new("booking per session", 1, Window::Session { ttl })
///     .when("tool", "book_*")
///     .per("session");
/// let limiter = Limiter::open(Config::builder("a").in_memory().limit(booking).build()?).await?;
///
/// let request = Request::tool_call("session-42", "book_service").with("user", "u7");
/// assert!(limiter.acquire(&request).is_allowed());
/// match limiter.acquire(&request) {
///     Decision::Allowed(receipt) => receipt.refund(),
///     Decision::Denied(denial) => assert_eq!(denial.limit_name(), "booking per session"),
/// }
/// limiter.close().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Limiter {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub store: CounterStore,
    pub policy: Policy,
    pub key_bytes_max: usize,
    pub labels_max: usize,
}

/// The answer to a request.
#[derive(Debug)]
#[must_use = "a decision that is not looked at limits nothing"]
pub enum Decision<'a> {
    /// The request may go ahead; every limit that matched is charged.
    Allowed(Receipt<'a>),
    /// It may not; nothing is charged.
    Denied(Denial<'a>),
}

impl<'a> Decision<'a> {
    /// Whether the request may go ahead.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Decision::Allowed(_))
    }

    /// The receipt of an allowed request.
    pub fn allowed(self) -> Option<Receipt<'a>> {
        match self {
            Decision::Allowed(receipt) => Some(receipt),
            Decision::Denied(_) => None,
        }
    }

    /// The denial of a denied request.
    pub fn denied(self) -> Option<Denial<'a>> {
        match self {
            Decision::Allowed(_) => None,
            Decision::Denied(denial) => Some(denial),
        }
    }
}

/// What an admitted request was charged. Dropping it leaves the charge as it is.
#[derive(Debug)]
pub struct Receipt<'a> {
    inner: &'a Inner,
    debits: SmallVec<[Debit; 2]>,
    cost: u64,
    remaining: u64,
}

impl Receipt<'_> {
    /// What is left under the limit that is nearest to its end, as far as this instance knows; `u64::MAX` if none matched.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Takes the charge back, because the call did not count after all. A counter that has expired or was reset since is left
    /// as it is.
    pub fn refund(self) {
        self.inner.store.node.table.refund(&self.debits, self.cost);
        self.inner.store.node.changed();
    }
}

impl Limiter {
    /// Opens the store and puts the config's limits in force.
    ///
    /// # Errors
    /// As [`CounterStore::open`].
    pub async fn open(config: Config) -> Result<Limiter, OpenError> {
        // Proven when the config was built: it checks the very same limits.
        let policy =
            Policy::new(config.limits.iter().cloned()).expect("a config's limits are valid");
        let (key_bytes_max, labels_max) = (config.bounds.key_bytes_max, config.labels_max);
        let store = CounterStore::open(config).await?;
        Ok(Limiter { inner: Arc::new(Inner { store, policy, key_bytes_max, labels_max }) })
    }

    /// Admits the request and demands every limit that matches it, or denies it and demands none.
    ///
    /// Never waits for the disk or a peer. Instances that admit at one moment may together go past a limit, by what they
    /// admit before they hear of each other; each by itself never does.
    pub fn acquire(&self, request: &Request<'_>) -> Decision<'_> {
        self.decide(request, |table, now, demands| table.acquire(now, demands))
    }

    /// What [`acquire`](Self::acquire) would answer now, with nothing charged: the receipt of an allowed one holds no
    /// charge.
    pub fn peek(&self, request: &Request<'_>) -> Decision<'_> {
        self.decide(request, |table, now, demands| table.peek(now, demands))
    }

    /// Like [`acquire`](Self::acquire), and resolves only when the charge survives a crash and a loss of power. Callers at
    /// one time share one write.
    ///
    /// # Errors
    /// When the charge cannot be made durable. It is then counted in memory and sent to the peers all the same: to refuse
    /// the call is up to the caller.
    pub async fn acquire_durable(
        &self,
        request: &Request<'_>,
    ) -> Result<Decision<'_>, DurabilityError> {
        let decision = self.acquire(request);
        if decision.is_allowed() {
            self.inner.store.flush().await?;
        }
        Ok(decision)
    }

    /// Resets every counter that the request is charged to, on every instance. What others admit while the reset has not
    /// reached them may be lost by it.
    ///
    /// # Errors
    /// When a key is too long, or its window has just expired.
    pub fn reset(&self, request: &Request<'_>) -> Result<(), CountError> {
        let now = self.inner.store.now();
        let mut demands = Demands::default();
        // Without a bound on the key it cannot be refused here; a key too long is found to have no counter.
        let _ = self.inner.find_demands(request, now, usize::MAX, &mut demands);
        for demand in &demands.list {
            let key = CounterKey::from_bytes(demands.key(demand));
            // Proven: demands are made by the same code that reads keys back.
            self.inner.store.reset(&key.expect("a demand's key is valid"))?;
        }
        Ok(())
    }

    #[inline(always)]
    fn decide(
        &self,
        request: &Request<'_>,
        ask: impl Fn(&Table, Timestamp, &Demands) -> Admission,
    ) -> Decision<'_> {
        let inner = &*self.inner;
        if request.labels_count() > inner.labels_max {
            return inner.refusal(None, DenialReason::TooManyLabels);
        }
        let now = inner.store.now();
        // Taken, not borrowed: a log subscriber may well ask the limiter something meanwhile.
        let mut demands = Demands::with_buffer(KEYS.take());
        let found = inner.find_demands(request, now, inner.key_bytes_max, &mut demands);
        let decision = match found {
            Ok(()) => {
                let admission = ask(&inner.store.node.table, now, &demands);
                inner.decision(admission, request.charged_cost())
            }
            Err(KeyTooLong { limit_index }) => {
                inner.refusal(Some(limit_index), DenialReason::KeyTooLong)
            }
        };
        KEYS.set(demands.into_buffer());
        decision
    }

    /// The limits in force, in order.
    pub fn limits(&self) -> impl Iterator<Item = &Limit> {
        self.inner.policy.limits().iter()
    }

    /// The counters that the limits count in; this is also where to find [`flush`](CounterStore::flush),
    /// [`health`](CounterStore::health) and [`rejections`](CounterStore::rejections).
    pub fn counters(&self) -> &CounterStore {
        &self.inner.store
    }

    /// Who is connected, how far they lag, and how their clocks differ.
    pub fn peers(&self) -> Vec<PeerStatus> {
        self.inner.store.peers()
    }

    /// Sends what is left to the peers, tells them goodbye, writes a last checkpoint, and stops.
    ///
    /// # Errors
    /// When the disk has failed.
    pub async fn close(&self) -> Result<(), DurabilityError> {
        self.inner.store.close().await
    }
}

impl Inner {
    /// Finds the demands of a request, and logs it if a limit does not apply to it for want of a label.
    #[inline(always)]
    pub fn find_demands(
        &self,
        request: &Request<'_>,
        now: Timestamp,
        key_bytes_max: usize,
        demands: &mut Demands,
    ) -> Result<(), KeyTooLong> {
        let found = self.policy.find_demands(request, now, key_bytes_max, demands);
        if !demands.missing_labels().is_empty() {
            self.warn_of_missing_labels(demands);
        }
        found
    }

    #[cold]
    fn warn_of_missing_labels(&self, demands: &Demands) {
        for missing in demands.missing_labels() {
            let (limit, label) = self.policy.names_of(*missing);
            tracing::warn!(
                limit,
                label,
                "a request matches the limit but lacks one of its `per` labels; the limit does not apply to it"
            );
        }
    }

    /// Wakes the threads that an admission needs, and turns it into a [`Decision`].
    #[inline(always)]
    pub fn decision(&self, admission: Admission, cost: u64) -> Decision<'_> {
        match admission {
            Admission::Allowed { debits, remaining, urgent } => {
                if urgent {
                    self.store.node.wake_urgent();
                }
                if !debits.is_empty() {
                    self.store.node.changed();
                }
                Decision::Allowed(Receipt { inner: self, debits, cost, remaining })
            }
            Admission::Denied { limit_index, reason, remaining, retry_after } => {
                self.store.node.touched();
                let limit = Some(&self.policy.limits()[limit_index]);
                Decision::Denied(Denial { reason, limit, remaining, retry_after })
            }
        }
    }

    /// The answer to a request that is not even counted.
    #[cold]
    pub fn refusal(&self, limit_index: Option<usize>, reason: DenialReason) -> Decision<'_> {
        let limit = limit_index.map(|limit_index| &self.policy.limits()[limit_index]);
        Decision::Denied(Denial { reason, limit, remaining: 0, retry_after: None })
    }
}
