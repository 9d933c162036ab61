#![doc = include_str!("../README.md")]
#![cfg_attr(not(feature = "simulation"), deny(missing_docs))]
#![cfg_attr(feature = "simulation", allow(missing_docs))]

mod check;
mod clock;
mod config;
mod handle;
mod inspect;
mod limiter;
mod meter;
mod node;
mod storage;
mod store;
mod transport;

pub use check::{CheckReport, check};
pub use config::{Config, ConfigBuilder, ConfigError, Durability, WhenFull};
pub use handle::CounterHandle;
pub use inspect::{Contents, inspect};
pub use limiter::{Decision, Limiter, Receipt};
pub use meter::{Meter, Session};
pub use node::{DurabilityError, Health, OpenError};
pub use storage::{Consequence, Finding, StorageError};
pub use store::{CounterStore, Mishaps};
pub use tallymesh_core::crdt::{Cell, VersionVector};
pub use tallymesh_core::gossip::{GossipSettings, PeerStatus};
pub use tallymesh_core::id::{Incarnation, InvalidNodeId, NodeId, ReplicaId, Version};
pub use tallymesh_core::key::{CounterKey, InvalidKey, WindowIndex};
pub use tallymesh_core::limit::{Denial, DenialReason, Limit, LimitError, Request, Window};
pub use tallymesh_core::table::{Bounds, CountError, CounterState};
pub use tallymesh_core::time::Timestamp;

/// The machines below the shell, for the simulator of this repository; no part of the public interface.
#[cfg(feature = "simulation")]
#[doc(hidden)]
pub mod simulation {
    pub use crate::storage::{Damage, DataDir, Files, Opened, Persister, Storage, conforms};
    pub use tallymesh_core::crdt::{Delta, Update};
    pub use tallymesh_core::gossip::{Gossip, Input, LinkId, Output, Report};
    pub use tallymesh_core::limit::{Charges, Policy};
    pub use tallymesh_core::mutant::Mutant;
    pub use tallymesh_core::table::{Change, Charged, Outcome, Resolved, Scope, Table};
    pub use tallymesh_core::time::{HighWater, Now};
    pub use tallymesh_core::wire::{Message, Outbox, read_frame};
}
