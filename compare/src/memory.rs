//! What a counter takes in memory.

use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use clap::ValueEnum;
use governor::{Quota, RateLimiter};
use tallymesh::{CounterKey, CounterStore};

use crate::cluster::{self, address, node, runtime, until};
use crate::decisions::thousands;
use crate::peers::{Answer, Limitador, Map, Redis, RedisServer};
use crate::process::{resident_bytes, resident_bytes_of};
use crate::report::Report;
use crate::size::Size;
use crate::table::Table;
use crate::target::{self, Target};
use crate::versions;

/// Whose memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Subject {
    Tallymesh,
    TallymeshInMemory,
    ShardedMap,
    Governor,
    Limitador,
}

const KEY_BYTES: usize = 42;
const REPLICAS: usize = 3;

/// Each in a process of its own: what is resident after it was filled, less what was resident before.
pub fn run(size: &Size, report: &mut Report) -> io::Result<()> {
    let counters = size.counters_in_memory;
    let mut table = Table::new(["", "replicas", "bytes a counter"]);
    let mut row = |name: &str, replicas: usize, bytes: f64| {
        table.row([name.to_owned(), replicas.to_string(), format!("{bytes:.0}")]);
    };
    let bytes = |subject| bytes_in_a_process_of_its_own(subject, counters);
    let ours = bytes(Subject::Tallymesh)?;
    let in_memory = bytes(Subject::TallymeshInMemory)?;
    row("tallymesh, sled's cache included", REPLICAS, ours);
    row("tallymesh, in memory", REPLICAS, in_memory);
    row("sharded map", 1, bytes(Subject::ShardedMap)?);
    row("governor", 1, bytes(Subject::Governor)?);
    row("limitador", 1, bytes(Subject::Limitador)?);
    if let Some(server) = RedisServer::start() {
        row("Redis, keys that expire", 1, of_redis(&server, counters));
    }
    let packages = ["tallymesh", "governor", "limitador", "dashmap"].map(versions::of);
    let server = versions::of_redis_server().unwrap_or("no Redis server".to_owned());
    report.text(&format!("Versions: {}, {server}.", packages.join(", ")));
    report.text(&format!("{} counters, keys of {KEY_BYTES} bytes.", thousands(counters)));
    report.text(&table);
    report.text(&target::table(&[
        Target::at_most("tallymesh, in memory", 250.0, " bytes", in_memory),
        Target::at_most("tallymesh, sled's cache included", 250.0, " bytes", ours),
    ]));
    report.text(&NOT_MEASURED);
    Ok(())
}

const NOT_MEASURED: &str = "Not measured: other allocators than the system's; memory after counters have come and gone. The other two replicas \
    of tallymesh are processes of their own that send all their counters by gossip. limitador's key holds the labels' names besides.";

fn bytes_in_a_process_of_its_own(subject: Subject, counters: usize) -> io::Result<f64> {
    let value = subject.to_possible_value().expect("no subject is skipped");
    note!("memory: {}", value.get_name());
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["fill", value.get_name(), &counters.to_string()]).stderr(Stdio::inherit());
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().map_err(|_| io::Error::other(format!("{subject:?} said {text:?}")))
}

/// Fills one of them, and prints how many bytes a counter takes.
pub fn fill(subject: Subject, counters: usize) -> io::Result<()> {
    let keys = || (0..counters).map(|number| format!("{number:0KEY_BYTES$}"));
    let bytes = match subject {
        Subject::Tallymesh | Subject::TallymeshInMemory => {
            return fill_tallymesh(subject, counters);
        }
        Subject::ShardedMap => grown(|| {
            let map = Map::default();
            keys().for_each(|key| {
                map.insert(key, 0);
            });
            map
        }),
        Subject::Governor => grown(|| {
            let limiter = RateLimiter::keyed(Quota::per_second(std::num::NonZeroU32::MAX));
            keys().for_each(|key| assert!(limiter.check_key(&key).is_ok(), "there is room"));
            limiter
        }),
        Subject::Limitador => grown(|| Limitador::filled(keys(), counters)),
    };
    out!("{}", bytes / counters as f64);
    Ok(())
}

fn grown<T>(fill: impl FnOnce() -> T) -> f64 {
    let before = resident_bytes();
    let filled = fill();
    let after = resident_bytes();
    drop(filled);
    after - before
}

fn fill_tallymesh(subject: Subject, counters: usize) -> io::Result<()> {
    let others = [Replica::start("b", counters)?, Replica::start("c", counters)?];
    let peers = others.each_ref().map(|other| other.address.clone());
    let (runtime, directory) = (runtime(), cluster::directory());
    let directory = (subject == Subject::Tallymesh).then_some(&directory);
    let before = resident_bytes();
    let settings = node("a", directory).peers(peers).build().expect("the settings are valid");
    let store = runtime.block_on(CounterStore::open(settings)).expect("the directory is ours");
    add_all(&store, counters);
    until("all replicas' counters are here", || {
        let held = store.version_vector();
        held.iter().filter(|(_, version)| version.0 >= counters as u64).count() == REPLICAS
    });
    runtime.block_on(store.flush()).expect("the disk works");
    let bytes = resident_bytes() - before;
    assert!(store.iter().all(|counter| counter.cells.len() == REPLICAS), "a cell is missing");
    assert_eq!(store.len(), counters);
    out!("{}", bytes / counters as f64);
    Ok(())
}

fn add_all(store: &CounterStore, counters: usize) {
    for number in 0..counters {
        let key = CounterKey::new("calls", &[&format!("{number:031}")]).expect("a short key");
        assert_eq!(key.as_bytes().len(), KEY_BYTES);
        store.add(&key, 1).expect("there is room");
    }
}

/// Another node, in a process of its own.
struct Replica {
    process: Child,
    address: String,
}

impl Replica {
    fn start(name: &str, counters: usize) -> io::Result<Replica> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["replica", name, &counters.to_string()]);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let output = process.stdout.take().expect("it is piped");
        let mut address = String::new();
        BufReader::new(output).read_line(&mut address)?;
        Ok(Replica { process, address: address.trim().to_owned() })
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Is a node with all counters, until standard input ends.
pub fn replicate(name: &str, counters: usize) -> io::Result<()> {
    let runtime = runtime();
    let settings = node(name, None).build().expect("the settings are valid");
    let store = runtime.block_on(CounterStore::open(settings)).expect("there is a port");
    add_all(&store, counters);
    out!("{}", address(&store));
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn of_redis(server: &RedisServer, counters: usize) -> f64 {
    let before = resident_bytes_of(server.process());
    let keys: Vec<String> = (0..counters).map(|number| format!("{number:0KEY_BYTES$}")).collect();
    Redis::new(server, 0, keys, Answer::Allowed);
    (resident_bytes_of(server.process()) - before) / counters as f64
}
