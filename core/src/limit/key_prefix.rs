//! What the keys of all counters of a limit begin with, made once when the limit is put in force.

use alloc::{boxed::Box, vec::Vec};

use super::Limit;
use super::limit_hash::tag_of;
use super::window::{Kind, Term};
use crate::key::{CounterKey, write_limit, write_text};
use crate::time::Timestamp;

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
    /// The key of its counter at this time for these values of its `per`; `None` if they are not as many, or too long.
    pub(crate) fn key_at(&self, now: Timestamp, values: &[&str]) -> Option<CounterKey> {
        if values.len() != self.labels_of_per().len() {
            return None;
        }
        let mut key = Vec::new();
        let key_prefix = KeyPrefix::of(self);
        key_prefix.write(&mut key, key_prefix.window.term(now));
        values.iter().for_each(|value| write_text(&mut key, value));
        CounterKey::from_bytes(&key).ok()
    }
}
