//! What the operator said, on disk: one record for each kind and subject.
//!
//! An entry is synced before what it brings about is written: cells of a replica must not be gone from the disk while the watermark
//! that vouches for them is there and the entry is not.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::record::{ENTRY_PREFIX, encode};
use super::{CheckpointWriter, StorageError};
use crate::operator::OperatorEntry;
use crate::table::Table;

/// An entry, under its kind and subject.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct EntryRecord {
    #[serde(with = "serde_bytes")]
    entry: Vec<u8>,
}

impl EntryRecord {
    /// The entry, if it is one and stands under its own key.
    pub(super) fn entry(&self, key: &[u8]) -> Option<OperatorEntry> {
        let entry = OperatorEntry::from_bytes(&self.entry).ok()?;
        (key_of(entry.kind(), entry.subject()) == key).then_some(entry)
    }
}

impl CheckpointWriter {
    /// Writes the entries that are new, and removes those that are gone, durably; says whether there was anything.
    pub(super) fn write_entries(&mut self, table: &Table) -> Result<bool, StorageError> {
        let unwritten = table.take_unwritten_entries();
        if unwritten.is_empty() {
            return Ok(false);
        }
        for (kind, subject, entry) in unwritten {
            let key = key_of(&kind, &subject);
            match entry {
                Some(entry) => {
                    let record = EntryRecord { entry: entry.to_bytes() };
                    self.store_mut().put(&key, &encode(&key, &record).0)?;
                }
                None => self.store_mut().remove(&key)?,
            }
        }
        self.sync_meta()?;
        Ok(true)
    }
}

fn key_of(kind: &str, subject: &str) -> Vec<u8> {
    // A kind is shorter than 256 bytes, so keys of different kinds never meet.
    let head = [ENTRY_PREFIX, kind.len() as u8];
    [&head, kind.as_bytes(), subject.as_bytes()].concat()
}
