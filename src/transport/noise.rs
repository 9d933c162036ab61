//! What the handshakes have in common that are made of the Noise protocol: their messages, each of which is a record.

use std::io;
use std::ops::RangeInclusive;

use snow::HandshakeState;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::crypto::builder;
use super::handshake::HandshakeError;
use super::records::{HEADER_BYTES, Opener, RecordError, Sealer, message_bytes};
use crate::secret::KEY_BYTES;
use tallymesh_core::id::ReplicaId;

/// The longest message of a handshake.
pub(super) const MESSAGE_MAX: usize = 1024;
/// How long the first message is of a node that uses a cluster key: a public key and a tag, and its replica.
pub(super) const FIRST_BY_CLUSTER_KEY: RangeInclusive<usize> = 48..=MESSAGE_MAX;
/// How long that of a node is that uses a node key: a public key alone. So each tells the other by it.
pub(super) const FIRST_BY_NODE_KEY: RangeInclusive<usize> = 32..=32;
/// The most that a record without content may have that confirms a handshake.
const CONFIRMATION_MAX: usize = 48;

/// Which end of a connection this is.
#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    Dials,
    Listens,
}

/// The beginning of a handshake of this pattern. What it is about is bound into all that follows: its name, which has its version,
/// and the cluster's.
pub(super) fn state(
    end: End,
    pattern: &str,
    (magic, cluster): (&[u8], &str),
    own_key: Option<&[u8; KEY_BYTES]>,
) -> Result<HandshakeState, HandshakeError> {
    let params = pattern.parse().map_err(failed("its parameters"))?;
    let prologue = [magic, cluster.as_bytes()].concat();
    let mut builder = builder(params).prologue(&prologue).map_err(failed("its prologue"))?;
    if let Some(key) = own_key {
        builder = builder.local_private_key(key).map_err(failed("its key"))?;
    }
    let built = match end {
        End::Dials => builder.build_initiator(),
        End::Listens => builder.build_responder(),
    };
    built.map_err(failed("its state"))
}

pub(super) fn failed(what: &'static str) -> impl FnOnce(snow::Error) -> HandshakeError {
    move |_| HandshakeError::Failed(what)
}

/// Sends the next message of the handshake, with this in it.
pub(super) async fn send<S: AsyncWrite + Unpin>(
    stream: &mut S,
    state: &mut HandshakeState,
    payload: &str,
) -> Result<io::Result<()>, HandshakeError> {
    let mut record = [0; HEADER_BYTES + MESSAGE_MAX];
    let (header, message) = record.split_at_mut(HEADER_BYTES);
    let length = state.write_message(payload.as_bytes(), message).map_err(|error| match error {
        snow::Error::Dh => HandshakeError::NoSecret,
        error => failed("its message")(error),
    })?;
    // At most 1 KiB.
    header.copy_from_slice(&(length as u16).to_be_bytes());
    let record = record.get(..HEADER_BYTES + length).unwrap_or_default();
    Ok(stream.write_all(record).await)
}

/// The next message of the other end; its length alone, of which no more is read, where it cannot have that.
pub(super) async fn receive<S: AsyncRead + Unpin>(
    stream: &mut S,
    allowed: RangeInclusive<usize>,
) -> io::Result<Result<Vec<u8>, usize>> {
    let mut header = [0; HEADER_BYTES];
    stream.read_exact(&mut header).await?;
    let length = usize::from(u16::from_be_bytes(header));
    if !allowed.contains(&length) {
        return Ok(Err(length));
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(Ok(message))
}

/// Takes in a message of the handshake; returns what is in it, and `None` where it is none.
pub(super) fn open(state: &mut HandshakeState, message: &[u8]) -> Option<Vec<u8>> {
    let mut payload = vec![0; MESSAGE_MAX];
    let length = state.read_message(message, &mut payload).ok()?;
    payload.truncate(length);
    Some(payload)
}

/// The replica that these bytes name.
pub(super) fn replica(payload: &[u8]) -> Option<ReplicaId> {
    std::str::from_utf8(payload).ok()?.parse().ok()
}

/// Sends the record without content that ends the handshake.
pub(super) async fn confirm<S: AsyncWrite + Unpin>(
    stream: &mut S,
    sealer: &mut Sealer,
) -> Result<io::Result<()>, HandshakeError> {
    let mut confirmation = Vec::new();
    let sealed = sealer.seal_confirmation(&mut confirmation);
    sealed.map_err(|_| HandshakeError::Failed("its confirmation"))?;
    Ok(stream.write_all(&confirmation).await)
}

/// Waits for the record without content that ends the handshake; `false` where another comes.
pub(super) async fn is_confirmed<S: AsyncRead + Unpin>(
    stream: &mut S,
    opener: &mut Opener,
) -> io::Result<bool> {
    let mut header = [0; HEADER_BYTES];
    stream.read_exact(&mut header).await?;
    let length = message_bytes(header).map_err(broken)?.min(CONFIRMATION_MAX);
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(opener.open_confirmation(&message).is_ok())
}

/// As an error of the connection, which ends over it.
pub(super) fn broken(error: RecordError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
