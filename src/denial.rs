//! A denial: owned, cheap to copy, and an error for callers who want one.
//!
//! What it says of its limit does not change while the limiter lives, and is the same in every denial. So it is kept once, for
//! as long as the process lives, and a denial points to it: no allocation and no reference count on the way of a decision. Such
//! a record is made for each distinct limit of a config, never for anything that a request brings.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tallymesh_core::limit::{DenialReason, Limit};
use tallymesh_core::time::format_duration;

/// A denied request: which limit denied it, what is left under it, and when to try again.
///
/// It is a value that is yours to keep, and an error for callers who want one: see
/// [`Decision::into_result`](crate::Decision::into_result).
#[derive(Clone)]
pub struct Denial {
    pub(crate) reason: DenialReason,
    /// Which label of the limit's `per` is missing, if one is.
    pub(crate) label_index: u8,
    pub(crate) limit: Option<&'static LimitRecord>,
    pub(crate) remaining: u64,
    pub(crate) retry_after: Option<Duration>,
}

impl Denial {
    /// Why.
    #[inline]
    pub fn reason(&self) -> DenialReason {
        self.reason
    }

    /// The name of the limit that denied; of several, the one with the longest wait. `None` when the request was refused
    /// before any limit was looked at ([`DenialReason::TooManyLabels`], [`DenialReason::Closed`]), or none applies to it
    /// ([`DenialReason::Unmatched`]).
    #[inline]
    pub fn limit_name(&self) -> Option<&str> {
        self.limit.map(|limit| &*limit.name)
    }

    /// How much that limit allows in one window; `None` when no limit was looked at.
    #[inline]
    pub fn limit_max(&self) -> Option<u64> {
        self.limit.map(|limit| limit.max)
    }

    /// The name of the label that the request lacks, where that is [why](DenialReason::MissingLabel).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tallymesh::{Config, Limit, Limiter, Request, Window};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let limit = Limit::new("calls", 9, Window::Fixed(Duration::from_secs(60))).per("user");
    /// let limiter = Limiter::open(Config::builder("a").in_memory().limit(limit).build()?).await?;
    /// let denial = limiter.acquire(&Request::tool_call("s", "t")).into_denied().expect("no user");
    /// assert_eq!(denial.missing_label(), Some("user"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn missing_label(&self) -> Option<&str> {
        let limit = self.limit.filter(|_| self.reason == DenialReason::MissingLabel)?;
        limit.per.get(usize::from(self.label_index)).map(|label| &**label)
    }

    /// What is left under that limit: less than the request's cost.
    #[inline]
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// How long to wait until there is room again, if nothing else uses it up: until the window's end, or the session's if it
    /// stays unused for so long. In whole milliseconds, rounded up. A request after this wait, by a clock that is exact, finds
    /// the counter expired: the wait includes how coarse the clock is that decides, and how far the system's clock is behind the
    /// latest time that was acted on. While [`cut off`](DenialReason::CutOff) it is at most a second, since the cut may be over at
    /// any time. `None` where waiting does not help.
    #[inline]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, max) = self.limit.map_or(("", 0), |limit| (&limit.name, limit.max));
        match self.reason {
            DenialReason::LimitReached => {
                write!(f, "limit {name:?} of {max} reached ({} left)", self.remaining)?
            }
            DenialReason::CostOverMax => write!(f, "cost is over limit {name:?} of {max}")?,
            DenialReason::TooManyCounters => write!(
                f,
                "limit {name:?} needs a new counter, and max_counters leaves no room for one"
            )?,
            DenialReason::KeyTooLong => {
                write!(f, "label values for limit {name:?} are longer than max_key_bytes")?
            }
            DenialReason::TooManyLabels => write!(f, "more labels than max_labels")?,
            DenialReason::ReservedLabel => write!(
                f,
                "no request can have a label named \"\" or \"cost\": set what it costs by Request::cost"
            )?,
            DenialReason::MissingLabel => {
                let label = self.missing_label().unwrap_or_default();
                write!(f, "the request lacks the label {label:?}, which limit {name:?} counts per")?
            }
            DenialReason::Unmatched => {
                write!(f, "no limit applies to the request, and counters.unmatched is \"deny\"")?
            }
            DenialReason::CounterExhausted => write!(
                f,
                "the counter of limit {name:?} has counted 2^53 - 1 here, the most there is"
            )?,
            DenialReason::CutOff => write!(
                f,
                "members of the cluster are silent, and this side of the cut may admit no more under limit {name:?} of {max} \
                 ({} left)",
                self.remaining
            )?,
            DenialReason::Closed => write!(f, "the limiter is closed")?,
            other => write!(f, "denied by limit {name:?}: {other:?}")?,
        }
        match self.retry_after {
            Some(wait) => write!(f, "; retry in {}", format_duration(wait)),
            None => write!(f, "; waiting does not help"),
        }
    }
}

impl fmt::Debug for Denial {
    /// One line, also for `{:#?}`: it is what `unwrap` and `main` print.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Denial({self})")
    }
}

impl Error for Denial {}

/// What every denial by one configured limit says of it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LimitRecord {
    name: Box<str>,
    max: u64,
    per: Box<[Box<str>]>,
}

/// All records of this process. It grows with distinct limits that were ever opened, and with nothing else.
static RECORDS: Mutex<BTreeSet<&'static LimitRecord>> = Mutex::new(BTreeSet::new());

impl LimitRecord {
    /// The record of a limit: the one that an equal limit had before, or a new one.
    pub(crate) fn of(limit: &Limit) -> &'static LimitRecord {
        let per = limit.per_labels().map(Box::from).collect();
        let record = LimitRecord { name: limit.name().into(), max: limit.max(), per };
        // A set of references; what runs under its lock leaves it whole when it panics.
        let mut records = RECORDS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = records.get(&record) {
            return known;
        }
        let record: &'static LimitRecord = Box::leak(Box::new(record));
        records.insert(record);
        record
    }
}

#[cfg(test)]
mod tests {
    use tallymesh_core::limit::Window;

    use super::*;
    use crate::{Config, Limiter, Request};

    fn limit(name: &str, max: u64) -> Limit {
        Limit::new(name, max, Window::Fixed(Duration::from_secs(3600)))
    }

    fn records_of(prefix: &str) -> usize {
        RECORDS.lock().unwrap().iter().filter(|record| record.name.starts_with(prefix)).count()
    }

    async fn open(limits: impl IntoIterator<Item = Limit>) -> Limiter {
        let config = limits
            .into_iter()
            .fold(Config::builder("a").in_memory(), |config, limit| config.limit(limit));
        Limiter::open(config.build().unwrap()).await.unwrap()
    }

    #[test]
    fn a_denial_is_an_error_that_anyone_may_keep() {
        fn check<T: Clone + Error + Send + Sync + 'static>() {}
        check::<Denial>();
    }

    #[tokio::test]
    async fn it_outlives_its_limiter() {
        let limiter = open([limit("kept denial", 0)]).await;
        let denial = limiter.acquire(&Request::new()).into_denied().unwrap();
        limiter.close().await.unwrap();
        drop(limiter);
        assert_eq!((denial.limit_name(), denial.limit_max()), (Some("kept denial"), Some(0)));
        assert_eq!((denial.reason(), denial.remaining()), (DenialReason::CostOverMax, 0));
        assert_eq!(
            format!("{denial:?}"),
            r#"Denial(cost is over limit "kept denial" of 0; waiting does not help)"#
        );
        assert_eq!(format!("{denial:#?}").lines().count(), 1);
    }

    #[tokio::test]
    async fn where_no_limit_was_looked_at_none_is_named() {
        let mut config = Config::builder("a").in_memory().build().unwrap();
        config.labels_max = 0;
        let limiter = Limiter::open(config).await.unwrap();
        let denial = limiter.acquire(&Request::tool_call("s", "t")).into_denied().unwrap();
        assert_eq!((denial.limit_name(), denial.limit_max()), (None, None));
        assert_eq!(denial.reason(), DenialReason::TooManyLabels);
        limiter.close().await.unwrap();
    }

    #[tokio::test]
    async fn a_label_that_no_request_can_have_is_refused_by_name() {
        let limiter = open([limit("reserved", 5)]).await;
        for label in ["", "cost"] {
            let request = Request::new().with(label, "2");
            let denial = limiter.acquire(&request).into_denied().unwrap();
            assert_eq!((denial.reason(), denial.limit_name()), (DenialReason::ReservedLabel, None));
            assert!(denial.to_string().contains("set what it costs by Request::cost"), "{denial}");
            assert!(
                !limiter.peek(&request).is_allowed()
                    && !limiter.meter(&request).acquire(1).is_allowed()
            );
        }
        limiter.close().await.unwrap();
    }

    fn wait_of(limiter: &Limiter) -> Duration {
        limiter.acquire(&Request::new()).into_denied().unwrap().retry_after().unwrap()
    }

    #[tokio::test]
    async fn a_jump_of_the_clock_and_back_is_in_the_wait_and_in_the_status() {
        let window = Window::Fixed(Duration::from_secs(10));
        let limiter = open([Limit::new("jump", 1, window)]).await;
        let clock = &limiter.engine().runtime().clock;
        let seconds = Duration::from_secs;
        clock.set_off(90_000);
        // By the time that it jumped to, there is one call in this window, or in the next.
        let _ = limiter.acquire(&Request::new());
        clock.set_off(0);
        let _ = limiter.acquire(&Request::new());
        let wait = wait_of(&limiter);
        assert!(wait > seconds(80) && wait < seconds(101), "{wait:?}");
        let status = limiter.status();
        assert!((80_000..=90_000).contains(&status.clock_behind_ms), "{}", status.clock_behind_ms);
        assert!(status.health.reasons.concat().contains("behind the latest time"), "{status:?}");
        assert!(!limiter.peek(&Request::new()).is_allowed());
        // It falls as the clock catches up, and so does the wait; then the window rolls over, and nothing is wrong any more.
        clock.set_off(40_000);
        let later = wait_of(&limiter);
        assert!(later < wait - seconds(30) && later > seconds(40), "{later:?} after {wait:?}");
        clock.set_off(later.as_millis() as i64 + 40_000);
        assert!(limiter.acquire(&Request::new()).is_allowed());
        let status = limiter.status();
        assert_eq!((status.clock_behind_ms, status.health.reasons), (0, vec![]));
        limiter.close().await.unwrap();
    }

    #[tokio::test]
    async fn a_start_with_a_clock_a_year_ahead_is_told_at_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let config = || {
            let hour = Window::Fixed(Duration::from_secs(3600));
            let config = Config::builder("a").data_dir(dir.path()).limit(Limit::new("l", 1, hour));
            config.build().unwrap()
        };
        let year = Duration::from_secs(365 * 24 * 3600);
        let limiter = Limiter::open(config()).await.unwrap();
        limiter.engine().runtime().clock.set_off(year.as_millis() as i64);
        assert!(limiter.acquire(&Request::new()).is_allowed());
        limiter.close().await.unwrap();

        let limiter = Limiter::open(config()).await.unwrap();
        let behind = Duration::from_millis(limiter.status().clock_behind_ms);
        assert!(behind > year - Duration::from_secs(60) && behind <= year, "{behind:?}");
        let _ = limiter.acquire(&Request::new());
        let denial = limiter.acquire(&Request::new()).into_denied().unwrap();
        let wait = denial.retry_after().unwrap();
        assert!(wait >= behind && wait <= year + Duration::from_secs(3_610), "{wait:?}");
        assert!(denial.to_string().contains("retry in 36"), "in days: {denial}");
        assert!(limiter.status().health.reasons.concat().contains("tallymesh clock DIR --lower"));
        limiter.close().await.unwrap();
    }

    #[tokio::test]
    async fn where_waiting_does_not_help_the_text_says_so() {
        let mut config = Config::builder("a").in_memory().limit(limit("full", 5)).build().unwrap();
        config.bounds.counters_max = 0;
        config.labels_max = 1;
        let limiter = Limiter::open(config).await.unwrap();
        let text = |request: &Request<'_>| {
            let denial = limiter.acquire(request).into_denied().unwrap();
            assert_eq!(denial.retry_after(), None);
            denial.to_string()
        };
        for request in [Request::new(), Request::tool_call("s", "t")] {
            assert!(text(&request).ends_with("; waiting does not help"), "{}", text(&request));
        }
        assert_eq!(
            text(&Request::new().cost(6)),
            r#"cost is over limit "full" of 5; waiting does not help"#
        );
        limiter.close().await.unwrap();
    }

    #[tokio::test]
    async fn opening_the_same_limits_again_keeps_nothing_more() {
        let limits = || [limit("opened again: a", 0), limit("opened again: b", 2)];
        for round in 0..100 {
            let limiter = open(limits()).await;
            for request in 0..10 {
                let session = format!("{round} {request}");
                assert!(!limiter.acquire(&Request::tool_call(&session, "t")).is_allowed());
            }
            limiter.close().await.unwrap();
        }
        assert_eq!(records_of("opened again"), 2);
        let other_max = LimitRecord::of(&limit("opened again: b", 3));
        assert_eq!((&*other_max.name, other_max.max), ("opened again: b", 3));
        assert_eq!(records_of("opened again"), 3);
    }
}
