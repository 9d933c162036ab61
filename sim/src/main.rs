//! The simulator's command line.

// They panic when a reader has closed the pipe; `out.rs` has what does not.
#![deny(clippy::print_stderr, clippy::print_stdout)]

use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use tallymesh_core::mutant::Mutant;
use tallymesh_sim::out::complain;
use tallymesh_sim::sweep::{Sweep, Trace};
use tallymesh_sim::{Faults, Kind, Options, Outcomes, Workload, out, run, run_focused, study};

/// Finds bugs by running whole clusters in virtual time, with faults drawn from a seed.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs one seed, and tells how it went.
    Run {
        #[command(flatten)]
        which: Which,
        /// Prints every event.
        #[arg(long)]
        trace: bool,
    },
    /// Looks for the simplest run that breaks the same invariant as a seed does.
    Minimise {
        #[command(flatten)]
        which: Which,
    },
    /// Runs many seeds, up to the first that fails.
    Sweep {
        /// From the first number up to, but not including, the second.
        #[arg(long, value_parser = parse_range, default_value = "0..1000")]
        seeds: Range<u64>,
        /// How many nodes; without it, drawn from each seed.
        #[arg(long, value_parser = parse_nodes)]
        nodes: Option<usize>,
        /// all, none, or a list of faults with commas between.
        #[arg(long, default_value = "all")]
        faults: Faults,
        /// Only runs of this kind.
        #[arg(long)]
        kind: Option<KindArgument>,
        /// How many seeds run at a time.
        #[arg(long, default_value_t = 2)]
        jobs: usize,
    },
    /// Runs small clusters with silent, clean cuts, and looks at what is admitted over all sides; up to the first seed that fails.
    Cuts {
        /// From the first number up to, but not including, the second.
        #[arg(long, value_parser = parse_range, default_value = "0..1000")]
        seeds: Range<u64>,
    },
    /// Prints the trace hash, events and calls of each seed, to compare two builds by.
    Traces {
        /// From the first number up to, but not including, the second.
        #[arg(long, value_parser = parse_range, default_value = "0..1000")]
        seeds: Range<u64>,
        /// How many seeds run at a time.
        #[arg(long, default_value_t = 2)]
        jobs: usize,
    },
    /// Runs a large cluster under steady load, without looking closely.
    Steady {
        /// How many nodes.
        #[arg(long, value_parser = parse_nodes, default_value = "1000")]
        nodes: usize,
        /// For how many virtual seconds.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Counts very many keys once each on three nodes, without looking closely.
    Cold {
        /// How many.
        #[arg(long, default_value_t = 1_000_000)]
        keys: u64,
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Follows single counts until every node has heard of them, in a large cluster without digests.
    News {
        /// How many nodes.
        #[arg(long, value_parser = parse_nodes, default_value = "1000")]
        nodes: usize,
        /// How many counts.
        #[arg(long, default_value_t = 100)]
        tries: u64,
        /// Makes the mistake to leave news to chance: no node is asked to tell all.
        #[arg(long)]
        by_chance: bool,
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Measures overshoot, convergence and traffic, and draws them beside what the formulas say.
    Study {
        /// The directory for the plots and the page.
        #[arg(long)]
        out: PathBuf,
        /// Fewer runs for each point.
        #[arg(long)]
        quick: bool,
        /// Only the study whose plot has this name.
        #[arg(long)]
        only: Option<String>,
    },
}

/// Which run.
#[derive(Debug, clap::Args)]
struct Which {
    #[arg(long)]
    seed: u64,
    /// How many nodes; without it, drawn from the seed.
    #[arg(long, value_parser = parse_nodes)]
    nodes: Option<usize>,
    /// all, none, or a list of faults with commas between.
    #[arg(long, default_value = "all")]
    faults: Faults,
    /// What the run is to show; without it, drawn from the seed.
    #[arg(long)]
    kind: Option<KindArgument>,
    /// What the calls look like; without it, drawn from the seed.
    #[arg(long)]
    workload: Option<WorkloadArgument>,
    /// Calls in a virtual second, all nodes together; without it, drawn from the seed.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    calls_per_s: Option<u64>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum KindArgument {
    Safety,
    Liveness,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum WorkloadArgument {
    Sessions,
    HotKey,
    WindowEdges,
    ColdKeys,
}

impl Which {
    fn options(self) -> Options {
        let options = Options::of_seed(self.seed, self.nodes, self.faults);
        let kind = self.kind.map_or(options.kind, Kind::from);
        let options = options.of_kind(kind);
        Options {
            workload: self.workload.map_or(options.workload, Workload::from),
            calls_per_s: self.calls_per_s.unwrap_or(options.calls_per_s),
            ..options
        }
    }
}

impl From<KindArgument> for Kind {
    fn from(kind: KindArgument) -> Kind {
        match kind {
            KindArgument::Safety => Kind::Safety,
            KindArgument::Liveness => Kind::Liveness,
        }
    }
}

impl From<WorkloadArgument> for Workload {
    fn from(workload: WorkloadArgument) -> Workload {
        match workload {
            WorkloadArgument::Sessions => Workload::Sessions,
            WorkloadArgument::HotKey => Workload::HotKey,
            WorkloadArgument::WindowEdges => Workload::WindowEdges,
            WorkloadArgument::ColdKeys => Workload::ColdKeys,
        }
    }
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run { which, trace } => {
            let options = which.options();
            tell(&options, run(&options, trace))
        }
        Command::Minimise { which } => minimise(which.options()),
        Command::Sweep { seeds, nodes, faults, kind, jobs } => {
            sweep(&Sweep { seeds, nodes, faults, kind: kind.map(Kind::from), jobs })
        }
        Command::Cuts { seeds } => cuts(seeds),
        Command::Traces { seeds, jobs } => {
            let sweep = Sweep { seeds, nodes: None, faults: Faults::all(), kind: None, jobs };
            for Trace { seed, hash, events, calls } in sweep.traces() {
                out!("seed {seed}: trace hash {hash:08x}, {events} events, {calls} calls");
            }
            ExitCode::SUCCESS
        }
        Command::Steady { nodes, seconds, seed } => {
            let options = Options::steady(seed, nodes, seconds);
            let outcomes = run(&options, false);
            out!(
                "{nodes} nodes, {seconds} virtual seconds: {} frames of {} bytes in all",
                outcomes.measured.frames_sent,
                outcomes.measured.bytes_sent
            );
            tell(&options, outcomes)
        }
        Command::News { nodes, tries, by_chance, seed } => {
            let mutant = by_chance.then_some(Mutant::NewsLeftToChance);
            news(&Options { mutant, ..Options::news(seed, nodes, tries) })
        }
        Command::Cold { keys, seed } => {
            let options = Options::cold(seed, keys);
            tell(&options, run(&options, false))
        }
        Command::Study { out, quick, only } => match study::run(&out, quick, only.as_deref()) {
            Ok(page) => {
                out!("{}", page.display());
                ExitCode::SUCCESS
            }
            Err(error) => {
                complain(format_args!("error: {error}"));
                ExitCode::FAILURE
            }
        },
    }
}

fn cuts(seeds: Range<u64>) -> ExitCode {
    let mut calls = 0;
    for seed in seeds.clone() {
        let options = Options::cuts(seed);
        let outcomes = run(&options, false);
        if outcomes.violation.is_some() {
            return tell(&options, outcomes);
        }
        calls += outcomes.calls;
    }
    out!("seeds {}..{} hold, {calls} calls", seeds.start, seeds.end);
    ExitCode::SUCCESS
}

fn news(options: &Options) -> ExitCode {
    let outcomes = run(options, false);
    let mut last: Vec<_> = outcomes.spreads.iter().filter_map(|spread| spread.last).collect();
    last.sort_unstable();
    let at = |share: f64| {
        let place = (last.len().saturating_sub(1) as f64 * share) as usize;
        last.get(place).map_or(0.0, |took| took.as_secs_f64() * 1e3)
    };
    let (tries, nodes) = (outcomes.spreads.len(), options.nodes);
    out!(
        "{nodes} nodes, {} of {tries} counts known by all; time to the last node: p50 {:.0} ms, p99 {:.0} ms, worst {:.0} ms; \
         {} bytes in all",
        last.len(),
        at(0.5),
        at(0.99),
        at(1.0),
        outcomes.measured.bytes_sent
    );
    let known = last.len() == tries;
    match tell(options, outcomes) {
        ExitCode::SUCCESS if !known => ExitCode::FAILURE,
        told => told,
    }
}

fn tell(options: &Options, outcomes: Outcomes) -> ExitCode {
    out!("seed {}: {} events, {} calls", options.seed, outcomes.events, outcomes.calls);
    out!("trace hash {:08x}", outcomes.trace_hash);
    let Some(violation) = outcomes.violation else {
        out!("every invariant held");
        return ExitCode::SUCCESS;
    };
    out!("\n{} is broken: {}", violation.invariant, violation.what);
    out!("\noptions: {options:#?}");
    let last_events = match &violation.counter {
        None => {
            out!("\nthe last events:");
            outcomes.last_events
        }
        Some(counter) => {
            out!("\nthe last events that touch the counter {counter}:");
            run_focused(options, counter).last_events
        }
    };
    for event in &last_events {
        out!("  {event}");
    }
    ExitCode::FAILURE
}

fn minimise(options: Options) -> ExitCode {
    let broken =
        |options: &Options| run(options, false).violation.map(|violation| violation.invariant);
    let Some(invariant) = broken(&options) else {
        out!("seed {} breaks nothing", options.seed);
        return ExitCode::SUCCESS;
    };
    let smallest = options.minimise(|simpler| broken(simpler) == Some(invariant));
    let told = tell(&smallest, run(&smallest, false));
    match command(&smallest) {
        Some(command) => out!("\nto repeat it:\n  {command}"),
        None => {
            out!("\nno single command repeats it: `minimise` also shortened what no option sets")
        }
    }
    told
}

/// The command that repeats a run, event for event; `None` if it differs from its seed in what no option sets.
fn command(options: &Options) -> Option<String> {
    let Options { seed, nodes, kind, workload, calls_per_s, .. } = *options;
    let faults = options.faults.clone();
    let drawn = Options::of_seed(seed, Some(nodes), faults.clone()).of_kind(kind);
    let repeated = Options { workload, calls_per_s, ..drawn.clone() };
    if format!("{repeated:?}") != format!("{options:?}") {
        return None;
    }
    let faults = if faults == Faults::all() { "all".to_owned() } else { faults.to_string() };
    let kind = match kind {
        Kind::Safety => "safety",
        Kind::Liveness => "liveness",
    };
    let mut command = format!(
        "cargo run --release -p tallymesh-sim -- run --seed {seed} --nodes {nodes} --faults {faults} --kind {kind}"
    );
    if workload != drawn.workload {
        let workload = match workload {
            Workload::Sessions => "sessions",
            Workload::HotKey => "hot-key",
            Workload::WindowEdges => "window-edges",
            Workload::ColdKeys => "cold-keys",
        };
        command += &format!(" --workload {workload}");
    }
    if calls_per_s != drawn.calls_per_s {
        command += &format!(" --calls-per-s {calls_per_s}");
    }
    Some(command)
}

fn sweep(sweep: &Sweep) -> ExitCode {
    let progress = ProgressBar::new(sweep.seeds.end.saturating_sub(sweep.seeds.start));
    // Proven: the template is valid.
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} seeds, {per_sec}, {eta} left");
    progress.set_style(style.expect("a valid template"));
    let swept = sweep.run(|| progress.inc(1));
    let (per_s, took) = (progress.per_sec(), progress.elapsed());
    progress.finish_and_clear();
    out!(
        "{} safety and {} liveness runs, {} calls, {} runs replayed, {per_s:.0} seeds a second, {:.0} s",
        swept.safety,
        swept.liveness,
        swept.calls,
        swept.replayed,
        took.as_secs_f64()
    );
    match swept.failed {
        None => {
            let (start, end) = (sweep.seeds.start, sweep.seeds.end);
            out!("seeds {start}..{end} hold, faults: {}", sweep.faults);
            ExitCode::SUCCESS
        }
        Some(seed) => {
            let options = sweep.options(seed);
            // Before the run, which may end in a panic.
            out!("seed {seed} fails; to repeat it:\n  {}\n", command(&options).unwrap_or_default());
            tell(&options, run(&options, false));
            ExitCode::FAILURE
        }
    }
}

fn parse_range(text: &str) -> Result<Range<u64>, String> {
    let parsed = text
        .split_once("..")
        .and_then(|(start, end)| Some(start.parse::<u64>().ok()?..end.parse::<u64>().ok()?));
    parsed.filter(|range| !range.is_empty()).ok_or_else(|| {
        format!("{text:?} is no range of seeds; expected two numbers, such as 0..1000")
    })
}

fn parse_nodes(text: &str) -> Result<usize, String> {
    let nodes = text.parse::<usize>().ok().filter(|nodes| (2..=1_000).contains(nodes));
    nodes.ok_or_else(|| format!("{text:?} nodes cannot be simulated; use 2 to 1000"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_and_nodes_are_read_and_refused() {
        assert_eq!(parse_range("3..9").unwrap(), 3..9);
        for text in ["9..3", "3", "a..b"] {
            assert!(parse_range(text).is_err());
        }
        assert_eq!(parse_nodes("1000").unwrap(), 1_000);
        for text in ["0", "1", "1001", "many"] {
            assert!(parse_nodes(text).is_err());
        }
    }

    /// The options that a printed command leads to.
    fn options_of(command: &str) -> Options {
        let (_, arguments) = command.split_once(" -- ").unwrap();
        let words = std::iter::once("tallymesh-sim").chain(arguments.split(' '));
        match Arguments::try_parse_from(words).unwrap().command {
            Command::Run { which, trace: false } => which.options(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_failing_sweep_prints_the_command_that_repeats_the_run() {
        let some: Faults = "loss,crash".parse().unwrap();
        let nodes = [None, Some(2), Some(9)];
        let kinds = [None, Some(Kind::Safety), Some(Kind::Liveness)];
        for seed in 0..40 {
            for faults in [Faults::all(), Faults::none(), some.clone()] {
                let (nodes, kind) = (nodes[seed as usize % 3], kinds[seed as usize / 3 % 3]);
                let sweep = Sweep { seeds: 0..40, nodes, faults, kind, jobs: 1 };
                let options = sweep.options(seed);
                let command = command(&options).unwrap();
                assert_eq!(format!("{:?}", options_of(&command)), format!("{options:?}"));
            }
        }
        let sweep =
            Sweep { seeds: 7..8, nodes: Some(5), faults: some, kind: Some(Kind::Safety), jobs: 1 };
        assert_eq!(
            command(&sweep.options(7)).unwrap(),
            "cargo run --release -p tallymesh-sim -- run --seed 7 --nodes 5 --faults loss,crash --kind safety"
        );
    }

    #[test]
    fn a_command_says_what_differs_from_the_seed_or_is_not_printed() {
        let drawn = Options::of_seed(7, None, Faults::all());
        let changed = Options { workload: Workload::ColdKeys, calls_per_s: 19, ..drawn.clone() };
        let printed = command(&changed).unwrap();
        assert!(printed.ends_with(" --calls-per-s 19"), "{printed}");
        assert_eq!(format!("{:?}", options_of(&printed)), format!("{changed:?}"));
        // No option sets the length of a run.
        assert_eq!(command(&Options { busy_ms: drawn.busy_ms / 2, ..drawn }), None);
    }
}
