//! What happens to the machine, and what it wants done.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::cause::Cause;
use crate::id::{ReplicaId, Version};
use crate::link::{LinkEvent, LinkId};
use crate::operator::OperatorEntry;
use crate::table::{Bound, Names, Sides};
use crate::wire::CloseReason;

/// What happens to the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// These are the peers of the config from now on, in the place of those before. A link that was dialed to one that is not
    /// among them any more, by name, is closed.
    Peers(Vec<PeerAddresses>),
    /// Something happened to a connection.
    Link(LinkEvent),
    /// A decision took a counter past the urgent fraction of its limit.
    Urgent,
    /// An own counter changed, when the machine [had to be told](super::Gossip::must_be_told).
    Changed,
    /// The node stops: the machine sends what is left, and says goodbye once a peer has confirmed it. From then on
    /// [`has_left`](super::Gossip::has_left) is true.
    Stop,
}

/// A peer of the config: its name there, and the addresses that the name has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAddresses {
    /// What the config calls it.
    pub name: String,
    /// Where it may be reached; none as long as the name is not resolved.
    pub addresses: Vec<String>,
}

impl From<String> for PeerAddresses {
    /// An address that is its own name.
    fn from(address: String) -> PeerAddresses {
        PeerAddresses { name: address.clone(), addresses: [address].into() }
    }
}

/// What the machine wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Connect to an address; report [`LinkEvent::Up`] or [`LinkEvent::DialFailed`].
    Dial {
        /// The address, as it was given in [`Input::Peers`].
        address: String,
    },
    /// Send a frame, after those sent before; report [`LinkEvent::Sent`] when it has left.
    Send {
        /// Over which link.
        link: LinkId,
        /// The frame with its header.
        frame: Vec<u8>,
    },
    /// Close a link, after what was sent over it. The machine ignores what happens to it from now on.
    Close {
        /// Which link.
        link: LinkId,
    },
    /// Tell the operator.
    Report {
        /// Who brought it about.
        cause: Cause,
        /// What it is.
        report: Report,
    },
}

/// Something that the operator may want to know. The machine does not depend on what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// A peer has introduced itself.
    PeerUp {
        /// The peer.
        replica: ReplicaId,
    },
    /// The link to a peer is gone, because the peer stopped or began another life.
    PeerDown {
        /// The peer.
        replica: ReplicaId,
    },
    /// The link to a peer is gone, and the peer had not said that it stops: it crashed, hangs, or the network is cut.
    PeerLost {
        /// The peer.
        replica: ReplicaId,
        /// For how long it had not been heard.
        silent_for: Duration,
        /// How many peers are connected still.
        connected: usize,
    },
    /// A peer that was lost is there again; comes after its [`PeerUp`](Report::PeerUp).
    PeerBack {
        /// The peer.
        replica: ReplicaId,
        /// For how long it was not heard.
        away: Duration,
    },
    /// An address did not answer when it was dialed.
    NoAnswer {
        /// The address.
        address: String,
        /// The system's error.
        error: String,
    },
    /// A link ended before the peer had introduced itself.
    HandshakeFailed {
        /// The address that was dialed; `None` if the connection came in.
        dialed: Option<String>,
        /// Why it ended.
        reason: HandshakeFailure,
    },
    /// The other end of a connection did not prove who it is, and was disconnected.
    Unproven {
        /// The address that was dialed; `None` if the connection came in.
        dialed: Option<String>,
        /// The IP address of the other end.
        remote: Option<String>,
        /// What it did instead.
        error: String,
    },
    /// An address leads to ourselves.
    OwnAddress {
        /// The address.
        address: String,
    },
    /// Every address of the peers leads to ourselves.
    OnlyOwnAddresses,
    /// Two live processes use one node id.
    NodeIdInUse {
        /// The other process.
        other: ReplicaId,
    },
    /// A peer said goodbye because it cannot work with us.
    Refused {
        /// Its reason.
        reason: CloseReason,
    },
    /// A peer speaks other versions of the protocol.
    OtherProtocol {
        /// Its versions.
        protocols: Vec<u32>,
    },
    /// A peer is of another cluster; it is refused.
    OtherCluster {
        /// The name of its cluster, or as much of it as a name may have.
        theirs: String,
        /// The name of ours.
        ours: Arc<str>,
        /// The address that was dialed, or the IP address that the connection came from.
        address: Option<String>,
    },
    /// Peers have a link to a member, and the address that they tell of it does not answer here. Reported once.
    Unreachable {
        /// The member.
        replica: ReplicaId,
        /// The address.
        address: String,
        /// The system's error.
        error: String,
    },
    /// Peers told of more members than are remembered.
    TooManyMembers {
        /// How many are.
        max: usize,
    },
    /// A link brought bytes that are not a frame of this protocol, and was closed.
    BadFrame {
        /// Which link.
        link: LinkId,
        /// What is wrong with them.
        error: String,
    },
    /// A peer sent cells that cannot be true; they were dropped.
    Implausible {
        /// The peer.
        from: ReplicaId,
        /// The replica whose cells they were.
        about: ReplicaId,
        /// How many.
        updates: usize,
    },
    /// A peer holds something of ours that we never gave out: it, or a node that it heard it from, has lied. Our counts get versions above it,
    /// and are sent again.
    NeverGivenOut {
        /// The peer.
        from: ReplicaId,
        /// The version of it.
        found: Version,
    },
    /// Something was refused over a bound of this node; no peer is to blame. How often is in the
    /// [`Rejections`](crate::table::Rejections).
    BoundReached {
        /// Which bound.
        bound: Bound,
    },
    /// A peer sent something as the operator's that is not believed; it was dropped.
    EntryRefused {
        /// The peer.
        from: ReplicaId,
        /// What is wrong with it.
        error: String,
    },
    /// The operator has said something, and a peer told of it.
    EntryTaken {
        /// What it says.
        entry: OperatorEntry,
    },
    /// Limits say something else at a peer than here, so that together they hold neither.
    LimitsDiffer {
        /// The peer.
        replica: ReplicaId,
        /// Their names.
        limits: Vec<Arc<str>>,
    },
    /// A peer keeps what has ended for another time than this node.
    GraceDiffers {
        /// The peer.
        replica: ReplicaId,
        /// How long it keeps it.
        theirs: Duration,
        /// How long this node does.
        ours: Duration,
    },
    /// Some members are silent, and limits that heed cuts allow less; also when there are more or fewer of them.
    CutOff {
        /// How many members there are, and how many on this node's side.
        sides: Sides,
        /// Who is silent.
        silent: Names,
    },
    /// No member is silent any more, or each has been for so long that it is none.
    CutOffEnded {
        /// How long it took.
        lasted: Duration,
        /// Who is no member any more.
        dead: Vec<Arc<str>>,
    },
    /// A peer's clock differs by more than [`clock_offset_max`](super::GossipSettings::clock_offset_max).
    ClockOffset {
        /// The peer.
        replica: ReplicaId,
        /// Its clock minus ours, in milliseconds.
        offset_ms: i64,
    },
}

/// Why a link ended before the peer had introduced itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandshakeFailure {
    /// The peer sent no hello within [`handshake_timeout`](super::GossipSettings::handshake_timeout).
    TimedOut,
    /// The other end closed the connection, or it broke.
    Closed,
    /// It had not introduced itself when others came after it, and there were too many.
    PushedOut,
    /// It introduced itself as another replica than the one that it was when it proved its key.
    OtherReplica,
}
