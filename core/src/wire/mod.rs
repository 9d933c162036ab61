//! Messages between peers, and the frames that carry them.
//!
//! A message is one thing that a peer tells the other; a frame is what a transport carries: a header and as many messages as
//! were to be sent at one moment. A message stands by itself: frames may be lost, doubled or overtaken, so no message may
//! depend on another but through the table, or through the parts and numbers that it carries.
//!
//! To add a message:
//!
//! 1. a variant of [`Message`] with a new name of one letter and named fields, and its name in `NAMES`. A receiver that does
//!    not know it skips and counts it, so it needs no new protocol number unless that would be wrong;
//! 2. what is done with it, in `Gossip::message` (`gossip/exchange.rs`);
//! 3. a case in the tests of `wire/frame.rs`; it must fit in `frame_bytes_max`, or come in parts as digests and deltas do;
//! 4. where it carries updates, the simulator's forger and its checker (`sim/src/world/network.rs`).
//!
//! To add a field, give it a default and leave it out where it has that.

mod frame;
mod message;
mod update;

pub use frame::{FRAME_HEADER_BYTES, FrameError, Outbox, Received, payload_bytes, read_frame};
pub use message::{CloseReason, DEFAULT_CLUSTER, MemberNews, Message, PROTOCOLS};
