//! Reading all of a closed directory that can be read, and saying what is wrong with the rest: the lenient visitor of the
//! [walk](super::walk).
//!
//! A start of the node asks whether a database can be trusted, and stops where it cannot. This goes on past whatever is
//! damaged, and says of each piece what the next start will do about it.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::convert::Infallible;

use super::directory::{Identity, Note, read_identity};
use super::marks::ReplicaMarks;
use super::record::{DamagedRecord, FORMAT, Meta, ReplicaRecord};
use super::recover::Damage;
use super::rejected::{hex, name_of};
use super::walk::{BadCounter, BadMeta, Rejected, Visitor, read_meta, walk, walk_unknown};
use super::{Files, KvStore, StorageError};
use crate::id::{ReplicaId, Version};
use crate::operator::OperatorEntry;
use crate::table::{CounterState, StoredCounter};

/// What is wrong with one piece of a data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// Which piece it is, a counter by its key where that can be read, and what is wrong with it.
    pub what: String,
    /// What comes of it.
    pub consequence: Consequence,
}

/// What the next start of the node does about damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Consequence {
    /// The database is set aside as `db.damaged-N`, and the peers bring the state back.
    SetAside,
    /// The node refuses to start.
    Refused,
    /// The file is written again from what is in the database.
    Rewritten,
    /// That record alone is left out, and copied to `rejected`; the peers bring back what it may have held.
    Rejected,
    /// None.
    Ignored,
}

/// All that could be read, and all that is wrong.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Examination {
    /// What the directory says of itself.
    pub identity: Option<Identity>,
    /// The entry of the last checkpoint.
    pub meta: Option<Meta>,
    /// Every replica by its number.
    pub replicas: BTreeMap<u32, ReplicaId>,
    /// The watermark of each replica that has one, by its number.
    pub watermarks: BTreeMap<u32, Version>,
    /// Every counter whose key can be read; of a damaged one, cells may be missing.
    pub counters: Vec<CounterState>,
    /// What the operator said.
    pub entries: Vec<OperatorEntry>,
    /// How many records there are, damaged ones included.
    pub records: u64,
    /// How many of them are tombstones.
    pub tombstones: u64,
    /// Everything that is wrong, one entry for each damaged piece.
    pub damage: Vec<Finding>,
    /// The last checkpoint that is certain to have been in the database.
    noted: u64,
    place: String,
}

impl Examination {
    /// Reads what stands beside the database.
    ///
    /// # Errors
    /// When the note of the last checkpoint cannot be read at all. Damage is no error.
    pub fn of(files: &dyn Files) -> Result<Examination, StorageError> {
        let place = files.place().to_owned();
        let mut examination = Examination { place, ..Examination::default() };
        examination.read_identity(files);
        examination.read_note(files)?;
        Ok(examination)
    }

    /// Notes that there is no database, which is damage if there has been one.
    pub fn has_no_database(&mut self) {
        if self.was_used() {
            self.found(format!("db: {}", Damage::NoMeta), Consequence::SetAside);
        }
    }

    /// Notes that the database cannot be opened; `why` is the error in words.
    pub fn cannot_open(&mut self, why: &str, is_corrupt: bool) {
        let consequence = if is_corrupt { Consequence::SetAside } else { Consequence::Refused };
        self.found(format!("db: it cannot be opened: {why}"), consequence);
    }

    /// Reads the database.
    ///
    /// # Errors
    /// When it has an earlier format, which the next start carries over. Damage is no error.
    pub fn read_database(&mut self, store: &dyn KvStore) -> Result<(), StorageError> {
        if let Err(BadMeta::OtherFormat(found)) = read_meta(store)
            && found < FORMAT
        {
            let place = self.place.clone();
            return Err(StorageError::OtherFormat { place, found, read: FORMAT });
        }
        let mut lenient = Lenient { examination: self, damaged_counters: false };
        // The number of records tells whether nothing was ever stored.
        let counted = store.scan(&[], &mut |_, _| lenient.examination.records += 1);
        if counted.is_err() {
            // It is found again, and named, where the kinds of record are read.
            lenient.examination.records += 1;
        }
        let walked = walk(store, &mut lenient).and_then(|walked| {
            walk_unknown(store, &mut lenient)?;
            Ok(walked)
        });
        let walked = match walked {
            Ok(walked) => walked,
            Err(never) => match never {},
        };
        let counters_are_damaged = lenient.damaged_counters;
        self.replicas = walked.replicas;
        self.watermarks =
            walked.marks.iter().map(|(number, mark)| (number, mark.watermark)).collect();
        let Some(meta) = self.meta.as_ref().filter(|_| !counters_are_damaged) else {
            // The sum cannot be right without the damaged records, and says nothing more.
            return Ok(());
        };
        if walked.at_checkpoint != meta.totals {
            let (expected, found) = (meta.totals.count, walked.at_checkpoint.count);
            let damage = Damage::Totals { expected, found };
            self.found(format!("db: {damage}"), Consequence::SetAside);
        }
        Ok(())
    }

    /// Whether a database was in use here before.
    fn was_used(&self) -> bool {
        self.noted > 0 || self.identity.as_ref().is_some_and(|identity| identity.database)
    }

    fn found(&mut self, what: String, consequence: Consequence) {
        self.damage.push(Finding { what, consequence });
    }

    fn read_identity(&mut self, files: &dyn Files) {
        match read_identity(files) {
            Ok(Some(identity)) => self.identity = Some(identity),
            Ok(None) => {
                let what = "identity.toml: it is missing";
                self.found(what.to_owned(), Consequence::Rewritten);
            }
            Err(error) => self.found(format!("identity.toml: {error}"), Consequence::Refused),
        }
    }

    /// That there is no note is no damage: it is not synced.
    fn read_note(&mut self, files: &dyn Files) -> Result<(), StorageError> {
        let Some(bytes) = files.read_note()? else { return Ok(()) };
        match Note::read(&bytes) {
            Some(Note(noted)) => self.noted = noted,
            None => {
                let what = "checkpoint: its checksum does not match, so whether the database lost its end cannot be told";
                self.found(what.to_owned(), Consequence::Rewritten);
            }
        }
        Ok(())
    }

    fn check_meta(&mut self, meta: Meta) {
        let node = self.identity.as_ref().map(|identity| identity.node.clone());
        if let Some(node) = node.filter(|node| node != meta.node.as_str()) {
            let found = &meta.node;
            let what = format!("db: it belongs to node {found}, and identity.toml to node {node}");
            self.found(what, Consequence::Refused);
        }
        if meta.checkpoint < self.noted {
            let damage = Damage::Older { expected: self.noted, found: meta.checkpoint };
            self.found(format!("db: {damage}"), Consequence::SetAside);
        }
        self.meta = Some(meta);
    }
}

struct Lenient<'a> {
    examination: &'a mut Examination,
    damaged_counters: bool,
}

impl Lenient<'_> {
    fn found(&mut self, what: String, consequence: Consequence) {
        self.examination.found(what, consequence);
    }
}

impl Visitor for Lenient<'_> {
    type Stop = Infallible;

    fn meta(&mut self, meta: Result<Option<Meta>, BadMeta>) -> Result<Option<Meta>, Infallible> {
        let was_used = self.examination.was_used();
        match meta {
            Ok(Some(meta)) => self.examination.check_meta(meta),
            Ok(None) if self.examination.records == 0 && !was_used => {}
            Ok(None) if !was_used => {
                self.found("db: it is not tallymesh's".to_owned(), Consequence::Refused);
            }
            Ok(None) => self.found(format!("db: {}", Damage::NoMeta), Consequence::SetAside),
            Err(BadMeta::Unreadable(error)) => {
                let what = format!("db: {}", Damage::Unreadable(error));
                self.found(what, Consequence::SetAside);
            }
            Err(BadMeta::Record(error)) => {
                let what = format!("db: {}: {error}", Damage::Meta);
                self.found(what, Consequence::SetAside);
            }
            Err(BadMeta::OtherFormat(found)) => {
                let what = format!("db: it has format {found}, and this version reads {FORMAT}");
                self.found(what, Consequence::Refused);
            }
        }
        Ok(self.examination.meta.clone())
    }

    fn replica(&mut self, _: u32, _: ReplicaRecord) {}

    fn entry(&mut self, entry: OperatorEntry) {
        self.examination.entries.push(entry);
    }

    fn bad_replica(&mut self, key: &[u8], why: DamagedRecord) {
        self.found(format!("{}: {why}", name_of(key)), Consequence::SetAside);
    }

    fn replicas_end(&mut self, replicas: &BTreeMap<u32, ReplicaId>, marks: &ReplicaMarks) {
        for (number, _) in marks.iter().filter(|(number, _)| !replicas.contains_key(number)) {
            let what = format!("the watermark of replica {number}: no replica has that number");
            self.found(what, Consequence::Ignored);
        }
    }

    fn counter(&mut self, counter: StoredCounter<'_>) {
        self.examination.counters.extend(counter.to_state());
    }

    fn tombstone(&mut self, _: &[u8]) {
        self.examination.tombstones += 1;
    }

    fn bad_counter(&mut self, key: &[u8], why: BadCounter, rest: Option<StoredCounter<'_>>) {
        self.damaged_counters = true;
        let name = name_of(key);
        match why {
            BadCounter::Record(error) => {
                self.found(format!("{name}: {error}"), Consequence::SetAside);
            }
            BadCounter::UnknownReplicas(numbers) => {
                for number in numbers {
                    let what = format!(
                        "{name}: it has a cell of replica {number}, which has no record that can be read"
                    );
                    self.found(what, Consequence::SetAside);
                }
            }
        }
        let state = rest.and_then(|stored| stored.to_state());
        self.examination.counters.extend(state);
    }

    fn rejected(&mut self, rejected: Rejected) {
        let Rejected { key, why, .. } = rejected;
        self.found(format!("{}: {why}", name_of(&key)), Consequence::Rejected);
    }

    fn unknown(&mut self, key: &[u8], _: &[u8]) {
        let what = format!("record {}: this version knows no such record", hex(key));
        self.found(what, Consequence::Ignored);
    }

    fn unreadable(&mut self, kind: &'static str, error: StorageError) -> Result<(), Infallible> {
        self.damaged_counters |= kind == "the counters";
        let what = format!("db: not all of {kind} can be read: {error}");
        self.found(what, Consequence::SetAside);
        Ok(())
    }
}
