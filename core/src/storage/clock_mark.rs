//! The high-water mark of a closed directory's clock: shown and, where an operator asks for it, lowered.
//!
//! A node never acts on a time before one that it has acted on, so that no window opens twice. A clock that jumped far ahead
//! and back leaves a mark in the future, and until that has come, time stands still on the node. Only a person can tell a clock that was wrong
//! then from one that is wrong now. Lowering the mark is the one exception to "what has ended stays ended", so it says what it
//! reopens.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::vec::Vec;

use super::recover::Recovered;
use super::rejected::report;
use super::{CheckpointWriter, DataDir, KvStore, StorageError};
use crate::crdt::Marks;
use crate::key::CounterKind;
use crate::mutant::mutant;
use crate::table::{AtRest, CounterState, StoredCounter};
use crate::time::Timestamp;

/// A high-water mark, and what depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClockMark {
    /// The latest time that the node has acted on.
    pub mark: Timestamp,
    /// Counters that have ended by the mark and have not by the present time, by key: these open again where the mark is lowered.
    pub reopened: Vec<CounterState>,
    /// Counters of a time that is still to come, by key: sessions that were used then, and windows that begin then. Where the mark is
    /// lowered, the sessions were used now, and the windows are dropped: the peers refuse both as they are.
    pub ahead: Vec<CounterState>,
}

impl DataDir {
    /// Looks at the high-water mark of a closed directory. If it is after `now` and is to be lowered, makes `now` the mark, durably: a
    /// crash leaves one or the other.
    ///
    /// The watermarks then drop to 0. What had ended by the mark may have been dropped or refused here, and the peers are to
    /// tell it again.
    ///
    /// # Errors
    /// When there is no database, or it is damaged, or the file system returns an error.
    pub fn clock_mark(&mut self, now: Timestamp, lowers: bool) -> Result<ClockMark, StorageError> {
        let mut found = ClockMark { mark: now, reopened: Vec::new(), ahead: Vec::new() };
        let mut counters: Vec<CounterState> = Vec::new();
        let (store, recovered) = self.read_and_keep(|stored| {
            counters.extend(stored.to_state());
        })?;
        found.mark = recovered.clock();
        counters.sort_by(|a, b| a.key.cmp(&b.key));
        for counter in counters {
            if began(&counter) > now {
                found.ahead.push(counter);
            } else if now < counter.expires_at && counter.expires_at <= found.mark {
                found.reopened.push(counter);
            }
        }
        if lowers && found.mark > now {
            self.lower(store, recovered, now, &found.ahead)?;
        }
        Ok(found)
    }

    fn lower(
        &mut self,
        store: Box<dyn KvStore>,
        mut recovered: Recovered,
        now: Timestamp,
        ahead: &[CounterState],
    ) -> Result<(), StorageError> {
        report(&recovered.rejected, self.files(), &mut |_| {})?;
        recovered.meta.clock = now;
        if !mutant!(LoweredNodeVouches) {
            recovered.marks.forget_watermarks(None);
        }
        let mut writer = CheckpointWriter::on(store, recovered.meta.clone(), Some(&recovered))?;
        let used = ahead.iter().filter(|counter| counter.key.window().is_none());
        let used: Vec<StoredCounter<'_>> = used.map(|counter| used_at(counter, now)).collect();
        let not_begun = ahead.iter().filter(|counter| counter.key.window().is_some());
        writer.correct(&used, not_begun.map(|counter| counter.key.as_bytes()))?;
        self.note_checkpoint(writer.durable())
    }
}

/// The time that a counter is of, at the earliest: its last use, or its window's start.
fn began(counter: &CounterState) -> Timestamp {
    match (counter.key.kind(), counter.key.window()) {
        (_, Some(window)) => window.start(),
        (CounterKind::Plain | CounterKind::Session, None) => Timestamp(counter.marks.at),
        // What its marks mean is not known.
        (_, None) => Timestamp(0),
    }
}

/// The counter as if it had been used last at this time, rounded down as uses are.
fn used_at(counter: &CounterState, now: Timestamp) -> StoredCounter<'_> {
    let step = (counter.marks.p0 / 16).max(1);
    let marks = Marks { at: now.0 / step * step, ..counter.marks };
    let cells = Cow::Borrowed(&counter.cells[..]);
    let state = AtRest { generation: counter.generation, marks, cells };
    StoredCounter { key: Cow::Borrowed(counter.key.as_bytes()), state }
}
