//! Nodes that count all the while that something else is tried.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tallymesh::{CounterKey, CounterStore};
use tokio::task::JoinHandle;

/// Counts on several nodes until it is ended, and looks whether all are connected to each other all the while.
#[derive(Debug)]
pub struct Adding {
    shared: Arc<Mutex<Added>>,
    running: JoinHandle<()>,
}

/// What came of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Added {
    /// How often 1 was added, on all nodes together.
    pub counted: u64,
    /// How often a node was found without one of the others.
    pub unconnected: u64,
    is_over: bool,
}

impl Adding {
    /// Adds to this counter on each of these nodes, once in a millisecond.
    pub fn begin(stores: &[&CounterStore], counter: CounterKey) -> Adding {
        let shared = Arc::new(Mutex::new(Added::default()));
        let (state, stores) = (shared.clone(), stores.iter().map(|store| (*store).clone()));
        let stores: Vec<CounterStore> = stores.collect();
        let running = tokio::spawn(async move {
            let mut pace = tokio::time::interval(Duration::from_millis(1));
            loop {
                pace.tick().await;
                let mut added = lock(&state);
                if added.is_over {
                    return;
                }
                for store in &stores {
                    // A test that fails says it by the sum.
                    let _ = store.add(&counter, 1);
                    added.counted += 1;
                    let there = store.peers().iter().filter(|peer| peer.connected).count();
                    added.unconnected += u64::from(there + 1 < stores.len());
                }
            }
        });
        Adding { shared, running }
    }

    /// What came of it until now.
    pub fn until_now(&self) -> Added {
        *lock(&self.shared)
    }

    /// Ends it.
    pub async fn end(self) -> Added {
        lock(&self.shared).is_over = true;
        // It has no reason to end otherwise.
        let _ = self.running.await;
        let added = lock(&self.shared);
        *added
    }
}

fn lock(added: &Mutex<Added>) -> MutexGuard<'_, Added> {
    added.lock().unwrap_or_else(PoisonError::into_inner)
}
