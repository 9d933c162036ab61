//! A counter's key in its slot.

use alloc::boxed::Box;
use core::ops::Deref;

/// How long a key is that stands in the slot itself.
const BYTES_HERE: usize = 46;

/// A key. Those of the usual length are in the slot itself, which saves a decision a cache miss.
#[derive(Debug, Clone)]
pub enum SlotKey {
    /// So many of these bytes.
    Here(u8, [u8; BYTES_HERE]),
    /// A longer key.
    Elsewhere(Box<[u8]>),
}

impl SlotKey {
    pub(super) fn of(key: &[u8]) -> SlotKey {
        let mut bytes = [0; BYTES_HERE];
        match bytes.get_mut(..key.len()) {
            Some(here) => {
                here.copy_from_slice(key);
                SlotKey::Here(key.len() as u8, bytes)
            }
            None => SlotKey::Elsewhere(key.into()),
        }
    }
}

impl Deref for SlotKey {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            SlotKey::Here(length, bytes) => bytes.get(..usize::from(*length)).unwrap_or_default(),
            SlotKey::Elsewhere(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn a_key_is_the_same_wherever_it_stands() {
        assert_eq!(size_of::<SlotKey>(), 48);
        for length in [0, 1, BYTES_HERE, BYTES_HERE + 1, 500] {
            let key = vec![7; length];
            assert_eq!(*SlotKey::of(&key), key);
        }
    }
}
