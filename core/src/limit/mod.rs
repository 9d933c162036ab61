//! Policy: which counters a request is charged to, what each of them allows, and what the answer looks like.

mod denial;
mod label;
mod limit;
mod request;

pub use denial::{Denial, DenialReason};
pub use limit::{Charge, Charges, Lifetime, Matched, WINDOW_MAX};
pub use limit::{Limit, LimitError, Policy, Unchargeable, Window};
pub use request::Request;
