//! A line that was read: which verb, with what.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::VERSION;
use crate::selection::{CounterOrder, Cursor, Selection};
use tallymesh_core::id::{NodeId, ReplicaId};
use tallymesh_core::operator::OperatorEntry;

/// What is asked.
#[derive(Debug)]
pub(super) enum Request {
    /// How the node is doing.
    Status,
    /// A page of counters.
    Counters { selection: Selection, order: CounterOrder, max: usize, after: Option<Cursor> },
    /// Where the counts of a page of counters come from.
    Explain { selection: Selection, max: usize, after: Option<Cursor> },
    /// Resets all counters that are meant, on every node.
    Reset { selection: Selection },
    /// Takes what a node counted for 0, for this long.
    Quarantine { node: NodeId, term: Duration },
    /// Counts it again.
    Release { node: NodeId },
    /// Removes what a replica counted.
    Forget { replica: ReplicaId },
    /// Takes an entry of the operator as it was signed elsewhere.
    Take { entry: Box<OperatorEntry> },
}

/// Why a request was not carried out: a word for programs, and a sentence.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub kind: &'static str,
    pub message: String,
}

impl Refusal {
    pub(super) fn new(kind: &'static str, message: impl Into<String>) -> Refusal {
        Refusal { kind, message: message.into() }
    }
}

/// The verbs, in the order in which they are listed.
const VERBS: &str = "status, counters, explain, reset, quarantine, release, forget, take";
/// The most counters in one answer, and how many there are if the request says nothing.
const COUNTERS_MAX: u64 = 1000;
const COUNTERS_DEFAULT: u64 = 100;
/// The most counters and crossings in one explanation, which has many cells of each, and how many there are otherwise.
const EXPLAINED_MAX: u64 = 32;
const EXPLAINED_DEFAULT: u64 = 10;

impl Request {
    /// Reads a line.
    pub(super) fn parse(line: &str) -> Result<Request, Refusal> {
        let mut asked = match serde_json::from_str(line) {
            Ok(Value::Object(asked)) => asked,
            Ok(_) => return Err(refused("a request is a JSON object")),
            Err(error) => return Err(refused(format!("a request is a JSON object: {error}"))),
        };
        match asked.remove("v") {
            Some(version) if version == VERSION => {}
            version => {
                let given = version.map_or("none".to_owned(), |version| version.to_string());
                let why =
                    format!("this node speaks version {VERSION}, the request says {given} (\"v\")");
                return Err(Refusal::new("version", why));
            }
        }
        let verb = asked.remove("verb");
        match verb.as_ref().and_then(Value::as_str) {
            Some("status") => read::<Nothing>(asked).map(|_| Request::Status),
            Some("counters") => {
                let which = read::<Which>(asked)?;
                let order = which.sort.as_deref().map_or(Ok(CounterOrder::default()), str::parse);
                Ok(Request::Counters {
                    order: order.map_err(|error| refused(format!("sort: {error}")))?,
                    max: at_most(which.max, COUNTERS_DEFAULT, COUNTERS_MAX)?,
                    after: cursor(which.after.as_deref())?,
                    selection: selection(which.limit.as_deref(), &which.labels),
                })
            }
            Some("explain") => {
                let which = read::<Which>(asked)?;
                match which.sort {
                    Some(_) => Err(refused("explain takes no sort: most used first")),
                    None => Ok(Request::Explain {
                        max: at_most(which.max, EXPLAINED_DEFAULT, EXPLAINED_MAX)?,
                        after: cursor(which.after.as_deref())?,
                        selection: selection(which.limit.as_deref(), &which.labels),
                    }),
                }
            }
            Some("reset") => {
                let Meant { limit, labels } = read(asked)?;
                if limit.is_none() && labels.is_empty() {
                    let why = "reset takes a limit or labels; the limit \"*\" means all counters";
                    return Err(refused(why));
                }
                Ok(Request::Reset { selection: selection(limit.as_deref(), &labels) })
            }
            Some("quarantine") => {
                let Quarantined { node, for_s } = read(asked)?;
                let term = Duration::from_secs(for_s);
                match term.is_zero() {
                    true => Err(refused("for_s is 0: say for how many seconds")),
                    false => Ok(Request::Quarantine { node: id(&node)?, term }),
                }
            }
            Some("release") => {
                read::<Released>(asked).and_then(|of| Ok(Request::Release { node: id(&of.node)? }))
            }
            Some("forget") => read::<Forgotten>(asked)
                .and_then(|of| Ok(Request::Forget { replica: id(&of.replica)? })),
            Some("take") => {
                let Signed { entry } = read(asked)?;
                let bytes =
                    BASE64.decode(entry).map_err(|error| refused(format!("entry: {error}")))?;
                let entry = OperatorEntry::from_bytes(&bytes);
                let entry = entry.map_err(|error| refused(format!("entry: {error}")))?;
                Ok(Request::Take { entry: Box::new(entry) })
            }
            _ => {
                let given = verb.map_or("none".to_owned(), |verb| verb.to_string());
                Err(refused(format!("{given} is no verb; use one of {VERBS}")))
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Quarantined {
    node: String,
    for_s: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Released {
    node: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Forgotten {
    replica: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    entry: String,
}

/// Which counters.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
struct Meant {
    limit: Option<String>,
    labels: BTreeMap<String, String>,
}

/// Which counters, how many, in which order, from where on.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
struct Which {
    limit: Option<String>,
    labels: BTreeMap<String, String>,
    sort: Option<String>,
    max: Option<u64>,
    after: Option<String>,
}

fn read<T: serde::de::DeserializeOwned>(asked: Map<String, Value>) -> Result<T, Refusal> {
    serde_json::from_value(Value::Object(asked)).map_err(|error| refused(error.to_string()))
}

fn id<T: FromStr>(text: &str) -> Result<T, Refusal>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| refused(error.to_string()))
}

fn selection(limit: Option<&str>, labels: &BTreeMap<String, String>) -> Selection {
    let all = limit.map_or(Selection::all(), |pattern| Selection::all().limit(pattern));
    labels.iter().fold(all, |selection, (label, pattern)| selection.label(label, pattern))
}

fn cursor(after: Option<&str>) -> Result<Option<Cursor>, Refusal> {
    let parsed = after.map(str::parse).transpose();
    parsed.map_err(|_| refused("after is what the former answer says as next"))
}

fn at_most(given: Option<u64>, default: u64, most: u64) -> Result<usize, Refusal> {
    match given.unwrap_or(default) {
        max if (1..=most).contains(&max) => Ok(max as usize),
        max => Err(refused(format!("max is {max}; allowed is 1 to {most}"))),
    }
}

fn refused(why: impl Into<String>) -> Refusal {
    Refusal::new("request", why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_request_is_told_why() {
        for (line, kind, part) in [
            ("", "request", "JSON object"),
            ("[1]", "request", "JSON object"),
            ("{\"v\":1", "request", "JSON object"),
            ("{\"verb\":\"status\"}", "version", "says none"),
            ("{\"v\":2,\"verb\":\"status\"}", "version", "speaks version 1, the request says 2"),
            ("{\"v\":1}", "request", "none is no verb; use one of status"),
            ("{\"v\":1,\"verb\":\"dance\"}", "request", "\"dance\" is no verb"),
            ("{\"v\":1,\"verb\":[]}", "request", "[] is no verb"),
            ("{\"v\":1,\"verb\":\"status\",\"all\":true}", "request", "all"),
            ("{\"v\":1,\"verb\":\"counters\",\"sort\":\"size\"}", "request", "last-use"),
            ("{\"v\":1,\"verb\":\"counters\",\"max\":1001}", "request", "1 to 1000"),
            ("{\"v\":1,\"verb\":\"counters\",\"max\":0}", "request", "1 to 1000"),
            ("{\"v\":1,\"verb\":\"counters\",\"after\":\"x\"}", "request", "next"),
            ("{\"v\":1,\"verb\":\"counters\",\"labels\":[\"a\"]}", "request", "map"),
            ("{\"v\":1,\"verb\":\"explain\",\"max\":33}", "request", "1 to 32"),
            ("{\"v\":1,\"verb\":\"explain\",\"sort\":\"used\"}", "request", "takes no sort"),
            ("{\"v\":1,\"verb\":\"reset\"}", "request", "means all counters"),
            ("{\"v\":1,\"verb\":\"quarantine\",\"node\":\"b\"}", "request", "for_s"),
            ("{\"v\":1,\"verb\":\"quarantine\",\"node\":\"b\",\"for_s\":0}", "request", "is 0"),
            ("{\"v\":1,\"verb\":\"release\",\"node\":\"\"}", "request", "node"),
            ("{\"v\":1,\"verb\":\"forget\",\"replica\":\"b\"}", "request", "b"),
            ("{\"v\":1,\"verb\":\"take\",\"entry\":\"%\"}", "request", "entry"),
            ("{\"v\":1,\"verb\":\"take\",\"entry\":\"AAAA\"}", "request", "entry"),
            ("{\"v\":1,\"verb\":\"reset\",\"limit\":\"a\",\"max\":3}", "request", "max"),
        ] {
            let refusal = Request::parse(line).unwrap_err();
            assert_eq!(refusal.kind, kind, "{line}");
            assert!(refusal.message.contains(part), "{line}: {}", refusal.message);
        }
        // However deep it is, it is read with a bounded stack.
        assert_eq!(Request::parse(&"[".repeat(60_000)).unwrap_err().kind, "request");
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let parse = |rest: &str| Request::parse(&format!("{{\"v\":1,\"verb\":{rest}}}"));
        assert!(matches!(parse("\"status\""), Ok(Request::Status)));
        let counters = parse("\"counters\"");
        let Ok(Request::Counters { order, max, after, .. }) = counters else {
            panic!("{counters:?}")
        };
        assert_eq!((order, max, after), (CounterOrder::Used, 100, None));
        let explain =
            parse("\"explain\",\"limit\":\"a*\",\"labels\":{\"user\":\"u?\"},\"after\":\"64\"");
        assert!(matches!(explain, Ok(Request::Explain { max: 10, after: Some(_), .. })));
        assert!(matches!(parse("\"reset\",\"limit\":\"*\""), Ok(Request::Reset { .. })));
    }
}
