//! Many cells of one counter, in pages: what is looked up, inserted, or taken for a checkpoint touches one page.

use alloc::vec::Vec;

use super::{Cell, ReplicaIndex};

/// The most cells of a page.
pub(super) const PAGE_CELLS_MAX: usize = 512;

/// Cells by replica, ascending, in pages of which none is empty.
#[derive(Debug, Clone, Default)]
pub(super) struct CellPages {
    pages: Vec<CellPage>,
    length: usize,
}

#[derive(Debug, Clone)]
struct CellPage {
    cells: Vec<Entry>,
    /// Some cell changed since the last checkpoint.
    changed: bool,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    replica: ReplicaIndex,
    /// Since the last checkpoint. It stands where the cell leaves room.
    changed: bool,
    cell: Cell,
}

/// Equal cells are equal, whatever pages they stand in, and whether a checkpoint has them.
impl PartialEq for CellPages {
    fn eq(&self, other: &CellPages) -> bool {
        self.length == other.length && self.iter().eq(other.iter())
    }
}

impl Eq for CellPages {}

impl CellPages {
    /// Cells that ascend by replica; `changed` says whether the next checkpoint is to write them.
    pub(super) fn of_ascending(
        cells: impl IntoIterator<Item = (ReplicaIndex, Cell)>,
        changed: bool,
    ) -> CellPages {
        let mut pages = CellPages::default();
        for (replica, cell) in cells {
            pages.push(Entry { replica, changed, cell });
        }
        pages
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ReplicaIndex, Cell)> {
        let entries = self.pages.iter().flat_map(|page| &page.cells);
        entries.map(|entry| (entry.replica, entry.cell))
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn get(&self, replica: ReplicaIndex) -> Option<Cell> {
        let page = self.pages.get(self.page_of(replica))?;
        let at = page.index_of(replica).ok()?;
        page.cells.get(at).map(|entry| entry.cell)
    }

    /// Sets the cell of a replica, for the next checkpoint to write.
    pub(super) fn set(&mut self, replica: ReplicaIndex, cell: Cell) {
        let entry = Entry { replica, changed: true, cell };
        let number = self.page_of(replica);
        let is_last = number + 1 == self.pages.len();
        let Some(page) = self.pages.get_mut(number) else { return self.push(entry) };
        match page.index_of(replica) {
            Ok(at) => {
                page.changed = true;
                if let Some(held) = page.cells.get_mut(at) {
                    *held = entry;
                }
            }
            // Replicas get their indexes one after the other, so the last page fills and stays full.
            Err(at) if at == PAGE_CELLS_MAX && is_last => self.push(entry),
            Err(at) if page.cells.len() < PAGE_CELLS_MAX => {
                page.changed = true;
                page.cells.insert(at, entry);
                self.length += 1;
            }
            Err(_) => {
                let cells = page.cells.split_off(PAGE_CELLS_MAX / 2);
                let half = CellPage { cells, changed: page.changed };
                self.pages.insert(number + 1, half);
                self.set(replica, cell);
            }
        }
    }

    /// Copies the cells of the next page past `after` that changed since the last checkpoint, or all of them, and counts them
    /// as written; `None` when there is no such page. The last replica of the page is where the next one begins.
    pub(super) fn take_page(
        &mut self,
        after: Option<ReplicaIndex>,
        all: bool,
    ) -> Option<(ReplicaIndex, Vec<(ReplicaIndex, Cell)>)> {
        let from = after.map_or(0, |after| self.page_of(after));
        let is_after = |replica: ReplicaIndex| after.is_none_or(|after| replica > after);
        let pages = self.pages.get_mut(from..)?;
        let (page, last) = pages.iter_mut().find_map(|page| {
            let last = page.cells.last()?.replica;
            (is_after(last) && (all || page.changed)).then_some((page, last))
        })?;
        page.changed = false;
        let mut taken = Vec::with_capacity(page.cells.len());
        for entry in &mut page.cells {
            if core::mem::take(&mut entry.changed) || (all && is_after(entry.replica)) {
                taken.push((entry.replica, entry.cell));
            }
        }
        Some((last, taken))
    }

    /// The number of the page that holds a replica's cell, or would hold it.
    fn page_of(&self, replica: ReplicaIndex) -> usize {
        let begins_after =
            |page: &CellPage| page.cells.first().is_some_and(|first| first.replica <= replica);
        self.pages.partition_point(begins_after).saturating_sub(1)
    }

    /// Adds a cell behind all others.
    fn push(&mut self, entry: Entry) {
        self.length += 1;
        match self.pages.last_mut().filter(|page| page.cells.len() < PAGE_CELLS_MAX) {
            Some(page) => {
                page.changed |= entry.changed;
                page.cells.push(entry);
            }
            None => {
                self.pages.push(CellPage { cells: [entry].into(), changed: entry.changed });
            }
        }
    }
}

impl CellPage {
    fn index_of(&self, replica: ReplicaIndex) -> Result<usize, usize> {
        self.cells.binary_search_by_key(&replica, |entry| entry.replica)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::id::Version;

    fn cell(p: u64) -> Cell {
        Cell { version: Version(p), p, n: 0 }
    }

    #[test]
    fn the_flag_of_a_cell_takes_no_room() {
        assert_eq!(size_of::<Entry>(), size_of::<(ReplicaIndex, Cell)>());
    }

    proptest! {
        #[test]
        fn they_behave_like_a_map_and_give_each_change_to_one_checkpoint(
            runs in prop::collection::vec((0_u32..3_000, 1_u32..700, 1_u32..4, any::<bool>()), 1..12),
        ) {
            let mut pages = CellPages::default();
            let (mut model, mut written) = (BTreeMap::new(), BTreeMap::new());
            let mut count = 0;
            for (from, length, step, takes_all) in runs {
                for replica in (from..from + length).step_by(step as usize).map(ReplicaIndex) {
                    count += 1;
                    pages.set(replica, cell(count));
                    model.insert(replica, cell(count));
                }
                prop_assert_eq!(pages.len(), model.len());
                prop_assert!(pages.pages.iter().all(|page| (1..=PAGE_CELLS_MAX).contains(&page.cells.len())));
                prop_assert_eq!(
                    pages.iter().collect::<Vec<_>>(),
                    model.iter().map(|(replica, cell)| (*replica, *cell)).collect::<Vec<_>>()
                );
                for replica in (0..4_000).map(ReplicaIndex) {
                    prop_assert_eq!(pages.get(replica), model.get(&replica).copied());
                }
                // What is written with only what changed is what is there.
                let (mut after, mut taken) = (None, 0);
                while let Some((last, cells)) = pages.take_page(after, takes_all) {
                    taken += cells.len();
                    written.extend(cells);
                    after = Some(last);
                }
                prop_assert_eq!(&written, &model);
                if takes_all {
                    prop_assert_eq!(taken, model.len());
                }
                prop_assert!(pages.take_page(None, false).is_none());
            }
            let again = CellPages::of_ascending(model, true);
            prop_assert_eq!(&pages, &again);
        }
    }

    #[test]
    fn a_change_costs_a_checkpoint_one_page_and_one_cell() {
        let cells = (1..=10_000).map(|replica| (ReplicaIndex(replica), cell(1)));
        let mut pages = CellPages::of_ascending(cells, false);
        assert_eq!(pages.pages.len(), 10_000_usize.div_ceil(PAGE_CELLS_MAX));
        assert!(pages.take_page(None, false).is_none());
        pages.set(ReplicaIndex(7_000), cell(2));
        let (last, taken) = pages.take_page(None, false).unwrap();
        assert_eq!(taken, [(ReplicaIndex(7_000), cell(2))]);
        assert!(pages.take_page(Some(last), false).is_none());
    }

    #[test]
    fn a_change_behind_the_walk_is_left_for_the_next_one() {
        let cells = (1..=2_000).map(|replica| (ReplicaIndex(replica), cell(1)));
        let mut pages = CellPages::of_ascending(cells, true);
        let mut after = None;
        let mut walks = 0;
        while let Some((last, _)) = pages.take_page(after, false) {
            pages.set(ReplicaIndex(1), cell(walks + 2));
            (after, walks) = (Some(last), walks + 1);
        }
        assert_eq!(walks, 4, "a busy merge does not keep the walk going");
        assert!(pages.take_page(None, false).is_some());
    }
}
