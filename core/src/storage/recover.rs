//! Reading back what was stored, and telling whether it is all there: the strict visitor of the [walk](super::walk).

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::format_1;
use super::marks::{Mark, ReplicaMarks};
use super::record::{DamagedRecord, FORMAT, Meta, REPLICA_PREFIX, ReplicaRecord, decode};
use super::walk::{BadCounter, BadMeta, Rejected, Visitor, Walked, number_of, walk, walk_unknown};
use super::{Fields, KvStore, StorageError};
use crate::id::{NodeId, ReplicaId};
use crate::operator::OperatorEntry;
use crate::table::{ReplicaMark, StoredCounter};
use crate::time::Timestamp;

/// What the database holds besides the counters.
#[derive(Debug)]
pub struct Recovered {
    /// What the next checkpoint goes on from.
    pub meta: Meta,
    /// Number of the last completed checkpoint.
    pub checkpoint: u64,
    /// Every replica by its number.
    pub replicas: BTreeMap<u32, ReplicaId>,
    /// Keys of tombstones that are still to be removed.
    pub tombstones: Vec<Vec<u8>>,
    /// Bytes of keys and values of counters and their pages.
    pub live_bytes: u64,
    /// What the operator said.
    pub entries: Vec<OperatorEntry>,
    /// What is kept of replicas.
    pub(super) marks: ReplicaMarks,
    /// How many records of counters and pages have a cell of each number.
    pub(super) named: BTreeMap<u32, u32>,
    /// Keys of pages that a crash left and that are no part of any counter.
    pub(super) void_pages: Vec<Vec<u8>>,
    /// What this version does not know, and keeps.
    pub(super) kept: Kept,
    /// Records that no version writes.
    pub(super) rejected: Vec<Rejected>,
}

/// What a newer version wrote beside what this one knows: to be written again wherever the database is.
#[derive(Debug, Clone, Default)]
pub(super) struct Kept {
    /// Further fields of the checkpoint's entry.
    pub meta: Fields,
    /// Further fields of replicas.
    pub replicas: BTreeMap<ReplicaId, Fields>,
    /// Records of kinds that this version has none of.
    pub records: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Recovered {
    /// No clock of this node may fall behind this.
    pub fn clock(&self) -> Timestamp {
        self.meta.clock
    }

    /// What is stored of every replica beside its cells.
    pub fn marks(&self) -> impl Iterator<Item = ReplicaMark> {
        self.replicas.iter().map(|(number, replica)| {
            let Mark { watermark, end_s } = self.marks.get(*number).unwrap_or_default();
            let end = Timestamp(end_s.saturating_mul(1_000));
            ReplicaMark { replica: replica.clone(), watermark, end }
        })
    }
}

/// Why what is stored cannot be trusted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// The entry of the last checkpoint cannot be read.
    #[error("the entry of the last checkpoint is damaged")]
    Meta,
    /// There are records, or have been, and no entry of any checkpoint.
    #[error("the entry of the last checkpoint is missing")]
    NoMeta,
    /// Some records are not what was written.
    #[error("{damaged} of {all} records are damaged")]
    Records {
        /// How many.
        damaged: u64,
        /// Out of how many.
        all: u64,
    },
    /// The records do not add up to what the last checkpoint counted.
    #[error(
        "the last checkpoint counted {expected} records of counters and {found} are there, or some of them are older than it says"
    )]
    Totals {
        /// How many it counted.
        expected: u64,
        /// How many there are.
        found: u64,
    },
    /// The database lost its end.
    #[error(
        "the database ends at checkpoint {found}, and checkpoint {expected} had been completed"
    )]
    Older {
        /// The last checkpoint that was certain.
        expected: u64,
        /// The last one in the database.
        found: u64,
    },
    /// The backend cannot read it.
    #[error("the database cannot be read: {0}")]
    Unreadable(#[source] StorageError),
}

/// Why nothing was recovered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// It cannot be trusted.
    #[error("{0}")]
    Damage(#[from] Damage),
    /// Another version wrote it.
    #[error("it has format {found}, and this version reads formats up to {FORMAT}")]
    OtherFormat {
        /// The format that it has.
        found: u32,
    },
}

/// Reads everything and passes each live counter to `visit`; `None` when nothing was ever stored.
///
/// # Errors
/// When any of it is damaged or missing; what was visited by then must be thrown away.
pub fn recover(
    store: &dyn KvStore,
    visit: impl FnMut(StoredCounter<'_>),
) -> Result<Option<Recovered>, RecoverError> {
    let mut strict = Strict {
        store,
        visit,
        records: 0,
        damaged: 0,
        tombstones: Vec::new(),
        void_pages: Vec::new(),
        entries: Vec::new(),
        kept: Kept::default(),
        rejected: Vec::new(),
    };
    let walked = walk(store, &mut strict).and_then(|walked| {
        walk_unknown(store, &mut strict)?;
        Ok(walked)
    });
    let walked = match walked {
        Ok(walked) => walked,
        Err(Stop::Empty) => return Ok(None),
        Err(Stop::Failed(error)) => return Err(error),
    };
    let Strict { records: all, damaged, tombstones, void_pages, entries, .. } = strict;
    let (mut kept, rejected) = (strict.kept, strict.rejected);
    if damaged > 0 {
        return Err(Damage::Records { damaged, all }.into());
    }
    let Walked { meta, replicas, at_checkpoint, now, latest, live_bytes, named, .. } = walked;
    let (mut marks, ends) = (walked.marks, walked.ends);
    let Some(meta) = meta else { return Ok(None) };
    if at_checkpoint != meta.totals {
        let (expected, found) = (meta.totals.count, at_checkpoint.count);
        return Err(Damage::Totals { expected, found }.into());
    }
    kept.meta = meta.others.clone();
    let checkpoint = meta.checkpoint;
    let mut meta = Meta { totals: now, checkpoint: checkpoint.max(latest), ..meta };
    // A crash may have left cells and replicas that are newer than the entry.
    let last_number = replicas.keys().next_back();
    meta.next_replica = meta.next_replica.max(last_number.map_or(0, |last| last.saturating_add(1)));
    ends.into_iter().for_each(|(number, end_s)| marks.raise_end(number, end_s));
    forget_watermarks(&mut marks, &rejected);
    Ok(Some(Recovered {
        meta,
        checkpoint,
        replicas,
        tombstones,
        live_bytes,
        entries,
        marks,
        named,
        void_pages,
        kept,
        rejected,
    }))
}

/// What a rejected record may have held of a replica is to be learned from the peers, so it is not vouched for any more.
fn forget_watermarks(marks: &mut ReplicaMarks, rejected: &[Rejected]) {
    let named: Option<Vec<&[u32]>> = rejected.iter().map(|one| one.replicas.as_deref()).collect();
    let named: Option<BTreeSet<u32>> = named.map(|named| named.concat().into_iter().collect());
    marks.forget_watermarks(named.as_ref());
}

/// The highest boot number, up to `most`, among a node's incarnations in the database, of whichever format, as far as it can be
/// read. Peers told of some of them.
pub(super) fn boots_of(store: &dyn KvStore, node: &NodeId, most: u64) -> u64 {
    let mut boot = 0;
    let mut look = |replica: &ReplicaId| {
        if replica.node == *node && replica.incarnation.boot <= most {
            boot = boot.max(replica.incarnation.boot);
        }
    };
    // What cannot be read is found, and dealt with, when everything is read.
    let _ = store.scan(&[REPLICA_PREFIX], &mut |key, value| {
        if let (Some(_), Ok((record, _))) = (number_of(key), decode::<ReplicaRecord>(key, value)) {
            look(&record.replica());
        }
    });
    if let Ok(old) = format_1::read_replicas(store, |_| {}) {
        old.values().for_each(look);
    }
    boot
}

/// Counts what is damaged, and stops where nothing can be counted.
struct Strict<'a, F> {
    store: &'a dyn KvStore,
    visit: F,
    records: u64,
    damaged: u64,
    tombstones: Vec<Vec<u8>>,
    void_pages: Vec<Vec<u8>>,
    entries: Vec<OperatorEntry>,
    kept: Kept,
    rejected: Vec<Rejected>,
}

enum Stop {
    /// Nothing was ever stored.
    Empty,
    Failed(RecoverError),
}

impl From<Damage> for Stop {
    fn from(damage: Damage) -> Stop {
        Stop::Failed(damage.into())
    }
}

impl<F: FnMut(StoredCounter<'_>)> Visitor for Strict<'_, F> {
    type Stop = Stop;

    fn meta(&mut self, meta: Result<Option<Meta>, BadMeta>) -> Result<Option<Meta>, Stop> {
        match meta {
            Ok(Some(meta)) => Ok(Some(meta)),
            Ok(None) => {
                let mut entries = 0_u64;
                let scanned = self.store.scan(&[], &mut |_, _| entries += 1);
                scanned.map_err(Damage::Unreadable)?;
                Err(if entries == 0 { Stop::Empty } else { Damage::NoMeta.into() })
            }
            Err(BadMeta::Unreadable(error)) => Err(Damage::Unreadable(error).into()),
            Err(BadMeta::Record(_)) => Err(Damage::Meta.into()),
            Err(BadMeta::OtherFormat(found)) => {
                Err(Stop::Failed(RecoverError::OtherFormat { found }))
            }
        }
    }

    fn replica(&mut self, _: u32, record: ReplicaRecord) {
        self.records += 1;
        if !record.others.is_empty() {
            self.kept.replicas.insert(record.replica(), record.others);
        }
    }

    fn entry(&mut self, entry: OperatorEntry) {
        self.records += 1;
        self.entries.push(entry);
    }

    fn bad_replica(&mut self, _: &[u8], _: DamagedRecord) {
        self.records += 1;
        self.damaged += 1;
    }

    fn page(&mut self) {
        self.records += 1;
    }

    fn void_page(&mut self, key: Vec<u8>) {
        self.void_pages.push(key);
    }

    fn counter(&mut self, counter: StoredCounter<'_>) {
        self.records += 1;
        (self.visit)(counter);
    }

    fn tombstone(&mut self, key: &[u8]) {
        self.records += 1;
        self.tombstones.push(key.to_vec());
    }

    fn bad_counter(&mut self, _: &[u8], _: BadCounter, _: Option<StoredCounter<'_>>) {
        self.records += 1;
        self.damaged += 1;
    }

    fn rejected(&mut self, rejected: Rejected) {
        self.records += 1;
        self.rejected.push(rejected);
    }

    fn unknown(&mut self, key: &[u8], value: &[u8]) {
        self.kept.records.push((key.to_vec(), value.to_vec()));
    }

    fn unreadable(&mut self, _: &'static str, error: StorageError) -> Result<(), Stop> {
        Err(Damage::Unreadable(error).into())
    }
}
