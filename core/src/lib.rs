//! What decides, replicates and recovers in tallymesh.
#![allow(missing_docs)]

extern crate alloc;

pub mod crdt;
pub mod gossip;
pub mod id;
pub mod key;
pub mod limit;
pub mod link;
pub mod mutant;
pub mod storage;
pub mod table;
pub mod time;
mod varint;
pub mod wire;
