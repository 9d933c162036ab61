//! What a cluster takes while it is not asked anything.

use std::io;
use std::thread;

use super::nodes::{Line, NORMAL, Nodes, call};
use crate::cluster::until;
use crate::decisions::thousands;
use crate::keys::session;
use crate::peers::{Place, RedisServer};
use crate::process::{processor_time, processor_time_of};
use crate::report::Report;
use crate::size::Size;
use crate::table::Table;
use crate::target::Target;

const NODES: usize = 3;

pub fn run(
    size: &Size,
    server: Option<&RedisServer>,
    report: &mut Report,
    targets: &mut Vec<Target>,
) -> io::Result<()> {
    note!("propagation: an idle cluster");
    let seconds = size.watch.as_secs_f64();
    let of_redis = || server.map(|server| processor_time_of(server.process()));

    let nodes = filled(size.counters, false)?;
    // sled tidies up for a while after the last write.
    thread::sleep(3 * size.watch);
    let before = (processor_time(), of_redis());
    thread::sleep(size.watch);
    let after = (processor_time(), of_redis());
    nodes.close();
    let percent = 100.0 * (after.0 - before.0).as_secs_f64() / seconds;

    // In another cluster, since the proxies take time of their own.
    let nodes = filled(size.counters, true)?;
    let bytes = || nodes.proxies.iter().map(|proxy| proxy.bytes().0 + proxy.bytes().1).sum::<u64>();
    let begun = bytes();
    thread::sleep(size.watch);
    let bytes = (bytes() - begun) as f64 / seconds;
    nodes.close();

    let mut table = Table::new(["idle", "of one core", "bytes a second"]);
    table.row([
        format!("tallymesh, {NODES} nodes, {} counters", thousands(size.counters)),
        format!("{percent:.2} %"),
        format!("{bytes:.0}"),
    ]);
    if let Some((before, after)) = before.1.zip(after.1) {
        let percent = 100.0 * (after - before).as_secs_f64() / seconds;
        table.row(["Redis, one server".to_owned(), format!("{percent:.2} %"), "0".to_owned()]);
    }
    report.text(&format!("### An idle cluster\n\nOver {seconds} s, begun {} s after the last change, all nodes together; bytes of all three links, both ways.", 3.0 * seconds));
    report.text(&table);
    targets.push(Target::at_most("idle cluster, of one core", 0.5, " %", percent));
    Ok(())
}

/// All nodes on disk, holding the same counters and with nothing left to tell or to write.
fn filled(counters: usize, proxied: bool) -> io::Result<Nodes> {
    let nodes = Nodes::start(NODES, Place::Disk, proxied, Line::Plain)?;
    for number in 0..counters {
        let session = session(number);
        assert!(nodes.nodes[0].acquire(&call(NORMAL, &session)).is_allowed(), "there is room");
    }
    until("all have all counters", || {
        nodes.nodes.iter().all(|node| node.counters().len() == counters)
    });
    nodes.flush();
    thread::sleep(std::time::Duration::from_secs(2));
    Ok(nodes)
}
