//! The private half of the operator's key: who has it can quarantine and forget, on every node that has the public half.

use std::fmt;
use std::io;
use std::str::FromStr;

use tallymesh_core::operator::{OperatorEntry, OperatorPublicKey};

use crate::secret::Secret;

/// The private half of the operator's key, written as 64 hex digits. It belongs with people, not on nodes: those have its
/// [public half](Self::public) in `operator.public_key`.
///
/// No text that is made of it by `Debug` has it, and its bytes are overwritten when it is dropped.
///
/// ```
/// use tallymesh::{Config, OperatorKey};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let key = OperatorKey::generate()?;
/// assert!(!format!("{key:?}").contains(&key.reveal()));
/// let config = Config::builder("a").in_memory().operator_public_key(key.public().to_string()).build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct OperatorKey(Secret);

/// Why a text is no [`OperatorKey`]. Nothing of the text is in it.
///
/// ```
/// use tallymesh::{InvalidOperatorKey, OperatorKey};
///
/// let refused: InvalidOperatorKey = "7f".parse::<OperatorKey>().unwrap_err();
/// assert!(refused.to_string().contains("64 hex digits"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "an operator's private key has 64 hex digits, not all of them 0; `tallymesh keygen --operator` makes one"
)]
pub struct InvalidOperatorKey;

impl OperatorKey {
    /// A new key that cannot be foreseen.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn generate() -> io::Result<OperatorKey> {
        Secret::generate().map(OperatorKey)
    }

    /// The key as 64 hex digits, for a file or a secret store.
    pub fn reveal(&self) -> String {
        self.0.reveal()
    }

    /// The public half, for the config of each node.
    pub fn public(&self) -> OperatorPublicKey {
        OperatorPublicKey::of_seed(self.0.bytes())
    }

    /// The same entry, signed for the cluster of this name (`gossip.cluster`).
    #[must_use]
    pub fn sign(&self, entry: OperatorEntry, cluster: &str) -> OperatorEntry {
        entry.signed(self.0.bytes(), cluster)
    }
}

impl FromStr for OperatorKey {
    type Err = InvalidOperatorKey;

    /// Reads 64 hex digits; space around them does not count.
    fn from_str(text: &str) -> Result<OperatorKey, InvalidOperatorKey> {
        match Secret::parse(text) {
            Ok(secret) if !secret.is_zero() => Ok(OperatorKey(secret)),
            _ => Err(InvalidOperatorKey),
        }
    }
}

impl fmt::Debug for OperatorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OperatorKey(of {})", self.public())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_is_written_and_shown_nowhere() {
        let key = OperatorKey::generate().unwrap();
        assert_ne!(key, OperatorKey::generate().unwrap());
        assert_eq!(format!(" {}\n", key.reveal()).parse(), Ok(key.clone()));
        let shown = format!("{key:?}");
        assert!(!shown.contains(&key.reveal()) && shown.contains(&key.public().to_string()));
        for bad in [String::new(), "0".repeat(64), "g".repeat(64), "a".repeat(66)] {
            assert_eq!(bad.parse::<OperatorKey>(), Err(InvalidOperatorKey));
        }
    }
}
