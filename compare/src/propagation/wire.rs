//! Bytes on the wire for each update.

use std::io;
use std::thread;
use std::time::Duration;

use super::counting_proxy::CountingProxy;
use super::nodes::{Line, NORMAL, Nodes, call};
use crate::cluster::until;
use crate::decisions::thousands;
use crate::keys::session;
use crate::peers::{Place, RedisServer};
use crate::report::Report;
use crate::size::Size;
use crate::table::Table;
use crate::target::Target;

/// What the target allows beside the key.
const BESIDE_THE_KEY: f64 = 26.0;
/// Longer than a round, a digest and its answer.
const QUIET: Duration = Duration::from_millis(2_500);
/// Changes that each wait for a round of their own.
const ONE_BY_ONE: usize = 20;

pub fn run(
    size: &Size,
    server: Option<&RedisServer>,
    report: &mut Report,
    targets: &mut Vec<Target>,
) -> io::Result<()> {
    note!("propagation: bytes on the wire");
    let changes = size.counters / 10;
    let nodes = Nodes::start(2, Place::Memory, true, Line::Plain)?;
    let (here, there) = (&nodes.nodes[0], nodes.nodes[1].counters());
    let keys = here.keys(&call(NORMAL, &session(0)));
    let key = keys.first().map_or(0, |key| key.as_bytes().len()) as f64;
    let change = |number: usize| {
        assert!(here.acquire(&call(NORMAL, &session(number))).is_allowed(), "there is room");
    };
    let count = |changes: usize, each: &dyn Fn(usize)| {
        thread::sleep(QUIET);
        let before = nodes.proxies[0].bytes();
        (0..changes).for_each(each);
        until("all changes have arrived", || there.len() >= changes);
        thread::sleep(QUIET);
        let after = nodes.proxies[0].bytes();
        // The other node dialed, so that this way is back.
        ((after.1 - before.1) as f64, (after.0 - before.0) as f64)
    };
    let begun = crate::clock::now();
    let idle = count(0, &|_| {});
    let idle_seconds = (crate::clock::now() - begun).as_secs_f64() - QUIET.as_secs_f64();
    let together = count(changes, &change);
    let rounds = Duration::from_millis(150);
    let one_by_one = count(ONE_BY_ONE, &|number| {
        change(number);
        thread::sleep(rounds);
    });
    nodes.close();

    let mut table = Table::new(["an update", "key", "bytes there", "bytes back"]);
    let mut row = |name: String, key: f64, (there, back): (f64, f64)| {
        table.row([name, format!("{key:.0}"), format!("{there:.1}"), format!("{back:.1}")]);
    };
    // What an idle link carries in the time, which is no cost of an update.
    let less_idle = |(there, back): (f64, f64), changes: usize, extra: Duration| {
        let times = 1.0 + extra.as_secs_f64() / idle_seconds;
        let of = |bytes: f64, idle: f64| (bytes - idle * times).max(0.0) / changes as f64;
        (of(there, idle.0), of(back, idle.1))
    };
    let together = less_idle(together, changes, Duration::ZERO);
    let one_by_one = less_idle(one_by_one, ONE_BY_ONE, rounds * ONE_BY_ONE as u32);
    row(format!("tallymesh, {} at once", thousands(changes)), key, together);
    row("tallymesh, one in a round".to_owned(), key, one_by_one);
    if let Some(server) = server {
        row(
            "Redis, `INCR` and `EXPIRE`, one decision".to_owned(),
            session(0).len() as f64,
            redis(server)?,
        );
    }
    report.text(&"### Bytes on the wire\n\nCounted by a proxy between two nodes, less what an idle link carries; no TCP or IP headers.");
    report.text(&table);
    let what = format!("bytes of an update beside its key, {} at once", thousands(changes));
    targets.push(Target::at_most(what, BESIDE_THE_KEY, "", together.0 - key));
    Ok(())
}

fn redis(server: &RedisServer) -> io::Result<(f64, f64)> {
    const DECISIONS: usize = 100;
    let proxy = CountingProxy::start(&server.address())?;
    let client = redis::Client::open(format!("redis://{}/", proxy.address));
    let client = client.expect("the address is valid");
    let mut connection = client.get_connection().expect("the server runs");
    let before = proxy.bytes();
    for number in 0..DECISIONS {
        let key = session(number);
        let mut pipeline = redis::pipe();
        pipeline.incr(&key, 1).expire(&key, 3600).exec(&mut connection).expect("the server runs");
    }
    let after = proxy.bytes();
    let each = |bytes: u64| bytes as f64 / DECISIONS as f64;
    Ok((each(after.0 - before.0), each(after.1 - before.1)))
}
