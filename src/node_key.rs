//! The key that one node has alone, and the public halves by which the others know it.

mod members;

use std::fmt;
use std::io;
use std::str::FromStr;

use tallymesh_core::id::NodeId;

use crate::curve::{is_of_use, public_half};
use crate::secret::{KEY_BYTES, NotHex, Secret, bytes, fingerprint, hex};
pub(crate) use members::Members;

/// A secret of 32 bytes that one node has alone: by it the others know that it is this node and no other.
///
/// They are given its [public half](Self::public_key), each in the list of its `gossip.members`. No text that is made of the key by
/// `Debug` has it, and its bytes are overwritten when it is dropped.
///
/// ```
/// use tallymesh::{Config, NodeKey};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (a, b) = (NodeKey::generate()?, NodeKey::generate()?);
/// // All nodes have the same list.
/// let members = [format!("a={}", a.public_key()), format!("b={}", b.public_key())];
/// assert!(!format!("{a:?}").contains(&a.reveal()));
/// # let _ = members;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct NodeKey {
    secret: Secret,
    public: PublicKey,
}

/// The public half of a [`NodeKey`]. It is no secret.
///
/// ```
/// use tallymesh::{NodeKey, PublicKey};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let key = NodeKey::generate()?.public_key();
/// assert_eq!(key.to_string().parse::<PublicKey>()?, key);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; KEY_BYTES]);

/// Why a text is no [`NodeKey`] or no [`PublicKey`]. Nothing of the text is in it.
///
/// ```
/// use tallymesh::{InvalidNodeKey, NodeKey, PublicKey};
///
/// assert_eq!(NodeKey::parse(&"00".repeat(32)), Err(InvalidNodeKey::Zeros));
/// assert_eq!("7x".repeat(32).parse::<PublicKey>(), Err(InvalidNodeKey::Digits));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidNodeKey {
    /// It has more or fewer digits.
    #[error("a node's key has 64 hex digits, not {length}; `tallymesh keygen --node` makes one")]
    #[non_exhaustive]
    Length {
        /// How many characters it has.
        length: usize,
    },
    /// It has other characters than hex digits.
    #[error(
        "a node's key has hex digits only, 0 to 9 and a to f; `tallymesh keygen --node` makes one"
    )]
    Digits,
    /// It is all zeros, as what was never filled in.
    #[error("a node's key is not all zeros; `tallymesh keygen --node` makes one")]
    Zeros,
    /// It is a public key, and one of those by which everyone finds the same secret.
    #[error(
        "it is the public half of no key: nothing would be kept secret by it (a point of low order); \
         `tallymesh keygen --node` makes a key"
    )]
    LowOrder,
}

fn no_key(why: NotHex) -> InvalidNodeKey {
    match why {
        NotHex::Length(length) => InvalidNodeKey::Length { length },
        NotHex::Digits => InvalidNodeKey::Digits,
    }
}

impl NodeKey {
    /// A new key that cannot be foreseen.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn generate() -> io::Result<NodeKey> {
        Secret::generate().map(NodeKey::of)
    }

    /// Reads 64 hex digits; space around them does not count.
    ///
    /// # Errors
    /// When they are not 64, something else is among them, or all of them are 0.
    ///
    /// ```
    /// # use tallymesh::NodeKey;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let key = NodeKey::generate()?;
    /// assert_eq!(NodeKey::parse(&key.reveal())?, key);
    /// # Ok(())
    /// # }
    /// ```
    pub fn parse(text: &str) -> Result<NodeKey, InvalidNodeKey> {
        let secret = Secret::parse(text).map_err(no_key)?;
        match secret.is_zero() {
            true => Err(InvalidNodeKey::Zeros),
            false => Ok(NodeKey::of(secret)),
        }
    }

    fn of(secret: Secret) -> NodeKey {
        let public = PublicKey(public_half(secret.bytes()));
        NodeKey { secret, public }
    }

    /// The key as 64 hex digits, for a file or a secret store. Who reads them can pass for this node.
    pub fn reveal(&self) -> String {
        self.secret.reveal()
    }

    /// What the others have in their list of members.
    ///
    /// ```
    /// # use tallymesh::NodeKey;
    /// let key = NodeKey::parse(&"7f".repeat(32))?;
    /// let public = "ffe851688ca15799239e0f6deddc806858aeb0cd75c8eaf0d7c726572e91291f";
    /// assert_eq!(key.public_key().to_string(), public);
    /// # Ok::<(), tallymesh::InvalidNodeKey>(())
    /// ```
    pub fn public_key(&self) -> PublicKey {
        self.public
    }

    /// The secret itself.
    pub(crate) fn bytes(&self) -> &[u8; KEY_BYTES] {
        self.secret.bytes()
    }
}

impl FromStr for NodeKey {
    type Err = InvalidNodeKey;

    fn from_str(text: &str) -> Result<NodeKey, InvalidNodeKey> {
        NodeKey::parse(text)
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKey({}..)", self.public.fingerprint())
    }
}

impl PublicKey {
    /// Reads 64 hex digits; space around them does not count.
    ///
    /// # Errors
    /// When they are not 64, something else is among them, or they are one of the few texts that are the public half of no key.
    ///
    /// ```
    /// use tallymesh::{InvalidNodeKey, PublicKey};
    ///
    /// assert_eq!(PublicKey::parse(&"00".repeat(32)), Err(InvalidNodeKey::LowOrder));
    /// assert!(PublicKey::parse(&"7f".repeat(32)).is_ok());
    /// ```
    pub fn parse(text: &str) -> Result<PublicKey, InvalidNodeKey> {
        let bytes = bytes(text).map_err(no_key)?;
        match is_of_use(&bytes) {
            true => Ok(PublicKey(*bytes)),
            false => Err(InvalidNodeKey::LowOrder),
        }
    }

    /// What tells this key from others in the status and the log, 16 hex digits.
    ///
    /// ```
    /// # use tallymesh::PublicKey;
    /// assert_eq!(PublicKey::parse(&"7f".repeat(32))?.fingerprint().len(), 16);
    /// # Ok::<(), tallymesh::InvalidNodeKey>(())
    /// ```
    pub fn fingerprint(&self) -> String {
        fingerprint("tallymesh node key", &self.0)
    }

    /// The key of these bytes, by which a secret was made already: so they are the public half of one.
    pub(crate) fn of_secret(bytes: &[u8]) -> Option<PublicKey> {
        bytes.try_into().ok().map(PublicKey)
    }
}

impl FromStr for PublicKey {
    type Err = InvalidNodeKey;

    fn from_str(text: &str) -> Result<PublicKey, InvalidNodeKey> {
        PublicKey::parse(text)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

/// What a node proves itself by, and the nodes that may prove themselves to it.
#[derive(Debug, Clone)]
pub(crate) struct NodeKeys {
    pub(crate) own: NodeKey,
    pub(crate) members: Members,
}

impl NodeKeys {
    /// The key of this node and its members, if it is one of them by this key; otherwise what is allowed as its members.
    pub(crate) fn new(own: NodeKey, members: Members, node: &NodeId) -> Result<NodeKeys, String> {
        let public = own.public_key();
        match members.node_of(&public) {
            Some(named) if named == node => Ok(NodeKeys { own, members }),
            Some(named) => Err(format!(
                "a list in which the public half of this node's own key is {node}'s, not {named}'s: each node has a key of its own \
                 (`tallymesh keygen --node`), and node.id is its name in the list"
            )),
            None => Err(format!(
                "a list with this node's own key: its public half is \"{node}={public}\", which goes into the list of each node"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curve::LOW_ORDER;

    #[test]
    fn a_key_is_read_as_it_is_written_and_shown_nowhere() {
        let made = NodeKey::generate().unwrap();
        assert_ne!(made, NodeKey::generate().unwrap());
        let text = made.reveal();
        assert_eq!((text.len(), text.parse()), (64, Ok(made.clone())));
        assert_eq!(NodeKey::parse(&format!(" {}\n", text.to_uppercase())), Ok(made.clone()));
        let public = made.public_key();
        assert_eq!((public.to_string().len(), public.to_string().parse()), (64, Ok(public)));
        let node = "a".parse().unwrap();
        let members = Members::parse([format!("a={public}")]).unwrap();
        let keys = NodeKeys::new(made.clone(), members, &node).unwrap();
        for shown in [format!("{made:?}"), format!("{keys:?}"), format!("{keys:#?}")] {
            assert!(!shown.to_lowercase().contains(&text), "{shown}");
            assert!(shown.contains(&public.fingerprint()), "{shown}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_shown() {
        for (text, why) in [
            (String::new(), InvalidNodeKey::Length { length: 0 }),
            ("ab".repeat(31), InvalidNodeKey::Length { length: 62 }),
            ("é".repeat(64), InvalidNodeKey::Digits),
            (format!("{}+1", "ab".repeat(31)), InvalidNodeKey::Digits),
        ] {
            for refused in [NodeKey::parse(&text).err(), PublicKey::parse(&text).err()] {
                let refused = refused.unwrap();
                assert_eq!(refused, why);
                assert!(text.is_empty() || !refused.to_string().contains(&text));
            }
        }
        assert_eq!(NodeKey::parse(&"0".repeat(64)), Err(InvalidNodeKey::Zeros));
        for point in LOW_ORDER {
            assert_eq!(PublicKey::parse(point), Err(InvalidNodeKey::LowOrder), "{point}");
        }
    }

    #[test]
    fn a_node_is_a_member_by_its_own_key_and_name() {
        let [a, b] =
            [1, 2].map(|byte: u8| NodeKey::parse(&format!("{byte:02x}").repeat(32)).unwrap());
        let listed = [format!("a={}", a.public_key())];
        let members = || Members::parse(&listed).unwrap();
        let name = |name: &str| name.parse::<NodeId>().unwrap();
        assert!(NodeKeys::new(a.clone(), members(), &name("a")).is_ok());
        let copied = NodeKeys::new(a, members(), &name("b")).unwrap_err();
        assert!(copied.contains("each node has a key of its own"), "{copied}");
        let missing = NodeKeys::new(b.clone(), members(), &name("b")).unwrap_err();
        assert!(missing.contains(&format!("\"b={}\"", b.public_key())), "{missing}");
    }
}
