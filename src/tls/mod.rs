//! Certificates of an operator's own authority, by which nodes know each other.

mod certificates;
mod verifier;

pub(crate) use certificates::{Certificates, PROTOCOL, Pem, TlsFiles, fingerprint_of, nodes_of};
