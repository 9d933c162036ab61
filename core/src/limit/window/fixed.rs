//! Fixed windows, aligned to UTC: each has a counter of its own, whose key holds the window's index.

use core::time::Duration;

use crate::key::WindowIndex;
use crate::time::{Timestamp, whole_ms};

/// Windows of one length, one after the other since 1970.
#[derive(Debug, Clone, Copy)]
pub(in crate::limit) struct FixedWindow {
    length_ms: u64,
}

impl FixedWindow {
    pub(crate) fn new(length: Duration) -> FixedWindow {
        FixedWindow { length_ms: whole_ms(length) }
    }

    /// The window that `now` is in.
    #[inline]
    pub(crate) fn index(self, now: Timestamp) -> WindowIndex {
        WindowIndex::within(self.length_ms, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_begins_where_the_one_before_it_ends() {
        let minute = FixedWindow::new(Duration::from_secs(60));
        assert_eq!(minute.index(Timestamp(0)).end(), Timestamp(60_000));
        assert_eq!(minute.index(Timestamp(59_999)).end(), Timestamp(60_000));
        assert_eq!(minute.index(Timestamp(60_000)).end(), Timestamp(120_000));
        assert_eq!(minute.index(Timestamp(60_000)).start(), Timestamp(60_000));
        assert_ne!(minute.index(Timestamp(59_999)), minute.index(Timestamp(60_000)));
    }
}
