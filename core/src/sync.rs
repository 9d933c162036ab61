//! What needs the standard library: locks, what belongs to a thread, and its moments as values. No other file names `std`.

extern crate std;

pub(crate) use std::sync::{Mutex, MutexGuard, PoisonError};
#[cfg(feature = "mutants")]
pub(crate) use std::thread_local;
/// For conversions; no clock is read.
pub(crate) use std::time::{SystemTime, UNIX_EPOCH};
