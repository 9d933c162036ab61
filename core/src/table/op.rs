//! Operations on one counter, without a policy.

use super::shard::Shard;
use super::slot::{Slot, marks_of};
use super::{SlotRef, Table, shard_of};
use crate::crdt::COUNT_MAX;
use crate::key::{CounterKey, CounterKind, Ends, is_of_limit};
use crate::limit::rule::{self, Reading};
use crate::limit::{Lifetime, Term};
use crate::mutant::mutant;
use crate::time::Timestamp;

/// Why a counter was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CountError {
    /// There are as many counters as the table may hold, but for those whose room is [kept](super::Share::kept) for others.
    #[error(
        "there is no room for one more among the {max} counters that counters.max_counters allows, and waiting does not help: raise it or count less finely"
    )]
    TooManyCounters {
        /// The bound.
        max: usize,
    },
    /// The key is longer than allowed.
    #[error("the key has {bytes} bytes, counters.max_key_bytes allows {max}")]
    KeyTooLong {
        /// The key's length.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// The store is closed: nothing that it counted would be written or sent.
    #[error("the store is closed; open it again, or close it after its last use")]
    Closed,
    /// The counter's window has expired, or begins too far in the future.
    #[error("the window that begins at {start} is not the present one")]
    NotThisWindow {
        /// Where the window begins.
        start: Timestamp,
    },
    /// This instance has counted 2^53 - 1 in the counter, the most that one can, or would pass it.
    #[error(
        "this instance has counted {counted} in the counter and cannot count {amount} more: 2^53 - 1 is the most; reset the counter, or wait until it ends"
    )]
    CounterExhausted {
        /// What it has counted, before anything was taken away.
        counted: u64,
        /// What was to be added.
        amount: u64,
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
    /// Makes the counter, so that there is room for what is added later, and adds nothing.
    Reserve,
    /// Takes away this much, but at most what the counter holds here.
    Subtract(u64),
    /// Begins the counter's next generation, which has counted nothing.
    Reset,
}

/// What became of an operation.
#[derive(Debug, Clone, Copy)]
pub struct OpResult {
    /// The counter's value now.
    pub value: u64,
    /// How much was taken away.
    pub taken: u64,
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
    /// When the counter is new and there is no room, the key is too long, its window is not the present one, its cell is
    /// full, it is of a kind that is not known, or the table is closed.
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
        let term = self.term(now, key, lifetime)?;
        let key_hash = self.key_hash(bytes);
        let mut shard = self.lock(shard_of(key_hash));
        if self.is_closed() {
            return Err(CountError::Closed);
        }
        let slot_index = match shard.find(key_hash, bytes) {
            Some(slot_index) => slot_index,
            None if !op.makes_counter() => return Ok(OpResult::not_applied(0)),
            None if op.added() > COUNT_MAX => return Err(op.exhausted(0)),
            None => match self.take_room(bytes) {
                Some(claim) => shard.insert(key_hash, bytes, marks_of(term), claim),
                None => {
                    self.rejected.counter_refused();
                    return Err(CountError::TooManyCounters { max: self.bounds.counters_max });
                }
            },
        };
        self.execute_at(now, &mut shard, slot_index, op, term)
    }

    /// As [`execute`](Self::execute), with a reference to the counter; `None`, with nothing changed, if it is gone.
    ///
    /// # Errors
    /// When the window is not the present one, the counter's cell is full, it is of a kind that is not known, or the table is
    /// closed.
    pub fn execute_by_ref(
        &self,
        now: Timestamp,
        slot_ref: SlotRef,
        key: &CounterKey,
        op: Op,
        lifetime: Lifetime,
    ) -> Result<Option<OpResult>, CountError> {
        let term = self.term(now, key, lifetime)?;
        let mut shard = self.lock(slot_ref.slot.shard());
        if self.is_closed() {
            return Err(CountError::Closed);
        }
        let slot_index = shard.index_of(slot_ref);
        slot_index
            .map(|slot_index| self.execute_at(now, &mut shard, slot_index, op, term))
            .transpose()
    }

    /// How long a counter lives that is used now.
    fn term(
        &self,
        now: Timestamp,
        key: &CounterKey,
        lifetime: Lifetime,
    ) -> Result<Term, CountError> {
        match (key.kind(), key.ends()) {
            (CounterKind::Plain | CounterKind::Session, Ends::AfterUse) => Ok(lifetime.used(now)),
            (CounterKind::FixedWindow, Ends::WithWindow(window)) => {
                if window.end() <= now || window.start() > now.plus(self.bounds.future_max) {
                    return Err(CountError::NotThisWindow { start: window.start() });
                }
                Ok(Term::Window(window))
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
        term: Term,
    ) -> Result<OpResult, CountError> {
        let Some(slot) = shard.slot(slot_index) else { return Ok(OpResult::not_applied(0)) };
        let term = slot.term_kept(now, term);
        let (used, room) = (slot.value_at(now), slot.room_at(now));
        match op {
            Op::TryAdd { amount, max } if !rule::judge(Reading { used, max }, amount).is_room() => {
                // As with a limit, an attempt is use: it keeps the counter.
                shard.touch(now, slot_index, term);
                return Ok(OpResult::not_applied(used));
            }
            Op::Reserve if slot.is_kept_for(now, term) => {
                return Ok(OpResult::not_applied(used));
            }
            Op::Subtract(amount)
                if used.min(amount) == 0 && !(mutant!(TakenBelowZero) && amount > 0) =>
            {
                return Ok(OpResult::not_applied(used));
            }
            _ if op.added() > room => return Err(op.exhausted(COUNT_MAX - room)),
            _ => {}
        }
        if shard.reset_if_ended(now, self.bounds.grace, slot_index, Slot::ends)
            || matches!(op, Op::Reset)
        {
            self.begins_generation();
        }
        self.note_if_cut(shard, slot_index);
        let Some(slot) = shard.slot_mut(slot_index) else { return Ok(OpResult::not_applied(0)) };
        let mut taken = 0;
        match op {
            Op::Add(amount) | Op::TryAdd { amount, .. } => slot.counter.add(amount),
            Op::Reserve => {}
            // A limit's counter is lowered where it was charged.
            Op::Subtract(amount) if is_of_limit(&slot.key) => {
                taken = slot.counter.take_back(amount);
            }
            Op::Subtract(amount) => taken = slot.counter.take(amount),
            Op::Reset => slot.counter.reset(),
        }
        slot.counter.raise(marks_of(term));
        let value = slot.value_at(now);
        shard.mark_dirty(slot_index);
        let urgent = match op {
            Op::TryAdd { max, .. } => {
                self.is_urgent(shard, slot_index, Reading { used: value, max })
                    && shard.mark_urgent(slot_index)
            }
            _ => false,
        };
        Ok(OpResult { value, taken, applied: true, urgent })
    }
}

impl Op {
    /// Whether it makes a counter that does not exist.
    fn makes_counter(self) -> bool {
        match self {
            Op::Add(_) | Op::Reserve => true,
            Op::TryAdd { amount, max } => rule::judge(Reading::unused(max), amount).is_room(),
            Op::Subtract(_) => mutant!(TakenBelowZero),
            Op::Reset => false,
        }
    }

    /// How much it would add.
    fn added(self) -> u64 {
        match self {
            Op::Add(amount) | Op::TryAdd { amount, .. } => amount,
            Op::Reserve | Op::Subtract(_) | Op::Reset => 0,
        }
    }

    #[cold]
    fn exhausted(self, counted: u64) -> CountError {
        CountError::CounterExhausted { counted, amount: self.added() }
    }
}

impl OpResult {
    fn not_applied(value: u64) -> OpResult {
        OpResult { value, taken: 0, applied: false, urgent: false }
    }
}
