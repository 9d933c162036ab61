//! Panics on demand: what becomes of one can be tested only with one.

use napi::bindgen_prelude::PromiseRaw;
use napi::{Env, Result};
use napi_derive::napi;

use crate::error::{guard, guard_future};

/// Panics.
#[napi]
#[allow(unreachable_code)]
pub fn provoke_panic() -> Result<()> {
    guard(|| panic!("provoked"))
}

/// Panics on another thread.
#[napi]
pub fn provoke_panic_elsewhere(env: &Env) -> Result<PromiseRaw<'_, ()>> {
    guard(|| env.spawn_future(guard_future(async { panic!("provoked elsewhere") })))
}
