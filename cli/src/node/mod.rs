//! `tallymesh node`: one instance, with commands on standard input and answers in JSON on standard output.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};
use tallymesh::{Config, Decision, Denial, Limiter, Peek, PeerStatus, Receipt, Request};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use crate::command::CommandResult;
use crate::inspect::counter_json;

/// Runs one node until its standard input ends, it is told to close, or a signal comes.
///
/// Each line of input is a command, each line of output its answer in JSON: `acquire session=s1 tool=book_service cost=2`,
/// `peek session=s1 tool=book_service`, `refund 7` (the number is the receipt's), `reset session=s1 tool=book_service`,
/// `counters`, `peers`, `state`, `flush`, `close`.
#[derive(Debug, clap::Args)]
pub struct NodeArgs {
    /// The node's settings, in TOML.
    #[arg(long)]
    config: PathBuf,
}

/// The most receipts kept for a refund; the oldest go first.
const RECEIPTS_MAX: usize = 10_000;
/// The longest command.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// Runs the command.
pub async fn run(args: NodeArgs) -> CommandResult {
    let limiter = Limiter::open(Config::from_file(&args.config)?).await?;
    let counters = limiter.counters();
    answer(&json!({
        "ready": true,
        "replica": counters.replica().to_string(),
        "listen": counters.address().map(|address| address.to_string()),
    }))
    .await?;
    {
        let mut control = Control { limiter: &limiter, receipts: BTreeMap::new(), next_receipt: 1 };
        tokio::select! {
            served = control.serve() => served?,
            () = a_signal() => {}
        }
    }
    limiter.close().await?;
    Ok(ExitCode::SUCCESS)
}

struct Control<'a> {
    limiter: &'a Limiter,
    receipts: BTreeMap<u64, Receipt>,
    next_receipt: u64,
}

impl Control<'_> {
    /// Answers commands until there are no more.
    async fn serve(&mut self) -> std::io::Result<()> {
        let mut input = BufReader::new(tokio::io::stdin());
        loop {
            let mut line = Vec::new();
            let mut bounded = tokio::io::AsyncReadExt::take(&mut input, LINE_BYTES_MAX);
            if bounded.read_until(b'\n', &mut line).await? == 0 {
                return Ok(());
            }
            let line = String::from_utf8_lossy(&line);
            let mut words = line.split_whitespace();
            let Some(command) = words.next() else { continue };
            let reply = self.command(command, &words.collect::<Vec<_>>()).await;
            answer(&reply.unwrap_or_else(|error| json!({ "error": error }))).await?;
            if command == "close" {
                return Ok(());
            }
        }
    }

    async fn command(&mut self, command: &str, words: &[&str]) -> Result<Value, String> {
        match command {
            "acquire" => {
                let decision = self.limiter.acquire(&request(words)?);
                Ok(self.decision(decision))
            }
            "peek" => Ok(match self.limiter.peek(&request(words)?) {
                Peek::Allowed { remaining, .. } => allowed_json(remaining),
                Peek::Denied(denial) => denied_json(&denial),
            }),
            "refund" => self.refund(words),
            "reset" => {
                let request = request(words)?;
                self.limiter.reset(&request).map_err(|error| error.to_string())?;
                Ok(json!({ "reset": true }))
            }
            "counters" => {
                Ok(self.limiter.counters().iter().map(|counter| counter_json(&counter)).collect())
            }
            "peers" => Ok(self.limiter.peers().iter().map(peer_json).collect()),
            "state" => Ok(self.state()),
            "flush" => {
                self.limiter.counters().flush().await.map_err(|error| error.to_string())?;
                Ok(json!({ "durable": true }))
            }
            "close" => Ok(json!({ "closing": true })),
            other => Err(format!(
                "{other:?} is no command; use acquire, peek, refund, reset, counters, peers, state, flush or close"
            )),
        }
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
        })
    }
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
        "connected": peer.connected,
        "absence": peer.absence.map(|absence| absence.to_string()),
        "lag": peer.lag,
        "clock_offset_ms": peer.clock_offset_ms,
        "different_limits": peer.different_limits,
        "round_trip_us": peer.round_trip.map(|time| time.as_micros() as u64),
        "last_heard_ms": peer.last_heard.map(|time| time.as_millis() as u64),
    })
}

async fn answer(reply: &Value) -> std::io::Result<()> {
    let mut out = tokio::io::stdout();
    out.write_all(format!("{reply}\n").as_bytes()).await?;
    out.flush().await
}

/// Resolves at an interrupt, or a request to terminate.
async fn a_signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            return;
        }
    }
    // Without a handler there is still the end of the input.
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
