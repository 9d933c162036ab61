//! Who is at the other end, by a key of the cluster: the Noise handshake `NNpsk0`, before any frame.
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

use std::sync::Arc;

use snow::HandshakeState;
use tokio::io::{AsyncRead, AsyncWrite};

use super::handshake::{HandshakeError, Proof, Session};
use super::noise::{
    End, FIRST_BY_CLUSTER_KEY, FIRST_BY_NODE_KEY, confirm, failed, is_confirmed, open, receive,
    replica, send, state,
};
use super::records::both;
use crate::cluster_key::{ClusterKey, Keys};
use crate::secret::KEY_BYTES;
use tallymesh_core::id::ReplicaId;
use tallymesh_core::link::Proven;

const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s";
/// The name of this handshake and its records. Another number is for what cannot talk to this one.
const MAGIC: &[u8] = b"tallymesh link 1\0";

/// What a node does that has dialed.
pub(super) async fn initiate<S>(
    stream: &mut S,
    keys: &Keys,
    cluster: &str,
    own: &ReplicaId,
) -> Result<Session, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let key = keys.to_dial().ok_or(HandshakeError::Failed("there is no key"))?;
    let fingerprint = key.fingerprint();
    let mut state = state(End::Dials, PATTERN, (MAGIC, cluster), None)?;
    state.set_psk(0, key.bytes()).map_err(failed("its key"))?;
    let no_answer = |source| HandshakeError::NoAnswer { fingerprint: fingerprint.clone(), source };
    let wrong = || HandshakeError::WrongAnswer { fingerprint: fingerprint.clone() };
    send(stream, &mut state, &own.to_string()).await?.map_err(no_answer)?;
    let answer = receive(stream, FIRST_BY_CLUSTER_KEY).await.map_err(no_answer)?;
    let answer = answer.ok().and_then(|answer| open(&mut state, &answer)).ok_or_else(wrong)?;
    let replica = replica(&answer).ok_or_else(wrong)?;
    let mut session = session(state, fingerprint.clone(), replica)?;
    confirm(stream, &mut session.sealer).await?.map_err(no_answer)?;
    Ok(session)
}

/// What a node does that was dialed.
pub(super) async fn respond<S>(
    stream: &mut S,
    keys: &Keys,
    cluster: &str,
    own: &ReplicaId,
) -> Result<Session, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let first = receive(stream, FIRST_BY_CLUSTER_KEY).await.map_err(HandshakeError::Closed)?;
    let first = first.map_err(|length| match FIRST_BY_NODE_KEY.contains(&length) {
        true => HandshakeError::UsesNodeKey,
        false => HandshakeError::NoHandshake,
    })?;
    let mut state = state(End::Listens, PATTERN, (MAGIC, cluster), None)?;
    // One state for all keys: what failed to open leaves it as it was.
    let found = keys.iter().find_map(|key| {
        state.set_psk(0, key.bytes()).ok()?;
        Some((key, open(&mut state, &first)?))
    });
    let (key, named) = found.ok_or_else(|| other_key(keys))?;
    let replica = replica(&named).ok_or(HandshakeError::NoHandshake)?;
    send(stream, &mut state, &own.to_string()).await?.map_err(HandshakeError::Closed)?;
    let mut session = session(state, key.fingerprint(), replica)?;
    let confirmed = is_confirmed(stream, &mut session.opener).await;
    match confirmed.map_err(HandshakeError::Closed)? {
        true => Ok(session),
        false => Err(HandshakeError::NotConfirmed),
    }
}

fn other_key(keys: &Keys) -> HandshakeError {
    let accepted: Vec<String> = keys.iter().map(ClusterKey::fingerprint).collect();
    HandshakeError::OtherKey { accepted: accepted.join(", ") }
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
    let own = fingerprint.clone();
    let proof =
        Proof { own, peer: Proven::ClusterKey { fingerprint, replica }, chain: Arc::default() };
    Ok(Session { sealer, opener, proof })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::super::handshake::Handshake;
    use super::super::noise::receive;
    use super::super::records::HEADER_BYTES;
    use super::*;
    use crate::credentials::Credentials;

    fn key(byte: u8) -> ClusterKey {
        ClusterKey::parse(&format!("{byte:02x}").repeat(32)).unwrap()
    }

    fn node(name: &str, cluster: &str, keys: &[u8]) -> Handshake {
        let keys = Keys::new(keys.iter().map(|byte| key(*byte)).collect()).unwrap();
        let own = format!("{name}#1.7").parse().unwrap();
        Handshake::new(Credentials::ClusterKeys(keys), cluster, own)
    }

    type Outcome = Result<Session, HandshakeError>;

    /// What comes of it when the first dials the second; who gives up closes the connection.
    async fn meet(near: &Handshake, far: &Handshake) -> (Outcome, Outcome) {
        let (mut a, mut b) = duplex(4096);
        let dialing = async move { near.initiate(&mut a).await.map(|session| (session, a)) };
        let answering = async move { far.respond(&mut b).await.map(|session| (session, b)) };
        let (near, far) = tokio::join!(dialing, answering);
        (near.map(|(near, _)| near.session()), far.map(|(far, _)| far.session()))
    }

    #[tokio::test]
    async fn who_has_a_key_in_common_meets_and_knows_who_the_other_is() {
        for (near, far, met_by) in
            [(&[1][..], &[1][..], 1), (&[1, 2], &[2, 1], 1), (&[4, 1], &[1, 2, 3, 4], 4)]
        {
            let (near, far) = (node("a", "blue", near), node("b", "blue", far));
            let (at_near, at_far) = meet(&near, &far).await;
            let (mut at_near, mut at_far) = (at_near.unwrap(), at_far.unwrap());
            for (session, other) in [(&at_near, "b#1.7"), (&at_far, "a#1.7")] {
                let (fingerprint, replica) = (key(met_by).fingerprint(), other.parse().unwrap());
                assert_eq!(session.proof.own, fingerprint);
                assert_eq!(session.proof.peer, Proven::ClusterKey { fingerprint, replica });
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
        for length in [0, 1, 31, 33, 47, 1_025, 65_535] {
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
        let first = receive(&mut b, FIRST_BY_CLUSTER_KEY).await.unwrap().unwrap();
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
