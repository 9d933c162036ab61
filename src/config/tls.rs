//! Where a node's certificates come from: the files that its settings name.

use tallymesh_core::id::NodeId;

use super::ConfigError;
use super::error::invalid;
use super::validate::Values;
use crate::credentials::Credentials;

/// The settings of certificates, and then the one that may be left out.
pub(super) const PATHS: [&str; 4] =
    ["gossip.tls_certificate", "gossip.tls_key", "gossip.tls_authorities", "gossip.tls_revoked"];
/// What a node with certificates has not.
const KEYS: [&str; 5] =
    ["gossip.key", "gossip.key_file", "gossip.node_key", "gossip.node_key_file", "gossip.members"];

/// The certificates that are set, for the node of this name, or its slots; `None` where none are.
pub(super) fn credentials(
    values: &Values,
    node: &NodeId,
) -> Result<Option<Credentials>, ConfigError> {
    let Some(set) = PATHS.iter().find(|path| values.is_set(path)) else { return Ok(None) };
    let file = format!("{:?}", values.text(set)?.unwrap_or_default());
    let refused = |allowed: String| Err(invalid(set, file.clone(), &allowed));
    if cfg!(not(feature = "tls")) {
        return refused(
            "only in a build of tallymesh that has TLS, which the cargo feature `tls` adds; gossip.key needs none".to_owned(),
        );
    }
    if let Some(key) = KEYS.iter().find(|path| values.is_set(path)) {
        return refused(format!(
            "only without {key}: the nodes of a cluster prove themselves by certificates or by keys"
        ));
    }
    let [needed @ .., _] = PATHS;
    if let Some(missing) = needed.iter().find(|path| !values.is_set(path)) {
        return refused(format!("only with {missing}: a node needs all of {}", needed.join(", ")));
    }
    read(values, node)
}

#[cfg(not(feature = "tls"))]
fn read(_: &Values, _: &NodeId) -> Result<Option<Credentials>, ConfigError> {
    Ok(None)
}

#[cfg(feature = "tls")]
pub(crate) use with_tls::certificates;
#[cfg(feature = "tls")]
use with_tls::read;

#[cfg(feature = "tls")]
mod with_tls {
    use std::fs::File;
    use std::io::Read;
    use std::path::Path;

    use super::super::keys;
    use super::super::slots::{Slots, id};
    use super::*;
    use crate::tls::{Certificates, Pem, TlsFiles};

    /// The longest file of certificates that is read, or of revoked ones.
    const FILE_BYTES_MAX: u64 = 1024 * 1024;

    pub(super) fn read(values: &Values, node: &NodeId) -> Result<Option<Credentials>, ConfigError> {
        let nodes = match Slots::of(values)? {
            None => vec![node.clone()],
            Some(slots) => slots.candidates().filter_map(|slot| id(node, slot)).collect(),
        };
        let [certificate, key, authorities, revoked] = PATHS.map(|path| values.text(path));
        let [certificate, key, authorities] =
            [certificate?, key?, authorities?].map(Option::unwrap_or_default);
        let files = TlsFiles { certificate, key, authorities, revoked: revoked? };
        certificates(files, &nodes).map(Credentials::Certificates).map(Some)
    }

    /// What is in these files, if the own certificate names all of these nodes.
    ///
    /// # Errors
    /// When a file cannot be read, or has in it what is of no use.
    pub(crate) fn certificates(
        files: TlsFiles,
        nodes: &[NodeId],
    ) -> Result<Certificates, ConfigError> {
        let [certificate, key, authorities, revoked] = PATHS;
        let refused = |path, file: &str, allowed: &str| invalid(path, format!("{file:?}"), allowed);
        let public = |path, file: &str| read_public(file).map_err(|why| refused(path, file, &why));
        let secret = keys::read(Path::new(&files.key))
            .map_err(|why| refused(key, &files.key, &why.to_string()))?;
        let lists = files.revoked.as_ref().map(|file| public(revoked, file)).transpose()?;
        let (own, theirs) =
            (public(certificate, &files.certificate)?, public(authorities, &files.authorities)?);
        let pem = Pem {
            certificate: &own,
            key: secret.as_bytes(),
            authorities: &theirs,
            revoked: lists.as_deref(),
        };
        let read = Certificates::new(files.clone(), &pem).map_err(|(path, allowed)| {
            let of = [&files.certificate, &files.key, &files.authorities];
            let named = PATHS.iter().zip(of).find(|(one, _)| **one == path).map(|(_, file)| file);
            let file = named.or(files.revoked.as_ref()).map_or("", |file| file);
            refused(path, file, &allowed)
        })?;
        match nodes.iter().find(|node| !read.nodes().contains(node)) {
            None => Ok(read),
            Some(node) => {
                let named: Vec<&str> = read.nodes().iter().map(NodeId::as_str).collect();
                let named = if named.is_empty() { "no node".to_owned() } else { named.join(", ") };
                let allowed = format!(
                    "a certificate that has the URI tallymesh:node/{node} among its alternative names, as this node is called; this one \
                     names {named}"
                );
                Err(refused(certificate, &files.certificate, &allowed))
            }
        }
    }

    /// What is in a file that others may read.
    fn read_public(file: &str) -> Result<Vec<u8>, String> {
        let because = |error: std::io::Error| format!("a file that can be read: {error}");
        // Anything else may have no end, or wait for a writer.
        if !std::fs::metadata(file).map_err(because)?.is_file() {
            return Err("a regular file".to_owned());
        }
        let (mut bytes, file) = (Vec::new(), File::open(file).map_err(because)?);
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(because)?;
        match bytes.len() as u64 <= FILE_BYTES_MAX {
            true => Ok(bytes),
            false => Err(format!("a file of at most {FILE_BYTES_MAX} bytes")),
        }
    }
}
