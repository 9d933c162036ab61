//! One connection to a peer, and what is known of the peer by it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::chain::{IncomingChain, OutgoingChain};
use crate::id::{ReplicaId, Version};
use crate::wire::Outbox;

/// A connection's number, given out by the shell and never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

#[derive(Debug)]
pub(super) struct Link {
    /// The address that we dialed, if it was us.
    pub dialed: Option<String>,
    pub opened_at: Duration,
    pub heard_at: Duration,
    /// Who is at the other end, once the handshake is done.
    pub peer: Option<ReplicaId>,
    /// Frames handed to the shell that have not left yet.
    pub queued: usize,
    pub outbox: Outbox,
    /// The peer's watermark of our own replica, by its own word.
    pub acked: Version,
    /// Up to where our own updates were sent, but for a chain under way; `None` until the peer has said where to begin.
    pub own_sent: Option<Version>,
    /// When own updates were last sent.
    pub own_sent_at: Duration,
    /// Whether the peer waits for word of our watermark of its updates.
    pub ack_due: bool,
    /// What is being sent, of which replica.
    pub outgoing: BTreeMap<ReplicaId, OutgoingChain>,
    chain_mark: u16,
    next_chain: u16,
    /// What is coming in, of which replica.
    pub incoming: BTreeMap<ReplicaId, IncomingChain>,
    /// What the peer had at our meeting and we had not; `None` until all parts of its digest are here.
    pub to_reach: Option<Vec<(ReplicaId, Version)>>,
    pub to_reach_so_far: Vec<(ReplicaId, Version)>,
    pub pinged_at: Option<Duration>,
    pub clock_offset_ms: Option<i64>,
    pub round_trip: Option<Duration>,
}

impl Link {
    /// A new link. `mark` is drawn by chance and tells its chains from those of earlier links: a frame that strayed from one of
    /// them must not pass for a part of a chain of this one.
    pub fn new(dialed: Option<String>, now: Duration, mark: u16) -> Link {
        Link {
            dialed,
            opened_at: now,
            heard_at: now,
            peer: None,
            queued: 0,
            outbox: Outbox::default(),
            acked: Version::ZERO,
            own_sent: None,
            own_sent_at: now,
            ack_due: false,
            outgoing: BTreeMap::new(),
            chain_mark: mark,
            next_chain: 0,
            incoming: BTreeMap::new(),
            to_reach: None,
            to_reach_so_far: Vec::new(),
            pinged_at: None,
            clock_offset_ms: None,
            round_trip: None,
        }
    }

    /// A new chain, to send what follows `from`.
    pub fn begin_chain(&mut self, from: Version) -> OutgoingChain {
        self.next_chain = self.next_chain.wrapping_add(1);
        let number = u32::from(self.chain_mark) << 16 | u32::from(self.next_chain);
        OutgoingChain::new(from, number)
    }

    /// Whether all that the peer had when we met is here.
    pub fn is_synced(&self) -> bool {
        self.to_reach.as_ref().is_some_and(Vec::is_empty)
    }
}
