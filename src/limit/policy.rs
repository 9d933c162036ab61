//! The limits in force, and the counters that a request is charged to under them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use smallvec::SmallVec;
use wildmatch::WildMatch;

use super::Request;
use crate::key::{KEY_VALUES_MAX, KeyBytes, WindowIndex, write_key};
use crate::time::{Timestamp, whole_ms};

/// Over what time a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// Fixed windows of this length, aligned to UTC: at least 1 ms, at most 366 days.
    Fixed(Duration),
    /// For as long as the counter is used: it ends when no request, allowed or denied, has touched it for `ttl`.
    ///
    /// The end is rounded up to a sixteenth of the ttl, so that the calls of a busy session need not each be told to every
    /// peer.
    Session {
        /// Time to live after the last use: at least 1 ms, at most 366 days.
        ttl: Duration,
    },
}

/// The longest window and the longest time to live.
pub(crate) const WINDOW_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// One limit: for requests that match, at most `max` in each window, counted apart for each distinct value of `per`.
///
/// ```
/// use std::time::Duration;
/// use tallymesh::{Limit, Window};
///
/// let limit = Limit::new("booking per session", 3, Window::Session { ttl: Duration::from_secs(3600) })
///     .when("tool", "book_*")
///     .per("session");
/// assert_eq!(limit.max(), 3);
/// ```
#[derive(Debug, Clone)]
pub struct Limit {
    name: String,
    when: Vec<(String, WildMatch)>,
    per: Vec<String>,
    max: u64,
    window: Window,
}

impl Limit {
    /// A limit on every request, with one counter for all of them.
    pub fn new(name: impl Into<String>, max: u64, window: Window) -> Limit {
        Limit { name: name.into(), when: Vec::new(), per: Vec::new(), max, window }
    }

    /// Restricts the limit to requests whose label matches the pattern; `*` stands for any text, `?` for one character.
    #[must_use]
    pub fn when(mut self, label: impl Into<String>, pattern: &str) -> Limit {
        self.when.push((label.into(), WildMatch::new(pattern)));
        self
    }

    /// Counts apart for each distinct value of a label. A request without the label is not subject to the limit, which is
    /// warned about once.
    #[must_use]
    pub fn per(mut self, label: impl Into<String>) -> Limit {
        self.per.push(label.into());
        self
    }

    /// The limit's name, unique among the limits; it is part of every counter's key.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How much is allowed in each window.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// Over what time it counts.
    pub fn window(&self) -> Window {
        self.window
    }

    fn matches(&self, request: &Request<'_>) -> bool {
        let fits = |(label, pattern): &(String, WildMatch)| {
            request.value(label).is_some_and(|value| pattern.matches(value))
        };
        self.when.iter().all(fits)
    }

    fn check(&self) -> Result<(), LimitError> {
        let invalid = |key, value: String, allowed| {
            Err(LimitError { limit: self.name.clone(), key, value, allowed })
        };
        if self.name.is_empty() || self.name.len() > 128 {
            return invalid("name", format!("{:?}", self.name), "1 to 128 bytes");
        }
        if self.max > crate::crdt::COUNT_MAX {
            return invalid("max", self.max.to_string(), "0 to 2^53 - 1");
        }
        if self.per.len() > KEY_VALUES_MAX {
            return invalid("per", format!("{} labels", self.per.len()), "at most 32 labels");
        }
        let (key, length) = match self.window {
            Window::Fixed(length) => ("window", length),
            Window::Session { ttl } => ("session_ttl", ttl),
        };
        if whole_ms(length) == 0 || length > WINDOW_MAX {
            let value = humantime::format_duration(length).to_string();
            return invalid(key, value, "1ms to 366 days");
        }
        Ok(())
    }
}

/// A limit that cannot be put in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("limit {limit:?}: {key} = {value} is not allowed: {allowed}")]
pub struct LimitError {
    limit: String,
    key: &'static str,
    value: String,
    allowed: &'static str,
}

/// All limits in force. A request must pass every limit that matches it.
#[derive(Debug, Default)]
pub struct Policy {
    limits: Vec<Arc<Limit>>,
    /// For each limit, whether a request matched but lacked a label of its `per`; that is said only once.
    label_missing: Vec<AtomicBool>,
}

impl Policy {
    /// Puts the limits in force, in this order.
    ///
    /// # Errors
    /// When a limit is out of range, or two have one name.
    pub fn new(limits: impl IntoIterator<Item = Limit>) -> Result<Policy, LimitError> {
        let limits: Vec<Arc<Limit>> = limits.into_iter().map(Arc::new).collect();
        for (place, limit) in limits.iter().enumerate() {
            limit.check()?;
            if limits[..place].iter().any(|earlier| earlier.name == limit.name) {
                return Err(LimitError {
                    limit: limit.name.clone(),
                    key: "name",
                    value: format!("{:?}", limit.name),
                    allowed: "each name once",
                });
            }
        }
        let label_missing = limits.iter().map(|_| AtomicBool::new(false)).collect();
        Ok(Policy { limits, label_missing })
    }

    /// The limits, in order.
    pub fn limits(&self) -> &[Arc<Limit>] {
        &self.limits
    }

    /// The counters to charge, one for each limit that matches.
    pub(crate) fn charges(
        &self,
        request: &Request<'_>,
        now: Timestamp,
        key_bytes_max: usize,
    ) -> Result<Charges, Unchargeable> {
        let mut charges = Charges::new();
        for (place, limit) in self.limits.iter().enumerate().filter(|(_, l)| l.matches(request)) {
            let values: SmallVec<[&str; 6]> =
                limit.per.iter().map_while(|label| request.value(label)).collect();
            if values.len() < limit.per.len() {
                if !self.label_missing[place].swap(true, Ordering::Relaxed) {
                    warn_of_missing_label(limit, &limit.per[values.len()]);
                }
                continue;
            }
            let (window, ends_at, touch_step_ms) = match limit.window {
                Window::Fixed(length) => {
                    let window = WindowIndex::at(whole_ms(length), now);
                    (Some(window), window.end(), 0)
                }
                Window::Session { ttl } => (None, now.plus(ttl), (whole_ms(ttl) / 16).max(1)),
            };
            let mut key = KeyBytes::new();
            write_key(&mut key, &limit.name, values.iter().copied(), window);
            if key.len() > key_bytes_max {
                return Err(Unchargeable { limit: place });
            }
            charges.push(Charge {
                limit: place,
                key,
                cost: request.charged_cost(),
                max: limit.max,
                expires_at: round_up(ends_at, touch_step_ms),
            });
        }
        Ok(charges)
    }
}

/// One counter that a request is charged to, if it is admitted.
#[derive(Debug)]
pub(crate) struct Charge {
    /// The limit's place in the policy.
    pub limit: usize,
    pub key: KeyBytes,
    pub cost: u64,
    pub max: u64,
    /// When the counter ends, if this request is the last to use it.
    pub expires_at: Timestamp,
}

pub(crate) type Charges = SmallVec<[Charge; 2]>;

/// The limit at this place makes too long a key of the request.
#[derive(Debug)]
pub(crate) struct Unchargeable {
    pub limit: usize,
}

/// The end of a session in whole steps, so that uses within one step have one end and only the first is worth telling.
fn round_up(moment: Timestamp, step_ms: u64) -> Timestamp {
    match step_ms {
        0 => moment,
        step => Timestamp(moment.0.div_ceil(step).saturating_mul(step)),
    }
}

#[cold]
fn warn_of_missing_label(limit: &Limit, label: &str) {
    tracing::warn!(
        limit = limit.name,
        label,
        "a request matches the limit but lacks a label of its `per`, so the limit does not hold for it"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::CounterKey;

    const HOUR: Duration = Duration::from_secs(3600);

    fn keys(policy: &Policy, request: &Request<'_>, now: u64) -> Vec<String> {
        let charges = policy.charges(request, Timestamp(now), 512).unwrap();
        let key = |charge: &Charge| CounterKey::from_bytes(&charge.key).unwrap().to_string();
        charges.iter().map(key).collect()
    }

    #[test]
    fn a_request_is_charged_to_every_limit_that_matches() {
        let policy = Policy::new([
            Limit::new("booking", 3, Window::Session { ttl: HOUR })
                .when("tool", "book_*")
                .per("session"),
            Limit::new("all", 9, Window::Fixed(Duration::from_secs(60))),
            Limit::new("user", 9, Window::Session { ttl: HOUR }).per("user"),
        ])
        .unwrap();
        let booking = Request::tool_call("s1", "book_service");
        assert_eq!(
            keys(&policy, &booking, 61_000),
            ["booking of \"s1\"", "all from 1970-01-01T00:01:00.000Z"]
        );
        assert_eq!(keys(&policy, &Request::new().with("user", "u"), 0).len(), 2);
    }

    #[test]
    fn a_session_ends_at_most_a_sixteenth_late_and_never_early() {
        let ttl = Duration::from_secs(16);
        let policy = Policy::new([Limit::new("l", 1, Window::Session { ttl })]).unwrap();
        for now in [0, 1, 999, 1000, 123_456] {
            let charges = policy.charges(&Request::new(), Timestamp(now), 512).unwrap();
            let left = charges[0].expires_at.since(Timestamp(now));
            assert!(left >= ttl && left < ttl + Duration::from_secs(1), "{left:?} at {now}");
        }
    }

    #[test]
    fn a_key_over_its_bound_is_told_with_its_limit() {
        let policy =
            Policy::new([Limit::new("l", 1, Window::Session { ttl: HOUR }).per("session")])
                .unwrap();
        let long = "x".repeat(600);
        let request = Request::new().with("session", &long);
        assert_eq!(policy.charges(&request, Timestamp(0), 512).unwrap_err().limit, 0);
    }

    #[test]
    fn limits_out_of_range_are_refused_by_name() {
        let window = Window::Fixed(HOUR);
        let refused = |limit: Limit| Policy::new([limit]).unwrap_err().to_string();
        assert!(refused(Limit::new("", 1, window)).contains("name"));
        assert!(refused(Limit::new("l", u64::MAX, window)).contains("max = 18446744073709551615"));
        assert!(refused(Limit::new("l", 1, Window::Fixed(Duration::ZERO))).contains("window = 0s"));
        let twice = Policy::new([Limit::new("l", 1, window), Limit::new("l", 2, window)]);
        assert!(twice.unwrap_err().to_string().contains("each name once"));
    }
}
