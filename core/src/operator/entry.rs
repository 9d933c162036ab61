//! One entry: what it says, its bytes, and its signature.
//!
//! The bytes are the content and, where it is signed, 64 bytes of signature. The content is kind, subject, at, until, kept and
//! payload, in this order: texts and numbers.
//!
//! Texts and numbers are as in a key: LEB128, in the fewest bytes, so an entry has exactly one spelling. The signature is over
//! `tallymesh operator entry 1`, a zero byte, the cluster's name, a zero byte, and the content.
//!
//! `until` is when it has no effect any more, and `kept` until when it stands in the way of earlier ones: a node that was away for
//! long must not bring back a quarantine that was shortened or lifted.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::time::Duration;

use super::key::{OperatorPublicKey, SIGNATURE_BYTES, sign};
use crate::id::{NodeId, ReplicaId};
use crate::time::Timestamp;
use crate::varint;

/// The longest kind, in bytes.
pub const KIND_BYTES_MAX: usize = 32;
/// The longest subject, in bytes.
pub const SUBJECT_BYTES_MAX: usize = 256;
/// The longest payload, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 1024;
/// How long an entry may count: longer than anything can be kept that a replica counts, which is twice the longest window and
/// what clocks and settings allow beside it.
pub const ENTRY_TERM_MAX: Duration = Duration::from_secs(735 * 24 * 3600);

const DOMAIN: &[u8] = b"tallymesh operator entry 1\0";
const FORGET: &str = "forget";
const QUARANTINE: &str = "quarantine";
/// The payloads of a quarantine.
const IN_FORCE: &[u8] = &[1];
const RELEASED: &[u8] = &[0];

/// What the operator says about one thing, from one moment until another. The latest entry of a kind about a subject counts.
///
/// ```
/// use std::time::Duration;
/// use tallymesh::{OperatorEntry, OperatorKey, Timestamp};
///
/// let key = OperatorKey::generate()?;
/// let now = Timestamp(1_790_000_000_000);
/// let entry = OperatorEntry::quarantine(&"b".parse()?, now, Duration::from_secs(3600));
/// let signed = key.sign(entry, "default");
/// assert!(signed.is_signed_by(&key.public(), "default"));
/// assert!(!signed.is_signed_by(&key.public(), "another cluster"));
/// assert_eq!(OperatorEntry::from_bytes(&signed.to_bytes())?, signed);
///
/// assert!(signed.is_signed() && signed.forgets().is_none());
/// assert_eq!(signed.quarantines(), Some("b".parse()?));
/// assert_eq!((signed.kind(), signed.action(), signed.subject()), ("quarantine", "quarantine", "b"));
/// assert!(signed.at() < signed.until() && signed.until() < signed.kept());
/// assert_eq!(signed.payload(), [1]);
/// // A release is a later entry of the same kind about the same node.
/// let lifted = OperatorEntry::release(&"b".parse()?, now).given_after(signed.at());
/// assert_eq!((lifted.kind(), lifted.action()), ("quarantine", "release"));
/// assert!(lifted.signed(&[7; 32], "default").at() > signed.at());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorEntry {
    kind: Box<str>,
    subject: Box<str>,
    at: Timestamp,
    until: Timestamp,
    kept: Timestamp,
    payload: Box<[u8]>,
    signature: Option<[u8; SIGNATURE_BYTES]>,
}

/// Bytes that are no entry.
///
/// ```
/// use tallymesh::{InvalidEntry, OperatorEntry};
///
/// let refused: InvalidEntry = OperatorEntry::from_bytes(b"no entry").unwrap_err();
/// assert!(refused.to_string().starts_with("these bytes are no entry"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("these bytes are no entry of an operator: {0}")]
pub struct InvalidEntry(&'static str);

impl OperatorEntry {
    /// All that a replica counted is removed and refused from now on. It counts for as long as an entry can.
    pub fn forget(replica: &ReplicaId, at: Timestamp) -> OperatorEntry {
        OperatorEntry::new(FORGET, replica.to_string(), at, ENTRY_TERM_MAX, &[])
    }

    /// What a node counts, in whichever incarnation, is taken for 0 for this long, at most 735 days.
    pub fn quarantine(node: &NodeId, at: Timestamp, term: Duration) -> OperatorEntry {
        OperatorEntry::new(QUARANTINE, node.to_string(), at, term.min(ENTRY_TERM_MAX), IN_FORCE)
    }

    /// What a node counts is counted again.
    pub fn release(node: &NodeId, at: Timestamp) -> OperatorEntry {
        OperatorEntry::new(QUARANTINE, node.to_string(), at, ENTRY_TERM_MAX, RELEASED)
    }

    fn new(
        kind: &str,
        subject: impl Into<Box<str>>,
        at: Timestamp,
        term: Duration,
        payload: &[u8],
    ) -> OperatorEntry {
        let (kind, subject, payload) = (kind.into(), subject.into(), payload.into());
        let (until, kept) = (at.plus(term), at.plus(ENTRY_TERM_MAX));
        OperatorEntry { kind, subject, at, until, kept, payload, signature: None }
    }

    /// The same entry, given after this moment if it was not: it then ends as much later.
    #[must_use]
    pub fn given_after(self, last: Timestamp) -> OperatorEntry {
        let at = self.at.max(last.plus(Duration::from_millis(1)));
        let later = at.since(self.at);
        OperatorEntry { at, until: self.until.plus(later), kept: self.kept.plus(later), ..self }
    }

    /// What it does: `forget`, `quarantine`, or what a later version knows.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The kind in words, where a release is told from a quarantine.
    pub fn action(&self) -> &str {
        match (&*self.kind, &*self.payload) {
            (QUARANTINE, RELEASED) => "release",
            (kind, _) => kind,
        }
    }

    /// What it is about: a replica as `node#boot.nonce`, or a node.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// When it was given.
    pub fn at(&self) -> Timestamp {
        self.at
    }

    /// Until when it has an effect.
    pub fn until(&self) -> Timestamp {
        self.until
    }

    /// Until when it is kept and told, in the place of any earlier one about the same thing.
    pub fn kept(&self) -> Timestamp {
        self.kept
    }

    /// What else it says, which depends on its kind.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The replica that is to be forgotten, if it says so.
    pub fn forgets(&self) -> Option<ReplicaId> {
        (*self.kind == *FORGET).then(|| self.subject.parse().ok()).flatten()
    }

    /// The node whose counts are taken for 0, if it says so.
    pub fn quarantines(&self) -> Option<NodeId> {
        let is_it = *self.kind == *QUARANTINE && *self.payload == *IN_FORCE;
        is_it.then(|| self.subject.parse().ok()).flatten()
    }

    /// Whether it is signed at all, by whatever key.
    pub fn is_signed(&self) -> bool {
        self.signature.is_some()
    }

    /// The same entry, signed for the cluster of this name with the private half of a key.
    #[must_use]
    pub fn signed(mut self, seed: &[u8; 32], cluster: &str) -> OperatorEntry {
        self.signature = Some(sign(seed, &self.message(cluster)));
        self
    }

    /// Whether it is signed for the cluster of this name, with the private half of this key.
    pub fn is_signed_by(&self, key: &OperatorPublicKey, cluster: &str) -> bool {
        let message = || self.message(cluster);
        self.signature.as_ref().is_some_and(|signature| key.has_signed(&message(), signature))
    }

    fn message(&self, cluster: &str) -> Vec<u8> {
        [DOMAIN, cluster.as_bytes(), &[0], &self.content()].concat()
    }

    /// The entry without its signature, as bytes: what is signed, and what tells two entries apart.
    pub(super) fn content(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_text(&mut bytes, self.kind.as_bytes());
        put_text(&mut bytes, self.subject.as_bytes());
        put_number(&mut bytes, self.at.0);
        put_number(&mut bytes, self.until.0);
        put_number(&mut bytes, self.kept.0);
        put_text(&mut bytes, &self.payload);
        bytes
    }

    /// The entry as bytes, with its signature if it has one.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.content();
        bytes.extend(self.signature.into_iter().flatten());
        bytes
    }

    /// The entry that these bytes are. Whether its signature is right is not looked at.
    ///
    /// # Errors
    /// When they are not exactly one entry, or a part of it is longer than is allowed.
    pub fn from_bytes(mut bytes: &[u8]) -> Result<OperatorEntry, InvalidEntry> {
        let rest = &mut bytes;
        let kind = take_text(rest, KIND_BYTES_MAX)?;
        let subject = take_text(rest, SUBJECT_BYTES_MAX)?;
        let mut time = || take_number(rest).map(Timestamp);
        let (at, until, kept) = (time()?, time()?, time()?);
        let payload = take_bytes(rest, PAYLOAD_BYTES_MAX)?;
        let signature = match rest.len() {
            0 => None,
            _ => Some((**rest).try_into().map_err(|_| InvalidEntry("its end is no signature"))?),
        };
        if kind.is_empty() || subject.is_empty() {
            return Err(InvalidEntry("it has no kind, or no subject"));
        }
        if until <= at || kept < until || kept > at.plus(ENTRY_TERM_MAX) {
            return Err(InvalidEntry("it ends when no entry does"));
        }
        let (kind, subject, payload) = (kind.into(), subject.into(), payload.into());
        Ok(OperatorEntry { kind, subject, at, until, kept, payload, signature })
    }
}

fn put_number(bytes: &mut Vec<u8>, number: u64) {
    varint::write(number, |byte| bytes.push(byte));
}

fn put_text(bytes: &mut Vec<u8>, text: &[u8]) {
    put_number(bytes, text.len() as u64);
    bytes.extend_from_slice(text);
}

fn take_number(rest: &mut &[u8]) -> Result<u64, InvalidEntry> {
    varint::read(rest).map_err(|error| InvalidEntry(error.0))
}

fn take_bytes<'a>(rest: &mut &'a [u8], bytes_max: usize) -> Result<&'a [u8], InvalidEntry> {
    let length = take_number(rest)?;
    let length = usize::try_from(length).ok().filter(|length| *length <= bytes_max);
    let length = length.ok_or(InvalidEntry("a part of it is too long"))?;
    let (text, behind) = rest.split_at_checked(length).ok_or(InvalidEntry("it is cut off"))?;
    *rest = behind;
    Ok(text)
}

fn take_text<'a>(rest: &mut &'a [u8], bytes_max: usize) -> Result<&'a str, InvalidEntry> {
    let bytes = take_bytes(rest, bytes_max)?;
    core::str::from_utf8(bytes).map_err(|_| InvalidEntry("a text of it is not UTF-8"))
}

impl core::fmt::Display for OperatorEntry {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(&format!("{} {} until {}", self.action(), self.subject, self.until))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SEED: [u8; 32] = [7; 32];

    fn entry() -> impl Strategy<Value = OperatorEntry> {
        let payload = prop::collection::vec(any::<u8>(), 0..40);
        ("[a-z]{1,12}", ".{1,20}", any::<u32>(), 1_u64..1 << 35, payload, any::<bool>()).prop_map(
            |(kind, subject, at, term, payload, signed)| {
                let (at, term) = (Timestamp(u64::from(at)), Duration::from_millis(term));
                let entry = OperatorEntry::new(&kind, subject, at, term, &payload);
                if signed { entry.signed(&SEED, "c") } else { entry }
            },
        )
    }

    proptest! {
        #[test]
        fn an_entry_is_read_as_it_was_written(entry in entry()) {
            prop_assert_eq!(OperatorEntry::from_bytes(&entry.to_bytes()), Ok(entry));
        }

        #[test]
        fn a_flipped_bit_is_no_entry_or_not_signed(entry in entry(), at in any::<prop::sample::Index>(), bit in 0_u32..8) {
            let mut bytes = entry.signed(&SEED, "c").to_bytes();
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            let key = OperatorPublicKey::of_seed(&SEED);
            let read = OperatorEntry::from_bytes(&bytes);
            prop_assert!(read.is_err() || !read.unwrap().is_signed_by(&key, "c"));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            if let Ok(entry) = OperatorEntry::from_bytes(&bytes) {
                prop_assert_eq!(entry.to_bytes(), bytes, "an entry has one spelling");
            }
        }
    }

    #[test]
    fn a_signature_is_of_one_key_and_one_cluster() {
        let at = Timestamp(1_000);
        let entry = OperatorEntry::release(&"b".parse().unwrap(), at);
        let key = OperatorPublicKey::of_seed(&SEED);
        assert!(!entry.is_signed_by(&key, "c"), "it is not signed at all");
        let entry = entry.signed(&SEED, "c");
        assert!(entry.is_signed_by(&key, "c") && !entry.is_signed_by(&key, "d"));
        assert!(!entry.is_signed_by(&OperatorPublicKey::of_seed(&[8; 32]), "c"));
        assert_eq!((entry.quarantines(), entry.forgets()), (None, None));
    }

    #[test]
    fn terms_past_the_bound_and_ends_before_the_start_are_no_entries() {
        let entry = OperatorEntry::quarantine(&"b".parse().unwrap(), Timestamp(9), Duration::MAX);
        assert_eq!(entry.until(), Timestamp(9).plus(ENTRY_TERM_MAX));
        let late = entry.until().plus(Duration::from_millis(1));
        for (until, kept) in [
            (Timestamp(9), late),
            (Timestamp(8), Timestamp(10)),
            (late, late),
            (late, entry.kept()),
        ] {
            let bytes = OperatorEntry { until, kept, ..entry.clone() }.to_bytes();
            assert!(OperatorEntry::from_bytes(&bytes).is_err(), "{until:?}");
        }
    }
}
