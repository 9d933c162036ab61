//! Handles of the store: one counter found once, for many changes.

use std::sync::Arc;

use crate::store::CounterStore;
use tallymesh_core::key::CounterKey;
use tallymesh_core::table::{Change, Changed, CountError, LastSeen};

/// One counter of a store, without a search for it each time.
///
/// A cheap handle: clones share where the counter was found. It stays right when the counter ends, is reset, or is dropped and
/// made anew.
///
/// ```
/// use tallymesh::{Config, CounterKey, CounterStore};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = CounterStore::open(Config::builder("a").in_memory().build()?).await?;
/// let calls = store.handle(&CounterKey::new("calls", &["session-42"]));
/// assert_eq!(calls.add_within(2, 3)?, Some(2));
/// assert_eq!(calls.add_within(2, 3)?, None);
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
    last_seen: LastSeen,
}

impl CounterStore {
    /// A handle of one counter, which need not exist yet.
    pub fn handle(&self, key: &CounterKey) -> CounterHandle {
        let counter = Arc::new(Counter { key: key.clone(), last_seen: LastSeen::default() });
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
        let (table, now) = (&self.store.node.table, self.store.now());
        table.value_resolved(now, self.counter.last_seen.get()).unwrap_or_else(|| {
            self.find();
            table.value(now, self.key().as_bytes())
        })
    }

    /// As [`CounterStore::add`].
    ///
    /// # Errors
    /// As there.
    pub fn add(&self, amount: u64) -> Result<u64, CountError> {
        self.change(Change::Add(amount)).map(|changed| changed.value)
    }

    /// As [`CounterStore::subtract`].
    ///
    /// # Errors
    /// As there.
    pub fn subtract(&self, amount: u64) -> Result<u64, CountError> {
        self.change(Change::Subtract(amount)).map(|changed| changed.value)
    }

    /// Adds to the counter if its value stays within `max`, in one step, and returns the new value; otherwise adds nothing
    /// and returns `None`. Near `max` the peers are told at once.
    ///
    /// # Errors
    /// As [`CounterStore::add`].
    pub fn add_within(&self, amount: u64, max: u64) -> Result<Option<u64>, CountError> {
        let changed = self.change(Change::AddWithin { amount, max })?;
        Ok(changed.made.then_some(changed.value))
    }

    /// As [`CounterStore::reset`].
    ///
    /// # Errors
    /// As there.
    pub fn reset(&self) -> Result<(), CountError> {
        self.change(Change::Reset).map(drop)
    }

    fn change(&self, change: Change) -> Result<Changed, CountError> {
        let now = self.store.now();
        let expires_at = self.store.ends_at(now);
        let resolved = self.counter.last_seen.get();
        let table = &self.store.node.table;
        let window = self.key().window();
        let changed = match table.change_resolved(now, resolved, window, change, expires_at)? {
            Some(changed) => changed,
            None => {
                let changed = table.change(now, self.key(), change, expires_at)?;
                self.find();
                changed
            }
        };
        self.store.changed(changed);
        Ok(changed)
    }

    #[cold]
    fn find(&self) {
        self.counter.last_seen.set(self.store.node.table.resolve(self.key().as_bytes()));
    }
}
