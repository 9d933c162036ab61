#![doc = include_str!("../docs/crate.md")]
// What can fail is handled; what cannot is said so, with the reason, in an `#[expect]`.
#![deny(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]
#![deny(unreachable_pub)]

mod clock;
mod config;
mod decision;
mod disk;
mod engine;
mod handle;
mod limiter;
mod meter;
mod offline;
mod runtime;
mod status;
mod store;
mod transport;

pub use config::{Config, ConfigBuilder, ConfigError, Durability, WhenFull};
pub use decision::{Decision, Receipt};
pub use handle::CounterHandle;
pub use limiter::Limiter;
pub use meter::{Meter, Session};
pub use offline::{CheckReport, Contents, check, inspect};
pub use runtime::{DurabilityError, Health, OpenError};
pub use status::Status;
pub use store::CounterStore;
pub use tallymesh_core::crdt::{Cell, VersionVector};
pub use tallymesh_core::gossip::{GossipSettings, PeerStatus};
pub use tallymesh_core::id::{Incarnation, InvalidNodeId, NodeId, ReplicaId, Version};
pub use tallymesh_core::key::{CounterKey, InvalidKey, WindowIndex};
pub use tallymesh_core::limit::{Denial, DenialReason, Limit, LimitError, Request, Window};
pub use tallymesh_core::storage::{Consequence, Finding, StorageError};
pub use tallymesh_core::table::{Bounds, CountError, CounterState, Rejections};
pub use tallymesh_core::time::Timestamp;
