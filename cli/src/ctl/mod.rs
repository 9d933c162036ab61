//! `tallymesh ctl`: asks a node that runs, by its control socket.

mod client;
mod counters;
mod explain;
mod operator;
pub mod path;
mod status;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};
use tallymesh::{Config, NodeId, ReplicaId};

use crate::command::{CommandResult, print_line};
use client::Client;
use operator::Word;

/// Asks a node that runs on this machine, and acts on it, by its control socket.
///
/// Only the user that the node runs as can, and root. The node says itself where its socket is: as `node.control` of its settings
/// says, or `control.sock` in its data directory.
#[derive(Debug, clap::Args)]
pub struct CtlArgs {
    /// The node's settings, which tell where its socket is.
    #[arg(long, value_name = "FILE", required_unless_present = "socket")]
    config: Option<PathBuf>,
    /// Which of several processes that share the settings (`node.slots`).
    #[arg(long, value_name = "N", requires = "config")]
    slot: Option<usize>,
    /// The path of the socket.
    #[arg(long, value_name = "PATH", conflicts_with = "config")]
    socket: Option<PathBuf>,
    /// Prints the answer of the node, in JSON, a line each.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// How the node is doing: its state, every number, its members, and each bound with what to do about it.
    Status,
    /// The counters that come first, of all that are meant.
    Counters {
        #[command(flatten)]
        meant: Meant,
        /// Which come first.
        #[arg(long, value_enum, default_value_t)]
        sort: counters::Order,
        /// How many are shown, 1 to 1000.
        #[arg(long, value_name = "N", default_value_t = 100)]
        max: usize,
    },
    /// Where counts come from: the cells of the counters that are meant, by which links each came, and which took a counter over its limit.
    Explain {
        #[command(flatten)]
        meant: Meant,
        /// How many counters, and how many crossings, are shown, 1 to 32.
        #[arg(long, value_name = "N", default_value_t = 10)]
        max: usize,
    },
    /// Resets the counters that are meant, of those that the node holds, on every node.
    Reset {
        #[command(flatten)]
        meant: Meant,
    },
    /// Takes what a node counts, and has counted, for 0 for a time. Its counts are kept, and come back with a release.
    Quarantine {
        /// The node, by its id.
        node: NodeId,
        /// For how long, as 24h or 30d.
        #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
        term: Duration,
        #[command(flatten)]
        signing: operator::Signing,
    },
    /// Counts what a node in quarantine has counted again.
    Release {
        /// The node, by its id.
        node: NodeId,
        #[command(flatten)]
        signing: operator::Signing,
    },
    /// Removes what one start of a node has counted, and refuses it from now on. There is no way back.
    Forget {
        /// The replica, as `ctl status` and `ctl explain` show it: node#boot.nonce.
        replica: ReplicaId,
        #[command(flatten)]
        signing: operator::Signing,
    },
}

/// Which counters are meant. In a pattern, `*` stands for any text and `?` for one character.
#[derive(Debug, clap::Args)]
struct Meant {
    /// Only those with this label, and a value that fits.
    #[arg(value_name = "LABEL=PATTERN", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Only those of limits whose name fits.
    #[arg(long, value_name = "PATTERN")]
    limit: Option<String>,
}

impl Meant {
    /// A request with this verb.
    fn request(&self, verb: &str) -> Value {
        let labels: serde_json::Map<String, Value> = self
            .labels
            .iter()
            .map(|(label, value)| (label.clone(), value.as_str().into()))
            .collect();
        let mut request = json!({ "verb": verb, "labels": labels });
        if let Some(limit) = &self.limit {
            request["limit"] = limit.as_str().into();
        }
        request
    }
}

fn label(word: &str) -> Result<(String, String), String> {
    match word.split_once('=') {
        Some((label, value)) if !label.is_empty() => Ok((label.to_owned(), value.to_owned())),
        _ => Err("it is not label=pattern".to_owned()),
    }
}

/// Runs the command.
pub async fn run(args: CtlArgs) -> CommandResult {
    let mut client = Client::connect(&args.socket()?).await?;
    match args.verb {
        Verb::Status => {
            let answer = client.ask(json!({ "verb": "status" })).await?;
            show(args.json, &answer, status::text)?;
        }
        Verb::Counters { meant, sort, max } => {
            let mut request = meant.request("counters");
            (request["sort"], request["max"]) = (sort.word().into(), max.into());
            let (mut counters, mut found) = (Vec::new(), 0);
            let answer = all_pages(&mut client, request, |page| {
                found += page["found"].as_u64().unwrap_or(0);
                sort.merge(&mut counters, page, max);
            });
            let held = answer.await?["held"].take();
            let listing = json!({ "held": held, "found": found, "counters": counters });
            show(args.json, &listing, counters::text)?;
        }
        Verb::Explain { meant, max } => {
            let mut request = meant.request("explain");
            request["max"] = max.into();
            let (mut counters, mut found) = (Vec::new(), 0);
            let answer = all_pages(&mut client, request, |page| {
                found += page["found"].as_u64().unwrap_or(0);
                counters::Order::Used.merge(&mut counters, page, max);
            });
            let crossings = answer.await?["crossings"].take();
            let all = json!({ "found": found, "counters": counters, "crossings": crossings });
            show(args.json, &all, explain::text)?;
        }
        Verb::Reset { meant } => {
            let answer = client.ask(meant.request("reset")).await?;
            show(args.json, &answer, |answer| {
                format!(
                    "{} counters are reset here, and on each node that hears of it",
                    answer["reset"]
                )
            })?;
        }
        Verb::Quarantine { node, term, signing } => {
            let said = Word::Quarantine { node, term }.say(&mut client, &signing).await?;
            show(args.json, &said, operator::text)?;
        }
        Verb::Release { node, signing } => {
            let said = Word::Release { node }.say(&mut client, &signing).await?;
            show(args.json, &said, operator::text)?;
        }
        Verb::Forget { replica, signing } => {
            let said = Word::Forget { replica }.say(&mut client, &signing).await?;
            show(args.json, &said, operator::text)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks for one page after the other, and returns the last answer.
async fn all_pages(
    client: &mut Client,
    mut request: Value,
    mut take: impl FnMut(&Value),
) -> Result<Value, Box<dyn std::error::Error>> {
    loop {
        let page = client.ask(request.clone()).await?;
        take(&page);
        match page["next"].as_str() {
            Some(next) => request["after"] = next.into(),
            None => return Ok(page),
        }
    }
}

/// Prints an answer, for programs or for people.
fn show(json: bool, answer: &Value, text: fn(&Value) -> String) -> std::io::Result<()> {
    match json {
        true => print_line(answer),
        false => print_line(&text(answer).trim_end()),
    }
}

impl CtlArgs {
    fn socket(&self) -> Result<PathBuf, Box<dyn std::error::Error>> {
        if let Some(path) = &self.socket {
            return Ok(path.clone());
        }
        // One of the two is given, or the arguments are refused.
        let config = Config::from_file(self.config.clone().unwrap_or_default())?;
        let config = path::with_default(config)?;
        let path = match self.slot {
            Some(slot) => config.control_in_slot(slot),
            None => config.control().map(std::path::Path::to_owned),
        };
        path.ok_or_else(|| "node.control is \"off\": the node has no control socket".into())
    }
}
