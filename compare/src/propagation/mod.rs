//! How fast word travels, and what that costs.

mod burst;
mod counting_proxy;
mod encryption;
mod idle;
mod latency;
mod nodes;
mod wire;

pub use counting_proxy::CountingProxy;
pub use nodes::{INTERVAL_MS, NORMAL, call};

use std::io;

use crate::peers::RedisServer;
use crate::report::Report;
use crate::size::Size;
use crate::target::{self, Target};
use crate::versions;

/// Three nodes over loopback TCP in this process.
pub fn run(size: &Size, report: &mut Report) -> io::Result<()> {
    let server = RedisServer::start();
    let redis = versions::of_redis_server().unwrap_or("no Redis server".to_owned());
    report.text(&format!("Versions: {}, {redis}.", versions::of("tallymesh")));
    let mut targets: Vec<Target> = Vec::new();
    latency::run(size, server.as_ref(), report, &mut targets)?;
    burst::run(size, server.as_ref(), report, &mut targets);
    wire::run(size, server.as_ref(), report, &mut targets)?;
    encryption::run(size, report)?;
    idle::run(size, server.as_ref(), report, &mut targets)?;
    report.text(&"### Targets");
    report.text(&target::table(&targets));
    report.text(&NOT_MEASURED);
    Ok(())
}

const NOT_MEASURED: &str = "Not measured: a real network, whose delay comes on top; more than three nodes. The nodes \
    share this machine's cores with one another and with the process that waits for the update.";
