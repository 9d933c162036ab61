//! Who is at the other end: the handshake of a connection, before any frame, in the way that the node's credentials have.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use super::records::{Opener, Sealer};
use super::stream::{Opening, Sealing};
#[cfg(feature = "tls")]
use super::tls;
use super::{cluster_key, node_key};
use crate::credentials::Credentials;
use tallymesh_core::id::{NodeId, ReplicaId};
use tallymesh_core::link::Proven;

/// What a node needs to prove itself, and to have others do so.
#[derive(Clone)]
pub(crate) struct Handshake(Arc<Parts>);

struct Parts {
    credentials: Credentials,
    cluster: String,
    own: ReplicaId,
}

/// What both ends have proven to be in.
pub(super) struct Channel {
    pub(super) sealing: Sealing,
    pub(super) opening: Opening,
    pub(super) proof: Proof,
}

/// A session of the Noise protocol that both ends have proven to be in.
pub(super) struct Session {
    pub(super) sealer: Sealer,
    pub(super) opener: Opener,
    pub(super) proof: Proof,
}

/// What a link was made by.
#[derive(Debug, Clone)]
pub(super) struct Proof {
    /// The fingerprint of the key by which this end proved itself.
    pub(super) own: String,
    pub(super) peer: Proven,
    /// The peer's certificates, each as DER; none where it has proven a key alone.
    pub(super) chain: Arc<[Vec<u8>]>,
}

impl From<Session> for Channel {
    fn from(Session { sealer, opener, proof }: Session) -> Channel {
        Channel { sealing: Sealing::Records(sealer), opening: Opening::Records(opener), proof }
    }
}

#[cfg(test)]
impl Channel {
    /// The session that it is made of.
    pub(super) fn session(self) -> Session {
        match (self.sealing, self.opening) {
            (Sealing::Records(sealer), Opening::Records(opener)) => {
                Session { sealer, opener, proof: self.proof }
            }
            #[cfg(feature = "tls")]
            _ => unreachable!("a session of TLS"),
        }
    }
}

impl Handshake {
    pub(crate) fn new(credentials: Credentials, cluster: &str, own: ReplicaId) -> Handshake {
        Handshake(Arc::new(Parts { credentials, cluster: cluster.to_owned(), own }))
    }

    /// The same with other credentials.
    pub(super) fn with(&self, credentials: Credentials) -> Handshake {
        Handshake::new(credentials, &self.0.cluster, self.0.own.clone())
    }

    /// What a node does that has dialed.
    pub(super) async fn initiate<S>(&self, stream: &mut S) -> Result<Channel, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Parts { credentials, cluster, own } = &*self.0;
        match credentials {
            Credentials::ClusterKeys(keys) => {
                cluster_key::initiate(stream, keys, cluster, own).await.map(Channel::from)
            }
            Credentials::NodeKeys(keys) => {
                node_key::initiate(stream, keys, cluster, own).await.map(Channel::from)
            }
            #[cfg(feature = "tls")]
            Credentials::Certificates(certificates) => {
                tls::initiate(stream, certificates, cluster, own).await
            }
        }
    }

    /// What a node does that was dialed.
    pub(super) async fn respond<S>(&self, stream: &mut S) -> Result<Channel, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Parts { credentials, cluster, own } = &*self.0;
        match credentials {
            Credentials::ClusterKeys(keys) => {
                cluster_key::respond(stream, keys, cluster, own).await.map(Channel::from)
            }
            Credentials::NodeKeys(keys) => {
                node_key::respond(stream, keys, cluster, own).await.map(Channel::from)
            }
            #[cfg(feature = "tls")]
            Credentials::Certificates(certificates) => {
                tls::respond(stream, certificates, cluster, own).await
            }
        }
    }

    /// With how many strangers a handshake may begin in a second: as many as take less than a tenth of a core.
    pub(super) fn strangers_per_second(&self) -> u32 {
        match self.0.credentials {
            // Who has no key is refused by a few hashes ...
            Credentials::ClusterKeys(_) => 5_000,
            // ... and here after Diffie-Hellmans.
            Credentials::NodeKeys(_) => 250,
            // A signature besides.
            #[cfg(feature = "tls")]
            Credentials::Certificates(_) => 150,
        }
    }

    /// Whether a link that was made by this may stay.
    pub(super) fn accept(&self, proof: &Proof) -> bool {
        self.0.credentials.accept(&proof.peer, &proof.chain)
    }

    /// Whether a link that was made by this need not be made again.
    pub(super) fn is_in_use(&self, proof: &Proof) -> bool {
        self.0.credentials.are_in_use(&proof.own, &proof.peer)
    }
}

/// Why a handshake came to nothing. The other end is told nothing of it.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error(
        "it does not answer to our key {fingerprint}: it has another gossip.key, no key, or another gossip.cluster ({source})"
    )]
    NoAnswer { fingerprint: String, source: io::Error },
    #[error(
        "its answer is none to our key {fingerprint}: is it a node of this cluster, and has it a gossip.key?"
    )]
    WrongAnswer { fingerprint: String },
    #[error(
        "it has none of the keys that this node accepts ({accepted}), or another gossip.cluster"
    )]
    OtherKey { accepted: String },
    #[error(
        "its first bytes are not those of a node with a key: it has no gossip.key, or is no tallymesh node"
    )]
    NoHandshake,
    #[error("it uses a node key (gossip.node_key), and this node a cluster key (gossip.key)")]
    UsesNodeKey,
    #[error("it uses a cluster key (gossip.key), and this node a node key (gossip.node_key)")]
    UsesClusterKey,
    #[error(
        "it does not answer with a node key: it has a cluster key (gossip.key), no key, or is no tallymesh node ({0})"
    )]
    NoNodeKey(io::Error),
    #[error(
        "what it sent is no part of the handshake by node keys: it has no key, another gossip.cluster, or is no tallymesh node"
    )]
    NotOfNodeKeys,
    #[error("it sent a public key by which nothing would be kept secret")]
    NoSecret,
    #[error(
        "its key {fingerprint} is not among gossip.members; it says that it is {claims}: if so, add its public key to the list"
    )]
    NoMember { fingerprint: String, claims: NodeId },
    #[error(
        "it says that it is {claims}, and its key {fingerprint} is that of {node} in gossip.members"
    )]
    OtherNode { fingerprint: String, node: NodeId, claims: NodeId },
    #[error(
        "it does not take our key {fingerprint} for that of {own}: is this in its gossip.members? Its log says why ({source})"
    )]
    Refused { fingerprint: String, own: NodeId, source: io::Error },
    #[cfg(feature = "tls")]
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    #[error("it closed the connection before it had proven a key ({0})")]
    Closed(io::Error),
    #[error(
        "it did not confirm the handshake: what it sent first was recorded, or was changed on the way"
    )]
    NotConfirmed,
    #[error("it had not proven a key in time")]
    TimedOut,
    #[error("it had not proven a key when others came after it, and there were too many")]
    PushedOut,
    #[error("more came at once than are heard; hosts that this node dials are heard all the same")]
    TooMany,
    #[error("its key is not accepted any more")]
    Revoked,
    #[error("the handshake could not be made: {0}")]
    Failed(&'static str),
}
