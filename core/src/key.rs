//! What is counted: the key of a counter, and the one byte form it has in memory, on the wire and on disk.

mod ends;
mod kind;
mod of_limit;
mod window;

use alloc::{boxed::Box, vec::Vec};
use core::fmt;

pub(crate) use ends::{Ends, end_after_use};
pub use kind::CounterKind;
use kind::{KIND_BITS, KIND_MASK};
pub(crate) use of_limit::is_of_limit;
pub use window::WindowSpan;

use crate::time::Timestamp;
use crate::varint::{self, InvalidVarint};

/// What one counter counts: a limit, the values that tell this counter from the limit's others (a session, a tool, ...),
/// and the window, for limits that have one.
///
/// A key says what kind of counter it names, and by which rule that ends, so a node whose config does not know the limit
/// still knows when to drop it. A window is part of the key, so a new window is a new counter and nothing is ever zeroed in
/// place. A limit's counter carries a tag of what its values mean, so that a limit whose `per` has changed begins new counters.
///
/// The keys made here are of counters that belong to no limit, whatever they are named. Those of a limit's counters are
/// told by `Limiter::keys`.
///
/// ```
/// use tallymesh::{CounterKey, CounterKind, Timestamp, WindowSpan};
///
/// let key = CounterKey::new("calls per user", &["u7"])?;
/// assert_eq!((key.limit(), key.kind(), key.tag()), ("calls per user", CounterKind::Plain, 0));
///
/// let minute = WindowSpan::at(60_000, Timestamp(125_000))?;
/// let key = CounterKey::windowed("calls per user", &["u7"], minute)?;
/// assert_eq!(key.window().map(|window| window.end()), Some(Timestamp(180_000)));
/// assert_eq!(key.values().collect::<Vec<_>>(), ["u7"]);
/// # Ok::<(), tallymesh::InvalidKey>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CounterKey(Box<[u8]>);

/// The tag of a counter that belongs to no limit.
pub(crate) const NO_LIMIT: u16 = 0;

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
    /// A window that begins too far in the future.
    #[error("a window that begins at {0} is not allowed: it must begin before the year 10889")]
    WindowStart(Timestamp),
}

/// The most values a key may have.
pub(crate) const KEY_VALUES_MAX: usize = 32;
/// The longest key that any node can be configured for, in bytes.
const KEY_BYTES_MAX: usize = 8192;

impl CounterKey {
    /// The key of a counter without a window that belongs to no limit, whatever its name. It expires when it was not changed
    /// for its time to live.
    ///
    /// # Errors
    /// When there are more than 32 values, or more than 8,192 bytes. A node's `counters.max_key_bytes` may allow fewer bytes;
    /// that is found when the key is used.
    pub fn new(limit: &str, values: &[&str]) -> Result<CounterKey, InvalidKey> {
        CounterKey::spell(CounterKind::Plain, Ends::AfterUse, limit, NO_LIMIT, values, &[])
    }

    /// The key of a counter of one window that belongs to no limit.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn windowed(
        limit: &str,
        values: &[&str],
        window: WindowSpan,
    ) -> Result<CounterKey, InvalidKey> {
        let ends = Ends::WithWindow(window);
        CounterKey::spell(CounterKind::FixedWindow, ends, limit, NO_LIMIT, values, &[])
    }

    /// The one spelling of a key. `numbers` are the kind's own; the kinds that are known have none.
    pub(crate) fn spell(
        kind: CounterKind,
        ends: Ends,
        limit: &str,
        tag: u16,
        values: &[&str],
        numbers: &[u64],
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
        write_head(&mut bytes, kind, ends);
        write_limit(&mut bytes, limit, tag, values.len());
        values.iter().for_each(|value| write_text(&mut bytes, value));
        numbers.iter().for_each(|number| write_varint(&mut bytes, *number));
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
        let (kind, ends) = reader.head()?;
        if kind.rule().is_some_and(|rule| rule != ends.rule()) {
            return Err(InvalidKey::Bytes("its kind ends by another rule"));
        }
        reader.text()?;
        reader.tag()?;
        let values = reader.varint()?;
        if values > KEY_VALUES_MAX as u64 {
            return Err(InvalidKey::Bytes("too many values"));
        }
        for _ in 0..values {
            reader.text()?;
        }
        while !reader.0.is_empty() {
            if kind.rule().is_some() {
                return Err(InvalidKey::Bytes("bytes after its end"));
            }
            reader.varint()?;
        }
        Ok(())
    }

    /// The byte form, which stands in `docs/wire-format.md`.
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

    /// What kind of counter it names.
    pub fn kind(&self) -> CounterKind {
        self.parts().kind
    }

    /// A mark of what the values of a limit's counter mean: the labels of its `per`, in their order. 0 for a counter that
    /// belongs to no limit.
    pub fn tag(&self) -> u16 {
        self.parts().tag
    }

    /// The name of the limit.
    pub fn limit(&self) -> &str {
        self.parts().limit
    }

    /// The window, for a counter that has one.
    pub fn window(&self) -> Option<WindowSpan> {
        match self.ends() {
            Ends::WithWindow(window) => Some(window),
            _ => None,
        }
    }

    /// By which rule the counter ends.
    pub(crate) fn ends(&self) -> Ends {
        self.parts().ends
    }

    /// The values, in the order of the limit's `per`.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        let mut reader = self.parts().rest;
        let count = reader.varint().unwrap_or(0);
        (0..count).map_while(move |_| reader.text().ok())
    }

    #[expect(
        clippy::expect_used,
        reason = "a key is made of bytes that were checked, or written here"
    )]
    fn parts(&self) -> Parts<'_> {
        let mut reader = Reader(&self.0);
        let mut read = || {
            let (kind, ends) = reader.head()?;
            let (limit, tag) = (reader.text()?, reader.tag()?);
            Ok::<_, InvalidKey>(Parts { kind, ends, limit, tag, rest: reader })
        };
        read().expect("a key's bytes are valid")
    }
}

/// What a key says. The rest is its values, behind their number, and its kind's own numbers.
struct Parts<'a> {
    kind: CounterKind,
    ends: Ends,
    limit: &'a str,
    tag: u16,
    rest: Reader<'a>,
}

impl fmt::Display for CounterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.limit())?;
        for (index, value) in self.values().enumerate() {
            write!(f, "{}{value:?}", if index == 0 { " of " } else { ", " })?;
        }
        if let Some(window) = self.window() {
            write!(f, " from {}", window.start())?;
        }
        match self.kind() {
            CounterKind::Other(kind) => write!(f, " (kind {kind})"),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for CounterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CounterKey({self})")
    }
}

/// Appends the first part of a key's byte form: what it names, and when that ends.
#[inline]
pub(crate) fn write_head(bytes: &mut Vec<u8>, kind: CounterKind, ends: Ends) {
    bytes.push(kind.number() | ends.rule() << KIND_BITS);
    match ends {
        Ends::WithWindow(window) => {
            let [start @ .., _, _] = window.start().0.to_le_bytes();
            bytes.extend_from_slice(&start);
            write_varint(bytes, window.length_ms());
        }
        Ends::After(length_ms) => write_varint(bytes, length_ms),
        Ends::AfterUse | Ends::AtNanos | Ends::Earliest => {}
    }
}

/// Whether a key is of a counter of this very window, if it is one of the same limit and values.
#[inline]
pub(crate) fn is_of_window(key: &[u8], window: WindowSpan) -> bool {
    let [start @ .., _, _] = window.start().0.to_le_bytes();
    key.get(1..7) == Some(&start)
}

/// Appends the second part. The values follow, each a text.
pub(crate) fn write_limit(bytes: &mut Vec<u8>, limit: &str, tag: u16, values: usize) {
    write_text(bytes, limit);
    bytes.extend_from_slice(&tag.to_le_bytes());
    write_varint(bytes, values as u64);
}

/// By which rule a key's counter ends, without reading the rest.
#[inline]
pub(crate) fn ends_of(key: &[u8]) -> Result<Ends, InvalidKey> {
    Reader(key).head().map(|(_, ends)| ends)
}

/// The name of the limit that a key is of; nothing if it is no key.
pub(crate) fn limit_of(key: &[u8]) -> &str {
    let mut reader = Reader(key);
    reader.head().and_then(|_| reader.text()).unwrap_or_default()
}

/// What kind of counter a key names, without reading the rest.
#[inline]
pub(crate) fn kind_of(key: &[u8]) -> CounterKind {
    CounterKind::of(key.first().map_or(0, |head| head & KIND_MASK))
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
    fn head(&mut self) -> Result<(CounterKind, Ends), InvalidKey> {
        let [head] = self.bytes()?;
        let ends = match head >> KIND_BITS {
            Ends::WITH_WINDOW => {
                let [a, b, c, d, e, f] = self.bytes()?;
                let start = Timestamp(u64::from_le_bytes([a, b, c, d, e, f, 0, 0]));
                Ends::WithWindow(WindowSpan::new(start, self.varint()?)?)
            }
            Ends::AFTER_USE => Ends::AfterUse,
            Ends::AT_NANOS => Ends::AtNanos,
            Ends::EARLIEST => Ends::Earliest,
            Ends::AFTER => match self.varint()? {
                0 => return Err(InvalidKey::WindowLength),
                length_ms => Ends::After(length_ms),
            },
            _ => return Err(InvalidKey::Bytes("a rule for its end that is not known")),
        };
        Ok((CounterKind::of(head & KIND_MASK), ends))
    }

    fn tag(&mut self) -> Result<u16, InvalidKey> {
        self.bytes().map(u16::from_le_bytes)
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], InvalidKey> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(InvalidKey::Bytes("cut off"))?;
        self.0 = rest;
        Ok(*bytes)
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
    use alloc::string::{String, ToString};

    use proptest::prelude::*;

    use super::*;

    fn ends() -> impl Strategy<Value = Ends> {
        prop_oneof![
            (0..1_u64 << 48, 1_u64..).prop_map(|(start, length)| Ends::WithWindow(
                WindowSpan::new(Timestamp(start), length).unwrap()
            )),
            Just(Ends::AfterUse),
            Just(Ends::AtNanos),
            Just(Ends::Earliest),
            (1_u64..).prop_map(Ends::After),
        ]
    }

    /// The kind's own numbers, which no getter tells.
    fn numbers(key: &CounterKey) -> Vec<u64> {
        let mut reader = key.parts().rest;
        for _ in 0..reader.varint().unwrap() {
            reader.text().unwrap();
        }
        core::iter::from_fn(|| reader.varint().ok()).collect()
    }

    proptest! {
        #[test]
        fn a_key_reads_back_as_written(
            kind in 0_u8..32,
            ends in ends(),
            limit in ".{0,20}",
            tag in any::<u16>(),
            values in prop::collection::vec(".{0,20}", 0..5),
            own in prop::collection::vec(any::<u64>(), 0..3),
        ) {
            let kind = CounterKind::of(kind);
            let texts: Vec<&str> = values.iter().map(String::as_str).collect();
            let key = CounterKey::spell(kind, ends, &limit, tag, &texts, &own).unwrap();
            prop_assert_eq!((key.kind(), key.ends(), key.limit(), key.tag()), (kind, ends, &limit[..], tag));
            prop_assert_eq!(key.values().collect::<Vec<_>>(), texts);
            prop_assert_eq!(numbers(&key), own.clone());
            prop_assert_eq!((ends_of(key.as_bytes()), kind_of(key.as_bytes())), (Ok(ends), kind));
            let is_known_kind_as_none_is = kind.rule().is_some_and(|rule| rule != ends.rule() || !own.is_empty());
            match CounterKey::from_bytes(key.as_bytes()) {
                Ok(read) => prop_assert!(read == key && !is_known_kind_as_none_is),
                Err(_) => prop_assert!(is_known_kind_as_none_is),
            }
        }

        #[test]
        fn arbitrary_bytes_are_refused_or_the_one_spelling(
            head in 0_u8..0xa0, // Else nearly none is a key.
            bytes in prop::collection::vec(prop_oneof![any::<u8>(), 0_u8..5], 0..40)
        ) {
            let bytes = [&[head], &bytes[..]].concat();
            if let Ok(key) = CounterKey::from_bytes(&bytes) {
                let values: Vec<&str> = key.values().collect();
                let again = CounterKey::spell(
                    key.kind(), key.ends(), key.limit(), key.tag(), &values, &numbers(&key)
                ).unwrap();
                prop_assert_eq!(again.as_bytes(), &bytes[..]);
            }
        }
    }

    #[test]
    fn a_key_is_these_bytes() {
        let key = CounterKey::new("l", &["v"]).unwrap();
        assert_eq!(key.as_bytes(), [0x20, 1, b'l', 0, 0, 1, 1, b'v']);
        let window = WindowSpan::at(300, Timestamp(0x0102_0304)).unwrap();
        let key = CounterKey::windowed("l", &[], window).unwrap();
        let [a, b, c, d, ..] = window.start().0.to_le_bytes();
        assert_eq!(key.as_bytes(), [2, a, b, c, d, 0, 0, 0xac, 2, 1, b'l', 0, 0, 0]);
        assert!(is_of_window(key.as_bytes(), window));
        let next = WindowSpan::at(300, window.end()).unwrap();
        assert!(!is_of_window(key.as_bytes(), next));
    }

    #[test]
    fn a_counter_of_a_kind_to_come_says_when_it_ends() {
        let key = CounterKey::spell(CounterKind::of(8), Ends::After(500), "b", 7, &["v"], &[3, 4]);
        let key = CounterKey::from_bytes(key.unwrap().as_bytes()).unwrap();
        assert_eq!((key.kind(), key.window()), (CounterKind::Other(8), None));
        assert_eq!(key.to_string(), "b of \"v\" (kind 8)");
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
}
