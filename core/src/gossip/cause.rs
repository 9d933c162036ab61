//! Who brought a report about, as far as that is certain: an operator's log gives each a share of its own.

use alloc::string::{String, ToString};

use super::link::Link;
use super::{Gossip, Output, Report};
use crate::link::{LinkId, Proven};

/// Who brought a report about, as far as that is certain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Cause {
    /// This node: its config, its bounds, or what it concludes of all its peers.
    Own,
    /// A peer that the config leads to, or that has proven itself.
    Peer {
        /// The address that was dialed, or the node's name, if it was that peer who dialed.
        name: String,
    },
    /// Anyone else: a node that connected, whatever its name, or one that is only told of.
    Stranger,
}

impl Gossip {
    /// Reports what this node itself is the cause of.
    pub(super) fn report(&mut self, report: Report) {
        self.report_as(Cause::Own, report);
    }

    /// Reports what the other end of a link is the cause of.
    pub(super) fn report_of(&mut self, link: LinkId, report: Report) {
        let cause = self.links.get(&link).map_or(Cause::Stranger, |link| self.cause(link));
        self.report_as(cause, report);
    }

    pub(super) fn report_as(&mut self, cause: Cause, report: Report) {
        self.outputs.push_back(Output::Report { cause, report });
    }

    /// Who is at the other end of a link.
    pub(super) fn cause(&self, link: &Link) -> Cause {
        if let Some(address) = link.dialed() {
            return Cause::Peer { name: address.clone() };
        }
        let is_of_config = |node| self.addresses.replicas().any(|replica| &replica.node == node);
        let is_proven = link.proven != Proven::Nobody;
        match link.peer().map(|peer| &peer.node).filter(|node| is_proven || is_of_config(*node)) {
            Some(node) => Cause::Peer { name: node.to_string() },
            None => Cause::Stranger,
        }
    }
}
