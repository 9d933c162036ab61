//! What a connection is to a machine: a number, and what happens to it.
//!
//! A transport reports these events and a machine takes them in; neither knows the other.

use alloc::string::String;
use alloc::vec::Vec;

use crate::id::ReplicaId;

/// A connection's number: the shell assigns it and never uses it twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// What a transport knows for certain of the peer by the time it reports a link up, by a handshake of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Proven {
    /// Nothing: the peer is what its hello says it is.
    Nobody,
    /// That it holds a key of the cluster. Which replica it is, it said itself under that key: the holders of one key are not told
    /// apart by it.
    ClusterKey {
        /// The key's fingerprint, which is no secret.
        fingerprint: String,
        /// What the peer said that it is; its hello must say the same.
        replica: ReplicaId,
    },
    /// That it holds a key of the node that it says it is, which is a member: it is this node and no other.
    NodeKey {
        /// The fingerprint of its public half.
        fingerprint: String,
        /// The node that has the key, in the life that it said it is in; its hello must say the same.
        replica: ReplicaId,
    },
}

impl Proven {
    /// The fingerprint of the key that the peer has proven; `None` where it has proven nothing.
    pub fn fingerprint(&self) -> Option<&str> {
        match self {
            Proven::Nobody => None,
            Proven::ClusterKey { fingerprint, .. } | Proven::NodeKey { fingerprint, .. } => {
                Some(fingerprint)
            }
        }
    }

    /// The replica whose hello is due; `None` where any is.
    pub fn replica(&self) -> Option<&ReplicaId> {
        match self {
            Proven::Nobody => None,
            Proven::ClusterKey { replica, .. } | Proven::NodeKey { replica, .. } => Some(replica),
        }
    }
}

/// What happens to connections.
///
/// The events of one link come in this order: `Up`, then any number of `Frame` and `Sent`, then `Down` at most once. Each
/// address that was to be dialed brings exactly one `Up`, `DialFailed` or `Unproven`. A transport that replaces a link
/// to an address brings another `Up` for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// A connection is established, and may carry frames both ways.
    Up {
        /// Its number, which no link had before.
        link: LinkId,
        /// The address that was dialed; `None` if the connection came in.
        dialed: Option<String>,
        /// The IP address of the other end, as it is seen from here; `None` where there is no such thing.
        remote: Option<String>,
        /// What the transport has proven of the peer.
        peer: Proven,
    },
    /// An address was dialed and did not answer.
    DialFailed {
        /// The address, as it was to be dialed.
        address: String,
        /// The system's error, as text.
        error: String,
    },
    /// A connection was established, and closed again since the other end did not prove who it is. There is no link.
    Unproven {
        /// The address that was dialed; `None` if the connection came in.
        dialed: Option<String>,
        /// The IP address of the other end, as it is seen from here.
        remote: Option<String>,
        /// What it did instead, as text.
        error: String,
    },
    /// A whole frame came in; of one that is longer than allowed, the header alone.
    Frame {
        /// Over which link.
        link: LinkId,
        /// The frame with its header. Owned, so that it passes from the transport to the machine without a copy.
        bytes: Vec<u8>,
    },
    /// Frames have been handed to the network.
    Sent {
        /// Over which link.
        link: LinkId,
        /// How many.
        frames: usize,
    },
    /// The other end has closed the connection, or it broke.
    Down {
        /// Which link.
        link: LinkId,
    },
}
