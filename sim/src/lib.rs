//! Simulated clusters of tallymesh: production machines, virtual time, injected faults, one seed.
//!
//! [`run`] lives one cluster through what [`Options`] say, while a checker that sees everything holds it against the
//! invariants. The same options give the same run, event for event.

// They panic when a reader has closed the pipe; `out.rs` has what does not.
#![deny(clippy::print_stderr, clippy::print_stdout)]

mod checker;
mod disk;
mod faults;
mod options;
mod world;

pub mod out;
pub mod study;
pub mod sweep;

pub use checker::Violation;
pub use faults::{Fault, Faults};
pub use options::{Checks, Kind, Limits, Options, Scene, Workload};
pub use world::{Measured, Outcomes, Spread, run, run_focused};
