//! What a key of the cluster costs, in bytes and in time of the processor.

use std::io;
use std::time::Duration;

use super::nodes::{Line, NORMAL, Nodes, call};
use crate::cluster::until;
use crate::decisions::thousands;
use crate::keys::session;
use crate::peers::Place;
use crate::process::processor_time;
use crate::report::Report;
use crate::size::Size;
use crate::table::{Table, time};

/// So often each is measured, in turn.
const ROUNDS: usize = 7;

/// What it took to tell another node of many counters.
struct Cost {
    bytes: u64,
    processor: Duration,
}

pub fn run(size: &Size, report: &mut Report) -> io::Result<()> {
    note!("propagation: with a key and without");
    let lines = [("plain", Line::Plain), ("with a key", Line::Encrypted)];
    let nodes = lines.map(|(_, line)| Nodes::start(2, Place::Memory, true, line));
    let nodes = nodes.into_iter().collect::<io::Result<Vec<Nodes>>>()?;
    let sessions: Vec<String> = (0..size.counters).map(session).collect();
    let mut costs = [Vec::new(), Vec::new()];
    // The first round creates the counters.
    for round in 0..=ROUNDS {
        for (nodes, costs) in nodes.iter().zip(&mut costs) {
            let cost = tell(nodes, &sessions);
            if round > 0 {
                costs.push(cost);
            }
        }
    }
    nodes.into_iter().for_each(Nodes::close);
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let mut table = Table::new(["updates", "bytes of one", "processor, each MB", "all of it"]);
    for ((name, _), costs) in lines.iter().zip(&costs) {
        let each = sessions.len() as f64;
        let bytes = median(costs.iter().map(|cost| cost.bytes as f64 / each).collect());
        let spent = |cost: &Cost| cost.processor.as_secs_f64() * 1e9;
        let of_a_mb =
            median(costs.iter().map(|cost| spent(cost) / (cost.bytes as f64 / 1e6)).collect());
        let all = median(costs.iter().map(spent).collect());
        table.row([name.to_string(), format!("{bytes:.1}"), time(of_a_mb), time(all)]);
    }
    report.text(&format!(
        "### What a key costs\n\n{} updates from one node to another through a proxy, medians of {ROUNDS} rounds in turn; the time of \
         the processor is that of both nodes, the proxy and the decisions.",
        thousands(sessions.len())
    ));
    report.text(&table);
    Ok(())
}

/// Counts once in each session on one node, until another has all.
fn tell(nodes: &Nodes, sessions: &[String]) -> Cost {
    let (here, there) = (nodes.nodes[0].counters(), nodes.nodes[1].counters());
    let (bytes, processor) = (nodes.proxies[0].bytes(), processor_time());
    for session in sessions {
        assert!(nodes.nodes[0].acquire(&call(NORMAL, session)).is_allowed(), "there is room");
    }
    // The last one has its version here by the time that it is there.
    let last = sessions.last().map_or("", String::as_str);
    let keys = nodes.nodes[0].keys(&call(NORMAL, last));
    until("the last has arrived", || keys.iter().all(|key| there.value(key) == here.value(key)));
    until("all have arrived", || here.version_vector() == there.version_vector());
    let after = nodes.proxies[0].bytes();
    // The other node dialed, so that this way is back.
    Cost { bytes: after.1 - bytes.1, processor: processor_time() - processor }
}
