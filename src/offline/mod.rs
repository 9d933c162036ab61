//! Data directories that no process uses: looked into, and checked.

mod check;
mod inspect;

pub use check::{CheckReport, check};
pub use inspect::{Contents, inspect};
