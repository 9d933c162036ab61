//! What travels between replicas: the state of changed cells, and how far it completes the receiver's knowledge.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::Cell;
use crate::id::{ReplicaId, Version};
use crate::time::Timestamp;

/// Updates of one replica, each cell at its latest state, as in Scuttlebutt reconciliation (van Renesse et al., LADIS 2008).
///
/// Deltas that belong together form a chain. A cell that changed again while the chain was sent is left out of the earlier
/// parts, since a later one brings it; so only the whole chain makes the receiver's knowledge complete, and only then its
/// watermark moves. Were it moved at each part, a crash in between would leave a hole under it that is never filled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// Whose cells these are.
    pub replica: ReplicaId,
    /// Where the chain begins: at the receiver's watermark, or below.
    pub from: Version,
    /// Tells the chain from others: a mark of the link in the upper half, a number in the lower.
    pub chain: u32,
    /// Number of this part in the chain, from 0.
    pub part: u32,
    /// In the last part: everything up to here is then held, superseded or expired.
    pub watermark: Option<Version>,
    /// The cells.
    pub updates: Vec<Update>,
}

/// One cell of one counter, as sent to a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    /// The counter's key in its byte form.
    #[serde(with = "serde_bytes")]
    pub key: Vec<u8>,
    /// The cell's version.
    pub version: Version,
    /// The counter's generation.
    pub generation: u32,
    /// Added.
    pub p: u64,
    /// Subtracted.
    pub n: u64,
    /// When the counter expires; 0 for a counter with a window, whose key says when.
    pub expires_at: Timestamp,
}

/// What an update of usual numbers takes in a frame beside its key, at most; a test of the frames keeps it true. No code
/// counts on it.
pub const UPDATE_BYTES_USUAL: usize = 24;
/// What an update is taken to need beside its key where a replica's updates are read in parts of about one frame.
pub const UPDATE_BYTES_ESTIMATE: usize = 36;
/// What an update is taken to need beside its key where a message must not be longer than a frame: no update needs more.
pub const UPDATE_BYTES_MAX: usize = 48;

const _: () = {
    // An array of six; a key of less than 64 KiB behind its length; a number of 32 bits and four of 64, a byte before each.
    let largest = 1 + 3 + 5 + 4 * 9;
    assert!(UPDATE_BYTES_USUAL <= UPDATE_BYTES_ESTIMATE);
    assert!(UPDATE_BYTES_ESTIMATE <= UPDATE_BYTES_MAX);
    assert!(largest <= UPDATE_BYTES_MAX);
};

impl Update {
    /// The cell that is carried.
    pub fn cell(&self) -> Cell {
        Cell { version: self.version, p: self.p, n: self.n }
    }
}

/// What a node has of one replica, as it is sent to a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestEntry {
    /// The replica.
    pub replica: ReplicaId,
    /// Everything up to here is held, superseded or expired.
    pub watermark: Version,
    /// A checksum of the dots beyond the version vector: the versions of the cells held past the watermark. 0 when there are
    /// none.
    pub ahead: u32,
}
