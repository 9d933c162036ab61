//! What needs the standard library: locks, and what belongs to a thread. No other file names `std`.

extern crate std;

pub(crate) use std::sync::{Mutex, MutexGuard, PoisonError};
#[cfg(feature = "mutants")]
pub(crate) use std::thread_local;
