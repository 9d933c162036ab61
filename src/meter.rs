//! Handles of a limiter: the counters of a request found once, for many decisions.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::decision::{Decision, Peek};
use crate::denial::Denial;
use crate::limiter::Limiter;
use tallymesh_core::limit::{Demand, Demands, Matched, Request, refused_for_labels};
use tallymesh_core::table::{Admission, CachedSlot};
use tallymesh_core::time::{Moment, Timestamp};

/// Decides about requests with the same labels, without a look at strings or a search for counters each time.
///
/// A cheap handle: clones share what was found. It stays right when windows roll over, when counters expire or are reset,
/// and when they are swept and made again: then it finds them again, by itself.
///
/// ```
/// use std::time::Duration;
/// use tallymesh::{Config, Limit, Limiter, Request, Window};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let minute = Window::Fixed(Duration::from_secs(60));
/// let limit = Limit::new("tokens per session", 1000, minute).per("session");
/// let limiter = Limiter::open(Config::builder("a").in_memory().limit(limit).build()?).await?;
///
/// let meter = limiter.meter(&Request::tool_call("session-42", "book_service"));
/// assert!(meter.acquire(700).is_allowed());
/// assert!(!meter.acquire(700).is_allowed());
/// assert!(meter.peek(300).is_allowed());
/// # limiter.close().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Meter {
    limiter: Limiter,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    counters: Result<Counters, Denial>,
}

/// One for each limit that matches; where there is only one, which is usual, it costs no cache miss of its own.
type Counters = SmallVec<[Counter; 1]>;

#[derive(Debug)]
struct Counter {
    limit: Matched,
    cached_slot: CachedSlot,
}

impl Limiter {
    /// A handle for requests with these labels; the request's own cost does not matter.
    ///
    /// What a request would be denied for whatever its counters hold, such as too long a label, the handle answers to
    /// every call.
    pub fn meter(&self, request: &Request<'_>) -> Meter {
        let engine = self.engine();
        let matched = if let Some(reason) = refused_for_labels(request, engine.labels_max) {
            Err(engine.refusal(None, reason))
        } else {
            let (now, mut demands) = (engine.now(), Demands::default());
            let found = engine.find_demands(request, now, engine.key_bytes_max, &mut demands);
            found
                .map(|()| engine.policy().matched(&demands, now))
                .map_err(|error| engine.uncountable(error))
        };
        let unseen = |limit| Counter { limit, cached_slot: CachedSlot::default() };
        let counters = matched.map(|matched| matched.into_iter().map(unseen).collect());
        Meter { limiter: self.clone(), shared: Arc::new(Shared { counters }) }
    }

    /// The labels of one session, for handles of its tools.
    pub fn session(&self, session: impl Into<String>) -> Session {
        Session { limiter: self.clone(), labels: vec![("session".to_owned(), session.into())] }
    }
}

impl Meter {
    /// As [`Limiter::acquire`], for a request of this cost.
    #[inline]
    pub fn acquire(&self, cost: u64) -> Decision {
        let engine = self.limiter.engine();
        let counters = match &self.shared.counters {
            Ok(counters) => counters,
            Err(denial) => return Decision::Denied(engine.closed_or(denial)),
        };
        if counters.is_empty() {
            engine.note_unmatched();
            return engine.unmatched(cost);
        }
        let moment = engine.moment();
        let now = moment.wall;
        let demand =
            |counter: &Counter| engine.policy().demand_under(counter.limit.limit_index, now, cost);
        let table = engine.table();
        let admission = match &counters[..] {
            [one] => table.acquire_by_ref(now, &[demand(one)], [one.cached_slot.get()]),
            all => {
                let demands: SmallVec<[Demand; 4]> = all.iter().map(demand).collect();
                table.acquire_by_ref(now, &demands, all.iter().map(|one| one.cached_slot.get()))
            }
        };
        let (moment, admission) = match admission {
            Some(admission) => (moment, admission),
            None => self.acquire_by_key(counters, cost),
        };
        engine.decision(moment, admission, cost)
    }

    /// As [`Limiter::peek`], for a request of this cost.
    pub fn peek(&self, cost: u64) -> Peek {
        let engine = self.limiter.engine();
        let counters = match &self.shared.counters {
            Ok(counters) => counters,
            Err(denial) => return Peek::Denied(engine.closed_or(denial)),
        };
        if counters.is_empty() {
            return engine.unmatched(cost).into();
        }
        let moment = engine.exact();
        let demands = self.demands(counters, moment.wall, cost);
        engine.decision(moment, engine.table().peek(moment.wall, &demands), cost).into()
    }

    /// Decides as if there were no handle, by the exact clock, and notes in which slots the counters are now.
    #[cold]
    fn acquire_by_key(&self, counters: &Counters, cost: u64) -> (Moment, Admission) {
        let engine = self.limiter.engine();
        let (table, moment) = (engine.table(), engine.exact());
        let demands = self.demands(counters, moment.wall, cost);
        let admission = table.acquire(moment.wall, &demands);
        for (demand, counter) in demands.list.iter().zip(counters) {
            counter.cached_slot.set(table.resolve(demands.key(demand)));
        }
        (moment, admission)
    }

    fn demands(&self, counters: &Counters, now: Timestamp, cost: u64) -> Demands {
        let matched = counters.iter().map(|counter| &counter.limit);
        self.limiter.engine().policy().demands_under(matched, now, cost)
    }
}

/// The labels that all calls of one session have in common.
///
/// ```
/// # use tallymesh::{Config, Limiter};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let limiter = Limiter::open(Config::builder("a").in_memory().build()?).await?;
/// let session = limiter.session("session-42").with("user", "u7");
/// let booking = session.meter("book_service");
/// assert!(booking.acquire(1).is_allowed());
/// # limiter.close().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Session {
    limiter: Limiter,
    labels: Vec<(String, String)>,
}

impl Session {
    /// Adds a label; a label given twice keeps the later value.
    #[must_use]
    pub fn with(mut self, label: impl Into<String>, value: impl Into<String>) -> Session {
        self.labels.push((label.into(), value.into()));
        self
    }

    /// A handle for the session's calls of a tool.
    pub fn meter(&self, tool: &str) -> Meter {
        let request = self
            .labels
            .iter()
            .fold(Request::new(), |request, (label, value)| request.with(label, value));
        self.limiter.meter(&request.with("tool", tool))
    }
}
