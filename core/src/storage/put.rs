//! Putting a counter in the place of what is stored of it: in one record, or, if it has many cells, in pages of which only
//! those are written that changed.
//!
//! A counter's own record tells from which checkpoint on its pages count. The cells that it had when it got its first page stay
//! in it: a crash may lose the pages, and keep the record. Pages that do not count any more are buried in the next checkpoint,
//! when what replaced them is certain to stay.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::record::{
    CELLS_PER_PAGE, CounterRecord, ReplicaRecord, StateRecord, counter_key, counter_of_page,
    decode, encode, page_key, pages_prefix, replica_key,
};
use super::{CheckpointWriter, StorageError};
use crate::crdt::Cell;
use crate::id::ReplicaId;
use crate::table::{AtRest, Extent, StoredCounter};

/// What is stored under a key.
#[derive(Default)]
struct Held {
    /// Of the key and the value.
    bytes: u64,
    /// With its checksum.
    record: Option<(CounterRecord, u32)>,
}

impl Held {
    fn state(&self) -> Option<&StateRecord> {
        self.record.as_ref().and_then(|(record, _)| record.state.as_ref())
    }

    /// What is stored, if it was written by that checkpoint or later and is of that generation.
    fn state_since(&self, checkpoint: u64, generation: u32) -> Option<&StateRecord> {
        let (record, _) = self.record.as_ref().filter(|(held, _)| held.checkpoint >= checkpoint)?;
        record.state.as_ref().filter(|state| state.generation == generation)
    }
}

impl CheckpointWriter {
    /// Writes a counter, or what changed of it.
    pub(super) fn put(
        &mut self,
        counter: &StoredCounter<'_>,
        extent: Extent,
    ) -> Result<(), StorageError> {
        // A counter may come back between two checkpoints.
        self.ended.remove(&*counter.key);
        self.name(counter.state.cells.iter().map(|(replica, _)| replica))?;
        let mut cells = Vec::with_capacity(counter.state.cells.len());
        for (replica, cell) in &*counter.state.cells {
            if let Some(number) = self.numbers.get(replica) {
                cells.push((number, *cell));
            }
        }
        let key = counter_key(&counter.key);
        let held = self.held(&key)?;
        let had_pages = held.state().is_some_and(|state| state.pages_since > 0);
        let AtRest { generation, marks, .. } = counter.state;
        if extent == Extent::Whole {
            let state = StateRecord { generation, cells, marks, pages_since: 0 };
            self.put_record(key, held, Some(state))?;
            return if had_pages { self.leave_pages(&counter.key) } else { Ok(()) };
        }
        let before = held.state().filter(|_| extent == Extent::Changes);
        let pages_since = match before.map_or(0, |state| state.pages_since) {
            0 => self.meta.checkpoint,
            since => since,
        };
        let is_same = |state: &&StateRecord| state.generation == generation;
        let is_new = before.filter(is_same).is_none();
        let kept = before.filter(is_same).map(|state| state.cells.clone()).unwrap_or_default();
        let state = StateRecord { generation, cells: kept, marks, pages_since };
        self.put_record(key, held, Some(state))?;
        if had_pages && extent == Extent::First {
            // The pages of the earlier counter are about to be written over. If that were all that a crash leaves, they would pass
            // for its own.
            self.store.sync()?;
        }
        let mut pages = BTreeMap::<u32, Vec<(u32, Cell)>>::new();
        for cell in cells {
            pages.entry(cell.0 / CELLS_PER_PAGE).or_default().push(cell);
        }
        for (page, changed) in pages {
            let key = page_key(&counter.key, page);
            let held = self.held(&key)?;
            let before = held.state_since(pages_since, generation);
            let cells = merged(before.map_or(&[], |state| &state.cells), changed);
            if before.is_some_and(|state| state.cells == cells) {
                continue;
            }
            self.left_pages.remove(&key);
            let state = StateRecord { generation, cells, marks, pages_since: 0 };
            self.put_record(key, held, Some(state))?;
        }
        if had_pages && is_new { self.leave_pages(&counter.key) } else { Ok(()) }
    }

    /// Puts a tombstone in the place of a counter.
    pub(super) fn bury_counter(&mut self, counter: &[u8]) -> Result<(), StorageError> {
        let key = counter_key(counter);
        let held = self.held(&key)?;
        let had_pages = held.state().is_some_and(|state| state.pages_since > 0);
        self.put_record(key, held, None)?;
        if had_pages { self.leave_pages(counter) } else { Ok(()) }
    }

    /// Puts tombstones in the place of pages that do not count.
    pub(super) fn bury_pages(
        &mut self,
        keys: impl IntoIterator<Item = Vec<u8>>,
    ) -> Result<(), StorageError> {
        for key in keys {
            let held = self.held(&key)?;
            self.put_record(key, held, None)?;
        }
        Ok(())
    }

    pub(super) fn remove_tombstones(&mut self) -> Result<(), StorageError> {
        for key in core::mem::take(&mut self.tombstones) {
            let held = self.held(&key)?;
            self.store.remove(&key)?;
            self.live_bytes = self.live_bytes.saturating_sub(held.bytes);
        }
        Ok(())
    }

    /// Lists a counter's pages that do not count any more, to be buried in the next checkpoint.
    fn leave_pages(&mut self, counter: &[u8]) -> Result<(), StorageError> {
        let main = self.held(&counter_key(counter))?;
        let counts = |held: &CounterRecord| {
            main.state().zip(held.state.as_ref()).is_some_and(|(main, page)| {
                let since = main.pages_since;
                since > 0 && held.checkpoint >= since && page.generation == main.generation
            })
        };
        let left = &mut self.left_pages;
        self.store.scan(&pages_prefix(counter), &mut |key, value| {
            if counter_of_page(key) == Some(counter)
                && decode::<CounterRecord>(key, value)
                    .is_ok_and(|(held, _)| held.state.is_some() && !counts(&held))
            {
                left.insert(key.to_vec());
            }
        })
    }

    fn held(&self, key: &[u8]) -> Result<Held, StorageError> {
        let Some(value) = self.store.get(key)? else { return Ok(Held::default()) };
        let bytes = (key.len() + value.len()) as u64;
        Ok(Held { bytes, record: decode(key, &value).ok() })
    }

    /// Puts a record of a counter or a page in the place of what is held there; `None` buries that.
    fn put_record(
        &mut self,
        key: Vec<u8>,
        held: Held,
        state: Option<StateRecord>,
    ) -> Result<(), StorageError> {
        let replaced = match &held.record {
            // Written earlier in this very checkpoint: what that replaced is replaced by this.
            Some((record, _)) if record.checkpoint == self.meta.checkpoint => record.replaced,
            Some((record, crc)) => record.state.is_some().then_some(*crc),
            None => None,
        };
        let live = held.record.as_ref().filter(|(record, _)| record.state.is_some());
        let live = live.map(|(_, crc)| *crc);
        if live.is_none() && state.is_none() {
            return Ok(());
        }
        let record = CounterRecord { checkpoint: self.meta.checkpoint, replaced, state };
        let (bytes, crc) = encode(&key, &record);
        self.store.put(&key, &bytes)?;
        self.numbers.replaced(held.state(), record.state.as_ref());
        self.live_bytes = self.live_bytes.saturating_sub(held.bytes);
        self.live_bytes += (key.len() + bytes.len()) as u64;
        if let Some(live) = live {
            self.meta.totals.remove(live);
        }
        if record.state.is_none() {
            self.tombstones.insert(key);
        } else {
            self.meta.totals.add(crc);
            // A counter may come back in the very checkpoint that buried it.
            self.tombstones.remove(&key);
        }
        Ok(())
    }

    /// Gives each of the replicas a number, if it has none yet.
    pub(super) fn name<'a>(
        &mut self,
        replicas: impl IntoIterator<Item = &'a ReplicaId>,
    ) -> Result<(), StorageError> {
        let mut is_new = false;
        for replica in replicas {
            if self.numbers.get(replica).is_some() {
                continue;
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
            self.meta.next_replica = next;
            self.numbers.insert(replica.clone(), number);
            is_new = true;
        }
        // No counter may name it before it is certain to be there. New replicas are rare.
        if is_new { self.store.sync() } else { Ok(()) }
    }
}

/// A page's cells with those that changed, by number.
fn merged(before: &[(u32, Cell)], changed: Vec<(u32, Cell)>) -> Vec<(u32, Cell)> {
    let mut cells: BTreeMap<u32, Cell> = before.iter().copied().collect();
    cells.extend(changed);
    cells.into_iter().collect()
}
