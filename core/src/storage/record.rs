//! The byte form of what storage holds; `docs/disk-format.md` is about every byte of it.
//!
//! ```text
//! key                      value
//! "c" counter key bytes    a counter, or the tombstone of one
//! "p" counter key bytes,
//!     number, 4 bytes BE   a page of the cells of a counter that has many, or the tombstone of one
//! "r" number, 4 bytes BE   a replica id, named by its number in the counters
//! "w" number, 4 bytes BE   a page of what is kept of replicas: their watermarks and ends
//! "m"                      meta: the last checkpoint
//! "n" node name            a member of the cluster
//! "o" length of the kind,
//!     kind, subject        an entry of the operator
//! ```
//! Every value is `CRC-32 of key and rest (4 bytes LE)`, then the rest in MessagePack. Counters and pages are arrays of fixed
//! places; all else is a map, in which what this version does not know is kept.

mod counter;

use alloc::{vec, vec::Vec};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub(super) use counter::{CounterRecord, StateRecord, head_of};

use super::Fields;
use crate::id::{Incarnation, NodeId, ReplicaId, Version};
use crate::time::Timestamp;

pub(super) const COUNTER_PREFIX: u8 = b'c';
pub(super) const PAGE_PREFIX: u8 = b'p';
pub(super) const MARKS_PREFIX: u8 = b'w';
pub(super) const REPLICA_PREFIX: u8 = b'r';
pub(super) const MEMBER_PREFIX: u8 = b'n';
pub(super) const ENTRY_PREFIX: u8 = b'o';
pub(super) const META_KEY: &[u8] = b"m";

/// The version of this format.
pub const FORMAT: u32 = 2;

/// The last completed checkpoint, and what else there is one of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// The version of the format, [`FORMAT`].
    pub format: u32,
    /// The node that the database belongs to.
    pub node: NodeId,
    /// Number of the checkpoint.
    #[serde(rename = "epoch")]
    pub checkpoint: u64,
    /// What is stored, as of this checkpoint.
    #[serde(flatten)]
    pub totals: Totals,
    /// No clock of this node may fall behind this.
    pub clock: Timestamp,
    /// The number of the next replica: none is given twice.
    pub next_replica: u32,
    /// What earlier builds wrote here of replicas, which has pages of its own now: the watermarks, and the ends in seconds since 1970.
    #[serde(default, skip_serializing)]
    pub(super) watermarks: Vec<(u32, Version)>,
    #[serde(default, skip_serializing)]
    pub(super) ends: Vec<(u32, u64)>,
    /// What a newer version added.
    #[serde(flatten)]
    pub others: Fields,
}

/// How many records of counters and of their pages there are, and a sum of their checksums, which does not depend on their
/// order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// How many.
    pub count: u64,
    /// The sum, modulo 2^64.
    pub sum: u64,
}

impl Totals {
    pub(super) fn add(&mut self, crc: u32) {
        self.count = self.count.wrapping_add(1);
        self.sum = self.sum.wrapping_add(u64::from(crc));
    }

    pub(super) fn remove(&mut self, crc: u32) {
        self.count = self.count.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(u64::from(crc));
    }
}

/// The writer of cells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ReplicaRecord {
    node: NodeId,
    boot: u64,
    nonce: u64,
    /// What a newer version added.
    #[serde(flatten)]
    pub others: Fields,
}

/// The record of a number that is nobody's any more, since its record was rejected: an empty map. Counters may still hold cells
/// of it.
pub(super) const NOBODY: &[u8] = &[0x80];

impl ReplicaRecord {
    pub(super) fn of(replica: &ReplicaId, others: Fields) -> ReplicaRecord {
        let Incarnation { boot, nonce } = replica.incarnation;
        ReplicaRecord { node: replica.node.clone(), boot, nonce, others }
    }

    pub(super) fn replica(&self) -> ReplicaId {
        let incarnation = Incarnation { boot: self.boot, nonce: self.nonce };
        ReplicaId { node: self.node.clone(), incarnation }
    }
}

/// A value that is not what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum DamagedRecord {
    #[error("its checksum does not match")]
    Checksum,
    #[error("it cannot be read")]
    Content,
}

/// A value with its checksum before it; the checksum is over the key too, so that no value passes under another key.
pub(super) fn encode(key: &[u8], value: &impl Serialize) -> (Vec<u8>, u32) {
    wrapped(key, &to_messagepack(value))
}

/// MessagePack with its checksum before it.
pub(super) fn wrapped(key: &[u8], rest: &[u8]) -> (Vec<u8>, u32) {
    let crc = checksum(key, rest);
    ([&crc.to_le_bytes()[..], rest].concat(), crc)
}

#[expect(
    clippy::expect_used,
    reason = "our records hold nothing that MessagePack cannot express, and a Vec takes every byte"
)]
fn to_messagepack(value: &impl Serialize) -> Vec<u8> {
    rmp_serde::to_vec_named(value).expect("a record is encodable")
}

/// The value, if it is what was written under this key, and its checksum.
pub(super) fn decode<T: DeserializeOwned>(
    key: &[u8],
    bytes: &[u8],
) -> Result<(T, u32), DamagedRecord> {
    let (rest, crc) = unwrapped(key, bytes)?;
    Ok((read(rest)?, crc))
}

/// The MessagePack of a value whose checksum is right, and the checksum.
pub(super) fn unwrapped<'a>(key: &[u8], bytes: &'a [u8]) -> Result<(&'a [u8], u32), DamagedRecord> {
    let (crc, rest) = bytes.split_first_chunk().ok_or(DamagedRecord::Checksum)?;
    let crc = u32::from_le_bytes(*crc);
    if crc == checksum(key, rest) { Ok((rest, crc)) } else { Err(DamagedRecord::Checksum) }
}

/// What the MessagePack holds.
pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DamagedRecord> {
    rmp_serde::from_slice(bytes).map_err(|_| DamagedRecord::Content)
}

/// The format that an entry of a checkpoint says it has: from 2 on it is a map, and was an array before.
pub(super) fn format_of(meta: &[u8]) -> Result<u32, DamagedRecord> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    read(meta).map(|Format { format }| format)
}

fn checksum(key: &[u8], rest: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(rest);
    hasher.finalize()
}

pub(super) fn counter_key(key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + key.len());
    bytes.push(COUNTER_PREFIX);
    bytes.extend_from_slice(key);
    bytes
}

/// How many replicas' cells have room in a page: those of the numbers from its own number, times this.
pub(super) const CELLS_PER_PAGE: u32 = 512;
/// Bytes of the number at the end of a page's key.
const PAGE_NUMBER_BYTES: usize = 4;

/// The key of a page of a counter's cells.
pub(super) fn page_key(counter_key: &[u8], page: u32) -> Vec<u8> {
    [&pages_prefix(counter_key)[..], &page.to_be_bytes()].concat()
}

/// What the keys of all pages of a counter begin with. Pages of a counter with a longer key may begin so too.
pub(super) fn pages_prefix(counter_key: &[u8]) -> Vec<u8> {
    [&[PAGE_PREFIX], counter_key].concat()
}

/// The key of the counter that a page belongs to.
pub(super) fn counter_of_page(key: &[u8]) -> Option<&[u8]> {
    key.get(1..key.len().checked_sub(PAGE_NUMBER_BYTES)?)
}

pub(super) fn marks_key(page: u32) -> Vec<u8> {
    [&[MARKS_PREFIX][..], &page.to_be_bytes()].concat()
}

pub(super) fn replica_key(number: u32) -> Vec<u8> {
    let mut bytes = vec![REPLICA_PREFIX];
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_counter_is_a_map_to_the_byte() {
        let node: NodeId = "a".parse().unwrap();
        let incarnation = Incarnation { boot: 1, nonce: 7 };
        let replica = ReplicaId { node: node.clone(), incarnation };
        let bytes = to_messagepack(&ReplicaRecord::of(&replica, Fields::default()));
        assert_eq!(bytes, b"\x83\xa4node\xa1a\xa4boot\x01\xa5nonce\x07");
        let meta = Meta {
            format: FORMAT,
            node,
            checkpoint: 3,
            totals: Totals { count: 1, sum: 5 },
            clock: Timestamp(9),
            next_replica: 1,
            watermarks: Vec::new(),
            ends: Vec::new(),
            others: Fields::default(),
        };
        let expected = [
            &b"\x87\xa6format\x02\xa4node\xa1a\xa5epoch\x03\xa5count\x01\xa3sum\x05"[..],
            b"\xa5clock\x09\xacnext_replica\x01",
        ];
        assert_eq!(to_messagepack(&meta), expected.concat());
        assert_eq!(read::<Meta>(&expected.concat()).unwrap(), meta);
    }
}
