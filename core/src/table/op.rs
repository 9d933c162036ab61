//! Changing one counter outside any limit.

use super::shard::Shard;
use super::{Resolved, Table, shard_of, value_at};
use crate::key::{CounterKey, WindowIndex};
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
    /// Only if the value stays within `max`.
    AddWithin {
        amount: u64,
        max: u64,
    },
    Subtract(u64),
    Reset,
}

/// What became of a change.
#[derive(Debug, Clone, Copy)]
pub struct Changed {
    /// The counter's value now.
    pub value: u64,
    /// Whether it was made.
    pub made: bool,
    /// Whether the counter is newly past the urgent fraction of `max`.
    pub urgent: bool,
}

impl Table {
    /// Changes one counter outside any limit. `expires_at` matters for keys without a window.
    pub fn change(
        &self,
        now: Timestamp,
        key: &CounterKey,
        change: Change,
        expires_at: Timestamp,
    ) -> Result<Changed, CountError> {
        let bytes = key.as_bytes();
        if bytes.len() > self.bounds.key_bytes_max {
            let max = self.bounds.key_bytes_max;
            return Err(CountError::KeyTooLong { bytes: bytes.len(), max });
        }
        let expires_at = self.end(now, key.window(), expires_at)?;
        let hash = self.hash(bytes);
        let mut shard = self.lock(shard_of(hash));
        let place = match shard.find(hash, bytes) {
            Some(place) => place,
            None if !change.makes_new() => {
                return Ok(Changed { value: 0, made: false, urgent: false });
            }
            None if self.reserve_counter() => shard.insert(hash, bytes, expires_at),
            None => {
                super::Mishaps::count(&self.mishaps.full);
                return Err(CountError::TooManyCounters { max: self.bounds.counters_max });
            }
        };
        Ok(self.change_at(now, &mut shard, place, change, expires_at))
    }

    /// As [`change`](Self::change), for a counter that was resolved before; `None`, with nothing changed, if it is not there
    /// any more. `window` is the one in its key.
    pub fn change_resolved(
        &self,
        now: Timestamp,
        resolved: Resolved,
        window: Option<WindowIndex>,
        change: Change,
        expires_at: Timestamp,
    ) -> Result<Option<Changed>, CountError> {
        let expires_at = self.end(now, window, expires_at)?;
        let mut shard = self.lock(resolved.slot.shard());
        let place = shard.place_of(resolved);
        Ok(place.map(|place| self.change_at(now, &mut shard, place, change, expires_at)))
    }

    /// When a counter that is changed now ends.
    fn end(
        &self,
        now: Timestamp,
        window: Option<WindowIndex>,
        expires_at: Timestamp,
    ) -> Result<Timestamp, CountError> {
        let Some(window) = window else { return Ok(expires_at.min(now.plus(WINDOW_MAX))) };
        if window.end() <= now || window.start() > now.plus(self.bounds.future_max) {
            return Err(CountError::NotThisWindow { start: window.start() });
        }
        Ok(window.end())
    }

    fn change_at(
        &self,
        now: Timestamp,
        shard: &mut Shard,
        place: u32,
        change: Change,
        expires_at: Timestamp,
    ) -> Changed {
        if let Change::AddWithin { amount, max } = change {
            let value = shard.slot(place).map_or(0, |slot| value_at(now, slot));
            if value.saturating_add(amount) > max {
                // As with a limit, an attempt is use: it keeps the counter.
                shard.touch(now, place, expires_at);
                return Changed { value, made: false, urgent: false };
            }
        }
        shard.begin_anew_if_over(now, self.bounds.grace, place);
        let Some(slot) = shard.slot_mut(place) else {
            return Changed { value: 0, made: false, urgent: false };
        };
        match change {
            Change::Add(amount) | Change::AddWithin { amount, .. } => slot.counter.add(amount),
            Change::Subtract(amount) => slot.counter.subtract(amount),
            Change::Reset => slot.counter.reset(),
        }
        slot.expires_at = slot.expires_at.max(expires_at);
        let value = value_at(now, slot);
        shard.mark_dirty(place);
        let urgent = match change {
            Change::AddWithin { max, .. } => {
                self.is_urgent(shard, place, value, max) && shard.mark_urgent(place)
            }
            _ => false,
        };
        Changed { value, made: true, urgent }
    }
}

impl Change {
    /// Whether it makes a counter that does not exist.
    fn makes_new(self) -> bool {
        match self {
            Change::Add(_) | Change::Subtract(_) => true,
            Change::AddWithin { amount, max } => amount <= max,
            Change::Reset => false,
        }
    }
}
