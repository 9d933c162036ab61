//! Which cell holds which version of a replica, in version order: what a delta is read from.

use super::SlotId;
use super::version_map::VersionMap;
use crate::id::Version;

/// The slots of one replica's updates up to its watermark, ascending by version.
///
/// Each live cell has exactly one entry, at its present version. Entries of cells that have since changed or expired stay
/// behind as stale ones until [`compact`](Self::compact) drops them, so that appending costs no search.
#[derive(Debug, Default)]
pub(super) struct UpdateLog {
    entries: VersionMap,
    live_at_compaction: usize,
}

/// Below this many entries, stale ones are not worth looking for.
const COMPACT_FROM: usize = 1024;

impl UpdateLog {
    /// Appends an update; versions must ascend.
    pub(super) fn push(&mut self, version: Version, slot: SlotId) {
        debug_assert!(self.entries.last().is_none_or(|last| last < version));
        self.entries.insert(version, slot);
    }

    /// Adds an update below the last.
    pub(super) fn insert(&mut self, version: Version, slot: SlotId) {
        self.entries.insert(version, slot);
    }

    /// The entries after `from`, stale ones included.
    pub(super) fn after(&self, from: Version) -> impl Iterator<Item = (Version, SlotId)> {
        self.entries.after(from)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether at least about half of the entries are stale.
    pub(super) fn wants_compaction(&self) -> bool {
        self.entries.len() > COMPACT_FROM + 2 * self.live_at_compaction
    }

    /// Keeps only the entries that `is_live`.
    pub(super) fn compact(&mut self, is_live: impl FnMut(Version, SlotId) -> bool) {
        self.entries.retain(is_live);
        self.live_at_compaction = self.entries.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn reads_start_after_a_version_and_compaction_keeps_the_order() {
        let mut log = UpdateLog::default();
        for version in 1..=10 {
            log.push(Version(version), SlotId(version as u32));
        }
        log.compact(|version, _| version.0 % 2 == 0);
        let versions: Vec<u64> = log.after(Version(4)).map(|(version, _)| version.0).collect();
        assert_eq!(versions, [6, 8, 10]);
        assert!(!log.wants_compaction());
    }
}
