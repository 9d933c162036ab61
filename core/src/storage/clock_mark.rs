//! The high-water mark of a closed directory's clock: shown and, where an operator asks for it, lowered.
//!
//! A node never acts on a time before one that it has acted on, so that no window opens twice. A clock that jumped far ahead
//! and back leaves a mark in the future, and until that has come, time stands still on the node. Only a person can tell a clock that was wrong
//! then from one that is wrong now. Lowering the mark is the one exception to "what has ended stays ended", so it says what it
//! reopens.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::recover::Recovered;
use super::rejected::report;
use super::{CheckpointWriter, DataDir, KvStore, StorageError};
use crate::key::CounterKind;
use crate::table::CounterState;
use crate::time::Timestamp;

/// A high-water mark, and what depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClockMark {
    /// The latest time that the node has acted on.
    pub mark: Timestamp,
    /// Counters that have ended by the mark and have not by the present time, by key: these open again where the mark is lowered.
    pub reopened: Vec<CounterState>,
    /// Counters whose last use was at a time that is still to come, by key: they end as late as that says, wherever the mark is,
    /// unless they are reset.
    pub used_ahead: Vec<CounterState>,
}

impl DataDir {
    /// Looks at the high-water mark of a closed directory. If it is after `now` and is to be `lowered`, makes `now` the mark, durably: a
    /// crash leaves one or the other.
    ///
    /// The watermarks then drop to 0. What had ended by the mark may have been dropped or refused here, and the peers are to
    /// tell it again.
    ///
    /// # Errors
    /// When there is no database, or it is damaged, or the file system returns an error.
    pub fn clock_mark(&mut self, now: Timestamp, lowered: bool) -> Result<ClockMark, StorageError> {
        let mut found = ClockMark { mark: now, reopened: Vec::new(), used_ahead: Vec::new() };
        let mut counters: Vec<CounterState> = Vec::new();
        let (store, recovered) = self.read_and_keep(|stored| {
            counters.extend(stored.to_state());
        })?;
        found.mark = recovered.clock();
        counters.sort_by(|a, b| a.key.cmp(&b.key));
        for counter in counters {
            let ends_after_use =
                matches!(counter.key.kind(), CounterKind::Plain | CounterKind::Session);
            if ends_after_use && counter.marks.at > now.0 {
                found.used_ahead.push(counter);
            } else if now < counter.expires_at && counter.expires_at <= found.mark {
                found.reopened.push(counter);
            }
        }
        if lowered && found.mark > now {
            self.lower(store, recovered, now)?;
        }
        Ok(found)
    }

    fn lower(
        &mut self,
        store: Box<dyn KvStore>,
        mut recovered: Recovered,
        now: Timestamp,
    ) -> Result<(), StorageError> {
        report(&recovered.rejected, self.files(), &mut |_| {})?;
        recovered.meta.clock = now;
        recovered.meta.watermarks.clear();
        let writer = CheckpointWriter::on(store, recovered.meta.clone(), Some(&recovered))?;
        self.note_checkpoint(writer.durable())
    }
}
