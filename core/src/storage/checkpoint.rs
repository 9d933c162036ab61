//! Checkpoints: writing what changed in a table, in an order that a crash cannot make a hole of.
//!
//! Watermarks are captured first, then the cells are written, then they are made durable, and only then the watermarks are
//! written. A crash in between leaves cells newer than the watermarks: peers send some of them again, and nothing is
//! missing.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use super::record::{
    COUNTER_PREFIX, CounterRecord, FORMAT, META_KEY, Meta, NOBODY, ReplicaRecord, StateRecord,
    Totals, counter_key, decode, encode, replica_key, wrapped,
};
use super::recover::Kept;
use super::walk::{Rejected, number_of};
use super::{Fields, Files, KvStore, Recovered, StorageError};
use crate::crdt::VersionVector;
use crate::id::{NodeId, ReplicaId, Version};
use crate::mutant::mutant;
use crate::table::{AtRest, DirtySet, StoredCounter, Table};
use crate::time::Timestamp;

/// How often the clock alone is worth a write to disk: well within the grace for which closed windows are kept.
const CLOCK_EVERY: Duration = Duration::from_secs(10);

/// Writes one table to one storage.
pub struct CheckpointWriter {
    store: Box<dyn KvStore>,
    meta: Meta,
    replicas: BTreeMap<ReplicaId, Numbered>,
    /// Fields of replicas that this version does not know, for those whose records are still to be written.
    replica_fields: BTreeMap<ReplicaId, Fields>,
    /// Keys of counters that ended by a time which the last checkpoint's entry holds. They are buried in the next, when that
    /// entry is certain to stay: a clock that steps back at a crash must not find them gone and their window open.
    ended: BTreeSet<Vec<u8>>,
    /// Tombstones of the checkpoint before, to be removed in the next.
    tombstones: BTreeSet<Vec<u8>>,
    /// The last checkpoint that is in storage, and the last one that is certain to stay there.
    written: u64,
    durable: u64,
    /// Bytes of keys and values in storage.
    live_bytes: u64,
}

/// A replica in this database.
#[derive(Debug, Clone, Copy)]
struct Numbered {
    number: u32,
    /// When the last counter ends that holds, or held, a cell of it, in seconds since 1970.
    end_s: u64,
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
            replicas: BTreeMap::new(),
            replica_fields: BTreeMap::new(),
            ended: BTreeSet::new(),
            tombstones: BTreeSet::new(),
            written: 0,
            durable: 0,
            live_bytes: 0,
        };
        if let Some(recovered) = recovered {
            let ends: BTreeMap<u32, u64> = writer.meta.ends.iter().copied().collect();
            let numbers = recovered.replicas.iter().map(|(number, replica)| {
                let end_s = ends.get(number).copied().unwrap_or_default();
                (replica.clone(), Numbered { number: *number, end_s })
            });
            writer.replicas = numbers.collect();
            writer.tombstones = recovered.tombstones.iter().cloned().collect();
            writer.live_bytes = recovered.live_bytes;
        }
        writer.store.sync()?;
        writer.write_meta()?;
        writer.sync_meta()?;
        if let Some(recovered) = recovered {
            writer.bury(&recovered.rejected)?;
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

    /// Puts tombstones in the place of records that were rejected, in a checkpoint of their own.
    fn bury(&mut self, rejected: &[Rejected]) -> Result<(), StorageError> {
        if rejected.is_empty() {
            return Ok(());
        }
        self.meta.checkpoint += 1;
        for Rejected { key, crc, .. } in rejected {
            if key.first() != Some(&COUNTER_PREFIX) {
                // Replicas are in no totals, and counters may still name the number.
                match number_of(key) {
                    Some(_) => _ = self.store.put(key, &wrapped(key, NOBODY).0)?,
                    None => self.store.remove(key)?,
                }
                continue;
            }
            let (checkpoint, replaced) = (self.meta.checkpoint, Some(*crc));
            let (bytes, _) = encode(key, &CounterRecord { checkpoint, replaced, state: None });
            self.store.put(key, &bytes)?;
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
        changed.iter().try_for_each(|counter| self.put(counter))?;
        for key in dropped {
            self.put_counter(key, None)?;
        }
        self.sync_meta()?;
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
        table.harvest(DirtySet::All);
        let watermarks = table.version_vector();
        if mutant!(WatermarkBeforeCells) {
            self.meta.watermarks = self.numbered(&watermarks)?;
            self.write_meta()?;
            self.sync_meta()?;
        }
        for tombstone in core::mem::take(&mut self.tombstones) {
            self.store.remove(&tombstone)?;
        }
        self.meta.checkpoint += 1;
        let ended = core::mem::take(&mut self.ended);
        let mut wrote = !ended.is_empty();
        for key in ended {
            self.put_counter(&key, None)?;
        }
        table.take_unpersisted(|part| {
            wrote |= !part.changed.is_empty() || !part.dropped.is_empty();
            self.ended.extend(part.dropped.iter().map(|key| key.to_vec()));
            part.changed.iter().try_for_each(|counter| self.put(counter))
        })?;
        let watermarks = self.numbered(&watermarks)?;
        let clock_is_due = clock.since(self.meta.clock) >= CLOCK_EVERY;
        if !wrote && watermarks == self.meta.watermarks && !clock_is_due {
            return Ok(false);
        }
        self.sync_meta()?;
        self.meta.watermarks = watermarks;
        self.meta.clock = self.meta.clock.max(clock);
        self.write_meta()?;
        Ok(wrote)
    }

    /// Writes down one counter of another database, before there is any table; [`finish_copy`](Self::finish_copy) follows.
    pub(super) fn copy(&mut self, counter: &StoredCounter<'_>) -> Result<(), StorageError> {
        self.put(counter)
    }

    /// Ends a copy: names these replicas, vouches for these watermarks, and makes all of it durable.
    pub(super) fn finish_copy<'a>(
        &mut self,
        replicas: impl IntoIterator<Item = &'a ReplicaId>,
        watermarks: &VersionVector,
        clock: Timestamp,
    ) -> Result<(), StorageError> {
        for replica in replicas {
            self.replica_number(replica)?;
        }
        self.meta.watermarks = self.numbered(watermarks)?;
        self.meta.clock = clock;
        self.sync_meta()?;
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

    /// The watermarks that are worth a record, by the replicas' numbers.
    fn numbered(&mut self, vector: &VersionVector) -> Result<Vec<(u32, Version)>, StorageError> {
        let with_updates = vector.iter().filter(|(_, watermark)| *watermark > Version::ZERO);
        with_updates
            .map(|(replica, watermark)| Ok((self.replica_number(replica)?, watermark)))
            .collect()
    }

    fn write_meta(&mut self) -> Result<(), StorageError> {
        let ends = self.replicas.values().filter(|replica| replica.end_s > 0);
        self.meta.ends = ends.map(|replica| (replica.number, replica.end_s)).collect();
        let (bytes, _) = encode(META_KEY, &self.meta);
        self.store.put(META_KEY, &bytes)?;
        self.written = self.meta.checkpoint;
        Ok(())
    }

    fn put(&mut self, counter: &StoredCounter<'_>) -> Result<(), StorageError> {
        // A counter may come back between two checkpoints.
        self.ended.remove(&*counter.key);
        let end_s = counter.end_s();
        let mut cells = Vec::with_capacity(counter.state.cells.len());
        for (replica, cell) in &*counter.state.cells {
            let number = self.replica_number(replica)?;
            if let Some(numbered) = self.replicas.get_mut(replica) {
                numbered.end_s = numbered.end_s.max(end_s);
            }
            cells.push((number, *cell));
        }
        let AtRest { generation, marks, .. } = counter.state;
        self.put_counter(&counter.key, Some(StateRecord { generation, cells, marks }))
    }

    fn put_counter(&mut self, key: &[u8], state: Option<StateRecord>) -> Result<(), StorageError> {
        let key = counter_key(key);
        let held = self.store.get(&key)?;
        let held_bytes = held.as_ref().map_or(0, |bytes| key.len() + bytes.len());
        let held = held.and_then(|bytes| decode::<CounterRecord>(&key, &bytes).ok());
        let replaced = match &held {
            // Written earlier in this very checkpoint: what that replaced is replaced by this.
            Some((record, _)) if record.checkpoint == self.meta.checkpoint => record.replaced,
            Some((record, crc)) => record.state.is_some().then_some(*crc),
            None => None,
        };
        let live = held.filter(|(record, _)| record.state.is_some()).map(|(_, crc)| crc);
        if live.is_none() && state.is_none() {
            return Ok(());
        }
        let is_tombstone = state.is_none();
        let (bytes, crc) =
            encode(&key, &CounterRecord { checkpoint: self.meta.checkpoint, replaced, state });
        self.store.put(&key, &bytes)?;
        self.live_bytes = self.live_bytes.saturating_sub(held_bytes as u64);
        self.live_bytes += (key.len() + bytes.len()) as u64;
        if let Some(live) = live {
            self.meta.totals.remove(live);
        }
        if is_tombstone {
            self.tombstones.insert(key);
        } else {
            self.meta.totals.add(crc);
            // A counter may come back in the very checkpoint that buried it.
            self.tombstones.remove(&key);
        }
        Ok(())
    }

    fn replica_number(&mut self, replica: &ReplicaId) -> Result<u32, StorageError> {
        if let Some(Numbered { number, .. }) = self.replicas.get(replica) {
            return Ok(*number);
        }
        let number = self.meta.next_replica;
        // A new database, in which all is written after an error, begins with 0 again.
        let used_up = || StorageError::Corrupt {
            what: "all replica numbers of the database are used up".to_owned(),
            source: None,
        };
        let next = number.checked_add(1).ok_or_else(used_up)?;
        let key = replica_key(number);
        let others = self.replica_fields.remove(replica).unwrap_or_default();
        let (bytes, _) = encode(&key, &ReplicaRecord::of(replica, others));
        self.store.put(&key, &bytes)?;
        // No counter may name it before it is certain to be there. New replicas are rare.
        self.store.sync()?;
        self.meta.next_replica = next;
        self.replicas.insert(replica.clone(), Numbered { number, end_s: 0 });
        Ok(number)
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
