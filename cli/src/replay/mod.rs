//! `tallymesh replay`: a recorded trace against several instances, judged by an exact counter.

mod cluster;
mod limits;
mod moment;
mod oracle;
mod pace;
mod report;
mod route;
mod trace;

use std::error::Error;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tallymesh::{Limiter, Request, Timestamp};

use crate::command::{CommandResult, complain, print_line};
use crate::signals::Signals;
use cluster::{Cluster, Setup};
use limits::Limits;
use oracle::{Oracle, Verdict};
use pace::{Pace, parse_speed};
use report::{Report, Tally, Worst};
use route::{Route, Router};
use trace::Trace;

/// Replays a trace of tool calls against several instances and counts their wrong decisions
///
/// The instances run in this process, each with a data directory and a socket of its own, and take
/// the calls in turn, or by their sessions. An exact counter that hears of every admitted call at
/// once then judges each decision: "overshoot" counts the calls admitted past a limit, "false
/// denials" those denied although every limit had room. The counters in which most of a limit was
/// used are listed, each with the per cent used and the time that it had left at the end.
#[derive(Debug, clap::Args)]
pub struct ReplayArgs {
    /// CSV file with a call in each row; - is standard input
    ///
    /// Columns are labels (session, turn, tool, and those that the limits look at), cost (a whole
    /// number; 1 if empty) and time (seconds, milliseconds since 1970, or a date with a time). A
    /// label that is empty is one that the call does not have.
    #[arg(long, value_name = "FILE.csv")]
    trace: PathBuf,

    /// Columns of the trace to leave out, with commas between them
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    ignore: Vec<String>,

    /// How many instances, 1 to 64. Each connects to all others, so many need many open files
    #[arg(long, value_name = "N", default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=64))]
    nodes: u8,

    /// Which instance a call goes to
    #[arg(long, value_enum, default_value_t = Route::RoundRobin)]
    route: Route,

    /// TOML file with limits as in a node's config, and nothing else
    ///
    /// Without it: 5 calls per session, turn and tool, and 10 per session and tool.
    #[arg(long, value_name = "FILE.toml")]
    limits: Option<PathBuf>,

    /// times, settle, max, or a number of calls per second [default: times if the trace has them,
    /// else settle]
    ///
    /// times: each call at its time. settle: after each call, wait until all instances know of it.
    /// max: as fast as possible.
    #[arg(long, value_name = "PACE")]
    pace: Option<Pace>,

    /// So many times as fast as in the trace: 10 replays an hour in six minutes [default: 1]
    ///
    /// Windows and session_ttl get shorter by as much, so that the limits admit what they would
    /// have admitted; gossip does not get faster.
    #[arg(long, value_name = "FACTOR", value_parser = parse_speed)]
    speed: Option<f64>,

    /// How often the instances gossip, on average [default: 2ms with --pace settle, else 50ms]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    gossip_interval: Option<Duration>,

    /// How many of the counters to list in which most of a limit was used
    #[arg(long, value_name = "N", default_value_t = 5)]
    worst: usize,

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
    let limits = Limits::load(args.limits.as_deref())?;
    let trace = trace::read(&args.trace, &limits, &args.ignore)?;
    let plan = Plan::of(&args, &trace)?;
    for (limit, label) in limits.idle(|label| trace.has_label(label)) {
        tracing::warn!(limit, label, "the limit applies to no call: the trace lacks the label");
    }
    let limits = match plan.speed {
        Some(speed) => limits.shortened(speed)?,
        None => limits,
    };
    if !args.json {
        plan.tell_if_long(trace.span());
    }
    let setup = Setup {
        count: usize::from(args.nodes),
        gossip_interval: plan.gossip_interval,
        labels_max: trace.labels_count().clamp(16, 1024),
        counters_max: (trace.calls().len() * limits.limits().len()).clamp(1_000_000, 100_000_000),
        limits: limits.limits().to_vec(),
    };

    // Not before: nothing is to be cleared up yet, and a trace may be read from a terminal.
    let mut signals = Signals::listen()?;
    let mut cluster = Cluster::prepare(setup)?;
    let measuring = async {
        cluster.start().await?;
        measure(&trace, &cluster, &plan).await
    };
    let measured = signals.unless(measuring).await;
    let closed = cluster.close().await;
    let measured = match measured {
        Ok(measured) => measured?,
        Err(signal) => {
            plan.progress.finish_and_clear();
            complain(&"interrupted; nothing is left behind");
            return Ok(signal.exit_code());
        }
    };
    closed?;

    let mut oracle = limits.oracle()?;
    let tally = judge(&mut oracle, &trace, &measured.decisions);
    let now = measured.decisions.last().map_or(Timestamp(0), |decided| decided.at);
    let worst = oracle.worst(now, args.worst).into_iter();
    let report = Report {
        trace: args.trace.display().to_string(),
        nodes: args.nodes,
        pace: plan.pace.to_string(),
        speed: plan.speed,
        route: args.route.name(),
        gossip_interval_ms: report::in_ms(plan.gossip_interval),
        calls: trace.calls().len(),
        tally,
        converged_ms: report::in_ms(measured.converged_after),
        latency: report::Latency::of(measured.decisions.iter().map(Decided::took))?,
        calls_per_s: report::per_second(trace.calls().len(), measured.took),
        counters: oracle.counters_count(),
        worst: worst.map(|usage| Worst::of(usage, plan.speed.unwrap_or(1.0))).collect(),
    };
    let text = if args.json { serde_json::to_string(&report)? } else { report.to_string() };
    // A reader that takes nothing must not keep the program from its end.
    let printing = tokio::task::spawn_blocking(move || print_line(&text));
    match signals.unless(printing).await {
        Ok(printed) => printed??,
        Err(signal) => return Ok(signal.exit_code()),
    }
    Ok(ExitCode::SUCCESS)
}

/// How a trace is replayed.
#[derive(Debug)]
struct Plan {
    pace: Pace,
    /// `None` where the calls are not made by their times.
    speed: Option<f64>,
    route: Route,
    gossip_interval: Duration,
    progress: ProgressBar,
}

impl Plan {
    /// # Errors
    /// When the options do not go together, or not with the trace.
    fn of(args: &ReplayArgs, trace: &Trace) -> Result<Plan, Box<dyn Error>> {
        let usual = if trace.has_times { Pace::Times } else { Pace::Settle };
        let pace = args.pace.unwrap_or(usual);
        if pace == Pace::Times && !trace.has_times {
            return Err("--pace times: the trace has no column \"time\"".into());
        }
        if let Some(speed) = args.speed.filter(|_| pace != Pace::Times) {
            return Err(match trace.has_times {
                true => format!("--speed {speed} is for --pace times, and not for {pace}"),
                false => format!("--speed {speed}: the trace has no column \"time\"; --pace sets how fast it is replayed"),
            }
            .into());
        }
        if args.route == Route::Session && !trace.has_label("session") {
            return Err("--route session: the trace has no column \"session\"".into());
        }
        Ok(Plan {
            pace,
            speed: (pace == Pace::Times).then(|| args.speed.unwrap_or(1.0)),
            route: args.route,
            gossip_interval: args.gossip_interval.unwrap_or(pace.gossip_interval()),
            progress: progress(args, trace.calls().len())?,
        })
    }

    /// Says how long the replay takes, if that is worth a thought.
    fn tell_if_long(&self, span: Duration) {
        let takes = span.div_f64(self.speed.unwrap_or(f64::INFINITY));
        if takes >= Duration::from_secs(10) {
            let whole =
                |time: Duration| humantime::format_duration(Duration::from_secs(time.as_secs()));
            let (span, takes) = (whole(span), whole(takes));
            complain(&format_args!("{span} of calls take {takes}; a higher --speed takes less"));
        }
    }
}

fn progress(args: &ReplayArgs, calls: usize) -> Result<ProgressBar, Box<dyn Error>> {
    if args.json || !io::stderr().is_terminal() {
        return Ok(ProgressBar::hidden());
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} calls, {per_sec}, {eta} left")?;
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
    trace: &Trace,
    cluster: &Cluster,
    plan: &Plan,
) -> Result<Measured, Box<dyn Error>> {
    let decisions = play(trace, cluster, plan).await?;
    cluster.converge().await?;
    let converged = read_clock();
    plan.progress.finish_and_clear();
    let (Some(first), Some(last)) = (decisions.first(), decisions.last()) else {
        return Err("the trace has no calls".into());
    };
    let (took, converged_after) = (last.ended - first.began, converged - last.ended);
    Ok(Measured { decisions, took, converged_after })
}

async fn play(trace: &Trace, cluster: &Cluster, plan: &Plan) -> Result<Vec<Decided>, String> {
    let mut beat = plan.pace.beat();
    let mut router = Router::new(plan.route, cluster.nodes().len());
    let mut decisions = Vec::with_capacity(trace.calls().len());
    let began = tokio::time::Instant::now();
    for call in trace.calls() {
        if let Some(speed) = plan.speed {
            tokio::time::sleep_until(began + call.after.div_f64(speed)).await;
        }
        if let Some(beat) = &mut beat {
            beat.tick().await;
        }
        let limiter = &cluster.nodes()[router.index(trace.session(call))];
        decisions.push(decide(&trace.request(call), limiter));
        if plan.pace == Pace::Settle {
            cluster.await_agreement().await?;
        }
        plan.progress.inc(1);
    }
    Ok(decisions)
}

fn decide(request: &Request<'_>, limiter: &Limiter) -> Decided {
    // The limiter reads its clock again. A call within a millisecond of a fixed window's end may
    // therefore be judged by the window before the one that it was counted in.
    let at = limiter.counters().now();
    let began = read_clock();
    let admitted = limiter.acquire(request).is_allowed();
    Decided { at, admitted, began, ended: read_clock() }
}

#[expect(clippy::disallowed_methods, reason = "measures real time")]
fn read_clock() -> Instant {
    Instant::now()
}

/// Feeds the oracle, in order, with what was really admitted.
fn judge(oracle: &mut Oracle, trace: &Trace, decisions: &[Decided]) -> Tally {
    let mut tally = Tally::default();
    for (call, decided) in trace.calls().iter().zip(decisions) {
        if decided.admitted {
            tally.allowed += 1;
        } else {
            tally.denied += 1;
        }
        match oracle.judge(&trace.request(call), call.cost, decided.at, decided.admitted) {
            Verdict::Right => {}
            Verdict::Overshoot => tally.overshoot += 1,
            Verdict::FalseDenial => tally.false_denials += 1,
        }
    }
    tally
}
