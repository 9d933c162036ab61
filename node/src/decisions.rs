//! Decisions: labels and a cost in, one number out. What else there is to know of the last one is asked for after it.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use napi::Result;
use napi_derive::napi;
use tallymesh::{Decision, Denial, DenialReason, Limiter, Peek, Request, Reset};

use crate::error::{Code, closed, error, guard};
use crate::limiters::with;

thread_local! {
    /// Of the last denial: what is left, and after how many milliseconds to retry.
    static LAST_DENIAL: Cell<(f64, f64)> = const { Cell::new((0.0, 0.0)) };
    /// The label that the request lacked that was last denied for that.
    static LAST_MISSING_LABEL: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Decides, and charges what is allowed. `labels` is name, value, name, value, ..., with a NUL between each two, and
/// `count` is how many labels there are.
///
/// Allowed: what is left, from 0 to infinity. Denied: minus `16 * limit + reason`, with the limit's index counted from 1 (0
/// for none), and the reason as in `lib/decision.ts`.
#[napi]
pub fn acquire(handle: u32, labels: String, count: u32, cost: f64) -> Result<f64> {
    guard(|| {
        with(handle, |local| {
            let request = request(&labels, count, cost)?;
            let limiter = &local.shared.limiter;
            Ok(match limiter.acquire(&request) {
                Decision::Allowed(receipt) => {
                    let remaining = left(receipt.remaining());
                    local.receipts.keep(receipt);
                    remaining
                }
                Decision::Denied(denial) => denied(limiter, &denial)?,
            })
        })
    })
}

/// What [`acquire`] would answer, with nothing charged.
#[napi]
pub fn peek(handle: u32, labels: String, count: u32, cost: f64) -> Result<f64> {
    guard(|| {
        with(handle, |local| {
            let request = request(&labels, count, cost)?;
            let limiter = &local.shared.limiter;
            Ok(match limiter.peek(&request) {
                Peek::Allowed { remaining, .. } => left(remaining),
                Peek::Denied(denial) => denied(limiter, &denial)?,
            })
        })
    })
}

/// Resets the counters that count for the labels of a request alone, on every node. Returns how many there were.
#[napi]
pub fn reset(handle: u32, labels: String, count: u32) -> Result<u32> {
    guard(|| {
        with(handle, |local| {
            let request = request(&labels, count, 1.0)?;
            let resets = local.shared.limiter.reset(&request).map_err(crate::error::reset)?;
            Ok(resets as u32)
        })
    })
}

/// Resets the counter of the limit with this name for these labels, on every node. Returns how many there were: 0 or 1.
#[napi]
pub fn reset_limit(handle: u32, limit: String, labels: String, count: u32) -> Result<u32> {
    guard(|| {
        with(handle, |local| {
            let given = request(&labels, count, 1.0)?;
            let reset = given
                .labels()
                .fold(Reset::limit(&limit), |reset, (label, value)| reset.label(label, value));
            let resets = local.shared.limiter.reset(reset).map_err(crate::error::reset)?;
            Ok(resets as u32)
        })
    })
}

/// How much this side of a cut may admit in all under the limits of a request; `None` while there is no cut.
#[napi]
pub fn cap(handle: u32, labels: String, count: u32) -> Result<Option<f64>> {
    guard(|| {
        with(handle, |local| {
            let request = request(&labels, count, 1.0)?;
            Ok(local.shared.limiter.cap(&request).map(number))
        })
    })
}

/// What was left under the limit that denied last in this thread.
#[napi]
pub fn last_remaining() -> Result<f64> {
    guard(|| Ok(LAST_DENIAL.get().0))
}

/// After how many milliseconds the request that was denied last in this thread may be tried again; -1 if never.
#[napi]
pub fn last_retry_after_ms() -> Result<f64> {
    guard(|| Ok(LAST_DENIAL.get().1))
}

/// The label that the request lacked that was denied last in this thread for want of one.
#[napi]
pub fn last_missing_label() -> Result<Option<String>> {
    guard(|| Ok(LAST_MISSING_LABEL.with_borrow(Clone::clone)))
}

/// Takes a charge back, by the text of its receipt.
#[napi]
pub fn refund(handle: u32, receipt: String) -> Result<()> {
    guard(|| {
        with(handle, |local| {
            let receipt = local.receipts.take(&receipt)?;
            local.shared.limiter.refund(receipt).map_err(crate::error::refused)
        })
    })
}

/// Makes a receipt, by its text, a token.
#[napi]
pub fn token(handle: u32, receipt: String) -> Result<String> {
    guard(|| {
        with(handle, |local| {
            let receipt = local.receipts.take(&receipt)?;
            local.shared.limiter.token(receipt).map_err(crate::error::refused)
        })
    })
}

/// Takes a charge back, by a token.
#[napi]
pub fn refund_token(handle: u32, token: String) -> Result<()> {
    guard(|| {
        with(handle, |local| {
            local.shared.limiter.refund_token(&token).map_err(crate::error::refused)
        })
    })
}

/// Reads the labels. A NUL inside one would make more of them than there are, and so would be noticed.
fn request(labels: &str, count: u32, cost: f64) -> Result<Request<'_>> {
    let mut request = Request::new().cost(cost as u64);
    let mut parts = labels.split('\0');
    for _ in 0..count {
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else {
            return Err(malformed());
        };
        if name.is_empty() || value.is_empty() {
            return Err(malformed());
        }
        request = request.with(name, value);
    }
    let rest = parts.next();
    if rest.is_none() || (count == 0 && labels.is_empty()) { Ok(request) } else { Err(malformed()) }
}

#[cold]
fn malformed() -> napi::Error {
    error(Code::InvalidInput, "a label is empty or holds a NUL")
}

fn denied(limiter: &Limiter, denial: &Denial) -> Result<f64> {
    if denial.reason() == DenialReason::Closed {
        // By another thread, just now.
        return Err(closed());
    }
    let wait = denial.retry_after().map_or(-1.0, ms);
    LAST_DENIAL.set((number(denial.remaining()), wait));
    let position =
        |name| limiter.limits().position(|limit| limit.name() == name).map(|index| index + 1);
    let limit = denial.limit_name().and_then(position).unwrap_or(0);
    let reason = match denial.reason() {
        DenialReason::LimitReached => 1,
        DenialReason::CostOverMax => 2,
        DenialReason::TooManyCounters => 3,
        DenialReason::KeyTooLong => 4,
        DenialReason::TooManyLabels => 5,
        DenialReason::MissingLabel => 6,
        DenialReason::Unmatched => 7,
        DenialReason::CounterExhausted => 8,
        DenialReason::CutOff => 9,
        // One that this version does not know.
        _ => 15,
    };
    if let Some(label) = denial.missing_label() {
        LAST_MISSING_LABEL.with_borrow_mut(|last| *last = Some(label.to_owned()));
    }
    Ok(-((16 * limit + reason) as f64))
}

/// A length of time in whole milliseconds, rounded up.
pub fn ms(length: Duration) -> f64 {
    length.as_nanos().div_ceil(1_000_000) as f64
}

/// What is left, as JavaScript sees it.
fn left(remaining: Option<u64>) -> f64 {
    remaining.map_or(f64::INFINITY, number)
}

/// A count as JavaScript sees it: past 2^53 - 1 there is no telling apart, and no limit is that high.
pub fn number(count: u64) -> f64 {
    const SAFE_MAX: u64 = (1 << 53) - 1;
    count.min(SAFE_MAX) as f64
}
