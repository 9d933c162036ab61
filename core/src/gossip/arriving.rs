//! Arriving: a node is ready once it has tried every address, and has what the members had that answered.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use super::Gossip;
use crate::id::ReplicaId;
use crate::time::Now;

#[derive(Debug)]
pub(super) struct Arrival {
    began: Duration,
    is_ready: bool,
    /// What it went without when it became ready.
    without: Vec<Waiting>,
}

/// What a node waits for before it is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Waiting {
    /// The name of a peer of the config has no address yet.
    Unresolved {
        /// The name.
        name: String,
    },
    /// An address has neither answered nor failed yet.
    Untried {
        /// The address.
        address: String,
    },
    /// A member has answered, and what it had then is still on its way.
    CatchingUp {
        /// The member.
        replica: ReplicaId,
    },
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Waiting::Unresolved { name } => {
                write!(f, "the name of the peer {name} has no address yet")
            }
            Waiting::Untried { address } => {
                write!(f, "the peer at {address} has neither answered nor failed to yet")
            }
            Waiting::CatchingUp { replica } => {
                write!(f, "what {} had when it answered is still on its way", replica.node)
            }
        }
    }
}

impl Arrival {
    pub(super) fn new(now: Duration) -> Arrival {
        Arrival { began: now, is_ready: false, without: Vec::new() }
    }
}

impl Gossip {
    /// Whether the node is ready to be asked: every address that it knows was tried, and of each member that answered it has all
    /// that this one had then, or it has waited for that for [`ready_timeout`](super::GossipSettings::ready_timeout). Once it
    /// is, it stays so.
    pub fn is_ready(&self) -> bool {
        self.arrival.is_ready
    }

    /// What the node waits for before it is ready, or is ready without because it took too long, as long as that is not there. What
    /// comes later, such as a new member, it does not wait for.
    pub fn waiting_for(&self) -> Vec<Waiting> {
        let mut missing = self.missing();
        if self.arrival.is_ready {
            missing.retain(|what| self.arrival.without.contains(what));
        }
        missing
    }

    fn missing(&self) -> Vec<Waiting> {
        let unresolved = self.addresses.unresolved().cloned();
        let unresolved = unresolved.map(|name| Waiting::Unresolved { name });
        let untried = self.addresses.untried().cloned();
        let untried = untried.map(|address| Waiting::Untried { address });
        let behind = self.links.values().filter(|link| !link.goals.all_reached());
        let behind = behind.filter_map(|link| link.peer().cloned());
        let behind = behind.map(|replica| Waiting::CatchingUp { replica });
        unresolved.chain(untried).chain(behind).collect()
    }

    /// Looks whether the node has become ready. It is not before it was told of its peers, if there are none.
    pub(super) fn look_whether_ready(&mut self, now: Now) {
        if self.arrival.is_ready || !self.was_told_of_peers {
            return;
        }
        let waited = now.monotonic.saturating_sub(self.arrival.began);
        let missing = self.missing();
        if waited >= self.settings.ready_timeout || missing.is_empty() {
            self.arrival.is_ready = true;
            self.arrival.without = missing;
        }
    }
}
