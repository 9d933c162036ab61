//! Who is at the other end, by a key that it has alone: the Noise handshake `XX`, before any frame.
//!
//! ```text
//! who dials                                who listens
//!   e                         ->             makes three Diffie-Hellmans, for whichever end it is
//!                             <-   e, ee, s, es, its replica
//!   is s a key of that node?
//!   s, se, its replica        ->             is s a key of that node?
//!                             <-   a record without content
//!   a link, only now: who is refused sees no link that comes and goes
//! ```
//!
//! Each is a record of at most 1 KiB, and the first has 32 bytes: the first one under a cluster key has more, so that a node of the
//! other way is told by it, and neither way leads to the other. What is bound to what: the keys of the session are made of both ends'
//! own keys and of fresh secrets of both (so a key that leaks later opens nothing that was recorded) over a transcript of the prologue
//! (this handshake's name and version, and the cluster's name), both public keys, both replicas (node id, boot and nonce), and which
//! end dialed. So both ends have read the same, or no record opens. Who listens shows its public key and its replica to whichever end
//! asks, in its one answer; who dials shows its own to none but a member. A replica must be of the node whose key was proven, and that
//! of a hello the one of the transcript.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use snow::HandshakeState;
use tokio::io::{AsyncRead, AsyncWrite};

use super::handshake::{HandshakeError, Proof, Session};
use super::noise::{
    End, FIRST_BY_CLUSTER_KEY, FIRST_BY_NODE_KEY, MESSAGE_MAX, confirm, failed, is_confirmed, open,
    receive, replica, send, state,
};
use super::records::both;
use crate::node_key::{NodeKeys, PublicKey};
use tallymesh_core::id::ReplicaId;
use tallymesh_core::link::Proven;

const PATTERN: &str = "Noise_XX_25519_ChaChaPoly_BLAKE2s";
/// The name of this handshake and its records. Another number is for what cannot talk to this one.
const MAGIC: &[u8] = b"tallymesh node link 1\0";
/// The least that the second message may have, and the third, each with a replica of no character.
const SECOND_MIN: usize = 32 + 48 + 16;
const THIRD_MIN: usize = 48 + 16;

/// What a node does that has dialed.
pub(super) async fn initiate<S>(
    stream: &mut S,
    keys: &NodeKeys,
    cluster: &str,
    own: &ReplicaId,
) -> Result<Session, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut state = begin(End::Dials, keys, cluster)?;
    send(stream, &mut state, "").await?.map_err(HandshakeError::NoNodeKey)?;
    let second = receive(stream, SECOND_MIN..=MESSAGE_MAX).await;
    let second = second.map_err(HandshakeError::NoNodeKey)?;
    let second = second.map_err(|_| HandshakeError::NotOfNodeKeys)?;
    let peer = prove(&mut state, &second, keys)?;
    let refused = |source| HandshakeError::Refused {
        fingerprint: keys.own.public_key().fingerprint(),
        own: own.node.clone(),
        source,
    };
    send(stream, &mut state, &own.to_string()).await?.map_err(refused)?;
    let mut session = session(state, keys, peer)?;
    match is_confirmed(stream, &mut session.opener).await.map_err(refused)? {
        true => Ok(session),
        false => Err(HandshakeError::NotConfirmed),
    }
}

/// What a node does that was dialed.
pub(super) async fn respond<S>(
    stream: &mut S,
    keys: &NodeKeys,
    cluster: &str,
    own: &ReplicaId,
) -> Result<Session, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let first = receive(stream, FIRST_BY_NODE_KEY).await.map_err(HandshakeError::Closed)?;
    let first = first.map_err(|length| match FIRST_BY_CLUSTER_KEY.contains(&length) {
        true => HandshakeError::UsesClusterKey,
        false => HandshakeError::NoHandshake,
    })?;
    let mut state = begin(End::Listens, keys, cluster)?;
    open(&mut state, &first).ok_or(HandshakeError::NotOfNodeKeys)?;
    send(stream, &mut state, &own.to_string()).await?.map_err(HandshakeError::Closed)?;
    let third = receive(stream, THIRD_MIN..=MESSAGE_MAX).await.map_err(HandshakeError::Closed)?;
    let third = third.map_err(|_| HandshakeError::NotOfNodeKeys)?;
    let peer = prove(&mut state, &third, keys)?;
    let mut session = session(state, keys, peer)?;
    confirm(stream, &mut session.sealer).await?.map_err(HandshakeError::Closed)?;
    Ok(session)
}

fn begin(end: End, keys: &NodeKeys, cluster: &str) -> Result<HandshakeState, HandshakeError> {
    state(end, PATTERN, (MAGIC, cluster), Some(keys.own.bytes()))
}

/// Takes in the message by which the other end proves its key, and says which node it is: the one whose key that is, or none.
fn prove(
    state: &mut HandshakeState,
    message: &[u8],
    keys: &NodeKeys,
) -> Result<Proven, HandshakeError> {
    let named = open(state, message).ok_or(HandshakeError::NotOfNodeKeys)?;
    let replica = replica(&named).ok_or(HandshakeError::NotOfNodeKeys)?;
    let key = state.get_remote_static().and_then(PublicKey::of_secret);
    let key = key.ok_or(HandshakeError::NotOfNodeKeys)?;
    let (fingerprint, claims) = (key.fingerprint(), replica.node.clone());
    match keys.members.node_of(&key) {
        Some(node) if *node == claims => Ok(Proven::NodeKey { fingerprint, replica }),
        Some(node) => Err(HandshakeError::OtherNode { fingerprint, node: node.clone(), claims }),
        None => Err(HandshakeError::NoMember { fingerprint, claims }),
    }
}

fn session(
    state: HandshakeState,
    keys: &NodeKeys,
    peer: Proven,
) -> Result<Session, HandshakeError> {
    let state = state.into_stateless_transport_mode().map_err(failed("its session"))?;
    let (sealer, opener) = both(state);
    let proof = Proof { own: keys.own.public_key().fingerprint(), peer, chain: Arc::default() };
    Ok(Session { sealer, opener, proof })
}
