//! What the targets of `fuzz/` and the replay of their corpora run: any bytes may come, and none panic.

use tallymesh::Config;
use tallymesh_core::wire::{Outbox, read_frame};

use crate::hostile::frame_of;

/// As much as a frame may hold by default.
const FRAME_BYTES_MAX: usize = 64 * 1024;

/// Reads bytes of a peer, as a frame and as the payload of one. Returns whether they are messages.
///
/// # Panics
/// If what was read is not what is read once it is written again, or is too long for a frame.
pub fn frame(bytes: &[u8]) -> bool {
    // No more than that: a checksum is not found by chance.
    let _ = read_frame(bytes, FRAME_BYTES_MAX);
    let Ok(received) = read_frame(&frame_of(bytes), FRAME_BYTES_MAX) else { return false };
    assert!(bytes.len() <= FRAME_BYTES_MAX);
    let mut outbox = Outbox::default();
    for message in &received.messages {
        assert!(outbox.push(message, usize::MAX).is_none());
    }
    if let Some(frame) = outbox.finish() {
        let again = read_frame(&frame, usize::MAX).expect("what was written is read");
        assert_eq!(again.messages, received.messages);
    }
    true
}

/// Reads the text of a settings file. Returns whether it is one.
///
/// # Panics
/// If it is refused without a word.
pub fn config(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    match Config::from_toml(text) {
        Ok(_) => true,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    }
}
