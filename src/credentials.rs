//! By what a node proves itself to others, and has them prove themselves.

use tallymesh_core::link::Proven;

use crate::cluster_key::{ClusterKey, Keys};
use crate::node_key::NodeKeys;
#[cfg(feature = "tls")]
use crate::tls::Certificates;

/// One of the ways. All nodes of a cluster go the same.
#[derive(Debug, Clone)]
pub(crate) enum Credentials {
    /// A key that all have in common.
    ClusterKeys(Keys),
    /// A key of its own for each.
    NodeKeys(NodeKeys),
    /// A certificate for each, of an authority that all accept.
    #[cfg(feature = "tls")]
    Certificates(Certificates),
}

impl Credentials {
    /// The fingerprints of the own keys in force: first that of the one by which this node proves itself.
    pub(crate) fn fingerprints(&self) -> Vec<String> {
        match self {
            Credentials::ClusterKeys(keys) => keys.iter().map(ClusterKey::fingerprint).collect(),
            Credentials::NodeKeys(keys) => vec![keys.own.public_key().fingerprint()],
            #[cfg(feature = "tls")]
            Credentials::Certificates(certificates) => vec![certificates.fingerprint().to_owned()],
        }
    }

    /// Whether what this peer proved is still enough; `chain` are its certificates, where it proved itself by such.
    #[cfg_attr(
        not(feature = "tls"),
        expect(unused_variables, reason = "there are no certificates")
    )]
    pub(crate) fn accept(&self, peer: &Proven, chain: &[Vec<u8>]) -> bool {
        match (self, peer) {
            #[cfg(feature = "tls")]
            (Credentials::Certificates(certificates), _) => certificates.accept(chain),
            (Credentials::ClusterKeys(keys), Proven::ClusterKey { fingerprint, .. }) => {
                keys.accept(fingerprint)
            }
            (Credentials::NodeKeys(keys), Proven::NodeKey { fingerprint, replica }) => {
                let known = keys.members.keys_of(&replica.node);
                known.iter().any(|key| key.fingerprint() == *fingerprint)
            }
            _ => false,
        }
    }

    /// Whether a link to this peer would be proven by the same keys, if it were dialed now and both ends used the keys that they are
    /// to use: `own` is the fingerprint of the own key that it was proven by.
    pub(crate) fn are_in_use(&self, own: &str, peer: &Proven) -> bool {
        let theirs = match (self, peer) {
            (Credentials::NodeKeys(keys), Proven::NodeKey { fingerprint, replica }) => {
                let first = keys.members.keys_of(&replica.node).first();
                first.is_some_and(|key| key.fingerprint() == *fingerprint)
            }
            // It has one key in common with us, and that is ours.
            _ => true,
        };
        theirs && self.fingerprints().first().is_some_and(|first| first == own)
    }
}
