#![doc = include_str!("../README.md")]
#![cfg_attr(not(feature = "simulation"), deny(missing_docs))]
#![cfg_attr(feature = "simulation", allow(missing_docs))]

mod check;
mod clock;
mod config;
mod crdt;
mod gossip;
mod handle;
mod id;
mod inspect;
mod key;
mod limit;
mod limiter;
mod meter;
mod mutant;
mod node;
mod storage;
mod store;
mod table;
mod time;
mod transport;
mod wire;

pub use check::{CheckReport, check};
pub use config::{Config, ConfigBuilder, ConfigError, Durability};
pub use crdt::{Cell, VersionVector};
pub use gossip::{GossipSettings, PeerStatus};
pub use handle::CounterHandle;
pub use id::{Incarnation, InvalidNodeId, NodeId, ReplicaId, Version};
pub use inspect::{Contents, inspect};
pub use key::{CounterKey, InvalidKey, WindowIndex};
pub use limit::{Denial, DenialReason, Limit, LimitError, Request, Window};
pub use limiter::{Decision, Limiter, Receipt};
pub use meter::{Meter, Session};
pub use node::{DurabilityError, Health, OpenError};
pub use storage::{Consequence, Finding, StorageError};
pub use store::{CounterStore, Mishaps};
pub use table::{Bounds, CountError, CounterState};
pub use time::Timestamp;

/// The machines below the shell, for the simulator of this repository; no part of the public interface.
#[cfg(feature = "simulation")]
#[doc(hidden)]
pub mod simulation {
    pub use crate::crdt::{Delta, Update};
    pub use crate::gossip::{Gossip, Input, LinkId, Output, Report};
    pub use crate::limit::{Charges, Policy};
    pub use crate::mutant::Mutant;
    pub use crate::storage::{Damage, DataDir, Files, Opened, Persister, Storage, conforms};
    pub use crate::table::{Change, Charged, Outcome, Resolved, Scope, Table};
    pub use crate::time::{HighWater, Now};
    pub use crate::wire::{Message, Outbox, read_frame};
}
