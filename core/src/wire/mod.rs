//! Messages between peers, and the frames that carry them.
//!
//! A message is one thing that a peer tells the other; a frame is what a transport carries: a header and as many messages as
//! were to be sent at one moment. A message stands by itself: frames may be lost, doubled or overtaken, so no message may
//! depend on another but through the table, or through the parts and numbers that it carries.
//!
//! To add a message:
//!
//! 1. a variant of [`Message`] with a new name of one letter. Peers of this protocol refuse a frame with a name that they do
//!    not know, so that is a new [`PROTOCOL`] as well;
//! 2. what is done with it, in `Gossip::message` (`gossip/exchange.rs`);
//! 3. a case in the tests of `wire/frame.rs`; it must fit in `frame_bytes_max`, or come in parts as digests and deltas do;
//! 4. where it carries updates, the simulator's forger and its checker (`sim/src/world/network.rs`).

mod frame;
mod message;

pub use frame::{FRAME_HEADER_BYTES, Outbox, payload_bytes, read_frame};
pub use message::{CloseReason, Message, PROTOCOL};
