//! What travels between replicas: the state of changed cells, and how far it completes the receiver's knowledge.

use serde::{Deserialize, Serialize};

use super::Cell;
use crate::id::{ReplicaId, Version};
use crate::time::Timestamp;

/// Updates of one replica, each cell at its latest state, as in Scuttlebutt reconciliation (van Renesse et al., LADIS 2008).
///
/// Deltas that belong together form a chain: each begins where the one before ended, and the last one carries the
/// watermark. A cell that changed again while the chain was sent is left out of the earlier deltas, since a later one
/// brings it; so only the whole chain makes the receiver's knowledge complete, and only its end moves the watermark. Were
/// it moved at each part, a crash in between would leave a hole under it that nobody fills.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// Whose cells these are.
    pub replica: ReplicaId,
    /// Where this delta begins: the receiver's watermark, or the end of the delta before.
    pub from: Version,
    /// Where the next delta of the chain begins.
    pub to: Version,
    /// At the end of the chain: everything up to here is now held, superseded or expired. `None`: more follows.
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
