//! `tallymesh check`: whether a data directory is sound.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;
use tallymesh::{CheckReport, Consequence, StorageError};

use crate::command::{CommandResult, complain, written};
use crate::signals::Signals;

/// Checks every record of a data directory that no process uses, and names each that is damaged.
///
/// Ends with 0 when all is sound. Changes nothing in the directory but its LOCK; copies the database for this into the
/// directory for temporary files (TMPDIR).
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// The data directory, as in the config's `node.data_dir`.
    dir: PathBuf,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub async fn run(args: CheckArgs) -> CommandResult {
    let print = move |report: &CheckReport| {
        let mut out = BufWriter::new(io::stdout().lock());
        let printed = match args.json {
            true => writeln!(out, "{}", as_json(report)),
            false => print(&mut out, report),
        };
        written(printed.and_then(|()| out.flush()))
    };
    report_on(args.dir, print).await
}

/// Examines a directory, and prints what is found. Ends early at a signal, but not before the copy of the database is removed.
pub async fn report_on(
    dir: PathBuf,
    print: impl FnOnce(&CheckReport) -> io::Result<()> + Send + 'static,
) -> CommandResult {
    let mut signals = Signals::listen()?;
    let mut examining = tokio::task::spawn_blocking(move || examine(&dir));
    let report = match signals.unless(&mut examining).await {
        Ok(report) => report??,
        Err(signal) => {
            complain(&"ends when the copy of the database is removed; a second signal ends it now");
            // What it found is not wanted any more.
            let _ = signals.unless(examining).await;
            return Ok(signal.exit_code());
        }
    };
    // Its reader may never take it all.
    let printing = tokio::task::spawn_blocking(move || print(&report).map(|()| verdict(&report)));
    match signals.unless(printing).await {
        Ok(printed) => Ok(printed??),
        Err(signal) => Ok(signal.exit_code()),
    }
}

/// Checks a directory without the messages of sled's panics, which the report is about anyway.
fn examine(dir: &Path) -> Result<CheckReport, StorageError> {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.location().is_some_and(|location| location.file().contains("sled-")) {
            usual(panic);
        }
    }));
    tallymesh::check(dir)
}

/// The program's exit code.
fn verdict(report: &CheckReport) -> ExitCode {
    if report.damage.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One line for each damaged piece.
pub fn print_damage(out: &mut impl Write, report: &CheckReport) -> io::Result<()> {
    for finding in &report.damage {
        writeln!(
            out,
            "damaged: {}; at the next start, {}",
            finding.what,
            fate(finding.consequence)
        )?;
    }
    Ok(())
}

fn print(out: &mut impl Write, report: &CheckReport) -> io::Result<()> {
    print_damage(out, report)?;
    for (path, bytes) in &report.kept_aside {
        writeln!(
            out,
            "set aside earlier: {}, {bytes} bytes; delete it when done with it",
            path.display()
        )?;
    }
    let contents = &report.contents;
    let node = if contents.node.is_empty() { "unknown" } else { &contents.node };
    writeln!(
        out,
        "node {node}, boot {}, checkpoint {}: {} records, {} counters, {} tombstones, {} replicas",
        contents.boot,
        contents.checkpoint,
        report.records,
        contents.counters.len(),
        report.tombstones,
        contents.replicas.len()
    )?;
    match report.damage.len() {
        0 => writeln!(out, "sound"),
        found => writeln!(out, "{found} damaged"),
    }
}

fn as_json(report: &CheckReport) -> serde_json::Value {
    let contents = &report.contents;
    let damage = report
        .damage
        .iter()
        .map(|finding| json!({ "what": finding.what, "at_next_start": fate(finding.consequence) }));
    let kept_aside = report.kept_aside.iter();
    let kept_aside = kept_aside.map(|(path, bytes)| json!({ "path": path, "bytes": bytes }));
    json!({
        "sound": report.damage.is_empty(),
        "node": contents.node,
        "boot": contents.boot,
        "format": contents.format,
        "checkpoint": contents.checkpoint,
        "records": report.records,
        "counters": contents.counters.len(),
        "tombstones": report.tombstones,
        "replicas": contents.replicas.len(),
        "damage": damage.collect::<Vec<_>>(),
        "kept_aside": kept_aside.collect::<Vec<_>>(),
    })
}

/// What becomes of damage at the next start.
fn fate(consequence: Consequence) -> &'static str {
    match consequence {
        Consequence::SetAside => "the database will be set aside; the peers bring the state back",
        Consequence::Refused => "the node will refuse to open the directory",
        Consequence::Rewritten => "it will be written again",
        Consequence::Rejected => {
            "it alone will be left out and copied to `rejected`; the peers bring back what it held"
        }
        _ => "it will be skipped",
    }
}
