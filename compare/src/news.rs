//! How long news takes to the last node of a large cluster, and what it costs to tell every node.

use std::io;
use std::thread;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tallymesh::{Limiter, ReplicaId, Window};
use tokio::runtime::Runtime;

use crate::clock::now;
use crate::cluster::{self, address, limit, node, open, until};
use crate::keys::session;
use crate::process::processor_time;
use crate::propagation::{CountingProxy, INTERVAL_MS, NORMAL, call};
use crate::report::Report;
use crate::size::Size;
use crate::table::{Table, time};
use crate::target::{self, Target};

/// Nodes of a cluster, and from how many on its nodes pass news on instead of each telling all.
const CLUSTERS: [(usize, usize); 4] = [(40, 8), (40, 1_000), (100, 8), (100, 1_000)];
/// So many come to a cluster that is as large with each, and know one of its members.
const CLUSTER: usize = 10;
const ARRIVALS: usize = 20;
/// Longer than links and feeders take to settle.
const SETTLED: Duration = Duration::from_secs(3);
/// The one limit that all nodes are asked for.
const HOT: &str = "hot";
const HOT_MAX: u64 = 1_000;
const CALLS_PER_S: u64 = 2_000;

/// Nodes in this process, in memory.
pub fn run(size: &Size, report: &mut Report) -> io::Result<()> {
    let mut told = Table::new(["nodes", "told", "p50", "p99", "worst", "over a limit of 1,000"]);
    let mut cost = Table::new([
        "nodes",
        "told",
        "idle: of a core, a node",
        "bytes/s, a node",
        "one counter changes everywhere: of a core, a node",
        "bytes/s, a node",
    ]);
    let mut targets = Vec::new();
    for (count, direct_up_to) in CLUSTERS {
        let passes_on = direct_up_to < count;
        let way = if passes_on { "passed on" } else { "by each to all" };
        note!("news: {count} nodes, {way}");
        let nodes = Nodes::start(count, direct_up_to, false)?;
        let took = times_to_last(&nodes, size.changes.min(100));
        let over = overshoot(&nodes);
        let idle = nodes.processor_share(size.watch, &|| thread::sleep(Duration::from_millis(1)));
        let busy = nodes.processor_share(size.watch, &|| nodes.count_everywhere());
        nodes.close();
        // In another cluster, since the proxy takes time of its own.
        let nodes = Nodes::start(count, direct_up_to, true)?;
        let idle_bytes = nodes.bytes_per_s(size.watch, &|| thread::sleep(Duration::from_millis(1)));
        let busy_bytes = nodes.bytes_per_s(size.watch, &|| nodes.count_everywhere());
        nodes.close();

        let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
        let ms = |ms: f64| time(ms * 1e6);
        let count = count.to_string();
        let cells = [ms(at(0.5)), ms(at(0.99)), ms(at(1.0)), over.to_string()];
        told.row([count.clone(), way.to_owned()].into_iter().chain(cells));
        let percent = |share: f64| format!("{:.2} %", 100.0 * share);
        let bytes = |bytes: f64| format!("{bytes:.0}");
        let cells = [percent(idle), bytes(idle_bytes), percent(busy), bytes(busy_bytes)];
        cost.row([count.clone(), way.to_owned()].into_iter().chain(cells));
        let what = format!("{count} nodes, {way}: a count known by all, worst");
        targets.push(Target::at_most(what, 8.0 * INTERVAL_MS, " ms", at(1.0)));
        if count == "40" {
            let what = format!("{count} nodes, {way}: over, of a limit of 1,000");
            targets.push(Target::at_most(what, 1.0, " %", 100.0 * over as f64 / HOT_MAX as f64));
        }
    }
    note!("news: {ARRIVALS} arrivals");
    let arrived = arrivals();
    let worst = arrived.iter().copied().fold(0.0, f64::max);
    targets.push(Target::at_most(
        format!(
            "{CLUSTER} nodes: one that knows one of them is connected to all, worst of {ARRIVALS}"
        ),
        2_000.0,
        " ms",
        worst,
    ));
    report.text(&format!(
        "### From one count on any node to its being known by all\n\n{} counts each, interval {INTERVAL_MS} ms; and what {CALLS_PER_S} \
         calls a second, spread over all nodes, admit beyond one limit.",
        size.changes.min(100)
    ));
    report.text(&told);
    report.text(&format!(
        "### What it costs\n\nOver {} s. Busy, each node counts 20 times a second. Bytes are those of one node, both ways.",
        size.watch.as_secs_f64()
    ));
    report.text(&cost);
    let median = arrived[arrived.len() / 2];
    report.text(&format!(
        "### Arriving\n\nFrom a node's start, with the address of one of {CLUSTER} members and no DNS, until every member lists it as \
         connected: {} at the median of {ARRIVALS}, {} at worst.",
        time(median * 1e6),
        time(worst * 1e6)
    ));
    report.text(&"### Targets");
    report.text(&target::table(&targets));
    report.text(&"All nodes share this machine's cores: what one sends and another receives is paid here twice.");
    Ok(())
}

struct Nodes {
    nodes: Vec<Limiter>,
    /// What all links of the first node lead through, if that was asked for.
    proxy: Option<CountingProxy>,
    runtime: Runtime,
}

impl Nodes {
    /// All connected; each dials those before it.
    fn start(count: usize, direct_up_to: usize, proxied: bool) -> io::Result<Nodes> {
        let runtime = cluster::runtime();
        let (mut nodes, mut peers) = (Vec::<Limiter>::new(), Vec::new());
        let mut proxy = None;
        for number in 0..count {
            let one = Window::Session { ttl: Duration::from_secs(3600) };
            let settings = node(&format!("n{number}"), None)
                .peers(peers.clone())
                .direct_up_to(direct_up_to)
                .limit(limit(NORMAL, 1 << 40))
                .limit(tallymesh::Limit::new(HOT, HOT_MAX, one).when("limit", HOT));
            let opened = open(&runtime, settings);
            let mut at = address(opened.counters());
            if number == 0 && proxied {
                let through = CountingProxy::start(&at)?;
                at = through.address.clone();
                proxy = Some(through);
            }
            peers.push(at);
            nodes.push(opened);
        }
        until("all are connected", || {
            let connected =
                |node: &Limiter| node.peers().iter().filter(|peer| peer.connected).count();
            nodes.iter().all(|node| connected(node) + 1 >= count)
        });
        thread::sleep(SETTLED);
        Ok(Nodes { nodes, proxy, runtime })
    }

    fn count(&self, number: usize, limit: &str, session: &str) -> bool {
        self.nodes[number % self.nodes.len()].acquire(&call(limit, session)).is_allowed()
    }

    /// Counts once on each node, in the time of a round.
    fn count_everywhere(&self) {
        for number in 0..self.nodes.len() {
            assert!(self.count(number, NORMAL, "everywhere"), "there is room");
        }
        thread::sleep(Duration::from_secs_f64(INTERVAL_MS / 1e3));
    }

    /// How much of a core a node takes while something is done again and again.
    fn processor_share(&self, watch: Duration, work: &dyn Fn()) -> f64 {
        let (begun, before) = (now(), processor_time());
        while (now() - begun) < watch {
            work();
        }
        let took = processor_time() - before;
        took.as_secs_f64() / (now() - begun).as_secs_f64() / self.nodes.len() as f64
    }

    fn bytes_per_s(&self, watch: Duration, work: &dyn Fn()) -> f64 {
        let bytes = || self.proxy.as_ref().map_or(0, |proxy| proxy.bytes().0 + proxy.bytes().1);
        let (begun, before) = (now(), bytes());
        while (now() - begun) < watch {
            work();
        }
        (bytes() - before) as f64 / (now() - begun).as_secs_f64()
    }

    fn close(self) {
        for node in &self.nodes {
            self.runtime.block_on(node.close()).expect("nothing is written");
        }
    }
}

/// Milliseconds from a node's start, with the address of one member, until every member is connected to it, ascending. Each leaves
/// before the next one comes.
fn arrivals() -> Vec<f64> {
    let runtime = cluster::runtime();
    let mut nodes: Vec<Limiter> = Vec::new();
    let start = |name: &str, seed: Option<String>| open(&runtime, node(name, None).peers(seed));
    let seed = |nodes: &[Limiter]| nodes.first().map(|first| address(first.counters()));
    for number in 0..CLUSTER {
        let first = seed(&nodes);
        nodes.push(start(&format!("n{number}"), first));
    }
    let lists = |node: &Limiter, name: &str| {
        let is_it = |replica: &ReplicaId| replica.node.as_str() == name;
        node.peers().iter().any(|peer| peer.connected && peer.replica.as_ref().is_some_and(is_it))
    };
    until("all are connected", || {
        let connected = |node: &Limiter| node.peers().iter().filter(|peer| peer.connected).count();
        nodes.iter().all(|node| connected(node) + 1 >= CLUSTER)
    });
    let arrive = |number: usize| {
        let (name, begun) = (format!("pod{number}"), now());
        let pod = start(&name, seed(&nodes));
        until("every member lists it", || nodes.iter().all(|node| lists(node, &name)));
        let took = (now() - begun).as_secs_f64() * 1e3;
        runtime.block_on(pod.close()).expect("nothing is written");
        took
    };
    let mut took: Vec<f64> = (0..ARRIVALS).map(arrive).collect();
    took.sort_by(f64::total_cmp);
    for node in &nodes {
        runtime.block_on(node.close()).expect("nothing is written");
    }
    took
}

/// Milliseconds until every node has heard of a single count, ascending.
fn times_to_last(nodes: &Nodes, tries: usize) -> Vec<f64> {
    let mut random = StdRng::seed_from_u64(1);
    let mut took = Vec::with_capacity(tries);
    for number in 0..tries {
        // At any moment between two rounds.
        thread::sleep(Duration::from_secs_f64(random.random_range(1.0..2.0) * INTERVAL_MS / 1e3));
        let (at, session) = (random.random_range(0..nodes.nodes.len()), session(number));
        let keys = nodes.nodes[at].keys(&call(NORMAL, &session));
        let has = |node: &Limiter| keys.iter().all(|key| node.counters().value(key) > 0);
        let begun = now();
        assert!(nodes.count(at, NORMAL, &session), "there is room");
        until("all have heard of it", || nodes.nodes.iter().all(has));
        took.push((now() - begun).as_secs_f64() * 1e3);
    }
    took.sort_by(f64::total_cmp);
    took
}

/// What is admitted beyond a limit that calls on all nodes use up.
fn overshoot(nodes: &Nodes) -> u64 {
    let begun = now();
    let calls = 2 * HOT_MAX;
    let mut admitted = 0;
    for number in 0..calls {
        let due = Duration::from_secs_f64(number as f64 / CALLS_PER_S as f64);
        thread::sleep(due.saturating_sub(now() - begun));
        admitted += u64::from(nodes.count(number as usize, HOT, "all"));
    }
    admitted.saturating_sub(HOT_MAX)
}
