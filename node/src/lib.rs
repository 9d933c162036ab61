//! The native half of the npm package `tallymesh`: what its TypeScript half, in `lib/`, calls.
//!
//! Nothing here is for users, and nothing here checks what the TypeScript half has checked already. Everything is a free
//! function over small numbers: that is what Node calls fastest. No export lets a panic out, since that would end the process.

// What Node would call is not even registered where a test harness is built, by lints for one.
#![cfg_attr(test, allow(dead_code))]

mod blocks;
mod counters;
mod decisions;
mod error;
mod limiters;
mod listings;
mod logging;
mod node_keys;
mod panics;
mod receipts;
mod reports;
mod windows;
