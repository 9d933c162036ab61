//! An authority of certificates, as an operator has one.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
};
pub use rcgen::{ExtendedKeyUsagePurpose as Purpose, date_time_ymd as day};

/// It issues certificates, and says which are revoked.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its private key, as files have them.
#[derive(Clone)]
pub struct Issued {
    /// In PEM.
    pub certificate: String,
    /// In PEM.
    pub key: String,
}

/// What a certificate says.
pub struct Request {
    /// Its names, each a URI.
    pub names: Vec<String>,
    /// What it is for.
    pub purposes: Vec<Purpose>,
    /// The first year in which it is valid, and the first in which it is not any more.
    pub years: (i32, i32),
    /// Its number, by which it is revoked.
    pub serial: u64,
}

impl Request {
    /// A certificate of these nodes, with nothing wrong.
    pub fn of(nodes: &[&str]) -> Request {
        Request {
            names: nodes.iter().map(|node| format!("tallymesh:node/{node}")).collect(),
            purposes: vec![Purpose::ServerAuth, Purpose::ClientAuth],
            years: (2020, 2200),
            serial: 7,
        }
    }
}

impl Authority {
    /// A new one of this name.
    ///
    /// # Panics
    /// If the system has no randomness to give.
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        Authority { issuer: CertifiedIssuer::self_signed(params, key).unwrap() }
    }

    /// Its own certificate, in PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate with a key of its own.
    ///
    /// # Panics
    /// If a name is none.
    pub fn issue(&self, request: Request) -> Issued {
        let Request { names, purposes, years, serial } = request;
        let mut params = CertificateParams::default();
        let name = |name: String| SanType::URI(name.try_into().unwrap());
        params.subject_alt_names = names.into_iter().map(name).collect();
        params.extended_key_usages = purposes;
        (params.not_before, params.not_after) = (day(years.0, 1, 1), day(years.1, 1, 1));
        params.serial_number = Some(SerialNumber::from(serial));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Issued { certificate, key: key.serialize_pem() }
    }

    /// A list of revoked certificates, by their numbers; in PEM.
    ///
    /// # Panics
    /// If it cannot be signed.
    pub fn revoke(&self, serials: &[u64]) -> String {
        let of = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: day(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: day(2024, 1, 1),
            next_update: day(2200, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(of).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}
