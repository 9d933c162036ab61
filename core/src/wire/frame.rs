//! Frames: length, checksum, and a sequence of messages.
//!
//! ```text
//! offset  bytes
//!      0  4      length of the payload, little-endian
//!      4  4      CRC-32 (IEEE) of the payload, little-endian
//!      8  length messages, one MessagePack value after the other
//! ```

use alloc::vec::Vec;
use core::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::Message;
use super::message::NAMES;

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

/// What a frame holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Its messages, in order.
    pub messages: Vec<Message>,
    /// How many others were skipped, since this version does not know them.
    pub unknown: u64,
}

/// The messages of a whole frame, with its header.
///
/// # Errors
/// When the bytes are not a frame of this protocol, or one with more than `bytes_max` bytes of payload.
pub fn read_frame(frame: &[u8], bytes_max: usize) -> Result<Received, FrameError> {
    let (header, payload) = frame.split_first_chunk().ok_or(FrameError::CutOff)?;
    if payload_bytes(*header, bytes_max)? != payload.len() {
        return Err(FrameError::CutOff);
    }
    let [.., a, b, c, d] = *header;
    if crc32fast::hash(payload) != u32::from_le_bytes([a, b, c, d]) {
        return Err(FrameError::Checksum);
    }
    let mut rest = payload;
    let mut received = Received::default();
    while !rest.is_empty() {
        if is_known(rest) {
            received.messages.push(rmp_serde::from_read(&mut rest)?);
        } else {
            let Skipped {} = rmp_serde::from_read(&mut rest)?;
            received.unknown += 1;
        }
    }
    Ok(received)
}

/// Whether a message begins as those do that are known: a map of one entry, whose key is a text of one letter.
fn is_known(message: &[u8]) -> bool {
    const MAP_OF_ONE: u8 = 0x81;
    const TEXT_OF_ONE: u8 = 0xa1;
    matches!(message, [MAP_OF_ONE, TEXT_OF_ONE, name, ..] if NAMES.contains(name))
}

/// A message that is not known: a map whose keys are texts.
struct Skipped {}

impl<'de> Deserialize<'de> for Skipped {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Skipped, D::Error> {
        deserializer.deserialize_map(Skipped {})
    }
}

impl<'de> Visitor<'de> for Skipped {
    type Value = Skipped;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a message: a map from its name to its fields")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Skipped, A::Error> {
        while map.next_entry::<Name, IgnoredAny>()?.is_some() {}
        Ok(self)
    }
}

/// A text that is not kept.
struct Name;

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
        deserializer.deserialize_str(Name)
    }
}

impl Visitor<'_> for Name {
    type Value = Name;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, _: &str) -> Result<Name, E> {
        Ok(self)
    }
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
        let bytes = rmp_serde::to_vec_named(message).expect("a message is encodable");
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
    use alloc::string::ToString;
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;
    use crate::crdt::{Delta, DigestEntry, Marks, Update};
    use crate::id::{Incarnation, ReplicaId, Version};
    use crate::limit::LimitHash;
    use crate::time::Timestamp;
    use crate::wire::CloseReason;
    use crate::wire::MemberNews;

    const MAX: usize = 65_536;

    fn replica() -> impl Strategy<Value = ReplicaId> {
        ("[a-z]{1,9}", any::<u64>(), any::<u64>()).prop_map(|(node, boot, nonce)| ReplicaId {
            node: node.parse().unwrap(),
            incarnation: Incarnation { boot, nonce },
        })
    }

    fn update() -> impl Strategy<Value = Update> {
        let key = prop::collection::vec(any::<u8>(), 0..40);
        let number = || prop_oneof![Just(0), any::<u64>()];
        let marks = (number(), number(), number()).prop_map(|(at, p0, n0)| Marks { at, p0, n0 });
        let generation = prop_oneof![Just(0), any::<u32>()];
        (key, number(), generation, number(), number(), marks).prop_map(
            |(key, version, generation, p, n, marks)| Update {
                key,
                version: Version(version),
                generation,
                p,
                n,
                marks,
            },
        )
    }

    fn entry() -> impl Strategy<Value = DigestEntry> {
        (replica(), any::<u64>(), any::<u32>(), any::<u64>()).prop_map(
            |(replica, watermark, ahead, end)| DigestEntry {
                replica,
                watermark: Version(watermark),
                ahead,
                end: Timestamp(end),
            },
        )
    }

    fn message() -> impl Strategy<Value = Message> {
        let updates = || prop::collection::vec(update(), 0..5);
        prop_oneof![
            (
                prop::collection::vec(any::<u32>(), 0..3),
                replica(),
                any::<u64>(),
                prop::sample::select(vec!["default", "other"]),
                prop::option::of(".{0,9}"),
            )
                .prop_map(
                    |(protocols, replica, limits_digest, cluster, advertised)| {
                        let cluster = cluster.into();
                        Message::Hello { protocols, replica, limits_digest, cluster, advertised }
                    }
                ),
            prop::collection::vec((replica(), prop::option::of(".{0,9}"), any::<bool>()), 0..4)
                .prop_map(|members| {
                    let told =
                        |(replica, address, stopped)| MemberNews { replica, address, stopped };
                    Message::Members { members: members.into_iter().map(told).collect() }
                }),
            Just(Message::Leaving {}),
            (".{0,9}", any::<u32>(), any::<u64>()).prop_map(|(name, hash, grace_ms)| {
                Message::Limits { limits: vec![LimitHash { name: name.into(), hash }], grace_ms }
            }),
            (entry(), prop::option::of(replica()), any::<bool>(), any::<Option<u32>>()).prop_map(
                |(entry, after, last, others)| Message::Digest {
                    operator: others.map(u64::from),
                    after,
                    entries: vec![entry],
                    last,
                    others,
                    buckets: others.into_iter().collect(),
                }
            ),
            prop::collection::vec(any::<u64>(), 0..4)
                .prop_map(|known| Message::OperatorAsk { known }),
            prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..4).prop_map(
                |entries| Message::OperatorEntries {
                    entries: entries.into_iter().map(Into::into).collect(),
                }
            ),
            (entry(), any::<bool>())
                .prop_map(|(entry, last)| Message::Entries { entries: vec![entry], last }),
            (replica(), any::<u64>(), prop::option::of(any::<u64>()), updates()).prop_map(
                |(replica, from, watermark, updates)| Message::Delta(Delta {
                    from: Version(from),
                    chain: from as u32,
                    part: 3,
                    watermark: watermark.map(Version),
                    as_of: watermark.map(Timestamp),
                    begun: watermark
                        .map(|w| crate::crdt::Begun(replica.clone(), Version(w)))
                        .into_iter()
                        .collect(),
                    replica,
                    updates,
                })
            ),
            (replica(), updates(), any::<bool>()).prop_map(|(replica, updates, at_once)| {
                Message::Push { replica, updates, at_once }
            }),
            (any::<bool>(), any::<bool>())
                .prop_map(|(passes_on, is_fed)| Message::Feed { passes_on, is_fed }),
            any::<u64>().prop_map(|version| Message::Ack { watermark: Version(version) }),
            (replica(), any::<u64>())
                .prop_map(|(replica, from)| Message::Request { replica, from: Version(from) }),
            replica().prop_map(|other| Message::Conflict { other }),
            Just(Message::Ping {}),
            any::<u64>().prop_map(|wall| Message::Pong { wall: Timestamp(wall) }),
            prop::sample::select(vec![
                CloseReason::Stopping,
                CloseReason::SecondLink,
                CloseReason::Myself,
                CloseReason::NodeIdInUse,
                CloseReason::OtherProtocol,
                CloseReason::OtherCluster,
                CloseReason::Other,
            ])
            .prop_map(|reason| Message::Goodbye { reason }),
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
                .flat_map(|frame| read_frame(frame, MAX).unwrap().messages)
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

    /// A frame of this payload.
    fn frame_of(payload: &[u8]) -> Vec<u8> {
        let mut frame = (payload.len() as u32).to_le_bytes().to_vec();
        frame.extend(crc32fast::hash(payload).to_le_bytes());
        frame.extend(payload);
        frame
    }

    #[derive(serde::Serialize)]
    struct Fields<'a> {
        r: (&'a str, (u64, u64)),
        p: Vec<u32>,
        x: &'a str,
        y: Vec<Option<&'a str>>,
    }

    fn named<T: serde::Serialize>(name: &str, content: T) -> Vec<u8> {
        rmp_serde::to_vec_named(&std::collections::BTreeMap::from([(name, content)])).unwrap()
    }

    #[test]
    fn unknown_fields_messages_and_reasons_are_skipped() {
        let fields =
            || Fields { r: ("a", (1, 2)), p: vec![3, 2], x: "x", y: vec![None, Some("y")] };
        let payload = [
            named("h", fields()),
            named("z", fields()),
            named("later", 5),
            named("b", std::collections::BTreeMap::from([("r", "tired"), ("why", "late")])),
        ]
        .concat();
        let received = read_frame(&frame_of(&payload), MAX).unwrap();
        let replica = ReplicaId {
            node: "a".parse().unwrap(),
            incarnation: Incarnation { boot: 1, nonce: 2 },
        };
        let hello = Message::Hello {
            protocols: vec![3, 2],
            replica,
            limits_digest: 0,
            cluster: "default".into(),
            advertised: None,
        };
        let goodbye = Message::Goodbye { reason: CloseReason::Other };
        assert_eq!(received, Received { messages: vec![hello, goodbye], unknown: 2 });
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let cases = [
            rmp_serde::to_vec(&5).unwrap(),
            rmp_serde::to_vec("p").unwrap(),
            rmp_serde::to_vec(&["z", "z"]).unwrap(),
            rmp_serde::to_vec(&std::collections::BTreeMap::from([(1, 2)])).unwrap(),
            named("r", 5),
            named("z", 5)[..3].to_vec(),
        ];
        for payload in cases {
            assert!(read_frame(&frame_of(&payload), MAX).is_err(), "{payload:x?}");
        }
    }

    #[test]
    fn every_name_is_a_message_and_every_message_is_named() {
        // A message of each name lacks its fields, which is told apart from a name that is not known.
        for name in NAMES {
            let message = named(core::str::from_utf8(&[*name]).unwrap(), ());
            let error = rmp_serde::from_slice::<Message>(&message).unwrap_err().to_string();
            assert!(!error.contains("unknown variant"), "{error}");
        }
        let unknown = rmp_serde::from_slice::<Message>(&named("?", ())).unwrap_err().to_string();
        let listed = unknown.matches('`').count() / 2 - 1;
        assert_eq!(listed, NAMES.len(), "{unknown}");
    }

    #[test]
    fn an_update_costs_its_key_and_little_more() {
        let update = |version, marks| Update {
            key: vec![7; 40],
            version: Version(version),
            generation: 0,
            p: 100,
            n: 0,
            marks,
        };
        let bytes = |update: &Update| rmp_serde::to_vec_named(update).unwrap().len();
        let used = Marks { at: 1_790_000_000_000, p0: 3_600_000, n0: 0 };
        assert!(bytes(&update(1_000_000, Marks::default())) <= 40 + 10);
        assert!(bytes(&update(1_000_000, used)) <= 40 + crate::crdt::UPDATE_BYTES_USUAL);
        assert!(bytes(&update(u64::MAX, used)) <= 40 + crate::crdt::UPDATE_BYTES_ESTIMATE);
        let greatest = Marks { at: u64::MAX, p0: u64::MAX, n0: u64::MAX };
        let greatest = Update {
            generation: u32::MAX,
            p: u64::MAX,
            n: u64::MAX,
            key: vec![7; u16::MAX.into()],
            ..update(u64::MAX, greatest)
        };
        let over = bytes(&greatest) - greatest.key.len();
        assert!(over <= crate::crdt::UPDATE_BYTES_MAX, "{over}");
    }
}
