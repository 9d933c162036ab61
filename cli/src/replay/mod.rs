//! `tallymesh replay`: a recorded trace against several instances, judged by an exact counter.

mod cluster;
mod oracle;
mod pace;
mod report;
mod trace;

use std::error::Error;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tallymesh::{Config, Limit, Limiter, Timestamp, Window};

use crate::command::CommandResult;
use cluster::Cluster;
use oracle::{Oracle, Verdict};
use pace::Pace;
use report::{Report, Tally};
use trace::Call;

/// Replays a trace of tool calls against several instances and counts their wrong decisions
///
/// The instances run in this process, each with a data directory and a socket of its own, and take
/// the calls in turn. An exact counter that hears of every admitted call at once then judges each
/// decision: "overshoot" counts the calls admitted past a limit, "false denials" those denied
/// although every limit had room.
#[derive(Debug, clap::Args)]
pub struct ReplayArgs {
    /// CSV file with the columns session, turn and tool; each row is one call, with these labels
    #[arg(long, value_name = "FILE.csv")]
    trace: PathBuf,

    /// How many instances, 1 to 64. Each connects to all others, so many need many open files
    #[arg(long, value_name = "N", default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=64))]
    nodes: u8,

    /// TOML file with limits as in a node's config, and nothing else
    ///
    /// Without it: 5 calls per session, turn and tool, and 10 per session and tool. No session_ttl
    /// may be shorter than the replay takes, because the exact counter does not end sessions.
    #[arg(long, value_name = "FILE.toml")]
    limits: Option<PathBuf>,

    /// settle, max, or a number of calls per second
    ///
    /// settle: after each call, wait until all instances know of it. max: as fast as possible.
    #[arg(long, value_name = "PACE", default_value = "settle")]
    pace: Pace,

    /// How often the instances gossip, on average [default: 2ms with --pace settle, else 50ms]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    gossip_interval: Option<Duration>,

    /// Print one JSON object, and show no progress
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// When the trace or the limits cannot be read, the instances cannot be started, or they do not
/// come to agree in time.
pub async fn run(args: ReplayArgs) -> CommandResult {
    let calls = trace::read(&args.trace)?;
    let (limits, mut oracle) = load_limits(args.limits.as_deref())?;
    let gossip_interval = args.gossip_interval.unwrap_or(args.pace.gossip_interval());
    let progress = progress(&args, calls.len())?;

    let cluster = Cluster::start(usize::from(args.nodes), gossip_interval, &limits).await?;
    let measured = measure(&calls, &cluster, args.pace, &progress).await;
    let closed = cluster.close().await;
    let measured = measured?;
    closed?;
    check_sessions_lasted(&limits, measured.took)?;

    let report = Report {
        trace: args.trace.display().to_string(),
        nodes: args.nodes,
        pace: args.pace.to_string(),
        gossip_interval_ms: report::in_ms(gossip_interval),
        calls: calls.len(),
        tally: judge(&mut oracle, &calls, &measured.decisions),
        converged_ms: report::in_ms(measured.converged_after),
        latency: report::Latency::of(measured.decisions.iter().map(Decided::took))?,
        calls_per_s: report::per_second(calls.len(), measured.took),
    };
    let text = if args.json { serde_json::to_string(&report)? } else { report.to_string() };
    writeln!(io::stdout().lock(), "{text}")?;
    Ok(ExitCode::SUCCESS)
}

const DEFAULT_LIMITS: &str = r#"
[[limit]]
name = "per session, turn and tool"
per = ["session", "turn", "tool"]
max = 5
window = "session"

[[limit]]
name = "per session and tool"
per = ["session", "tool"]
max = 10
window = "session"
"#;

/// The limits for the instances, and the exact counter under the same limits.
fn load_limits(path: Option<&Path>) -> Result<(Vec<Limit>, Oracle), Box<dyn Error>> {
    let Some(path) = path else { return parse_limits(DEFAULT_LIMITS) };
    let in_file = |error: &dyn fmt::Display| format!("limits file {}: {error}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| in_file(&error))?;
    Ok(parse_limits(&text).map_err(|error| in_file(&error))?)
}

fn parse_limits(text: &str) -> Result<(Vec<Limit>, Oracle), Box<dyn Error>> {
    oracle::check_only_limits(text)?;
    // Behind the limits, so that errors in them name the right line.
    let node = "[node]\nid = \"replay\"\n[storage]\nin_memory = true\n";
    let config = Config::from_toml(&format!("{text}\n{node}"))?;
    Ok((config.limits().to_vec(), Oracle::from_toml(text)?))
}

fn progress(args: &ReplayArgs, calls: usize) -> Result<ProgressBar, Box<dyn Error>> {
    if args.json || !io::stderr().is_terminal() {
        return Ok(ProgressBar::hidden());
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} calls, {per_sec}")?;
    Ok(ProgressBar::new(calls as u64).with_style(style))
}

/// What a replay measured.
struct Measured {
    /// One for each call, in order.
    decisions: Vec<Decided>,
    /// From the first call to the last decision.
    took: Duration,
    /// From the last decision until all instances had the same state.
    converged_after: Duration,
}

/// What came of one call.
struct Decided {
    at: Timestamp,
    admitted: bool,
    began: Instant,
    ended: Instant,
}

impl Decided {
    fn took(&self) -> Duration {
        self.ended - self.began
    }
}

async fn measure(
    calls: &[Call],
    cluster: &Cluster,
    pace: Pace,
    progress: &ProgressBar,
) -> Result<Measured, Box<dyn Error>> {
    let decisions = play(calls, cluster, pace, progress).await?;
    cluster.converge().await?;
    let converged = read_clock();
    progress.finish_and_clear();
    let (Some(first), Some(last)) = (decisions.first(), decisions.last()) else {
        return Err("the trace has no calls".into());
    };
    let (took, converged_after) = (last.ended - first.began, converged - last.ended);
    Ok(Measured { decisions, took, converged_after })
}

async fn play(
    calls: &[Call],
    cluster: &Cluster,
    pace: Pace,
    progress: &ProgressBar,
) -> Result<Vec<Decided>, String> {
    let mut beat = pace.beat();
    let mut decisions = Vec::with_capacity(calls.len());
    for (call, limiter) in calls.iter().zip(cluster.nodes().iter().cycle()) {
        if let Some(beat) = &mut beat {
            beat.tick().await;
        }
        decisions.push(decide(call, limiter));
        if pace == Pace::Settle {
            cluster.await_agreement().await?;
        }
        progress.inc(1);
    }
    Ok(decisions)
}

fn decide(call: &Call, limiter: &Limiter) -> Decided {
    let request = call.request();
    // The limiter reads its clock again. A call within a millisecond of a fixed window's end may
    // therefore be judged by the window before the one that it was counted in.
    let at = limiter.counters().now();
    let began = read_clock();
    let admitted = limiter.acquire(&request).is_allowed();
    Decided { at, admitted, began, ended: read_clock() }
}

#[expect(clippy::disallowed_methods, reason = "measures real time")]
fn read_clock() -> Instant {
    Instant::now()
}

/// Feeds the oracle, in order, with what was really admitted.
fn judge(oracle: &mut Oracle, calls: &[Call], decisions: &[Decided]) -> Tally {
    let mut tally = Tally::default();
    for (call, decided) in calls.iter().zip(decisions) {
        if decided.admitted {
            tally.allowed += 1;
        } else {
            tally.denied += 1;
        }
        match oracle.judge(&call.request(), decided.at, decided.admitted) {
            Verdict::Right => {}
            Verdict::Overshoot => tally.overshoot += 1,
            Verdict::FalseDenial => tally.false_denials += 1,
        }
    }
    tally
}

/// The oracle does not end sessions, so none may have expired on the instances either.
fn check_sessions_lasted(limits: &[Limit], took: Duration) -> Result<(), String> {
    for limit in limits {
        if let Window::Session { ttl } = limit.window()
            && took >= ttl
        {
            let (name, took) = (limit.name(), took.as_secs_f64());
            let ttl = humantime::format_duration(ttl);
            return Err(format!(
                "the replay took {took:.3} s, but limit {name:?} has a session_ttl of {ttl}: \
                 sessions may have expired meanwhile; set a longer session_ttl"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_shorter_than_the_replay_is_refused() {
        let ttl = Duration::from_secs(10);
        let limits = [Limit::new("l", 1, Window::Session { ttl })];
        assert!(check_sessions_lasted(&limits, Duration::from_secs(9)).is_ok());
        let message = check_sessions_lasted(&limits, ttl).unwrap_err();
        assert!(message.contains("\"l\"") && message.contains("10s"), "{message}");
    }
}
