//! Handles of the store: one counter found once, for many changes.

use std::sync::Arc;
use std::time::Duration;

use crate::store::{CounterStore, Subtracted};
use tallymesh_core::key::CounterKey;
use tallymesh_core::limit::Lifetime;
use tallymesh_core::table::{CachedSlot, CountError, Op, OpResult};

/// One counter of a store, without a search for it each time.
///
/// A cheap handle: clones share where the counter was found. It stays right when the counter expires, is reset, or is swept
/// and made again.
///
/// ```
/// use tallymesh::{Config, CounterKey, CounterStore};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = CounterStore::open(Config::builder("a").in_memory().build()?).await?;
/// let calls = store.handle(&CounterKey::new("calls", &["session-42"])?);
/// assert_eq!(calls.try_add(2, 3)?, Some(2));
/// assert_eq!(calls.try_add(2, 3)?, None);
/// assert_eq!(calls.add(1)?, 3);
/// assert_eq!(calls.value(), 3);
/// # store.close().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct CounterHandle {
    store: CounterStore,
    counter: Arc<Counter>,
}

#[derive(Debug)]
struct Counter {
    key: CounterKey,
    cached_slot: CachedSlot,
    /// How long the counter lives after a change; `None` for `counters.ttl`.
    lifetime: Option<Lifetime>,
}

impl CounterStore {
    /// A handle of one counter, which need not exist yet.
    pub fn handle(&self, key: &CounterKey) -> CounterHandle {
        self.handle_of(key, None)
    }

    /// As [`handle`](Self::handle), of a counter that is to live for this time after each change made by the handle, as by
    /// [`add_for`](Self::add_for): from 1 ms to 366 days, in the place of `counters.ttl`.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tallymesh::{Config, CounterKey, CounterStore};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let store = CounterStore::open(Config::builder("a").in_memory().build()?).await?;
    /// let key = CounterKey::new("calls", &["session-42"])?;
    /// store.handle_for(&key, Duration::from_secs(3600)).add(1)?;
    /// let ends = store.iter().next().expect("it was just made").expires_at;
    /// assert!(store.wait_until(ends) < Duration::from_secs(2 * 3600));
    /// # store.close().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn handle_for(&self, key: &CounterKey, ttl: Duration) -> CounterHandle {
        self.handle_of(key, Some(Lifetime::new(ttl)))
    }

    fn handle_of(&self, key: &CounterKey, lifetime: Option<Lifetime>) -> CounterHandle {
        let cached_slot = CachedSlot::default();
        let counter = Arc::new(Counter { key: key.clone(), cached_slot, lifetime });
        CounterHandle { store: self.clone(), counter }
    }
}

impl CounterHandle {
    /// The counter's key.
    pub fn key(&self) -> &CounterKey {
        &self.counter.key
    }

    /// As [`CounterStore::value`].
    pub fn value(&self) -> u64 {
        let engine = self.store.engine();
        let (table, now) = (engine.table(), engine.now());
        table.value_by_ref(now, self.counter.cached_slot.get()).unwrap_or_else(|| {
            self.find();
            table.value(now, self.key().as_bytes())
        })
    }

    /// As [`CounterStore::add`].
    ///
    /// # Errors
    /// As there.
    pub fn add(&self, amount: u64) -> Result<u64, CountError> {
        self.execute(Op::Add(amount)).map(|result| result.value)
    }

    /// As [`CounterStore::subtract`].
    ///
    /// # Errors
    /// As there.
    pub fn subtract(&self, amount: u64) -> Result<Subtracted, CountError> {
        self.execute(Op::Subtract(amount)).map(Subtracted::of)
    }

    /// Makes the counter if it does not exist, and returns its value. So a later [`add`](Self::add) finds room, until the
    /// counter was not used for `counters.ttl`.
    ///
    /// # Errors
    /// As [`CounterStore::add`].
    ///
    /// ```
    /// # use tallymesh::{Config, CountError, CounterKey, CounterStore};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let config = Config::builder("a").in_memory().max_counters(1).build()?;
    /// let store = CounterStore::open(config).await?;
    /// let first = store.handle(&CounterKey::new("calls", &["one"])?);
    /// let second = store.handle(&CounterKey::new("calls", &["two"])?);
    /// assert_eq!(first.reserve()?, 0);
    /// assert!(matches!(second.reserve(), Err(CountError::TooManyCounters { .. })));
    /// assert_eq!(first.add(1)?, 1);
    /// # store.close().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn reserve(&self) -> Result<u64, CountError> {
        self.execute(Op::Reserve).map(|result| result.value)
    }

    /// Adds to the counter if its value stays within `max`, in one step, and returns the new value; otherwise adds nothing
    /// and returns `None`. Near `max` the change is sent to the peers at once.
    ///
    /// # Errors
    /// As [`CounterStore::add`].
    pub fn try_add(&self, amount: u64, max: u64) -> Result<Option<u64>, CountError> {
        let result = self.execute(Op::TryAdd { amount, max })?;
        Ok(result.applied.then_some(result.value))
    }

    /// As [`CounterStore::reset`].
    ///
    /// # Errors
    /// As there.
    pub fn reset(&self) -> Result<(), CountError> {
        self.execute(Op::Reset).map(drop)
    }

    fn execute(&self, op: Op) -> Result<OpResult, CountError> {
        let engine = self.store.engine();
        let now = engine.now();
        let lifetime = self.counter.lifetime.unwrap_or_else(|| engine.counter_lifetime());
        let slot_ref = self.counter.cached_slot.get();
        let table = engine.table();
        let result = match table.execute_by_ref(now, slot_ref, self.key(), op, lifetime)? {
            Some(result) => result,
            None => {
                let result = table.execute(now, self.key(), op, lifetime)?;
                self.find();
                result
            }
        };
        engine.executed(result);
        Ok(result)
    }

    #[cold]
    fn find(&self) {
        let table = self.store.engine().table();
        self.counter.cached_slot.set(table.resolve(self.key().as_bytes()));
    }
}
