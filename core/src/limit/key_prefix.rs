//! What the keys of all counters of a limit begin with, made once when the limit is put in force.

use alloc::{boxed::Box, vec::Vec};

use super::Limit;
use super::limit_hash::tag_of;
use super::window::Kind;
use crate::key::write_limit;
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
    pub(super) fn write(&self, key: &mut Vec<u8>, now: Timestamp) {
        self.window.write(key, now);
        key.extend_from_slice(&self.behind);
    }
}
