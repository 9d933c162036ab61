//! Policy: which counters a request is charged to, what each of them allows, and what the answer looks like.

mod denial;
mod label;
mod policy;
mod request;

pub use denial::{Denial, DenialReason};
pub use policy::{Charge, Charges, Lifetime, Matched, WINDOW_MAX};
pub use policy::{Limit, LimitError, Policy, Unchargeable, Window};
pub use request::Request;
