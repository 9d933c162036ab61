//! Other replicas' cells of one counter, in as few bytes as they need.
//!
//! There are many counters, and most of what they count is small. A cell is a row of varints: the replica's index,
//! doubled, plus one if anything was subtracted; the version; `p`; and `n`, if there is any. That makes 5 to 7 bytes as a
//! rule, so that the cells of two or three peers stand in the counter itself, without a block of memory of their own.

use alloc::{boxed::Box, vec::Vec};

use super::cell_pages::CellPages;
use super::{Cell, ReplicaIndex};
use crate::id::Version;
use crate::varint::{self, VARINT_BYTES_MAX};

/// Cells by replica, ascending. The encoding is canonical: equal cells have equal bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PackedCells {
    /// Zeroes follow the last cell. No cell begins with one: that would be the own replica's, with nothing subtracted.
    Here([u8; BYTES_HERE]),
    /// More bytes than fit. Boxed twice, so that a counter keeps only one word.
    Elsewhere(Box<Box<[u8]>>),
    /// Too many cells for a linear scan.
    Many(Box<CellPages>),
}

const BYTES_HERE: usize = 15;
/// The most cells that are packed.
pub(crate) const PACKED_CELLS_MAX: usize = 16;
/// Four varints.
const CELL_BYTES_MAX: usize = 4 * VARINT_BYTES_MAX;

impl Default for PackedCells {
    fn default() -> PackedCells {
        PackedCells::Here([0; BYTES_HERE])
    }
}

impl PackedCells {
    /// Cells that ascend by replica; one of the own replica must have something subtracted. They count as written.
    pub(super) fn of_ascending(cells: &[(ReplicaIndex, Cell)]) -> PackedCells {
        PackedCells::of_cells(cells, false)
    }

    /// As [`of_ascending`](Self::of_ascending), of what is left of other cells: the next checkpoint writes all of them.
    pub(super) fn of_kept(cells: &[(ReplicaIndex, Cell)]) -> PackedCells {
        PackedCells::of_cells(cells, true)
    }

    fn of_cells(cells: &[(ReplicaIndex, Cell)], changed: bool) -> PackedCells {
        if cells.len() > PACKED_CELLS_MAX {
            let pages = CellPages::of_ascending(cells.iter().copied(), changed);
            return PackedCells::Many(Box::new(pages));
        }
        let mut bytes = Vec::new();
        for (replica, cell) in cells {
            bytes.extend_from_slice(Written::of(*replica, *cell).bytes());
        }
        PackedCells::of_bytes(&[&bytes])
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ReplicaIndex, Cell)> {
        let mut reader = Reader(self.bytes());
        let many = self.pages().into_iter().flat_map(CellPages::iter);
        many.chain(core::iter::from_fn(move || reader.cell()))
    }

    pub(super) fn len(&self) -> usize {
        if let PackedCells::Many(pages) = self {
            return pages.len();
        }
        let mut reader = Reader(self.bytes());
        core::iter::from_fn(|| reader.skip_cell()).count()
    }

    /// The cell of one replica.
    #[inline]
    pub(super) fn get(&self, replica: ReplicaIndex) -> Option<Cell> {
        if let PackedCells::Many(pages) = self {
            return pages.get(replica);
        }
        let mut reader = Reader(self.bytes());
        let mut cells = core::iter::from_fn(|| reader.cell());
        let (held, cell) = cells.find(|(held, _)| *held >= replica)?;
        (held == replica).then_some(cell)
    }

    /// Sets the cell of a replica; of the own one, a cell with something subtracted.
    #[expect(
        clippy::indexing_slicing,
        reason = "a cell's span lies within the bytes, and those within their length"
    )]
    pub(super) fn set(&mut self, replica: ReplicaIndex, cell: Cell) {
        if let PackedCells::Many(pages) = self {
            return pages.set(replica, cell);
        }
        let written = Written::of(replica, cell);
        let (start, end) = self.span(replica);
        if end - start == written.bytes().len() {
            return self.bytes_mut()[start..end].copy_from_slice(written.bytes());
        }
        let (before, behind) = (&self.bytes()[..start], &self.bytes()[end..self.length()]);
        *self = PackedCells::of_bytes(&[before, written.bytes(), behind]);
        if start == end && self.len() > PACKED_CELLS_MAX {
            *self = PackedCells::Many(Box::new(CellPages::of_ascending(self.iter(), true)));
        }
    }

    fn of_bytes(parts: &[&[u8]]) -> PackedCells {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if length > BYTES_HERE {
            return PackedCells::Elsewhere(Box::new(parts.concat().into()));
        }
        let mut here = [0; BYTES_HERE];
        parts.iter().copied().flatten().zip(&mut here).for_each(|(byte, to)| *to = *byte);
        PackedCells::Here(here)
    }

    /// The cells that are not packed.
    fn pages(&self) -> Option<&CellPages> {
        match self {
            PackedCells::Many(pages) => Some(pages),
            _ => None,
        }
    }

    pub(super) fn is_paged(&self) -> bool {
        self.pages().is_some()
    }

    /// The same, to take those of them that changed.
    pub(super) fn pages_mut(&mut self) -> Option<&mut CellPages> {
        match self {
            PackedCells::Many(pages) => Some(pages),
            _ => None,
        }
    }

    /// Those that are, with the zeroes that may follow.
    fn bytes(&self) -> &[u8] {
        match self {
            PackedCells::Here(bytes) => bytes,
            PackedCells::Elsewhere(bytes) => bytes,
            PackedCells::Many(_) => &[],
        }
    }

    /// How many bytes they take without those zeroes. A cell may end in a zero as well, so only reading it tells.
    fn length(&self) -> usize {
        let mut reader = Reader(self.bytes());
        while reader.skip_cell().is_some() {}
        self.bytes().len() - reader.0.len()
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            PackedCells::Here(bytes) => bytes,
            PackedCells::Elsewhere(bytes) => bytes,
            PackedCells::Many(_) => &mut [],
        }
    }

    /// Where the cell of a replica begins and ends; both are where it belongs if there is none.
    fn span(&self, replica: ReplicaIndex) -> (usize, usize) {
        let bytes = self.bytes();
        let mut reader = Reader(bytes);
        let mut start = 0;
        while let Some(held) = reader.skip_cell() {
            let end = bytes.len() - reader.0.len();
            if held >= replica {
                return (start, if held == replica { end } else { start });
            }
            start = end;
        }
        (start, start)
    }
}

/// One cell's bytes.
struct Written {
    bytes: [u8; CELL_BYTES_MAX],
    length: usize,
}

impl Written {
    fn of(replica: ReplicaIndex, cell: Cell) -> Written {
        let mut written = Written { bytes: [0; CELL_BYTES_MAX], length: 0 };
        written.number(u64::from(replica.0) << 1 | u64::from(cell.n > 0));
        written.number(cell.version.0);
        written.number(cell.p);
        if cell.n > 0 {
            written.number(cell.n);
        }
        written
    }

    fn number(&mut self, value: u64) {
        varint::write(value, |byte| self.byte(byte));
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "a cell is at most four varints, for which there is room"
    )]
    fn byte(&mut self, byte: u8) {
        self.bytes[self.length] = byte;
        self.length += 1;
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// Reads what was written above, up to the end or a zero where a cell would begin.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn cell(&mut self) -> Option<(ReplicaIndex, Cell)> {
        let (replica, has_n) = self.head()?;
        let version = Version(self.number());
        let p = self.number();
        let n = if has_n { self.number() } else { 0 };
        Some((replica, Cell { version, p, n }))
    }

    fn skip_cell(&mut self) -> Option<ReplicaIndex> {
        let (replica, has_n) = self.head()?;
        for _ in 0..if has_n { 3 } else { 2 } {
            varint::skip(&mut self.0);
        }
        Some(replica)
    }

    fn head(&mut self) -> Option<(ReplicaIndex, bool)> {
        self.0.first().filter(|byte| **byte != 0)?;
        let head = self.number();
        Some((ReplicaIndex((head >> 1) as u32), head & 1 == 1))
    }

    fn number(&mut self) -> u64 {
        varint::read(&mut self.0).unwrap_or_else(|_| {
            // Never reached: only whole numbers are written.
            self.0 = &[];
            0
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![Just(0), 0_u64..200, 1_u64..1 << 21, any::<u64>(), Just(u64::MAX)]
    }

    fn replica() -> impl Strategy<Value = ReplicaIndex> {
        prop_oneof![4 => 0_u32..6, 3 => 1_u32..300, 1 => 1_u32..=u32::MAX].prop_map(ReplicaIndex)
    }

    fn cell() -> impl Strategy<Value = Cell> {
        (number(), number(), number()).prop_map(|(version, p, n)| Cell {
            version: Version(version),
            p,
            n,
        })
    }

    proptest! {
        #[test]
        fn they_behave_like_a_map(steps in prop::collection::vec((replica(), cell()), 0..60)) {
            let mut cells = PackedCells::default();
            let mut model = BTreeMap::new();
            for (replica, mut cell) in steps {
                if replica == ReplicaIndex::OWN {
                    cell.n = cell.n.max(1);
                }
                prop_assert_eq!(cells.get(replica), model.get(&replica).copied());
                cells.set(replica, cell);
                model.insert(replica, cell);
                prop_assert_eq!(cells.get(replica), Some(cell));
                prop_assert_eq!(cells.len(), model.len());
                let expected: Vec<_> = model.iter().map(|(replica, cell)| (*replica, *cell)).collect();
                prop_assert_eq!(cells.iter().collect::<Vec<_>>(), expected);
            }
            // In whatever order they were set, they are the same bytes.
            let mut again = PackedCells::default();
            model.iter().rev().for_each(|(replica, cell)| again.set(*replica, *cell));
            prop_assert_eq!(&cells, &again);
            let ascending: Vec<_> = model.into_iter().collect();
            prop_assert_eq!(cells, PackedCells::of_ascending(&ascending));
        }
    }

    #[test]
    fn the_cells_of_two_peers_stand_in_the_counter() {
        assert_eq!(size_of::<PackedCells>(), 16);
        let mut cells = PackedCells::default();
        let cell = Cell { version: Version(200_000_000), p: 10_000, n: 0 };
        cells.set(ReplicaIndex(1), cell);
        cells.set(ReplicaIndex(2), cell);
        assert!(matches!(cells, PackedCells::Here(_)));
        cells.set(ReplicaIndex(3), cell);
        assert!(matches!(cells, PackedCells::Elsewhere(_)));
    }
}
