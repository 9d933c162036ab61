//! What a decision costs.

mod contenders;
mod rounds;
mod verdict;

use std::io;

use crate::clock::{latencies, timer_alone};
use crate::keys::Order;
use crate::peers::{Answer, RedisServer};
use crate::plot::{Axis, Plot};
use crate::report::Report;
use crate::size::Size;
use crate::table::{Table, time};
use crate::versions;

use contenders::{CONTENDERS, Contender};
use rounds::Scenario;
pub use rounds::thousands;

/// Callers at the most.
const CALLERS: usize = 2;
/// Decisions between two readings of the clock, where one decision is as quick as a reading.
const BATCH: usize = 100;

/// All contenders decide for the same keys in the same order, in rounds that take turns.
pub fn run(size: &Size, report: &mut Report) -> io::Result<()> {
    let server = RedisServer::start();
    report.text(&versions_line());
    let mut scenarios = Vec::new();
    let mut quantiles = Table::new(["keys", "", "p50", "p99", "p99.9"]);
    let mut hot = Table::new(["one key", "p50", "p99"]);
    let mut hot_medians = Vec::new();
    for keys in size.keys {
        for answer in Answer::ALL {
            note!("decisions: {keys} keys, {}", answer.name());
            let contenders = contenders::all(*keys, answer, CALLERS, server.as_ref());
            for order in Order::ALL {
                let sequence = order.sequence(*keys, 4 * size.operations);
                for callers in 1..=CALLERS {
                    let seconds = rounds::medians(&contenders, &sequence, callers, answer, size);
                    scenarios.push(Scenario { keys: *keys, answer, order, callers, seconds });
                }
                if (answer, order) == (Answer::Allowed, Order::Uniform) {
                    each_by_itself(&mut quantiles, *keys, &contenders, &sequence, size);
                }
            }
            if (*keys, answer) == (size.keys[0], Answer::Allowed) {
                hot_medians = one_hot_key(&mut hot, &contenders, size);
            }
        }
    }
    report.text(&"### Time per decision, one thread\n\nMedian of the rounds.");
    report.text(&times(&scenarios));
    report.text(&"### Million decisions a second, two threads\n\nIn brackets: how many times as many as one thread.");
    report.text(&throughputs(&scenarios));
    report.text(&"### Each decision by itself, one thread, uniform, allowed\n\nThe clock is read before and after each, \
                  which is part of every figure and shown in the first row.");
    report.text(&quantiles);
    report.text(&format!(
        "### One hot key, allowed\n\nThe clock is read once for {BATCH} decisions; a figure is a hundredth of that."
    ));
    report.text(&hot);
    report.text(&"### Targets");
    report.text(&verdict::table(&scenarios, &hot_medians, size));
    report.text(&NOT_MEASURED);
    report.plot(plot(&scenarios)?);
    Ok(())
}

const NOT_MEASURED: &str = "Not measured: requests that several limits match; new counters (all are warm); more than two \
    threads; peers' news arriving meanwhile (see stalls); an allocator other than the system's. Each peer is given what its API takes, \
    made beforehand: tallymesh session and tool as two strings and its key made of them in each decision, the others one string of \
    both (but \"governor, key made\" makes that string of the two in each decision, as a server has to), limitador a map. limitador makes its context of that map in each decision, as its server does, or has it made beforehand \
    (\"prepared\"). tallymesh writes to its data directory during its own rounds; between the rounds it is waited for, so that it \
    does not slow the others down. The sharded map only adds one: it has no limit, no clock, no expiry. Redis answers over a \
    connection of each thread's own.";

fn versions_line() -> String {
    let packages = ["tallymesh", "governor", "limitador", "dashmap", "redis"].map(versions::of);
    let server = versions::of_redis_server().unwrap_or("no Redis server".to_owned());
    format!(
        "Versions: {} (client), {server}. The sharded map is DashMap with ahash.",
        packages.join(", ")
    )
}

fn times(scenarios: &[Scenario]) -> Table {
    let mut table = Table::new(["keys", "order", "answer"].into_iter().chain(CONTENDERS));
    for scenario in scenarios.iter().filter(|scenario| scenario.callers == 1) {
        let cells = scenario.seconds.iter().map(|seconds| match seconds {
            Some(seconds) => time(seconds * 1e9),
            None => "–".to_owned(),
        });
        table.row(scenario.labels().into_iter().chain(cells));
    }
    table
}

fn throughputs(scenarios: &[Scenario]) -> Table {
    let mut table = Table::new(["keys", "order", "answer"].into_iter().chain(CONTENDERS));
    // Those of one thread and of two follow one another.
    for pair in scenarios.chunks_exact(CALLERS) {
        let cells = pair[0].seconds.iter().zip(&pair[1].seconds).map(|pair| match pair {
            (Some(one), Some(two)) => format!("{:.3} ({:.2}x)", 1e-6 / two, one / two),
            _ => "–".to_owned(),
        });
        table.row(pair[1].labels().into_iter().chain(cells));
    }
    table
}

fn each_by_itself(
    table: &mut Table,
    keys: usize,
    contenders: &[Contender],
    sequence: &[u32],
    size: &Size,
) {
    let mut row = |name: &str, measured: &hdrhistogram::Histogram<u64>| {
        let quantile = |quantile| time(measured.value_at_quantile(quantile) as f64);
        let cells = [0.5, 0.99, 0.999].map(quantile);
        table.row([thousands(keys), name.to_owned()].into_iter().chain(cells));
    };
    row("the timer alone", &timer_alone());
    for contender in contenders {
        let mut measured = latencies();
        contender.peer.time_each(&sequence[..contender.operations(size)], &mut measured);
        contender.peer.settle();
        row(contender.name, &measured);
    }
}

/// Nanoseconds by the contenders' order.
fn one_hot_key(
    table: &mut Table,
    contenders: &[Contender],
    size: &Size,
) -> Vec<(&'static str, f64)> {
    let mut medians = Vec::new();
    for contender in contenders {
        let batches = (contender.operations(size) / BATCH).max(3);
        let mut measured = latencies();
        contender.peer.time_hot(0, BATCH, batches, &mut measured);
        contender.peer.settle();
        let quantile = |quantile| measured.value_at_quantile(quantile) as f64 / BATCH as f64;
        table.row([contender.name.to_owned(), time(quantile(0.5)), time(quantile(0.99))]);
        medians.push((contender.name, quantile(0.5)));
    }
    medians
}

fn plot(scenarios: &[Scenario]) -> io::Result<String> {
    let shown = |scenario: &&Scenario| {
        (scenario.answer, scenario.order, scenario.callers) == (Answer::Allowed, Order::Uniform, 1)
    };
    let mut plot = Plot {
        title: "A decision, allowed, uniform order, one thread",
        x: Axis::logarithmic("keys"),
        y: Axis::logarithmic("nanoseconds"),
        series: Vec::new(),
    };
    for (place, name) in CONTENDERS.iter().enumerate() {
        let points = scenarios
            .iter()
            .filter(shown)
            .filter_map(|scenario| Some((scenario.keys as f64, scenario.seconds[place]? * 1e9)));
        plot.series.push((name.to_string(), points.collect()));
    }
    plot.svg()
}
