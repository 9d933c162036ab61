//! Listings of all counters, a page at a time, so that the JavaScript thread has time for other things between two pages.

use std::cell::RefCell;

use napi::Result;
use napi::bindgen_prelude::BigInt;
use napi_derive::napi;
use slab::Slab;
use tallymesh::{CounterState, CounterStore};

use crate::decisions::number;
use crate::error::{closed, guard};
use crate::limiters::with;

thread_local! {
    static LISTINGS: RefCell<Slab<Listing>> = RefCell::default();
}

/// What is still to be listed, of which store.
struct Listing {
    store: CounterStore,
    counters: Box<dyn Iterator<Item = CounterState>>,
}

/// One counter as it stands.
#[napi(object)]
pub struct CounterReport {
    /// The name of the limit that counts in it.
    pub limit: String,
    /// The values of the labels that it is counted apart for.
    pub values: Vec<String>,
    /// When its window began, in milliseconds since 1970.
    pub window_start: Option<f64>,
    /// How long its window is, in milliseconds.
    pub window_ms: Option<f64>,
    /// Its value.
    pub value: BigInt,
    /// How far below zero its sum is.
    pub credit: BigInt,
    /// When it ends, in milliseconds since 1970.
    pub expires_at: f64,
}

/// Begins to list every counter that has not ended, and returns the listing's number.
#[napi]
pub fn listing_open(limiter: u32) -> Result<u32> {
    guard(|| {
        with(limiter, |local| {
            let store = local.store().clone();
            let listing = Listing { counters: Box::new(store.iter()), store };
            Ok(LISTINGS.with_borrow_mut(|all| all.insert(listing)) as u32)
        })
    })
}

/// The next counters, at most so many; none after the last.
#[napi]
pub fn listing_page(listing: u32, max: u32) -> Result<Vec<CounterReport>> {
    guard(|| {
        LISTINGS.with_borrow_mut(|all| {
            let listing = all.get_mut(listing as usize).ok_or_else(closed)?;
            if listing.store.is_closed() {
                return Err(closed());
            }
            Ok(listing.counters.by_ref().take(max as usize).map(counter_report).collect())
        })
    })
}

/// Forgets a listing.
#[napi]
pub fn listing_close(listing: u32) -> Result<()> {
    guard(|| {
        let closed = LISTINGS.with_borrow_mut(|all| all.try_remove(listing as usize));
        drop(closed);
        Ok(())
    })
}

/// Forgets every listing of this thread.
pub fn release_all() {
    drop(LISTINGS.take());
}

fn counter_report(state: CounterState) -> CounterReport {
    let window = state.key.window();
    CounterReport {
        limit: state.key.limit().to_owned(),
        values: state.key.values().map(str::to_owned).collect(),
        window_start: window.map(|window| number(window.start().0)),
        window_ms: window.map(|window| window.length().as_millis() as f64),
        value: state.value.into(),
        credit: state.credit().into(),
        expires_at: number(state.expires_at.0),
    }
}
