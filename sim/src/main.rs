//! Simulated clusters of tallymesh: production machines, virtual time, injected faults, one seed.

mod checker;
mod disk;
mod options;
mod world;

use std::ops::Range;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use options::{Faults, Options};
use world::Outcomes;

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
        #[arg(long)]
        seed: u64,
        /// How many nodes; without it, drawn from the seed.
        #[arg(long)]
        nodes: Option<usize>,
        /// all, none, or a list of faults with commas between.
        #[arg(long, default_value = "all")]
        faults: Faults,
        /// Prints every event.
        #[arg(long)]
        trace: bool,
    },
    /// Looks for the simplest run that breaks the same invariant as a seed does.
    Minimise {
        #[arg(long)]
        seed: u64,
        #[arg(long)]
        nodes: Option<usize>,
        #[arg(long, default_value = "all")]
        faults: Faults,
    },
    /// Runs many seeds, up to the first that fails.
    Sweep {
        /// From the first number up to, but not including, the second.
        #[arg(long, value_parser = parse_range, default_value = "0..1000")]
        seeds: Range<u64>,
        #[arg(long)]
        nodes: Option<usize>,
        #[arg(long, default_value = "all")]
        faults: Faults,
        /// How many seeds run at a time.
        #[arg(long, default_value_t = 2)]
        jobs: usize,
    },
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run { seed, nodes, faults, trace } => {
            let options = Options::of_seed(seed, nodes, faults);
            tell(&options, &world::run(&options, trace))
        }
        Command::Minimise { seed, nodes, faults } => {
            minimise(Options::of_seed(seed, nodes, faults))
        }
        Command::Sweep { seeds, nodes, faults, jobs } => sweep(&seeds, nodes, &faults, jobs),
    }
}

fn tell(options: &Options, outcomes: &Outcomes) -> ExitCode {
    println!("seed {}: {} events, {} calls", options.seed, outcomes.events, outcomes.calls);
    println!("trace hash {:08x}", outcomes.trace_hash);
    let Some(violation) = &outcomes.violation else {
        println!("every invariant held");
        return ExitCode::SUCCESS;
    };
    println!("\n{} is broken: {}", violation.invariant, violation.what);
    if let Some(counter) = &violation.counter {
        println!("counter: {counter}");
    }
    println!("\noptions: {options:#?}\nfaults: {}\n\nthe last events:", options.faults);
    for event in &outcomes.last_events {
        println!("  {event}");
    }
    ExitCode::FAILURE
}

fn minimise(options: Options) -> ExitCode {
    let broken = |options: &Options| {
        world::run(options, false).violation.map(|violation| violation.invariant)
    };
    let Some(invariant) = broken(&options) else {
        println!("seed {} breaks nothing", options.seed);
        return ExitCode::SUCCESS;
    };
    let smallest = options.minimise(|simpler| broken(simpler) == Some(invariant));
    tell(&smallest, &world::run(&smallest, false))
}

fn sweep(seeds: &Range<u64>, nodes: Option<usize>, faults: &Faults, jobs: usize) -> ExitCode {
    let progress = ProgressBar::new(seeds.end.saturating_sub(seeds.start));
    // Proven: the template is valid.
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} seeds, {per_sec}, {eta} left");
    progress.set_style(style.expect("a valid template"));
    let next = AtomicU64::new(seeds.start);
    let failed: Mutex<Option<u64>> = Mutex::new(None);
    let first_failed = || *failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || first_failed().is_some_and(|failed| failed < seed) {
                        return;
                    }
                    let options = Options::of_seed(seed, nodes, faults.clone());
                    let run = || world::run(&options, false).violation.is_some();
                    // A panic of a machine is a finding like any other.
                    let broken = std::panic::catch_unwind(run).unwrap_or(true);
                    if broken {
                        let mut failed =
                            failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                        *failed = Some(failed.map_or(seed, |before| before.min(seed)));
                    }
                    progress.inc(1);
                }
            });
        }
    });
    progress.finish_and_clear();
    match first_failed() {
        None => {
            println!("seeds {}..{} hold, faults: {faults}", seeds.start, seeds.end);
            ExitCode::SUCCESS
        }
        Some(seed) => {
            let options = Options::of_seed(seed, nodes, faults.clone());
            tell(&options, &world::run(&options, false))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_with_all_faults_hold() {
        for seed in 0..30 {
            let options = Options::of_seed(seed, None, Faults::all());
            let outcomes = world::run(&options, false);
            assert_eq!(outcomes.violation, None, "seed {seed}, {:#?}", outcomes.last_events);
            assert!(outcomes.calls > 50, "a run in which nothing happens proves nothing");
        }
    }

    #[test]
    fn a_seed_replays_event_for_event() {
        for seed in [3, 14] {
            let options = Options::of_seed(seed, None, Faults::all());
            let (first, second) = (world::run(&options, false), world::run(&options, false));
            assert_eq!(first.trace_hash, second.trace_hash);
            assert_eq!(first.events, second.events);
        }
    }

    #[test]
    fn faults_and_seeds_are_read_and_refused_with_what_is_allowed() {
        let some: Faults = "loss,crash".parse().unwrap();
        assert_eq!(some.to_string(), "loss,crash");
        assert_eq!("none".parse::<Faults>().unwrap().to_string(), "none");
        assert!("lost".parse::<Faults>().unwrap_err().contains("disk-error"));
        assert_eq!(parse_range("3..9").unwrap(), 3..9);
        for text in ["9..3", "3", "a..b"] {
            assert!(parse_range(text).is_err());
        }
    }
}
