//! Single counters by number: found once by their key, then counted in without any text.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use napi::Result;
use napi_derive::napi;
use slab::Slab;
use tallymesh::{CounterHandle, CounterKey, Window};

use crate::decisions::number;
use crate::error::{self, closed, counter, guard};
use crate::limiters::{Shared, with};

thread_local! {
    static COUNTERS: RefCell<Slab<Counter>> = RefCell::default();
}

struct Counter {
    handle: CounterHandle,
    shared: Arc<Shared>,
}

/// Finds the counter of this limit and these values (with a NUL between each two), and returns its number. It lives for so
/// long after each change; 0 for `counters.ttl`.
#[napi]
pub fn counter_open(limiter: u32, limit: String, values: String, ttl_ms: f64) -> Result<u32> {
    guard(|| {
        with(limiter, |local| {
            let (store, key) = (local.store(), key(&limit, &values)?);
            let handle = match ttl_ms as u64 {
                0 => store.handle(&key),
                ttl_ms => store.handle_for(&key, Duration::from_millis(ttl_ms)),
            };
            let counter = Counter { handle, shared: local.shared.clone() };
            Ok(COUNTERS.with_borrow_mut(|all| all.insert(counter)) as u32)
        })
    })
}

/// Refuses what could not be counted under this limit and these values, whatever else is counted.
#[napi]
pub fn counter_check(limiter: u32, limit: String, values: String) -> Result<()> {
    guard(|| {
        with(limiter, |local| {
            let nothing = local.store().subtract(&key(&limit, &values)?, 0);
            nothing.map(drop).map_err(counter)
        })
    })
}

/// Forgets a number. The counter stays.
#[napi]
pub fn counter_release(counter: u32) -> Result<()> {
    guard(|| {
        let released = COUNTERS.with_borrow_mut(|all| all.try_remove(counter as usize));
        drop(released);
        Ok(())
    })
}

/// Forgets every number of this thread.
pub fn release_all() {
    drop(COUNTERS.take());
}

/// The counter's value.
#[napi]
pub fn counter_value(counter: u32) -> Result<f64> {
    guard(|| with_counter(counter, |handle| Ok(number(handle.value()))))
}

/// Makes the counter's place, so that what is added later finds one, and returns its value.
#[napi]
pub fn counter_reserve(counter: u32) -> Result<f64> {
    guard(|| with_counter(counter, |handle| handle.reserve().map(number).map_err(self::counter)))
}

/// Adds 1, and returns the value. The nearer it is to `max`, the sooner it is sent to the peers, as if it were bound by it.
#[napi]
pub fn counter_add(counter: u32, max: f64) -> Result<f64> {
    guard(|| {
        with_counter(counter, |handle| {
            let within = handle.try_add(1, max as u64).map_err(self::counter)?;
            let value = within.map_or_else(|| handle.add(1), Ok);
            value.map(number).map_err(self::counter)
        })
    })
}

/// Adds 1 if the value stays within `max` (and returns the value), or nothing (and returns -1).
#[napi]
pub fn counter_try(counter: u32, max: f64) -> Result<f64> {
    guard(|| {
        with_counter(counter, |handle| {
            let added = handle.try_add(1, max as u64).map_err(self::counter)?;
            Ok(added.map_or(-1.0, number))
        })
    })
}

/// Takes 1 away, if there is 1 to take. Returns how much was taken.
#[napi]
pub fn counter_take(counter: u32) -> Result<f64> {
    guard(|| {
        with_counter(counter, |handle| {
            handle.subtract(1).map(|result| number(result.taken)).map_err(self::counter)
        })
    })
}

/// Resets the counter on every instance.
#[napi]
pub fn counter_reset(counter: u32) -> Result<()> {
    guard(|| with_counter(counter, |handle| handle.reset().map_err(self::counter)))
}

/// Reads a length of time such as `1h 30m`, from 1 ms to 366 days. Returns its milliseconds, or -1 if it is none.
#[napi]
pub fn duration_ms(text: String) -> Result<f64> {
    const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);
    guard(|| match text.parse::<Window>() {
        Ok(Window::Fixed(length)) if length >= Duration::from_millis(1) && length <= LONGEST => {
            Ok(length.as_millis() as f64)
        }
        _ => Ok(-1.0),
    })
}

fn with_counter<T>(counter: u32, use_it: impl FnOnce(&CounterHandle) -> Result<T>) -> Result<T> {
    COUNTERS.with_borrow(|all| {
        let counter = all.get(counter as usize).ok_or_else(closed)?;
        counter.shared.alive()?;
        use_it(&counter.handle)
    })
}

/// The key of a counter without a window.
pub fn key(limit: &str, values: &str) -> Result<CounterKey> {
    CounterKey::new(limit, &values.split('\0').collect::<Vec<_>>()).map_err(error::key)
}
