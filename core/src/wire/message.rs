//! What peers say to one another.

use serde::{Deserialize, Serialize};

use crate::crdt::{Delta, DigestEntry, Update};
use crate::id::{ReplicaId, Version};
use crate::time::Timestamp;

/// The version of the protocol. Peers of another version are refused at the handshake.
pub const PROTOCOL: u32 = 1;

/// One message. Encoded by MessagePack: structs as arrays, variants by the names below.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// The first message each way.
    #[serde(rename = "h")]
    Hello { protocol: u32, replica: ReplicaId },
    /// What the sender holds of the replicas whose ids come after `after`, up to the last one named, or of all that follow
    /// if this is the `last` part.
    #[serde(rename = "g")]
    Digest { after: Option<ReplicaId>, entries: Vec<DigestEntry>, last: bool },
    #[serde(rename = "d")]
    Delta(Delta),
    /// Cells sent out of turn; they move no watermark.
    #[serde(rename = "u")]
    Push { replica: ReplicaId, updates: Vec<Update> },
    /// The sender's watermark of the receiver's own replica.
    #[serde(rename = "a")]
    Ack(Version),
    /// Asks for a chain of deltas about a replica.
    #[serde(rename = "r")]
    Request { replica: ReplicaId, from: Version },
    #[serde(rename = "p")]
    Ping,
    #[serde(rename = "q")]
    Pong { wall: Timestamp },
    /// Two live processes go by the receiver's node id; this is the other one.
    #[serde(rename = "c")]
    Conflict { other: ReplicaId },
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
    /// Another live process goes by the receiver's node id.
    #[serde(rename = "n")]
    NodeIdInUse,
    /// The receiver speaks another version of the protocol.
    #[serde(rename = "v")]
    OtherProtocol,
}
