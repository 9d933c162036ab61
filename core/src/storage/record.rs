//! The byte form of what storage holds.
//!
//! ```text
//! key                      value
//! "c" counter key bytes    a counter, or the tombstone of one
//! "r" number, 4 bytes BE   a replica id, named by its number in the counters
//! "m"                      meta: the last checkpoint
//! ```
//! Every value is `CRC-32 of key and rest (4 bytes LE)`, then the rest in MessagePack (structs as arrays).

use alloc::{vec, vec::Vec};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::id::{NodeId, Version};
use crate::table::AtRest;
use crate::time::Timestamp;

pub(super) const COUNTER_PREFIX: u8 = b'c';
pub(super) const REPLICA_PREFIX: u8 = b'r';
pub(super) const META_KEY: &[u8] = b"m";

/// The version of this format.
pub const FORMAT: u32 = 2;

/// The last completed checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// The version of the format, [`FORMAT`].
    pub format: u32,
    /// The node that the database belongs to.
    pub node: NodeId,
    /// Number of the checkpoint.
    pub checkpoint: u64,
    /// What is stored, as of this checkpoint.
    pub totals: Totals,
    /// No clock of this node may fall behind this.
    pub clock: Timestamp,
    /// The watermark of each replica by its number.
    pub watermarks: Vec<(u32, Version)>,
}

/// How many counters there are, and a sum of their checksums, which does not depend on their order.
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

/// A counter at rest, its cells as replica number, version, p, n.
pub(super) type CellsRecord = AtRest<Vec<(u32, Version, u64, u64)>>;

/// A stored counter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CounterRecord {
    /// The checkpoint that wrote it.
    pub checkpoint: u64,
    /// The checksum of the live record that it replaced, so that the totals of the checkpoint before can be checked even
    /// when a crash left this one half written.
    pub replaced: Option<u32>,
    /// `None` is a tombstone, which a later checkpoint removes.
    pub state: Option<CellsRecord>,
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
    let rest = to_messagepack(value);
    let crc = checksum(key, &rest);
    ([&crc.to_le_bytes()[..], &rest].concat(), crc)
}

#[expect(
    clippy::expect_used,
    reason = "our records hold nothing that MessagePack cannot express, and a Vec takes every byte"
)]
fn to_messagepack(value: &impl Serialize) -> Vec<u8> {
    rmp_serde::to_vec(value).expect("a record is encodable")
}

/// The value, if it is what was written under this key, and its checksum.
pub(super) fn decode<T: DeserializeOwned>(
    key: &[u8],
    bytes: &[u8],
) -> Result<(T, u32), DamagedRecord> {
    let (crc, rest) = bytes.split_first_chunk().ok_or(DamagedRecord::Checksum)?;
    let crc = u32::from_le_bytes(*crc);
    if crc != checksum(key, rest) {
        return Err(DamagedRecord::Checksum);
    }
    let value = rmp_serde::from_slice(rest).map_err(|_| DamagedRecord::Content)?;
    Ok((value, crc))
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

pub(super) fn replica_key(number: u32) -> Vec<u8> {
    let mut bytes = vec![REPLICA_PREFIX];
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes
}
