//! Resetting the counters of limits: of one limit by its name, or of a request.

use smallvec::SmallVec;
use tallymesh_core::key::CounterKey;
use tallymesh_core::limit::Request;
use tallymesh_core::table::{CountError, Op};
use tallymesh_core::time::Timestamp;

use crate::engine::Engine;
use crate::limiter::Limiter;
use crate::selection::Selection;

/// Which counters [`Limiter::reset`] resets.
///
/// ```
/// use tallymesh::{Request, Reset};
///
/// // The counter of one limit for one session:
/// let one = Reset::limit("bookings per session").label("session", "session-42");
/// // Every counter that this request is charged to and that counts for its session, tool or user alone:
/// let all = Reset::from(&Request::tool_call("session-42", "book_service").with("user", "u7"));
/// ```
#[derive(Debug, Clone)]
#[must_use = "it resets nothing before it is given to `Limiter::reset`"]
pub struct Reset<'a>(Target<'a>);

#[derive(Debug, Clone)]
enum Target<'a> {
    Limit { name: &'a str, labels: SmallVec<[(&'a str, &'a str); 4]> },
    Request(Request<'a>),
    Selection(Selection),
}

impl<'a> Reset<'a> {
    /// The counter of the limit with this name. Every label of its `per` has to be given with [`label`](Self::label), and no
    /// other; a limit without `per` has one counter.
    pub fn limit(name: &'a str) -> Reset<'a> {
        Reset(Target::Limit { name, labels: SmallVec::new() })
    }

    /// The value of a label of the limit's `per`; a label given twice keeps the later value.
    ///
    /// Of a request, this adds a label to it; of a selection, a pattern.
    pub fn label(self, label: &'a str, value: &'a str) -> Reset<'a> {
        match self.0 {
            Target::Request(request) => Reset(Target::Request(request.with(label, value))),
            Target::Selection(selection) => Reset(Target::Selection(selection.label(label, value))),
            Target::Limit { name, mut labels } => {
                labels.retain(|(given, _)| *given != label);
                labels.push((label, value));
                Reset(Target::Limit { name, labels })
            }
        }
    }
}

impl<'a> From<&Request<'a>> for Reset<'a> {
    /// The counters that the request is charged to, of limits that count apart by labels. The counter of a limit without
    /// `per` is everybody's: no single request resets it, only [`Reset::limit`] does.
    fn from(request: &Request<'a>) -> Reset<'a> {
        Reset(Target::Request(request.clone()))
    }
}

impl From<Selection> for Reset<'_> {
    /// All counters that are meant, of those that this instance holds. That of a kind that this version does not know is left as it is.
    fn from(selection: Selection) -> Self {
        Reset(Target::Selection(selection))
    }
}

/// Why counters were not reset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResetError {
    /// No limit in force has this name.
    #[error("no limit has the name {limit:?}; those in force are {known:?}")]
    #[non_exhaustive]
    UnknownLimit {
        /// The name.
        limit: String,
        /// The names of the limits in force.
        known: Vec<String>,
    },
    /// A label of the limit's `per` was not given.
    #[error("limit {limit:?} counts per {label:?}: give its value, to say which counter is meant")]
    MissingLabel {
        /// The limit's name.
        limit: String,
        /// The label.
        label: String,
    },
    /// The limit does not count per a label that was given.
    #[error("limit {limit:?} does not count per {label:?}: leave it out")]
    SuperfluousLabel {
        /// The limit's name.
        limit: String,
        /// The label.
        label: String,
    },
    /// A counter cannot be changed.
    #[error(transparent)]
    Counter(#[from] CountError),
}

impl Limiter {
    /// Resets counters on every instance, and returns how many there were to reset. What others admit while the reset has not
    /// reached them may be lost by it.
    ///
    /// It takes a [`Reset`], or a request: of a request it resets the counters that it is charged to, except those of limits
    /// without `per`, which count for all. Of a [`Selection`] it resets what this instance holds, in time in proportion to all counters.
    ///
    /// # Errors
    /// When no limit has the name, a label of its `per` is missing, another is given, or a key is too long. Nothing is reset
    /// then, unless a request has several counters, of which a key that is too long comes later, or the limiter is closed during a reset
    /// of a selection.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tallymesh::{Config, Limit, Limiter, Request, Reset, Selection, Window};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let day = Window::Fixed(Duration::from_secs(86_400));
    /// let limit = Limit::new("tokens", 1000, day).per("session");
    /// let limiter = Limiter::open(Config::builder("a").in_memory().limit(limit).build()?).await?;
    /// let request = Request::new().with("session", "s1").cost(1000);
    /// limiter.acquire(&request).into_result()?;
    ///
    /// assert_eq!(limiter.reset(Reset::limit("tokens").label("session", "s1"))?, 1);
    /// limiter.acquire(&request).into_result()?;
    /// assert_eq!(limiter.reset(&request)?, 1);
    /// assert_eq!(limiter.reset(Selection::all().limit("tok*"))?, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn reset<'a>(&self, what: impl Into<Reset<'a>>) -> Result<usize, ResetError> {
        let (engine, now) = (self.engine(), self.engine().now());
        match what.into().0 {
            Target::Limit { name, labels } => {
                let key = engine.key_of(now, name, &labels)?;
                Ok(usize::from(engine.reset(now, &key)?))
            }
            Target::Request(request) => engine.reset_request(now, &request),
            Target::Selection(selection) => {
                let (mut resets, mut next) = (0, None);
                loop {
                    let page = engine.reset_page(&selection, next)?;
                    resets += page.resets;
                    next = page.next;
                    if next.is_none() {
                        return Ok(resets);
                    }
                }
            }
        }
    }
}

impl Engine {
    /// The key of the counter under the limit with this name.
    fn key_of(
        &self,
        now: Timestamp,
        name: &str,
        labels: &[(&str, &str)],
    ) -> Result<Vec<u8>, ResetError> {
        let mut limits = self.policy().limits().iter().enumerate();
        let Some((limit_index, limit)) = limits.find(|(_, limit)| limit.name() == name) else {
            let known =
                self.policy().limits().iter().map(|limit| limit.name().to_owned()).collect();
            return Err(ResetError::UnknownLimit { limit: name.to_owned(), known });
        };
        let superfluous = |given: &str| limit.per_labels().all(|label| label != given);
        if let Some((label, _)) = labels.iter().find(|(label, _)| superfluous(label)) {
            let (limit, label) = (name.to_owned(), (*label).to_owned());
            return Err(ResetError::SuperfluousLabel { limit, label });
        }
        let value_of = |label: &str| {
            let given = labels.iter().find(|(given, _)| *given == label);
            given.map(|(_, value)| *value).ok_or_else(|| ResetError::MissingLabel {
                limit: name.to_owned(),
                label: label.to_owned(),
            })
        };
        let values = limit.per_labels().map(value_of).collect::<Result<Vec<_>, _>>()?;
        Ok(self.policy().key_under(limit_index, values, now))
    }

    fn reset_request(&self, now: Timestamp, request: &Request<'_>) -> Result<usize, ResetError> {
        let demands = self.policy().demands_with_labels(request, now);
        let mut resets = 0;
        for demand in &demands.list {
            let limit = self.policy().limits().get(demand.limit_index);
            if limit.is_some_and(|limit| limit.per_labels().len() > 0) {
                resets += usize::from(self.reset(now, demands.key(demand))?);
            }
        }
        Ok(resets)
    }

    /// Resets one counter, and returns whether there was one.
    fn reset(&self, now: Timestamp, key: &[u8]) -> Result<bool, CountError> {
        // Made by the same code that reads keys back, it is never refused.
        let Ok(key) = CounterKey::from_bytes(key) else { return Ok(false) };
        let result = self.table().execute(now, &key, Op::Reset, self.counter_lifetime())?;
        self.executed(result);
        Ok(result.applied)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tallymesh_core::limit::{Limit, Window};

    use super::*;
    use crate::Config;

    const HOUR: Duration = Duration::from_secs(3600);

    /// Three limits: per session and tool in windows, per session, and for all.
    async fn limiter() -> Limiter {
        let windows = Limit::new("windows", 9, Window::Fixed(HOUR)).per("session").per("tool");
        let sessions = Limit::new("sessions", 9, Window::Session { ttl: HOUR })
            .when("tool", "book_*")
            .per("session");
        let all = Limit::new("all", 9, Window::Fixed(HOUR));
        let config = Config::builder("a").in_memory().limit(windows).limit(sessions).limit(all);
        Limiter::open(config.build().unwrap()).await.unwrap()
    }

    fn charge(limiter: &Limiter, session: &str) {
        assert!(limiter.acquire(&Request::tool_call(session, "book_a")).is_allowed());
    }

    /// What each counter holds, by its key.
    fn counts(limiter: &Limiter) -> Vec<(String, u64)> {
        let name = |key: &CounterKey| {
            let parts = [key.limit()].into_iter().chain(key.values());
            parts.collect::<Vec<_>>().join(" ")
        };
        let counters = limiter.counters().iter();
        let mut counts: Vec<_> =
            counters.map(|counter| (name(&counter.key), counter.value)).collect();
        counts.sort();
        counts
    }

    fn of(counts: &[(&str, u64)]) -> Vec<(String, u64)> {
        counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[tokio::test]
    async fn of_one_limit_one_counter_is_reset() {
        let limiter = limiter().await;
        ["s1", "s2"].iter().for_each(|session| charge(&limiter, session));
        let reset = Reset::limit("windows").label("tool", "book_a").label("session", "s1");
        assert_eq!(limiter.reset(reset.clone()), Ok(1), "the order of labels does not matter");
        let expected = [
            ("all", 2),
            ("sessions s1", 1),
            ("sessions s2", 1),
            ("windows s1 book_a", 0),
            ("windows s2 book_a", 1),
        ];
        assert_eq!(counts(&limiter), of(&expected));
        let twice = Reset::limit("sessions").label("session", "none").label("session", "s2");
        assert_eq!(limiter.reset(twice), Ok(1), "the later value counts");
        assert_eq!(limiter.reset(Reset::limit("sessions").label("session", "new")), Ok(0));
        assert_eq!(counts(&limiter)[2], ("sessions s2".to_owned(), 0));
        limiter.close().await.unwrap();
    }

    #[tokio::test]
    async fn a_request_resets_what_counts_for_its_labels_alone() {
        let limiter = limiter().await;
        ["s1", "s2"].iter().for_each(|session| charge(&limiter, session));
        assert_eq!(limiter.reset(&Request::new()), Ok(0));
        assert_eq!(limiter.reset(&Request::new().with("tool", "book_a")), Ok(0));
        assert_eq!(limiter.reset(&Request::tool_call("s1", "book_a")), Ok(2));
        let expected = [
            ("all", 2),
            ("sessions s1", 0),
            ("sessions s2", 1),
            ("windows s1 book_a", 0),
            ("windows s2 book_a", 1),
        ];
        assert_eq!(counts(&limiter), of(&expected));
        let added = Reset::from(&Request::new().with("tool", "book_a")).label("session", "s2");
        assert_eq!(limiter.reset(added), Ok(2));
        limiter.close().await.unwrap();
    }

    #[tokio::test]
    async fn a_limit_without_per_is_reset_by_its_name() {
        let limiter = limiter().await;
        charge(&limiter, "s1");
        assert_eq!(limiter.reset(Reset::limit("all")), Ok(1));
        assert_eq!(counts(&limiter)[0], ("all".to_owned(), 0));
        limiter.close().await.unwrap();
    }

    #[tokio::test]
    async fn what_fits_patterns_is_reset() {
        let limiter = limiter().await;
        ["s1", "s2", "t1"].iter().for_each(|session| charge(&limiter, session));
        assert_eq!(limiter.reset(Selection::all().label("session", "s*")), Ok(4));
        let zero = |counts: &[(String, u64)]| -> Vec<String> {
            counts.iter().filter(|(_, count)| *count == 0).map(|(name, _)| name.clone()).collect()
        };
        let reset = ["sessions s1", "sessions s2", "windows s1 book_a", "windows s2 book_a"];
        assert_eq!(zero(&counts(&limiter)), reset);
        let narrowed = Reset::from(Selection::all().limit("win*")).label("session", "t1");
        assert_eq!(limiter.reset(narrowed), Ok(1));
        assert_eq!(limiter.reset(Selection::all().limit("none")), Ok(0));
        assert_eq!(limiter.reset(Selection::all()), Ok(7));
        limiter.close().await.unwrap();
        assert_eq!(limiter.reset(Selection::all()), Err(ResetError::Counter(CountError::Closed)));
    }

    #[tokio::test]
    async fn what_cannot_be_meant_is_refused_by_name() {
        let limiter = limiter().await;
        charge(&limiter, "s1");
        let long = "x".repeat(10_000);
        let refused: [(Reset<'_>, &[&str]); 6] = [
            (Reset::limit("wnidows").label("session", "s1"), &["no limit", "\"wnidows\""]),
            (Reset::limit("windows"), &["\"windows\"", "per \"session\""]),
            (Reset::limit("windows").label("session", "s1"), &["\"windows\"", "per \"tool\""]),
            (
                Reset::limit("sessions").label("session", "s1").label("user", "u"),
                &["\"sessions\"", "\"user\"", "leave it out"],
            ),
            (Reset::limit("all").label("session", "s1"), &["\"all\"", "\"session\""]),
            (Reset::limit("sessions").label("session", &long), &["max_key_bytes"]),
        ];
        for (reset, parts) in refused {
            let message = limiter.reset(reset).unwrap_err().to_string();
            parts.iter().for_each(|part| assert!(message.contains(part), "{message}"));
        }
        assert!(counts(&limiter).iter().all(|(_, count)| *count == 1));
        limiter.close().await.unwrap();
    }
}
