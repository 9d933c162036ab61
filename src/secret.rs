//! 32 bytes that are shown to none who has not asked for them.
//!
//! They are written as 64 hex digits and in no other way: they have one length, no padding and no letter case that matters, nothing
//! that a shell, YAML or TOML takes for something else, and what looks like them can be hidden in a message.

use std::fmt::Write;
use std::io;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use crate::random::random;

/// How many bytes a key has.
pub(crate) const KEY_BYTES: usize = 32;
/// How many hex digits that is.
const DIGITS: usize = 2 * KEY_BYTES;
/// How many bytes of the hash are shown.
const FINGERPRINT_BYTES: usize = 8;

/// A secret of 32 bytes, which are overwritten when it is dropped.
#[derive(Clone, PartialEq, Eq)]
// Shared, not copied: what is moved or cloned leaves no copy of the bytes behind.
pub(crate) struct Secret(Arc<Zeroizing<[u8; KEY_BYTES]>>);

/// Why a text is not 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotHex {
    /// It has this many characters, not 64.
    Length(usize),
    /// It has other characters than hex digits.
    Digits,
}

impl Secret {
    /// One that cannot be foreseen.
    pub(crate) fn generate() -> io::Result<Secret> {
        let mut bytes = random()?;
        let secret = Secret(Arc::new(Zeroizing::new(bytes)));
        bytes.zeroize();
        Ok(secret)
    }

    /// Reads 64 hex digits; space around them does not count.
    pub(crate) fn parse(text: &str) -> Result<Secret, NotHex> {
        bytes(text).map(|bytes| Secret(Arc::new(bytes)))
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.bytes().iter().all(|byte| *byte == 0)
    }

    /// As 64 hex digits.
    pub(crate) fn reveal(&self) -> String {
        hex(self.bytes())
    }

    pub(crate) fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

/// The bytes that 64 hex digits are; space around them does not count.
pub(crate) fn bytes(text: &str) -> Result<Zeroizing<[u8; KEY_BYTES]>, NotHex> {
    let text = text.trim();
    let length = text.chars().count();
    if length != DIGITS {
        return Err(NotHex::Length(length));
    }
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    let mut digits = text.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8));
    for byte in bytes.iter_mut() {
        let (Some(Some(high)), Some(Some(low))) = (digits.next(), digits.next()) else {
            return Err(NotHex::Digits);
        };
        *byte = high << 4 | low;
    }
    Ok(bytes)
}

/// These bytes as hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    // One allocation, so that no half of a key is left behind in another one.
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// What tells one of this kind from others, and says nothing else of it: 16 hex digits.
pub(crate) fn fingerprint(kind: &str, bytes: &[u8; KEY_BYTES]) -> String {
    let hash = Sha256::new().chain_update(kind).chain_update(bytes).finalize();
    hex(hash.get(..FINGERPRINT_BYTES).unwrap_or_default())
}
