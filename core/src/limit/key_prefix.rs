//! What the keys of all counters of a limit begin with, made once when the limit is put in force.

use alloc::{boxed::Box, vec::Vec};

use super::Limit;
use super::limit_hash::tag_of;
use super::window::{Kind, Term, Window};
use crate::key::{CounterKey, WindowSpan, write_limit, write_text};
use crate::time::{Timestamp, whole_ms};

/// The window of a limit, and what follows it in every key: the limit's name and tag, and the number of values.
#[derive(Debug)]
pub(super) struct KeyPrefix {
    pub window: Kind,
    behind: Box<[u8]>,
}

impl KeyPrefix {
    pub(super) fn of(limit: &Limit) -> KeyPrefix {
        let mut behind = Vec::new();
        write_limit(&mut behind, limit.name(), tag_of(limit), limit.labels_of_per().len());
        KeyPrefix { window: Kind::of(limit.window()), behind: behind.into() }
    }

    /// Begins a key; the values follow.
    #[inline]
    pub(super) fn write(&self, key: &mut Vec<u8>, term: Term) {
        term.write(key);
        key.extend_from_slice(&self.behind);
    }
}

impl Limit {
    /// Whether the counter of this key is one that the limit counts in: one of its name, of its labels in their order, and of
    /// its window. What a limit of the same name counted that was defined otherwise is none.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tallymesh::{CounterKey, CounterState, InvalidKey, Limit, Window};
    ///
    /// /// What is used of a limit in a counter, of `limiter.counters().iter()`, and what is allowed.
    /// fn usage(limit: &Limit, counter: &CounterState) -> Option<(u64, u64)> {
    ///     limit.counts_in(&counter.key).then(|| (counter.value, limit.max()))
    /// }
    ///
    /// let limit = Limit::new("calls", 10, Window::Fixed(Duration::from_secs(3600))).per("user");
    /// // Its name and values are those of the limit, and yet it belongs to none.
    /// assert!(!limit.counts_in(&CounterKey::new("calls", &["u1"])?));
    /// # Ok::<(), InvalidKey>(())
    /// ```
    pub fn counts_in(&self, key: &CounterKey) -> bool {
        let values: Vec<&str> = key.values().collect();
        key.limit() == self.name() && self.key_for(&values, key.window()).as_ref() == Some(key)
    }

    /// The key that it counts under in the place of one that said only these values and this window: `None` if it counts by
    /// other values or over another time, or the key is too long.
    pub(crate) fn key_for(
        &self,
        values: &[&str],
        window: Option<WindowSpan>,
    ) -> Option<CounterKey> {
        let fits = match (self.window(), window) {
            (Window::Fixed(length), Some(window)) => {
                WindowSpan::at(whole_ms(length), window.start()) == Ok(window)
            }
            (Window::Session { .. }, None) => true,
            _ => false,
        };
        if !fits || values.len() != self.labels_of_per().len() {
            return None;
        }
        let (mut key, key_prefix) = (Vec::new(), KeyPrefix::of(self));
        let now = window.map_or(Timestamp(0), WindowSpan::start);
        key_prefix.write(&mut key, key_prefix.window.term(now));
        values.iter().for_each(|value| write_text(&mut key, value));
        CounterKey::from_bytes(&key).ok()
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;
    use crate::limit::{Demands, Policy, Request};

    #[test]
    fn a_key_that_said_less_is_the_limits_if_it_fits() {
        let hour = Duration::from_secs(3600);
        let limits = [
            Limit::new("rate", 9, Window::Fixed(Duration::from_secs(60))).per("tool"),
            Limit::new("booking", 3, Window::Session { ttl: hour }).per("session"),
        ];
        let policy = Policy::new(limits.clone()).unwrap();
        let (request, mut now) = (Request::tool_call("s1", "t"), Demands::default());
        policy.find_demands(&request, Timestamp(61_000), 512, &mut now).unwrap();
        let [rate, booking] = limits;
        let minute = WindowSpan::at(60_000, Timestamp(61_000)).unwrap();
        let bytes = |key: Option<CounterKey>| key.map(|key| key.as_bytes().to_vec());
        let expected = |index: usize| Some(now.key(&now.list[index]).to_vec());
        assert_eq!(bytes(rate.key_for(&["t"], Some(minute))), expected(0));
        assert_eq!(bytes(booking.key_for(&["s1"], None)), expected(1));
        let key = |index: usize| CounterKey::from_bytes(&expected(index).unwrap()).unwrap();
        let counts_in = |limit: &Limit| [0, 1].map(|index| limit.counts_in(&key(index)));
        assert_eq!((counts_in(&rate), counts_in(&booking)), ([true, false], [false, true]));
        // Of the same name, but by other labels, or over another time.
        let by_user = Limit::new("booking", 3, booking.window()).per("user");
        let hourly = Limit::new("rate", 9, Window::Fixed(hour)).per("tool");
        assert_eq!((counts_in(&by_user), counts_in(&hourly)), ([false; 2], [false; 2]));
        assert!(!booking.counts_in(&CounterKey::new("booking", &["s1"]).unwrap()));
        let second = WindowSpan::at(1_000, Timestamp(61_000)).unwrap();
        for (limit, values, window) in [
            (&rate, &["t"][..], None),
            (&rate, &["t"], Some(second)),
            (&rate, &["t", "s"], Some(minute)),
            (&booking, &["s1"], Some(minute)),
            (&booking, &[], None),
        ] {
            assert_eq!(limit.key_for(values, window), None, "{limit:?} {values:?} {window:?}");
        }
    }
}
