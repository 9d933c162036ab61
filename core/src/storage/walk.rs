//! The one reader of the database's format.
//!
//! It goes over all records once, in the order in which they depend on each other: the last checkpoint's entry, the replicas,
//! the counters. What it finds, good or damaged, it tells a [`Visitor`]. There are two: a start of the node, which stops at
//! the first thing that cannot be trusted, and an examination, which goes on and names everything.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::record::{
    COUNTER_PREFIX, CounterRecord, DamagedRecord, META_KEY, Meta, REPLICA_PREFIX, Totals, decode,
};
use super::{KvStore, StorageError};
use crate::crdt::Cell;
use crate::id::ReplicaId;
use crate::key::{CounterKey, InvalidKey};
use crate::table::StoredCounter;

/// What is made of the records.
pub(super) trait Visitor {
    /// Why the walk ends early.
    type Stop;

    /// The entry of the last checkpoint, if there is one. Returns it if the walk is to go on by it.
    fn meta(&mut self, meta: Result<Option<Meta>, BadMeta>) -> Result<Option<Meta>, Self::Stop>;

    /// One replica, by its number.
    fn replica(&mut self, key: &[u8], replica: Result<(u32, &ReplicaId), BadReplica>);

    /// All replicas have been read.
    fn replicas_end(&mut self, _replicas: &BTreeMap<u32, ReplicaId>, _meta: Option<&Meta>) {}

    /// One counter that is whole.
    fn counter(&mut self, counter: StoredCounter<'_>);

    /// A tombstone. The key is none if it is `bad`, which does not matter: a tombstone is only ever removed.
    fn tombstone(&mut self, key: &[u8], bad: Option<InvalidKey>);

    /// A counter's record that is damaged, and as much of it as can be read.
    fn bad_counter(&mut self, key: &[u8], why: BadCounter, rest: Option<StoredCounter<'_>>);

    /// Not all records of this kind can be read.
    fn unreadable(&mut self, kind: &'static str, error: StorageError) -> Result<(), Self::Stop>;
}

/// Why the last checkpoint's entry cannot be used.
pub(super) enum BadMeta {
    Unreadable(StorageError),
    Record(DamagedRecord),
}

/// Why a replica's record cannot be used.
pub(super) enum BadReplica {
    /// The key has no number of four bytes.
    Key,
    Record(u32, DamagedRecord),
}

/// Why a counter's record cannot be used.
pub(super) enum BadCounter {
    Record(DamagedRecord),
    /// The record is whole, and its key is not a counter's, or some of its cells are of replicas that have no record.
    Content {
        key: Option<InvalidKey>,
        unknown_replicas: Vec<u32>,
    },
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
    /// Bytes of keys and values of counters.
    pub live_bytes: u64,
}

/// Reads everything.
pub(super) fn walk<V: Visitor>(store: &dyn KvStore, visitor: &mut V) -> Result<Walked, V::Stop> {
    let mut walked = Walked { meta: visitor.meta(read_meta(store))?, ..Walked::default() };
    let replicas = &mut walked.replicas;
    let scanned = store.scan(&[REPLICA_PREFIX], &mut |key, value| {
        match read_replica(key, value) {
            Ok((number, replica)) => {
                visitor.replica(key, Ok((number, &replica)));
                replicas.insert(number, replica);
            }
            Err(bad) => visitor.replica(key, Err(bad)),
        };
    });
    scanned.or_else(|error| visitor.unreadable("the replicas", error))?;
    visitor.replicas_end(&walked.replicas, walked.meta.as_ref());
    // Room that is used again for each counter.
    let mut cells = Vec::new();
    let scanned = store.scan(&[COUNTER_PREFIX], &mut |key, value| {
        walked.counter(key, value, &mut cells, visitor);
    });
    scanned.or_else(|error| visitor.unreadable("the counters", error))?;
    Ok(walked)
}

fn read_meta(store: &dyn KvStore) -> Result<Option<Meta>, BadMeta> {
    let Some(bytes) = store.get(META_KEY).map_err(BadMeta::Unreadable)? else { return Ok(None) };
    let (meta, _) = decode::<Meta>(META_KEY, &bytes).map_err(BadMeta::Record)?;
    Ok(Some(meta))
}

pub(super) fn read_replica(key: &[u8], value: &[u8]) -> Result<(u32, ReplicaId), BadReplica> {
    let number = key.get(1..).and_then(|number| number.try_into().ok());
    let number = u32::from_be_bytes(number.ok_or(BadReplica::Key)?);
    match decode::<ReplicaId>(key, value) {
        Ok((replica, _)) => Ok((number, replica)),
        Err(error) => Err(BadReplica::Record(number, error)),
    }
}

impl Walked {
    fn counter(
        &mut self,
        key: &[u8],
        value: &[u8],
        cells: &mut Vec<(ReplicaId, Cell)>,
        visitor: &mut impl Visitor,
    ) {
        let (record, crc) = match decode::<CounterRecord>(key, value) {
            Ok(decoded) => decoded,
            Err(error) => return visitor.bad_counter(key, BadCounter::Record(error), None),
        };
        let is_newer = self.meta.as_ref().is_some_and(|meta| record.checkpoint > meta.checkpoint);
        let counted = match is_newer {
            true => record.replaced,
            false => record.state.is_some().then_some(crc),
        };
        counted.into_iter().for_each(|crc| self.at_checkpoint.add(crc));
        self.latest = self.latest.max(record.checkpoint);
        self.live_bytes += (key.len() + value.len()) as u64;
        let counter_key = key.get(1..).unwrap_or_default();
        let bad_key = CounterKey::check(counter_key).err();
        let Some(state) = record.state else { return visitor.tombstone(key, bad_key) };
        self.now.add(crc);
        cells.clear();
        let mut unknown_replicas = Vec::new();
        for (number, version, p, n) in &state.cells {
            match self.replicas.get(number) {
                Some(replica) => {
                    cells.push((replica.clone(), Cell { version: *version, p: *p, n: *n }));
                }
                None => unknown_replicas.push(*number),
            }
        }
        let stored = StoredCounter {
            key: Cow::Borrowed(counter_key),
            state: state.with_cells(Cow::Borrowed(&cells[..])),
        };
        match (bad_key, unknown_replicas.is_empty()) {
            (None, true) => visitor.counter(stored),
            (bad_key, _) => {
                let rest = bad_key.is_none().then_some(stored);
                let why = BadCounter::Content { key: bad_key, unknown_replicas };
                visitor.bad_counter(key, why, rest);
            }
        }
    }
}
