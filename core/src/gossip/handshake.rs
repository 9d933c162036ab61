//! Links coming and going, and which peer is at the other end.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::IpAddr;

use rand::RngExt;

use super::cause::Cause;
use super::link::Link;
use super::members::PEERS_MAX;
use super::{Gossip, HandshakeFailure, Output, PeerAbsence, PeerAddresses, Report};
use crate::id::ReplicaId;
use crate::link::{LinkId, Proven};
use crate::table::Bound;
use crate::time::Now;
use crate::wire::{CloseReason, Message, Outbox, PROTOCOLS};

impl Gossip {
    /// Dials the addresses that are due.
    pub(super) fn dial(&mut self, now: Now) {
        for address in self.addresses.due(now.monotonic) {
            self.outputs.push_back(Output::Dial { address });
        }
    }

    /// Makes these the peers. Of those that were taken off the list, the links that we dialed are closed; those that came in
    /// are the peer's to close.
    pub(super) fn set_peers(&mut self, now: Now, peers: Vec<PeerAddresses>) {
        let dialed = self.links.iter().filter_map(|(link, state)| Some((state.dialed()?, *link)));
        let linked: BTreeMap<String, LinkId> =
            dialed.map(|(address, link)| (address.clone(), link)).collect();
        for address in self.addresses.set(peers, &linked, now.monotonic) {
            if let Some(link) = linked.get(&address) {
                self.close_on_purpose(now, *link, CloseReason::Removed, PeerAbsence::Removed);
            }
        }
    }

    pub(super) fn link_up(
        &mut self,
        now: Now,
        link: LinkId,
        dialed: Option<String>,
        (remote, proven): (Option<IpAddr>, Proven),
    ) {
        if self.has_left() {
            // With a hello it would be met, and then lost.
            return self.turn_away(link, CloseReason::Stopping);
        }
        if !self.has_place(now, dialed.is_some()) {
            self.refuse(Bound::Connections);
            if let Some(address) = &dialed {
                self.address_failed(now, address);
            }
            return self.turn_away(link, CloseReason::Full);
        }
        if let Some(address) = &dialed {
            if !self.addresses.has(address) {
                // It was taken off the list while it was being dialed.
                return self.turn_away(link, CloseReason::Removed);
            }
            self.addresses.linked(address, link);
        }
        let mark = self.random.random();
        let mut state = Link::new(dialed, remote, now.monotonic, mark);
        state.proven = proven;
        self.links.insert(link, state);
        let hello = Message::Hello {
            protocols: PROTOCOLS.to_vec(),
            replica: self.own.clone(),
            limits_digest: self.rules_digest(),
            cluster: (*self.settings.cluster).into(),
            advertised: self.settings.advertised.clone(),
        };
        self.send(link, &hello);
    }

    /// Ends a connection that is no link yet.
    fn turn_away(&mut self, link: LinkId, reason: CloseReason) {
        let mut outbox = Outbox::default();
        let full = outbox.push(&Message::Goodbye { reason }, self.settings.frame_bytes_max);
        for frame in full.into_iter().chain(outbox.finish()) {
            self.outputs.push_back(Output::Send { link, frame });
        }
        self.outputs.push_back(Output::Close { link });
    }

    /// Closes a link for a reason that makes its end no sign of trouble; the peer is then absent as `absence` says.
    pub(super) fn close_on_purpose(
        &mut self,
        now: Now,
        link: LinkId,
        reason: CloseReason,
        absence: PeerAbsence,
    ) {
        if let Some(state) = self.links.get_mut(&link) {
            state.end_as(absence);
        }
        self.close(now, link, reason);
    }

    pub(super) fn dial_failed(&mut self, now: Now, address: String, error: String) {
        self.address_failed(now, &address);
        match self.addresses.told_of(&address) {
            // The peers that told of it have a link to it, or had one until just now.
            Some((replica, true)) => {
                let replica = replica.clone();
                self.report_as(Cause::Stranger, Report::Unreachable { replica, address, error });
            }
            Some(_) => {}
            None => {
                let name = address.clone();
                self.report_as(Cause::Peer { name }, Report::NoAnswer { address, error });
            }
        }
    }

    /// The other end of a connection did not prove who it is, and never was a link.
    pub(super) fn unproven(
        &mut self,
        now: Now,
        dialed: Option<String>,
        remote: Option<String>,
        error: String,
    ) {
        let cause = match &dialed {
            Some(address) => {
                self.address_failed(now, address);
                self.addresses.unproven(address);
                Cause::Peer { name: address.clone() }
            }
            None => {
                self.table.count_stranger();
                Cause::Stranger
            }
        };
        self.report_as(cause, Report::Unproven { dialed, remote, error });
    }

    fn address_failed(&mut self, now: Now, address: &str) {
        let jitter = self.jitter();
        self.addresses.failed(address, now.monotonic, jitter);
    }

    /// The other end closed a link, or it broke.
    pub(super) fn link_broke(&mut self, now: Now, link: LinkId) {
        self.report_if_stranger(link, HandshakeFailure::Closed);
        self.link_down(now, link);
    }

    /// Reports a link that ends before its peer has introduced itself.
    pub(super) fn report_if_stranger(&mut self, link: LinkId, reason: HandshakeFailure) {
        if let Some(state) = self.links.get(&link).filter(|state| state.peer().is_none()) {
            let dialed = state.dialed().cloned();
            self.report_of(link, Report::HandshakeFailed { dialed, reason });
        }
    }

    pub(super) fn link_down(&mut self, now: Now, link: LinkId) {
        let Some(gone) = self.links.remove(&link) else { return };
        self.contests.remove(&link);
        self.end_rest(now);
        self.addresses.teller_gone(link);
        self.suspicion.look_soon();
        self.count_peers();
        let node = gone.peer().map(|peer| &peer.node);
        let leads_there = |link: &Link| link.peer().is_some_and(|peer| Some(&peer.node) == node);
        let has_other_link = self.links.values().any(leads_there);
        let absence = (!has_other_link).then_some(gone.absence());
        self.members.note(now, &gone, absence);
        let jitter = self.jitter();
        let dialed = gone.dialed().filter(|address| !self.addresses.has_other_link(address, link));
        if let Some(address) = dialed {
            self.addresses.failed(address, now.monotonic, jitter);
        }
        if let Some(replica) = gone.peer().cloned() {
            self.addresses.clear_redundant(&replica, now.monotonic);
            let report = match absence == Some(PeerAbsence::Lost) {
                true => Report::PeerLost {
                    replica,
                    silent_for: gone.silent_for(now.monotonic),
                    connected: self.connected(),
                },
                false => Report::PeerDown { replica },
            };
            self.report_as(self.cause(&gone), report);
        }
    }

    /// How many peers are connected.
    pub(super) fn connected(&self) -> usize {
        self.links.values().filter(|link| link.peer().is_some()).count()
    }

    pub(super) fn hello(&mut self, now: Now, link: LinkId, hello: Message) {
        let Message::Hello { protocols, replica, limits_digest, cluster, advertised } = hello
        else {
            return;
        };
        let Some(state) = self.links.get(&link) else { return };
        let (dialed, remote) = (state.dialed().cloned(), state.remote());
        if state.peer().is_some() {
            return;
        }
        if state.proven.replica().is_some_and(|proven| *proven != replica) {
            let reason = HandshakeFailure::OtherReplica;
            self.report_of(link, Report::HandshakeFailed { dialed, reason });
            return self.close(now, link, CloseReason::Other);
        }
        // The highest one in common is spoken. There is only one so far, so nothing needs to remember which.
        if !protocols.iter().any(|protocol| PROTOCOLS.contains(protocol)) {
            self.report_of(link, Report::OtherProtocol { protocols });
            return self.close(now, link, CloseReason::OtherProtocol);
        }
        if replica == self.own {
            self.close(now, link, CloseReason::Myself);
            if let Some(address) = dialed {
                self.is_own_address(address);
            }
            return;
        }
        if *cluster != *self.settings.cluster {
            let address = dialed.clone().or(remote.map(|remote| remote.to_string()));
            let (theirs, ours) = (shortened(&cluster), self.settings.cluster.clone());
            self.report_of(link, Report::OtherCluster { theirs, ours, address });
            self.close(now, link, CloseReason::OtherCluster);
            if let Some(address) = dialed {
                self.addresses.of_other_cluster(&address);
            }
            return;
        }
        if replica.node == self.own.node {
            self.report_of(link, Report::NodeIdInUse { other: replica });
            return self.close(now, link, CloseReason::NodeIdInUse);
        }
        if !self.resolve_duplicate_link(now, link, &replica) {
            return;
        }
        if !self.may_stay(link, &replica.node) {
            self.refuse(Bound::Connections);
            return self.close(now, link, CloseReason::Full);
        }
        if let Some(address) = &dialed {
            self.addresses.met(address, &replica);
        }
        self.addresses.connected(&replica);
        let source = dialed.as_ref().and_then(|address| self.addresses.source(address));
        let address = self.complete_address(advertised.as_deref(), remote);
        let configured = || self.addresses.replicas().map(|replica| replica.node.clone()).collect();
        let away_since = self.members.get(&replica.node).map(|known| known.heard);
        let met = (&replica, address);
        let (acked, lost_at) = self.members.meet(now.wall, met, source, PEERS_MAX, configured);
        self.end_rest(now);
        if let Some(state) = self.links.get_mut(&link) {
            state.introduce(replica.clone());
            state.away_since = away_since;
            state.streams.acked(acked);
        }
        self.count_peers();
        self.suspicion.look_soon();
        self.report_of(link, Report::PeerUp { replica: replica.clone() });
        if let Some(lost_at) = lost_at {
            let away = now.wall.since(lost_at);
            self.report_of(link, Report::PeerBack { replica, away });
        }
        self.send_limits(link, limits_digest);
        self.tell_members(link);
        self.send_digest(now, link, false);
        self.ping(now, link);
    }

    fn is_own_address(&mut self, address: String) {
        self.addresses.own(&address);
        self.suspicion.look_soon();
        self.report(Report::OwnAddress { address });
        if self.addresses.are_all_own() {
            self.report(Report::OnlyOwnAddresses);
        }
    }

    /// Whether the new link to a peer is to be kept, given those that lead to the same node; closes the one that is not.
    fn resolve_duplicate_link(&mut self, now: Now, new: LinkId, replica: &ReplicaId) -> bool {
        let same_node = |(id, link): (&LinkId, &Link)| {
            let peer = link.peer()?;
            (*id != new && peer.node == replica.node).then(|| (*id, peer.clone()))
        };
        let Some((held, peer)) = self.links.iter().find_map(same_node) else { return true };
        if peer == *replica {
            // Both ends keep the link that the lesser id dialed; of two dialed by one end, the newer.
            let dialed_by_us =
                |link: LinkId| self.links.get(&link).is_some_and(|state| state.dialed().is_some());
            let wanted = self.own < *replica;
            let keep_new = dialed_by_us(new) == wanted || dialed_by_us(held) == dialed_by_us(new);
            let (kept, dropped) = if keep_new { (new, held) } else { (held, new) };
            let address = self.links.get(&dropped).and_then(|state| state.dialed().cloned());
            let kept_dialed = self.links.get(&kept).and_then(|state| state.dialed().cloned());
            if let Some(state) = self.links.get_mut(&dropped) {
                self.members.note(now, state, None);
                state.disown();
            }
            self.close(now, dropped, CloseReason::SecondLink);
            if let Some(address) = address.filter(|address| Some(address) != kept_dialed.as_ref()) {
                self.addresses.mark_redundant(&address, replica);
            }
            return keep_new;
        }
        if replica.incarnation.boot > peer.incarnation.boot {
            // Most likely it has restarted and the old link has not noticed yet.
            self.contest(now, new, (held, replica));
            return false;
        }
        // Both are alive and neither is a restart of the other: a cloned directory, or one name given twice.
        self.refuse_second(now, new, (held, replica.clone()));
        false
    }

    pub(super) fn goodbye(&mut self, now: Now, link: LinkId, reason: CloseReason) {
        let dialed = self.links.get(&link).and_then(|state| state.dialed().cloned());
        let absence = match reason {
            CloseReason::Stopping | CloseReason::SecondLink | CloseReason::Myself => {
                Some(PeerAbsence::Stopped)
            }
            CloseReason::Removed => Some(PeerAbsence::Removed),
            CloseReason::Full | CloseReason::FrameTooLong => {
                self.report_of(link, Report::Refused { reason });
                Some(PeerAbsence::Refused)
            }
            // It has told the name of its cluster before, and that is reported.
            CloseReason::OtherCluster => None,
            CloseReason::NodeIdInUse | CloseReason::OtherProtocol | CloseReason::Other => {
                self.report_of(link, Report::Refused { reason });
                None
            }
        };
        if let (Some(absence), Some(state)) = (absence, self.links.get_mut(&link)) {
            state.end_as(absence);
        }
        let stopping = self.links.get(&link).and_then(|state| state.peer().cloned());
        self.drop_link(now, link);
        if let Some(replica) = stopping.filter(|_| reason == CloseReason::Stopping) {
            self.addresses.stopped(&replica.node);
        }
        let Some(address) = dialed else { return };
        match reason {
            CloseReason::Myself => {
                self.is_own_address(address);
            }
            CloseReason::OtherCluster => self.addresses.of_other_cluster(&address),
            CloseReason::SecondLink => {
                // Redundant only while the link that it was closed in favor of is there.
                let known = self.addresses.replica_at(&address).cloned();
                let linked = known
                    .filter(|replica| self.links.values().any(|link| link.peer() == Some(replica)));
                if let Some(replica) = linked {
                    self.addresses.mark_redundant(&address, &replica);
                }
            }
            _ => {}
        }
    }
}

/// As much of a cluster's name as a valid one may have.
fn shortened(cluster: &str) -> String {
    cluster.chars().take(64).collect()
}
