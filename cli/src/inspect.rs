//! `tallymesh inspect`: what a data directory holds.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use serde_json::json;
use tallymesh::{CheckReport, Contents, CounterState, OperatorEntry};

use crate::check::{print_damage, report_on};
use crate::command::{CommandResult, written};

/// Prints what a data directory holds that no process uses: node, incarnations, watermarks, counters.
///
/// Of a damaged one, prints what can be read, and on standard error what is damaged, and ends with 1.
#[derive(Debug, clap::Args)]
pub struct InspectArgs {
    /// The data directory, as in the config's `node.data_dir`.
    dir: PathBuf,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub async fn run(args: InspectArgs) -> CommandResult {
    let print = move |report: &CheckReport| {
        let mut out = BufWriter::new(io::stdout().lock());
        let printed = match args.json {
            true => writeln!(out, "{}", as_json(&report.contents)),
            false => print(&mut out, &report.contents),
        };
        written(printed.and_then(|()| out.flush()))?;
        // Where standard error cannot be written, the exit code still tells.
        let _ = print_damage(&mut io::stderr().lock(), report);
        Ok(())
    };
    report_on(args.dir, print).await
}

fn print(out: &mut impl Write, contents: &Contents) -> io::Result<()> {
    let node = if contents.node.is_empty() { "unknown" } else { &contents.node };
    writeln!(out, "node         {node}")?;
    writeln!(out, "boot         {}", contents.boot)?;
    writeln!(out, "disk format  {}", contents.format)?;
    writeln!(out, "checkpoint   {}, at {}", contents.checkpoint, contents.clock)?;
    writeln!(out, "\n{} replicas, each with its watermark", contents.replicas.len())?;
    for (replica, watermark) in &contents.replicas {
        writeln!(out, "  {replica:<50} {watermark}")?;
    }
    if !contents.operator.is_empty() {
        writeln!(out, "\n{} entries of the operator", contents.operator.len())?;
    }
    for entry in &contents.operator {
        writeln!(out, "  {entry}, given at {}", entry.at())?;
    }
    writeln!(out, "\n{} counters", contents.counters.len())?;
    for counter in &contents.counters {
        writeln!(out, "  {} = {}", counter.key, counter.value)?;
        writeln!(out, "    ends {}, generation {}", counter.expires_at, counter.generation)?;
        for (replica, cell) in &counter.cells {
            writeln!(out, "    {replica:<48} +{} -{} (version {})", cell.p, cell.n, cell.version)?;
        }
    }
    Ok(())
}

fn as_json(contents: &Contents) -> serde_json::Value {
    let replicas = contents.replicas.iter().map(
        |(replica, watermark)| json!({ "replica": replica.to_string(), "watermark": watermark.0 }),
    );
    json!({
        "node": contents.node,
        "boot": contents.boot,
        "format": contents.format,
        "checkpoint": contents.checkpoint,
        "clock_unix_ms": contents.clock.0,
        "replicas": replicas.collect::<Vec<_>>(),
        "operator": contents.operator.iter().map(entry_json).collect::<Vec<_>>(),
        "counters": contents.counters.iter().map(counter_json).collect::<Vec<_>>(),
    })
}

fn entry_json(entry: &OperatorEntry) -> serde_json::Value {
    json!({
        "action": entry.action(),
        "subject": entry.subject(),
        "at_unix_ms": entry.at().0,
        "until_unix_ms": entry.until().0,
        "signed": entry.is_signed(),
    })
}

/// A counter for programs.
pub fn counter_json(counter: &CounterState) -> serde_json::Value {
    let cells = counter.cells.iter().map(|(replica, cell)| {
        let (version, p, n) = (cell.version.0, cell.p, cell.n);
        json!({ "replica": replica.to_string(), "version": version, "p": p, "n": n })
    });
    json!({
        "limit": counter.key.limit(),
        "values": counter.key.values().collect::<Vec<_>>(),
        "window_start_unix_ms": counter.key.window().map(|window| window.start().0),
        "value": counter.value,
        "credit": counter.credit(),
        "generation": counter.generation,
        "expires_at_unix_ms": counter.expires_at.0,
        "cells": cells.collect::<Vec<_>>(),
    })
}
