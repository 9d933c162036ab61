//! Counters of the present window, for the adapters to other packages.

use napi::Env;
use napi::Result;
use napi::bindgen_prelude::PromiseRaw;
use napi_derive::napi;
use tallymesh::{CountError, CounterKey, CounterStore, WindowSpan};

use crate::counters::key;
use crate::decisions::number;
use crate::error::{self, counter, guard, guard_future};
use crate::limiters::with;

/// A counter of one window.
#[napi(object)]
pub struct WindowCount {
    /// Its value.
    pub value: f64,
    /// How long until the window ends, in milliseconds; -1 for a counter without one.
    pub ends_in_ms: f64,
    /// When it ends, in milliseconds since 1970; -1 for a counter without one.
    pub ends_at_ms: f64,
}

/// Adds `amount` (or subtracts it, below 0; or only looks, at 0) in the present window of this length; a length of 0 means
/// none.
#[napi]
pub fn window_add(
    handle: u32,
    limit: String,
    values: String,
    length_ms: f64,
    amount: f64,
) -> Result<WindowCount> {
    change(handle, &limit, &values, length_ms, |store, key| match amount {
        0.0 => Ok(store.value(key)),
        above if above > 0.0 => store.add(key, above as u64),
        below => store.subtract(key, -below as u64),
    })
}

/// Makes the value in the present window what is given.
#[napi]
pub fn window_set(
    handle: u32,
    limit: String,
    values: String,
    length_ms: f64,
    value: f64,
) -> Result<WindowCount> {
    change(handle, &limit, &values, length_ms, |store, key| {
        let (held, wanted) = (store.value(key), value as u64);
        match wanted.checked_sub(held) {
            Some(missing) => store.add(key, missing),
            None => store.subtract(key, held - wanted),
        }
    })
}

/// Resets the counter of the present window, on every node.
#[napi]
pub fn window_reset(
    handle: u32,
    limit: String,
    values: String,
    length_ms: f64,
) -> Result<WindowCount> {
    change(handle, &limit, &values, length_ms, |store, key| store.reset(key).map(|()| 0))
}

/// Resets every counter of this limit whose first value is this one, on every node.
#[napi]
pub fn reset_all(
    env: &Env,
    handle: u32,
    limit: String,
    first: String,
) -> Result<PromiseRaw<'_, ()>> {
    guard(|| {
        let store = with(handle, |local| Ok(local.store().clone()))?;
        env.spawn_future(guard_future(async move {
            let counters = store.iter().filter(|counter| {
                counter.key.limit() == limit && counter.key.values().next() == Some(&first)
            });
            for state in counters {
                match store.reset(&state.key) {
                    // Its window has ended meanwhile, and the counter with it.
                    Ok(()) | Err(CountError::NotThisWindow { .. }) => {}
                    Err(source) => return Err(counter(source)),
                }
            }
            Ok(())
        }))
    })
}

fn change(
    handle: u32,
    limit: &str,
    values: &str,
    length_ms: f64,
    make: impl Fn(&CounterStore, &CounterKey) -> std::result::Result<u64, CountError>,
) -> Result<WindowCount> {
    guard(|| {
        with(handle, |local| {
            let store = local.store();
            if length_ms < 1.0 {
                let value = make(store, &key(limit, values)?).map_err(counter)?;
                return Ok(WindowCount {
                    value: number(value),
                    ends_in_ms: -1.0,
                    ends_at_ms: -1.0,
                });
            }
            let values: Vec<&str> = values.split('\0').collect();
            loop {
                let now = store.now();
                let window = WindowSpan::at(length_ms as u64, now).map_err(error::key)?;
                let key = CounterKey::windowed(limit, &values, window).map_err(error::key)?;
                match make(store, &key) {
                    // It ended since the clock was read: the next one has begun.
                    Err(CountError::NotThisWindow { .. }) => {}
                    Err(source) => return Err(counter(source)),
                    Ok(value) => {
                        return Ok(WindowCount {
                            value: number(value),
                            ends_in_ms: window.end().since(now).as_millis() as f64,
                            ends_at_ms: window.end().0 as f64,
                        });
                    }
                }
            }
        })
    })
}
