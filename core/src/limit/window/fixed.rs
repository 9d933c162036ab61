//! Fixed windows, aligned to UTC: each has a counter of its own, whose key holds the window.

use core::time::Duration;

use crate::key::WindowSpan;
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
    pub(crate) fn span(self, now: Timestamp) -> WindowSpan {
        WindowSpan::within(self.length_ms, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_begins_where_the_one_before_it_ends() {
        let minute = FixedWindow::new(Duration::from_secs(60));
        assert_eq!(minute.span(Timestamp(0)).end(), Timestamp(60_000));
        assert_eq!(minute.span(Timestamp(59_999)).end(), Timestamp(60_000));
        assert_eq!(minute.span(Timestamp(60_000)).end(), Timestamp(120_000));
        assert_eq!(minute.span(Timestamp(60_000)).start(), Timestamp(60_000));
        assert_ne!(minute.span(Timestamp(59_999)), minute.span(Timestamp(60_000)));
    }
}
