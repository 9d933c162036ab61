//! The three numbers of a counter that only grow.

use serde::{Deserialize, Serialize};

/// Three numbers that only grow within a generation, each merged by its own maximum.
///
/// What they mean depends on the counter's kind: of a session and of a plain counter, `at` is the last use and `p0` the time
/// to live, both in milliseconds. How they merge does not depend on it, so a node merges kinds that it does not know.
///
/// ```
/// use tallymesh::Marks;
///
/// let (here, there) = (Marks { at: 100, p0: 9, n0: 0 }, Marks { at: 200, p0: 5, n0: 0 });
/// assert_eq!(here.merge(there), Marks { at: 200, p0: 9, n0: 0 });
/// assert!(here.at <= Marks::AT_MAX);
/// ```
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Marks {
    /// A moment; at most 2^63 - 1.
    pub at: u64,
    /// The first number.
    pub p0: u64,
    /// The second number.
    pub n0: u64,
}

impl Marks {
    /// The greatest `at`.
    pub const AT_MAX: u64 = i64::MAX as u64;

    /// Each number's own maximum. As one tuple of which the greater wins, a number that grew elsewhere would be lost.
    #[must_use]
    pub fn merge(self, other: Marks) -> Marks {
        Marks { at: self.at.max(other.at), p0: self.p0.max(other.p0), n0: self.n0.max(other.n0) }
    }
}

/// Numbers as they are written on the wire and on disk: without the zeroes at their end.
pub(crate) fn without_trailing_zeroes(numbers: &[u64]) -> &[u64] {
    let last = numbers.iter().rposition(|number| *number != 0);
    numbers.get(..last.map_or(0, |last| last + 1)).unwrap_or_default()
}
