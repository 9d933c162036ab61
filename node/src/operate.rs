//! What an operator does: quarantine and release, and forgetting replicas.

use std::time::Duration;

use napi::Result;
use napi_derive::napi;
use tallymesh::{CounterStore, EntryError, EntryStatus, OperatorKey};

use crate::decisions::number;
use crate::error::{Code, closed, error, guard};
use crate::limiters::with;

/// What the operator said, as it stands.
#[napi(object)]
pub struct OperatorReport {
    /// What is done.
    pub action: String,
    /// To which replica or node.
    pub subject: String,
    /// When it was given, in milliseconds since 1970.
    pub at: f64,
    /// Until when it has an effect.
    pub until: f64,
    /// Whether the other nodes are told.
    pub is_told: bool,
    /// Whether it has an effect now.
    pub is_in_force: bool,
    /// How much of the table it has reached, in percent.
    pub progress: u32,
}

/// Takes what a node counted for 0.
#[napi]
pub fn operator_quarantine(
    limiter: u32,
    node: String,
    term_ms: f64,
    key: Option<String>,
) -> Result<()> {
    guard(|| {
        let node = node.parse().map_err(|why| error(Code::InvalidInput, why))?;
        let term = Duration::from_millis(term_ms as u64);
        operate(limiter, key, |store, key| store.quarantine(&node, term, key).map(drop))
    })
}

/// Counts it again.
#[napi]
pub fn operator_release(limiter: u32, node: String, key: Option<String>) -> Result<()> {
    guard(|| {
        let node = node.parse().map_err(|why| error(Code::InvalidInput, why))?;
        operate(limiter, key, |store, key| store.release(&node, key).map(drop))
    })
}

/// Removes what a replica counted, and refuses it from now on.
#[napi]
pub fn operator_forget(limiter: u32, replica: String, key: Option<String>) -> Result<()> {
    guard(|| {
        let replica = replica.parse().map_err(|why| error(Code::InvalidInput, why))?;
        operate(limiter, key, |store, key| store.forget(&replica, key).map(drop))
    })
}

fn operate(
    limiter: u32,
    key: Option<String>,
    run: impl FnOnce(&CounterStore, Option<&OperatorKey>) -> std::result::Result<(), EntryError>,
) -> Result<()> {
    let key = key.map(|key| key.parse::<OperatorKey>()).transpose();
    let key = key.map_err(|why| error(Code::InvalidInput, format!("operatorKey: {why}")))?;
    with(limiter, |local| {
        run(local.store(), key.as_ref()).map_err(|why| match why {
            EntryError::Closed => closed(),
            why => error(
                Code::Config,
                why.to_string().replace("operator.public_key", "operator.publicKey"),
            ),
        })
    })
}

/// What the operator said, for a status.
pub fn operator_report(entry: EntryStatus) -> OperatorReport {
    OperatorReport {
        action: entry.action,
        subject: entry.subject,
        at: number(entry.at.0),
        until: number(entry.until.0),
        is_told: entry.is_told,
        is_in_force: entry.is_in_force,
        progress: u32::from(entry.progress),
    }
}
