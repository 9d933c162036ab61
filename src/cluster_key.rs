//! The key that the members of a cluster have in common.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::Arc;

use crate::secret::{KEY_BYTES, NotHex, Secret, fingerprint};

/// So many keys a node accepts: a stranger's first message is tried with each.
const KEYS_MAX: usize = 4;

/// A secret of 32 bytes that makes a node a member of a cluster: who has it can join, and no other node.
///
/// No text that is made of it by `Debug` has it, and its bytes are overwritten when it is dropped. Two keys are told apart by their
/// [`fingerprint`](Self::fingerprint).
///
/// ```
/// use tallymesh::{ClusterKey, Config};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let key = ClusterKey::generate()?;
/// let same = ClusterKey::parse(&key.reveal())?;
/// assert_eq!(key, same);
/// assert!(!format!("{key:?}").contains(&key.reveal()));
/// // With a key a node may listen beyond the loopback interface.
/// let config = Config::builder("a").in_memory().listen("0.0.0.0:7946").gossip_key([key]).build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterKey(Secret);

/// Why a text is no [`ClusterKey`]. Nothing of the text is in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidClusterKey {
    /// It has more or fewer digits.
    #[error("a key has 64 hex digits, not {length}; `tallymesh keygen` makes one")]
    #[non_exhaustive]
    Length {
        /// How many characters it has.
        length: usize,
    },
    /// It has other characters than hex digits.
    #[error("a key has hex digits only, 0 to 9 and a to f; `tallymesh keygen` makes one")]
    Digits,
    /// It is all zeros, as what was never filled in.
    #[error("a key is not all zeros; `tallymesh keygen` makes one")]
    Zeros,
}

impl ClusterKey {
    /// A new key that cannot be foreseen.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn generate() -> io::Result<ClusterKey> {
        Secret::generate().map(ClusterKey)
    }

    /// Reads 64 hex digits; space around them does not count.
    ///
    /// # Errors
    /// When they are not 64, something else is among them, or all of them are 0.
    ///
    /// ```
    /// use tallymesh::{ClusterKey, InvalidClusterKey};
    ///
    /// assert_eq!(ClusterKey::parse(&"00".repeat(32)), Err(InvalidClusterKey::Zeros));
    /// assert_eq!(ClusterKey::parse(&"7x".repeat(32)), Err(InvalidClusterKey::Digits));
    /// assert!(ClusterKey::parse(&"7f".repeat(32)).is_ok());
    /// ```
    pub fn parse(text: &str) -> Result<ClusterKey, InvalidClusterKey> {
        match Secret::parse(text) {
            Ok(secret) if secret.is_zero() => Err(InvalidClusterKey::Zeros),
            Ok(secret) => Ok(ClusterKey(secret)),
            Err(NotHex::Length(length)) => Err(InvalidClusterKey::Length { length }),
            Err(NotHex::Digits) => Err(InvalidClusterKey::Digits),
        }
    }

    /// The key as 64 hex digits, for a file or a secret store. Who reads them is a member.
    pub fn reveal(&self) -> String {
        self.0.reveal()
    }

    /// What tells this key from others, 16 hex digits. It is no secret: the key cannot be found by it.
    ///
    /// ```
    /// # use tallymesh::ClusterKey;
    /// let key = ClusterKey::parse(&"7f".repeat(32))?;
    /// assert_eq!(key.fingerprint(), "260e32fffb57070c");
    /// # Ok::<(), tallymesh::InvalidClusterKey>(())
    /// ```
    pub fn fingerprint(&self) -> String {
        fingerprint("tallymesh cluster key", self.bytes())
    }

    /// The secret itself.
    pub(crate) fn bytes(&self) -> &[u8; KEY_BYTES] {
        self.0.bytes()
    }
}

impl FromStr for ClusterKey {
    type Err = InvalidClusterKey;

    fn from_str(text: &str) -> Result<ClusterKey, InvalidClusterKey> {
        ClusterKey::parse(text)
    }
}

impl fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterKey({}..)", self.fingerprint())
    }
}

/// The keys of a node: the first is used to dial, all are accepted.
#[derive(Debug, Clone)]
pub(crate) struct Keys(Arc<[ClusterKey]>);

impl Keys {
    /// From one to four keys, each once; otherwise what is allowed.
    pub(crate) fn new(keys: Vec<ClusterKey>) -> Result<Keys, String> {
        let is_twice = |(at, key): (usize, &ClusterKey)| keys.iter().take(at).any(|one| one == key);
        match keys.len() {
            0 => Err("at least one key".to_owned()),
            1..=KEYS_MAX if keys.iter().enumerate().any(is_twice) => {
                Err("each key once: the first is used to dial, all are accepted".to_owned())
            }
            1..=KEYS_MAX => Ok(Keys(keys.into())),
            count => Err(format!("at most {KEYS_MAX} keys, not {count}")),
        }
    }

    /// Reads keys with a comma or white space between them; otherwise what is allowed.
    pub(crate) fn parse(text: &str) -> Result<Keys, String> {
        let is_between = |c: char| c == ',' || c.is_whitespace();
        let words = text.split(is_between).filter(|word| !word.is_empty());
        // One more than are allowed is enough to refuse them.
        let parsed = words.take(KEYS_MAX + 1).map(ClusterKey::parse);
        let parsed: Result<Vec<ClusterKey>, InvalidClusterKey> = parsed.collect();
        Keys::new(parsed.map_err(|why| why.to_string())?)
    }

    /// The one to dial with.
    pub(crate) fn to_dial(&self) -> Option<&ClusterKey> {
        self.0.first()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &ClusterKey> {
        self.0.iter()
    }

    /// Whether the key of this fingerprint is accepted.
    pub(crate) fn accept(&self, fingerprint: &str) -> bool {
        self.iter().any(|key| key.fingerprint() == fingerprint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::hex;

    fn key(byte: u8) -> ClusterKey {
        ClusterKey::parse(&hex(&[byte; KEY_BYTES])).unwrap()
    }

    #[test]
    fn a_key_is_read_as_it_is_written_and_shown_nowhere() {
        let made = ClusterKey::generate().unwrap();
        assert_ne!(made, ClusterKey::generate().unwrap());
        let text = made.reveal();
        assert_eq!((text.len(), text.parse()), (64, Ok(made.clone())));
        assert_eq!(ClusterKey::parse(&format!(" {}\n", text.to_uppercase())), Ok(made.clone()));
        let keys = Keys::new(vec![made.clone(), key(7)]).unwrap();
        for shown in [format!("{made:?}"), format!("{keys:?}"), format!("{keys:#?}")] {
            assert!(!shown.to_lowercase().contains(&text) && shown.contains(&made.fingerprint()));
        }
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_shown() {
        for (text, why) in [
            (String::new(), InvalidClusterKey::Length { length: 0 }),
            ("ab".repeat(31), InvalidClusterKey::Length { length: 62 }),
            ("ab".repeat(33), InvalidClusterKey::Length { length: 66 }),
            ("é".repeat(64), InvalidClusterKey::Digits),
            (format!("{}+1", "ab".repeat(31)), InvalidClusterKey::Digits),
            ("0".repeat(64), InvalidClusterKey::Zeros),
        ] {
            let refused = ClusterKey::parse(&text).unwrap_err();
            assert_eq!(refused, why);
            assert!(text.is_empty() || !refused.to_string().contains(&text));
        }
    }

    #[test]
    fn a_list_of_keys_has_from_one_to_four_different_ones() {
        let text = |bytes: &[u8]| bytes.iter().map(|byte| key(*byte).reveal()).collect::<Vec<_>>();
        let keys = Keys::parse(&text(&[1, 2, 3, 4]).join(", ")).unwrap();
        assert_eq!((keys.iter().count(), keys.to_dial()), (4, Some(&key(1))));
        assert!(keys.accept(&key(4).fingerprint()) && !keys.accept(&key(5).fingerprint()));
        assert!(Keys::parse(&text(&[1, 2]).join("\n")).is_ok());
        for (bytes, why) in [
            (&[][..], "at least one"),
            (&[1, 2, 1], "each key once"),
            (&[1, 2, 3, 4, 5], "at most 4 keys, not 5"),
        ] {
            let refused = Keys::parse(&text(bytes).join(",")).unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
        assert!(Keys::parse("abc").unwrap_err().contains("64 hex digits, not 3"));
    }
}
