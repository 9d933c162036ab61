//! Quarantine, release and forget: given by the node itself, or signed here with the operator's private key.

use std::error::Error;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use serde_json::{Value, json};
use tallymesh::{NodeId, OperatorEntry, OperatorKey, ReplicaId, Timestamp};

use super::client::Client;
use super::status::plain;

/// With what an operator's word is signed.
#[derive(Debug, clap::Args)]
pub struct Signing {
    /// The file with the operator's private key (`tallymesh keygen --operator`). The key stays here: what is signed is sent. Without it,
    /// the word holds on that node alone, and only where no `operator.public_key` is set.
    #[arg(long, value_name = "FILE")]
    operator_key: Option<PathBuf>,
}

/// What is said.
pub enum Word {
    Quarantine { node: NodeId, term: Duration },
    Release { node: NodeId },
    Forget { replica: ReplicaId },
}

impl Word {
    /// As the node is asked to say it itself.
    fn request(&self) -> Value {
        match self {
            Word::Quarantine { node, term } => {
                json!({ "verb": "quarantine", "node": node.as_str(), "for_s": term.as_secs() })
            }
            Word::Release { node } => json!({ "verb": "release", "node": node.as_str() }),
            Word::Forget { replica } => {
                json!({ "verb": "forget", "replica": replica.to_string() })
            }
        }
    }

    fn entry(&self, now: Timestamp) -> OperatorEntry {
        match self {
            Word::Quarantine { node, term } => OperatorEntry::quarantine(node, now, *term),
            Word::Release { node } => OperatorEntry::release(node, now),
            Word::Forget { replica } => OperatorEntry::forget(replica, now),
        }
    }

    /// Has the node take it.
    ///
    /// # Errors
    /// When the key cannot be read, or the node refuses what is said.
    pub async fn say(
        &self,
        client: &mut Client,
        signing: &Signing,
    ) -> Result<Value, Box<dyn Error>> {
        let Some(path) = &signing.operator_key else { return client.ask(self.request()).await };
        let key = read_key(path)?;
        // By the node's clock and in its cluster's name, and after what it holds of the same subject.
        let status = client.ask(json!({ "verb": "status" })).await?;
        let now = Timestamp(status["now_unix_ms"].as_u64().unwrap_or(0));
        let mut entry = self.entry(now);
        for held in status["operator"].as_array().into_iter().flatten() {
            if held["subject"] == *entry.subject() {
                entry = entry.given_after(Timestamp(held["at_unix_ms"].as_u64().unwrap_or(0)));
            }
        }
        let signed = key.sign(entry, status["cluster"].as_str().unwrap_or_default());
        client.ask(json!({ "verb": "take", "entry": BASE64.encode(signed.to_bytes()) })).await
    }
}

fn read_key(path: &Path) -> Result<OperatorKey, String> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("{shown} cannot be read: {error}"))?;
    text.parse().map_err(|error| format!("{shown}: {error}"))
}

/// How each word stands that is held, a line each.
pub fn text(answer: &Value) -> String {
    let mut out = String::new();
    for entry in answer["operator"].as_array().into_iter().flatten() {
        writeln!(out, "{}", line(entry)).expect("text takes what is written");
    }
    out
}

/// How one stands.
pub fn line(entry: &Value) -> String {
    let moment = |name: &str| Timestamp(entry[name].as_u64().unwrap_or(0)).to_string();
    let (action, subject) = (plain(&entry["action"]), plain(&entry["subject"]));
    let force = match (&entry["is_in_force"], &entry["progress"]) {
        (Value::Bool(true), progress) => {
            format!("in force until {}, over {progress}% of the counters", moment("until_unix_ms"))
        }
        _ => "without effect now".to_owned(),
    };
    let told = match entry["is_told"] == true {
        true => "told to all nodes",
        false => "on this node alone",
    };
    format!("{action} {subject}: since {}, {force}, {told}", moment("at_unix_ms"))
}
