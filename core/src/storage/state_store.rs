//! What a node does about its disk, from the start on: recover, write checkpoints, and rebuild the database after the disk
//! failed.

use alloc::string::String;
use alloc::vec::Vec;

use super::directory::Found;
use super::members::StoredMembers;
use super::record::Meta;
use super::recover::{Damage, Kept};
use super::rejected::report;
use super::{CarriedOver, CarryOver, CheckpointWriter, DataDir, StorageError};
use crate::gossip::KnownMember;
use crate::id::{Incarnation, NodeId, ReplicaId};
use crate::table::{Bounds, Restore, Table};
use crate::time::Timestamp;

/// Keeps one table on one disk.
pub struct StateStore {
    node: NodeId,
    dir: DataDir,
    /// Gone once the disk has failed, until [`rebuild`](StateStore::rebuild).
    writer: Option<CheckpointWriter>,
    /// What a newer version wrote, to be kept in a new database too.
    kept: Kept,
    members: StoredMembers,
    /// Number of the last checkpoint that was begun.
    checkpoint: u64,
}

/// What a start brings along: the core knows neither the time nor random numbers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Start {
    /// The system's time.
    pub clock: Timestamp,
    /// The new incarnation's nonce.
    pub nonce: u64,
    /// The seeds of the table's hash.
    pub hash_seeds: [u64; 4],
}

/// What a new incarnation begins with.
#[non_exhaustive]
pub struct Opened {
    /// The way to the disk.
    pub store: StateStore,
    /// All counters that were on it.
    pub table: Table,
    /// The members of the cluster as of when the node ran last.
    pub members: Vec<KnownMember>,
    /// No clock of this node may fall behind this.
    pub clock: Timestamp,
    /// What a damaged database is called now, and what was wrong with it.
    pub set_aside: Option<(String, Damage)>,
}

/// What the shell is told while a store opens.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenEvent<'a> {
    /// One more counter has been read. Reading a million takes seconds, so that a person may want to hear of it.
    CounterRead,
    /// The database is about to be set aside. Said *before* it is done: a crash in between must not make it silent.
    SettingAside {
        /// The data directory.
        place: &'a str,
        /// What is wrong with the database.
        damage: &'a Damage,
    },
    /// The database had an earlier format, and has the present one now.
    CarriedOver(CarriedOver),
    /// A record that no version writes is left out; what it may have held is learned from the peers.
    Rejected {
        /// Which record it is.
        what: &'a str,
        /// What is wrong with it.
        why: &'a str,
        /// Where the copy of it is; `None` if there are too many copies already.
        copy: Option<&'a str>,
    },
}

impl StateStore {
    /// Takes the next incarnation, durably, and fills a new table with what is stored. A database of an earlier format is carried
    /// over by `rules`. `tell` is called as things happen.
    ///
    /// # Errors
    /// When the directory is another node's or another version's, or the file system returns an error. A damaged database is none:
    /// it is set aside.
    pub fn open(
        mut dir: DataDir,
        node: &NodeId,
        bounds: &Bounds,
        rules: &CarryOver<'_>,
        Start { clock, nonce, hash_seeds: seeds }: Start,
        mut tell: impl FnMut(OpenEvent<'_>),
    ) -> Result<Opened, StorageError> {
        let opening = dir.open_database(node)?;
        let boot = dir.next_boot(node, &opening, clock)?;
        let (opening, carried) = dir.carry_over(node, opening, rules)?;
        carried.into_iter().for_each(|carried| tell(OpenEvent::CarriedOver(carried)));
        let own = ReplicaId { node: node.clone(), incarnation: Incarnation { boot, nonce } };
        let mut table = Table::new(own.clone(), bounds.clone(), seeds);
        let mut restore = Restore::into(&table);
        let found = dir.read_database(opening, Some(node), |counter| {
            restore.add(&counter);
            tell(OpenEvent::CounterRead);
        })?;
        dir.adopt_format()?;
        let (storage, recovered, set_aside) = match found {
            Found::Whole(storage, recovered) => {
                restore.finish(recovered.marks());
                table.restore_entries(recovered.meta.clock.max(clock), recovered.entries.clone());
                (storage, Some(recovered), None)
            }
            Found::New(storage) => (storage, None, None),
            Found::Damaged(damage) => {
                table = Table::new(own, bounds.clone(), seeds);
                tell(OpenEvent::SettingAside { place: dir.place(), damage: &damage });
                let (aside, storage) = dir.replace_damaged()?;
                (storage, None, Some((aside, damage)))
            }
        };
        let meta = match &recovered {
            Some(recovered) => recovered.meta.clone(),
            None => Meta::first(node.clone(), dir.noted_checkpoint()),
        };
        let clock = meta.clock;
        let kept = recovered.as_ref().map(|recovered| recovered.kept.clone()).unwrap_or_default();
        if let Some(recovered) = &recovered {
            // Before anything takes their place.
            report(&recovered.rejected, dir.files(), &mut tell)?;
        }
        let mut writer = CheckpointWriter::on(storage, meta, recovered.as_deref())?;
        let stored = StoredMembers::read(writer.store_mut(), &mut tell)?;
        let members = stored.known();
        dir.note_database()?;
        dir.note_checkpoint(writer.durable())?;
        let checkpoint = writer.checkpoint();
        let writer = Some(writer);
        let node = node.clone();
        let store = StateStore { node, dir, writer, kept, members: stored, checkpoint };
        Ok(Opened { store, table, members, clock, set_aside })
    }

    /// Whether checkpoints can be written.
    pub fn is_durable(&self) -> bool {
        self.writer.is_some()
    }

    /// Makes all that the table counted before this call durable; says whether there was anything. `clock` is the latest time that was acted on.
    ///
    /// # Errors
    /// Any of the storage's. Nothing is durable then any more: what failed may or may not be on the disk, and asking the
    /// system again would be answered as if nothing had been lost. [`rebuild`](Self::rebuild) is the way back.
    pub fn write(&mut self, table: &Table, clock: Timestamp) -> Result<bool, StorageError> {
        let mut members = core::mem::take(&mut self.members);
        let written = self.with_writer(|writer| {
            // Hints, which no checkpoint is written for.
            members.write(writer.store_mut())?;
            writer.write(table, clock)
        });
        self.members = members;
        written
    }

    /// Has the table [go on as another replica](Table::reincarnate), once its boot number is durable; returns the former one.
    ///
    /// # Errors
    /// When the file system returns an error; then nothing has changed, and it is to be tried again.
    pub fn reincarnate(
        &mut self,
        table: &Table,
        clock: Timestamp,
    ) -> Result<ReplicaId, StorageError> {
        let boot = self.dir.next_boot_while_open(&self.node, clock)?;
        Ok(table.reincarnate(boot))
    }

    /// These are the members of the cluster from now on. They are written with the next checkpoint, but for when each was heard,
    /// which is written now and then.
    pub fn set_members(&mut self, members: &[KnownMember]) {
        self.members.set(members);
    }

    /// Makes the last checkpoint's own entry durable, which [`write`](Self::write) leaves to a moment when no caller waits.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn sync_meta(&mut self) -> Result<(), StorageError> {
        self.with_writer(CheckpointWriter::sync_meta)
    }

    /// Gives back disk space, if there is much to give; says whether there was.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn compact(&mut self) -> Result<bool, StorageError> {
        if !self.with_writer(|writer| writer.is_wasteful())? {
            return Ok(false);
        }
        let Some(writer) = self.writer.take() else { return Ok(false) };
        self.writer = Some(writer.moved(self.dir.files())?);
        Ok(true)
    }

    /// After the disk failed: writes all that the table holds into a new database, and puts it in the place of the old one.
    /// Only what is written and synced again is known to be there, so nothing in the old one is relied upon.
    ///
    /// # Errors
    /// When the disk still fails; to be tried again later.
    pub fn rebuild(&mut self, table: &Table, clock: Timestamp) -> Result<(), StorageError> {
        let (dir, kept, members) = (&mut self.dir, &self.kept, &mut self.members);
        self.writer = None;
        self.checkpoint += 1;
        let meta = Meta::first(self.node.clone(), self.checkpoint);
        let begun = dir.files().begin_database().and_then(|storage| {
            let mut writer = CheckpointWriter::in_place_of(storage, meta, kept)?;
            table.mark_all_unpersisted();
            members.forget_written();
            members.write(writer.store_mut())?;
            writer.write(table, clock)?;
            writer.sync_meta()?;
            writer.installed(dir.files())
        });
        let writer = match begun {
            Ok(writer) => writer,
            Err(error) => {
                dir.files().abandon_database();
                return Err(error);
            }
        };
        self.checkpoint = writer.checkpoint();
        dir.note_database()?;
        dir.note_checkpoint(writer.durable())?;
        self.writer = Some(writer);
        Ok(())
    }

    /// Runs a step of the writer, and gives it up if the step fails.
    fn with_writer<T>(
        &mut self,
        step: impl FnOnce(&mut CheckpointWriter) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let Some(writer) = &mut self.writer else { return Err(StorageError::GivenUp) };
        let done = step(writer);
        self.checkpoint = writer.checkpoint();
        let durable = writer.durable();
        let noted = self.dir.note_checkpoint(durable);
        let done = done.and_then(|done| noted.map(|()| done));
        if done.is_err() {
            self.writer = None;
        }
        done
    }
}
