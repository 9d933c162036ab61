//! `tallymesh keygen`: a new key for a cluster.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tallymesh::ClusterKey;

use crate::command::{CommandResult, complain, print_line};

/// Makes a key for a cluster, 64 hex digits, for `gossip.key` or a file that `gossip.key_file` names.
///
/// Who has the key is a member of the cluster. Give it to each node, and to nothing else.
#[derive(Debug, clap::Args)]
pub struct KeygenArgs {
    /// Writes the key into this file, which only its owner can read, instead of standard output. A file that is there is left as
    /// it is.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &KeygenArgs) -> CommandResult {
    let key = ClusterKey::generate().map_err(|error| format!("no key can be made: {error}"))?;
    match &args.out {
        None => print_line(&key.reveal())?,
        Some(path) => {
            write(path, &key).map_err(|error| refused(path, &error))?;
            complain(&format_args!("the key {} is in {}", key.fingerprint(), path.display()));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn write(path: &Path, key: &ClusterKey) -> io::Result<()> {
    let mut file = create(path)?;
    file.write_all(format!("{}\n", key.reveal()).as_bytes())?;
    file.sync_all()
}

/// Never one that is there: nodes may be using its key.
fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn refused(path: &Path, error: &io::Error) -> String {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::AlreadyExists => {
            format!(
                "{path} is there already, and maybe in use: give another name, or remove it first"
            )
        }
        _ => format!("{path} cannot be written: {error}"),
    }
}
