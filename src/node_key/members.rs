//! The nodes that may be peers, and the public keys by which each is known.

use std::collections::BTreeMap;

use tallymesh_core::id::NodeId;

use super::PublicKey;

/// As many nodes as there may be peers.
const NODES_MAX: usize = 4096;
/// So many keys a node may be known by: one, and others while it is changed.
const KEYS_PER_NODE_MAX: usize = 4;

/// Who may be a peer: each node with its keys, of which the first is the one that it is to use. A key is of one node only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Members {
    nodes: BTreeMap<NodeId, Vec<PublicKey>>,
    by_key: BTreeMap<PublicKey, NodeId>,
}

impl Members {
    /// Reads entries of the form `node=public key`, of which a node may have several; otherwise what is allowed.
    pub(crate) fn parse<T: AsRef<str>>(
        entries: impl IntoIterator<Item = T>,
    ) -> Result<Members, String> {
        let mut members = Members::default();
        for entry in entries {
            members.add(entry.as_ref())?;
        }
        Ok(members)
    }

    fn add(&mut self, entry: &str) -> Result<(), String> {
        let Some((name, key)) = entry.split_once('=') else {
            return Err(format!(
                "entries of the form \"node=public key\", and {entry:?} has no \"=\""
            ));
        };
        let (name, refused) =
            (name.trim(), |why: &dyn std::fmt::Display| format!("{name:?}: {why}"));
        let node: NodeId = name.trim().parse().map_err(|why| refused(&why))?;
        let key = PublicKey::parse(key).map_err(|why| refused(&why))?;
        if let Some(other) = self.by_key.get(&key) {
            let fingerprint = key.fingerprint();
            return Err(match *other == node {
                true => format!("each key once, and {fingerprint} of {node} is there twice"),
                false => format!(
                    "keys of one node each, and {fingerprint} is both {other}'s and {node}'s; \
                     `tallymesh keygen --node` makes a key for each node"
                ),
            });
        }
        if self.nodes.len() >= NODES_MAX && !self.nodes.contains_key(&node) {
            return Err(format!("at most {NODES_MAX} nodes"));
        }
        let keys = self.nodes.entry(node.clone()).or_default();
        if keys.len() >= KEYS_PER_NODE_MAX {
            return Err(format!("at most {KEYS_PER_NODE_MAX} keys of a node, and {node} has more"));
        }
        keys.push(key);
        self.by_key.insert(key, node);
        Ok(())
    }

    /// The node that is known by this key; `None` if no member is.
    pub(crate) fn node_of(&self, key: &PublicKey) -> Option<&NodeId> {
        self.by_key.get(key)
    }

    /// The keys of a node: the first is the one that it is to use. None for what is no member.
    pub(crate) fn keys_of(&self, node: &NodeId) -> &[PublicKey] {
        self.nodes.get(node).map_or(&[], Vec::as_slice)
    }

    /// Each node's keys as they are read.
    pub(crate) fn entries(&self) -> impl Iterator<Item = String> {
        self.nodes
            .iter()
            .flat_map(|(node, keys)| keys.iter().map(move |key| format!("{node}={key}")))
    }
}

#[cfg(test)]
mod tests {
    use super::super::NodeKey;
    use super::*;

    fn key(byte: u8) -> PublicKey {
        NodeKey::parse(&format!("{byte:02x}").repeat(32)).unwrap().public_key()
    }

    fn entries(of: &[(&str, u8)]) -> Vec<String> {
        of.iter().map(|(node, byte)| format!("{node}={}", key(*byte))).collect()
    }

    #[test]
    fn a_node_has_keys_in_order_and_a_key_has_a_node() {
        let listed = entries(&[("b", 2), ("a", 1), ("b", 3)]);
        let members = Members::parse(&listed).unwrap();
        let (a, b): (NodeId, NodeId) = ("a".parse().unwrap(), "b".parse().unwrap());
        assert_eq!(members.keys_of(&b), [key(2), key(3)]);
        assert_eq!((members.node_of(&key(1)), members.node_of(&key(3))), (Some(&a), Some(&b)));
        assert_eq!(
            (members.node_of(&key(4)), members.keys_of(&"c".parse().unwrap())),
            (None, &[][..])
        );
        assert_eq!(Members::parse(members.entries()).unwrap(), members);
        let spaced = Members::parse([format!(" a = {} ", key(1).to_string().to_uppercase())]);
        assert_eq!(spaced.unwrap().node_of(&key(1)), Some(&a));
        assert_eq!(Members::parse::<&str>([]).unwrap().entries().count(), 0);
    }

    #[test]
    fn what_is_no_list_of_members_is_refused_with_a_reason() {
        let refused = |listed: &[String]| Members::parse(listed).unwrap_err();
        let one = |entry: &str| refused(&[entry.to_owned()]);
        assert!(one("a").contains("\"node=public key\""));
        assert!(one(&format!("a b={}", key(1))).contains("\"a b\""));
        assert!(one("a=12").contains("\"a\"") && one("a=12").contains("64 hex digits, not 2"));
        assert!(one(&format!("a={}", "0".repeat(64))).contains("low order"));
        let twice = refused(&entries(&[("a", 1), ("a", 1)]));
        assert!(
            twice.contains("each key once") && twice.contains(&key(1).fingerprint()),
            "{twice}"
        );
        let of_two = refused(&entries(&[("a", 1), ("b", 1)]));
        assert!(of_two.contains("both a's and b's"), "{of_two}");
        let many = refused(&entries(&[("a", 1), ("a", 2), ("a", 3), ("a", 4), ("a", 5)]));
        assert!(many.contains("at most 4 keys"), "{many}");
    }
}
