//! The commands of a node.

use std::collections::BTreeMap;
use std::io;

use serde_json::{Value, json};
use tallymesh::{Decision, Denial, Limiter, Peek, PeerStatus, Receipt, Request};
use tokio::io::BufReader;

use super::counters::{Counted, Selection};
use super::input::Lines;
use super::output;
use crate::log;

/// The most receipts kept for a refund; the oldest go first.
const RECEIPTS_MAX: usize = 10_000;

/// The commands, and what each does.
const COMMANDS: &[(&str, &str)] = &[
    ("acquire label=value ... [cost=N]", "admits and charges, or denies"),
    ("peek label=value ... [cost=N]", "the same answer; charges nothing"),
    ("refund RECEIPT", "takes a charge back; the number is the receipt's"),
    (
        "reset label=value ...",
        "resets the request's counters, everywhere, except those of limits without `per`",
    ),
    (
        "counters [label=pattern ...] [--limit PATTERN] [--sort used|value|left|name] [--top N]",
        "how many counters, then a line for each: what it counts, its maximum, per cent used, time left",
    ),
    ("peers", "which peers are connected, and why others are not"),
    ("state", "the node itself"),
    ("ready", "answers when the node is ready to be asked, and with what it does without"),
    ("flush", "answers when everything is on disk"),
    (
        "reload-tls",
        "reads the files of certificates again, and shows the fingerprint of the node's own",
    ),
    ("help", "lists the commands"),
    ("close", "writes, tells the peers, ends"),
];

/// What a command is answered with.
enum Reply<'a> {
    One(Value),
    Counters(Vec<Counted<'a>>),
}

/// What answers the commands.
pub(super) struct Control<'a> {
    limiter: &'a Limiter,
    receipts: BTreeMap<u64, Receipt>,
    next_receipt: u64,
}

impl<'a> Control<'a> {
    pub(super) fn new(limiter: &'a Limiter) -> Control<'a> {
        Control { limiter, receipts: BTreeMap::new(), next_receipt: 1 }
    }

    /// Answers commands until there are no more.
    ///
    /// # Errors
    /// When the input cannot be read, or an answer not be written.
    pub(super) async fn serve(&mut self) -> io::Result<()> {
        let mut lines = Lines::new(BufReader::new(tokio::io::stdin()));
        while let Some(line) = lines.next().await? {
            let line = match line {
                Ok(line) => line,
                Err(why) => {
                    output::answer(&json!({ "error": why })).await?;
                    continue;
                }
            };
            let mut words = line.split_whitespace();
            let Some(command) = words.next() else { continue };
            match self.command(command, &words.collect::<Vec<_>>()).await {
                Ok(Reply::One(reply)) => output::answer(&reply).await?,
                Ok(Reply::Counters(counted)) => self.list(&counted).await?,
                Err(error) => output::answer(&json!({ "error": error })).await?,
            }
            if command == "close" {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The answer to one command, a value a line.
    ///
    /// # Errors
    /// Why it is no command, or what it was refused for.
    pub(super) async fn answer(&mut self, line: &str) -> Result<Vec<Value>, String> {
        let mut words = line.split_whitespace();
        let command = words.next().unwrap_or_default();
        Ok(match self.command(command, &words.collect::<Vec<_>>()).await? {
            Reply::One(reply) => vec![reply],
            Reply::Counters(counted) => self.listing(&counted).collect(),
        })
    }

    async fn list(&self, counted: &[Counted<'_>]) -> io::Result<()> {
        output::lines(self.listing(counted)).await
    }

    /// First how many counters there are, and how many lines follow.
    fn listing(&self, counted: &[Counted<'_>]) -> impl Iterator<Item = Value> {
        let store = self.limiter.counters();
        let first = json!({ "counters": store.len(), "shown": counted.len() });
        std::iter::once(first).chain(counted.iter().map(move |one| one.json(store)))
    }

    async fn command(&mut self, command: &str, words: &[&str]) -> Result<Reply<'a>, String> {
        let reply = match command {
            "acquire" => {
                let decision = self.limiter.acquire(&request(words)?);
                self.decision(decision)
            }
            "peek" => match self.limiter.peek(&request(words)?) {
                Peek::Allowed { remaining, .. } => allowed_json(remaining),
                Peek::Denied(denial) => denied_json(&denial),
            },
            "refund" => self.refund(words)?,
            "reset" => {
                let request = request(words)?;
                self.limiter.reset(&request).map_err(|error| error.to_string())?;
                json!({ "reset": true })
            }
            "counters" => {
                return Ok(Reply::Counters(Selection::parse(words)?.of(self.limiter)));
            }
            "peers" => self.limiter.peers().iter().map(peer_json).collect(),
            "state" => self.state(),
            "ready" => {
                self.limiter.ready().await;
                let status = self.limiter.status();
                json!({ "ready": status.ready, "waiting_for": status.waiting_for })
            }
            "flush" => {
                self.limiter.counters().flush().await.map_err(|error| error.to_string())?;
                json!({ "durable": true })
            }
            "reload-tls" => {
                self.limiter.reload_tls().await.map_err(|error| error.to_string())?;
                json!({ "keys": self.limiter.status().keys })
            }
            "help" => json!({ "help": help() }),
            "close" => json!({ "closing": true }),
            other => {
                let names = COMMANDS.iter().filter_map(|(usage, _)| usage.split(' ').next());
                let names = names.collect::<Vec<_>>().join(", ");
                return Err(format!("{other:?} is no command; use one of {names}"));
            }
        };
        Ok(Reply::One(reply))
    }

    fn decision(&mut self, decision: Decision) -> Value {
        let receipt = match decision {
            Decision::Allowed(receipt) => receipt,
            Decision::Denied(denial) => return denied_json(&denial),
        };
        let mut reply = allowed_json(receipt.remaining());
        reply["receipt"] = self.next_receipt.into();
        self.receipts.insert(self.next_receipt, receipt);
        self.next_receipt += 1;
        if self.receipts.len() > RECEIPTS_MAX {
            self.receipts.pop_first();
        }
        reply
    }

    fn refund(&mut self, words: &[&str]) -> Result<Value, String> {
        let number = match words {
            [number] => number.parse::<u64>().ok(),
            _ => None,
        };
        let number = number.ok_or("refund takes the number of a receipt")?;
        let receipt = self.receipts.remove(&number);
        let receipt =
            receipt.ok_or_else(|| format!("no receipt {number} is held: unknown, or used"))?;
        self.limiter.refund(receipt).map_err(|error| error.to_string())?;
        Ok(json!({ "refunded": number }))
    }

    fn state(&self) -> Value {
        let counters = self.limiter.counters();
        let vector = counters.version_vector();
        let vector: BTreeMap<String, u64> =
            vector.iter().map(|(replica, version)| (replica.to_string(), version.0)).collect();
        let status = counters.status();
        let rejections = status.rejections;
        json!({
            "replica": status.replica.to_string(),
            "version_vector": vector,
            "state_checksum": format!("{:016x}", counters.state_checksum()),
            "counters": status.counters,
            "state": status.health.state.to_string(),
            "durable": status.health.is_durable(),
            "durability": status.health.durability.to_string(),
            "reasons": status.health.reasons,
            "set_aside": status.set_aside,
            "clock_behind_ms": status.clock_behind_ms,
            "counters_refused": rejections.counters_refused,
            "cells_implausible": rejections.cells_implausible,
            "cells_late": rejections.cells_late,
            "requests_unmatched": status.requests_unmatched,
            "messages_unknown": rejections.messages_unknown,
            "addresses_implausible": rejections.addresses_implausible,
            "cluster_size": status.cluster_size,
            "cut_off": status.cut_off.map(|cut| json!({
                "members": cut.members,
                "side": cut.side,
                "heard": cut.heard,
                "suspected": cut.suspected,
                "since": cut.since.to_string(),
            })),
            "operator": status.operator.iter().map(|entry| json!({
                "action": entry.action,
                "subject": entry.subject,
                "at": entry.at.to_string(),
                "until": entry.until.to_string(),
                "is_told": entry.is_told,
                "is_in_force": entry.is_in_force,
                "progress": entry.progress,
            })).collect::<Vec<_>>(),
            "cells_forgotten": rejections.cells_forgotten,
            "entries_refused": rejections.entries_refused,
            "ready": status.ready,
            "waiting_for": status.waiting_for,
            "replicas_refused": rejections.replicas_refused,
            "cells_refused": rejections.cells_refused,
            "connections_refused": rejections.connections_refused,
            "frames_refused": rejections.frames_refused,
            "frames_delayed": rejections.frames_delayed,
            "addresses_refused": rejections.addresses_refused,
            "log_lines_dropped": status.log_lines_dropped + log::lines_lost(),
            "thread_restarts": status.thread_restarts,
            "strangers_refused": rejections.strangers_refused,
            "keys": status.keys,
        })
    }
}

/// A line for each command.
fn help() -> Vec<String> {
    COMMANDS.iter().map(|(usage, what)| format!("{usage}: {what}")).collect()
}

/// Reads `label=value` words; `cost=N` is the cost.
fn request<'a>(words: &[&'a str]) -> Result<Request<'a>, String> {
    let mut request = Request::new();
    for word in words {
        let (label, value) =
            word.split_once('=').ok_or_else(|| format!("{word:?} is not label=value"))?;
        request = match label {
            "cost" => {
                let cost = value.parse().map_err(|_| format!("cost={value:?} is not a number"))?;
                request.cost(cost)
            }
            "" => return Err(format!("{word:?} has no label before the =")),
            label => request.with(label, value),
        };
    }
    Ok(request)
}

/// `remaining` is null if no limit matched.
fn allowed_json(remaining: Option<u64>) -> Value {
    json!({ "allowed": true, "remaining": remaining })
}

fn denied_json(denial: &Denial) -> Value {
    json!({
        "allowed": false,
        "limit": denial.limit_name(),
        "remaining": denial.remaining(),
        "missing_label": denial.missing_label(),
        "retry_after_ms": denial.retry_after().map(|wait| wait.as_nanos().div_ceil(1_000_000) as u64),
        "reason": denial.to_string(),
    })
}

fn peer_json(peer: &PeerStatus) -> Value {
    json!({
        "address": peer.address,
        "replica": peer.replica.as_ref().map(ToString::to_string),
        "source": peer.source.map(|source| source.to_string()),
        "since": peer.since.map(|since| since.to_string()),
        "connected": peer.connected,
        "absence": peer.absence.map(|absence| absence.to_string()),
        "lag": peer.lag,
        "clock_offset_ms": peer.clock_offset_ms,
        "different_limits": peer.different_limits,
        "key": peer.key,
        "round_trip_us": peer.round_trip.map(|time| time.as_micros() as u64),
        "last_heard_ms": peer.last_heard.map(|time| time.as_millis() as u64),
    })
}
