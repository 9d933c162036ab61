//! What peers tell each other.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::crdt::{Delta, DigestEntry, Update};
use crate::id::{ReplicaId, Version};
use crate::time::Timestamp;

/// The version of the protocol. Peers of another version are refused at the handshake.
pub const PROTOCOL: u32 = 1;

/// One message. Encoded by MessagePack: structs as arrays, variants by the names of their `serde(rename)`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// The first message each way.
    #[serde(rename = "h")]
    Hello {
        /// The sender's [`PROTOCOL`].
        protocol: u32,
        /// The sender.
        replica: ReplicaId,
    },
    /// What the sender has of the replicas whose ids come after `after`, up to the last one named, or of all that follow
    /// if this is the `last` part.
    #[serde(rename = "g")]
    Digest {
        /// The last replica of the part before; `None` in the first part.
        after: Option<ReplicaId>,
        /// The replicas of this part, in the order of their ids.
        entries: Vec<DigestEntry>,
        /// Whether no part follows.
        last: bool,
    },
    /// A part of a chain of updates, which moves a watermark once the chain is whole.
    #[serde(rename = "d")]
    Delta(Delta),
    /// Cells sent out of turn; they move no watermark.
    #[serde(rename = "u")]
    Push {
        /// The replica whose cells they are.
        replica: ReplicaId,
        /// The cells.
        updates: Vec<Update>,
    },
    /// The sender's watermark of the receiver's own replica.
    #[serde(rename = "a")]
    Ack(Version),
    /// Asks for a chain of deltas about a replica.
    #[serde(rename = "r")]
    Request {
        /// The replica.
        replica: ReplicaId,
        /// The chain is to send what follows this version.
        from: Version,
    },
    /// Asks for a [`Pong`](Message::Pong), to see whether the peer is there and what its clock shows.
    #[serde(rename = "p")]
    Ping,
    /// The answer to a [`Ping`](Message::Ping).
    #[serde(rename = "q")]
    Pong {
        /// The sender's wall clock.
        wall: Timestamp,
    },
    /// Two live processes use the receiver's node id; this is the other one.
    #[serde(rename = "c")]
    Conflict {
        /// The other process.
        other: ReplicaId,
    },
    /// The last message; the sender closes the link.
    #[serde(rename = "b")]
    Goodbye(CloseReason),
}

/// Why a link is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CloseReason {
    /// The sender stops.
    #[serde(rename = "s")]
    Stopping,
    /// There is another link between the two already.
    #[serde(rename = "t")]
    SecondLink,
    /// The receiver is the sender.
    #[serde(rename = "m")]
    Myself,
    /// Another live process uses the receiver's node id.
    #[serde(rename = "n")]
    NodeIdInUse,
    /// The receiver speaks another version of the protocol.
    #[serde(rename = "v")]
    OtherProtocol,
}
