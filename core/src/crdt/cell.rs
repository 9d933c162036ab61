//! One replica's share of one counter.

use crate::id::Version;

/// The most that one cell counts each way: 2^53 - 1, the largest integer that JavaScript holds exactly too.
pub const COUNT_MAX: u64 = (1 << 53) - 1;

/// What one replica has counted in one counter: `p` added and `n` subtracted, as of `version`.
///
/// The values are absolute, never "+1", so that loss, duplication and reordering on the network are all harmless. Only the
/// replica itself writes its cell; every other node keeps the copy with the highest version.
///
/// ```
/// use tallymesh::{Cell, Version};
///
/// let cell = Cell { version: Version(9), p: 5, n: 1 };
/// assert_eq!(cell.p - cell.n, 4);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cell {
    /// The writer's sequence number of this state.
    pub version: Version,
    /// Sum of what was added.
    pub p: u64,
    /// Sum of what was subtracted (refunds).
    pub n: u64,
}

impl Cell {
    /// The copy to keep: the higher version. With one writer two copies of a version are equal; were they not, the greater
    /// `(p, n)` is kept, so that every node still keeps the same one.
    pub(crate) fn merge(self, other: Cell) -> Cell {
        self.max(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_higher_version_is_kept_in_either_order() {
        let older = Cell { version: Version(4), p: 2, n: 0 };
        let newer = Cell { version: Version(9), p: 5, n: 1 };
        assert_eq!((older.merge(newer), newer.merge(older)), (newer, newer));
    }
}
