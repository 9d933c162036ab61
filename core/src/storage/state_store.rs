//! What a node does about its disk, from the start on: recover, write checkpoints, and begin again after the disk failed.

use std::path::PathBuf;

use super::directory::Found;
use super::progress::Progress;
use super::record::Meta;
use super::recover::Damage;
use super::{Checkpointer, DataDir, StorageError};
use crate::clock::Clock;
use tallymesh_core::id::{Incarnation, NodeId, ReplicaId};
use tallymesh_core::table::{Bounds, Restore, Table};
use tallymesh_core::time::Timestamp;

/// Keeps one table on one disk.
pub struct Persister {
    node: NodeId,
    dir: DataDir,
    /// Gone once the disk has failed, until [`begin_again`](Persister::begin_again).
    checkpointer: Option<Checkpointer>,
    /// Number of the last checkpoint that was begun.
    epoch: u64,
}

/// What a new life begins with.
pub struct Opened {
    pub persister: Persister,
    pub table: Table,
    /// No clock of this node may fall behind this.
    pub clock: Timestamp,
    /// Where a damaged database went, and what was wrong with it.
    pub set_aside: Option<(PathBuf, Damage)>,
}

impl Persister {
    /// Takes the next incarnation, durably, and fills a new table with what is stored. `random` is the incarnation's nonce and
    /// the seeds of the table's hash.
    ///
    /// # Errors
    /// When the directory is another node's or another version's, or the file system refuses. A damaged database is none:
    /// it is set aside.
    pub fn open(
        mut dir: DataDir,
        node: &NodeId,
        bounds: &Bounds,
        (nonce, seeds): (u64, [u64; 4]),
    ) -> Result<Opened, StorageError> {
        let opening = dir.open_database(node)?;
        let boot = dir.next_boot(node, &opening)?;
        let own = ReplicaId { node: node.clone(), incarnation: Incarnation { boot, nonce } };
        let mut table = Table::new(own.clone(), bounds.clone(), seeds);
        let mut restore = Restore::into(&table);
        let clock = Clock::new(Timestamp(0));
        let mut progress = Progress::begin(|| clock.monotonic());
        let found = dir.read_database(opening, Some(node), |counter| {
            restore.add(counter);
            if let Some((counters, so_far)) = progress.one_more() {
                let seconds = so_far.as_secs();
                tracing::info!(counters, seconds, "still reading the database");
            }
        })?;
        let (storage, recovered, set_aside) = match found {
            Found::Whole(storage, recovered) => {
                restore.finish(recovered.watermarks());
                (storage, Some(recovered), None)
            }
            Found::New(storage) => (storage, None, None),
            Found::Damaged(damage) => {
                table = Table::new(own, bounds.clone(), seeds);
                // Said before it is done: a crash in between must not make it silent.
                tracing::error!(
                    data_dir = %dir.path().display(),
                    %damage,
                    "the database is damaged and is set aside as db.damaged-N; starting empty and relearning the state from \
                     the peers. Check the disk; delete what was set aside when it is no longer wanted"
                );
                let (aside, storage) = dir.replace_damaged()?;
                (storage, None, Some((aside, damage)))
            }
        };
        let meta = match &recovered {
            Some(recovered) => recovered.meta.clone(),
            None => Meta::first(node.clone(), dir.noted_checkpoint()),
        };
        let clock = meta.clock;
        let checkpointer = Checkpointer::on(storage, meta, recovered.as_ref())?;
        dir.note_database()?;
        dir.note_checkpoint(checkpointer.durable_epoch())?;
        let epoch = checkpointer.epoch();
        let checkpointer = Some(checkpointer);
        let persister = Persister { node: node.clone(), dir, checkpointer, epoch };
        Ok(Opened { persister, table, clock, set_aside })
    }

    /// Whether checkpoints can be written.
    #[cfg(feature = "simulation")]
    pub fn is_durable(&self) -> bool {
        self.checkpointer.is_some()
    }

    /// Makes all that the table counted before this call durable; says whether there was anything. `clock` is the latest time that was acted on.
    ///
    /// # Errors
    /// Any of the storage's. Nothing is durable then any more: what failed may or may not be on the disk, and asking the
    /// system again would be answered as if nothing had been lost. [`begin_again`](Self::begin_again) is the way back.
    pub fn write(&mut self, table: &Table, clock: Timestamp) -> Result<bool, StorageError> {
        self.with_checkpointer(|checkpointer| checkpointer.write(table, clock))
    }

    /// Makes the last checkpoint's own entry durable, which [`write`](Self::write) leaves to a moment when nobody waits.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn settle(&mut self) -> Result<(), StorageError> {
        self.with_checkpointer(Checkpointer::settle)
    }

    /// Gives back disk space, if there is much to give; says whether there was.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn compact(&mut self) -> Result<bool, StorageError> {
        if !self.with_checkpointer(|checkpointer| checkpointer.is_wasteful())? {
            return Ok(false);
        }
        let Some(checkpointer) = self.checkpointer.take() else { return Ok(false) };
        self.checkpointer = Some(checkpointer.moved(self.dir.files())?);
        Ok(true)
    }

    /// After the disk failed: writes all that the table holds into a new database, and puts it in the place of the old one.
    /// Only what is written and synced anew is known to be there, so nothing of the old one is relied upon.
    ///
    /// # Errors
    /// When the disk still fails; to be tried again later.
    pub fn begin_again(&mut self, table: &Table, clock: Timestamp) -> Result<(), StorageError> {
        let dir = &mut self.dir;
        self.checkpointer = None;
        self.epoch += 1;
        let meta = Meta::first(self.node.clone(), self.epoch);
        let begun = dir.files().begin_database().and_then(|storage| {
            let mut checkpointer = Checkpointer::on(storage, meta, None)?;
            table.mark_all_unpersisted();
            checkpointer.write(table, clock)?;
            checkpointer.settle()?;
            checkpointer.installed(dir.files())
        });
        let checkpointer = match begun {
            Ok(checkpointer) => checkpointer,
            Err(error) => {
                dir.files().abandon_database();
                return Err(error);
            }
        };
        self.epoch = checkpointer.epoch();
        dir.note_database()?;
        dir.note_checkpoint(checkpointer.durable_epoch())?;
        self.checkpointer = Some(checkpointer);
        Ok(())
    }

    /// Runs a step of the checkpointer, and gives it up if the step fails.
    fn with_checkpointer<T>(
        &mut self,
        step: impl FnOnce(&mut Checkpointer) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let Some(checkpointer) = &mut self.checkpointer else { return Err(StorageError::GivenUp) };
        let done = step(checkpointer);
        self.epoch = checkpointer.epoch();
        let durable = checkpointer.durable_epoch();
        let noted = self.dir.note_checkpoint(durable);
        let done = done.and_then(|done| noted.map(|()| done));
        if done.is_err() {
            self.checkpointer = None;
        }
        done
    }
}
