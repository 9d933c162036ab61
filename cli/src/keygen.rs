//! `tallymesh keygen`: a new key for a cluster, or for its operator.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tallymesh::{ClusterKey, OperatorKey};

use crate::command::{CommandResult, complain, print_line};

/// Makes a key for a cluster, 64 hex digits, for `gossip.key` or a file that `gossip.key_file` names.
///
/// Who has the key is a member of the cluster. Give it to each node, and to nothing else.
///
/// With `--operator` it is a private key of the operator, and what belongs into `operator.public_key` of each node is said on standard
/// error. Who has the private key can quarantine and forget nodes. Keep it where people are, not on nodes.
#[derive(Debug, clap::Args)]
pub struct KeygenArgs {
    /// Writes the key into this file, which only its owner can read, instead of standard output. A file that is there is left as
    /// it is.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Makes a private key of the operator, in the place of one of a cluster.
    #[arg(long)]
    operator: bool,
}

/// Runs the command.
pub fn run(args: &KeygenArgs) -> CommandResult {
    let failed = |error| format!("no key can be made: {error}");
    let (secret, what) = match args.operator {
        true => {
            let key = OperatorKey::generate().map_err(failed)?;
            (Secret::Operator(key.clone()), format!("operator.public_key = \"{}\"", key.public()))
        }
        false => {
            let key = ClusterKey::generate().map_err(failed)?;
            (Secret::Cluster(key.clone()), format!("the key {}", key.fingerprint()))
        }
    };
    match &args.out {
        None => print_line(&secret.reveal())?,
        Some(path) => write(path, &secret).map_err(|error| refused(path, &error))?,
    }
    match (&args.out, args.operator) {
        (None, false) => {}
        (None, true) => complain(&format_args!("{what}")),
        (Some(path), false) => complain(&format_args!("{what} is in {}", path.display())),
        (Some(path), true) => {
            complain(&format_args!("{what}; the private key is in {}", path.display()));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What is made.
enum Secret {
    Cluster(ClusterKey),
    Operator(OperatorKey),
}

impl Secret {
    fn reveal(&self) -> String {
        match self {
            Secret::Cluster(key) => key.reveal(),
            Secret::Operator(key) => key.reveal(),
        }
    }
}

fn write(path: &Path, secret: &Secret) -> io::Result<()> {
    let mut file = create(path)?;
    file.write_all(format!("{}\n", secret.reveal()).as_bytes())?;
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
