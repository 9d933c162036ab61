//! `tallymesh clock`: the high-water mark of a data directory's clock.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;
use tallymesh::{ClockReport, CounterState};

use crate::command::{CommandResult, written};
use crate::inspect::counter_json;

/// Shows the latest time that a node has acted on, which its clock never falls behind, and what lowering it would reopen.
///
/// Where a clock was far ahead and is right again, time stands still for the node until that mark has come. With --lower the
/// mark becomes the present time of the system clock, in a data directory that no process uses. What had ended by the mark
/// and has not by the system clock is then open again: these windows and sessions are listed either way.
#[derive(Debug, clap::Args)]
pub struct ClockArgs {
    /// The data directory, as in the config's `node.data_dir`.
    dir: PathBuf,
    /// Lowers the mark to the system clock. Check that clock first.
    #[arg(long)]
    lower: bool,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &ClockArgs) -> CommandResult {
    let report = match args.lower {
        true => tallymesh::lower_clock(&args.dir)?,
        false => tallymesh::show_clock(&args.dir)?,
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let printed = match args.json {
        true => writeln!(out, "{}", as_json(&report)),
        false => print(&mut out, &report),
    };
    written(printed.and_then(|()| out.flush()))?;
    Ok(ExitCode::SUCCESS)
}

fn print(out: &mut impl Write, report: &ClockReport) -> io::Result<()> {
    writeln!(out, "high-water mark  {}", report.mark)?;
    writeln!(out, "system clock     {}", report.now)?;
    let ahead = report.mark.since(report.now);
    if ahead.is_zero() {
        return writeln!(
            out,
            "the mark is not ahead of the system clock: there is nothing to lower"
        );
    }
    let ahead = humantime::format_duration(ahead);
    match report.lowered {
        true => {
            writeln!(out, "the mark was {ahead} ahead, and is the time of the system clock now")?
        }
        false => writeln!(
            out,
            "time stands still for {ahead}; if the system clock is right, --lower ends that"
        )?,
    }
    let opens = if report.lowered { "open again" } else { "would open again" };
    list(out, &report.reopened, opens)?;
    let ahead = match report.lowered {
        true => "of a time to come: sessions count as used now, and windows are dropped",
        false => "of a time to come: sessions would count as used now, and windows be dropped",
    };
    list(out, &report.ahead, ahead)
}

fn list(out: &mut impl Write, counters: &[CounterState], what: &str) -> io::Result<()> {
    writeln!(out, "\n{} counters {what}", counters.len())?;
    for counter in counters {
        writeln!(out, "  {} = {}, ends {}", counter.key, counter.value, counter.expires_at)?;
    }
    Ok(())
}

fn as_json(report: &ClockReport) -> serde_json::Value {
    let list = |counters: &[CounterState]| counters.iter().map(counter_json).collect::<Vec<_>>();
    json!({
        "mark_unix_ms": report.mark.0,
        "now_unix_ms": report.now.0,
        "lowered": report.lowered,
        "reopened": list(&report.reopened),
        "ahead": list(&report.ahead),
    })
}
