//! Who is at the other end, by a certificate of the operator's authority: TLS 1.3, before any frame and around all of them.
//!
//! ```text
//! who dials                                who listens
//!   ClientHello               ->
//!                             <-   ServerHello, its certificate, which the authorities must have issued
//!   its certificate           ->             which the authorities must have issued; a stranger is refused here
//!   cluster, its replica      ->             is it of this cluster, and a node that its certificate names?
//!                             <-   cluster, its replica: a link, only now
//! ```
//!
//! What is bound to what: TLS binds both certificates, both ends' fresh secrets and the protocol's name with its version (ALPN) to each
//! other; what an end says of itself after that is under the keys of this session and no other, and is said once, so that both have
//! read the same cluster and the same replicas (node id, boot and nonce), or there is no link. A certificate names the nodes that may
//! use it, by a URI `tallymesh:node/NAME` among its alternative names; the name or address that was dialed is not compared with it.
//! Nothing is resumed: each connection proves itself by what is accepted at that time.
//!
//! What a stranger has of us is our certificates and a signature; it makes us read [`BEFORE_PROOF_MAX`] bytes.

use std::io;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::{AlertDescription, CertificateError, Connection, Error};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::handshake::{Channel, HandshakeError, Proof};
use super::stream::{Opening, Sealing};
use crate::tls::{Certificates, PROTOCOL, fingerprint_of, nodes_of};
use tallymesh_core::id::{NodeId, ReplicaId};
use tallymesh_core::link::Proven;

/// So much is read of an end that has proven nothing: a hello, and a chain of certificates.
const BEFORE_PROOF_MAX: usize = 32 * 1024;
/// The longest text by which a node introduces itself: a cluster, a replica, and a line break.
const INTRODUCTION_MAX: usize = 256;
/// How much is taken in at a time.
const CHUNK_BYTES: usize = 4096;

/// Why TLS did not bring a session about.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    #[error("it closed the connection before it had proven a certificate ({0})")]
    Closed(io::Error),
    #[error("what it sent is not TLS: it has no gossip.tls_certificate, or is no tallymesh node")]
    NotTls,
    #[error("it speaks TLS, and not what tallymesh says in it")]
    OtherProtocol,
    #[error("it presented no certificate")]
    NoCertificate,
    #[error("its certificate is refused: {0}")]
    Certificate(String),
    #[error("it does not take our certificate {fingerprint}: {why}. Its log says more")]
    Refused { fingerprint: String, why: String },
    #[error(
        "its certificate {fingerprint} names no node: one has a URI tallymesh:node/NAME among its alternative names"
    )]
    NamesNoNode { fingerprint: String },
    #[error("it says that it is {claims}, and its certificate {fingerprint} is {named}'s")]
    OtherNode { fingerprint: String, named: String, claims: NodeId },
    #[error("it is of the cluster {theirs:?}, and this node of {ours:?}")]
    OtherCluster { theirs: String, ours: String },
    #[error("it did not introduce itself as a node does")]
    NotIntroduced,
    #[error("it sent more than {BEFORE_PROOF_MAX} bytes before it had proven a certificate")]
    TooMuch,
    #[error("the handshake failed: {0}")]
    Failed(Error),
}

/// What a node does that has dialed.
pub(super) async fn initiate<S>(
    stream: &mut S,
    certificates: &Certificates,
    cluster: &str,
    own: &ReplicaId,
) -> Result<Channel, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let connection = certificates.to_dial().map_err(TlsError::Failed)?;
    let mut talk = Talk { stream, connection, certificates, left: BEFORE_PROOF_MAX };
    talk.shake_hands().await?;
    // Only now does it see our certificate: if it closes, that is why.
    let refused = |error: TlsError| match error {
        TlsError::Closed(error) => {
            let fingerprint = certificates.fingerprint().to_owned();
            let why =
                format!("it closed the connection ({error}); is it of another gossip.cluster?");
            TlsError::Refused { fingerprint, why }
        }
        error => error,
    };
    talk.introduce(cluster, own).await.map_err(refused)?;
    let (peer, chain) = talk.meet(cluster).await.map_err(refused)?;
    Ok(channel(talk.connection, certificates, peer, chain))
}

/// What a node does that was dialed.
pub(super) async fn respond<S>(
    stream: &mut S,
    certificates: &Certificates,
    cluster: &str,
    own: &ReplicaId,
) -> Result<Channel, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let connection = certificates.to_answer().map_err(TlsError::Failed)?;
    let mut talk = Talk { stream, connection, certificates, left: BEFORE_PROOF_MAX };
    talk.shake_hands().await?;
    let (peer, chain) = talk.meet(cluster).await?;
    talk.introduce(cluster, own).await?;
    Ok(channel(talk.connection, certificates, peer, chain))
}

fn channel(
    connection: Connection,
    certificates: &Certificates,
    peer: Proven,
    chain: Vec<Vec<u8>>,
) -> Channel {
    let session = Arc::new(Mutex::new(connection));
    Channel {
        sealing: Sealing::Tls(TlsSealer { session: session.clone() }),
        opening: Opening::Tls(TlsOpener { session }),
        proof: Proof { own: certificates.fingerprint().to_owned(), peer, chain: chain.into() },
    }
}

/// A handshake on its way.
struct Talk<'a, S> {
    stream: &'a mut S,
    connection: Connection,
    certificates: &'a Certificates,
    /// How many bytes may still come in.
    left: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Talk<'_, S> {
    /// Until both ends have the keys of the session, and what this end asks of the other's certificate is proven.
    async fn shake_hands(&mut self) -> Result<(), TlsError> {
        self.flush().await?;
        while self.connection.is_handshaking() {
            self.take_in().await?;
        }
        match self.connection.alpn_protocol() {
            Some(PROTOCOL) => Ok(()),
            _ => Err(TlsError::OtherProtocol),
        }
    }

    /// Says who this node is.
    async fn introduce(&mut self, cluster: &str, own: &ReplicaId) -> Result<(), TlsError> {
        let text = format!("{cluster}\n{own}");
        // Its parts are bounded: names of 64 bytes, and three numbers.
        let length = [text.len() as u8];
        let written = self.connection.writer().write_all(&[&length, text.as_bytes()].concat());
        written.map_err(TlsError::Closed)?;
        self.flush().await
    }

    /// Hears who the other end is, and whether its certificate says so too.
    async fn meet(&mut self, cluster: &str) -> Result<(Proven, Vec<Vec<u8>>), TlsError> {
        let mut length = [0];
        self.read_exact(&mut length).await?;
        let mut text = [0; INTRODUCTION_MAX];
        let text = text.get_mut(..usize::from(length[0])).unwrap_or_default();
        self.read_exact(text).await?;
        let text = std::str::from_utf8(text).map_err(|_| TlsError::NotIntroduced)?;
        let (theirs, replica) = text.split_once('\n').ok_or(TlsError::NotIntroduced)?;
        let replica: ReplicaId = replica.parse().map_err(|_| TlsError::NotIntroduced)?;
        let chain = self.connection.peer_certificates().unwrap_or_default();
        let end = chain.first().ok_or(TlsError::NoCertificate)?;
        let (nodes, fingerprint) = (nodes_of(end), fingerprint_of(end));
        if nodes.is_empty() {
            return Err(TlsError::NamesNoNode { fingerprint });
        }
        if !nodes.contains(&replica.node) {
            let named: Vec<&str> = nodes.iter().map(NodeId::as_str).collect();
            let (named, claims) = (named.join(", "), replica.node);
            return Err(TlsError::OtherNode { fingerprint, named, claims });
        }
        if theirs != cluster {
            let (theirs, ours) = (theirs.to_owned(), cluster.to_owned());
            return Err(TlsError::OtherCluster { theirs, ours });
        }
        let chain = chain.iter().map(|one| one.to_vec()).collect();
        Ok((Proven::NodeKey { fingerprint, replica }, chain))
    }

    async fn read_exact(&mut self, bytes: &mut [u8]) -> Result<(), TlsError> {
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.connection.reader().read(rest) {
                Ok(0) => return Err(TlsError::Closed(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.take_in().await?,
                Err(error) => return Err(TlsError::Closed(error)),
            }
        }
        Ok(())
    }

    /// Takes in what comes next, and sends what is due for it.
    async fn take_in(&mut self) -> Result<(), TlsError> {
        let mut bytes = [0; CHUNK_BYTES];
        let room = bytes.get_mut(..self.left.min(CHUNK_BYTES)).unwrap_or_default();
        if room.is_empty() {
            return Err(TlsError::TooMuch);
        }
        let count = self.stream.read(room).await.map_err(TlsError::Closed)?;
        if count == 0 {
            return Err(TlsError::Closed(io::ErrorKind::UnexpectedEof.into()));
        }
        self.left -= count;
        let taken = process(&mut self.connection, room.get(..count).unwrap_or_default());
        // Also where it is refused: TLS says why. Whether the other end hears it is not waited for.
        let sent = self.flush().await;
        taken.map_err(|error| self.error(error))?;
        sent
    }

    fn error(&self, error: Error) -> TlsError {
        match error {
            Error::InvalidMessage(_) => TlsError::NotTls,
            Error::NoCertificatesPresented => TlsError::NoCertificate,
            Error::NoApplicationProtocol
            | Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
                TlsError::OtherProtocol
            }
            Error::InvalidCertificate(why) => TlsError::Certificate(said_of(&why)),
            Error::AlertReceived(alert) => match said_by(alert) {
                Some(why) => {
                    let fingerprint = self.certificates.fingerprint().to_owned();
                    TlsError::Refused { fingerprint, why: why.to_owned() }
                }
                None => TlsError::Failed(Error::AlertReceived(alert)),
            },
            error => TlsError::Failed(error),
        }
    }

    async fn flush(&mut self) -> Result<(), TlsError> {
        let mut records = Vec::new();
        write_records(&mut self.connection, &mut records).map_err(TlsError::Closed)?;
        self.stream.write_all(&records).await.map_err(TlsError::Closed)
    }
}

/// What is wrong with a certificate, and where to look.
fn said_of(why: &CertificateError) -> String {
    let text = match why {
        // Of an authority with the same name and another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "no authority in gossip.tls_authorities has issued it"
        }
        CertificateError::Revoked => "it is in gossip.tls_revoked",
        CertificateError::UnknownRevocationStatus => {
            "gossip.tls_revoked has no list of the authority that issued it"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet: is this machine's clock right?"
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "it is not for clients: its extendedKeyUsage needs clientAuth beside serverAuth"
        }
        other => return other.to_string(),
    };
    text.to_owned()
}

/// What is wrong with our certificate, as the other end says; `None` where it says something else.
fn said_by(alert: AlertDescription) -> Option<&'static str> {
    Some(match alert {
        AlertDescription::CertificateExpired => "by its clock it has expired, or is not valid yet",
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            "no authority that it accepts has issued it, or its gossip.tls_revoked lacks a list of that one"
        }
        AlertDescription::CertificateRevoked => "it is in its gossip.tls_revoked",
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::CertificateRequired
        | AlertDescription::AccessDenied => "it cannot be used there",
        _ => return None,
    })
}

/// Has a session take in what came.
fn process(connection: &mut Connection, mut bytes: &[u8]) -> Result<(), Error> {
    while !bytes.is_empty() {
        let taken =
            connection.read_tls(&mut bytes).map_err(|why| Error::General(why.to_string()))?;
        connection.process_new_packets()?;
        if taken == 0 {
            break;
        }
    }
    Ok(())
}

/// Appends the records that a session has to send.
fn write_records(connection: &mut Connection, records: &mut Vec<u8>) -> io::Result<()> {
    while connection.wants_write() {
        connection.write_tls(records)?;
    }
    Ok(())
}

/// Makes records of what is sent.
pub(super) struct TlsSealer {
    session: Arc<Mutex<Connection>>,
}

/// Takes what comes in out of its records.
pub(super) struct TlsOpener {
    session: Arc<Mutex<Connection>>,
}

impl TlsSealer {
    /// Appends the records that these bytes are sent in.
    pub(super) fn seal(&mut self, mut bytes: &[u8], records: &mut Vec<u8>) -> io::Result<()> {
        let mut session = lock(&self.session);
        while !bytes.is_empty() {
            // As much as it has room for.
            let taken = session.writer().write(bytes)?;
            bytes = bytes.get(taken..).unwrap_or_default();
            write_records(&mut session, records)?;
        }
        Ok(())
    }
}

impl TlsOpener {
    /// Puts what the next bytes have in them in the place of what is in `plain`.
    pub(super) async fn next<R>(&mut self, read: &mut R, plain: &mut Vec<u8>) -> io::Result<()>
    where
        R: AsyncRead + Unpin,
    {
        plain.clear();
        let mut bytes = [0; CHUNK_BYTES];
        // Some may have come with the end of the handshake.
        while !self.take_out(plain)? {
            let count = read.read(&mut bytes).await?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let processed =
                process(&mut lock(&self.session), bytes.get(..count).unwrap_or_default());
            processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
        Ok(())
    }

    /// Whether there was anything to take out.
    fn take_out(&mut self, plain: &mut Vec<u8>) -> io::Result<bool> {
        match lock(&self.session).reader().read_to_end(plain) {
            // That is all for now.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(!plain.is_empty()),
            // It says that no more comes, as no node of ours does: a goodbye is a frame.
            Ok(_) if plain.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(true),
            Err(error) => Err(error),
        }
    }
}

fn lock(session: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    session.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
