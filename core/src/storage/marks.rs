//! What is kept of each replica beside its cells: its watermark, and when the last of them ends. There may be very many
//! replicas, of which few change between two checkpoints, so they stand in pages of which only those are written that
//! changed.
//!
//! A page has the replicas of 256 numbers, those that have anything: `[[replica number, watermark, end], ...]`.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::record::{encode, marks_key};
use super::{KvStore, StorageError};
use crate::id::Version;

const REPLICAS_PER_PAGE: u32 = 256;

/// One replica's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// Everything up to here is held, superseded or expired.
    pub watermark: Version,
    /// When the last counter ends that holds, or held, a cell of it, in seconds since 1970.
    pub end_s: u64,
}

/// The marks of all replicas by their numbers.
#[derive(Debug, Clone, Default)]
pub(super) struct ReplicaMarks {
    by_number: BTreeMap<u32, Mark>,
    /// Pages that are not in storage as they are here.
    changed: BTreeSet<u32>,
}

/// A page as it is stored.
pub(super) type MarksRecord = Vec<(u32, Version, u64)>;

impl ReplicaMarks {
    /// Takes in a page that is stored.
    pub(super) fn read(&mut self, page: &MarksRecord) {
        for (number, watermark, end_s) in page {
            self.by_number.insert(*number, Mark { watermark: *watermark, end_s: *end_s });
        }
    }

    /// Takes in what an earlier build wrote into the last checkpoint's entry, which is to stand in pages from now on.
    pub(super) fn adopt(&mut self, watermarks: &[(u32, Version)], ends: &[(u32, u64)]) {
        for (number, watermark) in watermarks {
            if self.get(*number).is_none() {
                self.set(*number, *watermark, 0);
            }
        }
        ends.iter().for_each(|(number, end_s)| self.raise_end(*number, *end_s));
    }

    pub(super) fn get(&self, number: u32) -> Option<Mark> {
        self.by_number.get(&number).copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, Mark)> {
        self.by_number.iter().map(|(number, mark)| (*number, *mark))
    }

    /// Sets a watermark, and raises the end.
    pub(super) fn set(&mut self, number: u32, watermark: Version, end_s: u64) {
        let before = self.get(number).unwrap_or_default();
        let mark = Mark { watermark, end_s: end_s.max(before.end_s) };
        if mark != before {
            self.by_number.insert(number, mark);
            self.changed.insert(number / REPLICAS_PER_PAGE);
        }
    }

    pub(super) fn raise_end(&mut self, number: u32, end_s: u64) {
        let watermark = self.get(number).unwrap_or_default().watermark;
        self.set(number, watermark, end_s);
    }

    /// Vouches no more for what is held of these replicas; of all, if it is not known of which.
    pub(super) fn forget_watermarks(&mut self, of: Option<&BTreeSet<u32>>) {
        for (number, mark) in &mut self.by_number {
            let is_named = of.is_none_or(|of| of.contains(number));
            if is_named && mark.watermark > Version::ZERO {
                mark.watermark = Version::ZERO;
                self.changed.insert(number / REPLICAS_PER_PAGE);
            }
        }
    }

    pub(super) fn remove(&mut self, number: u32) {
        if self.by_number.remove(&number).is_some() {
            self.changed.insert(number / REPLICAS_PER_PAGE);
        }
    }

    /// Whether there is anything to write.
    pub(super) fn are_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Writes the pages that changed.
    pub(super) fn write(&mut self, store: &mut dyn KvStore) -> Result<(), StorageError> {
        for page in core::mem::take(&mut self.changed) {
            let first = page * REPLICAS_PER_PAGE;
            let on_page = self.by_number.range(first..=first + (REPLICAS_PER_PAGE - 1));
            let record: MarksRecord =
                on_page.map(|(number, mark)| (*number, mark.watermark, mark.end_s)).collect();
            let key = marks_key(page);
            if record.is_empty() {
                store.remove(&key)?;
            } else {
                store.put(&key, &encode(&key, &record).0)?;
            }
        }
        Ok(())
    }
}
