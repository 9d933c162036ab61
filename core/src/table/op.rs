//! Operations on one counter, without a policy.

use super::shard::Shard;
use super::slot::{Slot, marks_of};
use super::{SlotRef, Table, shard_of};
use crate::key::{CounterKey, CounterKind, Ends};
use crate::limit::rule::{self, Reading};
use crate::limit::{Life, Lifetime};
use crate::time::Timestamp;

/// Why a counter was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CountError {
    /// There are as many counters as the table may hold.
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
    /// The counter's window has expired, or begins too far in the future.
    #[error("the window that begins at {start} is not the present one")]
    NotThisWindow {
        /// Where the window begins.
        start: Timestamp,
    },
    /// The counter is of a kind that this version does not know.
    #[error("the counter {key} is of a kind that this version does not know, and can only be read")]
    OtherKind {
        /// Which counter.
        key: CounterKey,
    },
}

/// An operation on one counter.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Op {
    /// Adds this much.
    Add(u64),
    /// Adds, but only if the value stays within `max`.
    TryAdd {
        /// How much to add.
        amount: u64,
        /// The highest value allowed after it.
        max: u64,
    },
    /// Subtracts this much; the value never falls below 0.
    Subtract(u64),
    /// Begins the counter's next generation, which has counted nothing.
    Reset,
}

/// What became of an operation.
#[derive(Debug, Clone, Copy)]
pub struct OpResult {
    /// The counter's value now.
    pub value: u64,
    /// Whether the operation was applied.
    pub applied: bool,
    /// Whether the counter is newly past the urgent fraction of `max`.
    pub urgent: bool,
}

impl Table {
    /// Applies an operation to one counter, which is made if need be. `lifetime` is for keys without a window. A session keeps
    /// its own: nothing but its limit makes it live longer.
    ///
    /// # Errors
    /// When the counter is new and there is no room, the key is too long, its window is not the present one, or it is of a
    /// kind that is not known.
    pub fn execute(
        &self,
        now: Timestamp,
        key: &CounterKey,
        op: Op,
        lifetime: Lifetime,
    ) -> Result<OpResult, CountError> {
        let bytes = key.as_bytes();
        if bytes.len() > self.bounds.key_bytes_max {
            let max = self.bounds.key_bytes_max;
            return Err(CountError::KeyTooLong { bytes: bytes.len(), max });
        }
        let life = self.life(now, key, lifetime)?;
        let key_hash = self.key_hash(bytes);
        let mut shard = self.lock(shard_of(key_hash));
        let slot_index = match shard.find(key_hash, bytes) {
            Some(slot_index) => slot_index,
            None if !op.makes_counter() => return Ok(OpResult::not_applied(0)),
            None if self.reserve_counter() => shard.insert(key_hash, bytes, marks_of(life)),
            None => {
                self.rejected.counter_refused();
                return Err(CountError::TooManyCounters { max: self.bounds.counters_max });
            }
        };
        Ok(self.execute_at(now, &mut shard, slot_index, op, life))
    }

    /// As [`execute`](Self::execute), with a reference to the counter; `None`, with nothing changed, if it is gone.
    ///
    /// # Errors
    /// When the window is not the present one, or the counter of a kind that is not known.
    pub fn execute_by_ref(
        &self,
        now: Timestamp,
        slot_ref: SlotRef,
        key: &CounterKey,
        op: Op,
        lifetime: Lifetime,
    ) -> Result<Option<OpResult>, CountError> {
        let life = self.life(now, key, lifetime)?;
        let mut shard = self.lock(slot_ref.slot.shard());
        let slot_index = shard.index_of(slot_ref);
        Ok(slot_index.map(|slot_index| self.execute_at(now, &mut shard, slot_index, op, life)))
    }

    /// How long a counter lives that is used now.
    fn life(
        &self,
        now: Timestamp,
        key: &CounterKey,
        lifetime: Lifetime,
    ) -> Result<Life, CountError> {
        match (key.kind(), key.ends()) {
            (CounterKind::Plain | CounterKind::Session, Ends::AfterUse) => Ok(lifetime.used(now)),
            (CounterKind::FixedWindow, Ends::WithWindow(window)) => {
                if window.end() <= now || window.start() > now.plus(self.bounds.future_max) {
                    return Err(CountError::NotThisWindow { start: window.start() });
                }
                Ok(Life::Window(window))
            }
            _ => Err(CountError::OtherKind { key: key.clone() }),
        }
    }

    fn execute_at(
        &self,
        now: Timestamp,
        shard: &mut Shard,
        slot_index: u32,
        op: Op,
        life: Life,
    ) -> OpResult {
        let life = shard.slot(slot_index).map_or(life, |slot| slot.life_kept(now, life));
        if let Op::TryAdd { amount, max } = op {
            let used = shard.slot(slot_index).map_or(0, |slot| slot.value_at(now));
            if !rule::judge(Reading { used, max }, amount).is_room() {
                // As with a limit, an attempt is use: it keeps the counter.
                shard.touch(now, slot_index, life);
                return OpResult::not_applied(used);
            }
        }
        shard.reset_if_ended(now, self.bounds.grace, slot_index, Slot::ends);
        let Some(slot) = shard.slot_mut(slot_index) else { return OpResult::not_applied(0) };
        match op {
            Op::Add(amount) | Op::TryAdd { amount, .. } => slot.counter.add(amount),
            Op::Subtract(amount) => slot.counter.subtract(amount),
            Op::Reset => slot.counter.reset(),
        }
        slot.counter.raise(marks_of(life));
        let value = slot.value_at(now);
        shard.mark_dirty(slot_index);
        let urgent = match op {
            Op::TryAdd { max, .. } => {
                self.is_urgent(shard, slot_index, Reading { used: value, max })
                    && shard.mark_urgent(slot_index)
            }
            _ => false,
        };
        OpResult { value, applied: true, urgent }
    }
}

impl Op {
    /// Whether it makes a counter that does not exist.
    fn makes_counter(self) -> bool {
        match self {
            Op::Add(_) | Op::Subtract(_) => true,
            Op::TryAdd { amount, max } => rule::judge(Reading::unused(max), amount).is_room(),
            Op::Reset => false,
        }
    }
}

impl OpResult {
    fn not_applied(value: u64) -> OpResult {
        OpResult { value, applied: false, urgent: false }
    }
}
