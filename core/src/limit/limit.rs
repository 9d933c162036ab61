//! The limits in force, and the counters that a request is charged to under them.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use smallvec::SmallVec;
use wildmatch::WildMatch;

use super::Request;
use super::label::Label;
use crate::key::{KEY_VALUES_MAX, WindowIndex, write_name_and_count, write_text, write_window};
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
pub const WINDOW_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

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
    when: Vec<(Label, WildMatch)>,
    per: Vec<Label>,
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
        self.when.push((Label::from(label.into()), WildMatch::new(pattern)));
        self
    }

    /// Counts apart for each distinct value of a label. A request without the label is not subject to the limit, which is
    /// warned about once.
    #[must_use]
    pub fn per(mut self, label: impl Into<String>) -> Limit {
        self.per.push(Label::from(label.into()));
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

    #[inline]
    fn matches(&self, request: &Request<'_>) -> bool {
        let fits = |(label, pattern): &(Label, WildMatch)| {
            request.value_of(label).is_some_and(|value| pattern.matches(value))
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
    limits: Vec<Limit>,
    /// For each limit, what the keys of all its counters have in common.
    key_parts: Vec<KeyParts>,
    /// For each limit, whether a request matched but lacked a label of its `per`; that is said only once.
    label_missing: Vec<AtomicBool>,
}

impl Policy {
    /// Puts the limits in force, in this order.
    ///
    /// # Errors
    /// When a limit is out of range, or two have one name.
    pub fn new(limits: impl IntoIterator<Item = Limit>) -> Result<Policy, LimitError> {
        let limits: Vec<Limit> = limits.into_iter().collect();
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
        let key_parts = limits.iter().map(KeyParts::of).collect();
        Ok(Policy { limits, key_parts, label_missing })
    }

    /// The limits, in order.
    pub fn limits(&self) -> &[Limit] {
        &self.limits
    }

    /// Finds the counters to charge, one for each limit that matches, and makes them the content of `charges`.
    #[inline]
    pub fn charge(
        &self,
        request: &Request<'_>,
        now: Timestamp,
        key_bytes_max: usize,
        charges: &mut Charges,
    ) -> Result<(), Unchargeable> {
        charges.clear();
        for (place, limit) in self.limits.iter().enumerate() {
            if !limit.matches(request) {
                continue;
            }
            let start = charges.keys.len();
            self.key_parts[place].begin(&mut charges.keys, now);
            let missing = limit.per.iter().find(|label| {
                let value = request.value_of(label);
                value.map(|value| write_text(&mut charges.keys, value)).is_none()
            });
            if let Some(label) = missing {
                charges.keys.truncate(start);
                if !self.label_missing[place].swap(true, Ordering::Relaxed) {
                    warn_of_missing_label(limit, label.as_str());
                }
                continue;
            }
            let end = charges.keys.len();
            if end - start > key_bytes_max {
                return Err(Unchargeable { limit: place });
            }
            charges.list.push(Charge {
                key: start..end,
                ..self.charge_under(place, now, request.charged_cost())
            });
        }
        Ok(())
    }

    /// Which limits match a request, whenever it is made: they and its label values do not change.
    pub fn matched(
        &self,
        request: &Request<'_>,
        now: Timestamp,
        key_bytes_max: usize,
    ) -> Result<Vec<Matched>, Unchargeable> {
        let mut charges = Charges::default();
        self.charge(request, now, key_bytes_max, &mut charges)?;
        let matched = |charge: &Charge| {
            let mut window = Vec::new();
            self.key_parts[charge.limit].write_window(&mut window, now);
            let without_window = charges.key(charge)[window.len()..].into();
            Matched { limit: charge.limit, without_window }
        };
        Ok(charges.list.iter().map(matched).collect())
    }

    /// The charge under a limit at this time; its key is left empty.
    #[inline]
    pub fn charge_under(&self, limit: usize, now: Timestamp, cost: u64) -> Charge {
        let (max, expires_at) = (self.limits[limit].max, self.key_parts[limit].ends_at(now));
        let is_windowed = matches!(self.key_parts[limit].time, Time::Window { .. });
        Charge { limit, key: 0..0, cost, max, expires_at, is_windowed }
    }

    /// What [`charge`](Self::charge) finds, for limits that were found to match before.
    pub fn charge_matched<'a>(
        &self,
        matched: impl IntoIterator<Item = &'a Matched>,
        now: Timestamp,
        cost: u64,
    ) -> Charges {
        let mut charges = Charges::default();
        for Matched { limit, without_window } in matched {
            let start = charges.keys.len();
            self.key_parts[*limit].write_window(&mut charges.keys, now);
            charges.keys.extend_from_slice(without_window);
            let key = start..charges.keys.len();
            charges.list.push(Charge { key, ..self.charge_under(*limit, now, cost) });
        }
        charges
    }
}

/// A limit that matches a request, and the request's key in it but for the window.
#[derive(Debug)]
pub struct Matched {
    /// The limit's place in the policy.
    pub limit: usize,
    without_window: Box<[u8]>,
}

/// What all keys of a limit begin with, and when its counters end, made once.
#[derive(Debug)]
struct KeyParts {
    time: Time,
    /// What follows the window's index.
    name_and_count: Box<[u8]>,
}

#[derive(Debug)]
enum Time {
    Window { length_ms: u64 },
    Session(Lifetime),
}

impl KeyParts {
    fn of(limit: &Limit) -> KeyParts {
        let mut name_and_count = Vec::new();
        write_name_and_count(&mut name_and_count, &limit.name, limit.per.len());
        let time = match limit.window {
            Window::Fixed(length) => Time::Window { length_ms: whole_ms(length) },
            Window::Session { ttl } => Time::Session(Lifetime::new(ttl)),
        };
        KeyParts { time, name_and_count: name_and_count.into() }
    }

    #[inline]
    fn begin(&self, bytes: &mut Vec<u8>, now: Timestamp) {
        self.write_window(bytes, now);
        bytes.extend_from_slice(&self.name_and_count);
    }

    #[inline]
    fn write_window(&self, bytes: &mut Vec<u8>, now: Timestamp) {
        let window = match self.time {
            Time::Window { length_ms } => Some(WindowIndex::at(length_ms, now)),
            Time::Session(_) => None,
        };
        write_window(bytes, window);
    }

    #[inline]
    fn ends_at(&self, now: Timestamp) -> Timestamp {
        match &self.time {
            Time::Window { length_ms } => WindowIndex::at(*length_ms, now).end(),
            Time::Session(lifetime) => lifetime.end(now),
        }
    }
}

/// How long a counter lives after its last use. Its end is rounded up by at most a sixteenth of that, so that uses close to
/// each other have one end, and only the first is worth telling.
#[derive(Debug, Clone, Copy)]
pub struct Lifetime {
    ttl_ms: u64,
    step_ms: u64,
}

impl Lifetime {
    pub fn new(ttl: Duration) -> Lifetime {
        let ttl_ms = whole_ms(ttl);
        Lifetime { ttl_ms, step_ms: (ttl_ms / 16).max(1) }
    }

    /// When a counter that is used now ends.
    #[inline]
    pub fn end(self, now: Timestamp) -> Timestamp {
        let end = now.0.saturating_add(self.ttl_ms);
        Timestamp(end.div_ceil(self.step_ms).saturating_mul(self.step_ms))
    }
}

/// The counters that a request is charged to, if it is admitted.
#[derive(Debug, Default)]
pub struct Charges {
    /// All keys, one after the other.
    keys: Vec<u8>,
    pub list: SmallVec<[Charge; 2]>,
}

/// One counter that a request is charged to.
#[derive(Debug)]
pub struct Charge {
    /// The limit's place in the policy.
    pub limit: usize,
    /// Where its key is.
    key: Range<usize>,
    pub cost: u64,
    pub max: u64,
    /// When the counter ends, if this request is the last to use it.
    pub expires_at: Timestamp,
    /// Whether it ends then for certain, since it counts in a fixed window.
    pub is_windowed: bool,
}

impl Charges {
    /// None yet, with room for their keys that was used before.
    #[inline]
    pub fn with_room(keys: Vec<u8>) -> Charges {
        Charges { keys, list: SmallVec::new() }
    }

    /// The room for keys, to be used again.
    #[inline]
    pub fn into_room(self) -> Vec<u8> {
        self.keys
    }

    fn clear(&mut self) {
        self.keys.clear();
        self.list.clear();
    }

    pub fn key(&self, charge: &Charge) -> &[u8] {
        &self.keys[charge.key.clone()]
    }
}

/// The limit at this place makes too long a key of the request.
#[derive(Debug)]
pub struct Unchargeable {
    pub limit: usize,
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

    fn charges(policy: &Policy, request: &Request<'_>, now: u64) -> Charges {
        let mut charges = Charges::default();
        policy.charge(request, Timestamp(now), 512, &mut charges).unwrap();
        charges
    }

    fn keys(policy: &Policy, request: &Request<'_>, now: u64) -> Vec<String> {
        let charges = charges(policy, request, now);
        let key =
            |charge: &Charge| CounterKey::from_bytes(charges.key(charge)).unwrap().to_string();
        charges.list.iter().map(key).collect()
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
            let charges = charges(&policy, &Request::new(), now);
            let left = charges.list[0].expires_at.since(Timestamp(now));
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
        let refused = policy.charge(&request, Timestamp(0), 512, &mut Charges::default());
        assert_eq!(refused.unwrap_err().limit, 0);
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
