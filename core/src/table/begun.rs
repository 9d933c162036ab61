//! Whose cells began the newer generations of counters here.
//!
//! A newer generation supersedes the cells of the older ones, so what this node vouches for of *their* replicas relies on the
//! generation. A peer that believed it without having that would, once this node and who began it are lost, have neither, and
//! never ask for the cells that others still count.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use core::time::Duration;

use super::{DirtySet, Table};
use crate::crdt::{Begun, ReplicaIndex};
use crate::id::Version;
use crate::time::Timestamp;

/// So many replicas are noted.
const NOTED_MAX: usize = 64;
/// What was noted is told for so long. By then, every node that can be reached has heard of it, also from others.
const TOLD_FOR: Duration = Duration::from_secs(60);

/// The replicas whose cells began generations here, the latest at the end.
#[derive(Debug, Default)]
pub(super) struct Beginners(VecDeque<Beginner>);

#[derive(Debug)]
struct Beginner {
    index: ReplicaIndex,
    /// The last version that began one.
    version: Version,
    /// Since when it is told, if it was told yet.
    told_since: Option<Timestamp>,
}

impl Beginners {
    pub(super) fn note(&mut self, index: ReplicaIndex, version: Version) {
        let noted = self.0.iter().position(|noted| noted.index == index);
        let before = noted.and_then(|at| self.0.remove(at)).map(|noted| noted.version);
        if self.0.len() >= NOTED_MAX {
            self.0.pop_front();
        }
        let version = version.max(before.unwrap_or_default());
        self.0.push_back(Beginner { index, version, told_since: None });
    }

    pub(super) fn forget(&mut self, index: ReplicaIndex) {
        self.0.retain(|noted| noted.index != index);
    }

    /// Drops what was told for long enough.
    fn drop_old(&mut self, now: Timestamp) {
        self.0.retain_mut(|noted| now < noted.told_since.get_or_insert(now).plus(TOLD_FOR));
    }
}

impl Table {
    /// A counter's newer generation is being begun here; it gets its version by a harvest.
    #[cold]
    pub(super) fn begins_generation(&self) {
        self.begins.store(true, Ordering::Relaxed);
    }

    /// The replicas whose cells began newer generations here of late, the own one among them, with the last version of each that
    /// did: the latest first, as many as take up to `bytes_max`. See [`Delta::begun`](crate::crdt::Delta::begun).
    pub fn begun(&self, now: Timestamp, bytes_max: usize) -> Vec<Begun> {
        // It was set under the lock of a shard in which the chain was read since.
        if self.begins.swap(false, Ordering::Relaxed) {
            self.harvest(DirtySet::All);
        }
        let mut replicas = self.lock_replicas();
        replicas.begun.drop_old(now);
        let latest = replicas.begun.0.iter().rev();
        let told = latest.filter(|noted| {
            // Of the others, all counters have ended.
            noted.index == ReplicaIndex::OWN
                || now < replicas.replica(noted.index).end.plus(replicas.grace / 2)
        });
        let mut bytes = 0;
        let entries = told.map(|noted| Begun(replicas.id(noted.index).clone(), noted.version));
        let fits = |begun: &Begun| {
            bytes += begun.bytes_max();
            bytes <= bytes_max
        };
        entries.take_while(fits).collect()
    }
}
