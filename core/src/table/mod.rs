//! The sharded table of counters: what every decision reads and writes.
//!
//! Decisions lock the shards they touch, in ascending order, and nothing else. Replication and persistence lock the
//! replicas first and then one shard at a time, a few slots long, so that a decision never waits for a whole harvest, merge
//! or checkpoint.
//!
//! Invariant: nothing here knows where updates go or where they come from, and nothing waits.

mod admission;
#[cfg(test)]
mod amount_tests;
mod attribution;
mod begun;
mod bounds;
mod close;
mod cut_off;
#[cfg(test)]
mod cut_off_tests;
mod digest;
mod division;
mod expiry;
mod forgetting;
#[cfg(test)]
mod forgetting_tests;
#[cfg(test)]
mod handle_tests;
mod heeding;
#[cfg(test)]
mod heeding_tests;
mod index;
mod op;
mod persistence;
mod plausible;
#[cfg(test)]
mod plausible_tests;
mod read;
mod reincarnate;
mod rejections;
mod replicas;
mod replication;
mod shard;
mod shares;
mod slot;
mod slot_key;
#[cfg(feature = "serde")]
mod state_form;
#[cfg(test)]
mod term_tests;
#[cfg(test)]
mod tests;
mod update_log;
mod version_map;
#[cfg(test)]
mod wait_tests;

use crate::sync::{Mutex, MutexGuard, PoisonError};
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ahash::RandomState;

pub use admission::{Admission, Debit, NO_LIMIT};
pub use attribution::{Bringers, Brought, CROSSINGS_MAX, Crossing, LINKS_MAX};
pub use bounds::{Bound, Bounds, GRACE_MAX};
pub use digest::BucketSums;
pub use division::{Names, Sides};
pub use heeding::{EntryStatus, Taken};
pub use op::{CountError, Op, OpResult};
pub use persistence::{AtRest, ChangedCounter, Extent, Restore, StoredCounter, Unpersisted};
pub use read::{CounterState, CounterSummary};
pub use rejections::Rejections;
pub use replicas::BUCKETS;
pub use replicas::ReplicaMark;
pub use replication::{Applied, DirtySet, Part};
pub use shares::{Claimant, Share};
pub use slot::{CachedSlot, SlotId, SlotRef};

use crate::crdt::{Cell, PnCounter, ReplicaIndex};
use crate::id::{NodeId, ReplicaId};
use crate::key::limit_of;
use crate::operator::OperatorList;
use division::Division;
use rejections::RejectionCounts;
use replicas::Replicas;
use shard::Shard;
use shares::{ClaimId, Shares};

const SHARDS: usize = 64;
const SHARD_BITS: u32 = SHARDS.trailing_zeros();

/// How many slots are worked on under one hold of a shard's lock: the length of a page.
pub const SLOTS_PER_LOCK: usize = 32;

/// All counters of one process. Shared between threads; every call is short.
///
/// Its methods fall into these kinds, each in a file of its own:
///
/// - **Decide** (`admission`): [`acquire`](Table::acquire) and [`peek`](Table::peek) judge a request's demands, by key or,
///   as [`acquire_by_ref`](Table::acquire_by_ref), by references found before; [`refund`](Table::refund) takes a debit back.
/// - **Divide** (`cut_off`): [`set_sides`](Table::set_sides) says which members are silent, from which follows what limits that
///   heed cuts allow; [`cap`](Table::cap) tells it.
/// - **Operate** (`op`): [`execute`](Table::execute) and [`execute_by_ref`](Table::execute_by_ref) change one counter
///   without a policy.
/// - **Read** (`read`): [`value`](Table::value), [`counter`](Table::counter), [`page`](Table::page),
///   [`summaries`](Table::summaries), [`resolve`](Table::resolve), [`rejections`](Table::rejections), [`state_checksum`](Table::state_checksum).
/// - **Send** (`replication`): [`harvest`](Table::harvest) gives changed cells their versions;
///   [`version_vector`](Table::version_vector) describes what is here; [`updates_after`](Table::updates_after) and
///   [`updates`](Table::updates) read it, and [`begun`](Table::begun) says what that relies on.
/// - **Compare** (`digest`): [`digest_of`](Table::digest_of), [`bucket_sums`](Table::bucket_sums) and
///   [`digest_of_bucket`](Table::digest_of_bucket) say what is here, for peers to compare with theirs.
/// - **Forget** (`forgetting`): [`forget_ended`](Table::forget_ended) drops the replicas of which nothing is left.
/// - **Heed** (`heeding`): [`take_entry`](Table::take_entry) takes what the operator says, [`heed`](Table::heed) brings it about;
///   [`reincarnate`](Table::reincarnate) has the node go on as another replica.
/// - **Receive** (`replication`): [`apply`](Table::apply) merges a peer's cells, [`complete`](Table::complete) moves a
///   watermark. **Doubt** (`plausible`): [`version_max`](Table::version_max) is the most that is believed,
///   [`outgrow`](Table::outgrow) corrects what was believed of this replica.
/// - **Attribute** (`attribution`): [`apply_from`](Table::apply_from) notes who brought what; [`bringers`](Table::bringers) and
///   [`crossings`](Table::crossings) tell it.
/// - **Persist** (`persistence`): [`take_unpersisted`](Table::take_unpersisted) feeds a checkpoint; [`Restore`] fills a new
///   table from storage.
/// - **Close** (`close`): after [`close`](Table::close), decisions and operations are refused and change nothing.
/// - **Expire** (`expiry`): [`sweep`](Table::sweep) drops what expired longer than the grace ago.
#[derive(Debug)]
pub struct Table {
    shards: Box<[Mutex<Shard>]>,
    replicas: Mutex<Replicas>,
    shares: Shares,
    /// How many peers are connected.
    peers: AtomicU64,
    /// Read under a shard's lock, so it need not be ordered by itself: see `close`.
    closed: AtomicBool,
    /// How many members are on this node's side, as decisions read it ...
    sides: AtomicU64,
    /// ... and who they are. Locked after a shard.
    division: Mutex<Division>,
    /// A counter's newer generation was begun here that may have no version yet.
    begins: AtomicBool,
    /// A limit that heeds cuts was asked.
    heeded: AtomicBool,
    /// What the operator has said. Locked before the replicas.
    operator: Mutex<OperatorList>,
    /// The operator had the own replica forgotten: see `reincarnate`.
    must_reincarnate: AtomicBool,
    bounds: Bounds,
    hasher: RandomState,
    rejected: RejectionCounts,
}

impl Table {
    /// An empty table of the replica `own`. `seed` keys the hash, so that keys cannot be chosen to collide.
    pub fn new(own: ReplicaId, bounds: Bounds, seed: [u64; 4]) -> Table {
        let [a, b, c, d] = seed;
        Table {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            replicas: Mutex::new(Replicas::new(own, bounds.grace)),
            shares: Shares::new(bounds.counters_max, &bounds.limits),
            peers: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            begins: AtomicBool::new(false),
            sides: AtomicU64::new(0),
            division: Mutex::default(),
            heeded: AtomicBool::new(false),
            must_reincarnate: AtomicBool::new(false),
            operator: Mutex::new(OperatorList::new(bounds.future_max, bounds.grace)),
            bounds,
            hasher: RandomState::with_seeds(a, b, c, d),
            rejected: RejectionCounts::default(),
        }
    }

    /// The table of a node that keeps its state in memory only: what changes is not listed for any checkpoint.
    #[must_use]
    pub fn without_storage(self) -> Table {
        (0..self.shards.len()).for_each(|number| self.lock(number).lists_unpersisted = false);
        self.lock_replicas().has_storage = false;
        self.lock_operator().forget_storage();
        self
    }

    /// Notes how many peers are connected, from which follows how much may have been counted elsewhere and not arrived yet.
    pub fn set_peers(&self, peers: usize) {
        self.peers.store(peers as u64, Ordering::Relaxed);
    }

    #[inline]
    fn key_hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash_one(key)
    }

    #[inline]
    #[expect(
        clippy::indexing_slicing,
        reason = "a hash's upper bits and a slot id's lower ones are below SHARDS"
    )]
    fn lock(&self, shard_index: usize) -> MutexGuard<'_, Shard> {
        // Nothing that runs under the lock leaves a shard half changed when it panics.
        self.shards[shard_index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Visits every slot that there is, used or not, a few under each hold of a shard's lock.
    fn for_each_slot(&self, mut visit: impl FnMut(&mut Shard, u32)) {
        for shard_index in 0..self.shards.len() {
            let mut from = 0;
            loop {
                let mut shard = self.lock(shard_index);
                let end = shard.slots().min(from + SLOTS_PER_LOCK as u32);
                (from..end).for_each(|slot_index| visit(&mut shard, slot_index));
                if end == shard.slots() {
                    break;
                }
                from = end;
            }
        }
    }

    fn lock_replicas(&self) -> MutexGuard<'_, Replicas> {
        self.replicas.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These are the other members: a part of the room for counters is [kept](Share::kept) for what each of them counts.
    pub fn set_members(&self, names: &BTreeSet<NodeId>) {
        self.shares.set_members(names);
    }

    /// Those for whom there was not always room for a counter since the start, the one that has taken most first.
    pub fn crowded(&self) -> Vec<Share> {
        self.shares.refused()
    }

    /// Takes room for a counter that is used here first, if there is any.
    fn take_room(&self, key: &[u8]) -> Option<ClaimId> {
        self.shares.take(limit_of(key))
    }

    /// For how many of the first of these counters there is room, if all are used here first.
    fn room_for<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) -> usize {
        self.shares.room_for(keys.map(limit_of))
    }

    /// Takes room for a counter that this node has counted in, if there is any.
    fn take_room_for(&self, node: &NodeId, key: &[u8]) -> Option<ClaimId> {
        self.shares.take_for_node(node, limit_of(key))
    }

    /// Counts messages that were skipped because they are not known.
    pub fn skipped_messages(&self, messages: u64) {
        self.rejected.messages_unknown(messages);
    }

    /// Counts addresses that peers told and that cannot be dialed.
    pub fn refused_addresses(&self, addresses: u64) {
        self.rejected.addresses_implausible(addresses);
    }

    /// Counts that something was refused over a bound of the gossip; the table counts those of its own.
    pub fn count_refusal(&self, bound: Bound) {
        self.rejected.refused(bound, 1);
    }

    /// Counts a watermark that a peer told and that cannot be true, as a cell.
    pub fn count_implausible(&self) {
        self.rejected.cells_implausible(1);
    }

    /// Counts a connection that was closed, because it did not prove who it comes from.
    pub fn count_stranger(&self) {
        self.rejected.stranger_refused();
    }

    /// Takes room for a counter that was held before, although there may be none.
    fn take_room_again(&self, node: Option<&NodeId>, key: &[u8]) -> ClaimId {
        self.shares.take_again(node, limit_of(key))
    }

    fn give_room_back(&self, claim: ClaimId) {
        self.shares.release(claim);
    }
}

#[inline]
fn shard_of(key_hash: u64) -> usize {
    (key_hash >> (64 - SHARD_BITS)) as usize
}

fn cells_of(counter: &PnCounter) -> impl Iterator<Item = (ReplicaIndex, Cell)> {
    let own = counter.cell(ReplicaIndex::OWN).map(|cell| (ReplicaIndex::OWN, cell));
    own.into_iter().chain(counter.peers())
}
