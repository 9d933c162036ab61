//! Where a node's keys come from: a setting, or a file that only its owner can read.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use tallymesh_core::id::NodeId;
use zeroize::Zeroizing;

use super::ConfigError;
use super::error::invalid;
use super::tls;
use super::validate::{HIDDEN, Values};
use crate::cluster_key::{ClusterKey, Keys};
use crate::credentials::Credentials;
use crate::node_key::{Members, NodeKey, NodeKeys};

/// The longest file that is read: four keys, and room for comments.
const FILE_BYTES_MAX: u64 = 16 * 1024;

/// By what this node proves itself to others and has them prove themselves, in whichever way it is set; `None` where nothing is.
pub(super) fn credentials(
    values: &Values,
    node: &NodeId,
) -> Result<Option<Credentials>, ConfigError> {
    if let Some(certificates) = tls::credentials(values, node)? {
        return Ok(Some(certificates));
    }
    let cluster_keys = cluster_keys(values)?;
    let Some(own) = own_key(values)? else {
        if values.is_set(MEMBERS) {
            let allowed = "only with gossip.node_key or gossip.node_key_file: without a key of its own, no node proves who it is";
            return Err(invalid(MEMBERS, "a list", allowed));
        }
        return Ok(cluster_keys.map(Credentials::ClusterKeys));
    };
    let refused = |allowed: &str| Err(invalid("gossip.node_key", HIDDEN, allowed));
    if cluster_keys.is_some() {
        return refused(
            "only without gossip.key and gossip.key_file: all nodes of a cluster have a key in common, or each has its own",
        );
    }
    if values.is_set("node.slots") {
        return refused(
            "only without node.slots: processes that share their settings would share the key, and it is one node's alone",
        );
    }
    if !values.is_set(MEMBERS) {
        let public = own.public_key();
        return refused(&format!(
            "only with gossip.members, the public keys of all nodes; this one's entry is \"{node}={public}\""
        ));
    }
    let members = checked_members(values.texts(MEMBERS)?)?;
    checked_node_keys(own, members, node).map(Credentials::NodeKeys).map(Some)
}

const MEMBERS: &str = "gossip.members";

/// The keys of the cluster.
fn cluster_keys(values: &Values) -> Result<Option<Keys>, ConfigError> {
    one_of(("gossip.key", values.keys("gossip.key")?), "gossip.key_file", values, Keys::parse)
}

/// The key of this node alone.
fn own_key(values: &Values) -> Result<Option<NodeKey>, ConfigError> {
    let given = ("gossip.node_key", values.node_key("gossip.node_key")?);
    let parse = |text: &str| NodeKey::parse(text).map_err(|why| why.to_string());
    one_of(given, "gossip.node_key_file", values, parse)
}

/// What is given, or is read in the file that this setting names.
fn one_of<T>(
    (path, given): (&str, Option<T>),
    file_path: &str,
    values: &Values,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, ConfigError> {
    match (given, values.text(file_path)?) {
        (given, None) => Ok(given),
        (Some(_), Some(file)) => {
            let allowed = format!("only without {path}: give it in one place");
            Err(invalid(file_path, format!("{file:?}"), &allowed))
        }
        (None, Some(file)) => {
            let text = read(Path::new(&file)).map_err(|error| error.to_string());
            let parsed = text.and_then(|text| {
                parse(&without_comments(&text)).map_err(|why| format!("a file with {why}"))
            });
            parsed.map(Some).map_err(|why| invalid(file_path, format!("{file:?}"), &why))
        }
    }
}

/// These entries, if each is of a node and its key.
pub(crate) fn checked_members(entries: Vec<String>) -> Result<Members, ConfigError> {
    Members::parse(entries).map_err(|allowed| invalid(MEMBERS, "a list", &allowed))
}

/// This key and these members, if the node is one of them by it.
pub(crate) fn checked_node_keys(
    own: NodeKey,
    members: Members,
    node: &NodeId,
) -> Result<NodeKeys, ConfigError> {
    let keys = NodeKeys::new(own, members, node);
    keys.map_err(|allowed| invalid(MEMBERS, "a list", &allowed))
}

/// These keys, if they are as many as may be, and each is there once.
pub(crate) fn checked_keys(keys: Vec<ClusterKey>) -> Result<Keys, ConfigError> {
    Keys::new(keys).map_err(|allowed| invalid("gossip.key", HIDDEN, &allowed))
}

/// The text of a file of keys, one a line. What follows a `#` is a comment.
fn without_comments(text: &str) -> Zeroizing<String> {
    let mut keys = Zeroizing::new(String::with_capacity(text.len() + 1));
    for line in text.lines() {
        keys.push_str(line.split('#').next().unwrap_or_default());
        keys.push('\n');
    }
    keys
}

/// The text of a file that only its owner can read.
pub(super) fn read(path: &Path) -> io::Result<Zeroizing<String>> {
    let because = |error: io::Error| io::Error::other(format!("a file that can be read: {error}"));
    // Anything else may have no end, or wait for a writer.
    if !std::fs::metadata(path).map_err(because)?.is_file() {
        return Err(io::Error::other("a regular file"));
    }
    let file = File::open(path).map_err(because)?;
    refuse_if_others_can_read(path, &file)?;
    // Of the length that it may have, so that no half of a key is left behind where it would grow.
    let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX as usize + 1));
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(because)?;
    match std::str::from_utf8(&bytes) {
        Ok(text) if bytes.len() as u64 <= FILE_BYTES_MAX => Ok(Zeroizing::new(text.to_owned())),
        _ => Err(io::Error::other(format!("a text of at most {FILE_BYTES_MAX} bytes"))),
    }
}

#[cfg(unix)]
fn refuse_if_others_can_read(path: &Path, file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mode = file.metadata()?.permissions().mode() & 0o777;
    match mode & 0o077 {
        0 => Ok(()),
        _ => Err(io::Error::other(format!(
            "a file that only its owner can read, and this one has mode {mode:o}: `chmod 600 {}`; of a secret in Kubernetes, \
             `defaultMode: 0400`",
            path.display()
        ))),
    }
}

#[cfg(not(unix))]
fn refuse_if_others_can_read(_: &Path, _: &File) -> io::Result<()> {
    Ok(())
}
