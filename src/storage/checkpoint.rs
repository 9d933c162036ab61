//! Checkpoints: writing what changed in a table, in an order that a crash cannot make a hole of.
//!
//! Watermarks are captured first, then the cells are written, then they are made durable, and only then the watermarks are
//! written. A crash in between leaves cells newer than the watermarks: peers send some of them again, and nothing is
//! missing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::record::{
    CounterRecord, CounterStateRecord, FORMAT, META_KEY, Meta, Totals, counter_key, decode, encode,
    replica_key,
};
use super::{Files, Recovered, Storage, StorageError};
use tallymesh_core::crdt::VersionVector;
use tallymesh_core::id::{NodeId, ReplicaId, Version};
use tallymesh_core::table::{DirtySet, StoredCounter, Table};
use tallymesh_core::time::Timestamp;

/// How often the clock alone is worth a write to disk: well within the grace for which closed windows are kept.
const CLOCK_EVERY: Duration = Duration::from_secs(10);

/// Writes one table to one storage.
pub struct Checkpointer {
    storage: Box<dyn Storage>,
    meta: Meta,
    replica_numbers: BTreeMap<ReplicaId, u32>,
    /// Keys of counters that ended by a time which the last checkpoint's entry holds. They are buried in the next, when that
    /// entry is certain to stay: a clock that steps back at a crash must not find them gone and their window open.
    ended: BTreeSet<Vec<u8>>,
    /// Tombstones of the checkpoint before, to be removed in the next.
    tombstones: BTreeSet<Vec<u8>>,
    /// The last checkpoint that is in storage, and the last one that is certain to stay there.
    written_epoch: u64,
    durable_epoch: u64,
    /// Bytes of keys and values in storage.
    live_bytes: u64,
}

impl Checkpointer {
    /// Goes on from what [`recover()`](super::recover()) found, and writes that down as a checkpoint of its own, since a crash
    /// may have left the last one half written. Without it, the storage must be empty.
    ///
    /// # Errors
    /// Any of the storage's.
    pub fn on(
        storage: Box<dyn Storage>,
        meta: Meta,
        recovered: Option<&Recovered>,
    ) -> Result<Checkpointer, StorageError> {
        let mut checkpointer = Checkpointer {
            storage,
            meta,
            replica_numbers: BTreeMap::new(),
            ended: BTreeSet::new(),
            tombstones: BTreeSet::new(),
            written_epoch: 0,
            durable_epoch: 0,
            live_bytes: 0,
        };
        if let Some(recovered) = recovered {
            let numbers = recovered.replicas.iter();
            checkpointer.replica_numbers =
                numbers.map(|(number, replica)| (replica.clone(), *number)).collect();
            checkpointer.tombstones = recovered.tombstones.iter().cloned().collect();
            checkpointer.live_bytes = recovered.live_bytes;
        }
        checkpointer.storage.sync()?;
        checkpointer.write_meta()?;
        checkpointer.settle()?;
        Ok(checkpointer)
    }

    /// Makes all that the table counted before this call durable; says whether there was anything. `clock` is the latest time
    /// that was acted on.
    ///
    /// # Errors
    /// Any of the storage's. The table's changes are then no longer marked as unwritten, so this must not be called again:
    /// what is on disk is as of the checkpoint before.
    pub fn write(&mut self, table: &Table, clock: Timestamp) -> Result<bool, StorageError> {
        if self.written_epoch > self.durable_epoch {
            // Records must never be newer than a checkpoint entry by two: the totals could then not be verified.
            self.settle()?;
        }
        table.harvest(DirtySet::All);
        let watermarks = table.version_vector();
        #[cfg(feature = "simulation")]
        if tallymesh_core::mutant::mutant!(WatermarkBeforeCells) {
            self.write_watermarks(&watermarks)?;
        }
        for tombstone in std::mem::take(&mut self.tombstones) {
            self.storage.remove(&tombstone)?;
        }
        self.meta.epoch += 1;
        let ended = std::mem::take(&mut self.ended);
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
        self.settle()?;
        self.meta.watermarks = watermarks;
        self.meta.clock = self.meta.clock.max(clock);
        self.write_meta()?;
        Ok(wrote)
    }

    /// Makes the last checkpoint's own entry durable. [`write`](Self::write) leaves that to a moment when nobody waits: its
    /// cells are durable already, and a crash before this costs a resync only.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn settle(&mut self) -> Result<(), StorageError> {
        self.storage.sync()?;
        self.durable_epoch = self.written_epoch;
        Ok(())
    }

    /// Whether a rewrite would give back much disk space.
    ///
    /// # Errors
    /// When the storage cannot be measured.
    pub fn is_wasteful(&self) -> Result<bool, StorageError> {
        self.storage.is_wasteful(self.live_bytes)
    }

    /// Copies what is in storage into a new database, which then takes the place of the present one.
    ///
    /// # Errors
    /// As [`write`](Self::write); the present database is then as it was.
    pub fn moved(mut self, files: &mut dyn Files) -> Result<Checkpointer, StorageError> {
        let mut copy = files.begin_database()?;
        let mut written = Ok(());
        self.storage.scan(&[], &mut |key, value| {
            if written.is_ok() {
                written = copy.put(key, value).map(drop);
            }
        })?;
        written?;
        copy.sync()?;
        self.storage = copy;
        self.installed(files)
    }

    /// Puts the storage, a database that was begun beside the present one and is synced, in the place of that.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn installed(self, files: &mut dyn Files) -> Result<Checkpointer, StorageError> {
        let Checkpointer { storage, .. } = self;
        drop(storage);
        Ok(Checkpointer { storage: files.install_database()?, ..self })
    }

    /// Number of the last checkpoint that was begun.
    pub fn epoch(&self) -> u64 {
        self.meta.epoch
    }

    /// The last checkpoint that is certain to be found again.
    pub fn durable_epoch(&self) -> u64 {
        self.durable_epoch
    }

    /// The watermarks that are worth a record, by the replicas' numbers.
    fn numbered(&mut self, vector: &VersionVector) -> Result<Vec<(u32, Version)>, StorageError> {
        let with_updates = vector.iter().filter(|(_, watermark)| *watermark > Version::ZERO);
        with_updates
            .map(|(replica, watermark)| Ok((self.replica_number(replica)?, watermark)))
            .collect()
    }

    /// What [`write`](Self::write) must not do before the cells are there.
    #[cfg(feature = "simulation")]
    fn write_watermarks(&mut self, vector: &VersionVector) -> Result<(), StorageError> {
        self.meta.watermarks = self.numbered(vector)?;
        self.write_meta()?;
        self.settle()
    }

    fn write_meta(&mut self) -> Result<(), StorageError> {
        let (bytes, _) = encode(META_KEY, &self.meta);
        self.storage.put(META_KEY, &bytes)?;
        self.written_epoch = self.meta.epoch;
        Ok(())
    }

    fn put(&mut self, counter: &StoredCounter) -> Result<(), StorageError> {
        // A counter may come back between two checkpoints.
        self.ended.remove(&counter.key);
        let mut cells = Vec::with_capacity(counter.cells.len());
        for (replica, cell) in &counter.cells {
            cells.push((self.replica_number(replica)?, cell.version, cell.p, cell.n));
        }
        let (generation, expires_at) = (counter.generation, counter.expires_at);
        let state = CounterStateRecord { generation, expires_at, cells };
        self.put_counter(&counter.key, Some(state))
    }

    fn put_counter(
        &mut self,
        key: &[u8],
        state: Option<CounterStateRecord>,
    ) -> Result<(), StorageError> {
        let key = counter_key(key);
        let held = self.storage.get(&key)?;
        let held_bytes = held.as_ref().map_or(0, |bytes| key.len() + bytes.len());
        let held = held.and_then(|bytes| decode::<CounterRecord>(&key, &bytes).ok());
        let replaced = match &held {
            // Written earlier in this very checkpoint: what that replaced is replaced by this.
            Some((record, _)) if record.epoch == self.meta.epoch => record.replaced,
            Some((record, crc)) => record.state.is_some().then_some(*crc),
            None => None,
        };
        let live = held.filter(|(record, _)| record.state.is_some()).map(|(_, crc)| crc);
        if live.is_none() && state.is_none() {
            return Ok(());
        }
        let is_tombstone = state.is_none();
        let (bytes, crc) = encode(&key, &CounterRecord { epoch: self.meta.epoch, replaced, state });
        self.storage.put(&key, &bytes)?;
        self.live_bytes = self.live_bytes.saturating_sub(held_bytes as u64);
        self.live_bytes += (key.len() + bytes.len()) as u64;
        if let Some(live) = live {
            self.meta.totals.take_away(live);
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
        if let Some(number) = self.replica_numbers.get(replica) {
            return Ok(*number);
        }
        let number = self.replica_numbers.values().max().map_or(0, |last| last + 1);
        let key = replica_key(number);
        let (bytes, _) = encode(&key, replica);
        self.storage.put(&key, &bytes)?;
        // No counter may name it before it is certain to be there. New replicas are rare.
        self.storage.sync()?;
        self.replica_numbers.insert(replica.clone(), number);
        Ok(number)
    }
}

impl Meta {
    /// What a new database begins with.
    pub fn first(node: NodeId, epoch: u64) -> Meta {
        Meta {
            format: FORMAT,
            node,
            epoch,
            totals: Totals::default(),
            clock: Timestamp(0),
            watermarks: Vec::new(),
        }
    }
}
