//! The limits in force, and what a request demands under them.

use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering};

use super::key_prefix::KeyPrefix;
use super::window::Term;
use super::{
    Demand, DemandError, Demands, Limit, LimitError, LimitHash, Matched, MissingLabel, Request,
    WhenCutOff, WhenLabelMissing, cost_of,
};
use crate::key::write_text;
use crate::time::Timestamp;

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

    /// Whether requests that these bounds let in can match each limit and be counted under it.
    ///
    /// # Errors
    /// When a limit looks at more labels than a request may carry, or leaves no room for values in its keys.
    pub fn check_bounds(&self, labels_max: usize, key_bytes_max: usize) -> Result<(), LimitError> {
        for (limit, key_prefix) in self.limits.iter().zip(&self.key_prefixes) {
            limit.check_labels_count(labels_max)?;
            let mut key = Vec::new();
            key_prefix.write(&mut key, key_prefix.window.term(Timestamp(0)));
            // Each value takes a byte for its length, and at least one more.
            if key.len() + 2 * limit.per_labels().len() > key_bytes_max {
                return Err(LimitError::name_too_long(limit));
            }
        }
        Ok(())
    }

    /// The limits, in order; a `limit_index` is an index in them.
    #[inline]
    pub fn limits(&self) -> &[Limit] {
        &self.limits
    }

    /// Whether some limit allows less while members of the cluster are silent.
    pub fn heeds_cuts(&self) -> bool {
        self.limits.iter().any(|limit| limit.when_is_cut_off() != WhenCutOff::Allow)
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
    /// The first time that a request lacks a `per` label of a limit, that is noted in [`Demands::missing_labels`], also when
    /// this returns an error.
    ///
    /// # Errors
    /// When a key is longer than `key_bytes_max`, or a label is missing and the limit does not say to skip it then; the
    /// demands are then incomplete.
    #[inline]
    pub fn find_demands(
        &self,
        request: &Request<'_>,
        now: Timestamp,
        key_bytes_max: usize,
        demands: &mut Demands,
    ) -> Result<(), DemandError> {
        self.find(request, now, key_bytes_max, demands, |noted, limit, missing| {
            let was_noted = self.label_missing.get(missing.limit_index);
            if was_noted.is_some_and(|was_noted| !was_noted.swap(true, Ordering::Relaxed)) {
                noted.push(missing);
            }
            match limit.when_label_is_missing() {
                WhenLabelMissing::Skip => Ok(()),
                WhenLabelMissing::Deny => Err(DemandError::MissingLabel(missing)),
            }
        })
    }

    /// The counters that a request would be charged to, of those limits whose labels it has.
    pub fn demands_with_labels(&self, request: &Request<'_>, now: Timestamp) -> Demands {
        let mut demands = Demands::default();
        // No key is too long without a bound, and no missing label is an error.
        let _ = self.find(request, now, usize::MAX, &mut demands, |_, _, _| Ok(()));
        demands
    }

    #[inline(always)]
    fn find(
        &self,
        request: &Request<'_>,
        now: Timestamp,
        key_bytes_max: usize,
        demands: &mut Demands,
        when_missing: impl Fn(&mut Vec<MissingLabel>, &Limit, MissingLabel) -> Result<(), DemandError>,
    ) -> Result<(), DemandError> {
        demands.clear();
        let limits = self.limits.iter().zip(&self.key_prefixes);
        for (limit_index, (limit, key_prefix)) in limits.enumerate() {
            if !limit.matches(request) {
                continue;
            }
            let start = demands.keys.len();
            let term = key_prefix.window.term(now);
            key_prefix.write(&mut demands.keys, term);
            let missing = limit.labels_of_per().iter().position(|label| {
                let value = request.value_of(label);
                value.map(|value| write_text(&mut demands.keys, value)).is_none()
            });
            if let Some(label_index) = missing {
                demands.keys.truncate(start);
                let missing = MissingLabel { limit_index, label_index };
                when_missing(&mut demands.missing_labels, limit, missing)?;
                continue;
            }
            let end = demands.keys.len();
            if end - start > key_bytes_max {
                return Err(DemandError::KeyTooLong { limit_index });
            }
            let cost = cost_of(request);
            demands.list.push(demand(limit_index, start..end, cost, limit, term));
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
        let term = self.key_prefixes[limit_index].window.term(now);
        demand(limit_index, 0..0, cost, &self.limits[limit_index], term)
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
            key_prefix.write(&mut key, key_prefix.window.term(now));
            values.into_iter().for_each(|value| write_text(&mut key, value));
        }
        key
    }

    fn write_window(&self, limit_index: usize, key: &mut Vec<u8>, now: Timestamp) {
        if let Some(key_prefix) = self.key_prefixes.get(limit_index) {
            key_prefix.window.term(now).write(key);
        }
    }
}

#[inline(always)]
fn demand(limit_index: usize, key: Range<usize>, cost: u64, limit: &Limit, term: Term) -> Demand {
    let (max, when_cut_off) = (limit.max(), limit.when_is_cut_off());
    Demand { limit_index, key, cost, max, term, when_cut_off }
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
            Limit::new("user", 9, Window::Session { ttl: HOUR })
                .per("user")
                .when_label_missing(WhenLabelMissing::Skip),
        ])
        .unwrap();
        let booking = Request::tool_call("s1", "book_service");
        assert_eq!(
            keys(&policy, &booking, 61_000),
            ["booking of \"s1\"", "all from 1970-01-01T00:01:00.000Z"]
        );
        assert_eq!(keys(&policy, &Request::new().with("user", "u"), 0).len(), 2);
        assert_eq!(keys(&policy, &Request::tool_call("s1", "t"), 0).len(), 1);
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
                demands.list.iter().map(|demand| demand.term.end()).collect()
            };
            assert_eq!(ends(&found), ends(&expected));
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
        assert_eq!(refused, Err(DemandError::KeyTooLong { limit_index: 0 }));
    }

    #[test]
    fn a_reset_does_not_keep_a_missing_label_from_being_reported() {
        let limit = Limit::new("user", 1, Window::Session { ttl: HOUR }).per("user");
        let policy = Policy::new([limit]).unwrap();
        let (request, mut demands) = (Request::tool_call("s", "t"), Demands::default());
        assert!(policy.demands_with_labels(&request, Timestamp(0)).list.is_empty());
        policy.find_demands(&request, Timestamp(0), 512, &mut demands).unwrap_err();
        assert_eq!(demands.missing_labels().len(), 1);
    }

    #[test]
    fn a_missing_label_is_reported_once_for_each_limit() {
        let window = Window::Session { ttl: HOUR };
        let policy = Policy::new([
            Limit::new("user", 1, window)
                .per("session")
                .per("user")
                .when_label_missing(WhenLabelMissing::Skip),
            Limit::new("all", 1, window),
            Limit::new("team", 1, window).per("team").when_label_missing(WhenLabelMissing::Skip),
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
    fn without_a_label_of_its_per_a_limit_is_not_passed_over() {
        let window = Window::Session { ttl: HOUR };
        let policy = Policy::new([
            Limit::new("all", 1, window),
            Limit::new("user", 1, window).when("tool", "book_*").per("session").per("user"),
        ])
        .unwrap();
        let find = |request: &Request<'_>| {
            policy.find_demands(request, Timestamp(0), 512, &mut Demands::default())
        };
        let missing = MissingLabel { limit_index: 1, label_index: 1 };
        for _ in 0..2 {
            assert_eq!(
                find(&Request::tool_call("s", "book_a")),
                Err(DemandError::MissingLabel(missing))
            );
        }
        assert_eq!(policy.names_of(missing), ("user", "user"));
        assert_eq!(find(&Request::tool_call("s", "search")), Ok(()), "it does not match");
        assert_eq!(find(&Request::tool_call("s", "book_a").with("user", "")), Ok(()));
        // What is reset is what there can be.
        let held = policy.demands_with_labels(&Request::tool_call("s", "book_a"), Timestamp(0));
        assert_eq!(held.list.len(), 1);
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
