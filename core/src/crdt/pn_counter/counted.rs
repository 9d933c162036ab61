//! Which cells count in a counter, and whose are in it, where an operator has said something about their replicas.

use alloc::vec::Vec;

use super::{PnCounter, bounded, net};
use crate::crdt::packed_cells::PackedCells;
use crate::crdt::{Cell, ReplicaIndex};

impl PnCounter {
    /// Takes the cells of those other replicas for 0 that do not count, from now on.
    pub fn recount(&mut self, counts: impl Fn(ReplicaIndex) -> bool) {
        let counted = self.peers().filter(|(replica, _)| counts(*replica));
        self.peers_net = bounded(counted.map(|(_, cell)| net(cell)).sum());
    }

    /// Removes the cells of other replicas; returns whether there were any. The sum must be [`recount`](Self::recount)ed.
    pub fn remove(&mut self, is_gone: impl Fn(ReplicaIndex) -> bool) -> bool {
        let is_kept = |(replica, _): &(ReplicaIndex, Cell)| {
            *replica == ReplicaIndex::OWN || !is_gone(*replica)
        };
        if self.peers.iter().all(|entry| is_kept(&entry)) {
            return false;
        }
        let kept: Vec<_> = self.peers.iter().filter(is_kept).collect();
        self.peers = PackedCells::of_kept(&kept);
        true
    }

    /// Begins the own cell again, for another replica: what got a version stays with the former one, and what was added since is all
    /// that the new one has counted. Of more than `u32::MAX`, that much.
    pub fn begin_own_again(&mut self) {
        self.own = Cell { p: u64::from(self.unversioned), ..Cell::default() };
    }

    /// Whether no replica has a cell.
    pub fn has_no_cells(&self) -> bool {
        self.own == Cell::default() && self.peers_held() == 0
    }
}
