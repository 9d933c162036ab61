//! What one counter costs that very many replicas have counted in: a decision through a handle, a merge and a checkpoint, each
//! by itself and while the others go on.
//!
//! ```text
//! cargo bench -p tallymesh --bench large_counter             16,384 replicas, 5 seconds
//! cargo bench -p tallymesh --bench large_counter -- 2 131072 so many seconds, so many replicas
//! ```
//!
//! The checkpoints go to memory: what a disk costs is in the benchmark `disk`. What remains is what may hold a decision up.

#![allow(clippy::disallowed_methods, reason = "a benchmark reads the time")]

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tallymesh_core::crdt::{Marks, Update};
use tallymesh_core::id::{Incarnation, ReplicaId, Version};
use tallymesh_core::limit::{Demands, Limit, Matched, Policy, Request, Window};
use tallymesh_core::storage::{CheckpointWriter, MemoryStore, Meta};
use tallymesh_core::table::{Bounds, SlotRef, Table};
use tallymesh_core::time::Timestamp;

const NOW: Timestamp = Timestamp(1_790_000_000_000);
const TTL: Duration = Duration::from_secs(30 * 24 * 3600);
/// The time between two checkpoints.
const EVERY: Duration = Duration::from_millis(10);

fn main() {
    let numbers: Vec<u64> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let seconds = numbers.first().copied().unwrap_or(5);
    let replicas = numbers.get(1).copied().unwrap_or(16_384);
    let table = Table::new(replica("own", 1), Bounds::default(), [1, 2, 3, 4]);
    let policy = policy();
    let handle = Handle::new(&policy, &table);
    let key = handle.key.clone();
    let mut writer = CheckpointWriter::on(
        Box::new(MemoryStore::default()),
        Meta::first("own".parse().expect("a plain name"), 0),
        None,
    )
    .expect("memory takes it");

    let mut filling = histogram();
    for number in 0..replicas {
        timed(&mut filling, || merge(&table, &key, number, 1));
    }
    println!("one counter of {replicas} replicas\n");
    println!("{:<44} {:>9} {:>9} {:>9} {:>9}", "", "p50", "p99", "p99.9", "max");
    show("an insertion, while it grows", &filling);
    let mut first = histogram();
    timed(&mut first, || writer.write(&table, NOW).expect("memory takes it"));
    show("the first checkpoint", &first);

    let mut alone = histogram();
    (0..1_000_000).for_each(|_| timed(&mut alone, || handle.acquire(&table)));
    show("a decision by handle, alone", &alone);

    let stop = AtomicBool::new(false);
    let (mut decisions, mut merges, mut checkpoints) = (histogram(), histogram(), histogram());
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut version = 1;
            while !stop.load(Ordering::Relaxed) {
                version += 1;
                for number in (0..replicas).step_by(7) {
                    timed(&mut merges, || merge(&table, &key, number, version));
                    if number.is_multiple_of(64) {
                        thread::sleep(Duration::from_micros(100));
                    }
                }
            }
        });
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                timed(&mut checkpoints, || writer.write(&table, NOW).expect("memory takes it"));
                thread::sleep(EVERY);
            }
        });
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(seconds) {
            timed(&mut decisions, || handle.acquire(&table));
        }
        stop.store(true, Ordering::Relaxed);
    });
    show("a decision by handle, during all that", &decisions);
    show("a merge, during all that", &merges);
    show("a checkpoint, during all that", &checkpoints);
}

fn policy() -> Policy {
    let limit = Limit::new("calls", 1 << 50, Window::Session { ttl: TTL }).per("session");
    Policy::new([limit]).expect("the limit is valid")
}

/// What a meter keeps.
struct Handle<'a> {
    policy: &'a Policy,
    matched: Vec<Matched>,
    slot: SlotRef,
    key: Vec<u8>,
}

impl<'a> Handle<'a> {
    fn new(policy: &'a Policy, table: &Table) -> Handle<'a> {
        let mut demands = Demands::default();
        let request = Request::tool_call("fleet", "book");
        policy.find_demands(&request, NOW, 512, &mut demands).expect("it has the label");
        let matched = policy.matched(&demands, NOW);
        black_box(table.acquire(NOW, &demands));
        black_box(table.acquire(NOW, &demands));
        let key = demands.key(&demands.list[0]).to_vec();
        Handle { policy, matched, slot: table.resolve(&key), key }
    }

    fn acquire(&self, table: &Table) {
        let demand = self.policy.demand_under(self.matched[0].limit_index, NOW, 1);
        let admission = table.acquire_by_ref(NOW, &[demand], [self.slot]);
        assert!(black_box(admission).is_some(), "the counter stays where it is");
    }
}

fn replica(name: &str, boot: u64) -> ReplicaId {
    let incarnation = Incarnation { boot, nonce: 7 };
    ReplicaId { node: name.parse().expect("a plain name"), incarnation }
}

fn merge(table: &Table, key: &[u8], number: u64, version: u64) {
    let marks = Marks { at: NOW.0, p0: TTL.as_millis() as u64, n0: 0 };
    let update = Update {
        key: key.to_vec(),
        version: Version(version),
        generation: 0,
        p: version,
        n: 0,
        marks,
    };
    let pod = replica("pod", number + 1);
    let applied = table.apply(NOW, &pod, &[update]);
    assert_eq!(applied.implausible, 0);
    assert!(table.complete(&pod, Version(version - 1), Version(version)));
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are valid")
}

fn timed<T>(measured: &mut Histogram<u64>, run: impl FnOnce() -> T) {
    let begun = Instant::now();
    black_box(run());
    measured.saturating_record(begun.elapsed().as_nanos() as u64);
}

fn show(what: &str, measured: &Histogram<u64>) {
    let [p50, p99, p999, max] = [0.5, 0.99, 0.999, 1.0].map(|quantile| {
        let nanoseconds = measured.value_at_quantile(quantile) as f64;
        match nanoseconds {
            ..1e3 => format!("{nanoseconds:.0} ns"),
            ..1e6 => format!("{:.1} µs", nanoseconds / 1e3),
            _ => format!("{:.1} ms", nanoseconds / 1e6),
        }
    });
    println!("{what:<44} {p50:>9} {p99:>9} {p999:>9} {max:>9}");
}
