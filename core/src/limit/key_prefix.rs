//! What the keys of all counters of a limit begin with, made once when the limit is put in force.

use alloc::{boxed::Box, vec::Vec};

use super::Limit;
use super::window::{CurrentWindow, Kind};
use crate::key::{write_name_and_count, write_window};

/// The window of a limit, and what follows the window in every key: the limit's name and the number of values.
#[derive(Debug)]
pub(super) struct KeyPrefix {
    pub window: Kind,
    name_and_count: Box<[u8]>,
}

impl KeyPrefix {
    pub(super) fn of(limit: &Limit) -> KeyPrefix {
        let mut name_and_count = Vec::new();
        write_name_and_count(&mut name_and_count, limit.name(), limit.labels_of_per().len());
        KeyPrefix { window: Kind::of(limit.window()), name_and_count: name_and_count.into() }
    }

    /// Begins a key; the values follow.
    #[inline]
    pub(super) fn write(&self, key: &mut Vec<u8>, window: CurrentWindow) {
        write_window(key, window.index);
        key.extend_from_slice(&self.name_and_count);
    }
}
