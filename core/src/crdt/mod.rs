//! Replicated values: cells with one writer each, the counters made of them, and version vectors.
//!
//! The PN-counter is that of Shapiro et al., "A comprehensive study of convergent and commutative replicated data types"
//! (INRIA RR-7506, 2011), section 3.1.3, with a version in each cell so that a delta can be told from its age.

mod cell;
mod cell_pages;
mod delta;
mod marks;
mod packed_cells;
mod pn_counter;
#[cfg(test)]
mod take_tests;
mod version_vector;

pub use cell::{COUNT_MAX, Cell};
pub use delta::{Begun, Delta, DigestEntry, Update};
pub use delta::{UPDATE_BYTES_ESTIMATE, UPDATE_BYTES_MAX, UPDATE_BYTES_USUAL};
pub use marks::Marks;
pub(crate) use marks::without_trailing_zeroes;
pub(crate) use packed_cells::PACKED_CELLS_MAX;
pub use pn_counter::{Merged, PnCounter, ReplicaIndex};
pub use version_vector::VersionVector;
