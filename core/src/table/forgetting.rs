//! Forgetting replicas: by what is known of their counters, not by timers.
//!
//! Think of a library that keeps a reader's card for as long as a book is out on it, and a while longer. Every branch names
//! the same day, since the day follows from the books and not from when a branch last looked.
//!
//! A replica ends when the last counter ends that holds, or held, a cell of it. Every node that merges such a cell knows this
//! end, tells it in its digests, and takes the latest that it hears. It is told until half a grace after the end, and forgotten a
//! whole grace after it, unless it is connected: so no node is told of it that has forgotten it, if clocks differ by no more
//! than half the grace. A session that others keep alive ends later than was seen when the cell came: that is found when the
//! end has come and a live cell is still there.
//!
//! A replica that comes back is new here: it is asked for all that it has, and loses nothing.

use alloc::vec::Vec;
use core::time::Duration;

use super::replicas::{ReplicaMark, Replicas};
use super::slot::Slot;
use super::{SlotId, Table};
use crate::crdt::{DigestEntry, ReplicaIndex};
use crate::id::{ReplicaId, Version};
use crate::limit::WINDOW_MAX;
use crate::mutant::mutant;
use crate::time::Timestamp;

/// So many entries of cells that are gone are dropped where they stand in the way of a look.
const STALE_MAX: usize = 64;

impl Table {
    /// Forgets the replicas that ended a grace ago, but for those that are connected. To be called now and then.
    pub fn forget_ended(&self, now: Timestamp, is_connected: impl Fn(&ReplicaId) -> bool) {
        let mut replicas = self.lock_replicas();
        let grace = replicas.grace;
        while let Some(index) = replicas.take_look(now) {
            if let Some(end) = self.later_end(&mut replicas, index, now) {
                replicas.raise_end(index, end);
                continue;
            }
            let end = replicas.replica(index).end;
            let (told_until, kept_until) = (end.plus(grace / 2), end.plus(grace));
            let next = if now < told_until {
                told_until
            } else if now < kept_until {
                kept_until
            } else {
                replicas.prune(index, |version, slot| self.is_live(index, version, slot));
                let is_kept = mutant!(ReplicaNeverForgotten) || is_connected(replicas.id(index));
                if !replicas.has_entries(index) && !is_kept {
                    replicas.forget(index);
                    continue;
                }
                now.plus(grace / 4)
            };
            replicas.unsummed.insert(index);
            replicas.look_at(index, next.max(Timestamp(now.0 + 1)));
        }
    }

    /// The end of a counter with a cell of a replica, if it is later than the replica's and still to come.
    fn later_end(
        &self,
        replicas: &mut Replicas,
        index: ReplicaIndex,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let latest = replicas.replica(index).end.max(now);
        let mut stale = 0;
        let end = |(version, slot): (Version, SlotId)| {
            let ends = self.if_live(index, version, slot, Slot::ends);
            stale += usize::from(ends.is_none());
            ends.filter(|ends| *ends > latest)
        };
        let found = replicas.updates_after(index, Version::ZERO).find_map(end);
        if stale > STALE_MAX {
            replicas.prune(index, |version, slot| self.is_live(index, version, slot));
        }
        found
    }

    /// Takes in until when a peer keeps a replica. Of one that is not known here and that is not over, it is remembered that there
    /// is something to ask for. Returns whether it is over: then there is nothing.
    pub fn hear_end(&self, now: Timestamp, heard: &DigestEntry) -> bool {
        let end = heard.end.min(self.latest_end(now));
        let mut replicas = self.lock_replicas();
        let is_over = end.plus(replicas.grace) <= now;
        let known = replicas.index(&heard.replica);
        let index = match known {
            None if is_over || heard.watermark == Version::ZERO => return is_over,
            None => replicas.index_or_insert(&heard.replica, self.bounds.replicas_max),
            known => known,
        };
        if let Some(index) = index {
            replicas.raise_end(index, end);
        }
        is_over
    }

    /// The latest end that any counter can have which a node may make now.
    fn latest_end(&self, now: Timestamp) -> Timestamp {
        now.plus(self.bounds.future_max).plus(WINDOW_MAX).plus(WINDOW_MAX / 16)
    }

    /// A node of the cluster has this grace: where they differ, the longest one counts for replicas.
    pub fn heed_grace(&self, grace: Duration) {
        let mut replicas = self.lock_replicas();
        replicas.grace = replicas.grace.max(grace);
    }

    /// The marks of replicas that changed since the last call, to be stored.
    pub fn take_replica_marks(&self) -> Vec<ReplicaMark> {
        self.lock_replicas().take_changed()
    }

    /// The replicas that were forgotten since the last call: storage may forget them too.
    pub fn take_forgotten(&self) -> Vec<ReplicaId> {
        self.lock_replicas().take_forgotten()
    }
}
