//! The `tallymesh` program: a demonstration, a replay, a node to try things on, and a look into data directories, a check
//! of them, and their clock.

// They panic when a reader has closed the pipe; `command.rs` has what does not.
#![deny(clippy::print_stderr, clippy::print_stdout)]

mod check;
mod clock;
mod command;
#[cfg(unix)]
mod ctl;
mod demo;
mod inspect;
mod keygen;
mod log;
mod node;
mod replay;
mod signals;
mod usage;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use command::{CommandResult, complain};

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
    Keygen(keygen::KeygenArgs),
    #[cfg(unix)]
    Ctl(ctl::CtlArgs),
}

impl Command {
    /// What is logged unless the variable `RUST_LOG` says otherwise.
    fn default_log(&self) -> &'static str {
        match self {
            // Dozens of instances in one process would bury the progress bar and the report under "peer connected", and, since
            // the first ones start before the others, under "peer does not answer". The demonstration needs no such exception:
            // its nodes log to files, whose ends it prints when something goes wrong.
            Command::Replay(_) => "warn,tallymesh::runtime::log=error",
            _ => "warn,tallymesh=info",
        }
    }
}

fn main() -> ExitCode {
    let command = Arguments::parse().command;
    log::to_standard_error(command.default_log());
    let ended = run_to_the_end(command);
    log::flush();
    match ended {
        Ok(code) => code,
        Err(error) => {
            complain(&format_args!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run_to_the_end(command: Command) -> CommandResult {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start the event loop: {error}"))?;
    let result = runtime.block_on(run(command));
    // Not dropped, which would wait for the thread that reads an idle standard input, or writes to a full pipe.
    runtime.shutdown_background();
    result
}

async fn run(command: Command) -> CommandResult {
    match command {
        Command::Demo(args) => demo::run(args).await,
        Command::Replay(args) => replay::run(args).await,
        Command::Node(args) => node::run(args).await,
        Command::Inspect(args) => inspect::run(args).await,
        Command::Check(args) => check::run(args).await,
        Command::Clock(args) => clock::run(&args),
        Command::Keygen(args) => keygen::run(&args),
        #[cfg(unix)]
        Command::Ctl(args) => ctl::run(args).await,
    }
}
