//! Policy: which counters a request is charged to, what each of them allows, and what the answer looks like.

mod decision;
mod policy;
mod request;

pub use decision::{Denial, DenialReason};
pub use policy::{Charge, Charges, Matched, WINDOW_MAX, end_of_use};
pub use policy::{Limit, LimitError, Policy, Unchargeable, Window};
pub use request::Request;
