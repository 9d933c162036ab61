//! What peers tell each other.

use alloc::{string::String, vec::Vec};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_bytes::ByteBuf;

use crate::crdt::{Delta, DigestEntry, Update};
use crate::id::{ReplicaId, Version};
use crate::limit::LimitHash;
use crate::time::Timestamp;

/// The versions of the protocol that are spoken here. The highest one in common is used; without one, the link is refused.
pub const PROTOCOLS: &[u32] = &[2];

/// One message. In MessagePack a map of one entry, from the name to a map of the fields. What a receiver does not know, a
/// message or a field, it skips.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// The first message each way.
    #[serde(rename = "h")]
    Hello {
        /// The sender's [`PROTOCOLS`].
        #[serde(rename = "p")]
        protocols: Vec<u32>,
        /// The sender.
        #[serde(rename = "r", with = "crate::id::replica_form")]
        replica: ReplicaId,
        /// A digest of the sender's limits and its grace: where it differs, each tells the other its [`Limits`](Message::Limits).
        #[serde(rename = "d", default, skip_serializing_if = "is_zero")]
        limits_digest: u64,
        /// The name of the sender's cluster.
        #[serde(
            rename = "c",
            default = "default_cluster",
            skip_serializing_if = "is_default_cluster"
        )]
        cluster: String,
        /// Where the sender can be dialed: `IP:port`, or `:port` at the IP that the receiver sees; `None` if it does not listen.
        #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
        advertised: Option<String>,
    },
    /// Members that the sender has a link to, or no longer has.
    #[serde(rename = "m")]
    Members {
        /// Those whose link has come or gone since the sender told last.
        #[serde(rename = "m")]
        members: Vec<MemberNews>,
    },
    /// The sender stops once a peer confirms its updates: what it confirms itself from now on, it takes with it.
    #[serde(rename = "x")]
    Leaving {},
    /// The sender's limits, or as many of them as fit.
    #[serde(rename = "l")]
    Limits {
        /// Their names, with a hash of what each says.
        #[serde(rename = "l")]
        limits: Vec<LimitHash>,
        /// How long the sender keeps what has ended, in milliseconds.
        #[serde(rename = "g", default, skip_serializing_if = "is_zero")]
        grace_ms: u64,
    },
    /// What the sender has of the members: of those whose ids come after `after`, up to the last one named, or of all that
    /// follow if this is the `last` part. Of all other replicas, a checksum.
    #[serde(rename = "g")]
    Digest {
        /// The last replica of the part before; `None` in the first part.
        #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
        #[serde(with = "crate::id::replica_form::optional")]
        after: Option<ReplicaId>,
        /// The replicas of this part, in the order of their ids.
        #[serde(rename = "e")]
        entries: Vec<DigestEntry>,
        /// Whether no part follows.
        #[serde(rename = "l")]
        last: bool,
        /// In the last part: a checksum over all replicas that the sender tells of and no part has named.
        #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
        others: Option<u32>,
        /// In the last part, where the receiver's checksum was another one: those of the 256 buckets that these replicas are in. It
        /// answers with the [`Entries`](Message::Entries) of those that differ.
        #[serde(rename = "b", default, skip_serializing_if = "Vec::is_empty")]
        buckets: Vec<u32>,
        /// In the last part: a checksum over all entries of the operator that the sender tells; `None` if there are none.
        #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
        operator: Option<u64>,
    },
    /// Asks for the operator's entries that the sender has not.
    #[serde(rename = "k")]
    OperatorAsk {
        /// The hashes of those that it has.
        #[serde(rename = "h")]
        known: Vec<u64>,
    },
    /// The answer: as many entries as fit.
    #[serde(rename = "o")]
    OperatorEntries {
        /// The entries, with their signatures.
        #[serde(rename = "e")]
        entries: Vec<ByteBuf>,
    },
    /// What the sender has of the replicas in buckets that differ.
    #[serde(rename = "e")]
    Entries {
        /// The replicas of this part.
        #[serde(rename = "e")]
        entries: Vec<DigestEntry>,
        /// Whether no part follows.
        #[serde(rename = "l")]
        last: bool,
    },
    /// A part of a chain of updates, which moves a watermark once the chain is whole.
    #[serde(rename = "d")]
    Delta(Delta),
    /// Cells sent out of turn; they move no watermark.
    #[serde(rename = "u")]
    Push {
        /// The replica whose cells they are.
        #[serde(rename = "r", with = "crate::id::replica_form")]
        replica: ReplicaId,
        /// The cells.
        #[serde(rename = "u")]
        updates: Vec<Update>,
        /// Whether the receiver is to pass them on without waiting for its round. What is the sender's own always is.
        #[serde(rename = "n", default, skip_serializing_if = "is_false")]
        at_once: bool,
    },
    /// Who tells whom the news of a large cluster.
    #[serde(rename = "n")]
    Feed {
        /// Whether the sender passes on what it hears.
        #[serde(rename = "p", default, skip_serializing_if = "is_false")]
        passes_on: bool,
        /// Whether the receiver is to tell the sender all that it hears.
        #[serde(rename = "f", default, skip_serializing_if = "is_false")]
        is_fed: bool,
    },
    /// The sender's watermark of the receiver's own replica.
    #[serde(rename = "a")]
    Ack {
        /// The watermark.
        #[serde(rename = "w")]
        watermark: Version,
    },
    /// Asks for a chain of deltas about a replica.
    #[serde(rename = "r")]
    Request {
        /// The replica.
        #[serde(rename = "r", with = "crate::id::replica_form")]
        replica: ReplicaId,
        /// The chain is to send what follows this version.
        #[serde(rename = "f")]
        from: Version,
    },
    /// Asks for a [`Pong`](Message::Pong), to see whether the peer is there and what its clock shows.
    #[serde(rename = "p")]
    Ping {},
    /// The answer to a [`Ping`](Message::Ping).
    #[serde(rename = "q")]
    Pong {
        /// The sender's wall clock.
        #[serde(rename = "t")]
        wall: Timestamp,
    },
    /// Two live processes use the receiver's node id; this is the other one.
    #[serde(rename = "c")]
    Conflict {
        /// The other process.
        #[serde(rename = "r", with = "crate::id::replica_form")]
        other: ReplicaId,
    },
    /// The last message; the sender closes the link.
    #[serde(rename = "b")]
    Goodbye {
        /// Why.
        #[serde(rename = "r")]
        reason: CloseReason,
    },
}

/// The names of all messages. One that is not among them is skipped.
pub(super) const NAMES: &[u8] = b"hmxlgkoedunarpqcb";

/// What a peer tells of another member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberNews {
    /// The member.
    #[serde(rename = "r", with = "crate::id::replica_form")]
    pub replica: ReplicaId,
    /// Where it can be dialed, as `IP:port`; `None` if the teller has no link to it any more.
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Whether it has said goodbye to the teller, or to one that told the teller so.
    #[serde(rename = "s", default, skip_serializing_if = "is_false")]
    pub stopped: bool,
}

/// The name of a cluster that was given none.
pub const DEFAULT_CLUSTER: &str = "default";

fn default_cluster() -> String {
    DEFAULT_CLUSTER.into()
}

fn is_default_cluster(name: &str) -> bool {
    name == DEFAULT_CLUSTER
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as above")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

/// Why a link is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// The sender stops.
    Stopping,
    /// There is another link between the two already.
    SecondLink,
    /// The receiver is the sender.
    Myself,
    /// Another live process uses the receiver's node id.
    NodeIdInUse,
    /// The receiver speaks no version of the protocol that the sender does.
    OtherProtocol,
    /// The receiver is of another cluster.
    OtherCluster,
    /// The sender has taken the receiver off its list of peers, and dialed the link itself.
    Removed,
    /// The sender has as many connections as it allows.
    Full,
    /// A frame was longer than the sender allows.
    FrameTooLong,
    /// A reason that this version does not know.
    Other,
}

impl CloseReason {
    const NAMED: [(CloseReason, &str); 9] = [
        (CloseReason::Stopping, "s"),
        (CloseReason::SecondLink, "t"),
        (CloseReason::Myself, "m"),
        (CloseReason::NodeIdInUse, "n"),
        (CloseReason::OtherProtocol, "v"),
        (CloseReason::OtherCluster, "c"),
        (CloseReason::Removed, "r"),
        (CloseReason::Full, "f"),
        (CloseReason::FrameTooLong, "l"),
    ];
}

impl Serialize for CloseReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let named = CloseReason::NAMED.iter().find(|(reason, _)| reason == self);
        serializer.serialize_str(named.map_or("?", |(_, name)| *name))
    }
}

impl<'de> Deserialize<'de> for CloseReason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<CloseReason, D::Error> {
        let name = String::deserialize(deserializer)?;
        let named = CloseReason::NAMED.iter().find(|(_, known)| *known == name);
        Ok(named.map_or(CloseReason::Other, |(reason, _)| *reason))
    }
}
