//! What the targets `handshake` and `records` of `fuzz/` run: any bytes may come from the other end, none panic, and none are taken for
//! what a member sent.
//!
//! The first byte of an input says what the rest of it is: bytes that are sent as they are, or edits of what a member sends. Without
//! the latter nothing would get past a key that is not guessed.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};

use super::crypto::builder;
use super::handshake::{Channel, Handshake, HandshakeError};
use super::records::{HEADER_BYTES, Opener, Sealer, both};
use super::stream::{Incoming, Opening};
use crate::cluster_key::{ClusterKey, Keys};
use crate::credentials::Credentials;
use crate::node_key::{Members, NodeKey, NodeKeys};

/// More than a handshake or the records of an input have.
const STREAM_BYTES: usize = 1024 * 1024;
/// The longest answer to a first message, with its header.
const ANSWER_MAX: usize = 2 + 1024;
/// How many frames an input of records has at most, and how long they are together.
const FRAMES_MAX: usize = 8;
const FRAME_BYTES_MAX: usize = 128 * 1024;

/// Meets a stranger (first byte 0), a server that is none of ours (1), a member that dials, whose bytes are edited on their way (2), or
/// one that answers (3); all of them by keys of nodes in the place of a cluster's key with 4 more. Returns whether it was taken for a member.
///
/// # Panics
/// If one is taken for a member by bytes that no member sent, or learns something before it has proven a key.
pub fn handshake(bytes: &[u8]) -> bool {
    let Some((way, rest)) = bytes.split_first() else { return false };
    let by = if way & 4 == 0 { By::ClusterKey } else { By::NodeKeys };
    match way % 4 {
        0 => meet_stranger(rest, by),
        1 => dial_stranger(rest, by),
        2 => meet_edited(rest, by, Dials::Member),
        _ => meet_edited(rest, by, Dials::Node),
    }
}

/// Reads bytes as records (first byte 0), or records of frames that are edited on their way (1). Returns whether all frames were read.
///
/// # Panics
/// If what is read is not what was sealed.
pub fn records(bytes: &[u8]) -> bool {
    let Some((way, rest)) = bytes.split_first() else { return false };
    let [(mut sealer, _), (_, opener)] = sessions();
    if way % 2 == 0 {
        let read = read_frames(rest, opener, &[vec![0]]);
        assert!(!read, "bytes that were not sealed were read");
        return read;
    }
    let (frames, edits) = frames_of(rest);
    let mut sealed = Vec::new();
    for frame in &frames {
        assert!(sealer.seal(frame, &mut sealed).is_ok());
    }
    let edited = edit_records(&sealed, edits);
    let read = read_frames(&edited, opener, &frames);
    assert_eq!(read, edited.starts_with(&sealed), "records were edited, and read, or were not");
    read
}

/// Both ends of a session.
pub(super) fn sessions() -> [(Sealer, Opener); 2] {
    let ends = || -> Result<_, snow::Error> {
        let params = "Noise_NN_25519_ChaChaPoly_BLAKE2s";
        let mut near = builder(params.parse()?).build_initiator()?;
        let mut far = builder(params.parse()?).build_responder()?;
        let (mut message, mut payload) = ([0; 128], [0; 128]);
        let length = near.write_message(&[], &mut message)?;
        far.read_message(message.get(..length).unwrap_or_default(), &mut payload)?;
        let length = far.write_message(&[], &mut message)?;
        near.read_message(message.get(..length).unwrap_or_default(), &mut payload)?;
        Ok([near.into_stateless_transport_mode()?, far.into_stateless_transport_mode()?])
    };
    #[expect(clippy::expect_used, reason = "a session of two ends of one process")]
    ends().expect("a session").map(both)
}

/// By what the nodes of a cluster prove themselves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    ClusterKey,
    NodeKeys,
}

/// One of the two nodes of a cluster, `a` and `b`.
#[expect(clippy::expect_used, reason = "all of it is written here")]
fn node(name: &str, by: By) -> Handshake {
    let digits = ["7f", "11"].map(|byte| byte.repeat(32));
    let own = name.parse().expect("a name");
    let credentials = match by {
        By::ClusterKey => {
            let keys = digits.map(|digits| ClusterKey::parse(&digits).expect("a key"));
            Credentials::ClusterKeys(Keys::new(keys.to_vec()).expect("two keys"))
        }
        By::NodeKeys => {
            let [a, b] = digits.map(|digits| NodeKey::parse(&digits).expect("a key"));
            let members = [("a", &a), ("b", &b)];
            let members = members.map(|(node, key)| format!("{node}={}", key.public_key()));
            let members = Members::parse(members).expect("two members");
            let key = if name == "a" { a } else { b };
            Credentials::NodeKeys(NodeKeys::new(key, members, &own).expect("a member"))
        }
    };
    let incarnation = format!("{own}#1.7").parse().expect("a replica");
    Handshake::new(credentials, "blue", incarnation)
}

fn meet_stranger(bytes: &[u8], by: By) -> bool {
    let (far, answer, over) =
        talk_to(bytes, |mut stream| async move { node("b", by).respond(&mut stream).await });
    // A first message may have been recorded: then it is answered, and not confirmed.
    let knows_no_key =
        matches!(&far, Some(Err(HandshakeError::NoHandshake | HandshakeError::OtherKey { .. })));
    assert!(answer.is_empty() || !knows_no_key, "a stranger was answered");
    assert!(answer.len() <= ANSWER_MAX && over);
    is_refused(far)
}

fn dial_stranger(bytes: &[u8], by: By) -> bool {
    let (near, _, over) =
        talk_to(bytes, |mut stream| async move { node("a", by).initiate(&mut stream).await });
    assert!(over);
    is_refused(near)
}

/// Panics unless it was refused, with words that show no key.
#[expect(clippy::panic, reason = "that is what a finding is")]
fn is_refused(outcome: Option<Result<Channel, HandshakeError>>) -> bool {
    match outcome {
        Some(Err(error)) => {
            let said = error.to_string();
            assert!(!said.is_empty() && !said.contains(&"7f".repeat(32)));
        }
        Some(Ok(_)) => panic!("bytes without a key were taken for a member"),
        None => panic!("it waits for more when the other end has closed"),
    }
    false
}

/// What an end does to which these bytes are sent and then nothing more, and what it sends itself.
fn talk_to<F: Future<Output = Result<Channel, HandshakeError>>>(
    bytes: &[u8],
    talk: impl FnOnce(DuplexStream) -> F,
) -> (Option<F::Output>, Vec<u8>, bool) {
    let (mut far, near) = duplex(bytes.len().max(STREAM_BYTES));
    let mut outcome = None;
    let mut said = Vec::new();
    let over = run(async {
        // Nothing is lost if the end has closed already.
        let _ = far.write_all(bytes).await;
        let _ = far.shutdown().await;
        outcome = Some(talk(near).await);
        let _ = far.read_to_end(&mut said).await;
    });
    (outcome, said, over.is_some())
}

/// Which end begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dials {
    Member,
    Node,
}

/// Lets a node meet a member of its cluster, of whose bytes some are changed on their way to the node.
fn meet_edited(edits: &[u8], by: By, dials: Dials) -> bool {
    let (member, member_far) = duplex(STREAM_BYTES);
    let (node_near, node_far) = duplex(STREAM_BYTES);
    let (mut from_member, mut to_member) = split(member_far);
    let (mut from_node, mut to_node) = split(node_far);
    let (mut sent, mut forwarded, mut outcome) = (Vec::new(), Vec::new(), None);
    let theirs = async move {
        let (handshake, mut stream) = (node("a", by), member);
        match dials {
            Dials::Member => handshake.initiate(&mut stream).await.is_ok(),
            Dials::Node => handshake.respond(&mut stream).await.is_ok(),
        }
    };
    let ours = async {
        let (handshake, mut stream) = (node("b", by), node_near);
        outcome = Some(match dials {
            Dials::Member => handshake.respond(&mut stream).await,
            Dials::Node => handshake.initiate(&mut stream).await,
        });
    };
    let there = async {
        let mut bytes = [0; 256];
        while let Ok(count @ 1..) = from_member.read(&mut bytes).await {
            let bytes = bytes.get(..count).unwrap_or_default();
            let edited = edit_bytes(bytes, sent.len(), edits);
            sent.extend_from_slice(bytes);
            forwarded.extend_from_slice(&edited);
            if to_node.write_all(&edited).await.is_err() || edited.len() < count {
                break;
            }
        }
        let _ = to_node.shutdown().await;
    };
    let back = async {
        let _ = tokio::io::copy(&mut from_node, &mut to_member).await;
        let _ = to_member.shutdown().await;
    };
    // Where a length was made longer, both ends wait for each other, for as long as the time for handshakes lasts.
    let _ = run(async { tokio::join!(theirs, ours, there, back) });
    let proven = outcome.and_then(Result::ok).map(|channel| channel.proof.peer);
    if let Some(proven) = &proven {
        assert!(forwarded == sent, "a member was taken for one by other bytes than it sent");
        assert!(proven.replica().is_some_and(|replica| replica.node.as_str() == "a"));
    }
    proven.is_some()
}

/// These bytes of a stream, which begin at this one of it, as they are after the edits: each is a place, two bytes, and what is changed
/// there, one byte; a change of 0 ends the stream.
fn edit_bytes(bytes: &[u8], begin: usize, edits: &[u8]) -> Vec<u8> {
    let mut edited = bytes.to_vec();
    for edit in edits.as_chunks().0 {
        let [high, low, change] = *edit;
        let at = usize::from(u16::from_be_bytes([high, low]));
        let Some(at) = at.checked_sub(begin) else { continue };
        match edited.get_mut(at) {
            Some(_) if change == 0 => edited.truncate(at),
            Some(byte) => *byte ^= change,
            None => {}
        }
    }
    edited
}

/// Frames as an input asks for them, how many and how long; and the edits after them.
fn frames_of(bytes: &[u8]) -> (Vec<Vec<u8>>, &[u8]) {
    let Some((count, mut rest)) = bytes.split_first() else { return (Vec::new(), bytes) };
    let (mut frames, mut left) = (Vec::new(), FRAME_BYTES_MAX);
    for number in 0..(usize::from(*count) % FRAMES_MAX) as u8 {
        let Some((length, after)) = rest.split_first_chunk() else { break };
        let length = usize::from(u16::from_be_bytes(*length)).clamp(1, left);
        frames.push(vec![number; length]);
        (rest, left) = (after, (left - length).max(1));
    }
    (frames, rest)
}

/// Records as they come after edits of five bytes: what is done, and two places of two bytes.
fn edit_records(sealed: &[u8], edits: &[u8]) -> Vec<u8> {
    let mut records = Vec::new();
    let mut rest = sealed;
    while let Some((header, _)) = rest.split_first_chunk() {
        let length = HEADER_BYTES + usize::from(u16::from_be_bytes(*header));
        let (record, after) = rest.split_at(length.min(rest.len()));
        records.push(record.to_vec());
        rest = after;
    }
    for edit in edits.as_chunks().0 {
        let [what, a, b, c, d] = *edit;
        let (first, second) =
            (u16::from_be_bytes([a, b]).into(), u16::from_be_bytes([c, d]).into());
        match what % 6 {
            0 if first < records.len() && second < records.len() => records.swap(first, second),
            1 if first < records.len() => drop(records.remove(first)),
            2 if records.len() < 4 * FRAMES_MAX => {
                let Some(record) = records.get(first).cloned() else { continue };
                records.insert(second.min(records.len()), record);
            }
            3 => records.get_mut(first).map_or((), |record| record.truncate(second)),
            4 => {
                if let Some(byte) =
                    records.get_mut(first).and_then(|record| record.get_mut(second >> 3))
                {
                    *byte ^= 1 << (second & 7);
                }
            }
            _ if records.len() < 4 * FRAMES_MAX => records.push([[a, b], [c, d]].concat()),
            _ => {}
        }
    }
    records.concat()
}

/// Whether all these frames come out of bytes that are followed by no more; each that does must be as it was.
fn read_frames(bytes: &[u8], opener: Opener, frames: &[Vec<u8>]) -> bool {
    let (mut far, near) = duplex(bytes.len().max(1));
    let mut read = Incoming::new(near, Some(Opening::Records(opener)));
    let all = run(async {
        assert!(far.write_all(bytes).await.is_ok() && far.shutdown().await.is_ok());
        for frame in frames {
            let mut bytes = vec![0xff; frame.len()];
            if read.read_exact(&mut bytes).await.is_err() {
                return false;
            }
            assert!(bytes == *frame, "a frame was read that was not sealed");
        }
        true
    });
    assert!(all.is_some(), "it waits for more when the other end has closed");
    all.unwrap_or(false)
}

/// Runs what waits for nothing but itself; `None` if it waits all the same.
fn run<T>(what: impl Future<Output = T>) -> Option<T> {
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    let woken = Arc::new(Woken(AtomicBool::new(true)));
    let waker = Waker::from(woken.clone());
    let mut what = pin!(what);
    while woken.0.swap(false, Ordering::Relaxed) {
        if let Poll::Ready(outcome) = what.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(outcome);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use tallymesh_test_support::corpus::{TargetCorpus, rounds};

    use super::*;

    /// Each file as it is, and changed at random.
    fn replay(target: &'static str, run: fn(&[u8]) -> bool, rounds: u64) {
        let corpus = TargetCorpus::of(target);
        corpus.each_is_read_or_refused_as_its_name_says(run);
        corpus.change_at_random(rounds, run);
    }

    #[test]
    fn the_corpus_of_handshakes() {
        replay("handshake", handshake, rounds(20));
    }

    #[test]
    fn the_corpus_of_records() {
        replay("records", records, rounds(20));
    }
}
