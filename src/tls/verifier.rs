//! Whose certificate is accepted: one that an authority has issued, that is valid now and not revoked, whichever end has it.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::time_provider::TimeProvider;
use rustls::{DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::clock::exact_wall;

/// Verifies a peer in the same way whether it dialed or was dialed: as a client of TLS, whose name is nothing that was dialed.
#[derive(Debug, Clone)]
pub(super) struct PeerVerifier(Arc<dyn ClientCertVerifier>);

impl PeerVerifier {
    /// Accepts what these authorities have issued and their lists do not name; otherwise what is wrong with the lists. Where there are
    /// lists, a certificate of an authority that has none is refused.
    pub(super) fn new(
        provider: Arc<CryptoProvider>,
        authorities: RootCertStore,
        revoked: Vec<CertificateRevocationListDer<'static>>,
    ) -> Result<PeerVerifier, String> {
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider);
        // Who has no certificate learns nothing of the authorities' names.
        let builder = builder.with_crls(revoked).clear_root_hint_subjects();
        builder.build().map(PeerVerifier).map_err(|why| why.to_string())
    }

    /// For the end that was dialed.
    pub(super) fn of_clients(&self) -> Arc<dyn ClientCertVerifier> {
        self.0.clone()
    }

    /// Whether a chain of certificates is accepted now.
    pub(super) fn accepts(&self, chain: &[CertificateDer<'_>]) -> bool {
        let Some((end, between)) = chain.split_first() else { return false };
        self.0.verify_client_cert(end, between, now()).is_ok()
    }
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.0.verify_client_cert(end, between, now).map(|_| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Tells TLS the time by the one clock that there is.
#[derive(Debug)]
pub(super) struct WallClock;

impl TimeProvider for WallClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(now())
    }
}

fn now() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_millis(exact_wall().0))
}
