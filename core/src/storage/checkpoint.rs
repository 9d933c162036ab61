//! Checkpoints: writing what changed in a table, in an order that a crash cannot make a hole of.
//!
//! Watermarks are captured first, then the cells are written, then they are made durable, and only then the watermarks are
//! written, with the checkpoint's own entry. A crash in between leaves cells newer than the watermarks: peers send some of them again, and nothing is
//! missing.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use super::marks::ReplicaMarks;
use super::numbers::Numbers;
use super::record::{
    COUNTER_PREFIX, CounterRecord, FORMAT, META_KEY, Meta, NOBODY, PAGE_PREFIX, REPLICA_PREFIX,
    Totals, encode, replica_key, wrapped,
};
use super::recover::Kept;
use super::walk::{Rejected, number_of};
use super::{Fields, Files, KvStore, Recovered, StorageError};
use crate::crdt::{PACKED_CELLS_MAX, VersionVector};
use crate::id::{NodeId, ReplicaId, Version};
use crate::mutant::mutant;
use crate::table::{DirtySet, Extent, ReplicaMark, StoredCounter, Table};
use crate::time::Timestamp;

/// How often the clock alone is worth a write to disk: well within the grace for which closed windows are kept.
const CLOCK_EVERY: Duration = Duration::from_secs(10);

/// Writes one table to one storage.
pub struct CheckpointWriter {
    pub(super) store: Box<dyn KvStore>,
    pub(super) meta: Meta,
    pub(super) numbers: Numbers,
    marks: ReplicaMarks,
    /// What the table says of replicas, to be written once the cells are durable that it vouches for.
    captured: BTreeMap<ReplicaId, ReplicaMark>,
    /// Fields of replicas that this version does not know, for those whose records are still to be written.
    pub(super) replica_fields: BTreeMap<ReplicaId, Fields>,
    /// Keys of counters that ended by a time which the last checkpoint's entry holds. They are buried in the next, when that
    /// entry is certain to stay: a clock that steps back at a crash must not find them gone and their window open.
    pub(super) ended: BTreeSet<Vec<u8>>,
    /// Pages that do not count any more, to be buried in the next checkpoint.
    pub(super) left_pages: BTreeSet<Vec<u8>>,
    /// Tombstones of the checkpoint before, to be removed in the next.
    pub(super) tombstones: BTreeSet<Vec<u8>>,
    /// The last checkpoint that is in storage, and the last one that is certain to stay there.
    written: u64,
    durable: u64,
    /// Bytes of keys and values of counters and their pages in storage.
    pub(super) live_bytes: u64,
}

impl CheckpointWriter {
    /// Goes on from what [`recover()`](super::recover()) found, and writes that down as a checkpoint of its own, since a crash
    /// may have left the last one half written. Without it, the storage must be empty.
    ///
    /// # Errors
    /// Any of the storage's.
    pub fn on(
        store: Box<dyn KvStore>,
        meta: Meta,
        recovered: Option<&Recovered>,
    ) -> Result<CheckpointWriter, StorageError> {
        let mut writer = CheckpointWriter {
            store,
            meta,
            numbers: Numbers::default(),
            marks: ReplicaMarks::default(),
            captured: BTreeMap::new(),
            replica_fields: BTreeMap::new(),
            ended: BTreeSet::new(),
            left_pages: BTreeSet::new(),
            tombstones: BTreeSet::new(),
            written: 0,
            durable: 0,
            live_bytes: 0,
        };
        if let Some(recovered) = recovered {
            writer.numbers = Numbers::of_recovered(&recovered.replicas, &recovered.named);
            writer.marks = recovered.marks.clone();
            writer.tombstones = recovered.tombstones.iter().cloned().collect();
            writer.live_bytes = recovered.live_bytes;
        }
        writer.store.sync()?;
        writer.write_marks()?;
        // Before a clock that was lowered: by then they must vouch for nothing.
        writer.store.sync()?;
        writer.write_meta()?;
        writer.sync_meta()?;
        if let Some(recovered) = recovered {
            writer.bury(&recovered.rejected, &recovered.void_pages)?;
            let CheckpointWriter { numbers, marks, .. } = &mut writer;
            numbers.forget_left(|number| marks.get(number).is_some());
        }
        Ok(writer)
    }

    /// Begins a database in the place of another, of which it keeps what this version does not know.
    ///
    /// # Errors
    /// As [`on`](Self::on).
    pub(super) fn in_place_of(
        store: Box<dyn KvStore>,
        meta: Meta,
        kept: &Kept,
    ) -> Result<CheckpointWriter, StorageError> {
        let mut writer =
            CheckpointWriter::on(store, Meta { others: kept.meta.clone(), ..meta }, None)?;
        writer.replica_fields.clone_from(&kept.replicas);
        for (key, value) in &kept.records {
            writer.store.put(key, value)?;
        }
        Ok(writer)
    }

    /// Puts tombstones in the place of records that were rejected, and of pages that a crash left and that do not count, in a
    /// checkpoint of their own.
    fn bury(&mut self, rejected: &[Rejected], void: &[Vec<u8>]) -> Result<(), StorageError> {
        if rejected.is_empty() && void.is_empty() {
            return Ok(());
        }
        self.meta.checkpoint += 1;
        self.bury_pages(void.iter().cloned())?;
        for Rejected { key, value, crc, .. } in rejected {
            // Replicas are in no totals, and counters may still name the number.
            match (key.first(), number_of(key)) {
                (Some(&COUNTER_PREFIX | &PAGE_PREFIX), _) => {}
                (Some(&REPLICA_PREFIX), Some(_)) => {
                    self.store.put(key, &wrapped(key, NOBODY).0)?;
                    continue;
                }
                _ => {
                    self.store.remove(key)?;
                    continue;
                }
            }
            let (checkpoint, replaced) = (self.meta.checkpoint, Some(*crc));
            let (bytes, _) = encode(key, &CounterRecord { checkpoint, replaced, state: None });
            self.store.put(key, &bytes)?;
            self.live_bytes = self.live_bytes.saturating_sub(value.len() as u64);
            self.live_bytes += bytes.len() as u64;
            self.meta.totals.remove(*crc);
            self.tombstones.insert(key.clone());
        }
        self.sync_meta()?;
        self.write_meta()?;
        self.sync_meta()
    }

    /// Puts counters in the place of what they were, and buries others, in a checkpoint of their own.
    pub(super) fn correct<'a>(
        &mut self,
        changed: &[StoredCounter<'_>],
        dropped: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), StorageError> {
        self.meta.checkpoint += 1;
        changed.iter().try_for_each(|counter| self.copy(counter))?;
        for key in dropped {
            self.bury_counter(key)?;
        }
        self.sync_meta()?;
        self.write_marks()?;
        self.write_meta()?;
        self.sync_meta()
    }

    /// Makes all that the table counted before this call durable; says whether there was anything. `clock` is the latest time
    /// that was acted on.
    ///
    /// # Errors
    /// Any of the storage's. The table's changes are then no longer marked as unwritten, so this must not be called again:
    /// what is on disk is as of the checkpoint before.
    pub fn write(&mut self, table: &Table, clock: Timestamp) -> Result<bool, StorageError> {
        if self.written > self.durable {
            // Records must never be newer than a checkpoint entry by two: the totals could then not be verified.
            self.sync_meta()?;
        }
        if clock.since(self.meta.clock) >= CLOCK_EVERY {
            // Before what was counted by it: were only that durable, a node whose clock jumped ahead would have counters of a
            // time to come, and a mark that does not show it.
            self.meta.clock = clock;
            self.write_meta()?;
            self.sync_meta()?;
        }
        for number in self.numbers.take_unused() {
            self.store.remove(&replica_key(number))?;
        }
        // Before what they bring about.
        let wrote_entries = self.write_entries(table)?;
        table.harvest(DirtySet::All);
        // First what is forgotten: a replica may have come back since.
        for replica in table.take_forgotten() {
            self.captured.remove(&replica);
            self.numbers.forget(replica);
        }
        let captured = table.take_replica_marks().into_iter();
        self.captured.extend(captured.map(|mark| (mark.replica.clone(), mark)));
        if mutant!(WatermarkBeforeCells) {
            self.set_captured()?;
            self.write_marks()?;
            self.write_meta()?;
            self.sync_meta()?;
        }
        self.remove_tombstones()?;
        self.meta.checkpoint += 1;
        let ended = core::mem::take(&mut self.ended);
        let left_pages = core::mem::take(&mut self.left_pages);
        let mut wrote = wrote_entries || !ended.is_empty() || !left_pages.is_empty();
        for key in ended {
            self.bury_counter(&key)?;
        }
        self.bury_pages(left_pages)?;
        let mut is_cut = false;
        table.take_unpersisted(|part| {
            wrote |= !part.changed.is_empty() || !part.dropped.is_empty();
            is_cut |= part.is_cut;
            self.ended.extend(part.dropped.iter().map(|key| key.to_vec()));
            part.changed.iter().try_for_each(|changed| self.put(&changed.counter, changed.extent))
        })?;
        if !is_cut {
            self.set_captured()?;
        }
        for number in self.numbers.take_unnamed() {
            self.marks.remove(number);
        }
        if !wrote && !self.marks.are_changed() {
            return Ok(false);
        }
        self.sync_meta()?;
        self.meta.clock = self.meta.clock.max(clock);
        self.write_marks()?;
        self.write_meta()?;
        Ok(wrote)
    }

    /// Writes down one counter with all its cells, which is not a table's; [`finish_copy`](Self::finish_copy) follows.
    pub(super) fn copy(&mut self, counter: &StoredCounter<'_>) -> Result<(), StorageError> {
        let is_small = counter.state.cells.len() <= PACKED_CELLS_MAX;
        self.put(counter, if is_small { Extent::Whole } else { Extent::Changes })
    }

    /// Ends a copy: names these replicas, vouches for these watermarks, and makes all of it durable.
    pub(super) fn finish_copy<'a>(
        &mut self,
        replicas: impl IntoIterator<Item = &'a ReplicaId>,
        watermarks: &VersionVector,
        clock: Timestamp,
    ) -> Result<(), StorageError> {
        self.name(replicas)?;
        let marks = watermarks.iter().map(|(replica, watermark)| {
            let (replica, end) = (replica.clone(), Timestamp(0));
            (replica.clone(), ReplicaMark { replica, watermark, end })
        });
        self.captured.extend(marks);
        self.set_captured()?;
        self.meta.clock = clock;
        self.sync_meta()?;
        self.write_marks()?;
        self.write_meta()?;
        self.sync_meta()
    }

    /// Makes the last checkpoint's own entry durable. [`write`](Self::write) leaves that to a moment when no caller waits: its
    /// cells are durable already, and a crash before this costs a resync only.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn sync_meta(&mut self) -> Result<(), StorageError> {
        self.store.sync()?;
        self.durable = self.written;
        Ok(())
    }

    /// Whether a rewrite would give back much disk space.
    ///
    /// # Errors
    /// When the storage cannot be measured.
    pub fn is_wasteful(&self) -> Result<bool, StorageError> {
        self.store.is_wasteful(self.live_bytes)
    }

    /// Copies what is in storage into a new database, which then takes the place of the present one.
    ///
    /// # Errors
    /// As [`write`](Self::write); the present database is then as it was.
    pub fn moved(mut self, files: &mut dyn Files) -> Result<CheckpointWriter, StorageError> {
        let mut copy = files.begin_database()?;
        let mut written = Ok(());
        self.store.scan(&[], &mut |key, value| {
            if written.is_ok() {
                written = copy.put(key, value).map(drop);
            }
        })?;
        written?;
        copy.sync()?;
        self.store = copy;
        self.installed(files)
    }

    /// Puts the storage, a database that was begun beside the present one and is synced, in the place of that.
    ///
    /// # Errors
    /// When the file system returns an error.
    pub fn installed(self, files: &mut dyn Files) -> Result<CheckpointWriter, StorageError> {
        let CheckpointWriter { store, .. } = self;
        drop(store);
        Ok(CheckpointWriter { store: files.install_database()?, ..self })
    }

    /// The storage, for records that no checkpoint counts.
    pub(super) fn store_mut(&mut self) -> &mut dyn KvStore {
        &mut *self.store
    }

    /// The storage that it wrote to.
    pub(super) fn into_store(self) -> Box<dyn KvStore> {
        self.store
    }

    /// Number of the last checkpoint that was begun.
    pub fn checkpoint(&self) -> u64 {
        self.meta.checkpoint
    }

    /// The last checkpoint that is certain to be found again.
    pub fn durable(&self) -> u64 {
        self.durable
    }

    fn set_captured(&mut self) -> Result<(), StorageError> {
        let mut captured = core::mem::take(&mut self.captured);
        captured.retain(|_, mark| mark.watermark > Version::ZERO || mark.end > Timestamp(0));
        self.name(captured.keys())?;
        for (replica, ReplicaMark { watermark, end, .. }) in captured {
            if let Some(number) = self.numbers.get(&replica) {
                self.marks.set(number, watermark, end.0.div_ceil(1_000));
            }
        }
        Ok(())
    }

    fn write_marks(&mut self) -> Result<(), StorageError> {
        self.marks.write(&mut *self.store)
    }

    fn write_meta(&mut self) -> Result<(), StorageError> {
        let (bytes, _) = encode(META_KEY, &self.meta);
        self.store.put(META_KEY, &bytes)?;
        self.written = self.meta.checkpoint;
        Ok(())
    }
}

impl Meta {
    /// What a new database begins with.
    pub fn first(node: NodeId, checkpoint: u64) -> Meta {
        Meta {
            format: FORMAT,
            node,
            checkpoint,
            totals: Totals::default(),
            clock: Timestamp(0),
            next_replica: 0,
            watermarks: Vec::new(),
            ends: Vec::new(),
            others: Fields::default(),
        }
    }
}
