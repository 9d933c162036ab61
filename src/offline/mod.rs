//! Data directories that no process uses: looked into, checked, and their clock lowered.

mod check;
mod clock;
mod inspect;

pub use check::{CheckReport, check};
pub use clock::{ClockError, ClockReport, lower_clock, show_clock};
pub use inspect::{Contents, inspect};
