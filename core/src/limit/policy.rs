//! The limits in force, and what a request demands under them.

use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering};

use super::key_prefix::KeyPrefix;
use super::window::Kind;
use super::{
    Demand, Demands, KeyTooLong, Limit, LimitError, LimitHash, Matched, MissingLabel, Request,
    Window,
};
use crate::key::{WindowSpan, write_text};
use crate::time::{Timestamp, whole_ms};

/// All limits in force. A request must pass every limit that matches it.
#[derive(Debug, Default)]
pub struct Policy {
    limits: Vec<Limit>,
    /// For each limit, what the keys of all its counters have in common.
    key_prefixes: Vec<KeyPrefix>,
    /// For each limit, whether a request matched but lacked a label of its `per`; that is reported only once.
    label_missing: Vec<AtomicBool>,
}

impl Policy {
    /// Puts the limits in force, in this order.
    ///
    /// # Errors
    /// When a limit is out of range, or two have one name.
    pub fn new(limits: impl IntoIterator<Item = Limit>) -> Result<Policy, LimitError> {
        let mut checked: Vec<Limit> = Vec::new();
        for limit in limits {
            limit.check()?;
            if checked.iter().any(|earlier| earlier.name() == limit.name()) {
                return Err(LimitError::name_taken(&limit));
            }
            checked.push(limit);
        }
        let label_missing = checked.iter().map(|_| AtomicBool::new(false)).collect();
        let key_prefixes = checked.iter().map(KeyPrefix::of).collect();
        Ok(Policy { limits: checked, key_prefixes, label_missing })
    }

    /// The limits, in order; a `limit_index` is an index in them.
    #[inline]
    pub fn limits(&self) -> &[Limit] {
        &self.limits
    }

    /// A hash of each limit, by which peers tell whether theirs say the same.
    pub fn hashes(&self) -> Vec<LimitHash> {
        self.limits.iter().map(LimitHash::of).collect()
    }

    /// The names of the limit and the label of a report; empty if it is of another policy.
    pub fn names_of(&self, missing: MissingLabel) -> (&str, &str) {
        let limit = self.limits.get(missing.limit_index);
        let label = limit.and_then(|limit| limit.labels_of_per().get(missing.label_index));
        (limit.map_or("", Limit::name), label.map_or("", |label| label.as_str()))
    }

    /// Finds the counters to charge, one for each limit that matches, and makes them the content of `demands`.
    ///
    /// A limit does not apply to a request that lacks one of its `per` labels. The first time, that is noted in
    /// [`Demands::missing_labels`], also when this returns an error.
    ///
    /// # Errors
    /// When a key is longer than `key_bytes_max`; the demands are then incomplete.
    #[inline]
    pub fn find_demands(
        &self,
        request: &Request<'_>,
        now: Timestamp,
        key_bytes_max: usize,
        demands: &mut Demands,
    ) -> Result<(), KeyTooLong> {
        demands.clear();
        let limits = self.limits.iter().zip(&self.key_prefixes).zip(&self.label_missing);
        for (limit_index, ((limit, key_prefix), label_missing)) in limits.enumerate() {
            if !limit.matches(request) {
                continue;
            }
            let start = demands.keys.len();
            key_prefix.write(&mut demands.keys, now);
            let missing = limit.labels_of_per().iter().position(|label| {
                let value = request.value_of(label);
                value.map(|value| write_text(&mut demands.keys, value)).is_none()
            });
            if let Some(label_index) = missing {
                demands.keys.truncate(start);
                if !label_missing.swap(true, Ordering::Relaxed) {
                    demands.missing_labels.push(MissingLabel { limit_index, label_index });
                }
                continue;
            }
            let end = demands.keys.len();
            if end - start > key_bytes_max {
                return Err(KeyTooLong { limit_index });
            }
            let (cost, window) = (request.charged_cost(), &key_prefix.window);
            demands.list.push(demand(limit_index, start..end, cost, limit.max(), window, now));
        }
        Ok(())
    }

    /// The limits behind demands that were found at this very time. A request with these labels matches them whenever it is
    /// made, and its label values in their keys do not change.
    pub fn matched(&self, demands: &Demands, now: Timestamp) -> Vec<Matched> {
        let matched = |demand: &Demand| {
            let mut window = Vec::new();
            self.write_window(demand.limit_index, &mut window, now);
            let without_window = demands.key(demand).get(window.len()..).unwrap_or_default();
            Matched { limit_index: demand.limit_index, without_window: without_window.into() }
        };
        demands.list.iter().map(matched).collect()
    }

    /// The demand under a limit at this time; its key is left empty.
    ///
    /// # Panics
    /// If the limit is not one of these.
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "a limit's index comes from this policy")]
    pub fn demand_under(&self, limit_index: usize, now: Timestamp, cost: u64) -> Demand {
        let (max, window) =
            (self.limits[limit_index].max(), &self.key_prefixes[limit_index].window);
        demand(limit_index, 0..0, cost, max, window, now)
    }

    /// What [`find_demands`](Self::find_demands) finds, for limits that were found to match before.
    pub fn demands_under<'a>(
        &self,
        matched: impl IntoIterator<Item = &'a Matched>,
        now: Timestamp,
        cost: u64,
    ) -> Demands {
        let mut demands = Demands::default();
        for Matched { limit_index, without_window } in matched {
            let start = demands.keys.len();
            let demand = self.demand_under(*limit_index, now, cost);
            self.write_window(*limit_index, &mut demands.keys, now);
            demands.keys.extend_from_slice(without_window);
            demands.list.push(Demand { key: start..demands.keys.len(), ..demand });
        }
        demands
    }

    /// The key of the counter under a limit for these values of its `per` labels, in their order; empty if the limit is not
    /// one of these.
    pub fn key_under<'a>(
        &self,
        limit_index: usize,
        values: impl IntoIterator<Item = &'a str>,
        now: Timestamp,
    ) -> Vec<u8> {
        let mut key = Vec::new();
        if let Some(key_prefix) = self.key_prefixes.get(limit_index) {
            key_prefix.write(&mut key, now);
            values.into_iter().for_each(|value| write_text(&mut key, value));
        }
        key
    }

    /// The key that a limit of this name counts under now in the place of one that said only these values and this window:
    /// `None` if there is no such limit, or it counts by other values or over another time.
    pub fn key_for<'a>(
        &self,
        name: &str,
        values: impl ExactSizeIterator<Item = &'a str>,
        window: Option<WindowSpan>,
    ) -> Option<Vec<u8>> {
        let limit_index = self.limits.iter().position(|limit| limit.name() == name)?;
        let limit = self.limits.get(limit_index)?;
        let fits = match (limit.window(), window) {
            (Window::Fixed(length), Some(window)) => {
                WindowSpan::at(whole_ms(length), window.start()) == Ok(window)
            }
            (Window::Session { .. }, None) => true,
            _ => false,
        };
        let fits = fits && limit.labels_of_per().len() == values.len();
        let now = window.map_or(Timestamp(0), WindowSpan::start);
        fits.then(|| self.key_under(limit_index, values, now))
    }

    fn write_window(&self, limit_index: usize, key: &mut Vec<u8>, now: Timestamp) {
        if let Some(key_prefix) = self.key_prefixes.get(limit_index) {
            key_prefix.window.write(key, now);
        }
    }
}

#[inline(always)]
fn demand(
    limit_index: usize,
    key: Range<usize>,
    cost: u64,
    max: u64,
    window: &Kind,
    now: Timestamp,
) -> Demand {
    Demand { limit_index, key, cost, max, life: window.life(now) }
}

#[cfg(test)]
mod tests {
    use alloc::string::{String, ToString};
    use core::time::Duration;

    use super::*;
    use crate::key::CounterKey;
    use crate::limit::Window;

    const HOUR: Duration = Duration::from_secs(3600);

    fn demands(policy: &Policy, request: &Request<'_>, now: u64) -> Demands {
        let mut demands = Demands::default();
        policy.find_demands(request, Timestamp(now), 512, &mut demands).unwrap();
        demands
    }

    fn keys(policy: &Policy, request: &Request<'_>, now: u64) -> Vec<String> {
        let demands = demands(policy, request, now);
        let key =
            |demand: &Demand| CounterKey::from_bytes(demands.key(demand)).unwrap().to_string();
        demands.list.iter().map(key).collect()
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
    fn a_handle_demands_in_every_window_what_the_request_would() {
        let policy = Policy::new([
            Limit::new("all", 9, Window::Fixed(Duration::from_secs(60))).per("tool"),
            Limit::new("booking", 3, Window::Session { ttl: HOUR }).per("session"),
        ])
        .unwrap();
        let request = Request::tool_call("s1", "book_service");
        let matched = policy.matched(&demands(&policy, &request, 1_000), Timestamp(1_000));
        for now in [1_000, 61_000, 999_000_000] {
            let found = policy.demands_under(&matched, Timestamp(now), 1);
            let expected = demands(&policy, &request, now);
            assert_eq!(found.keys, expected.keys);
            let ends = |demands: &Demands| -> Vec<_> {
                demands.list.iter().map(|demand| demand.life.end()).collect()
            };
            assert_eq!(ends(&found), ends(&expected));
        }
    }

    #[test]
    fn a_key_that_said_less_is_the_limits_if_it_fits() {
        let policy = Policy::new([
            Limit::new("rate", 9, Window::Fixed(Duration::from_secs(60))).per("tool"),
            Limit::new("booking", 3, Window::Session { ttl: HOUR }).per("session"),
        ])
        .unwrap();
        let request = Request::tool_call("s1", "t");
        let now = demands(&policy, &request, 61_000);
        let minute = WindowSpan::at(60_000, Timestamp(61_000)).unwrap();
        let key = |name, values: &[&'static str], window| {
            policy.key_for(name, values.iter().copied(), window)
        };
        assert_eq!(key("rate", &["t"], Some(minute)).as_deref(), Some(now.key(&now.list[0])));
        assert_eq!(key("booking", &["s1"], None).as_deref(), Some(now.key(&now.list[1])));
        let second = WindowSpan::at(1_000, Timestamp(61_000)).unwrap();
        for (name, values, window) in [
            ("rate", &["t"][..], None),
            ("rate", &["t"], Some(second)),
            ("rate", &["t", "s"], Some(minute)),
            ("booking", &["s1"], Some(minute)),
            ("booking", &[], None),
            ("other", &["s1"], None),
        ] {
            assert_eq!(key(name, values, window), None, "{name} {values:?} {window:?}");
        }
    }

    #[test]
    fn a_key_over_its_bound_is_told_with_its_limit() {
        let policy =
            Policy::new([Limit::new("l", 1, Window::Session { ttl: HOUR }).per("session")])
                .unwrap();
        let long = "x".repeat(600);
        let request = Request::new().with("session", &long);
        let refused = policy.find_demands(&request, Timestamp(0), 512, &mut Demands::default());
        assert_eq!(refused, Err(KeyTooLong { limit_index: 0 }));
    }

    #[test]
    fn a_missing_label_is_reported_once_for_each_limit() {
        let window = Window::Session { ttl: HOUR };
        let policy = Policy::new([
            Limit::new("user", 1, window).per("session").per("user"),
            Limit::new("all", 1, window),
            Limit::new("team", 1, window).per("team"),
        ])
        .unwrap();
        let request = Request::tool_call("s", "t");
        let first = demands(&policy, &request, 0);
        let named: Vec<_> =
            first.missing_labels().iter().map(|missing| policy.names_of(*missing)).collect();
        assert_eq!(named, [("user", "user"), ("team", "team")]);
        assert_eq!(first.list.len(), 1, "the limits do not apply");
        assert!(demands(&policy, &request, 0).missing_labels().is_empty());
    }

    #[test]
    fn a_name_is_taken_once() {
        let window = Window::Fixed(HOUR);
        let twice = Policy::new([Limit::new("l", 1, window), Limit::new("l", 2, window)]);
        assert!(twice.unwrap_err().to_string().contains("each name once"));
        let invalid = Policy::new([Limit::new("", 1, window)]);
        assert!(invalid.unwrap_err().to_string().contains("1 to 128 bytes"));
    }
}
