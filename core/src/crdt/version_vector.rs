//! What a node has of each replica.

use alloc::collections::BTreeMap;

use crate::id::{ReplicaId, Version};

/// The watermark of each replica: the highest version up to which every update is held, superseded or expired.
///
/// ```
/// use tallymesh::{Incarnation, ReplicaId, Version, VersionVector};
///
/// let replica = ReplicaId { node: "a".parse()?, incarnation: Incarnation { boot: 1, nonce: 7 } };
/// assert_eq!(replica.to_string(), "a#1.0000000000000007");
/// let vector: VersionVector = [(replica.clone(), Version(3))].into_iter().collect();
/// assert_eq!((vector.len(), vector.is_empty()), (1, false));
/// assert_eq!(vector.watermark(&replica), Version(3));
/// assert_eq!(vector.iter().next(), Some((&replica, Version(3))));
/// # Ok::<(), tallymesh::InvalidNodeId>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VersionVector(BTreeMap<ReplicaId, Version>);

impl VersionVector {
    /// The watermark of `replica`; zero when nothing is known of it.
    pub fn watermark(&self, replica: &ReplicaId) -> Version {
        self.0.get(replica).copied().unwrap_or_default()
    }

    /// Moves a replica's watermark up to `version`; never down.
    fn advance(&mut self, replica: ReplicaId, version: Version) {
        let held = self.0.entry(replica).or_default();
        *held = (*held).max(version);
    }

    /// All watermarks, in the order of the replica ids.
    pub fn iter(&self) -> impl Iterator<Item = (&ReplicaId, Version)> {
        self.0.iter().map(|(replica, version)| (replica, *version))
    }

    /// How many replicas are known.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no replica is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(ReplicaId, Version)> for VersionVector {
    fn from_iter<I: IntoIterator<Item = (ReplicaId, Version)>>(entries: I) -> VersionVector {
        let mut vector = VersionVector::default();
        for (replica, version) in entries {
            vector.advance(replica, version);
        }
        vector
    }
}
