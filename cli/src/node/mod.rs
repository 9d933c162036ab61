//! `tallymesh node`: one instance, with commands on standard input and answers in JSON on standard output.

mod control;
mod counters;
mod http;
mod input;
mod output;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;
use tallymesh::{Config, Limiter, OpenError};

use crate::command::{CommandResult, written};
use crate::signals::{Signal, Signals};
use control::Control;
use http::Http;

/// Runs one node until its standard input ends, it is told to close, or SIGTERM or SIGINT comes.
///
/// Each line of input is a command, each line of output its answer in JSON; only `counters` is answered by several: how many,
/// then one for each counter. The command `help` lists the commands: `acquire session=s1 tool=book_service cost=2`,
/// `peek session=s1 tool=book_service`, `refund 7` (the number is the receipt's), `reset session=s1 tool=book_service`,
/// `counters --sort used --top 10`, `peers`, `state`, `ready`, `flush`, `close`. The last line says how many of its updates no peer has
/// confirmed. SIGHUP is logged, and changes nothing.
#[derive(Debug, clap::Args)]
pub struct NodeArgs {
    /// The node's settings, in TOML.
    #[arg(long)]
    config: PathBuf,
    /// Answers at this address instead: `GET /ready` for a readiness probe (200, or 503 until then), and to `POST /` the command in its
    /// body. Standard input is not read. With `node.slots`, the port is this one plus the slot. What reaches the address may ask and reset.
    #[arg(long, value_name = "ADDRESS")]
    http: Option<SocketAddr>,
}

/// How long the last answer may take to be written.
const LAST_ANSWER: Duration = Duration::from_millis(500);

/// Runs the command.
pub async fn run(args: NodeArgs) -> CommandResult {
    // From the start, or a signal that comes while the node opens would end it on the spot.
    let mut signals = Signals::listen()?;
    let config = Config::from_file(&args.config)?;
    let Some(limiter) = open(config, &mut signals).await? else { return Ok(ExitCode::SUCCESS) };
    let http = match args.http {
        Some(address) => match Http::listen(address, limiter.slot()).await {
            Ok(http) => Some(http),
            Err(error) => {
                limiter.close().await?;
                return Err(error.into());
            }
        },
        None => None,
    };
    let served = serve(&limiter, http, &mut signals).await;
    // Whatever ended it, what was admitted is written.
    let closed = limiter.close().await?;
    written(served)?;
    let last = json!({ "closed": true, "unconfirmed": closed.unconfirmed });
    let telling = output::answer(&last);
    // A reader that takes nothing in does not keep the node from ending.
    if let Ok(result) = tokio::time::timeout(LAST_ANSWER, telling).await {
        written(result)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Opens the node; `None` if a signal ends it before it is open.
async fn open(config: Config, signals: &mut Signals) -> Result<Option<Limiter>, OpenError> {
    tokio::select! {
        opened = open_with_control(config) => opened.map(Some),
        () = an_end(signals) => Ok(None),
    }
}

/// Opens the node with a control socket, also where the settings do not ask for one: then it goes without where there can be none.
#[cfg(unix)]
async fn open_with_control(config: Config) -> Result<Limiter, OpenError> {
    if config.has_control() {
        return Limiter::open(config).await;
    }
    let why: Box<dyn std::error::Error> = match crate::ctl::path::with_default(config.clone()) {
        Ok(with_control) => match Limiter::open(with_control).await {
            Err(error @ OpenError::Control { .. }) => error.into(),
            opened => return opened,
        },
        Err(error) => error.into(),
    };
    tracing::warn!(
        "there is no control socket, so `tallymesh ctl` cannot ask this node: {why}; set node.control to a path, or to \"off\""
    );
    Limiter::open(config).await
}

#[cfg(not(unix))]
async fn open_with_control(config: Config) -> Result<Limiter, OpenError> {
    Limiter::open(config).await
}

/// Answers commands until there are no more, or a signal ends the node.
async fn serve(
    limiter: &Limiter,
    http: Option<Http>,
    signals: &mut Signals,
) -> std::io::Result<()> {
    let counters = limiter.counters();
    let mut first = json!({
        "ready": true,
        "replica": counters.replica().to_string(),
        "listen": counters.address().map(|address| address.to_string()),
    });
    let Some(http) = http else {
        let serving = async {
            output::answer(&first).await?;
            Control::new(limiter).serve().await
        };
        return tokio::select! {
            served = serving => served,
            () = an_end(signals) => Ok(()),
        };
    };
    first["http"] = http.address().to_string().into();
    // It need not be read: the answers go elsewhere.
    written(output::answer(&first).await)?;
    http.serve(limiter, an_end(signals)).await;
    Ok(())
}

/// Resolves at a signal that ends the node.
async fn an_end(signals: &mut Signals) {
    loop {
        match signals.next().await {
            Signal::Hangup => tracing::info!(
                "SIGHUP changes nothing: settings are read at the start only; SIGTERM ends the node"
            ),
            signal => {
                tracing::info!(?signal, "a signal ends the node");
                return;
            }
        }
    }
}
