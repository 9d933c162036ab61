//! Where the keys of the cluster come from: a setting, or a file that only its owner can read.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use zeroize::Zeroizing;

use super::ConfigError;
use super::error::invalid;
use super::validate::{HIDDEN, Values};
use crate::cluster_key::{ClusterKey, Keys};

/// The longest file that is read: four keys, and room for comments.
const FILE_BYTES_MAX: u64 = 16 * 1024;

/// The keys that are set, in whichever way; `None` where none is.
pub(super) fn keys(values: &Values) -> Result<Option<Keys>, ConfigError> {
    let path = "gossip.key_file";
    match (values.keys("gossip.key")?, values.text(path)?) {
        (given, None) => Ok(given),
        (Some(_), Some(file)) => {
            let allowed = "only without gossip.key: give the keys in one place";
            Err(invalid(path, format!("{file:?}"), allowed))
        }
        (None, Some(file)) => {
            let read = read(Path::new(&file)).map_err(|error| error.to_string());
            let keys = read.and_then(|text| parse(&text));
            keys.map(Some).map_err(|why| invalid(path, format!("{file:?}"), &why))
        }
    }
}

/// These keys, if they are as many as may be, and each is there once.
pub(crate) fn checked_keys(keys: Vec<ClusterKey>) -> Result<Keys, ConfigError> {
    Keys::new(keys).map_err(|allowed| invalid("gossip.key", HIDDEN, &allowed))
}

/// The keys of a file, one a line. What follows a `#` is a comment.
fn parse(text: &str) -> Result<Keys, String> {
    let mut keys = Zeroizing::new(String::with_capacity(text.len() + 1));
    for line in text.lines() {
        keys.push_str(line.split('#').next().unwrap_or_default());
        keys.push('\n');
    }
    Keys::parse(&keys).map_err(|why| format!("a file with {why}"))
}

/// The text of a file that only its owner can read.
fn read(path: &Path) -> io::Result<Zeroizing<String>> {
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
