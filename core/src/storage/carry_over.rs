//! Carrying a database of format 1 over into one of the present format.
//!
//! A key of format 1 has a limit's name and values, and does not say what they mean: that is looked up in the limits in force.
//! What fits none of them was a counter of no limit, or of a limit that has changed since, and becomes the former.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::time::Duration;

use super::format_1::{self, OldContents, OldCounter, OldKey};
use super::record::Meta;
use super::{CheckpointWriter, KvStore, StorageError};
use crate::crdt::{Cell, Marks, VersionVector};
use crate::key::{CounterKey, WindowSpan};
use crate::limit::{Limit, Window};
use crate::table::{AtRest, StoredCounter};
use crate::time::{Timestamp, whole_ms};

/// What is in force where a database of format 1 is carried over.
#[derive(Debug, Clone, Copy, Default)]
pub struct CarryOver<'a> {
    /// The limits.
    pub limits: &'a [Limit],
    /// How long a counter of no limit lives after its last change.
    pub counters_ttl: Duration,
}

/// What became of the counters of a database of format 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CarriedOver {
    /// How many are of a limit.
    pub of_limits: u64,
    /// How many fit no limit, and are counters of none.
    pub of_no_limit: u64,
    /// How many have a key that no version should have written, and are left out.
    pub left_out: u64,
}

/// Writes all that a database of format 1 holds, whose `contents` were found whole, into a new one, durably.
///
/// # Errors
/// When either storage fails.
pub(super) fn carried_over(
    old: &dyn KvStore,
    contents: OldContents,
    new: Box<dyn KvStore>,
    by: &CarryOver<'_>,
) -> Result<(CheckpointWriter, CarriedOver), StorageError> {
    let OldContents { node, checkpoint, latest, clock, replicas, mut watermarks } = contents;
    let meta = Meta::first(node, checkpoint.max(latest).saturating_add(1));
    let mut writer = CheckpointWriter::on(new, meta, None)?;
    let mut carried = CarriedOver::default();
    let mut forgotten = BTreeSet::new();
    let mut written = Ok(());
    let read = format_1::read(old, |counter| {
        if written.is_err() {
            return;
        }
        let Some((key, marks)) = by.place(&counter, clock) else {
            carried.left_out += 1;
            forgotten.extend(counter.cells.iter().map(|(number, _)| *number));
            return;
        };
        match key.tag() {
            0 => carried.of_no_limit += 1,
            _ => carried.of_limits += 1,
        }
        let cells = counter.cells.iter().filter_map(|(number, cell)| {
            let replica = replicas.get(number)?;
            // In format 1 anyone could lower a limit's counter, and so another life's charges.
            let most = if key.tag() == 0 { u64::MAX } else { cell.p };
            Some((replica.clone(), Cell { n: cell.n.min(most), ..*cell }))
        });
        let cells: Vec<_> = cells.collect();
        let state = AtRest { generation: counter.generation, marks, cells: cells.into() };
        written = writer.copy(&StoredCounter { key: key.as_bytes().into(), state });
    });
    read.map_err(|damage| StorageError::Corrupt { what: damage.to_string(), source: None })?;
    written?;
    // What was left out may be held by the peers under a better key.
    watermarks.retain(|(number, _)| !forgotten.contains(number));
    let watermarks = watermarks
        .iter()
        .filter_map(|(number, watermark)| Some((replicas.get(number)?.clone(), *watermark)));
    let watermarks: VersionVector = watermarks.collect();
    writer.finish_copy(replicas.values(), &watermarks, clock)?;
    Ok((writer, carried))
}

impl CarryOver<'_> {
    /// The key and the marks that a counter has from now on; `None` if it had no key that can be.
    fn place(&self, counter: &OldCounter<'_>, clock: Timestamp) -> Option<(CounterKey, Marks)> {
        let OldKey { window, limit, values } = counter.key.as_ref()?;
        let named = self.limits.iter().find(|of| of.name() == *limit);
        let end = counter.expires_at;
        match *window {
            None => {
                let session = named.and_then(|limit| match limit.window() {
                    Window::Session { ttl } => Some((limit.key_for(values, None)?, ttl)),
                    _ => None,
                });
                let (key, ttl) = match session {
                    Some(session) => session,
                    None => (CounterKey::new(limit, values).ok()?, self.counters_ttl),
                };
                Some((key, marks(ttl, end, clock)))
            }
            Some((length_ms, index)) => {
                let start = Timestamp(index.checked_mul(length_ms)?);
                let span = WindowSpan::at(length_ms, start).ok()?;
                let of_limit = named.and_then(|limit| limit.key_for(values, Some(span)));
                let key = of_limit.or_else(|| CounterKey::windowed(limit, values, span).ok())?;
                Some((key, Marks::default()))
            }
        }
    }
}

/// The marks of a counter that lives for `ttl` after its last use, and that ended at `end` in format 1: that was the last use
/// and the ttl, rounded up to a sixteenth. It ends no earlier than the ttl after its last use, and its last use was not after `clock`.
fn marks(ttl: Duration, end: Timestamp, clock: Timestamp) -> Marks {
    let ttl_ms = whole_ms(ttl);
    let step = (ttl_ms / 16).max(1);
    let down = |ms: u64| ms / step * step;
    let latest_use = end.0.saturating_sub(ttl_ms);
    let at = down(latest_use.saturating_sub(1)).min(down(clock.0));
    Marks { at, p0: ttl_ms, n0: 0 }
}
