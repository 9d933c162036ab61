//! Messages between peers, and the frames that carry them.

mod frame;
mod message;

pub(crate) use frame::{FRAME_HEADER_BYTES, Outbox, payload_bytes, read_frame};
pub(crate) use message::{Farewell, Message, PROTOCOL};
