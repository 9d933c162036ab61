#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

mod clock;
mod config;
mod crdt;
mod gossip;
mod id;
mod inspect;
mod key;
mod limit;
mod limiter;
mod node;
mod storage;
mod store;
mod table;
mod time;
mod transport;
mod wire;

pub use config::{Config, ConfigBuilder, ConfigError, Durability};
pub use crdt::{Cell, VersionVector};
pub use gossip::{GossipSettings, PeerStatus};
pub use id::{Incarnation, InvalidNodeId, NodeId, ReplicaId, Version};
pub use inspect::{Contents, inspect};
pub use key::{CounterKey, InvalidKey, WindowIndex};
pub use limit::{Denial, DenialReason, Limit, LimitError, Request, Window};
pub use limiter::{Decision, Limiter, Receipt};
pub use node::{DurabilityError, Health, OpenError};
pub use storage::StorageError;
pub use store::{CounterStore, Mishaps};
pub use table::{Bounds, CountError, CounterState};
pub use time::Timestamp;
