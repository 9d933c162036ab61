//! The sweep of expired counters: every round sweeps as many pages of the table as its share of [`SWEEP`] is.

use core::time::Duration;

use crate::table::{SlotId, Table};
use crate::time::Now;

/// How long expired counters may wait for the sweep beyond their grace. A shorter time costs an idle node more than all else.
const SWEEP: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(super) struct Sweep {
    /// When the last round swept.
    swept_at: Duration,
    /// Where the next page begins; `None` for the start of the table.
    next: Option<SlotId>,
}

impl Sweep {
    pub(super) fn new(now: Duration) -> Sweep {
        Sweep { swept_at: now, next: None }
    }

    /// Sweeps what is due since the last call; returns how many pages that were.
    pub(super) fn run(&mut self, table: &Table, now: Now) -> usize {
        let due = self.pages_due(now.monotonic, table.pages());
        for _ in 0..due {
            self.next = table.sweep(now.wall, self.next);
        }
        due
    }

    /// How many of a table's pages are due, rounded up.
    fn pages_due(&mut self, now: Duration, pages: usize) -> usize {
        let elapsed = now.saturating_sub(self.swept_at).min(SWEEP);
        self.swept_at = now;
        round_up(pages as f64 * elapsed.as_secs_f64() / SWEEP.as_secs_f64())
    }
}

/// `f64::ceil` of a number that is not negative, which `core` does not have.
fn round_up(number: f64) -> usize {
    let whole = number as usize;
    // A number may be above all of `usize`, which has 32 bits on some machines.
    whole.saturating_add(usize::from(number > whole as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rounds_up_as_the_standard_library_does() {
        for number in [0.0, 1e-12, 0.5, 1.0, 1.0 + f64::EPSILON, 7.999, 8.0, 123_456_789.01, 1e15] {
            assert_eq!(round_up(number), number.ceil() as usize, "{number}");
        }
    }

    #[test]
    fn a_whole_sweep_takes_its_time_and_no_page_is_due_twice() {
        let mut sweep = Sweep::new(Duration::ZERO);
        assert_eq!(sweep.pages_due(Duration::ZERO, 100), 0);
        assert_eq!(sweep.pages_due(SWEEP / 2, 100), 50);
        assert_eq!(sweep.pages_due(SWEEP / 2, 100), 0);
        assert_eq!(sweep.pages_due(SWEEP * 9, 100), 100, "at most the whole table");
    }
}
