//! The `tallymesh` program: a demonstration, a replay, a node to try things on, and a look into data directories, a check
//! of them, and their clock.

mod check;
mod clock;
mod command;
mod demo;
mod inspect;
mod node;
mod replay;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// Limits on the tool calls of AI agents that hold across restarts and across instances.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::DemoArgs),
    Replay(replay::ReplayArgs),
    Node(node::NodeArgs),
    Inspect(inspect::InspectArgs),
    Check(check::CheckArgs),
    Clock(clock::ClockArgs),
}

impl Command {
    /// What is logged unless the variable `RUST_LOG` says otherwise.
    fn default_log(&self) -> &'static str {
        match self {
            // Dozens of instances in one process would bury the progress bar and the report under "peer connected". The
            // demonstration needs no such exception: its nodes log to files, whose ends it prints when something goes wrong.
            Command::Replay(_) => "warn",
            _ => "warn,tallymesh=info",
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let command = Arguments::parse().command;
    log_to_standard_error(command.default_log());
    let result = match command {
        Command::Demo(args) => demo::run(args).await,
        Command::Replay(args) => replay::run(args).await,
        Command::Node(args) => node::run(args).await,
        Command::Inspect(args) => inspect::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Clock(args) => clock::run(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Logs what the variable `RUST_LOG` asks for, or `default`.
fn log_to_standard_error(default: &str) {
    let asked = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|asked| !asked.trim().is_empty());
    let filter = EnvFilter::builder().parse_lossy(asked.as_deref().unwrap_or(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
}
