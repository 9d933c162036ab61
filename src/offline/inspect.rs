//! A look into a data directory that no process uses.

use std::collections::BTreeMap;
use std::path::Path;

use tallymesh_core::id::{ReplicaId, Version};
use tallymesh_core::operator::OperatorEntry;
use tallymesh_core::storage::StorageError;
use tallymesh_core::table::CounterState;
use tallymesh_core::time::Timestamp;

use crate::disk;

/// What a closed data directory holds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Contents {
    /// The node's name.
    pub node: String,
    /// How often the node has started on the directory.
    pub boot: u64,
    /// The version of the disk format.
    pub format: u32,
    /// Number of the last checkpoint.
    pub checkpoint: u64,
    /// The latest time that was acted on as of the last checkpoint.
    pub clock: Timestamp,
    /// Every replica, the node's own incarnations included, with its watermark.
    pub replicas: Vec<(ReplicaId, Version)>,
    /// What the operator said.
    pub operator: Vec<OperatorEntry>,
    /// Every counter, by key.
    pub counters: Vec<CounterState>,
}

/// Reads a data directory and checks every record in it. [`check`](crate::check()) reads a damaged one too.
///
/// # Errors
/// When there is no data directory, a process holds it, or what is in it is damaged.
///
/// ```no_run
/// use tallymesh::{Contents, inspect};
///
/// let Contents { node, checkpoint, counters, .. } = inspect("data/orchestrator-1")?;
/// println!("{node}, checkpoint {checkpoint}: {} counters", counters.len());
/// # Ok::<(), tallymesh::StorageError>(())
/// ```
pub fn inspect(data_dir: impl AsRef<Path>) -> Result<Contents, StorageError> {
    let mut dir = disk::open_existing(data_dir.as_ref())?;
    let mut counters = Vec::new();
    let recovered = dir.read(|stored| counters.extend(stored.to_state()))?;
    counters.sort_by(|a, b| a.key.cmp(&b.key));
    let watermarks: BTreeMap<_, _> =
        recovered.marks().map(|mark| (mark.replica, mark.watermark)).collect();
    let replicas = recovered.replicas.values().cloned().map(|replica| {
        let watermark = watermarks.get(&replica).copied().unwrap_or_default();
        (replica, watermark)
    });
    Ok(Contents {
        operator: recovered.entries.clone(),
        node: recovered.meta.node.as_str().to_owned(),
        boot: dir.identity().map_or(0, |identity| identity.boot),
        format: recovered.meta.format,
        checkpoint: recovered.checkpoint,
        clock: recovered.clock(),
        replicas: replicas.collect(),
        counters,
    })
}
