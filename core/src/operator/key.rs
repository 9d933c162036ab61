//! The public half of the operator's key, and what is done with both halves: Ed25519 (RFC 8032).

use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use ed25519_compact::{KeyPair, PublicKey, Seed, Signature};

/// How many bytes the private half has.
pub const SEED_BYTES: usize = 32;
/// How many bytes a signature has.
pub(super) const SIGNATURE_BYTES: usize = 64;

/// The public half of the operator's key, written as 64 hex digits: entries that its private half has signed are believed.
///
/// ```
/// use tallymesh::{OperatorKey, OperatorPublicKey};
///
/// let public = OperatorKey::generate()?.public();
/// assert_eq!(public.to_string().parse::<OperatorPublicKey>()?, public);
/// assert_ne!(OperatorPublicKey::of_seed(&[7; 32]), public);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OperatorPublicKey([u8; PublicKey::BYTES]);

/// A text that is no public key.
///
/// ```
/// use tallymesh::{InvalidPublicKey, OperatorPublicKey};
///
/// assert_eq!("7f".parse::<OperatorPublicKey>(), Err(InvalidPublicKey));
/// assert!(InvalidPublicKey.to_string().contains("64 hex digits"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "an operator's public key has 64 hex digits, not all of them 0; `tallymesh keygen --operator` makes one"
)]
pub struct InvalidPublicKey;

impl OperatorPublicKey {
    /// The public half that belongs to a private one.
    pub fn of_seed(seed: &[u8; 32]) -> OperatorPublicKey {
        OperatorPublicKey(*KeyPair::from_seed(Seed::new(*seed)).pk)
    }

    /// Whether the private half has signed this.
    pub(super) fn has_signed(&self, message: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
        PublicKey::new(self.0).verify(message, &Signature::new(*signature)).is_ok()
    }
}

/// Signs with the private half.
pub(super) fn sign(seed: &[u8; SEED_BYTES], message: &[u8]) -> [u8; SIGNATURE_BYTES] {
    // Without noise a signature depends on nothing but the key and the message.
    *KeyPair::from_seed(Seed::new(*seed)).sk.sign(message, None)
}

impl FromStr for OperatorPublicKey {
    type Err = InvalidPublicKey;

    fn from_str(text: &str) -> Result<OperatorPublicKey, InvalidPublicKey> {
        let text = text.trim().as_bytes();
        let mut key = [0; PublicKey::BYTES];
        if text.len() != 2 * key.len() {
            return Err(InvalidPublicKey);
        }
        for (byte, digits) in key.iter_mut().zip(text.chunks(2)) {
            for digit in digits {
                let value = char::from(*digit).to_digit(16).ok_or(InvalidPublicKey)?;
                *byte = *byte << 4 | value as u8;
            }
        }
        if key == [0; PublicKey::BYTES] {
            Err(InvalidPublicKey)
        } else {
            Ok(OperatorPublicKey(key))
        }
    }
}

impl fmt::Display for OperatorPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(2 * self.0.len());
        for byte in self.0 {
            fmt::Write::write_fmt(&mut text, format_args!("{byte:02x}"))?;
        }
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_the_standard_signs_as_the_standard_says() {
        // RFC 8032, 7.1, TEST 2.
        let seed = [
            0x4c, 0xcd, 0x08, 0x9b, 0x28, 0xff, 0x96, 0xda, 0x9d, 0xb6, 0xc3, 0x46, 0xec, 0x11,
            0x4e, 0x0f, 0x5b, 0x8a, 0x31, 0x9f, 0x35, 0xab, 0xa6, 0x24, 0xda, 0x8c, 0xf6, 0xed,
            0x4f, 0xb8, 0xa6, 0xfb,
        ];
        let public = OperatorPublicKey::of_seed(&seed);
        let expected = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
        assert_eq!(alloc::format!("{public}"), expected);
        let signature = sign(&seed, &[0x72]);
        assert_eq!(signature[..4], [0x92, 0xa0, 0x09, 0xa9]);
        assert!(public.has_signed(&[0x72], &signature));
        assert!(!public.has_signed(&[0x73], &signature));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for bad in ["", "ab", &"0".repeat(64), &"g".repeat(64), &"a".repeat(65)] {
            assert_eq!(bad.parse::<OperatorPublicKey>(), Err(InvalidPublicKey), "{bad}");
        }
    }
}
