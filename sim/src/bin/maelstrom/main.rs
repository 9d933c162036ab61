//! A node for [Maelstrom](https://github.com/jepsen-io/maelstrom): messages in JSON, one a line, on standard input and output.
//! It answers the workloads `pn-counter` and `g-counter` from its own table, which the production gossip machine replicates.

mod clock;
mod links;
mod message;
mod replica;
mod server;

use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

use clap::Parser;
use rand::SeedableRng;
use rand::rngs::{StdRng, SysRng};
use tallymesh_core::gossip::GossipSettings;

use clock::Clock;
use server::Server;

/// A tallymesh node that speaks Maelstrom's protocol on standard input and output.
#[derive(Debug, Parser)]
#[command(name = "maelstrom", version)]
struct Arguments {
    /// Milliseconds between two rounds of gossip, on average.
    #[arg(long, default_value_t = 50)]
    interval_ms: u64,
    /// Milliseconds between two comparisons of what the nodes have.
    #[arg(long, default_value_t = 500)]
    digest_interval_ms: u64,
    /// After how many milliseconds a peer that is not heard is given up, and dialed again.
    #[arg(long, default_value_t = 2_500)]
    timeout_ms: u64,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log(&format!("the node ends: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Serves until standard input ends.
fn run(arguments: &Arguments) -> std::io::Result<()> {
    let clock = Clock::start();
    let random = StdRng::try_from_rng(&mut SysRng).map_err(std::io::Error::other)?;
    let mut server = Server::new(arguments.gossip_settings(), random);
    let (tell, lines) = mpsc::channel();
    std::thread::spawn(move || read_lines(&tell));
    loop {
        let due = server.poll_timeout().map(|due| due.saturating_sub(clock.now().monotonic));
        let line = match due {
            Some(wait) => lines.recv_timeout(wait),
            None => lines.recv().map_err(RecvTimeoutError::from),
        };
        match line {
            Ok(line) => server.handle_line(clock.now(), &line?),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        // After lines too, or a steady stream of them would keep the gossip waiting.
        server.handle_timeout(clock.now());
        let mut output = std::io::stdout().lock();
        while let Some(message) = server.poll_output() {
            writeln!(output, "{message}")?;
        }
    }
}

/// Takes the lines in as bytes, since one that is no UTF-8 must not end the others.
fn read_lines(tell: &Sender<std::io::Result<Vec<u8>>>) {
    for line in std::io::stdin().lock().split(b'\n') {
        if tell.send(line).is_err() {
            return;
        }
    }
}

/// Says something to the people who read Maelstrom's logs.
fn log(text: &str) {
    // Where the log is not read, the node still works.
    let _ = writeln!(std::io::stderr(), "{text}");
}

impl Arguments {
    fn gossip_settings(&self) -> GossipSettings {
        let timeout = Duration::from_millis(self.timeout_ms);
        GossipSettings {
            interval: Duration::from_millis(self.interval_ms),
            digest_interval: Duration::from_millis(self.digest_interval_ms),
            handshake_timeout: timeout,
            silence_timeout: timeout,
            ..GossipSettings::default()
        }
    }
}
