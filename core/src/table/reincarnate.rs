//! Going on as another replica, when the operator had the own one forgotten.
//!
//! The others drop what the own replica told, and refuse what it will tell. So the node needs another name to count under. From the
//! moment that it hears it, nothing is given a version any more; then the shell makes a new incarnation durable, as at a start; and
//! then every counter's own cell is left with what was added since it last got a version. That is told under the new name, and
//! nothing that is counted from then on is lost.
//!
//! It is the counters that go on, not the replica: limits and handles stay, and a receipt of what was told before takes nothing back.

use core::sync::atomic::Ordering;

use super::Table;
use crate::crdt::ReplicaIndex;
use crate::id::{Incarnation, ReplicaId};

impl Table {
    /// Whether the operator had the own replica forgotten, so that [`reincarnate`](Self::reincarnate) is due.
    #[inline]
    pub fn must_reincarnate(&self) -> bool {
        self.must_reincarnate.load(Ordering::Relaxed)
    }

    /// Goes on under this boot number, which must be durable and above the one so far; returns the former replica. A machine that
    /// gossips about this table must begin again after this.
    pub fn reincarnate(&self, boot: u64) -> ReplicaId {
        // Nothing gets a version meanwhile, so it does not matter that slots are done one after the other.
        self.for_each_slot(|shard, slot_index| {
            let key_hash = shard.slot(slot_index).map(|slot| self.key_hash(&slot.key));
            let claim = key_hash.and_then(|key_hash| shard.begin_own_again(key_hash, slot_index));
            if let Some(claim) = claim {
                self.give_room_back(claim);
            }
        });
        let mut replicas = self.lock_replicas();
        let former = replicas.id(ReplicaIndex::OWN).clone();
        // As different from that of a process on a copied directory as before.
        let nonce = former.incarnation.nonce.wrapping_add(1);
        let own = ReplicaId { node: former.node.clone(), incarnation: Incarnation { boot, nonce } };
        replicas.rename_own(&own);
        replicas.heeding.own_is_forgotten = false;
        self.must_reincarnate.store(false, Ordering::Relaxed);
        former
    }
}
