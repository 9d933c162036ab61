//! What travels between replicas: the state of changed cells, and how far it completes the receiver's knowledge.

use serde::{Deserialize, Serialize};

use super::Cell;
use crate::id::{ReplicaId, Version};
use crate::time::Timestamp;

/// Updates of one replica, each cell at its latest state, as in Scuttlebutt reconciliation (van Renesse et al., LADIS 2008).
///
/// Deltas that belong together form a chain. A cell that changed again while the chain was sent is left out of the earlier
/// parts, since a later one brings it; so only the whole chain makes the receiver's knowledge complete, and only then its
/// watermark moves. Were it moved at each part, a crash in between would leave a hole under it that nobody fills.
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
    /// When the counter ends; 0 for a counter with a window, whose key tells.
    pub expires_at: Timestamp,
}

impl Update {
    /// The cell that is carried.
    pub fn cell(&self) -> Cell {
        Cell { version: self.version, p: self.p, n: self.n }
    }
}

/// What a node has of one replica, as it says so to a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestEntry {
    /// The replica.
    pub replica: ReplicaId,
    /// Everything up to here is held, superseded or expired.
    pub watermark: Version,
    /// Tells apart different sets of cells held past the watermark; 0 when there are none.
    pub ahead: u32,
}
