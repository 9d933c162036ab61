//! What travels between replicas: the state of changed cells, and how far it completes the receiver's knowledge.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::{Cell, Marks};
use crate::id::{ReplicaId, Version};
use crate::key::ends_of;
use crate::time::Timestamp;

/// Updates of one replica, each cell at its latest state, as in Scuttlebutt reconciliation (van Renesse et al., LADIS 2008).
///
/// Deltas that belong together form a chain. A cell that changed again while the chain was sent is left out of the earlier
/// parts, since a later one brings it; so only the whole chain makes the receiver's knowledge complete, and only then its
/// watermark moves. Were it moved at each part, a crash in between would leave a hole under it that is never filled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// Whose cells these are.
    #[serde(rename = "r", with = "crate::id::replica_form")]
    pub replica: ReplicaId,
    /// Where the chain begins: at the receiver's watermark, or below.
    #[serde(rename = "f")]
    pub from: Version,
    /// Tells the chain from others: a mark of the link in the upper half, a number in the lower.
    #[serde(rename = "c")]
    pub chain: u32,
    /// Number of this part in the chain, from 0.
    #[serde(rename = "p")]
    pub part: u32,
    /// In the last part: everything up to here is then held, superseded or expired.
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    pub watermark: Option<Version>,
    /// In the last part: the latest time that anyone acted on who has vouched for the watermark, the sender included. What
    /// ended a grace before that may be missing.
    #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<Timestamp>,
    /// In the last part of a chain about another replica than the sender: whose cells began the newer generations of counters at
    /// the sender of late, and the last version of each that did. What they superseded is not in the chain, so the watermark can be
    /// believed only by who has these replicas up to there; else, were they and the sender lost, no node would have the
    /// generation, and a node that has the older cells would keep them for itself.
    #[serde(rename = "g", default, skip_serializing_if = "Vec::is_empty")]
    pub begun: Vec<Begun>,
    /// The cells.
    #[serde(rename = "u")]
    pub updates: Vec<Update>,
}

/// A replica whose cells began counters' newer generations, and the last version that did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun(#[serde(with = "crate::id::replica_form")] pub ReplicaId, pub Version);

impl Begun {
    /// The most bytes that it takes in a message.
    pub fn bytes_max(&self) -> usize {
        // Two arrays, a text behind its length, three numbers of 64 bits.
        self.0.node.as_str().len() + 2 + 3 + 3 * 9
    }
}

/// One cell of one counter, as sent to a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// The counter's key in its byte form.
    pub key: Vec<u8>,
    /// The cell's version.
    pub version: Version,
    /// The counter's generation.
    pub generation: u32,
    /// Added.
    pub p: u64,
    /// Subtracted.
    pub n: u64,
    /// The counter's three numbers that only grow.
    pub marks: Marks,
}

/// What an update of usual numbers takes in a frame beside its key, at most; a test of the frames keeps it true. No code
/// counts on it.
pub const UPDATE_BYTES_USUAL: usize = 26;
/// What an update is taken to need beside its key where a replica's updates are read in parts of about one frame.
pub const UPDATE_BYTES_ESTIMATE: usize = 40;
/// What an update is taken to need beside its key where a message must not be longer than a frame: no update needs more.
pub const UPDATE_BYTES_MAX: usize = 64;

const _: () = {
    // An array of eight; a key of less than 64 KiB behind its length; a number of 32 bits and six of 64, a byte before each.
    let largest = 1 + 3 + 5 + 6 * 9;
    assert!(UPDATE_BYTES_USUAL <= UPDATE_BYTES_ESTIMATE);
    assert!(UPDATE_BYTES_ESTIMATE <= UPDATE_BYTES_MAX);
    assert!(largest <= UPDATE_BYTES_MAX);
};

impl Update {
    /// When its counter ends, as all nodes reckon; `None` if its key is none.
    pub fn ends(&self) -> Option<Timestamp> {
        Some(ends_of(&self.key).ok()?.end(self.marks.at, self.marks.p0))
    }

    /// The cell that is carried.
    pub fn cell(&self) -> Cell {
        Cell { version: self.version, p: self.p, n: self.n }
    }
}

/// What a node has of one replica, as it is sent to a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestEntry {
    /// The replica.
    #[serde(rename = "r", with = "crate::id::replica_form")]
    pub replica: ReplicaId,
    /// Everything up to here is held, superseded or expired.
    #[serde(rename = "w")]
    pub watermark: Version,
    /// A checksum of the dots beyond the version vector: the versions of the cells held past the watermark. 0 when there are
    /// none.
    #[serde(rename = "a", default, skip_serializing_if = "is_zero")]
    pub ahead: u32,
    /// When the last counter ends that holds, or held, a cell of it. A grace after that, it may be forgotten.
    #[serde(rename = "e", default, skip_serializing_if = "is_zero")]
    pub end: Timestamp,
}

fn is_zero<N: PartialEq + Default>(number: &N) -> bool {
    *number == N::default()
}
