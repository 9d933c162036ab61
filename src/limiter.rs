//! The limiter: limits on top of the counter store.

mod settings;

use std::cell::Cell;
use std::time::Duration;

use tallymesh_core::gossip::PeerStatus;
use tallymesh_core::key::CounterKey;
use tallymesh_core::limit::{
    DemandError, Demands, DenialReason, Limit, Request, WhenLabelMissing, cost_of,
    refused_for_labels,
};
use tallymesh_core::table::{Admission, Table};
use tallymesh_core::time::{Moment, Timestamp};

use crate::config::Config;
use crate::decision::{Decision, Peek};
use crate::engine::Engine;
use crate::log_line;
use crate::receipt::{Receipt, RefundError, Taken};
use crate::runtime::{Closed, DurabilityError, OpenError};
use crate::status::Status;
use crate::store::CounterStore;

thread_local! {
    /// Room for the keys of a request's counters, used again and again, so that a decision need not allocate.
    static KEYS: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Asks again, by the exact clock, by which a window may have ended.
#[cold]
fn ask_exactly(
    engine: &Engine,
    request: &Request<'_>,
    ask: fn(&Table, Timestamp, &Demands) -> Admission,
) -> (Moment, Admission) {
    let moment = engine.exact();
    let demands = engine.policy().demands_with_labels(request, moment.wall);
    (moment, ask(engine.table(), moment.wall, &demands))
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
///     Decision::Allowed(receipt) => limiter.refund(receipt)?,
///     Decision::Denied(denial) => assert_eq!(denial.limit_name(), Some("booking per session")),
/// }
/// limiter.close().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Limiter {
    counters: CounterStore,
}

impl Limiter {
    /// Opens the store and puts the config's limits in force.
    ///
    /// # Errors
    /// As [`CounterStore::open`].
    pub async fn open(config: Config) -> Result<Limiter, OpenError> {
        Ok(Limiter { counters: CounterStore::open(config).await? })
    }

    /// Admits the request and charges every limit that matches it, or denies it and charges none.
    ///
    /// Never waits for the disk or a peer. Instances that admit at one moment may together go past a limit, by what they
    /// admit before they hear of each other; each by itself never does.
    pub fn acquire(&self, request: &Request<'_>) -> Decision {
        self.decide(request, Engine::note_unmatched, Table::acquire_early, Table::acquire)
    }

    /// What [`acquire`](Self::acquire) would answer now, with nothing charged and no session kept alive. The wait of a denial is
    /// the one that a call would be told, which is use of a session.
    pub fn peek(&self, request: &Request<'_>) -> Peek {
        self.decide(request, |_| {}, Table::peek_early, Table::peek).into()
    }

    /// Like [`acquire`](Self::acquire), and resolves only when the charge survives a crash and a loss of power. Callers at
    /// one time share one write.
    ///
    /// # Errors
    /// When the limiter is closed, or the disk has failed. Nothing is charged then, nor when the future is dropped before it
    /// resolves. To go on without the disk, call [`acquire`](Self::acquire).
    pub async fn acquire_durable(
        &self,
        request: &Request<'_>,
    ) -> Result<Decision, DurabilityError> {
        let receipt = match self.acquire(request) {
            Decision::Allowed(receipt) => receipt,
            Decision::Denied(denial) if denial.reason() == DenialReason::Closed => {
                return Err(DurabilityError::Closed);
            }
            denied => return Ok(denied),
        };
        let mut charge = Provisional { limiter: self, receipt: Some(receipt) };
        self.engine().runtime().disk.flush_charge().await?;
        charge.receipt.take().map(Decision::Allowed).ok_or(DurabilityError::Closed)
    }

    /// Takes a charge back, because the call did not count after all. A counter that has expired or was reset since is left
    /// as it is.
    ///
    /// # Errors
    /// When the receipt is of another limiter, or of this one before it was opened again, or the limiter is closed; nothing is
    /// changed then.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tallymesh::{Config, Limit, Limiter, RefundError, Request, Window};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let hour = Window::Fixed(Duration::from_secs(3600));
    /// # let config = || Config::builder("a").in_memory().limit(Limit::new("all", 1, hour)).build();
    /// let (limiter, other) = (Limiter::open(config()?).await?, Limiter::open(config()?).await?);
    /// let receipt = limiter.acquire(&Request::new()).into_result()?;
    /// limiter.refund(receipt)?;
    ///
    /// let receipt = limiter.acquire(&Request::new()).into_result()?;
    /// assert_eq!(other.refund(receipt), Err(RefundError::OtherLimiter));
    /// # Ok(())
    /// # }
    /// ```
    pub fn refund(&self, receipt: Receipt) -> Result<(), RefundError> {
        let engine = self.engine();
        if receipt.life != engine.life() {
            return Err(RefundError::OtherLimiter);
        }
        let Taken::Counters(debits) = receipt.taken;
        if !engine.table().refund(&debits, receipt.cost) {
            return Err(RefundError::Closed);
        }
        engine.changed();
        Ok(())
    }

    /// Makes a receipt a text, for a client to keep across a reconnect: [`refund_token`](Self::refund_token) of this very
    /// limiter takes it, once. The text names this node, and is signed with a key that does not leave this limiter and ends
    /// with it. The latest 65,536 tokens can be refunded.
    ///
    /// # Errors
    /// When the receipt is of another limiter, or of this one before it was opened again.
    ///
    /// ```
    /// # use tallymesh::{Config, Limiter, RefundError, Request};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let limiter = Limiter::open(Config::builder("a").in_memory().build()?).await?;
    /// let receipt = limiter.acquire(&Request::new()).into_result()?;
    /// let token = limiter.token(receipt)?;
    /// assert_eq!(limiter.refund_token(&token), Ok(()));
    /// assert_eq!(limiter.refund_token(&token), Err(RefundError::Used));
    /// # Ok(())
    /// # }
    /// ```
    pub fn token(&self, receipt: Receipt) -> Result<String, RefundError> {
        let engine = self.engine();
        match receipt.life == engine.life() {
            true => Ok(engine.tokens().write(&receipt)),
            false => Err(RefundError::OtherLimiter),
        }
    }

    /// As [`refund`](Self::refund), by a [`token`](Self::token). No node takes back what another one charged.
    ///
    /// # Errors
    /// When the token is of another node (which is named) or an earlier life of this one, is made up or changed, was used
    /// before, or is too old. Nothing is changed then.
    pub fn refund_token(&self, token: &str) -> Result<(), RefundError> {
        self.refund(self.engine().tokens().take(token)?)
    }

    /// The random number of this limiter's life: another one each time that a limiter is opened. Receipts carry it.
    ///
    /// ```
    /// # use std::collections::HashMap;
    /// # use tallymesh::{Config, Limiter, Receipt, Request};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let config = || Config::builder("a").in_memory().build();
    /// # let (limiter, other) = (Limiter::open(config()?).await?, Limiter::open(config()?).await?);
    /// // Receipts of several limiters, kept together: each is kept with the life of the limiter that takes it back.
    /// let mut kept: Vec<(u64, Receipt)> = Vec::new();
    /// kept.push((limiter.life(), limiter.acquire(&Request::new()).into_result()?));
    /// kept.push((other.life(), other.acquire(&Request::new()).into_result()?));
    ///
    /// let limiters = HashMap::from([&limiter, &other].map(|limiter| (limiter.life(), limiter)));
    /// for (life, receipt) in kept {
    ///     limiters[&life].refund(receipt)?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn life(&self) -> u64 {
        self.engine().life().get()
    }

    #[inline(always)]
    fn decide(
        &self,
        request: &Request<'_>,
        note_unmatched: impl Fn(&Engine),
        ask_early: impl Fn(&Table, Timestamp, &Demands) -> Option<Admission>,
        ask: fn(&Table, Timestamp, &Demands) -> Admission,
    ) -> Decision {
        let engine = self.engine();
        if let Some(reason) = refused_for_labels(request, engine.labels_max) {
            return Decision::Denied(engine.refusal(None, reason));
        }
        let moment = engine.moment();
        let now = moment.wall;
        // Taken, not borrowed: a log subscriber may well ask the limiter something meanwhile.
        let mut demands = Demands::with_buffer(KEYS.take());
        let found = engine.find_demands(request, now, engine.key_bytes_max, &mut demands);
        let decision = match found {
            Ok(()) if demands.list.is_empty() => {
                note_unmatched(engine);
                engine.unmatched(cost_of(request))
            }
            Ok(()) => {
                let (moment, admission) = match ask_early(engine.table(), now, &demands) {
                    Some(admission) => (moment, admission),
                    None => ask_exactly(engine, request, ask),
                };
                engine.decision(moment, admission, cost_of(request))
            }
            Err(error) => Decision::Denied(engine.uncountable(error)),
        };
        KEYS.set(demands.into_buffer());
        decision
    }

    /// The keys of the counters that a request counts in, in the order of the limits that match it, for
    /// [`counters`](Self::counters). A limit with a window counts in another one from the next window on.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tallymesh::{Config, Limit, Limiter, Request, Window};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let hour = Window::Fixed(Duration::from_secs(3600));
    /// let limit = Limit::new("tokens", 1000, hour).per("session");
    /// let limiter = Limiter::open(Config::builder("a").in_memory().limit(limit).build()?).await?;
    /// let request = Request::new().with("session", "s1").cost(30);
    /// limiter.acquire(&request).into_result()?;
    ///
    /// let values = limiter.keys(&request).iter().map(|key| limiter.counters().value(key)).sum::<u64>();
    /// assert_eq!(values, 30);
    /// # Ok(())
    /// # }
    /// ```
    pub fn keys(&self, request: &Request<'_>) -> Vec<CounterKey> {
        let engine = self.engine();
        let demands = engine.policy().demands_with_labels(request, engine.now());
        let keys = demands.list.iter().map(|demand| demands.key(demand));
        keys.filter_map(|key| CounterKey::from_bytes(key).ok()).collect()
    }

    /// How much of the window of a request's limits this side of a cut may admit in all, of that limit with the least: `None` while no
    /// member is silent, or where no limit that matches says [`when_cut_off`](Limit::when_cut_off). A side that `deny` refuses may
    /// admit what is used already.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tallymesh::{Config, Limit, Limiter, Request, WhenCutOff, Window};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let hour = Window::Fixed(Duration::from_secs(3600));
    /// let limit = Limit::new("calls", 90, hour).when_cut_off(WhenCutOff::Share);
    /// // Two peers that do not answer.
    /// let config = Config::builder("a").in_memory().peers(["127.0.0.1:1", "127.0.0.1:2"]);
    /// # let config = config.sync_timeout(Duration::ZERO);
    /// let limiter = Limiter::open(config.limit(limit).build()?).await?;
    /// assert_eq!(limiter.cap(&Request::new()), Some(30));
    /// # limiter.close().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn cap(&self, request: &Request<'_>) -> Option<u64> {
        let (engine, now) = (self.engine(), self.engine().exact().wall);
        engine.table().cap(now, &engine.policy().demands_with_labels(request, now))
    }

    /// The limits in force, in order.
    pub fn limits(&self) -> impl Iterator<Item = &Limit> {
        self.engine().policy().limits().iter()
    }

    /// The counters that the limits count in; this is also where to find [`flush`](CounterStore::flush),
    /// [`health`](CounterStore::health) and [`rejections`](CounterStore::rejections).
    pub fn counters(&self) -> &CounterStore {
        &self.counters
    }

    /// How this instance is doing: its health, peers, rejections and sizes at one moment.
    pub fn status(&self) -> Status {
        self.counters.status()
    }

    /// The slot of this process, if the config has [`slots`](crate::ConfigBuilder::slots): what else is one's own in each process, such
    /// as a port, may be numbered by it.
    pub fn slot(&self) -> Option<usize> {
        self.engine().slot
    }

    /// Which peers are connected, how far they lag, and how their clocks differ.
    pub fn peers(&self) -> Vec<PeerStatus> {
        self.counters.peers()
    }

    /// Resolves when this instance is ready to be asked: as [`CounterStore::ready`].
    pub async fn ready(&self) {
        self.counters.ready().await;
    }

    /// Denies what is asked from now on ([`DenialReason::Closed`]), sends what is left to the peers, waits for one to confirm it,
    /// tells them goodbye, writes a last checkpoint, and stops: as [`CounterStore::close`].
    ///
    /// # Errors
    /// When the disk has failed.
    pub async fn close(&self) -> Result<Closed, DurabilityError> {
        self.counters.close().await
    }

    /// As [`close`](Self::close), where nothing can be awaited: as [`CounterStore::close_within`].
    ///
    /// # Errors
    /// When the disk has failed, or the time is up.
    pub fn close_within(&self, at_most: Duration) -> Result<Closed, DurabilityError> {
        self.counters.close_within(at_most)
    }

    #[inline]
    pub(crate) fn engine(&self) -> &Engine {
        self.counters.engine()
    }
}

/// A charge whose caller has no answer yet: dropped before it has, or with an error for an answer, it is taken back.
struct Provisional<'a> {
    limiter: &'a Limiter,
    receipt: Option<Receipt>,
}

impl Drop for Provisional<'_> {
    fn drop(&mut self) {
        if let Some(receipt) = self.receipt.take() {
            // A limiter that is closed by now has charged it for good, in its last checkpoint.
            let _ = self.limiter.refund(receipt);
        }
    }
}

impl Engine {
    /// Finds the demands of a request, and logs it if it lacks a label of a limit.
    #[inline(always)]
    pub(crate) fn find_demands(
        &self,
        request: &Request<'_>,
        now: Timestamp,
        key_bytes_max: usize,
        demands: &mut Demands,
    ) -> Result<(), DemandError> {
        let found = self.policy().find_demands(request, now, key_bytes_max, demands);
        if !demands.missing_labels().is_empty() {
            log_line::write(|| self.warn_of_missing_labels(demands));
        }
        found
    }

    /// Counts a request that no limit applies to, and logs the first.
    #[cold]
    pub(crate) fn note_unmatched(&self) {
        if self.count_unmatched() {
            log_line::write(|| {
                tracing::warn!(
                    unmatched = %self.unmatched,
                    "a request matches no limit, so nothing counts it; set counters.unmatched to \"deny\" to refuse such requests"
                );
            });
        }
    }

    #[cold]
    fn warn_of_missing_labels(&self, demands: &Demands) {
        for missing in demands.missing_labels() {
            let (limit, label) = self.policy().names_of(*missing);
            match self.policy().limits().get(missing.limit_index).map(Limit::when_label_is_missing)
            {
                Some(WhenLabelMissing::Skip) => tracing::warn!(
                    limit,
                    label,
                    "a request matches the limit but lacks one of its `per` labels; the limit does not apply to it"
                ),
                _ => tracing::warn!(
                    limit,
                    label,
                    "a request matches the limit but lacks one of its `per` labels; it is denied"
                ),
            }
        }
    }
}
