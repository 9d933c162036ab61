//! An examination of a data directory that no process uses.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::inspect::{Contents, counter_state};
use crate::storage::{self, Finding, StorageError};
use tallymesh_core::id::Version;
use tallymesh_core::table::{CounterState, ReadCounter, StoredCounter};
use tallymesh_core::time::Timestamp;

/// What an examination of a data directory found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckReport {
    /// What can be read. Where nothing tells, the node's name is empty and numbers are 0; of a damaged counter, cells may be
    /// missing. Not to be relied upon unless there is no damage.
    pub contents: Contents,
    /// How many records the database holds, damaged ones included.
    pub records: u64,
    /// How many of them are tombstones: counters that ended, until the next checkpoint removes them.
    pub tombstones: u64,
    /// Everything that is wrong, one entry for each damaged piece.
    pub damage: Vec<Finding>,
    /// Databases that were set aside earlier, with their size in bytes. They are no damage; delete them when done with them.
    pub kept_aside: Vec<(PathBuf, u64)>,
}

/// Examines a data directory: identity, every record, the totals of the last checkpoint, and that the database did not lose its
/// end. Goes on past damage, and changes nothing but the directory's `LOCK`. The database is copied for this into the
/// system's directory for temporary files, which needs room for it.
///
/// # Errors
/// When there is no data directory, a process holds it, or its files cannot be copied. Damage is no error.
pub fn check(data_dir: impl AsRef<Path>) -> Result<CheckReport, StorageError> {
    let checked = storage::check(data_dir.as_ref())?;
    let (identity, meta) = (checked.identity, checked.meta);
    let node = meta.as_ref().map(|meta| meta.node.as_str().to_owned());
    let node = node.or_else(|| identity.as_ref().map(|identity| identity.node.clone()));
    let format = meta.as_ref().map(|meta| meta.format);
    let watermarks: BTreeMap<u32, Version> =
        meta.iter().flat_map(|meta| meta.watermarks.iter().copied()).collect();
    let replicas = checked.replicas.into_iter().map(|(number, replica)| {
        let watermark = watermarks.get(&number).copied().unwrap_or_default();
        (replica, watermark)
    });
    let mut counters: Vec<_> = checked.counters.iter().filter_map(as_state).collect();
    counters.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(CheckReport {
        contents: Contents {
            node: node.unwrap_or_default(),
            boot: identity.as_ref().map_or(0, |identity| identity.boot),
            format: format.or(identity.as_ref().map(|identity| identity.format)).unwrap_or(0),
            checkpoint: meta.as_ref().map_or(0, |meta| meta.epoch),
            clock: meta.as_ref().map_or(Timestamp(0), |meta| meta.clock),
            replicas: replicas.collect(),
            counters,
        },
        records: checked.records,
        tombstones: checked.tombstones,
        damage: checked.damage,
        kept_aside: checked.aside,
    })
}

fn as_state(stored: &StoredCounter) -> Option<CounterState> {
    let cells: Vec<_> = stored.cells.iter().map(|(replica, cell)| (replica, *cell)).collect();
    let (generation, expires_at) = (stored.generation, stored.expires_at);
    counter_state(&ReadCounter { key: &stored.key, generation, expires_at, cells: &cells })
}
