//! Counters of the present window, for the adapters to other packages.

use napi::Env;
use napi::Result;
use napi::bindgen_prelude::PromiseRaw;
use napi_derive::napi;
use tallymesh::{CountError, CounterKey, CounterStore, Subtracted, Timestamp, WindowSpan};

use crate::counters::key;
use crate::decisions::{ms, number};
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
    /// How much was taken away.
    pub taken: f64,
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
        0.0 => Ok(only(store.value(key))),
        above if above > 0.0 => store.add(key, above as u64).map(only),
        below => store.subtract(key, -below as u64).map(after),
    })
}

/// Takes 1 away in the window of this length that ends then, if that is the present one and there is 1 to take. Returns how
/// much was taken.
#[napi]
pub fn window_take(
    handle: u32,
    limit: String,
    values: String,
    length_ms: f64,
    ends_at_ms: f64,
) -> Result<f64> {
    guard(|| {
        with(handle, |local| {
            let values: Vec<&str> = values.split('\0').collect();
            let begins = Timestamp((ends_at_ms - length_ms) as u64);
            let window = WindowSpan::at(length_ms as u64, begins).map_err(error::key)?;
            let key = CounterKey::windowed(&limit, &values, window).map_err(error::key)?;
            match local.store().subtract(&key, 1) {
                Err(CountError::NotThisWindow { .. }) => Ok(0.0),
                subtracted => subtracted.map(|result| number(result.taken)).map_err(counter),
            }
        })
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
            Some(missing) => store.add(key, missing).map(only),
            None => store.subtract(key, held - wanted).map(after),
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
    change(handle, &limit, &values, length_ms, |store, key| store.reset(key).map(|()| only(0)))
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

/// What a change made of a counter.
struct Changed {
    value: u64,
    taken: u64,
}

fn only(value: u64) -> Changed {
    Changed { value, taken: 0 }
}

fn after(subtracted: Subtracted) -> Changed {
    Changed { value: subtracted.value, taken: subtracted.taken }
}

fn change(
    handle: u32,
    limit: &str,
    values: &str,
    length_ms: f64,
    make: impl Fn(&CounterStore, &CounterKey) -> std::result::Result<Changed, CountError>,
) -> Result<WindowCount> {
    guard(|| {
        with(handle, |local| {
            let store = local.store();
            if length_ms < 1.0 {
                let Changed { value, taken } =
                    make(store, &key(limit, values)?).map_err(counter)?;
                return Ok(WindowCount {
                    value: number(value),
                    ends_in_ms: -1.0,
                    ends_at_ms: -1.0,
                    taken: number(taken),
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
                    Ok(Changed { value, taken }) => {
                        return Ok(WindowCount {
                            taken: number(taken),
                            value: number(value),
                            ends_in_ms: ms(store.wait_until(window.end())),
                            ends_at_ms: window.end().0 as f64,
                        });
                    }
                }
            }
        })
    })
}
