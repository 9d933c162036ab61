//! tallymesh beside other limiters, in one run.
//!
//! ```text
//! cargo run --release -p tallymesh-compare                       everything but news and lives
//! cargo run --release -p tallymesh-compare -- stalls memory      only these parts
//! cargo run --release -p tallymesh-compare -- --quick            a smoke test: the figures mean little
//! cargo run --release -p tallymesh-compare -- lives --lives 100000
//! cargo run --release -p tallymesh-compare -- --write-benchmarks renew the tables in docs/benchmarks
//! ```

#[macro_use]
mod out;

mod clock;
mod cluster;
mod decisions;
mod keys;
mod lives;
mod machine;
mod memory;
mod news;
mod one_life;
mod page;
mod peers;
mod plot;
mod process;
mod propagation;
mod report;
mod size;
mod stalls;
mod table;
mod target;
mod versions;

use std::error::Error;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::{Parser, Subcommand, ValueEnum};

use report::Report;
use size::Size;

/// Runs tallymesh beside other limiters, prints tables, and writes them and plots to files.
#[derive(Debug, Parser)]
struct Arguments {
    /// What to measure; everything, if nothing is named.
    parts: Vec<Part>,
    /// Little of each: to see that it runs.
    #[arg(long)]
    quick: bool,
    /// Where the tables and plots go.
    #[arg(long, default_value = "target/compare")]
    out: PathBuf,
    /// How many short-lived nodes are played for `lives`.
    #[arg(long)]
    lives: Option<usize>,
    /// Puts the tables and plots into docs/benchmarks as well.
    #[arg(long)]
    write_benchmarks: bool,
    #[command(subcommand)]
    child: Option<Child>,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Decisions,
    Stalls,
    Propagation,
    News,
    Memory,
    Lives,
}

/// What this program starts itself for.
#[derive(Debug, Clone, Subcommand)]
enum Child {
    /// Fills one store, and prints how much memory that took.
    #[command(hide = true)]
    Fill {
        /// Which.
        subject: memory::Subject,
        /// How many counters.
        counters: usize,
    },
    /// Is a peer of the store that is filled.
    #[command(hide = true)]
    Replica {
        /// What to go by.
        name: String,
        /// How many counters.
        counters: usize,
    },
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments = Arguments::parse();
    match &arguments.child {
        Some(Child::Fill { subject, counters }) => memory::fill(*subject, *counters)?,
        Some(Child::Replica { name, counters }) => memory::replicate(name, *counters)?,
        None => return measure(&arguments),
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let [part] = arguments.parts[..] else { return in_processes_of_their_own(arguments) };
    let size = if arguments.quick { &Size::QUICK } else { &Size::FULL };
    let mut report = Report::new(part.name());
    report.text(&machine::description());
    match part {
        Part::Decisions => decisions::run(size, &mut report)?,
        Part::Stalls => stalls::run(size, &mut report)?,
        Part::Propagation => propagation::run(size, &mut report)?,
        Part::News => news::run(size, &mut report)?,
        Part::Memory => memory::run(size, &mut report)?,
        Part::Lives => lives::run(size, arguments.lives.unwrap_or(size.lives), &mut report)?,
    }
    out!("## {}\n\n{}", part.name(), report.markdown());
    report.write_to(&arguments.out)?;
    if arguments.write_benchmarks {
        page::renew(&report)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// One part's memory and threads must not disturb another.
fn in_processes_of_their_own(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let all = Part::value_variants();
    // Clusters of a hundred nodes and thousands of lives take minutes, so they are run by name.
    let usual = all.iter().filter(|part| !matches!(part, Part::News | Part::Lives));
    let usual: Vec<Part> = usual.copied().collect();
    let parts = if arguments.parts.is_empty() { &usual } else { &arguments.parts };
    for part in parts {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(part.name()).arg("--out").arg(&arguments.out);
        command.args(arguments.quick.then_some("--quick"));
        command.args(arguments.write_benchmarks.then_some("--write-benchmarks"));
        if !command.status()?.success() {
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Part::Decisions => "decisions",
            Part::Stalls => "stalls",
            Part::Propagation => "propagation",
            Part::News => "news",
            Part::Memory => "memory",
            Part::Lives => "lives",
        }
    }
}
