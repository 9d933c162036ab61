//! What is counted: the key of a counter, and the one byte form it has in memory, on the wire and on disk.

use alloc::{boxed::Box, vec::Vec};
use core::fmt;

use crate::time::Timestamp;
use crate::varint::{self, InvalidVarint};

/// What one counter counts: a limit, the values that tell this counter from the limit's others (a session, a tool, ...),
/// and the window, for limits that have one.
///
/// A window's index is part of the key, so a new window is a new counter and nothing is ever zeroed in place. The length
/// is part of it too, so that a node whose config does not know the limit still knows when the counter expires.
///
/// ```
/// use tallymesh::{CounterKey, Timestamp, WindowIndex};
///
/// let key = CounterKey::new("calls per user", &["u7"])?;
/// assert_eq!((key.limit(), key.window()), ("calls per user", None));
///
/// let minute = WindowIndex::at(60_000, Timestamp(125_000))?;
/// let key = CounterKey::windowed("calls per user", &["u7"], minute)?;
/// assert_eq!(key.window().map(|window| window.end()), Some(Timestamp(180_000)));
/// assert_eq!(key.values().collect::<Vec<_>>(), ["u7"]);
/// # Ok::<(), tallymesh::InvalidKey>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CounterKey(Box<[u8]>);

/// One window of wall-clock time, UTC aligned: `floor(unix_ms / length_ms)`, so that it has one name on every node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WindowIndex {
    /// Length of the window in milliseconds, at least 1.
    pub length_ms: u64,
    /// How many windows of this length have passed since 1970.
    pub index: u64,
}

impl WindowIndex {
    /// The window of this length that `now` is in.
    ///
    /// # Errors
    /// When the length is 0.
    pub fn at(length_ms: u64, now: Timestamp) -> Result<WindowIndex, InvalidKey> {
        match length_ms {
            0 => Err(InvalidKey::WindowLength),
            _ => Ok(WindowIndex::within(length_ms, now)),
        }
    }

    /// The same, for a length that was checked before.
    #[inline]
    pub(crate) fn within(length_ms: u64, now: Timestamp) -> WindowIndex {
        let length_ms = length_ms.max(1);
        WindowIndex { length_ms, index: now.0 / length_ms }
    }

    /// The first moment of the window.
    ///
    /// ```
    /// use tallymesh::{Timestamp, WindowIndex};
    ///
    /// let minute = WindowIndex::at(60_000, Timestamp(125_000))?;
    /// assert_eq!(minute.start(), Timestamp(120_000));
    /// # Ok::<(), tallymesh::InvalidKey>(())
    /// ```
    #[inline]
    pub fn start(self) -> Timestamp {
        Timestamp(self.index.saturating_mul(self.length_ms))
    }

    /// The first moment after the window.
    #[inline]
    pub fn end(self) -> Timestamp {
        Timestamp(self.start().0.saturating_add(self.length_ms))
    }
}

/// What is no counter's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidKey {
    /// Bytes that no key has.
    #[error("not a counter key: {0}")]
    Bytes(&'static str),
    /// More values than a key has room for.
    #[error("a counter key with {0} values is not allowed: at most {KEY_VALUES_MAX}")]
    Values(usize),
    /// A name and values that are too long, together.
    #[error(
        "a counter key of {0} bytes is not allowed: limit and values together, at most {KEY_BYTES_MAX}, and what counters.max_key_bytes allows"
    )]
    Length(usize),
    /// A window of no length.
    #[error("a window with length_ms = 0 is not allowed: at least 1")]
    WindowLength,
}

/// The most values a key may have.
pub(crate) const KEY_VALUES_MAX: usize = 32;
/// The longest key that any node can be configured for, in bytes.
const KEY_BYTES_MAX: usize = 8192;

impl CounterKey {
    /// The key of a counter without a window, which expires when it has not been used for its time to live.
    ///
    /// # Errors
    /// When there are more than 32 values, or more than 8,192 bytes. A node's `counters.max_key_bytes` may allow fewer bytes;
    /// that is found when the key is used.
    pub fn new(limit: &str, values: &[&str]) -> Result<CounterKey, InvalidKey> {
        CounterKey::build(limit, values, None)
    }

    /// The key of a counter of one window.
    ///
    /// # Errors
    /// As [`new`](Self::new), and for a window whose `length_ms` is 0.
    pub fn windowed(
        limit: &str,
        values: &[&str],
        window: WindowIndex,
    ) -> Result<CounterKey, InvalidKey> {
        if window.length_ms == 0 {
            return Err(InvalidKey::WindowLength);
        }
        CounterKey::build(limit, values, Some(window))
    }

    fn build(
        limit: &str,
        values: &[&str],
        window: Option<WindowIndex>,
    ) -> Result<CounterKey, InvalidKey> {
        if values.len() > KEY_VALUES_MAX {
            return Err(InvalidKey::Values(values.len()));
        }
        let length =
            values.iter().map(|value| value.len()).fold(limit.len(), usize::saturating_add);
        if length > KEY_BYTES_MAX {
            return Err(InvalidKey::Length(length));
        }
        let mut bytes = Vec::new();
        write_window(&mut bytes, window);
        write_name_and_count(&mut bytes, limit, values.len());
        values.iter().for_each(|value| write_text(&mut bytes, value));
        Ok(CounterKey(bytes.into()))
    }

    /// Reads the byte form, which has exactly one spelling for each key.
    ///
    /// # Errors
    /// When the bytes are not what [`as_bytes`](Self::as_bytes) returns for some key.
    ///
    /// ```
    /// use tallymesh::{CounterKey, InvalidKey};
    ///
    /// let refused: Result<CounterKey, InvalidKey> = CounterKey::from_bytes(b"calls");
    /// assert!(refused.is_err());
    /// ```
    pub fn from_bytes(bytes: &[u8]) -> Result<CounterKey, InvalidKey> {
        CounterKey::check(bytes)?;
        Ok(CounterKey(bytes.into()))
    }

    /// Whether the bytes are a key's, without making one.
    ///
    /// # Errors
    /// As [`from_bytes`](Self::from_bytes).
    pub(crate) fn check(bytes: &[u8]) -> Result<(), InvalidKey> {
        let mut reader = Reader(bytes);
        reader.window()?;
        reader.text()?;
        let values = reader.varint()?;
        if values > KEY_VALUES_MAX as u64 {
            return Err(InvalidKey::Bytes("too many values"));
        }
        for _ in 0..values {
            reader.text()?;
        }
        if !reader.0.is_empty() {
            return Err(InvalidKey::Bytes("bytes after its end"));
        }
        Ok(())
    }

    /// The byte form: window length (varint ms, 0 for none), window index (varint, only if there is a window), limit,
    /// number of values (varint), values; each text behind its length in bytes (varint, LEB128).
    ///
    /// ```
    /// use tallymesh::CounterKey;
    ///
    /// // A table of one's own may be sorted by it, and gives the key back.
    /// let key = CounterKey::new("calls", &["u7"])?;
    /// let row: Vec<u8> = key.as_bytes().to_vec();
    /// assert_eq!(CounterKey::from_bytes(&row)?, key);
    /// # Ok::<(), tallymesh::InvalidKey>(())
    /// ```
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The name of the limit.
    pub fn limit(&self) -> &str {
        self.parts().1
    }

    /// The window, for a counter that has one.
    pub fn window(&self) -> Option<WindowIndex> {
        self.parts().0
    }

    /// The values, in the order of the limit's `per`.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        let mut reader = self.parts().2;
        let count = reader.varint().unwrap_or(0);
        (0..count).map_while(move |_| reader.text().ok())
    }

    #[expect(
        clippy::expect_used,
        reason = "a key is made of bytes that were checked, or written here"
    )]
    fn parts(&self) -> (Option<WindowIndex>, &str, Reader<'_>) {
        let mut reader = Reader(&self.0);
        let head = reader.window().and_then(|window| Ok((window, reader.text()?)));
        let (window, limit) = head.expect("a key's bytes are valid");
        (window, limit, reader)
    }
}

impl fmt::Display for CounterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.limit())?;
        for (index, value) in self.values().enumerate() {
            write!(f, "{}{value:?}", if index == 0 { " of " } else { ", " })?;
        }
        match self.window() {
            Some(window) => write!(f, " from {}", window.start()),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for CounterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CounterKey({self})")
    }
}

/// Appends the first part of a key's byte form; see [`CounterKey::as_bytes`].
#[inline]
pub(crate) fn write_window(bytes: &mut Vec<u8>, window: Option<WindowIndex>) {
    match window {
        None => bytes.push(0),
        Some(window) => {
            write_varint(bytes, window.length_ms);
            write_varint(bytes, window.index);
        }
    }
}

/// Appends the second part. The values follow, each a text.
pub(crate) fn write_name_and_count(bytes: &mut Vec<u8>, limit: &str, values: usize) {
    write_text(bytes, limit);
    write_varint(bytes, values as u64);
}

/// The window in a key's byte form, without reading the rest.
pub(crate) fn window_of(key: &[u8]) -> Result<Option<WindowIndex>, InvalidKey> {
    Reader(key).window()
}

/// Appends a text behind its length.
#[inline]
pub(crate) fn write_text(bytes: &mut Vec<u8>, text: &str) {
    write_varint(bytes, text.len() as u64);
    bytes.extend_from_slice(text.as_bytes());
}

#[inline]
fn write_varint(bytes: &mut Vec<u8>, value: u64) {
    varint::write(value, |byte| bytes.push(byte));
}

#[derive(Clone, Copy)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn window(&mut self) -> Result<Option<WindowIndex>, InvalidKey> {
        let length_ms = self.varint()?;
        if length_ms == 0 {
            return Ok(None);
        }
        Ok(Some(WindowIndex { length_ms, index: self.varint()? }))
    }

    fn text(&mut self) -> Result<&'a str, InvalidKey> {
        let length =
            usize::try_from(self.varint()?).map_err(|_| InvalidKey::Bytes("text too long"))?;
        let (text, rest) =
            self.0.split_at_checked(length).ok_or(InvalidKey::Bytes("text cut off"))?;
        self.0 = rest;
        core::str::from_utf8(text).map_err(|_| InvalidKey::Bytes("text is not UTF-8"))
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, InvalidKey> {
        varint::read(&mut self.0).map_err(|InvalidVarint(what)| InvalidKey::Bytes(what))
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_key_reads_back_as_written(
            limit in ".{0,20}",
            values in prop::collection::vec(".{0,20}", 0..5),
            window in prop::option::of((1_u64.., any::<u64>())),
        ) {
            let texts: Vec<&str> = values.iter().map(String::as_str).collect();
            let window = window.map(|(length_ms, index)| WindowIndex { length_ms, index });
            let key = CounterKey::build(&limit, &texts, window).unwrap();
            prop_assert_eq!(key.limit(), &limit);
            prop_assert_eq!(key.values().collect::<Vec<_>>(), texts);
            prop_assert_eq!(key.window(), window);
            prop_assert_eq!(CounterKey::from_bytes(key.as_bytes()), Ok(key));
        }

        #[test]
        fn arbitrary_bytes_are_refused_or_the_one_spelling(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(key) = CounterKey::from_bytes(&bytes) {
                let values: Vec<&str> = key.values().collect();
                let again = CounterKey::build(key.limit(), &values, key.window()).unwrap();
                prop_assert_eq!(again.as_bytes(), &bytes[..]);
            }
        }
    }

    #[test]
    fn values_cannot_be_shifted_into_one_another() {
        assert_ne!(
            CounterKey::new("l", &["ab", "c"]).unwrap(),
            CounterKey::new("l", &["a", "bc"]).unwrap()
        );
        assert_ne!(
            CounterKey::new("l", &["a"]).unwrap(),
            CounterKey::new("l", &["a", ""]).unwrap()
        );
    }

    #[test]
    fn a_far_window_has_an_end() {
        let window = WindowIndex { length_ms: u64::MAX, index: u64::MAX };
        assert_eq!(window.end(), Timestamp(u64::MAX));
    }
}
