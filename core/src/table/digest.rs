//! What a table says of the replicas that it knows, for peers to compare with theirs.
//!
//! Most replicas are lives that ended: nothing of them changes any more, and all nodes have the same of them. So only members
//! are named in each digest; all others are compared by checksums, of everything first, then of 256 buckets, and only what is in
//! buckets that differ is named. (Merkle trees do the same in many levels; Demers et al., "Epidemic algorithms for replicated
//! database maintenance", PODC 1987, compare checksums before they exchange anything.)
//!
//! A checksum is a sum, so each side can take out of its own whom the other has named.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use siphasher::sip::SipHasher13;

use super::Table;
use super::replicas::{BUCKETS, Replicas};
use crate::crdt::{DigestEntry, Marks, ReplicaIndex};
use crate::id::{Incarnation, ReplicaId, Version};
use crate::time::Timestamp;

/// The checksums of all buckets of replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketSums([u64; BUCKETS]);

impl Table {
    /// What is held here of those replicas that are known, and of the own one; in the order of their ids.
    pub fn digest_of<'a>(
        &self,
        members: impl IntoIterator<Item = &'a ReplicaId>,
    ) -> Vec<DigestEntry> {
        let replicas = self.lock_replicas();
        let members = members.into_iter().filter_map(|member| replicas.index(member));
        let indexes: BTreeSet<ReplicaIndex> =
            members.chain(core::iter::once(ReplicaIndex::OWN)).collect();
        let mut entries: Vec<DigestEntry> =
            indexes.into_iter().map(|index| self.entry(&replicas, index)).collect();
        entries.sort_by(|a, b| a.replica.cmp(&b.replica));
        entries
    }

    /// What is held of one replica.
    pub fn digest_entry(&self, replica: &ReplicaId) -> DigestEntry {
        let replicas = self.lock_replicas();
        match replicas.index(replica) {
            Some(index) => self.entry(&replicas, index),
            None => DigestEntry {
                replica: replica.clone(),
                watermark: Version::ZERO,
                ahead: 0,
                end: Timestamp(0),
            },
        }
    }

    /// The checksums over all replicas that are told at this time, but for these.
    pub fn bucket_sums<'a>(
        &self,
        now: Timestamp,
        except: impl IntoIterator<Item = &'a ReplicaId>,
    ) -> BucketSums {
        let mut replicas = self.lock_replicas();
        self.sum_up(&mut replicas, now);
        let mut sums = BucketSums(*replicas.buckets);
        for id in except {
            if let Some(index) = replicas.index(id) {
                let named = replicas.replica(index);
                sums.remove(named.bucket, named.sum);
            }
        }
        sums
    }

    /// What is held of the replicas in a bucket that are told at this time.
    pub fn digest_of_bucket(&self, now: Timestamp, bucket: usize) -> Vec<DigestEntry> {
        let mut replicas = self.lock_replicas();
        self.sum_up(&mut replicas, now);
        let told = replicas.in_bucket(bucket).filter(|index| replicas.replica(*index).sum != 0);
        told.map(|index| self.entry(&replicas, index)).collect()
    }

    /// Brings the checksums up to date.
    fn sum_up(&self, replicas: &mut Replicas, now: Timestamp) {
        for index in core::mem::take(&mut replicas.unsummed) {
            let entry = self.entry(replicas, index);
            let is_told = now < entry.end.plus(replicas.grace / 2);
            let sum = if is_told { checksum(&entry) } else { 0 };
            replicas.set_sum(index, sum);
            if entry.ahead != 0 {
                // It depends on the counters' marks, which change by themselves.
                replicas.unsummed.insert(index);
            }
        }
    }

    fn entry(&self, replicas: &Replicas, index: ReplicaIndex) -> DigestEntry {
        let replica = replicas.replica(index);
        DigestEntry {
            replica: replica.id.clone(),
            watermark: replica.watermark,
            ahead: self.dots_beyond_checksum(replicas, index),
            end: replica.end,
        }
    }

    /// A checksum of the live dots beyond the version vector: the versions held past the watermark, and their counters'
    /// marks, which a node whose clock was lowered holds lower than others. 0 if there are none.
    fn dots_beyond_checksum(&self, replicas: &Replicas, index: ReplicaIndex) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        let mut any = false;
        for (version, slot) in replicas.ahead(index) {
            if let Some(Marks { at, p0, n0 }) = self.live_marks(index, version, slot) {
                for number in [version.0, at, p0, n0] {
                    hasher.update(&number.to_le_bytes());
                }
                any = true;
            }
        }
        if any { hasher.finalize().max(1) } else { 0 }
    }
}

impl BucketSums {
    /// The lower half of the sum over all of them.
    pub fn total(&self) -> u32 {
        self.0.iter().fold(0, |total, sum| total.wrapping_add(*sum as u32))
    }

    /// As they travel: the lower half of each.
    pub fn halves(&self) -> Vec<u32> {
        self.0.iter().map(|sum| *sum as u32).collect()
    }

    /// Whether a bucket is the same at a peer that has sent these halves; a half that is missing is not.
    pub fn is_equal(&self, bucket: usize, halves: &[u32]) -> bool {
        let own = self.0.get(bucket).map(|sum| *sum as u32);
        own.is_some() && own == halves.get(bucket).copied()
    }

    fn remove(&mut self, bucket: usize, part: u64) {
        if let Some(sum) = self.0.get_mut(bucket) {
            *sum = sum.wrapping_sub(part);
        }
    }
}

/// The bucket that a replica is in.
pub(super) fn bucket_of(id: &ReplicaId) -> usize {
    SipHasher13::new().hash(&bytes_of(id)) as usize % BUCKETS
}

/// A replica's part in the checksum of its bucket: never 0, which stands for one that is not told.
fn checksum(entry: &DigestEntry) -> u64 {
    let mut bytes = bytes_of(&entry.replica);
    for number in [entry.watermark.0, entry.ahead.into(), entry.end.0] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    SipHasher13::new().hash(&bytes).max(1)
}

/// The same on all nodes, and different for different replicas: a name has no zero in it.
fn bytes_of(id: &ReplicaId) -> Vec<u8> {
    let Incarnation { boot, nonce } = id.incarnation;
    [id.node.as_str().as_bytes(), &[0], &boot.to_le_bytes(), &nonce.to_le_bytes()].concat()
}
