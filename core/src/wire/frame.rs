//! Frames: length, checksum, and a sequence of messages.
//!
//! ```text
//! offset  bytes
//!      0  4      length of the payload, little-endian
//!      4  4      CRC-32 (IEEE) of the payload, little-endian
//!      8  length messages, one MessagePack value after the other
//! ```

use alloc::vec::Vec;

use super::Message;

/// The length of a frame's header, in bytes: length and checksum of its payload.
pub const FRAME_HEADER_BYTES: usize = 8;

/// Bytes that are not a frame of this protocol.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The frame is shorter or longer than its header says.
    #[error("the frame is cut off")]
    CutOff,
    /// Its bytes have changed on the way.
    #[error("the frame's checksum does not match")]
    Checksum,
    /// The payload has this many bytes, and this many are allowed.
    #[error("the frame holds {0} bytes, more than {1}")]
    TooLong(usize, usize),
    /// The payload is not a sequence of messages.
    #[error("the frame does not hold messages of this protocol")]
    Message(#[from] rmp_serde::decode::Error),
}

/// The payload's length in bytes by a frame's header.
///
/// # Errors
/// When it is over `bytes_max`.
pub fn payload_bytes(
    header: [u8; FRAME_HEADER_BYTES],
    bytes_max: usize,
) -> Result<usize, FrameError> {
    let [a, b, c, d, ..] = header;
    let length = u32::from_le_bytes([a, b, c, d]) as usize;
    if length > bytes_max { Err(FrameError::TooLong(length, bytes_max)) } else { Ok(length) }
}

/// The messages of a whole frame, with its header.
///
/// # Errors
/// When the bytes are not a frame of this protocol, or one with more than `bytes_max` bytes of payload.
pub fn read_frame(frame: &[u8], bytes_max: usize) -> Result<Vec<Message>, FrameError> {
    let (header, payload) = frame.split_first_chunk().ok_or(FrameError::CutOff)?;
    if payload_bytes(*header, bytes_max)? != payload.len() {
        return Err(FrameError::CutOff);
    }
    let [.., a, b, c, d] = *header;
    if crc32fast::hash(payload) != u32::from_le_bytes([a, b, c, d]) {
        return Err(FrameError::Checksum);
    }
    let mut rest = payload;
    let mut messages = Vec::new();
    while !rest.is_empty() {
        messages.push(rmp_serde::from_read(&mut rest)?);
    }
    Ok(messages)
}

/// Messages on their way into frames: as many to a frame as fit.
#[derive(Debug, Default)]
pub struct Outbox {
    frame: Vec<u8>,
}

impl Outbox {
    /// Adds a message; returns the frame that had to be finished to make room for it, if any.
    ///
    /// A message that alone is longer than `bytes_max` gets a frame of its own, which the peer will refuse; the callers
    /// keep their messages shorter.
    #[expect(
        clippy::expect_used,
        reason = "messages hold nothing that MessagePack cannot express, and a Vec takes every byte"
    )]
    pub fn push(&mut self, message: &Message, bytes_max: usize) -> Option<Vec<u8>> {
        let bytes = rmp_serde::to_vec(message).expect("a message is encodable");
        let full = self.frame.len() > FRAME_HEADER_BYTES
            && self.frame.len() - FRAME_HEADER_BYTES + bytes.len() > bytes_max;
        let finished = if full { self.finish() } else { None };
        if self.frame.is_empty() {
            self.frame.resize(FRAME_HEADER_BYTES, 0);
        }
        self.frame.extend_from_slice(&bytes);
        finished
    }

    /// The frame under way, if it holds anything.
    pub fn finish(&mut self) -> Option<Vec<u8>> {
        let mut frame = core::mem::take(&mut self.frame);
        let (header, payload) = frame.split_first_chunk_mut::<FRAME_HEADER_BYTES>()?;
        let [a, b, c, d] = (payload.len() as u32).to_le_bytes();
        let [e, f, g, h] = crc32fast::hash(payload).to_le_bytes();
        *header = [a, b, c, d, e, f, g, h];
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::crdt::{Delta, DigestEntry, Update};
    use crate::id::{Incarnation, ReplicaId, Version};
    use crate::time::Timestamp;
    use crate::wire::CloseReason;

    const MAX: usize = 65_536;

    fn replica() -> impl Strategy<Value = ReplicaId> {
        ("[a-z]{1,9}", any::<u64>(), any::<u64>()).prop_map(|(node, boot, nonce)| ReplicaId {
            node: node.parse().unwrap(),
            incarnation: Incarnation { boot, nonce },
        })
    }

    fn update() -> impl Strategy<Value = Update> {
        let key = prop::collection::vec(any::<u8>(), 0..40);
        (key, any::<u64>(), any::<u32>(), any::<u64>(), any::<u64>(), any::<u64>()).prop_map(
            |(key, version, generation, p, n, end)| Update {
                key,
                version: Version(version),
                generation,
                p,
                n,
                expires_at: Timestamp(end),
            },
        )
    }

    fn message() -> impl Strategy<Value = Message> {
        let updates = || prop::collection::vec(update(), 0..5);
        prop_oneof![
            (any::<u32>(), replica())
                .prop_map(|(protocol, replica)| Message::Hello { protocol, replica }),
            (replica(), any::<u64>(), any::<u32>(), prop::option::of(replica()), any::<bool>())
                .prop_map(|(replica, watermark, ahead, after, last)| Message::Digest {
                    after,
                    entries: vec![DigestEntry { replica, watermark: Version(watermark), ahead }],
                    last
                }),
            (replica(), any::<u64>(), prop::option::of(any::<u64>()), updates()).prop_map(
                |(replica, from, watermark, updates)| Message::Delta(Delta {
                    replica,
                    from: Version(from),
                    chain: from as u32,
                    part: 3,
                    watermark: watermark.map(Version),
                    updates,
                })
            ),
            (replica(), updates())
                .prop_map(|(replica, updates)| Message::Push { replica, updates }),
            any::<u64>().prop_map(|version| Message::Ack(Version(version))),
            Just(Message::Ping),
            any::<u64>().prop_map(|wall| Message::Pong { wall: Timestamp(wall) }),
            Just(Message::Goodbye(CloseReason::Stopping)),
        ]
    }

    fn frames(messages: &[Message], bytes_max: usize) -> Vec<Vec<u8>> {
        let mut outbox = Outbox::default();
        let mut frames: Vec<_> =
            messages.iter().filter_map(|message| outbox.push(message, bytes_max)).collect();
        frames.extend(outbox.finish());
        frames
    }

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in(messages in prop::collection::vec(message(), 0..20)) {
            let read: Vec<Message> = frames(&messages, 200)
                .iter()
                .flat_map(|frame| read_frame(frame, MAX).unwrap())
                .collect();
            prop_assert_eq!(read, messages);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_frame(&bytes, MAX);
            let mut frame = (bytes.len() as u32).to_le_bytes().to_vec();
            frame.extend(crc32fast::hash(&bytes).to_le_bytes());
            frame.extend(&bytes);
            let _ = read_frame(&frame, MAX);
        }

        #[test]
        fn a_flipped_bit_is_refused(message in message(), offset in any::<prop::sample::Index>(), bit in 0_u32..8) {
            let mut frame = frames(&[message], MAX).remove(0);
            let offset = offset.index(frame.len());
            frame[offset] ^= 1_u8 << bit;
            prop_assert!(read_frame(&frame, MAX).is_err());
        }
    }

    #[test]
    fn an_update_costs_its_key_and_little_more() {
        let update = |expires_at, version| Update {
            key: vec![7; 40],
            version: Version(version),
            generation: 0,
            p: 100,
            n: 0,
            expires_at: Timestamp(expires_at),
        };
        let bytes = |update: &Update| rmp_serde::to_vec(update).unwrap().len();
        assert!(bytes(&update(0, 1_000_000)) <= 40 + 14);
        assert!(
            bytes(&update(1_790_000_000_000, 1_000_000)) <= 40 + crate::crdt::UPDATE_BYTES_USUAL
        );
    }
}
