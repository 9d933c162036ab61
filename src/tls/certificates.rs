//! A node's own certificate with its key, and those of its peers that it accepts.

use std::fmt;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{
    ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection,
};
use sha2::{Digest, Sha256};
use zeroize::Zeroize;

use super::verifier::{PeerVerifier, WallClock};
use crate::secret::hex;
use tallymesh_core::id::NodeId;

/// What is spoken in a session. Another number is for what cannot talk to this one.
pub(crate) const PROTOCOL: &[u8] = b"tallymesh-link/1";
/// How the name begins by which a certificate says which node has it: a URI among its alternative names.
const NODE: &str = "tallymesh:node/";
/// How many bytes of a certificate's hash are shown.
const FINGERPRINT_BYTES: usize = 8;

/// The files that a node's certificates are in, as they were given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    /// The node's own certificate, and those between it and an authority.
    pub(crate) certificate: String,
    /// The private key of that certificate.
    pub(crate) key: String,
    /// The authorities whose certificates are accepted.
    pub(crate) authorities: String,
    /// Their lists of revoked certificates.
    pub(crate) revoked: Option<String>,
}

/// What is in the files.
pub(crate) struct Pem<'a> {
    pub(crate) certificate: &'a [u8],
    pub(crate) key: &'a [u8],
    pub(crate) authorities: &'a [u8],
    pub(crate) revoked: Option<&'a [u8]>,
}

/// Why they are of no use: which setting names the file, and what would be allowed in it.
type Unusable = (&'static str, String);

/// By what a node proves itself in TLS, and has its peers prove themselves.
#[derive(Clone)]
pub(crate) struct Certificates(Arc<Parts>);

struct Parts {
    files: TlsFiles,
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    verifier: PeerVerifier,
    nodes: Vec<NodeId>,
    fingerprint: String,
}

impl Certificates {
    /// What is made of these files, by what is in them.
    pub(crate) fn new(files: TlsFiles, pem: &Pem<'_>) -> Result<Certificates, Unusable> {
        let provider = Arc::new(ring::default_provider());
        let own = own(&provider, pem)?;
        let end = own.end_entity_cert().map_err(|why| (CERTIFICATE, why.to_string()))?;
        let (nodes, fingerprint) = (nodes_of(end), fingerprint_of(end));
        let own = Arc::new(SingleCertAndKey::from(own));
        let verifier = verifier(&provider, pem)?;
        let unusable = |why: rustls::Error| (CERTIFICATE, why.to_string());
        let client = ClientConfig::builder_with_details(provider.clone(), Arc::new(WallClock))
            .with_protocol_versions(&[&TLS13])
            .map_err(unusable)?;
        let mut client = client
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier.clone()))
            .with_client_cert_resolver(own.clone());
        let server = ServerConfig::builder_with_details(provider, Arc::new(WallClock))
            .with_protocol_versions(&[&TLS13])
            .map_err(unusable)?;
        let mut server =
            server.with_client_cert_verifier(verifier.of_clients()).with_cert_resolver(own);
        // Each connection is proven by what is accepted then: none goes on with what another one was.
        client.resumption = Resumption::disabled();
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        // What was dialed is an address, and none of the names by which nodes are told apart.
        client.enable_sni = false;
        client.alpn_protocols = vec![PROTOCOL.to_vec()];
        server.alpn_protocols = vec![PROTOCOL.to_vec()];
        let (client, server) = (Arc::new(client), Arc::new(server));
        Ok(Certificates(Arc::new(Parts { files, client, server, verifier, nodes, fingerprint })))
    }

    /// The files that they were read from.
    pub(crate) fn files(&self) -> &TlsFiles {
        &self.0.files
    }

    /// The nodes that the own certificate names.
    pub(crate) fn nodes(&self) -> &[NodeId] {
        &self.0.nodes
    }

    /// Of the own certificate.
    pub(crate) fn fingerprint(&self) -> &str {
        &self.0.fingerprint
    }

    /// Whether the peer that has this chain of certificates, each as DER, may be one now.
    pub(crate) fn accept(&self, chain: &[Vec<u8>]) -> bool {
        let chain: Vec<CertificateDer<'_>> =
            chain.iter().map(|one| CertificateDer::from_slice(one)).collect();
        self.0.verifier.accepts(&chain)
    }

    /// What verifies the end that was dialed.
    #[cfg(test)]
    pub(crate) fn verifier(&self) -> Arc<dyn rustls::client::danger::ServerCertVerifier> {
        Arc::new(self.0.verifier.clone())
    }

    /// The end of a session that dials.
    pub(crate) fn to_dial(&self) -> Result<Connection, rustls::Error> {
        // It is sent to none, and asked of none.
        let name = ServerName::from(std::net::Ipv4Addr::UNSPECIFIED);
        ClientConnection::new(self.0.client.clone(), name).map(Connection::Client)
    }

    /// The end of a session that was dialed.
    pub(crate) fn to_answer(&self) -> Result<Connection, rustls::Error> {
        ServerConnection::new(self.0.server.clone()).map(Connection::Server)
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificates({}..)", self.0.fingerprint)
    }
}

const CERTIFICATE: &str = "gossip.tls_certificate";
const KEY: &str = "gossip.tls_key";
const AUTHORITIES: &str = "gossip.tls_authorities";
const REVOKED: &str = "gossip.tls_revoked";

/// The nodes that a certificate names.
pub(crate) fn nodes_of(certificate: &CertificateDer<'_>) -> Vec<NodeId> {
    let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else { return Vec::new() };
    let nodes =
        certificate.valid_uri_names().filter_map(|name| name.strip_prefix(NODE)?.parse().ok());
    nodes.collect()
}

/// What tells a certificate from others: how the SHA-256 begins that `openssl x509 -fingerprint -sha256` shows.
pub(crate) fn fingerprint_of(certificate: &CertificateDer<'_>) -> String {
    hex(Sha256::digest(certificate).get(..FINGERPRINT_BYTES).unwrap_or_default())
}

fn own(provider: &CryptoProvider, pem: &Pem<'_>) -> Result<CertifiedKey, Unusable> {
    let chain = certificates(pem.certificate).map_err(|why| (CERTIFICATE, why))?;
    let not_a_key = |why: &dyn fmt::Display| {
        let allowed = format!(
            "a file with one private key in PEM, without a passphrase (PKCS #8, PKCS #1 or SEC 1): {why}"
        );
        (KEY, allowed)
    };
    let mut key = PrivateKeyDer::from_pem_slice(pem.key).map_err(|why| not_a_key(&why))?;
    // What signs with it has a copy of its own, which is not overwritten when it goes.
    let signing = provider.key_provider.load_private_key(key.clone_key());
    key.zeroize();
    let own = CertifiedKey::new(chain, signing.map_err(|why| not_a_key(&why))?);
    match own.keys_match() {
        Ok(()) => Ok(own),
        Err(_) => Err((
            KEY,
            "the private key of the first certificate in gossip.tls_certificate".to_owned(),
        )),
    }
}

fn verifier(provider: &Arc<CryptoProvider>, pem: &Pem<'_>) -> Result<PeerVerifier, Unusable> {
    let mut roots = RootCertStore::empty();
    for one in certificates(pem.authorities).map_err(|why| (AUTHORITIES, why))? {
        roots
            .add(one)
            .map_err(|why| (AUTHORITIES, format!("certificates of authorities: {why}")))?;
    }
    let lists = pem.revoked.map_or(Ok(Vec::new()), |pem| {
        all(
            CertificateRevocationListDer::pem_slice_iter(pem),
            "a list of revoked certificates (X509 CRL)",
        )
    });
    let lists = lists.map_err(|why| (REVOKED, why))?;
    PeerVerifier::new(provider.clone(), roots, lists).map_err(|why| (REVOKED, why))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    all(CertificateDer::pem_slice_iter(pem), "a certificate")
}

/// All that a file has of one kind, at least one.
fn all<T>(
    found: impl Iterator<Item = Result<T, rustls::pki_types::pem::Error>>,
    kind: &str,
) -> Result<Vec<T>, String> {
    let found: Result<Vec<T>, _> = found.collect();
    match found {
        Ok(found) if found.is_empty() => Err(format!("a file with {kind} in PEM")),
        Ok(found) => Ok(found),
        Err(why) => Err(format!("a file with {kind} in PEM: {why}")),
    }
}
