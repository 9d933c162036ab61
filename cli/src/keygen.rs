//! `tallymesh keygen`: a new key for a cluster, for one node, or for an operator.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tallymesh::{ClusterKey, NodeKey, OperatorKey};

use crate::command::{CommandResult, complain, print_line};

/// Makes a key for a cluster, 64 hex digits, for `gossip.key` or a file that `gossip.key_file` names.
///
/// Who has the key is a member of the cluster. Give it to each node, and to nothing else.
///
/// With `--operator` it is a private key of the operator, and what belongs into `operator.public_key` of each node is said on standard
/// error. Who has the private key can quarantine and forget nodes. Keep it where people are, not on nodes.
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
    /// Makes a private key of the operator, in the place of one of a cluster.
    #[arg(long, conflicts_with = "node")]
    operator: bool,

    /// Makes no key, and prints the public half of the node's key that is in this file.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["node", "operator", "out"])]
    public: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &KeygenArgs) -> CommandResult {
    if let Some(path) = &args.public {
        print_line(&public_half_in(path)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Made { key, name, public } =
        Made::of(args).map_err(|error| format!("no key can be made: {error}"))?;
    match &args.out {
        None => print_line(&key)?,
        Some(path) => {
            write(path, &key).map_err(|error| refused(path, &error))?;
            complain(&format_args!("{name} is in {}", path.display()));
        }
    }
    if let Some(public) = public {
        complain(&public);
    }
    Ok(ExitCode::SUCCESS)
}

/// What was made.
struct Made {
    key: String,
    /// What tells it from others, in words.
    name: String,
    /// What is to be said of its public half, if it has one.
    public: Option<String>,
}

impl Made {
    fn of(args: &KeygenArgs) -> io::Result<Made> {
        Ok(if args.node {
            let key = NodeKey::generate()?;
            let public = key.public_key();
            let said = format!("its public half, for gossip.members of all nodes: {public}");
            let name = format!("the key {}", public.fingerprint());
            Made { key: key.reveal(), name, public: Some(said) }
        } else if args.operator {
            let key = OperatorKey::generate()?;
            let said = format!("operator.public_key = \"{}\"", key.public());
            let name = "the operator's private key".to_owned();
            Made { key: key.reveal(), name, public: Some(said) }
        } else {
            let key = ClusterKey::generate()?;
            let name = format!("the key {}", key.fingerprint());
            Made { key: key.reveal(), name, public: None }
        })
    }
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
