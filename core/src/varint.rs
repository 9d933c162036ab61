//! Integers of variable length, LEB128: seven bits a byte, the low ones first, and a high bit on every byte but the last.
//!
//! Each integer has exactly one form here, the shortest, so that equal values are equal bytes.

/// The most bytes that one integer takes.
pub(crate) const VARINT_BYTES_MAX: usize = 10;

/// Bytes that no integer is written as, with what is wrong with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InvalidVarint(pub &'static str);

/// Writes an integer, byte by byte.
#[inline(always)]
pub(crate) fn write(mut value: u64, mut put: impl FnMut(u8)) {
    while value >= 0x80 {
        put(value as u8 | 0x80);
        value >>= 7;
    }
    put(value as u8);
}

/// Reads an integer and moves `bytes` past it.
#[inline]
pub(crate) fn read(bytes: &mut &[u8]) -> Result<u64, InvalidVarint> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(InvalidVarint("number cut off"))?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if (bits << shift) >> shift != bits {
            return Err(InvalidVarint("number over 64 bits"));
        }
        value |= bits << shift;
        if byte < 0x80 {
            if byte == 0 && shift > 0 {
                return Err(InvalidVarint("number with a second spelling"));
            }
            return Ok(value);
        }
    }
    Err(InvalidVarint("number over 64 bits"))
}

/// Moves `bytes` past an integer without reading it; to their end if it is cut off.
#[inline]
pub(crate) fn skip(bytes: &mut &[u8]) {
    let length = bytes.iter().take_while(|byte| **byte >= 0x80).count() + 1;
    *bytes = bytes.get(length..).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn written(value: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(value, |byte| bytes.push(byte));
        bytes
    }

    proptest! {
        #[test]
        fn an_integer_reads_back_as_written(value in any::<u64>(), shift in 0_u32..64, behind in any::<u8>()) {
            let value = value >> shift;
            let mut bytes = written(value);
            prop_assert!(bytes.len() <= VARINT_BYTES_MAX);
            bytes.push(behind);
            let (mut read_from, mut skipped) = (&bytes[..], &bytes[..]);
            prop_assert_eq!(read(&mut read_from), Ok(value));
            skip(&mut skipped);
            prop_assert_eq!(read_from, &[behind][..]);
            prop_assert_eq!(skipped, &[behind][..]);
        }

        #[test]
        fn arbitrary_bytes_are_refused_or_the_one_form(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
            let mut rest = &bytes[..];
            if let Ok(value) = read(&mut rest) {
                prop_assert_eq!(written(value), &bytes[..bytes.len() - rest.len()]);
            }
        }
    }

    #[test]
    fn what_is_no_integer_says_why() {
        let refused = |mut bytes: &[u8]| read(&mut bytes).unwrap_err().0;
        assert_eq!(refused(&[]), "number cut off");
        assert_eq!(refused(&[0x80]), "number cut off");
        assert_eq!(refused(&[0x80, 0]), "number with a second spelling");
        assert_eq!(refused(&[0xff; 11]), "number over 64 bits");
        assert_eq!(written(u64::MAX).len(), VARINT_BYTES_MAX);
    }

    #[test]
    fn a_cut_off_integer_is_skipped_to_the_end() {
        let mut bytes = &[0x80, 0x80][..];
        skip(&mut bytes);
        assert!(bytes.is_empty());
    }
}
