//! Limits: which counters a request is charged to, what each of them allows, and why one denies.
//!
//! | | |
//! |---|---|
//! | [`Limit`], [`Window`] | what is configured |
//! | [`Request`] | what is asked |
//! | [`Policy`] | the limits in force; finds the [`Demands`] of a request |
//! | [`rule`] | whether a demand fits; nothing else compares a value with a limit |
//! | [`DenialReason`] | why a request was denied |
//!
//! Invariant: nothing here holds a counter, reads a clock or writes a log.

mod demand;
mod denial_reason;
mod entry;
mod key_prefix;
mod label;
#[expect(clippy::module_inception, reason = "a file is named after its type")]
mod limit;
mod limit_hash;
mod matched;
mod policy;
mod request;
pub mod rule;
mod when_cut_off;
mod when_label_missing;
mod window;

pub use demand::{Demand, DemandError, Demands, MissingLabel};
pub use denial_reason::{DenialReason, InvalidDenialReason};
pub use entry::LimitEntry;
pub use limit::{Limit, LimitError};
pub use limit_hash::LimitHash;
pub use matched::Matched;
pub use policy::Policy;
pub use request::{Request, cost_of, refused_for_labels};
pub use when_cut_off::{InvalidWhenCutOff, WhenCutOff};
pub use when_label_missing::{InvalidWhenLabelMissing, WhenLabelMissing};
pub use window::{InvalidWindow, Lifetime, Term, WINDOW_MAX, Window};
