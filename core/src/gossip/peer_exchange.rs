//! Peer exchange: members tell each other whom they have a link to and where that one can be dialed, so that one address leads to
//! all of them.
//!
//! As long as links are not authenticated, a node takes in addresses only from peers that it dialed itself, so no peer is told
//! by one that dialed it. Each is told once of each member that comes or goes; a connection loses nothing, and a new one
//! begins with all.
//!
//! One that was cut off or down is also told who has said goodbye meanwhile, for as long as that is shown: it would count a member that
//! has left as lost.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use super::addresses::Learned;
use super::exchange::ENVELOPE_BYTES;
use super::members::{Member, PEERS_MAX};
use super::{Gossip, PeerAbsence, Report};
use crate::link::LinkId;
use crate::time::Now;
use crate::wire::{MemberNews, Message};

/// The most that one member takes in a message: a name of 64 bytes, two numbers, and an address.
const MEMBER_BYTES: usize = 160;

impl Gossip {
    /// Tells a peer of the members that came or went since it was told last.
    pub(super) fn tell_members(&mut self, link: LinkId) {
        let changes = self.members.changes();
        let Some(state) = self.links.get_mut(&link) else { return };
        if state.dialed().is_some() || state.members_told == changes {
            return;
        }
        let told = core::mem::replace(&mut state.members_told, changes);
        let Some(state) = self.links.get(&link) else { return };
        let here = state.remote().is_some_and(|remote| remote.is_loopback());
        let was_away_at =
            |member: &Member| state.away_since.is_some_and(|since| since <= member.heard);
        let changed = self.members.iter().filter(|member| {
            member.changed > told
                && state.peer().is_some_and(|peer| peer.node != member.replica.node)
        });
        let entries = changed.filter_map(|member| {
            let connected = member.absence.is_none();
            let address = member.address.clone().filter(|_| connected);
            let stopped = member.absence == Some(PeerAbsence::Stopped);
            // What is on this machine is nowhere else, and of who went before there is nothing to take back.
            let is_use = match &address {
                Some(address) => here || !is_loopback(address),
                None => stopped && was_away_at(member) || !connected && told > 0,
            };
            is_use.then(|| MemberNews { replica: member.replica.clone(), address, stopped })
        });
        let entries: Vec<MemberNews> = entries.collect();
        let room = self.settings.frame_bytes_max.saturating_sub(ENVELOPE_BYTES);
        for part in entries.chunks((room / MEMBER_BYTES).max(1)) {
            self.send(link, &Message::Members { members: part.to_vec() });
        }
    }

    /// Whether a peer waits to hear of members that came or went.
    pub(super) fn has_members_to_tell(&self) -> bool {
        let changes = self.members.changes();
        let mut listeners =
            self.links.values().filter(|link| link.peer().is_some() && link.dialed().is_none());
        listeners.any(|link| link.members_told != changes)
    }

    /// A peer tells of members that came or went.
    pub(super) fn hear_of_members(&mut self, now: Now, link: LinkId, entries: Vec<MemberNews>) {
        let Some(state) = self.links.get(&link) else { return };
        if !self.settings.peer_exchange || state.dialed().is_none() || self.leaving.is_some() {
            return;
        }
        let here = state.remote().is_some_and(|remote| remote.is_loopback());
        let mut implausible = 0;
        for MemberNews { replica, address, stopped } in entries {
            let Some(address) = address else {
                self.addresses.unname(&replica.node, link);
                if stopped && self.members.has_stopped(&replica) {
                    self.addresses.stopped(&replica.node);
                    self.count_peers();
                }
                continue;
            };
            if replica.node == self.own.node {
                continue;
            }
            let Some(address) =
                plausible(&address).filter(|address| here || !address.ip().is_loopback())
            else {
                implausible += 1;
                continue;
            };
            let is_connected = self
                .links
                .values()
                .any(|link| link.peer().is_some_and(|peer| peer.node == replica.node));
            let address = address.to_string();
            match self.addresses.learn(&address, &replica, (link, is_connected), now.monotonic) {
                Learned::NoRoom => self.report(Report::TooManyMembers { max: PEERS_MAX }),
                Learned::Yes => {}
            }
        }
        if implausible > 0 {
            self.table.refused_addresses(implausible);
        }
    }

    /// The address that a peer says it can be dialed at, completed with the one that it is seen at.
    pub(super) fn complete_address(
        &self,
        advertised: Option<&str>,
        remote: Option<IpAddr>,
    ) -> Option<String> {
        let advertised = advertised?;
        let address = match advertised.strip_prefix(':') {
            None => plausible(advertised),
            Some(port) => {
                // Without an address of the other end there is nothing to complete it with.
                let address = SocketAddr::new(remote?, port.parse().unwrap_or(0));
                plausible(&address.to_string())
            }
        };
        if address.is_none() {
            self.table.refused_addresses(1);
        }
        address.map(|address| address.to_string())
    }
}

/// An address that can be dialed.
fn plausible(text: &str) -> Option<SocketAddr> {
    let address: SocketAddr = text.parse().ok()?;
    let ip = address.ip();
    let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    let is_one = address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !is_broadcast;
    is_one.then_some(address)
}

fn is_loopback(address: &str) -> bool {
    address.parse::<SocketAddr>().is_ok_and(|address| address.ip().is_loopback())
}
