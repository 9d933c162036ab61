//! Decisions: labels and a cost in, one number out. What else there is to know of the last one is asked for after it.

use std::cell::Cell;

use napi::Result;
use napi_derive::napi;
use tallymesh::{Decision, Denial, DenialReason, Limiter, Request};

use crate::error::{Code, error, guard};
use crate::limiters::with;

thread_local! {
    /// Of the last denial: what is left, and after how many milliseconds to retry.
    static LAST_DENIAL: Cell<(f64, f64)> = const { Cell::new((0.0, 0.0)) };
    /// The number of the last receipt.
    static LAST_RECEIPT: Cell<f64> = const { Cell::new(0.0) };
}

/// Decides, and charges what is allowed. `labels` is name, value, name, value, ..., with a NUL between each two, and
/// `count` is how many labels there are.
///
/// Allowed: what is left, from 0 to infinity. Denied: minus `8 * place + reason`, with the limit's place counted from 1 (0
/// for none), and the reason as in `lib/decision.ts`.
#[napi]
pub fn acquire(handle: u32, labels: String, count: u32, cost: f64) -> Result<f64> {
    guard(|| {
        with(handle, |local| {
            let request = request(&labels, count, cost)?;
            Ok(local.receipts.with_dependent(|limiter, receipts| match limiter.acquire(&request) {
                Decision::Allowed(receipt) => {
                    let remaining = number(receipt.remaining());
                    LAST_RECEIPT.set(receipts.keep(receipt) as f64);
                    remaining
                }
                Decision::Denied(denial) => denied(limiter, &denial),
            }))
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
                Decision::Allowed(receipt) => number(receipt.remaining()),
                Decision::Denied(denial) => denied(limiter, &denial),
            })
        })
    })
}

/// Resets the counters of a request, on every node.
#[napi]
pub fn reset(handle: u32, labels: String, count: u32) -> Result<()> {
    guard(|| {
        with(handle, |local| {
            local
                .shared
                .limiter
                .reset(&request(&labels, count, 1.0)?)
                .map_err(crate::error::counter)
        })
    })
}

/// The receipt of the admission that was decided last in this thread.
#[napi]
pub fn last_receipt() -> Result<f64> {
    guard(|| Ok(LAST_RECEIPT.get()))
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

/// Takes a charge back.
#[napi]
pub fn refund(handle: u32, receipt: f64) -> Result<()> {
    guard(|| {
        with(handle, |local| {
            local.receipts.with_dependent(|_, receipts| {
                let receipt = receipts.take(receipt as u64).ok_or_else(|| {
                    let message = "the receipt is refunded already, or too old: \
                                   the latest 65536 of each thread are kept";
                    error(Code::Receipt, message)
                })?;
                receipt.refund();
                Ok(())
            })
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

fn denied(limiter: &Limiter, denial: &Denial<'_>) -> f64 {
    let wait = denial.retry_after().map_or(-1.0, |wait| wait.as_millis() as f64);
    LAST_DENIAL.set((number(denial.remaining()), wait));
    let place = limiter.limits().position(|limit| limit.name() == denial.limit_name());
    let place = place.map_or(0, |place| place + 1);
    let reason = match denial.reason() {
        DenialReason::LimitReached => 1,
        DenialReason::CostOverMax => 2,
        DenialReason::TooManyCounters => 3,
        DenialReason::KeyTooLong => 4,
        DenialReason::TooManyLabels => 5,
        // One that this version does not know.
        _ => 7,
    };
    -((8 * place + reason) as f64)
}

/// A count as JavaScript sees it: past 2^53 - 1 there is no telling apart, and no limit is that high.
pub fn number(count: u64) -> f64 {
    const SAFE_MAX: u64 = (1 << 53) - 1;
    if count == u64::MAX { f64::INFINITY } else { count.min(SAFE_MAX) as f64 }
}
