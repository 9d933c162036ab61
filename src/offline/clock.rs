//! The high-water mark of a closed data directory's clock: shown, and lowered.

use std::path::Path;

use tallymesh_core::storage::{ClockMark, StorageError};
use tallymesh_core::table::CounterState;
use tallymesh_core::time::Timestamp;

use crate::clock::exact_wall;
use crate::disk;

/// How the clock of a closed data directory stands, and what depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClockReport {
    /// The latest time that the node has acted on, as it was found: no clock of the node falls behind this.
    pub mark: Timestamp,
    /// The system's clock.
    pub now: Timestamp,
    /// Whether the mark is at `now` from here on.
    pub lowered: bool,
    /// What opens again where the mark is lowered: counters that have ended by the mark and have not by the system's clock, by key.
    pub reopened: Vec<CounterState>,
    /// Counters of a time that is still to come, by key: sessions that were used then, and windows that begin then. Where the
    /// mark is lowered, the sessions count as used at `now`, and the windows are dropped.
    pub ahead: Vec<CounterState>,
}

/// Why the clock of a data directory cannot be shown or lowered. The directory is then as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClockError {
    /// The data directory: it is not there, a process uses it, or it is damaged.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The system's clock shows no time that can be believed.
    #[error(
        "the system clock shows {now}, which cannot be: set it before the mark of {mark} is lowered to it"
    )]
    SystemClock {
        /// What it shows.
        now: Timestamp,
        /// The mark.
        mark: Timestamp,
    },
}

/// The first time that a system's clock can show: this is younger.
const BELIEVABLE_FROM: Timestamp = Timestamp(1_767_225_600_000);

/// Looks at the high-water mark of a data directory that no process uses, and at what lowering it would reopen.
///
/// # Errors
/// When there is no data directory, a process holds it, or it is damaged.
///
/// ```no_run
/// use tallymesh::{ClockError, ClockReport, show_clock};
///
/// let found: Result<ClockReport, ClockError> = show_clock("data/orchestrator-1");
/// let ClockReport { mark, now, reopened, .. } = found?;
/// println!("{mark} is the mark, and it is {now}; {} counters would open again", reopened.len());
/// # Ok::<(), ClockError>(())
/// ```
pub fn show_clock(data_dir: impl AsRef<Path>) -> Result<ClockReport, ClockError> {
    report(data_dir.as_ref(), exact_wall(), false)
}

/// Lowers the high-water mark of a data directory that no process uses to the system's clock, durably, if it is ahead of that.
///
/// This is for a node whose clock was ahead and is right now: time stands still for it until the mark has come. It is the one
/// exception to "what has ended stays ended": [`reopened`](ClockReport::reopened) opens again, with its counts. What
/// ended and was dropped meanwhile is brought back by the peers, as far as they have it.
///
/// # Errors
/// As [`show_clock`], and when the system's clock shows a time that cannot be.
///
/// ```no_run
/// let report = tallymesh::lower_clock("data/orchestrator-1")?;
/// assert!(report.lowered || report.mark <= report.now);
/// # Ok::<(), tallymesh::ClockError>(())
/// ```
pub fn lower_clock(data_dir: impl AsRef<Path>) -> Result<ClockReport, ClockError> {
    report(data_dir.as_ref(), exact_wall(), true)
}

fn report(path: &Path, now: Timestamp, lower: bool) -> Result<ClockReport, ClockError> {
    let mut dir = disk::open_existing(path)?;
    let is_believable = now >= BELIEVABLE_FROM;
    let found = dir.clock_mark(now, lower && is_believable)?;
    let ClockMark { mark, reopened, ahead, .. } = found;
    if lower && !is_believable && mark > now {
        return Err(ClockError::SystemClock { now, mark });
    }
    let lowered = lower && mark > now;
    Ok(ClockReport { mark, now, lowered, reopened, ahead })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tallymesh_core::key::CounterKey;
    use tallymesh_core::limit::Lifetime;
    use tallymesh_core::storage::{CarryOver, Opened, Start, StateStore};
    use tallymesh_core::table::{Bounds, Op};

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// A life that counts a session now, and acts on a time that is so far ahead.
    fn live(path: &Path, ahead: Duration) -> (Timestamp, u64) {
        let node = "a".parse().unwrap();
        let (bounds, rules) = (Bounds::default(), CarryOver::default());
        let opened = StateStore::open(
            disk::open(path).unwrap(),
            &node,
            &bounds,
            &rules,
            Start { nonce: 7, hash_seeds: [1; 4], ..Start::default() },
            |_| {},
        );
        let Opened { mut store, table, clock, .. } = opened.unwrap();
        let now = exact_wall().max(clock);
        let key = CounterKey::new("s", &[]).unwrap();
        table.execute(now, &key, Op::Add(1), Lifetime::new(HOUR)).unwrap();
        store.write(&table, now.plus(ahead)).unwrap();
        store.sync_meta().unwrap();
        (clock, table.value(now, key.as_bytes()))
    }

    #[test]
    fn a_mark_that_is_ahead_is_shown_lowered_and_gone() {
        let dir = tempfile::tempdir().unwrap();
        live(dir.path(), 24 * HOUR);
        for lower in [false, false, true] {
            let report = match lower {
                true => lower_clock(dir.path()).unwrap(),
                false => show_clock(dir.path()).unwrap(),
            };
            assert!(report.mark.since(report.now) > 23 * HOUR, "{report:?}");
            assert_eq!((report.reopened.len(), report.ahead.len()), (1, 0));
            assert_eq!(report.lowered, lower);
        }
        let report = lower_clock(dir.path()).unwrap();
        assert!(!report.lowered && report.mark <= report.now, "{report:?}");
        let (clock, value) = live(dir.path(), Duration::ZERO);
        assert!(clock <= exact_wall());
        assert_eq!(value, 2, "what was counted is open again");
    }

    #[test]
    fn a_system_clock_that_cannot_be_lowers_nothing() {
        let dir = tempfile::tempdir().unwrap();
        live(dir.path(), Duration::ZERO);
        let mark = show_clock(dir.path()).unwrap().mark;
        let error = report(dir.path(), Timestamp(5_000), true).unwrap_err();
        assert!(error.to_string().contains("1970-01-01T00:00:05"), "{error}");
        assert_eq!(show_clock(dir.path()).unwrap().mark, mark);
    }

    #[test]
    fn a_directory_in_use_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        live(dir.path(), HOUR);
        let held = disk::open(dir.path()).unwrap();
        let refused = lower_clock(dir.path()).unwrap_err();
        assert!(matches!(refused, ClockError::Storage(StorageError::Held { .. })), "{refused}");
        drop(held);
        assert!(lower_clock(dir.path()).unwrap().lowered);
    }
}
