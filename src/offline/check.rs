//! An examination of a data directory that no process uses.

use std::path::{Path, PathBuf};

use tallymesh_core::storage::{Examination, Files, Finding, StorageError};
use tallymesh_core::time::Timestamp;

use super::Contents;
use crate::disk::{FileSystem, Scratch, SledStore, must_exist, without_panic};

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
    /// Databases that were set aside earlier, and the directory of rejected records, with their size in bytes. They are no
    /// damage; delete them when done with them.
    pub kept_aside: Vec<(PathBuf, u64)>,
}

/// Examines a data directory: identity, every record, the totals of the last checkpoint, and that the database did not lose its
/// end. Goes on past damage, and changes nothing but the directory's `LOCK`. The database is copied for this into the
/// system's directory for temporary files, which needs room for it.
///
/// # Errors
/// When there is no data directory, a process holds it, it has another format than this version's, or its files cannot be
/// copied. Damage is no error.
///
/// ```no_run
/// use tallymesh::{CheckReport, Consequence, Finding, check};
///
/// let CheckReport { damage, records, .. } = check("data/orchestrator-1")?;
/// for Finding { what, consequence, .. } in &damage {
///     println!("{what}: {consequence:?}");
/// }
/// let will_start = damage.iter().all(|finding| finding.consequence != Consequence::Refused);
/// println!("{records} records; the node will start: {will_start}");
/// # Ok::<(), tallymesh::StorageError>(())
/// ```
pub fn check(data_dir: impl AsRef<Path>) -> Result<CheckReport, StorageError> {
    let path = data_dir.as_ref();
    must_exist(path)?;
    let files = FileSystem::lock(path)?;
    let kept_aside = files.kept_aside()?;
    let mut examination = Examination::of(&files)?;
    match files.has_database() {
        true => examine_database(&files, path, &mut examination)?,
        false => examination.has_no_database(),
    }
    Ok(report(examination, kept_aside))
}

/// sled writes to whatever it opens, so it is given a copy.
fn examine_database(
    files: &FileSystem,
    path: &Path,
    examination: &mut Examination,
) -> Result<(), StorageError> {
    let scratch = Scratch::new()?;
    let copy = scratch.path().join("db");
    files.copy_database(&copy)?;
    match SledStore::open(&copy) {
        Ok(store) => {
            let read = examination.read_database(&store);
            // sled may panic once more when it lets go.
            let _ = without_panic(|| drop(store));
            read?;
        }
        Err(error) => {
            let (copy, original) = (copy.display().to_string(), path.join("db"));
            let why = error.to_string().replace(&copy, &original.display().to_string());
            examination.cannot_open(&why, error.is_corrupt());
        }
    }
    Ok(())
}

fn report(examination: Examination, kept_aside: Vec<(PathBuf, u64)>) -> CheckReport {
    let Examination { identity, meta, replicas, watermarks, mut counters, .. } = examination;
    let Examination { entries: operator, records, tombstones, damage, .. } = examination;
    counters.sort_by(|a, b| a.key.cmp(&b.key));
    let node = meta.as_ref().map(|meta| meta.node.as_str().to_owned());
    let node = node.or_else(|| identity.as_ref().map(|identity| identity.node.clone()));
    let format = meta.as_ref().map(|meta| meta.format);
    let replicas = replicas
        .into_iter()
        .map(|(number, replica)| (replica, watermarks.get(&number).copied().unwrap_or_default()));
    CheckReport {
        contents: Contents {
            node: node.unwrap_or_default(),
            boot: identity.as_ref().map_or(0, |identity| identity.boot),
            format: format.or(identity.as_ref().map(|identity| identity.format)).unwrap_or(0),
            checkpoint: meta.as_ref().map_or(0, |meta| meta.checkpoint),
            clock: meta.as_ref().map_or(Timestamp(0), |meta| meta.clock),
            replicas: replicas.collect(),
            operator,
            counters,
        },
        records,
        tombstones,
        damage,
        kept_aside,
    }
}
