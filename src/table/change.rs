//! Changing one counter outside any limit.

use super::{Table, shard_of, value_at};
use crate::key::CounterKey;
use crate::limit::WINDOW_MAX;
use crate::time::Timestamp;

/// Why a counter was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CountError {
    /// The table holds as many counters as it may.
    #[error(
        "{max} counters are held, as many as max_counters allows; raise it or count less finely"
    )]
    TooManyCounters {
        /// The bound.
        max: usize,
    },
    /// The key is longer than allowed.
    #[error("the key has {bytes} bytes, max_key_bytes allows {max}")]
    KeyTooLong {
        /// The key's length.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// The counter's window is over, or too far in the future to be a window of now.
    #[error("the window that begins at {start} is not the present one")]
    NotThisWindow {
        /// Where the window begins.
        start: Timestamp,
    },
}

/// A change of one counter.
#[derive(Debug, Clone, Copy)]
pub enum Change {
    Add(u64),
    Subtract(u64),
    Reset,
}

impl Table {
    /// Changes one counter outside any limit, and returns its value. `expires_at` matters for keys without a window.
    pub fn change(
        &self,
        now: Timestamp,
        key: &CounterKey,
        change: Change,
        expires_at: Timestamp,
    ) -> Result<u64, CountError> {
        let bytes = key.as_bytes();
        if bytes.len() > self.bounds.key_bytes_max {
            let max = self.bounds.key_bytes_max;
            return Err(CountError::KeyTooLong { bytes: bytes.len(), max });
        }
        let mut expires_at = expires_at.min(now.plus(WINDOW_MAX));
        if let Some(window) = key.window() {
            if window.end() <= now || window.start() > now.plus(self.bounds.future_max) {
                return Err(CountError::NotThisWindow { start: window.start() });
            }
            expires_at = window.end();
        }
        let hash = self.hash(bytes);
        let mut shard = self.lock(shard_of(hash));
        let place = match shard.find(hash, bytes) {
            Some(place) => place,
            None if matches!(change, Change::Reset) => return Ok(0),
            None if self.reserve_counter() => shard.insert(hash, bytes, expires_at),
            None => {
                super::Mishaps::count(&self.mishaps.full);
                return Err(CountError::TooManyCounters { max: self.bounds.counters_max });
            }
        };
        shard.begin_anew_if_over(now, self.bounds.grace, place);
        let Some(slot) = shard.slot_mut(place) else { return Ok(0) };
        match change {
            Change::Add(amount) => slot.counter.add(amount),
            Change::Subtract(amount) => slot.counter.subtract(amount),
            Change::Reset => slot.counter.reset(),
        }
        slot.expires_at = slot.expires_at.max(expires_at);
        let value = value_at(now, slot);
        shard.mark_dirty(place);
        Ok(value)
    }
}
