#![doc = include_str!("../docs/crate.md")]
// What can fail is handled; what cannot is said so, with the reason, in an `#[expect]`.
#![deny(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]
#![deny(unreachable_pub)]

mod clock;
mod cluster_key;
mod config;
#[cfg(unix)]
mod control;
mod credentials;
mod curve;
mod decision;
mod denial;
mod disk;
mod engine;
mod entries;
mod explain;
mod handle;
mod limiter;
mod log_line;
mod meter;
mod node_key;
mod offline;
mod operate;
mod operator_key;
mod random;
mod receipt;
mod reset;
mod runtime;
mod secret;
mod selection;
mod status;
mod store;
#[cfg(feature = "tls")]
mod tls;
mod token;
mod transport;

pub use cluster_key::{ClusterKey, InvalidClusterKey};
pub use config::{Config, ConfigBuilder, ConfigError, Durability, Unmatched, WhenFull};
pub use decision::{Decision, Peek};
pub use denial::Denial;
pub use explain::{ExplainedCell, ExplainedCounter, Explanation};
pub use handle::CounterHandle;
pub use limiter::Limiter;
pub use meter::{Meter, Session};
pub use node_key::{InvalidNodeKey, NodeKey, PublicKey};
pub use offline::{
    CheckReport, ClockError, ClockReport, Contents, check, inspect, lower_clock, show_clock,
};
pub use operator_key::{InvalidOperatorKey, OperatorKey};
pub use receipt::{Receipt, RefundError};
pub use reset::{Reset, ResetError};
pub use runtime::{
    Closed, DurabilityError, OpenError, ReloadTlsError, SetKeysError, SetMembersError,
    SetPeersError,
};
pub use selection::{Counted, CounterOrder, CounterPage, Cursor, InvalidCounterOrder, Selection};
pub use status::{DurabilityState, Health, RunState, Status};
pub use store::{CounterStore, Subtracted};
pub use tallymesh_core::crdt::{Cell, Marks, VersionVector};
pub use tallymesh_core::gossip::{CutOff, PeerAbsence, PeerSource, PeerStatus};
pub use tallymesh_core::id::{
    Incarnation, InvalidNodeId, InvalidReplicaId, NodeId, ReplicaId, Version,
};
pub use tallymesh_core::key::{CounterKey, CounterKind, InvalidKey, WindowSpan};
pub use tallymesh_core::limit::{
    DenialReason, InvalidDenialReason, InvalidWhenCutOff, InvalidWhenLabelMissing, InvalidWindow,
    Limit, LimitError, Request, WhenCutOff, WhenLabelMissing, Window,
};
pub use tallymesh_core::link::LinkName;
pub use tallymesh_core::operator::{
    EntryError, InvalidEntry, InvalidPublicKey, OperatorEntry, OperatorPublicKey,
};
pub use tallymesh_core::storage::{Consequence, Finding, Holder, StorageError};
pub use tallymesh_core::table::{
    Bound, Bringers, Brought, CountError, CounterState, Crossing, EntryStatus, Rejections,
};
pub use tallymesh_core::time::{InvalidTimestamp, Timestamp};

// What cargo-fuzz builds has it, with `fuzzing`; nothing else that is built does.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub use transport::fuzz;
