//! Links coming and going, and who is at the other end.

use rand::RngExt;

use super::link::Link;
use super::{Gossip, Input, LinkId, Output, Report};
use crate::id::ReplicaId;
use crate::time::Now;
use crate::wire::{Farewell, Message, PROTOCOL};

impl Gossip {
    pub(super) fn dial(&mut self, now: Now) {
        for address in self.addresses.due(now.monotonic) {
            self.outputs.push_back(Output::Dial { address });
        }
    }

    pub(super) fn link_up(&mut self, now: Now, link: LinkId, dialed: Option<String>) {
        if self.links.len() >= self.settings.links_max {
            self.outputs.push_back(Output::Close { link });
            if let Some(address) = dialed {
                self.handle_input(now, Input::DialFailed { address });
            }
            return;
        }
        if let Some(address) = &dialed {
            self.addresses.linked(address, link);
        }
        let mark = self.random.random();
        self.links.insert(link, Link::new(dialed, now.monotonic, mark));
        self.send(link, &Message::Hello { protocol: PROTOCOL, replica: self.own.clone() });
    }

    pub(super) fn link_down(&mut self, now: Now, link: LinkId) {
        let Some(gone) = self.links.remove(&link) else { return };
        self.count_peers();
        let jitter = self.jitter();
        if let Some(address) = &gone.dialed {
            self.addresses.failed(address, now.monotonic, jitter);
        }
        if let Some(peer) = gone.peer {
            self.addresses.uncover(&peer, now.monotonic);
            self.report(Report::PeerDown { replica: peer });
        }
    }

    pub(super) fn hello(&mut self, now: Now, link: LinkId, protocol: u32, replica: ReplicaId) {
        let Some(state) = self.links.get(&link) else { return };
        let dialed = state.dialed.clone();
        if state.peer.is_some() {
            return;
        }
        if protocol != PROTOCOL {
            self.report(Report::OtherProtocol { protocol });
            return self.close(now, link, Farewell::OtherProtocol);
        }
        if replica == self.own {
            self.close(now, link, Farewell::Myself);
            if let Some(address) = dialed {
                self.addresses.own(&address);
                self.report(Report::OwnAddress { address });
            }
            return;
        }
        if replica.node == self.own.node {
            self.report(Report::NodeIdInUse { other: replica });
            return self.close(now, link, Farewell::NodeIdInUse);
        }
        if !self.prefer(now, link, &replica) {
            return;
        }
        if let Some(address) = &dialed {
            self.addresses.met(address, &replica);
        }
        if let Some(state) = self.links.get_mut(&link) {
            state.peer = Some(replica.clone());
        }
        self.count_peers();
        self.report(Report::PeerUp { replica });
        self.send_digest(link);
        self.ping(now, link);
    }

    /// Whether the new link to a peer is to be kept, seen the ones that lead to the same node; closes what is not kept.
    fn prefer(&mut self, now: Now, new: LinkId, replica: &ReplicaId) -> bool {
        let same_node = |(id, link): (&LinkId, &Link)| {
            let peer = link.peer.as_ref()?;
            (*id != new && peer.node == replica.node).then(|| (*id, peer.clone()))
        };
        let Some((held, peer)) = self.links.iter().find_map(same_node) else { return true };
        if peer == *replica {
            // Both ends keep the link that the lesser id dialed; of two dialed by one end, the newer.
            let dialed_by_us =
                |link: LinkId| self.links.get(&link).is_some_and(|state| state.dialed.is_some());
            let wanted = self.own < *replica;
            let keep_new = dialed_by_us(new) == wanted || dialed_by_us(held) == dialed_by_us(new);
            let (kept, dropped) = if keep_new { (new, held) } else { (held, new) };
            let address = self.links.get(&dropped).and_then(|state| state.dialed.clone());
            let kept_dialed = self.links.get(&kept).and_then(|state| state.dialed.clone());
            if let Some(state) = self.links.get_mut(&dropped) {
                // The peer itself does not go away.
                state.peer = None;
            }
            self.close(now, dropped, Farewell::SecondLink);
            if let Some(address) = address.filter(|address| Some(address) != kept_dialed.as_ref()) {
                self.addresses.cover(&address, replica);
            }
            return keep_new;
        }
        if replica.incarnation.boot > peer.incarnation.boot {
            // It has started anew and the old link has not noticed yet.
            self.drop_link(now, held);
            return true;
        }
        // Both are alive and one is no later life of the other: a cloned directory, or one name given twice.
        self.report(Report::NodeIdInUse { other: replica.clone() });
        self.send(held, &Message::Conflict { other: replica.clone() });
        self.close(now, new, Farewell::NodeIdInUse);
        false
    }

    pub(super) fn goodbye(&mut self, now: Now, link: LinkId, reason: Farewell) {
        let dialed = self.links.get(&link).and_then(|state| state.dialed.clone());
        match reason {
            Farewell::Stopping | Farewell::SecondLink | Farewell::Myself => {}
            Farewell::NodeIdInUse | Farewell::OtherProtocol => {
                self.report(Report::Refused { reason });
            }
        }
        self.drop_link(now, link);
        let Some(address) = dialed else { return };
        match reason {
            Farewell::Myself => {
                self.addresses.own(&address);
                self.report(Report::OwnAddress { address });
            }
            Farewell::SecondLink => {
                // Kept covered only while the link it was closed in favour of is there.
                let known = self.addresses.replica_at(&address).cloned();
                let covered = known.filter(|replica| {
                    self.links.values().any(|link| link.peer.as_ref() == Some(replica))
                });
                if let Some(replica) = covered {
                    self.addresses.cover(&address, &replica);
                }
            }
            _ => {}
        }
    }
}
