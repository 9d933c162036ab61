//! What the disk costs: durable calls, space, and recovery, each beside a baseline of the same run.
//!
//! ```text
//! cargo bench -p tallymesh --bench disk                    everything
//! cargo bench -p tallymesh --bench disk -- sync            only that; likewise growth, recovery; several may be named
//! cargo bench -p tallymesh --bench disk -- --quick         a tenth of the counters, fewer rounds and seconds
//! TALLYMESH_BENCH_DIR=/mnt/disk cargo bench -p tallymesh --bench disk
//! ```

mod growth;
mod measure;
mod recovery;
mod sync;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use measure::{file_system_of, fresh_dir};

/// How much of each there is to do.
struct Size {
    counters: usize,
    rounds: usize,
    seconds: u64,
    /// Time to live of the counters that are to expire: longer than a round takes.
    ttl_seconds: u64,
}

const FULL: Size = Size { counters: 1_000_000, rounds: 20, seconds: 10, ttl_seconds: 60 };
const QUICK: Size = Size { counters: 100_000, rounds: 5, seconds: 2, ttl_seconds: 10 };
const PARTS: &[&str] = &["sync", "growth", "recovery"];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Cargo says `--bench` to every benchmark.
    let named = arguments.iter().filter(|argument| !argument.starts_with("--"));
    let named: Vec<&str> = named.map(String::as_str).collect();
    if let Some(unknown) = named.iter().find(|name| !PARTS.contains(name)) {
        eprintln!("there is no part {unknown:?}; there are {}", PARTS.join(", "));
        return ExitCode::FAILURE;
    }
    let is_quick = arguments.iter().any(|argument| argument == "--quick");
    match named[..] {
        [part] => run(part, if is_quick { &QUICK } else { &FULL }),
        [] => return in_processes_of_their_own(PARTS, is_quick),
        _ => return in_processes_of_their_own(&named, is_quick),
    }
    ExitCode::SUCCESS
}

fn run(part: &str, size: &Size) {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let base = std::env::var_os("TALLYMESH_BENCH_DIR").map(PathBuf::from);
    let dir = fresh_dir(base);
    println!("\n## {part}\n\nin {}: {}\n", dir.path().display(), file_system_of(dir.path()));
    match part {
        "sync" => sync::run(dir.path(), size),
        "growth" => growth::run(dir.path(), size),
        _ => recovery::run(dir.path(), size),
    }
}

/// One part's memory must not be taken for another's.
fn in_processes_of_their_own(parts: &[&str], is_quick: bool) -> ExitCode {
    let program = std::env::current_exe().expect("the system knows this program");
    for part in parts {
        let mut command = Command::new(&program);
        command.arg(part).args(is_quick.then_some("--quick"));
        if !command.status().is_ok_and(|status| status.success()) {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
