//! What decides, replicates and recovers in [tallymesh]: counters, limits, gossip and storage as values and state machines.
//!
//! This crate knows no clock, thread, socket, file or log. Time, randomness and bytes are arguments, so that a simulator can run
//! a whole cluster of these very machines from one seed. It is `no_std` with `alloc`; one file, `sync.rs`, names `std`, for its
//! mutex and for conversions from and to `SystemTime`.
//!
//! **Use the crate `tallymesh` instead**, unless you write a shell of your own: this API follows that library's needs.
//!
//! # The loop that drives it
//!
//! A shell reads the clock and the network, and calls. What the machine wants done comes out of a queue; the shell does it, waits
//! for the next event or for the time that the machine names, and calls again. [`gossip`] states that contract and shows the
//! loop as a runnable example. [`table::Table`] is shared with the threads that decide; [`storage::StateStore`] is called by the
//! thread that writes.
//!
//! # What must always be true
//!
//! The simulator checks these by name after every step, or at the end of a run:
//!
//! | name | invariant |
//! |---|---|
//! | I1 | within an incarnation, `p` and `n` of an own cell never decrease; no two processes write as one replica |
//! | I2 | no cell anywhere exceeds what its owner ever had in it |
//! | I3 | after repair and a bounded number of quiet rounds, all live nodes have equal unexpired state |
//! | I4 | then a counter's value is what was really admitted, less what was neither persisted nor received by a survivor before a crash |
//! | I5 | at most `M * limit` is admitted, for `M` incarnations; without faults, overshoot is near its formula |
//! | I7 | a denial implies that what is believed, plus the cost, exceeds the limit |
//! | I8 | a watermark `v` of a replica means that every update up to `v` is present, superseded or expired |
//! | I9 | an expired counter is neither read nor written, and time never steps back; the one exception is a mark that an operator lowers |
//! | I10 | merging is commutative, associative and idempotent; any bytes may arrive, and none panic |
//! | I11 | nothing of an expired window remains after its grace |
//! | I13 | who waits as a denial tells is admitted, if nothing else happens to the counter; what ends does not end before that, by more than two ticks of the clock |
//! | I14 | a replica is forgotten a grace after the last counter ended that held a cell of it, on all nodes alike; none whose cells are held is |
//! | I15 | where a member lies, no counter has a generation after which no reset is believed |
//!
//! # What is deliberately absent
//!
//! `Instant`, a `SystemTime` that is read, threads, `tokio`, paths, `std::io::Error`, TOML, `tracing`: a place is text, a cause is a boxed error, and
//! what deserves a line in a log is returned as a value. No global state but the simulator's mutants.
//!
//! [tallymesh]: https://docs.rs/tallymesh
#![no_std]
// What can fail is handled; what cannot is said so, with the reason, in an `#[expect]`.
#![deny(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]
#![deny(unreachable_pub)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod crdt;
pub mod gossip;
pub mod id;
pub mod key;
pub mod limit;
pub mod link;
pub mod mutant;
pub mod operator;
pub mod storage;
mod sync;
pub mod table;
#[cfg(feature = "serde")]
mod text;
pub mod time;
mod varint;
pub mod wire;
