//! The one reader of the database's format.
//!
//! It goes over all records once, in the order in which they depend on each other: the last checkpoint's entry, the replicas and
//! their marks, the pages of counters' cells, the counters. What it finds, good or not, it tells a [`Visitor`]. There are two: a start of the node, which stops at
//! the first thing that cannot be trusted, and an examination, which goes on and names everything.
//!
//! A record may be wrong in two ways. If its checksum is wrong, something changed it on the disk, and nothing else that is
//! stored can be trusted either: that is damage. If its checksum is right, it is what some program meant to write; when no version
//! of this one makes such content, that record alone is rejected, and its neighbours are as good as ever.

use alloc::borrow::{Cow, ToOwned};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::entries::EntryRecord;
use super::format_1;
use super::marks::{MarksRecord, ReplicaMarks};
use super::record::{
    COUNTER_PREFIX, CounterRecord, DamagedRecord, ENTRY_PREFIX, FORMAT, MARKS_PREFIX,
    MEMBER_PREFIX, META_KEY, Meta, NOBODY, PAGE_PREFIX, REPLICA_PREFIX, ReplicaRecord, StateRecord,
    Totals, counter_of_page, format_of, head_of, read, unwrapped,
};
use super::{KvStore, StorageError};
use crate::crdt::{Cell, Marks};
use crate::id::ReplicaId;
use crate::key::CounterKey;
use crate::operator::OperatorEntry;
use crate::table::{AtRest, StoredCounter};

/// What is made of the records.
pub(super) trait Visitor {
    /// Why the walk ends early.
    type Stop;

    /// The entry of the last checkpoint, if there is one. Returns it if the walk is to go on by it.
    fn meta(&mut self, meta: Result<Option<Meta>, BadMeta>) -> Result<Option<Meta>, Self::Stop>;

    /// One replica, by its number.
    fn replica(&mut self, number: u32, replica: ReplicaRecord);

    /// One entry of the operator.
    fn entry(&mut self, entry: OperatorEntry);

    /// A replica's record, a page of what is kept of replicas, or an entry of the operator, that is damaged.
    fn bad_replica(&mut self, key: &[u8], why: DamagedRecord);

    /// All replicas have been read, and what is kept of them.
    fn replicas_end(&mut self, _replicas: &BTreeMap<u32, ReplicaId>, _marks: &ReplicaMarks) {}

    /// A page that is whole, of a counter or of what is kept of replicas.
    fn page(&mut self) {}

    /// A page, not a damaged one, that is no part of any counter: a crash may leave some.
    fn void_page(&mut self, _key: Vec<u8>) {}

    /// One counter that is whole, with what is in its pages.
    fn counter(&mut self, counter: StoredCounter<'_>);

    /// A tombstone of a counter or a page. That its key may be none does not matter: a tombstone is only ever removed.
    fn tombstone(&mut self, key: &[u8]);

    /// A record of a counter or a page that is damaged, and as much of it as can be read.
    fn bad_counter(&mut self, key: &[u8], why: BadCounter, rest: Option<StoredCounter<'_>>);

    /// A record that is whole, and holds what no version writes.
    fn rejected(&mut self, rejected: Rejected);

    /// A record whose key tells that this version does not know what it is.
    fn unknown(&mut self, _key: &[u8], _value: &[u8]) {}

    /// Not all records of this kind can be read.
    fn unreadable(&mut self, kind: &'static str, error: StorageError) -> Result<(), Self::Stop>;
}

/// Why the last checkpoint's entry cannot be used.
pub(super) enum BadMeta {
    Unreadable(StorageError),
    Record(DamagedRecord),
    /// It is of another format, which has this number.
    OtherFormat(u32),
}

/// Why a counter's record cannot be used.
pub(super) enum BadCounter {
    Record(DamagedRecord),
    /// Some of its cells are of replicas that have no record.
    UnknownReplicas(Vec<u32>),
}

/// A record whose checksum is right and whose content no version writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rejected {
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    pub crc: u32,
    pub why: String,
    /// The numbers of the replicas whose cells it holds; `None` if it does not even tell that.
    pub replicas: Option<Vec<u32>>,
}

/// What the walk itself adds up.
#[derive(Default)]
pub(super) struct Walked {
    pub meta: Option<Meta>,
    pub replicas: BTreeMap<u32, ReplicaId>,
    /// The totals as of the last completed checkpoint: where a later, half written one has replaced a record, by what the
    /// record says of the one it replaced.
    pub at_checkpoint: Totals,
    /// The totals as things stand.
    pub now: Totals,
    /// The latest checkpoint that any record names.
    pub latest: u64,
    /// Bytes of keys and values of counters and their pages.
    pub live_bytes: u64,
    pub marks: ReplicaMarks,
    /// How many records of counters and pages have a cell of each number.
    pub named: BTreeMap<u32, u32>,
    /// For each replica by its number, the latest end of a counter that holds a cell of it, in seconds since 1970.
    pub ends: BTreeMap<u32, u64>,
    /// Numbers whose replica record was rejected, now or earlier: their cells are nobody's.
    nameless: BTreeSet<u32>,
    /// Pages whose counters have not been read yet, by the counters' keys.
    pages: BTreeMap<Vec<u8>, Vec<Page>>,
    /// Keys of counters that were rejected.
    rejected: BTreeSet<Vec<u8>>,
}

/// A page of a counter's cells.
struct Page {
    key: Vec<u8>,
    checkpoint: u64,
    crc: u32,
    state: StateRecord,
}

/// Reads everything.
pub(super) fn walk<V: Visitor>(store: &dyn KvStore, visitor: &mut V) -> Result<Walked, V::Stop> {
    let mut walked = Walked { meta: visitor.meta(read_meta(store))?, ..Walked::default() };
    let scanned = store.scan(&[REPLICA_PREFIX], &mut |key, value| {
        walked.replica(key, value, visitor);
    });
    scanned.or_else(|error| visitor.unreadable("the replicas", error))?;
    let scanned = store.scan(&[MARKS_PREFIX], &mut |key, value| {
        walked.marks(key, value, visitor);
    });
    scanned.or_else(|error| visitor.unreadable("the watermarks", error))?;
    if let Some(meta) = &walked.meta {
        walked.marks.adopt(&meta.watermarks, &meta.ends);
    }
    let scanned = store.scan(&[ENTRY_PREFIX], &mut |key, value| walk_entry(key, value, visitor));
    scanned.or_else(|error| visitor.unreadable("the entries of the operator", error))?;
    visitor.replicas_end(&walked.replicas, &walked.marks);
    let scanned = store.scan(&[PAGE_PREFIX], &mut |key, value| {
        walked.page(key, value, visitor);
    });
    scanned.or_else(|error| visitor.unreadable("the counters", error))?;
    // Room that is used again for each counter.
    let mut cells = Vec::new();
    let scanned = store.scan(&[COUNTER_PREFIX], &mut |key, value| {
        walked.counter(key, value, &mut cells, visitor);
    });
    scanned.or_else(|error| visitor.unreadable("the counters", error))?;
    walked.pages_left(store, visitor);
    Ok(walked)
}

/// Passes on every record that this version does not know.
pub(super) fn walk_unknown<V: Visitor>(
    store: &dyn KvStore,
    visitor: &mut V,
) -> Result<(), V::Stop> {
    // By their first letters, so that the counters are not read once more.
    let known =
        [COUNTER_PREFIX, PAGE_PREFIX, REPLICA_PREFIX, MARKS_PREFIX, MEMBER_PREFIX, ENTRY_PREFIX];
    for first in (0..=u8::MAX).filter(|first| !known.contains(first)) {
        let scanned = store.scan(&[first], &mut |key, value| {
            if key != META_KEY {
                visitor.unknown(key, value);
            }
        });
        scanned.or_else(|error| visitor.unreadable("the other records", error))?;
    }
    Ok(())
}

fn walk_entry(key: &[u8], value: &[u8], visitor: &mut impl Visitor) {
    let (record, crc) = match unwrapped(key, value) {
        Ok(unwrapped) => unwrapped,
        Err(damage) => return visitor.bad_replica(key, damage),
    };
    match read::<EntryRecord>(record).ok().and_then(|record| record.entry(key)) {
        Some(entry) => visitor.entry(entry),
        None => {
            let why =
                "it is no entry of the operator, or stands under the key of another".to_owned();
            visitor.rejected(Rejected::of(key, value, crc, why, Some(Vec::new())));
        }
    }
}

pub(super) fn read_meta(store: &dyn KvStore) -> Result<Option<Meta>, BadMeta> {
    let Some(bytes) = store.get(META_KEY).map_err(BadMeta::Unreadable)? else { return Ok(None) };
    let (record, _) = unwrapped(META_KEY, &bytes).map_err(BadMeta::Record)?;
    if format_1::is_meta(record) {
        return Err(BadMeta::OtherFormat(1));
    }
    // Of another format, nothing but its number can be relied upon.
    match format_of(record).map_err(BadMeta::Record)? {
        FORMAT => read(record).map(Some).map_err(BadMeta::Record),
        other => Err(BadMeta::OtherFormat(other)),
    }
}

/// The number in the key of a replica's record, or of a page of what is kept of replicas.
pub(super) fn number_of(key: &[u8]) -> Option<u32> {
    key.get(1..).and_then(|number| number.try_into().ok()).map(u32::from_be_bytes)
}

impl Walked {
    fn replica(&mut self, key: &[u8], value: &[u8], visitor: &mut impl Visitor) {
        let (record, crc) = match unwrapped(key, value) {
            Ok(unwrapped) => unwrapped,
            Err(damage) => return visitor.bad_replica(key, damage),
        };
        let number = number_of(key);
        if record == NOBODY {
            return self.nameless.extend(number);
        }
        let why = match (number, read::<ReplicaRecord>(record)) {
            (Some(number), Ok(record)) => {
                self.replicas.insert(number, record.replica());
                return visitor.replica(number, record);
            }
            (None, _) => "its key is not 4 bytes of number",
            (_, Err(_)) => "it is no replica",
        };
        self.nameless.extend(number);
        let replicas = Some(number.into_iter().collect());
        visitor.rejected(Rejected::of(key, value, crc, why.to_owned(), replicas));
    }

    fn marks(&mut self, key: &[u8], value: &[u8], visitor: &mut impl Visitor) {
        let (record, crc) = match unwrapped(key, value) {
            Ok(unwrapped) => unwrapped,
            Err(damage) => return visitor.bad_replica(key, damage),
        };
        match (number_of(key), read::<MarksRecord>(record)) {
            (Some(_), Ok(page)) => {
                self.marks.read(&page);
                visitor.page();
            }
            _ => {
                let why = "it is no page of watermarks".to_owned();
                visitor.rejected(Rejected::of(key, value, crc, why, Some(Vec::new())));
            }
        }
    }

    fn page(&mut self, key: &[u8], value: &[u8], visitor: &mut impl Visitor) {
        let counter_key = counter_of_page(key).unwrap_or_default();
        if let Some((checkpoint, crc, state)) = self.state(key, counter_key, value, visitor) {
            visitor.page();
            let page = Page { key: key.to_vec(), checkpoint, crc, state };
            self.pages.entry(counter_key.to_vec()).or_default().push(page);
        }
    }

    fn counter(
        &mut self,
        key: &[u8],
        value: &[u8],
        cells: &mut Vec<(ReplicaId, Cell)>,
        visitor: &mut impl Visitor,
    ) {
        let counter_key = key.get(1..).unwrap_or_default();
        let Some((_, _, state)) = self.state(key, counter_key, value, visitor) else { return };
        let state = self.with_pages(counter_key, state, visitor);
        let unknown_replicas = self.name_cells(&state, cells);
        let StateRecord { generation, marks, .. } = state;
        let rest = AtRest { generation, marks, cells: Cow::Borrowed(&cells[..]) };
        let stored = StoredCounter { key: Cow::Borrowed(counter_key), state: rest };
        if unknown_replicas.is_empty() {
            let end = stored.end_s();
            for (number, _) in &state.cells {
                let latest = self.ends.entry(*number).or_default();
                *latest = (*latest).max(end);
            }
            visitor.counter(stored);
        } else {
            visitor.bad_counter(key, BadCounter::UnknownReplicas(unknown_replicas), Some(stored));
        }
    }

    /// Reads a record of a counter or of a page and counts it; `None` if it is neither, or not to be relied upon.
    fn state(
        &mut self,
        key: &[u8],
        counter_key: &[u8],
        value: &[u8],
        visitor: &mut impl Visitor,
    ) -> Option<(u64, u32, StateRecord)> {
        let (record, crc) = match unwrapped(key, value) {
            Ok(unwrapped) => unwrapped,
            Err(damage) => {
                visitor.bad_counter(key, BadCounter::Record(damage), None);
                return None;
            }
        };
        self.live_bytes += (key.len() + value.len()) as u64;
        let Ok(CounterRecord { checkpoint, replaced, state }) = read(record) else {
            // It is counted, as well as can be: by what it says of its age, or as it stands.
            let (checkpoint, replaced) = head_of(record).unwrap_or((0, None));
            self.count(checkpoint, replaced, Some(crc));
            let why = "it has the shape of no counter".to_owned();
            self.rejected.insert(key.to_vec());
            visitor.rejected(Rejected::of(key, value, crc, why, None));
            return None;
        };
        self.count(checkpoint, replaced, state.as_ref().map(|_| crc));
        let Some(state) = state else {
            visitor.tombstone(key);
            return None;
        };
        let fault = CounterKey::check(counter_key).err().map(|error| error.to_string());
        let fault = fault.or_else(|| state.fault(counter_key).map(ToOwned::to_owned));
        if let Some(why) = fault {
            let replicas = state.cells.iter().map(|(number, _)| *number).collect();
            self.rejected.insert(key.to_vec());
            visitor.rejected(Rejected::of(key, value, crc, why, Some(replicas)));
            return None;
        }
        for (number, _) in &state.cells {
            *self.named.entry(*number).or_default() += 1;
        }
        Some((checkpoint, crc, state))
    }

    /// What a counter's record and its pages are together: the parts of the newest generation.
    fn with_pages(
        &mut self,
        counter_key: &[u8],
        main: StateRecord,
        visitor: &mut impl Visitor,
    ) -> StateRecord {
        let Some(pages) = self.pages.remove(counter_key) else { return main };
        let since = main.pages_since;
        let is_its_own = |page: &Page| since > 0 && page.checkpoint >= since;
        let own = pages.iter().filter(|page| is_its_own(page));
        let newest = own.map(|page| page.state.generation).max().unwrap_or_default();
        let generation = newest.max(main.generation);
        // A crash may have left none but pages of that.
        let has_main = main.generation == generation;
        let mut whole = match has_main {
            true => main,
            false => StateRecord { generation, cells: Vec::new(), marks: Marks::default(), ..main },
        };
        let mut cells: BTreeMap<u32, Cell> = whole.cells.drain(..).collect();
        for page in pages {
            if !is_its_own(&page) || page.state.generation != generation {
                visitor.void_page(page.key);
                continue;
            }
            for (number, cell) in page.state.cells {
                let held = cells.entry(number).or_insert(cell);
                *held = held.merge(cell);
            }
            if !has_main {
                whole.marks = whole.marks.merge(page.state.marks);
            }
        }
        whole.cells = cells.into_iter().collect();
        whole
    }

    /// Tells of the pages whose counters are not there.
    fn pages_left(&mut self, store: &dyn KvStore, visitor: &mut impl Visitor) {
        for (counter_key, pages) in core::mem::take(&mut self.pages) {
            let is_rejected = self.rejected.contains(&[&[COUNTER_PREFIX], &*counter_key].concat());
            for Page { key, crc, state, .. } in pages {
                if !is_rejected {
                    visitor.void_page(key);
                    continue;
                }
                // What it holds is lost with its counter.
                let value = store.get(&key).ok().flatten().unwrap_or_default();
                let replicas: Vec<u32> = state.cells.iter().map(|(number, _)| *number).collect();
                for number in &replicas {
                    if let Some(named) = self.named.get_mut(number) {
                        *named = named.saturating_sub(1);
                    }
                }
                self.named.retain(|_, named| *named > 0);
                let why = "its counter's record is rejected".to_owned();
                visitor.rejected(Rejected::of(&key, &value, crc, why, Some(replicas)));
            }
        }
    }

    /// Adds a record to the totals.
    fn count(&mut self, checkpoint: u64, replaced: Option<u32>, live: Option<u32>) {
        let is_newer = self.meta.as_ref().is_some_and(|meta| checkpoint > meta.checkpoint);
        let counted = if is_newer { replaced } else { live };
        counted.into_iter().for_each(|crc| self.at_checkpoint.add(crc));
        live.into_iter().for_each(|crc| self.now.add(crc));
        self.latest = self.latest.max(checkpoint);
    }

    /// Puts the cells down under their replicas' ids; returns the numbers that no replica has.
    fn name_cells(&self, state: &StateRecord, cells: &mut Vec<(ReplicaId, Cell)>) -> Vec<u32> {
        cells.clear();
        let mut unknown_replicas = Vec::new();
        for (number, cell) in &state.cells {
            match self.replicas.get(number) {
                Some(replica) => cells.push((replica.clone(), *cell)),
                None if self.nameless.contains(number) => {}
                None => unknown_replicas.push(*number),
            }
        }
        unknown_replicas
    }
}

impl Rejected {
    fn of(key: &[u8], value: &[u8], crc: u32, why: String, replicas: Option<Vec<u32>>) -> Rejected {
        Rejected { key: key.to_vec(), value: value.to_vec(), crc, why, replicas }
    }
}
