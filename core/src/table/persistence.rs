//! What a checkpoint takes from a table, and how a table starts from what was stored.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::replicas::Replicas;
use super::shard::trim;
use super::slot::{Slot, SlotRef, Stored};
use super::slot_key::SlotKey;
use super::{CounterState, ReplicaMark, SLOTS_PER_LOCK, SlotId, Table, cells_of, shard_of};
use crate::crdt::{Cell, Marks, PnCounter, ReplicaIndex};
use crate::id::{ReplicaId, Version};
use crate::key::{CounterKey, ends_of};
use crate::time::Timestamp;

/// What is kept of a counter beside its key, wherever it rests: in a record, on its way there or back, or in an answer.
/// The cells are in whatever form they have there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AtRest<C> {
    /// How often the counter was reset.
    pub generation: u32,
    /// Its three numbers that only grow.
    pub marks: Marks,
    /// Every replica's cell.
    pub cells: C,
}

impl<C> AtRest<C> {
    /// The same counter with its cells in another form.
    pub fn with_cells<D>(&self, cells: D) -> AtRest<D> {
        AtRest { generation: self.generation, marks: self.marks, cells }
    }
}

/// A counter on its way to storage or back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCounter<'a> {
    /// The key in its byte form.
    pub key: Cow<'a, [u8]>,
    /// The rest of it.
    pub state: AtRest<Cow<'a, [(ReplicaId, Cell)]>>,
}

impl StoredCounter<'_> {
    /// The counter for its readers; `None` if its key is no key, which storage does not return.
    pub fn to_state(&self) -> Option<CounterState> {
        let key = CounterKey::from_bytes(&self.key).ok()?;
        let mut cells = self.state.cells.to_vec();
        cells.sort_by(|a, b| a.0.cmp(&b.0));
        let sum = |of: fn(&Cell) -> u64| {
            cells.iter().fold(0_u64, |sum, (_, cell)| sum.saturating_add(of(cell)))
        };
        let value = sum(|cell| cell.p).saturating_sub(sum(|cell| cell.n));
        let AtRest { generation, marks, cells } = self.state.with_cells(cells);
        let expires_at = key.ends().end(marks.at, marks.p0);
        Some(CounterState { key, value, generation, expires_at, marks, cells })
    }

    /// When it ends, in whole seconds since 1970, rounded up; 0 if its key does not tell.
    pub(crate) fn end_s(&self) -> u64 {
        let Marks { at, p0, .. } = self.state.marks;
        ends_of(&self.key).map_or(0, |ends| ends.end(at, p0).0.div_ceil(1_000))
    }
}

/// A part of what changed since the last checkpoint.
#[derive(Debug, Default)]
pub struct Unpersisted {
    /// Counters that changed, as they are now.
    pub changed: Vec<ChangedCounter>,
    /// Keys of counters that are gone.
    pub dropped: Vec<SlotKey>,
    /// A counter of many cells changed its generation or was dropped while it was taken, so that not all that the table held is
    /// in this checkpoint: watermarks that were captured before must wait for the next one.
    pub is_cut: bool,
}

/// A counter that changed since the last checkpoint.
#[derive(Debug)]
pub struct ChangedCounter {
    /// The counter; of one with many cells, those that changed.
    pub counter: StoredCounter<'static>,
    /// How much of it that is.
    pub extent: Extent,
}

/// How much of a counter a checkpoint is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All of it; it has few cells.
    Whole,
    /// All of it; it has many cells, and storage holds nothing of it yet.
    First,
    /// The cells that changed; it has many.
    Changes,
}

impl Table {
    /// Lists every counter for the next checkpoint, for a storage that is empty.
    pub fn mark_all_unpersisted(&self) {
        self.unwrite_entries();
        self.lock_replicas().change_all();
        for shard_index in 0..self.shards.len() {
            let mut from = 0;
            loop {
                let mut shard = self.lock(shard_index);
                shard.dropped.clear();
                let end = shard.slots().min(from + SLOTS_PER_LOCK as u32);
                for slot_index in from..end {
                    if let Some(slot) = shard.slot_mut(slot_index) {
                        slot.stored = Stored::Nothing;
                        shard.mark_unpersisted(slot_index);
                    }
                }
                if end == shard.slots() {
                    break;
                }
                from = end;
            }
        }
    }

    /// Forgets which counters storage has to delete, while there is no storage.
    pub fn forget_dropped(&self) {
        (0..self.shards.len()).for_each(|number| self.lock(number).dropped.clear());
        drop(self.take_forgotten());
    }

    /// Takes all that changed since the last checkpoint, a part at a time. Own cells that change meanwhile are taken as they
    /// are then, and get a version.
    ///
    /// # Errors
    /// That of `part`, at which it stops.
    pub fn take_unpersisted<E>(
        &self,
        mut part: impl FnMut(Unpersisted) -> Result<(), E>,
    ) -> Result<(), E> {
        for shard_index in 0..self.shards.len() {
            let mut left = usize::MAX;
            loop {
                let mut taken = Unpersisted::default();
                let mut paged = Vec::new();
                {
                    let mut replicas = self.lock_replicas();
                    let mut shard = self.lock(shard_index);
                    taken.dropped = core::mem::take(&mut shard.dropped);
                    left = left.min(shard.unpersisted.len());
                    for _ in 0..left.min(SLOTS_PER_LOCK) {
                        left -= 1;
                        let Some(slot_index) = shard.unpersisted.pop() else { break };
                        let Some(slot) = shard.slot_mut(slot_index) else { continue };
                        if !core::mem::take(&mut slot.unpersisted) {
                            continue;
                        }
                        let id = SlotId::new(shard_index, slot_index);
                        replicas.stamp(id, slot);
                        let is_first = slot.stored != Stored::This;
                        slot.stored = Stored::This;
                        if slot.counter.is_paged() {
                            let own = slot.counter.cell(ReplicaIndex::OWN);
                            let own = own.map(|cell| (ReplicaIndex::OWN, cell));
                            let counter = with_cells(slot, own.into_iter(), &replicas);
                            let extent = if is_first { Extent::First } else { Extent::Changes };
                            let slot_ref = SlotRef { slot: id, tag: slot.tag };
                            paged.push((slot_ref, ChangedCounter { counter, extent }));
                        } else {
                            let counter = at_rest(slot, &replicas);
                            taken.changed.push(ChangedCounter { counter, extent: Extent::Whole });
                        }
                    }
                }
                for (slot_ref, mut changed) in paged {
                    taken.is_cut |= !self.take_pages(slot_ref, &mut changed);
                    taken.changed.push(changed);
                }
                part(taken)?;
                if left == 0 {
                    break;
                }
            }
            trim(&mut self.lock(shard_index).unpersisted);
        }
        Ok(())
    }

    /// Adds the peers' cells to a counter of which the rest was taken, a page for each hold of its shard's lock. `false` if it is
    /// not the same any more before the last page; it is then listed again.
    fn take_pages(&self, slot_ref: SlotRef, changed: &mut ChangedCounter) -> bool {
        let all = changed.extent == Extent::First;
        let generation = changed.counter.state.generation;
        let mut after = None;
        loop {
            let replicas = self.lock_replicas();
            let mut shard = self.lock(slot_ref.slot.shard());
            let slot = shard.index_of(slot_ref).and_then(|index| shard.slot_mut(index));
            let slot = slot.filter(|slot| slot.counter.generation() == generation);
            let Some(slot) = slot else { return false };
            let Some((last, cells)) = slot.counter.take_page(after, all) else { return true };
            drop(shard);
            let cells = cells.into_iter().map(|(index, cell)| (replicas.id(index).clone(), cell));
            changed.counter.state.cells.to_mut().extend(cells);
            after = Some(last);
        }
    }
}

/// The counter in a slot, as it is stored.
pub(super) fn at_rest(slot: &Slot, replicas: &Replicas) -> StoredCounter<'static> {
    with_cells(slot, cells_of(&slot.counter), replicas)
}

fn with_cells(
    slot: &Slot,
    cells: impl Iterator<Item = (ReplicaIndex, Cell)>,
    replicas: &Replicas,
) -> StoredCounter<'static> {
    let cells = cells.map(|(index, cell)| (replicas.id(index).clone(), cell));
    StoredCounter {
        key: Cow::Owned(slot.key.to_vec()),
        state: AtRest {
            generation: slot.counter.generation(),
            marks: slot.counter.marks(),
            cells: Cow::Owned(cells.collect()),
        },
    }
}

/// Fills a new table with what was stored. Nothing else may use the table meanwhile.
#[derive(Debug)]
pub struct Restore<'a> {
    table: &'a Table,
    /// The updates of each replica, by its index.
    entries: Vec<Vec<(Version, SlotId)>>,
}

impl<'a> Restore<'a> {
    /// Begins to fill this table, which must be new.
    pub fn into(table: &'a Table) -> Restore<'a> {
        Restore { table, entries: Vec::new() }
    }

    /// Adds one counter; each key once.
    pub fn add(&mut self, stored: &StoredCounter<'_>) {
        let key_hash = self.table.key_hash(&stored.key);
        let shard_index = shard_of(key_hash);
        let mut replicas = self.table.lock_replicas();
        let mut shard = self.table.lock(shard_index);
        // A bound that was lowered since must not cost counters that are held already.
        let own = &replicas.id(ReplicaIndex::OWN).node;
        let nodes = || stored.state.cells.iter().map(|(replica, _)| &replica.node);
        let of_another = if nodes().any(|node| node == own) { None } else { nodes().next() };
        let claim = self.table.take_room_again(of_another, &stored.key);
        let slot_index = shard.insert(key_hash, &stored.key, stored.state.marks, claim);
        let Some(slot) = shard.slot_mut(slot_index) else { return };
        slot.stored = Stored::This;
        let mut cells = Vec::with_capacity(stored.state.cells.len());
        for (replica, cell) in &*stored.state.cells {
            let index = replicas.index_or_insert(replica, usize::MAX);
            if let Some(index) = index.filter(|index| *index != ReplicaIndex::OWN) {
                cells.push((index, *cell));
                if stored.state.generation > 0 {
                    // Which of them began it is not stored.
                    replicas.begun.note(index, cell.version);
                }
                let replica_index = index.0 as usize;
                if replica_index >= self.entries.len() {
                    self.entries.resize_with(replica_index + 1, Vec::new);
                }
                if let Some(entries) = self.entries.get_mut(replica_index) {
                    entries.push((cell.version, SlotId::new(shard_index, slot_index)));
                }
            }
        }
        slot.counter = PnCounter::of_peers(stored.state.generation, stored.state.marks, cells);
    }

    /// Sets what was stored of the replicas, which makes the counters ready to be sent to peers.
    pub fn finish(mut self, marks: impl IntoIterator<Item = ReplicaMark>) {
        let mut replicas = self.table.lock_replicas();
        let marks = marks.into_iter().filter_map(|mark| {
            let index = replicas.index_or_insert(&mark.replica, usize::MAX)?;
            Some((index, (mark.watermark, mark.end)))
        });
        let marks: BTreeMap<ReplicaIndex, (Version, Timestamp)> = marks.collect();
        for index in (1..replicas.len() as u32).map(ReplicaIndex) {
            let held = self.entries.get_mut(index.0 as usize);
            let mut entries = held.map(core::mem::take).unwrap_or_default();
            entries.sort_unstable();
            let mark = marks.get(&index).copied().unwrap_or_default();
            replicas.restore(index, mark, entries);
        }
    }
}
