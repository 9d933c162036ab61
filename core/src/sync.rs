//! What needs the standard library: locks, and the thread's own mutant. No other file names `std`.

extern crate std;

pub(crate) use std::sync::{Mutex, MutexGuard, PoisonError};

#[cfg(feature = "mutants")]
std::thread_local! {
    /// The mutant that lives in this thread.
    pub(crate) static ALIVE: core::cell::Cell<Option<crate::mutant::Mutant>> =
        const { core::cell::Cell::new(None) };
}
