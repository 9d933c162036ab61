//! How long a decision may be held up by replication and persistence.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use hdrhistogram::Histogram;
use tallymesh::{Limiter, ReplicaId, Request};

use crate::clock::{latencies, nanoseconds_since, now, timer_alone};
use crate::cluster::{self, address, node, open, runtime, until};
use crate::decisions::thousands;
use crate::keys::{TOOL, session, shuffled};
use crate::peers::{Decide, ShardedMap};
use crate::plot::{Axis, Plot};
use crate::process::bytes_written;
use crate::report::Report;
use crate::size::Size;
use crate::table::{Table, time};
use crate::target::{self, Target};
use crate::versions;

const LIMIT: &str = "calls";

/// One thread decides for all counters again and again, so that each round of gossip and each checkpoint has all of them to
/// do, and a peer changes them all as well.
pub fn run(size: &Size, report: &mut Report) -> io::Result<()> {
    let (runtime, directory) = (runtime(), cluster::directory());
    let limit = || cluster::limit(LIMIT, 1 << 40);
    let ours = open(&runtime, node("a", Some(&directory)).limit(limit()));
    let peers = [address(ours.counters())];
    let theirs = open(&runtime, node("b", None).peers(peers).limit(limit()));
    let sessions: Vec<String> = (0..size.counters).map(session).collect();
    let map = ShardedMap::new(sessions.iter().map(|session| format!("{session}/{TOOL}")).collect());
    let keys = shuffled(size.counters);
    note!("stalls: {} counters", size.counters);

    let mut alone = latencies();
    let begun = now();
    while now() - begun < size.watch {
        keys.iter().for_each(|key| timed(&mut alone, || map.decide(0, *key as usize)));
    }
    change_all(&theirs, &sessions);
    until("the peer's counters arrive", || ours.counters().len() == size.counters);

    let (mut measured, mut beside) = (latencies(), latencies());
    let before = (versions_of(&ours, &theirs), bytes_written());
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                change_all(&theirs, &sessions);
                thread::sleep(Duration::from_millis(50));
            }
        });
        let begun = now();
        while now() - begun < size.watch {
            for key in &keys {
                let request = request(&sessions[*key as usize]);
                timed(&mut measured, || ours.acquire(&request).is_allowed());
                timed(&mut beside, || map.decide(0, *key as usize));
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    let after = (versions_of(&ours, &theirs), bytes_written());
    runtime
        .block_on(async { (theirs.close().await, ours.close().await) })
        .1
        .expect("the disk works");

    let rows = [
        ("the timer alone", timer_alone()),
        ("sharded map, nothing else running", alone),
        ("sharded map, in the same loop as tallymesh", beside),
        ("tallymesh `acquire`", measured),
    ];
    let mut table = Table::new(["", "p50", "p99", "p99.9", "p99.99", "max"]);
    for (name, measured) in &rows {
        let quantile = |quantile| time(measured.value_at_quantile(quantile) as f64);
        let cells = [0.5, 0.99, 0.999, 0.9999, 1.0].map(quantile);
        table.row([name.to_string()].into_iter().chain(cells));
    }
    report.text(&format!("Versions: {}, {}.", versions::of("tallymesh"), versions::of("dashmap")));
    report.text(&format!(
        "Meanwhile, in {} s: {} updates of its own harvested and sent, {} of the peer's merged, {} MB written to disk; {} counters, \
         all of them changed again and again by both.",
        size.watch.as_secs(),
        thousands((after.0.0 - before.0.0) as usize),
        thousands((after.0.1 - before.0.1) as usize),
        (after.1 - before.1) / 1_000_000,
        thousands(size.counters),
    ));
    report.text(&table);
    let p999 = rows[3].1.value_at_quantile(0.999) as f64 / 1e3;
    report.text(&target::table(&[Target::at_most("`acquire`, p99.9", 50.0, " µs", p999)]));
    report.text(&NOT_MEASURED);
    report.plot(plot(&rows)?);
    Ok(())
}

const NOT_MEASURED: &str = "Not measured: several callers; a slow disk. The peer, its changes, both nodes' threads and the caller share the \
    machine's cores, so the scheduler's own pauses are in the last two rows; the second of the three shows them without tallymesh's locks.";

fn request(session: &str) -> Request<'_> {
    Request::tool_call(session, TOOL).with("limit", LIMIT)
}

fn change_all(limiter: &Limiter, sessions: &[String]) {
    for session in sessions {
        assert!(limiter.acquire(&request(session)).is_allowed(), "there is always room");
    }
}

fn timed(measured: &mut Histogram<u64>, decide: impl FnOnce() -> bool) {
    let begun = now();
    let allowed = decide();
    measured.saturating_record(nanoseconds_since(begun));
    assert!(allowed, "there is always room");
}

/// How many updates of its own, and of the other's, a node holds.
fn versions_of(ours: &Limiter, theirs: &Limiter) -> (u64, u64) {
    let held = ours.counters().version_vector();
    let of = |replica: ReplicaId| held.watermark(&replica).0;
    (of(ours.counters().replica()), of(theirs.counters().replica()))
}

fn plot(rows: &[(&'static str, Histogram<u64>)]) -> io::Result<String> {
    let curve = |measured: &Histogram<u64>| {
        let nines = (2..=20).map(|quarter| 10_f64.powf(f64::from(quarter) / 4.0));
        let within = nines.take_while(|one_in| *one_in < measured.len() as f64);
        let at = |one_in: f64| measured.value_at_quantile(1.0 - 1.0 / one_in) as f64 / 1e3;
        within.map(|one_in| (one_in, at(one_in))).collect()
    };
    let series = rows.iter().map(|(name, measured)| (name.replace('`', ""), curve(measured)));
    Plot {
        title: "One decision in so many takes longer than this",
        x: Axis::logarithmic("one in"),
        y: Axis::logarithmic("microseconds"),
        series: series.collect(),
    }
    .svg()
}
