//! The writers of cells: nodes, their incarnations, and the versions of what they write.

pub(crate) mod replica_form;

use alloc::{string::String, sync::Arc};
use core::cmp::Ordering;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The name of one node of the cluster, unique in it and stable across restarts.
///
/// 1 to 64 bytes of ASCII letters, digits, `.`, `_` and `-`.
///
/// ```
/// use tallymesh::NodeId;
///
/// let node: NodeId = "orchestrator-1".parse()?;
/// assert_eq!(node.as_str(), "orchestrator-1");
/// assert!("two words".parse::<NodeId>().is_err());
/// # Ok::<(), tallymesh::InvalidNodeId>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct NodeId {
    /// The first eight bytes, zeroes behind a shorter name: in the order of the names, and at hand where replicas are looked
    /// up. A name holds no zero, so where these are equal and the last is zero, so are the names.
    start: u64,
    text: Arc<str>,
}

/// The longest node name in bytes.
const NODE_ID_BYTES_MAX: usize = 64;

/// A text that cannot name a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no node id: use 1 to {NODE_ID_BYTES_MAX} ASCII letters, digits, '.', '_' or '-'")]
pub struct InvalidNodeId(String);

impl NodeId {
    /// The name as text.
    #[inline]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl Ord for NodeId {
    fn cmp(&self, other: &NodeId) -> Ordering {
        let by_start = self.start.cmp(&other.start);
        if by_start.is_ne() || self.start as u8 == 0 {
            return by_start;
        }
        self.text.cmp(&other.text)
    }
}

impl PartialOrd for NodeId {
    fn partial_cmp(&self, other: &NodeId) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl FromStr for NodeId {
    type Err = InvalidNodeId;

    fn from_str(text: &str) -> Result<NodeId, InvalidNodeId> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if text.is_empty() || text.len() > NODE_ID_BYTES_MAX || !text.bytes().all(allowed) {
            return Err(InvalidNodeId(text.chars().take(NODE_ID_BYTES_MAX).collect()));
        }
        let mut start = [0; 8];
        text.bytes().zip(&mut start).for_each(|(byte, to)| *to = byte);
        Ok(NodeId { start: u64::from_be_bytes(start), text: text.into() })
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({})", self.text)
    }
}

impl Serialize for NodeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<NodeId, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// One life of one process: the boot number, plus 64 random bits that tell a restart from a cloned data directory.
///
/// Every start takes a new incarnation. To go on under an old one after increments were lost is the classic bug of
/// replicated counters: peers that still hold the higher old cell silently ignore the new increments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Incarnation {
    /// Orders the lives of a node: higher at each start on a data directory, and at least the time of the start, in milliseconds
    /// since 1970, which orders those whose disk was lost.
    pub boot: u64,
    /// Random at every start.
    pub nonce: u64,
}

impl Incarnation {
    /// The boot number of a life that starts at this time, in milliseconds since 1970, after one with the number `stored`; that is 0
    /// where none is known.
    ///
    /// ```
    /// use tallymesh::Incarnation;
    ///
    /// assert_eq!(Incarnation::boot_after(0, 1_790_000_000_000), 1_790_000_000_000);
    /// // The clock has stepped back.
    /// assert_eq!(Incarnation::boot_after(1_790_000_000_000, 5), 1_790_000_000_001);
    /// ```
    pub fn boot_after(stored: u64, unix_ms: u64) -> u64 {
        stored.saturating_add(1).max(unix_ms)
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:016x}", self.boot, self.nonce)
    }
}

/// The writer of a cell: a node in one of its incarnations.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReplicaId {
    /// The node's name.
    pub node: NodeId,
    /// Which life of it.
    pub incarnation: Incarnation,
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.node, self.incarnation)
    }
}

/// A text that is no replica.
///
/// ```
/// use tallymesh::{InvalidReplicaId, ReplicaId};
///
/// let replica: ReplicaId = "a#1.00000000000000ff".parse()?;
/// assert_eq!((replica.node.as_str(), replica.incarnation.boot), ("a", 1));
/// let refused: InvalidReplicaId = "a".parse::<ReplicaId>().unwrap_err();
/// assert!(refused.to_string().starts_with("\"a\" is no replica: use \"node#boot.nonce\""));
/// # Ok::<(), InvalidReplicaId>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no replica: use \"node#boot.nonce\", such as \"a#1.00000000000000ff\"")]
pub struct InvalidReplicaId(String);

impl FromStr for ReplicaId {
    type Err = InvalidReplicaId;

    fn from_str(text: &str) -> Result<ReplicaId, InvalidReplicaId> {
        let parse = || {
            let (node, incarnation) = text.split_once('#')?;
            let (boot, nonce) = incarnation.split_once('.')?;
            let (boot, nonce) = (boot.parse().ok()?, u64::from_str_radix(nonce, 16).ok()?);
            let incarnation = Incarnation { boot, nonce };
            Some(ReplicaId { node: node.parse().ok()?, incarnation })
        };
        parse().ok_or_else(|| InvalidReplicaId(text.into()))
    }
}

/// A replica's own sequence number for its updates; the first update is 1, and 0 means "none yet".
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Version(pub u64);

impl Version {
    /// Before the first update.
    pub const ZERO: Version = Version(0);

    /// The version that follows.
    #[inline]
    pub(crate) fn next(self) -> Version {
        Version(self.0 + 1)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_replica_is_read_as_it_is_written() {
        let incarnation = Incarnation { boot: 3, nonce: 255 };
        let replica = ReplicaId { node: "a.b-1".parse().unwrap(), incarnation };
        assert_eq!(replica.to_string(), "a.b-1#3.00000000000000ff");
        assert_eq!(replica.to_string().parse(), Ok(replica));
        for bad in ["", "a", "a#1", "a#x.1", "#1.1", "a#1.g"] {
            assert!(bad.parse::<ReplicaId>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn nodes_are_in_the_order_of_their_names(a in "[a-c.]{1,12}", b in "[a-c.]{1,12}") {
            let (first, second): (NodeId, NodeId) = (a.parse().unwrap(), b.parse().unwrap());
            prop_assert_eq!(first.cmp(&second), a.cmp(&b));
            prop_assert_eq!(first == second, a == b);
        }
    }
}
