//! Who is at the other end: the Noise handshake `NNpsk0` under a key of the cluster, before any frame.
//!
//! ```text
//! who dials                                who listens
//!   psk, e, its replica       ->             tries each key that it accepts; a stranger is refused here, before any Diffie-Hellman
//!                             <-   e, ee, its replica
//!   a record without content  ->             a link, only now: a first message that was recorded and is sent again brings no node in
//! ```
//!
//! Each is a record, and a first one has at most 1 KiB. What is bound to what: the keys of the session are made of a cluster key and
//! of both ends' fresh secrets (so a key that leaks later opens nothing that was recorded) over a transcript of the prologue (this
//! handshake's name and version, and the cluster's name), both replicas (node id, boot and nonce), and which end dialed. So both ends
//! have read the same, or no record opens. The replica of a hello must be the one of the transcript; the versions of the protocol of
//! frames are agreed on in the hello, which cannot be changed on its way any more. Members with one key are not told apart by it.

use std::io;
use std::sync::Arc;

use snow::{Builder, HandshakeState};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::crypto::builder;
use super::records::{HEADER_BYTES, Opener, RecordError, Sealer, both, message_bytes};
use crate::cluster_key::{ClusterKey, KEY_BYTES, Keys};
use tallymesh_core::id::ReplicaId;
use tallymesh_core::link::Proven;

const PARAMS: &str = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s";
/// The name of this handshake and its records. Another number is for what cannot talk to this one.
const MAGIC: &[u8] = b"tallymesh link 1\0";
/// The longest first record of each end, its header apart.
const FIRST_MAX: usize = 1024;
/// A public key and a tag, with no content.
const FIRST_MIN: usize = 48;

/// What a node needs to prove itself, and to have others do so.
pub(crate) struct Handshake {
    keys: Keys,
    prologue: Vec<u8>,
    own: String,
}

/// A session that both ends have proven to be in.
pub(super) struct Session {
    pub(super) sealer: Sealer,
    pub(super) opener: Opener,
    pub(super) fingerprint: String,
    pub(super) replica: ReplicaId,
}

/// Why a handshake came to nothing. The other end is told nothing of it.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error(
        "it does not answer to our key {fingerprint}: it has another gossip.key, no key, or another gossip.cluster ({source})"
    )]
    NoAnswer { fingerprint: String, source: io::Error },
    #[error(
        "its answer is none to our key {fingerprint}: is it a node of this cluster, and has it a gossip.key?"
    )]
    WrongAnswer { fingerprint: String },
    #[error(
        "it has none of the keys that this node accepts ({accepted}), or another gossip.cluster"
    )]
    OtherKey { accepted: String },
    #[error(
        "its first bytes are not those of a node with a key: it has no gossip.key, or is no tallymesh node"
    )]
    NoHandshake,
    #[error("it closed the connection before it had proven a key ({0})")]
    Closed(io::Error),
    #[error(
        "it did not confirm the handshake: what it sent first was recorded, or was changed on the way"
    )]
    NotConfirmed,
    #[error("it had not proven a key in time")]
    TimedOut,
    #[error("it had not proven a key when others came after it, and there were too many")]
    PushedOut,
    #[error("its key is not accepted any more")]
    Revoked,
    #[error("the handshake could not be made: {0}")]
    Failed(&'static str),
}

impl Handshake {
    pub(crate) fn new(keys: Keys, cluster: &str, own: &ReplicaId) -> Handshake {
        Handshake { keys, prologue: [MAGIC, cluster.as_bytes()].concat(), own: own.to_string() }
    }

    /// The same with other keys.
    pub(super) fn with_keys(&self, keys: Keys) -> Handshake {
        Handshake { keys, prologue: self.prologue.clone(), own: self.own.clone() }
    }

    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// What a node does that has dialed.
    pub(super) async fn initiate<S>(&self, stream: &mut S) -> Result<Session, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let key = self.keys.to_dial().ok_or(HandshakeError::Failed("there is no key"))?;
        let fingerprint = key.fingerprint();
        let mut state = self.state(Builder::build_initiator)?;
        state.set_psk(0, key.bytes()).map_err(failed("its key"))?;
        let no_answer =
            |source| HandshakeError::NoAnswer { fingerprint: fingerprint.clone(), source };
        let wrong = || HandshakeError::WrongAnswer { fingerprint: fingerprint.clone() };
        send(stream, &mut state, &self.own).await?.map_err(no_answer)?;
        let message = receive(stream).await.map_err(no_answer)?.ok_or_else(wrong)?;
        let mut payload = [0; FIRST_MAX];
        let length = state.read_message(&message, &mut payload).map_err(|_| wrong())?;
        let replica = replica(payload.get(..length)).ok_or_else(wrong)?;
        let mut session = session(state, fingerprint.clone(), replica)?;
        let mut confirmation = Vec::new();
        let sealed = session.sealer.seal_confirmation(&mut confirmation);
        sealed.map_err(|_| HandshakeError::Failed("its confirmation"))?;
        stream.write_all(&confirmation).await.map_err(no_answer)?;
        Ok(session)
    }

    /// What a node does that was dialed.
    pub(super) async fn respond<S>(&self, stream: &mut S) -> Result<Session, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let first = receive(stream).await.map_err(HandshakeError::Closed)?;
        let first = first.ok_or(HandshakeError::NoHandshake)?;
        let mut state = self.state(Builder::build_responder)?;
        let mut payload = [0; FIRST_MAX];
        // One state for all keys: what failed to open leaves it as it was.
        let found = self.keys.iter().find_map(|key| {
            state.set_psk(0, key.bytes()).ok()?;
            Some((key, state.read_message(&first, &mut payload).ok()?))
        });
        let (key, length) = found.ok_or_else(|| self.other_key())?;
        let replica = replica(payload.get(..length)).ok_or(HandshakeError::NoHandshake)?;
        send(stream, &mut state, &self.own).await?.map_err(HandshakeError::Closed)?;
        let mut session = session(state, key.fingerprint(), replica)?;
        let confirmation = receive_bytes(stream).await.map_err(HandshakeError::Closed)?;
        let confirmed = session.opener.open_confirmation(&confirmation);
        confirmed.map_err(|_| HandshakeError::NotConfirmed)?;
        Ok(session)
    }

    fn state<'a>(
        &'a self,
        build: impl FnOnce(Builder<'a>) -> Result<HandshakeState, snow::Error>,
    ) -> Result<HandshakeState, HandshakeError> {
        let params = PARAMS.parse().map_err(failed("its parameters"))?;
        let builder = builder(params).prologue(&self.prologue).map_err(failed("its prologue"))?;
        build(builder).map_err(failed("its state"))
    }

    fn other_key(&self) -> HandshakeError {
        let accepted: Vec<String> = self.keys.iter().map(ClusterKey::fingerprint).collect();
        HandshakeError::OtherKey { accepted: accepted.join(", ") }
    }
}

impl Session {
    pub(super) fn proven(&self) -> Proven {
        Proven::ClusterKey { fingerprint: self.fingerprint.clone(), replica: self.replica.clone() }
    }
}

fn session(
    mut state: HandshakeState,
    fingerprint: String,
    replica: ReplicaId,
) -> Result<Session, HandshakeError> {
    // It keeps a copy of the key, and does not overwrite that when it goes.
    state.set_psk(0, &[0; KEY_BYTES]).map_err(failed("its key"))?;
    let state = state.into_stateless_transport_mode().map_err(failed("its session"))?;
    let (sealer, opener) = both(state);
    Ok(Session { sealer, opener, fingerprint, replica })
}

fn replica(payload: Option<&[u8]>) -> Option<ReplicaId> {
    std::str::from_utf8(payload?).ok()?.parse().ok()
}

fn failed(what: &'static str) -> impl FnOnce(snow::Error) -> HandshakeError {
    move |_| HandshakeError::Failed(what)
}

/// Sends the next message of the handshake, with our replica in it.
async fn send<S: AsyncWrite + Unpin>(
    stream: &mut S,
    state: &mut HandshakeState,
    own: &str,
) -> Result<io::Result<()>, HandshakeError> {
    let mut record = [0; HEADER_BYTES + FIRST_MAX];
    let (header, message) = record.split_at_mut(HEADER_BYTES);
    let length = state.write_message(own.as_bytes(), message).map_err(failed("its message"))?;
    // At most 1 KiB.
    header.copy_from_slice(&(length as u16).to_be_bytes());
    let record = record.get(..HEADER_BYTES + length).unwrap_or_default();
    Ok(stream.write_all(record).await)
}

/// The first record of the other end; `None` if it cannot be one by its length, of which no more is read.
async fn receive<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Option<Vec<u8>>> {
    let mut header = [0; HEADER_BYTES];
    stream.read_exact(&mut header).await?;
    let length = usize::from(u16::from_be_bytes(header));
    if !(FIRST_MIN..=FIRST_MAX).contains(&length) {
        return Ok(None);
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(Some(message))
}

/// The record that confirms a handshake, whose length is known.
async fn receive_bytes<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Vec<u8>> {
    let mut header = [0; HEADER_BYTES];
    stream.read_exact(&mut header).await?;
    let length = message_bytes(header).map_err(broken)?.min(FIRST_MIN);
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// As an error of the connection, which ends over it.
pub(super) fn broken(error: RecordError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// A handshake that many connections share.
pub(super) type SharedHandshake = Arc<Handshake>;

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};

    use super::*;

    fn key(byte: u8) -> ClusterKey {
        ClusterKey::parse(&format!("{byte:02x}").repeat(32)).unwrap()
    }

    fn node(name: &str, cluster: &str, keys: &[u8]) -> Handshake {
        let keys = Keys::new(keys.iter().map(|byte| key(*byte)).collect()).unwrap();
        Handshake::new(keys, cluster, &format!("{name}#1.7").parse().unwrap())
    }

    type Outcome = Result<Session, HandshakeError>;

    /// What comes of it when the first dials the second; who gives up closes the connection.
    async fn meet(near: &Handshake, far: &Handshake) -> (Outcome, Outcome) {
        let (mut a, mut b) = duplex(4096);
        let dialing = async move { near.initiate(&mut a).await.map(|session| (session, a)) };
        let answering = async move { far.respond(&mut b).await.map(|session| (session, b)) };
        let (near, far) = tokio::join!(dialing, answering);
        (near.map(|(session, _)| session), far.map(|(session, _)| session))
    }

    #[tokio::test]
    async fn who_has_a_key_in_common_meets_and_knows_who_the_other_is() {
        for (near, far, met_by) in
            [(&[1][..], &[1][..], 1), (&[1, 2], &[2, 1], 1), (&[4, 1], &[1, 2, 3, 4], 4)]
        {
            let (near, far) = (node("a", "blue", near), node("b", "blue", far));
            let (at_near, at_far) = meet(&near, &far).await;
            let (mut at_near, mut at_far) = (at_near.unwrap(), at_far.unwrap());
            assert_eq!((at_near.replica.node.as_str(), at_far.replica.node.as_str()), ("b", "a"));
            for session in [&at_near, &at_far] {
                assert_eq!(session.fingerprint, key(met_by).fingerprint());
            }
            for _ in 0..2 {
                let (mut records, mut plain) = (Vec::new(), Vec::new());
                at_far.sealer.seal(b"frame", &mut records).unwrap();
                at_near.opener.open(&records[HEADER_BYTES..], &mut plain).unwrap();
                assert_eq!(plain, b"frame");
            }
        }
    }

    #[tokio::test]
    async fn another_key_or_cluster_is_refused_at_both_ends_with_a_reason() {
        let here = node("b", "blue", &[1, 2]);
        for other in [node("a", "blue", &[3]), node("a", "red", &[1]), node("a", "blue", &[3, 1])] {
            let (near, far) = meet(&other, &here).await;
            let (near, far) = (near.err().unwrap(), far.err().unwrap());
            assert!(matches!(near, HandshakeError::NoAnswer { .. }), "{near}");
            assert!(matches!(far, HandshakeError::OtherKey { .. }), "{far}");
            let said = far.to_string();
            assert!(said.contains(&key(1).fingerprint()) && said.contains(&key(2).fingerprint()));
            assert!(!said.contains(&key(1).reveal()));
        }
    }

    /// What the node that was dialed does with these bytes, and what it sends back.
    async fn answer_to(bytes: &[u8]) -> (HandshakeError, Vec<u8>) {
        let (mut a, mut b) = duplex(128 * 1024);
        a.write_all(bytes).await.unwrap();
        a.shutdown().await.unwrap();
        let error = node("b", "blue", &[1, 2]).respond(&mut b).await.err().unwrap();
        drop(b);
        (error, all_of(&mut a).await)
    }

    async fn all_of(stream: &mut DuplexStream) -> Vec<u8> {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        bytes
    }

    #[tokio::test]
    async fn a_stranger_gets_no_byte_whatever_it_sends() {
        let with_length = |length: u16| [&length.to_be_bytes()[..], &vec![7; 65_535]].concat();
        for bytes in [&b""[..], b"x", &[0; 8], b"GET / HTTP/1.1\r\n\r\n", &[0, 48, 1, 2, 3]] {
            let (error, answer) = answer_to(bytes).await;
            assert!(answer.is_empty(), "{bytes:?}: {error}");
        }
        for length in [0, 1, 47, 1_025, 65_535] {
            let (error, answer) = answer_to(&with_length(length)).await;
            assert!(matches!(error, HandshakeError::NoHandshake) && answer.is_empty(), "{length}");
        }
        for length in [48, 150, 1_024] {
            let (error, answer) = answer_to(&with_length(length)).await;
            assert!(
                matches!(error, HandshakeError::OtherKey { .. }) && answer.is_empty(),
                "{length}"
            );
        }
    }

    /// The first message of a node that has the key.
    async fn first_message() -> Vec<u8> {
        let (mut a, mut b) = duplex(4096);
        let dialing = tokio::spawn(async move { node("a", "blue", &[1]).initiate(&mut a).await });
        let first = receive(&mut b).await.unwrap().unwrap();
        drop(b);
        assert!(dialing.await.unwrap().is_err());
        [&(first.len() as u16).to_be_bytes()[..], &first].concat()
    }

    #[tokio::test]
    async fn a_first_message_that_was_recorded_or_changed_brings_nobody_in() {
        let first = first_message().await;
        let (error, _) = answer_to(&first).await;
        assert!(matches!(error, HandshakeError::Closed(_)), "it does not confirm: {error}");
        let made_up = [&first[..], &[0, 16], &[7; 16]].concat();
        let (error, _) = answer_to(&made_up).await;
        assert!(matches!(error, HandshakeError::NotConfirmed), "{error}");
        for bit in 8 * HEADER_BYTES..8 * first.len() {
            let mut changed = first.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let (error, answer) = answer_to(&changed).await;
            assert!(matches!(error, HandshakeError::OtherKey { .. }), "{bit}: {error}");
            assert!(answer.is_empty());
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_none_is_refused_by_who_dialed() {
        for answer in [&b"HTTP/1.1 400 Bad Request\r\n"[..], &[0, 48, 1], &[0; 64], &[0, 64]] {
            let (mut a, mut b) = duplex(4096);
            b.write_all(answer).await.unwrap();
            b.shutdown().await.unwrap();
            let error = node("a", "blue", &[1]).initiate(&mut a).await.err().unwrap();
            assert!(error.to_string().contains(&key(1).fingerprint()), "{error}");
        }
    }
}
