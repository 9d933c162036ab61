//! `tallymesh keygen`: a new key for a cluster, or for one node.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tallymesh::{ClusterKey, NodeKey};

use crate::command::{CommandResult, complain, print_line};

/// Makes a key for a cluster, 64 hex digits, for `gossip.key` or a file that `gossip.key_file` names.
///
/// Who has the key is a member of the cluster. Give it to each node, and to nothing else.
#[derive(Debug, clap::Args)]
pub struct KeygenArgs {
    /// Makes a key that one node has alone, for `gossip.node_key` or a file that `gossip.node_key_file` names. Its public half, for
    /// `gossip.members` of all nodes, is printed on standard error.
    #[arg(long)]
    node: bool,

    /// Writes the key into this file, which only its owner can read, instead of standard output. A file that is there is left as
    /// it is.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Makes no key, and prints the public half of the node's key that is in this file.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["node", "out"])]
    public: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &KeygenArgs) -> CommandResult {
    if let Some(path) = &args.public {
        print_line(&public_half_in(path)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let no_key = |error: io::Error| format!("no key can be made: {error}");
    let (key, fingerprint, public) = match args.node {
        true => {
            let key = NodeKey::generate().map_err(no_key)?;
            (key.reveal(), key.public_key().fingerprint(), Some(key.public_key()))
        }
        false => {
            let key = ClusterKey::generate().map_err(no_key)?;
            (key.reveal(), key.fingerprint(), None)
        }
    };
    match &args.out {
        None => print_line(&key)?,
        Some(path) => {
            write(path, &key).map_err(|error| refused(path, &error))?;
            complain(&format_args!("the key {fingerprint} is in {}", path.display()));
        }
    }
    if let Some(public) = public {
        complain(&format_args!("its public half, for gossip.members of all nodes: {public}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// The public half of the key in a file, in which what follows a `#` is a comment.
fn public_half_in(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let text =
        fs::read_to_string(path).map_err(|error| format!("{shown} cannot be read: {error}"))?;
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let key = NodeKey::parse(&lines.collect::<String>());
    key.map(|key| key.public_key().to_string()).map_err(|why| format!("{shown}: {why}"))
}

fn write(path: &Path, key: &str) -> io::Result<()> {
    let mut file = create(path)?;
    file.write_all(format!("{key}\n").as_bytes())?;
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
