//! Messages between peers, and the frames that carry them.

mod frame;
mod message;

pub use frame::{FRAME_HEADER_BYTES, Outbox, payload_bytes, read_frame};
pub use message::{CloseReason, Message, PROTOCOL};
