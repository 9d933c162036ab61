//! The limiter: limits on top of the counter store.

use std::cell::Cell;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::config::Config;
use crate::runtime::{DurabilityError, OpenError};
use crate::status::Status;
use crate::store::CounterStore;
use tallymesh_core::gossip::PeerStatus;
use tallymesh_core::key::CounterKey;
use tallymesh_core::limit::{Charges, Denial, DenialReason, Limit, Policy, Request, Unchargeable};
use tallymesh_core::table::{Charged, CountError, Outcome, Table};
use tallymesh_core::time::Timestamp;

thread_local! {
    /// Room for the keys of a request's counters, used again and again, so that a decision need not allocate.
    static KEYS: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Decides whether requests may go ahead, under limits that hold across instances and restarts.
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
///     Decision::Denied(denial) => assert_eq!(denial.limit(), "booking per session"),
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
    charged: SmallVec<[Charged; 2]>,
    cost: u64,
    remaining: u64,
}

impl Receipt<'_> {
    /// What is left under the limit that is nearest to its end, as far as this instance knows; `u64::MAX` if none matched.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Takes the charge back, because the call did not count after all. A counter that has ended or was reset since is left
    /// as it is.
    pub fn refund(self) {
        self.inner.store.node.table.refund(&self.charged, self.cost);
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

    /// Admits the request and charges every limit that matches it, or denies it and charges none.
    ///
    /// Never waits for the disk or a peer. Instances that admit at one moment may together go past a limit, by what they
    /// admit while word travels; each by itself never does.
    pub fn acquire(&self, request: &Request<'_>) -> Decision<'_> {
        self.decide(request, |table, now, charges| table.acquire(now, charges))
    }

    /// What [`acquire`](Self::acquire) would answer now, with nothing charged: the receipt of an allowed one holds no
    /// charge.
    pub fn peek(&self, request: &Request<'_>) -> Decision<'_> {
        self.decide(request, |table, now, charges| table.peek(now, charges))
    }

    /// Like [`acquire`](Self::acquire), and resolves only when the charge survives a crash and a loss of power. Callers at
    /// one time share one write.
    ///
    /// # Errors
    /// When the charge cannot be made durable. It is then counted in memory and told to the peers all the same: to refuse
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

    /// Starts every counter that the request is charged to anew, on every instance. What others admit while the reset has
    /// not reached them may be lost by it.
    ///
    /// # Errors
    /// When a key is too long, or its window has just ended.
    pub fn reset(&self, request: &Request<'_>) -> Result<(), CountError> {
        let now = self.inner.store.now();
        let mut charges = Charges::default();
        // Without a bound on the key it cannot be refused here; a key too long is found to have no counter.
        let _ = self.inner.policy.charge(request, now, usize::MAX, &mut charges);
        for charge in &charges.list {
            let key = CounterKey::from_bytes(charges.key(charge));
            // Proven: charges are made by the same code that reads keys back.
            self.inner.store.reset(&key.expect("a charge's key is valid"))?;
        }
        Ok(())
    }

    #[inline(always)]
    fn decide(
        &self,
        request: &Request<'_>,
        ask: impl Fn(&Table, Timestamp, &Charges) -> Outcome,
    ) -> Decision<'_> {
        let inner = &*self.inner;
        if request.labels_count() > inner.labels_max {
            return inner.refusal(None, DenialReason::TooManyLabels);
        }
        let now = inner.store.now();
        // Taken, not borrowed: a log subscriber may well ask the limiter something meanwhile.
        let mut charges = Charges::with_room(KEYS.take());
        let charged = inner.policy.charge(request, now, inner.key_bytes_max, &mut charges);
        let decision = match charged {
            Ok(()) => {
                let outcome = ask(&inner.store.node.table, now, &charges);
                inner.decision(outcome, request.charged_cost())
            }
            Err(Unchargeable { limit }) => inner.refusal(Some(limit), DenialReason::KeyTooLong),
        };
        KEYS.set(charges.into_room());
        decision
    }

    /// The limits in force, in order.
    pub fn limits(&self) -> impl Iterator<Item = &Limit> {
        self.inner.policy.limits().iter()
    }

    /// The counters that the limits count in; also the place of [`flush`](CounterStore::flush),
    /// [`health`](CounterStore::health) and [`rejections`](CounterStore::rejections).
    pub fn counters(&self) -> &CounterStore {
        &self.inner.store
    }

    /// How this instance is doing: its health, peers, rejections and sizes at one moment.
    pub fn status(&self) -> Status {
        self.inner.store.status()
    }

    /// Which peers are connected, how far they lag, and how their clocks differ.
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
    /// Passes on what an outcome asks for, and puts it into words.
    #[inline(always)]
    pub fn decision(&self, outcome: Outcome, cost: u64) -> Decision<'_> {
        match outcome {
            Outcome::Allowed { charged, remaining, urgent } => {
                if urgent {
                    self.store.node.wake_urgent();
                }
                if !charged.is_empty() {
                    self.store.node.changed();
                }
                Decision::Allowed(Receipt { inner: self, charged, cost, remaining })
            }
            Outcome::Denied { limit, reason, remaining, retry_after } => {
                self.store.node.touched();
                let limit = Some(&self.policy.limits()[limit]);
                Decision::Denied(Denial { reason, limit, remaining, retry_after })
            }
        }
    }

    /// The answer to a request that is not even counted.
    #[cold]
    pub fn refusal(&self, limit: Option<usize>, reason: DenialReason) -> Decision<'_> {
        let limit = limit.map(|place| &self.policy.limits()[place]);
        Decision::Denied(Denial { reason, limit, remaining: 0, retry_after: None })
    }
}
