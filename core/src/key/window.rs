//! One window of wall-clock time, as a counter's key names it.

use core::time::Duration;

use super::InvalidKey;
use crate::time::Timestamp;

/// The first moment that a key has no room for: its windows begin before the year 10889.
const START_END: u64 = 1 << 48;

/// One window of wall-clock time.
///
/// ```
/// use tallymesh::{Timestamp, WindowSpan};
///
/// let minute = WindowSpan::at(60_000, Timestamp(125_000))?;
/// assert_eq!((minute.start(), minute.end()), (Timestamp(120_000), Timestamp(180_000)));
/// assert_eq!(minute.length().as_secs(), 60);
/// # Ok::<(), tallymesh::InvalidKey>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WindowSpan {
    start: u64,
    length_ms: u64,
}

impl WindowSpan {
    /// The window of this length in milliseconds that `now` is in. Windows of one length follow each other since 1970, so
    /// that they are the same on every node.
    ///
    /// # Errors
    /// When the length is 0, or the window begins in the year 10889 or later.
    pub fn at(length_ms: u64, now: Timestamp) -> Result<WindowSpan, InvalidKey> {
        match now.0.checked_rem(length_ms) {
            None => Err(InvalidKey::WindowLength),
            Some(into_it) => WindowSpan::new(Timestamp(now.0 - into_it), length_ms),
        }
    }

    pub(crate) fn new(start: Timestamp, length_ms: u64) -> Result<WindowSpan, InvalidKey> {
        match length_ms {
            0 => Err(InvalidKey::WindowLength),
            _ if start.0 >= START_END => Err(InvalidKey::WindowStart(start)),
            _ => Ok(WindowSpan { start: start.0, length_ms }),
        }
    }

    /// As [`at`](Self::at), for a length that was checked before and a clock that shows no such year.
    #[inline]
    pub(crate) fn within(length_ms: u64, now: Timestamp) -> WindowSpan {
        let length_ms = length_ms.max(1);
        let start = (now.0 - now.0 % length_ms).min(START_END - 1);
        WindowSpan { start, length_ms }
    }

    /// The first moment of the window.
    #[inline]
    pub fn start(self) -> Timestamp {
        Timestamp(self.start)
    }

    /// The first moment after the window.
    #[inline]
    pub fn end(self) -> Timestamp {
        Timestamp(self.start.saturating_add(self.length_ms))
    }

    /// How long the window is.
    #[inline]
    pub fn length(self) -> Duration {
        Duration::from_millis(self.length_ms)
    }

    #[inline]
    pub(super) fn length_ms(self) -> u64 {
        self.length_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_key_has_room_for_cannot_be_made() {
        assert_eq!(WindowSpan::at(0, Timestamp(5)), Err(InvalidKey::WindowLength));
        let far = Timestamp(START_END);
        assert_eq!(WindowSpan::at(1, far), Err(InvalidKey::WindowStart(far)));
        let long = WindowSpan::at(u64::MAX, Timestamp(START_END - 1)).unwrap();
        assert_eq!((long.start(), long.end()), (Timestamp(0), Timestamp(u64::MAX)));
    }

    #[test]
    fn the_checked_and_the_unchecked_way_agree() {
        for (length_ms, now) in [(1, 0), (60_000, 59_999), (60_000, 60_000), (7, START_END - 1)] {
            let window = WindowSpan::at(length_ms, Timestamp(now));
            assert_eq!(window, Ok(WindowSpan::within(length_ms, Timestamp(now))));
        }
        let never = WindowSpan::within(0, Timestamp(u64::MAX));
        assert_eq!(never.start(), Timestamp(START_END - 1));
    }
}
