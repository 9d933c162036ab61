//! How far a peer's word may go to be believed, by the clock.
//!
//! A number that only grows is lost once a lie takes it to its end: after the last version, or the last generation, there is
//! none. So each has a bound that grows with time, and faster than any honest node gives numbers out. Then a lie that goes to
//! the bound takes nothing that lasts: a moment later the next number is believed again. Bounds past what is *held* would not do:
//! a liar takes as many steps as it likes, and a node that was away would refuse what all others hold.

use super::Table;
use crate::crdt::ReplicaIndex;
use crate::id::{ReplicaId, Version};
use crate::mutant::mutant;
use crate::time::Timestamp;

/// So far a replica may be from its start on ...
const VERSIONS_AT_START: u64 = 1 << 47;
/// ... and for each millisecond since. It takes four years to come to 2^48.
const VERSIONS_PER_MS: u64 = 1 << 10;

/// So many generations a counter may have had by [`GENERATIONS_SINCE_S`] ...
const GENERATIONS_AT_START: u64 = 1 << 24;
/// ... and for each second since. They last until 2093.
const GENERATIONS_PER_S: u64 = 2;
/// 2026-01-01, in seconds since 1970.
const GENERATIONS_SINCE_S: u64 = 1_767_225_600;

/// The latest version that a replica with this boot number can have given out by `now`.
pub(super) fn version_max(boot: u64, now: Timestamp) -> Version {
    let age_ms = now.0.saturating_sub(boot);
    Version(VERSIONS_AT_START.saturating_add(age_ms.saturating_mul(VERSIONS_PER_MS)))
}

/// The highest generation that a counter can have by `now`.
pub(super) fn generation_max(now: Timestamp) -> u32 {
    let seconds = (now.0 / 1_000).saturating_sub(GENERATIONS_SINCE_S);
    let most = GENERATIONS_AT_START.saturating_add(seconds.saturating_mul(GENERATIONS_PER_S));
    u32::try_from(most).unwrap_or(u32::MAX)
}

impl Table {
    /// The latest version of a replica that is believed now, by the clocks of nodes that are somewhat ahead.
    pub fn version_max(&self, now: Timestamp, replica: &ReplicaId) -> Version {
        if mutant!(VersionUnbounded) {
            return Version(u64::MAX);
        }
        version_max(replica.incarnation.boot, now.plus(self.bounds.future_max))
    }

    /// The highest generation of a counter that is believed now, by the clocks of nodes that are somewhat ahead.
    pub fn generation_max(&self, now: Timestamp) -> u32 {
        generation_max(now.plus(self.bounds.future_max))
    }

    /// Gives the next own versions above `found`, which a peer holds and which was never given out here, and has every own cell
    /// sent again under them. `false`, with nothing changed, if it was given out, or no node that goes by these bounds can hold it.
    pub fn outgrow(&self, now: Timestamp, found: Version) -> bool {
        {
            let mut replicas = self.lock_replicas();
            let own = replicas.replica_mut(ReplicaIndex::OWN);
            let latest = version_max(own.id.incarnation.boot, now.plus(self.bounds.future_max));
            if found <= own.watermark || found > latest {
                return false;
            }
            own.watermark = found;
        }
        self.for_each_slot(|shard, slot_index| {
            let slot = shard.slot(slot_index);
            if slot.is_some_and(|slot| slot.counter.cell(ReplicaIndex::OWN).is_some()) {
                shard.mark_dirty(slot_index);
            }
        });
        true
    }
}
