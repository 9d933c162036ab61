//! Blocks: a key is blocked until a moment, whichever node set it.
//!
//! Counters add up, so a moment cannot be one: two instances that block a key at once would make it twice as late. A block is
//! therefore a set of marks instead, one for each of the intervals that cover it, and blocks at once are their union. The
//! intervals are aligned and 1, 2, 4, ... seconds long, so that a block of a day takes at most 34 of them.

use napi::Result;
use napi_derive::napi;
use tallymesh::{CounterKey, CounterStore, Timestamp};

use crate::error::{counter, guard, key};
use crate::limiters::with;

/// Intervals are up to 2^25 seconds long: over a year.
const LEVELS: u32 = 26;

/// Blocks the key for so long, rounded up to a whole second. Returns how long it is blocked now, in milliseconds.
#[napi]
pub fn block(handle: u32, limit: String, values: String, duration_ms: f64) -> Result<f64> {
    guard(|| {
        with(handle, |local| {
            let store = local.store();
            let now = store.now();
            let end = now.0.saturating_add(duration_ms as u64).div_ceil(1000);
            for interval in cover(now.0 / 1000, end) {
                // A mark must last as long as what it marks, whatever `counters.ttl` says.
                let ttl = Timestamp(interval.end().saturating_mul(1000)).since(now);
                store.add_for(&interval.key(&limit, &values)?, 1, ttl).map_err(counter)?;
            }
            blocked_for(store, now, &limit, &values)
        })
    })
}

/// How long the key is still blocked, in milliseconds; 0 if it is not.
#[napi]
pub fn block_remaining(handle: u32, limit: String, values: String) -> Result<f64> {
    guard(|| with(handle, |local| blocked_for(local.store(), local.store().now(), &limit, &values)))
}

/// Ends a block, everywhere.
#[napi]
pub fn unblock(handle: u32, limit: String, values: String) -> Result<()> {
    guard(|| {
        with(handle, |local| {
            let store = local.store();
            let mut second = store.now().0 / 1000;
            while let Some(interval) = marked(store, second, &limit, &values)? {
                store.reset(&interval.key(&limit, &values)?).map_err(counter)?;
                // Another, shorter or longer, may be marked here as well.
                if marked(store, second, &limit, &values)?.is_none() {
                    second = interval.end();
                }
            }
            Ok(())
        })
    })
}

/// The seconds from `index << level` on, `1 << level` of them.
#[derive(Debug, Clone, Copy)]
struct Interval {
    level: u32,
    index: u64,
}

impl Interval {
    fn of(level: u32, second: u64) -> Interval {
        Interval { level, index: second >> level }
    }

    fn end(self) -> u64 {
        (self.index + 1) << self.level
    }

    fn key(self, limit: &str, values: &str) -> Result<CounterKey> {
        let (level, index) = (self.level.to_string(), self.index.to_string());
        let values = values.split('\0').chain([&level[..], &index]);
        CounterKey::new(limit, &values.collect::<Vec<_>>()).map_err(key)
    }
}

/// The fewest intervals that make up the seconds from `from` to before `to`.
fn cover(from: u64, to: u64) -> impl Iterator<Item = Interval> {
    let mut second = from;
    std::iter::from_fn(move || {
        let left = to.checked_sub(second).filter(|left| *left > 0)?;
        let level = second.trailing_zeros().min(left.ilog2()).min(LEVELS - 1);
        let interval = Interval::of(level, second);
        second = interval.end();
        Some(interval)
    })
}

/// The longest marked interval that holds this second.
fn marked(
    store: &CounterStore,
    second: u64,
    limit: &str,
    values: &str,
) -> Result<Option<Interval>> {
    for level in (0..LEVELS).rev() {
        let interval = Interval::of(level, second);
        if store.value(&interval.key(limit, values)?) > 0 {
            return Ok(Some(interval));
        }
    }
    Ok(None)
}

fn blocked_for(store: &CounterStore, now: Timestamp, limit: &str, values: &str) -> Result<f64> {
    let mut second = now.0 / 1000;
    while let Some(interval) = marked(store, second, limit, values)? {
        second = interval.end();
    }
    Ok(second.saturating_mul(1000).saturating_sub(now.0) as f64)
}
