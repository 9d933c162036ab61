//! From a decision on one node to its being visible on another.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use hdrhistogram::Histogram;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::nodes::{INTERVAL_MS, Line, NORMAL, Nodes, URGENT, call};
use crate::clock::{latencies, nanoseconds_since, now};
use crate::peers::{Place, RedisServer};
use crate::plot::{Axis, Plot};
use crate::report::Report;
use crate::size::Size;
use crate::table::{Table, time};
use crate::target::Target;

pub fn run(
    size: &Size,
    server: Option<&RedisServer>,
    report: &mut Report,
    targets: &mut Vec<Target>,
) -> io::Result<()> {
    note!("propagation: from node to node");
    let mut rows =
        vec![("loopback TCP, 100 bytes there and back, halved", half_round_trips(size.changes)?)];
    for (line, names) in [
        (Line::Plain, ["tallymesh, urgent", "tallymesh, normal"]),
        (Line::Encrypted, ["tallymesh with a key, urgent", "tallymesh with a key, normal"]),
    ] {
        let nodes = Nodes::start(3, Place::Disk, false, line)?;
        for (limit, name) in [URGENT, NORMAL].into_iter().zip(names) {
            rows.push((name, visible_after(&nodes, limit, size.changes)));
        }
        nodes.close();
    }
    if let Some(server) = server {
        rows.push((
            "Redis, `INCR` on one connection, `GET` on another",
            through_redis(server, size.changes),
        ));
    }
    let mut table = Table::new(["one change, until another sees it", "p50", "p99", "max"]);
    for (name, measured) in &rows {
        let cells =
            [0.5, 0.99, 1.0].map(|quantile| time(measured.value_at_quantile(quantile) as f64));
        table.row([name.to_string()].into_iter().chain(cells));
    }
    report.text(&format!(
        "### From `acquire` on A to visible on B\n\n{} changes each, interval {INTERVAL_MS} ms.",
        size.changes
    ));
    report.text(&table);
    let p99 = |row: usize| rows[row].1.value_at_quantile(0.99) as f64 / 1e6;
    let bound = INTERVAL_MS + 5.0;
    for (name, most, row) in [
        ("urgent change visible, p99", 3.0, 1),
        ("normal change visible, p99", bound, 2),
        ("urgent change visible with a key, p99", 3.0, 3),
        ("normal change visible with a key, p99", bound, 4),
    ] {
        targets.push(Target::at_most(name, most, " ms", p99(row)));
    }
    report.plot(plot(&rows)?);
    Ok(())
}

fn visible_after(nodes: &Nodes, limit: &str, changes: usize) -> Histogram<u64> {
    let (here, there) = (&nodes.nodes[0], nodes.nodes[1].counters());
    let mut random = StdRng::seed_from_u64(1);
    let mut measured = latencies();
    for change in 0..changes {
        // At any moment between two rounds.
        thread::sleep(Duration::from_secs_f64(random.random_range(0.0..INTERVAL_MS / 1e3)));
        let session = format!("session-{change:08}");
        let keys = here.keys(&call(limit, &session));
        let value = || keys.iter().map(|key| there.value(key)).sum::<u64>();
        let begun = now();
        assert!(here.acquire(&call(limit, &session)).is_allowed(), "it is new");
        while value() == 0 {
            thread::yield_now();
        }
        measured.saturating_record(nanoseconds_since(begun));
    }
    measured
}

/// The least that any message takes.
fn half_round_trips(count: usize) -> io::Result<Histogram<u64>> {
    let listening = TcpListener::bind("127.0.0.1:0")?;
    let mut near = TcpStream::connect(listening.local_addr()?)?;
    let (mut far, _) = listening.accept()?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let echo = thread::spawn(move || {
        let mut bytes = [0; 100];
        while far.read_exact(&mut bytes).and_then(|()| far.write_all(&bytes)).is_ok() {}
    });
    let (mut measured, mut bytes) = (latencies(), [0; 100]);
    for _ in 0..count.max(1_000) {
        let begun = now();
        near.write_all(&bytes)?;
        near.read_exact(&mut bytes)?;
        measured.saturating_record(nanoseconds_since(begun) / 2);
    }
    drop(near);
    echo.join().expect("the echo ends with its connection");
    Ok(measured)
}

fn through_redis(server: &RedisServer, changes: usize) -> Histogram<u64> {
    let (mut here, mut there) = (server.connect(), server.connect());
    let mut measured = latencies();
    for change in 0..changes {
        let key = format!("visible-{change}");
        let begun = now();
        redis::cmd("INCR").arg(&key).exec(&mut here).expect("the server runs");
        let value: u64 = redis::cmd("GET").arg(&key).query(&mut there).expect("the server runs");
        measured.saturating_record(nanoseconds_since(begun));
        assert_eq!(value, 1);
    }
    measured
}

fn plot(rows: &[(&'static str, Histogram<u64>)]) -> io::Result<String> {
    let curve = |measured: &Histogram<u64>| {
        let at = |percent: u32| measured.value_at_quantile(f64::from(percent) / 100.0) as f64 / 1e6;
        (1..=100).map(|percent| (at(percent), f64::from(percent))).collect()
    };
    let short = |name: &str| {
        name.split(", `").next().unwrap_or(name).replace(", 100 bytes there and back, halved", "")
    };
    Plot {
        title: "A change on one node is visible on another",
        x: Axis::logarithmic("milliseconds"),
        y: Axis::linear("% of changes"),
        series: rows.iter().map(|(name, measured)| (short(name), curve(measured))).collect(),
    }
    .svg()
}
