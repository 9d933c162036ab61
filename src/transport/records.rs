//! The record layer: frames are cut into records, each of which is encrypted, numbered and authenticated.
//!
//! A record is the length of a Noise message, two bytes, big-endian, and that message: at least one byte of a frame and the tag. Its
//! number is not sent: both ends count, so that a record that was left out, repeated, moved or turned around opens nothing. Where a
//! record ends says nothing about frames. The end of a connection is not authenticated; a peer that ends says goodbye in a frame.

use std::sync::Arc;

use snow::StatelessTransportState;

/// How many bytes of frames a record may hold.
pub(super) const PLAIN_MAX: usize = MESSAGE_MAX - TAG_BYTES;
pub(super) const HEADER_BYTES: usize = 2;
/// What a Noise message may have.
const MESSAGE_MAX: usize = 65_535;
const TAG_BYTES: usize = 16;

/// Why bytes are no record. There is nothing to be done but to end the connection.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RecordError {
    /// The length is none that a record may have.
    #[error("a record of {0} bytes")]
    Length(usize),
    /// It was changed on the way, or is not the one that is due.
    #[error("a record that was changed on the way, or is not the next one")]
    Broken,
    /// All numbers are used up, which takes centuries.
    #[error("there are no more numbers for records")]
    NoNumbers,
}

/// Makes records of what is sent.
pub(super) struct Sealer {
    session: Arc<StatelessTransportState>,
    next: u64,
}

/// Takes what comes in out of its records.
pub(super) struct Opener {
    session: Arc<StatelessTransportState>,
    next: u64,
}

/// Both directions of a session that begins: each has its own keys and its own numbers.
pub(super) fn both(session: StatelessTransportState) -> (Sealer, Opener) {
    let session = Arc::new(session);
    (Sealer { session: session.clone(), next: 0 }, Opener { session, next: 0 })
}

impl Sealer {
    /// Appends the records that these bytes are sent in.
    pub(super) fn seal(&mut self, bytes: &[u8], records: &mut Vec<u8>) -> Result<(), RecordError> {
        bytes.chunks(PLAIN_MAX).try_for_each(|plain| self.seal_one(plain, records))
    }

    /// Appends the record without content that ends a handshake.
    pub(super) fn seal_confirmation(&mut self, records: &mut Vec<u8>) -> Result<(), RecordError> {
        self.seal_one(&[], records)
    }

    fn seal_one(&mut self, plain: &[u8], records: &mut Vec<u8>) -> Result<(), RecordError> {
        let length = plain.len() + TAG_BYTES;
        let header = u16::try_from(length).map_err(|_| RecordError::Length(length))?;
        records.extend_from_slice(&header.to_be_bytes());
        let begin = records.len();
        records.resize(begin + length, 0);
        let message = records.get_mut(begin..).unwrap_or_default();
        let sealed = self.session.write_message(self.next, plain, message);
        sealed.map_err(|_| RecordError::NoNumbers)?;
        self.next += 1;
        Ok(())
    }
}

impl Opener {
    /// Puts the content of the next record, given without its header, in the place of what is in `plain`.
    pub(super) fn open(&mut self, record: &[u8], plain: &mut Vec<u8>) -> Result<(), RecordError> {
        match self.open_any(record, plain)? {
            // It would cost us work, and say nothing.
            0 => Err(RecordError::Length(record.len())),
            _ => Ok(()),
        }
    }

    /// Whether this is the record without content that ends a handshake.
    pub(super) fn open_confirmation(&mut self, record: &[u8]) -> Result<(), RecordError> {
        match self.open_any(record, &mut Vec::new())? {
            0 => Ok(()),
            _ => Err(RecordError::Length(record.len())),
        }
    }

    fn open_any(&mut self, record: &[u8], plain: &mut Vec<u8>) -> Result<usize, RecordError> {
        let Some(length) =
            record.len().checked_sub(TAG_BYTES).filter(|length| *length <= PLAIN_MAX)
        else {
            return Err(RecordError::Length(record.len()));
        };
        plain.clear();
        plain.resize(length, 0);
        let opened = self.session.read_message(self.next, record, plain);
        opened.map_err(|_| {
            plain.clear();
            RecordError::Broken
        })?;
        self.next += 1;
        Ok(length)
    }
}

/// How long the message is that follows this header.
pub(super) fn message_bytes(header: [u8; HEADER_BYTES]) -> Result<usize, RecordError> {
    match usize::from(u16::from_be_bytes(header)) {
        short if short < TAG_BYTES => Err(RecordError::Length(short)),
        length => Ok(length),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::fuzz::sessions;
    use super::*;

    /// The messages of these records.
    fn messages(mut records: &[u8]) -> Vec<Vec<u8>> {
        let mut messages = Vec::new();
        while let Some((header, rest)) = records.split_first_chunk() {
            let (message, rest) = rest.split_at(message_bytes(*header).unwrap());
            messages.push(message.to_vec());
            records = rest;
        }
        assert!(records.is_empty());
        messages
    }

    fn sealed(sealer: &mut Sealer, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut records = Vec::new();
        sealer.seal(bytes, &mut records).unwrap();
        messages(&records)
    }

    fn opened(opener: &mut Opener, messages: &[Vec<u8>]) -> Result<Vec<u8>, RecordError> {
        let (mut all, mut plain) = (Vec::new(), Vec::new());
        for message in messages {
            opener.open(message, &mut plain)?;
            all.extend_from_slice(&plain);
        }
        Ok(all)
    }

    #[test]
    fn a_long_frame_is_cut_where_a_noise_message_ends() {
        let [(mut sealer, _), (_, mut opener)] = sessions();
        for (bytes, records) in [
            (1, 1),
            (PLAIN_MAX, 1),
            (PLAIN_MAX + 1, 2),
            (65_536 + 8, 2),
            (16 * 1024 * 1024 + 8, 257),
        ] {
            let frame: Vec<u8> = (0..bytes).map(|n| n as u8).collect();
            let messages = sealed(&mut sealer, &frame);
            assert_eq!(messages.len(), records, "{bytes}");
            assert!(messages.iter().all(|message| message.len() <= MESSAGE_MAX));
            assert!(opened(&mut opener, &messages).unwrap() == frame);
        }
    }

    #[test]
    fn a_record_counts_once_in_its_place_and_in_its_direction() {
        let [(mut sealer, mut own), (_, mut opener)] = sessions();
        let messages = sealed(&mut sealer, &vec![7; 3 * PLAIN_MAX]);
        let mut plain = Vec::new();
        assert_eq!(own.open(&messages[0], &mut plain), Err(RecordError::Broken), "sent back");
        assert_eq!(opener.open(&messages[1], &mut plain), Err(RecordError::Broken), "too early");
        assert_eq!(opener.open(&messages[0], &mut plain), Ok(()));
        assert_eq!(opener.open(&messages[0], &mut plain), Err(RecordError::Broken), "repeated");
        assert_eq!(
            opener.open(&messages[2], &mut plain),
            Err(RecordError::Broken),
            "one is left out"
        );
        let [_, (_, mut other)] = sessions();
        assert_eq!(
            other.open(&messages[0], &mut plain),
            Err(RecordError::Broken),
            "of another session"
        );
    }

    #[test]
    fn a_confirmation_is_no_content_and_content_no_confirmation() {
        let [(mut sealer, _), (_, mut opener)] = sessions();
        let mut records = Vec::new();
        sealer.seal_confirmation(&mut records).unwrap();
        let confirmation = messages(&records).remove(0);
        assert_eq!(opener.open_confirmation(&confirmation), Ok(()));
        records.clear();
        sealer.seal_confirmation(&mut records).unwrap();
        let empty = messages(&records).remove(0);
        assert_eq!(opener.open(&empty, &mut Vec::new()), Err(RecordError::Length(16)));
        let content = sealed(&mut sealer, b"x").remove(0);
        assert_eq!(opener.open_confirmation(&content), Err(RecordError::Length(17)));
    }

    #[test]
    fn a_length_that_no_record_has_is_refused_before_anything_is_read() {
        for length in 0..16_u16 {
            let refused = message_bytes(length.to_be_bytes()).unwrap_err();
            assert_eq!(refused, RecordError::Length(usize::from(length)));
        }
        assert_eq!(message_bytes([0xff, 0xff]), Ok(MESSAGE_MAX));
        let [_, (_, mut opener)] = sessions();
        assert_eq!(opener.open(&[0; 15], &mut Vec::new()), Err(RecordError::Length(15)));
        let long = vec![0; MESSAGE_MAX + 1];
        assert_eq!(opener.open(&long, &mut Vec::new()), Err(RecordError::Length(MESSAGE_MAX + 1)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_sealed_opens_as_it_was(frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..400), 1..8)) {
            let [(mut sealer, _), (_, mut opener)] = sessions();
            for frame in frames {
                prop_assert_eq!(opened(&mut opener, &sealed(&mut sealer, &frame)).unwrap(), frame);
            }
        }

        #[test]
        fn no_flipped_bit_opens(frame in prop::collection::vec(any::<u8>(), 1..24)) {
            let [(mut sealer, _), (_, mut opener)] = sessions();
            let message = sealed(&mut sealer, &frame).remove(0);
            let mut plain = Vec::new();
            for bit in 0..8 * message.len() {
                let mut changed = message.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                prop_assert_eq!(opener.open(&changed, &mut plain), Err(RecordError::Broken));
                prop_assert!(plain.is_empty());
            }
            for length in 16..message.len() {
                prop_assert!(opener.open(&message[..length], &mut plain).is_err());
            }
            // The one that is due still opens.
            prop_assert_eq!(opener.open(&message, &mut plain), Ok(()));
        }
    }
}
