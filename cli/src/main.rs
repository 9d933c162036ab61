//! The `tallymesh` program: a demonstration, a replay, a node to try things on, and a look into data directories and a check of them.

mod cli;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Limits on the tool calls of AI agents that hold across restarts and across instances.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(cli::demo::DemoArgs),
    Replay(cli::replay::ReplayArgs),
    Node(cli::node::NodeArgs),
    Inspect(cli::inspect::InspectArgs),
    Check(cli::check::CheckArgs),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    log_to_standard_error();
    let outcome = match Arguments::parse().command {
        Command::Demo(args) => cli::demo::run(args).await,
        Command::Replay(args) => cli::replay::run(args).await,
        Command::Node(args) => cli::node::run(args).await,
        Command::Inspect(args) => cli::inspect::run(&args),
        Command::Check(args) => cli::check::run(&args),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Warnings and errors, or what the variable `RUST_LOG` asks for.
fn log_to_standard_error() {
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_default_directive(tracing::Level::WARN.into())
        .from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
}
