//! What it takes in memory and on disk when every counter changes again and again, and what is left when all have expired.

use std::path::Path;
use std::time::Duration;

use tallymesh::{CounterKey, CounterState, CounterStore, Marks, inspect};

use crate::Size;
use crate::measure::{MIB, config, disk_bytes, head, keys, now, resident_bytes, row};

/// Longer than until the next round of gossip, which gives the changes their versions.
const HARVESTED: Duration = Duration::from_millis(200);

pub fn run(dir: &Path, size: &Size) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the system gives us an event loop");
    runtime.block_on(grow(dir, size));
}

async fn grow(dir: &Path, size: &Size) {
    let keys = keys(size.counters);
    let dir = dir.join("node");
    let store = open(&dir, size.ttl_seconds).await;
    let before = resident_bytes();
    // Without any checkpoint: what the table notes of changes reaches its full size by this, too.
    for _ in 0..=size.rounds {
        count_in_each(&store, &keys);
        tokio::time::sleep(HARVESTED).await;
    }
    let filled = resident_bytes();
    println!(
        "{} counters, filled and changed {} times in memory with no checkpoint: {:.0} MiB. Storage in memory is what is \
         resident beyond that.\n",
        size.counters,
        size.rounds,
        (filled - before) / MIB
    );
    head(&["round", "seconds", "storage in memory", "disk", "disk / raw data"]);
    let (mut most_memory, mut most_ratio) = (0.0_f64, 0.0_f64);
    for round in 0..=size.rounds {
        let begun = now();
        if round > 0 {
            count_in_each(&store, &keys);
        }
        store.flush().await.expect("the disk works");
        let seconds = (now() - begun).as_secs_f64();
        let memory = resident_bytes() - filled;
        let (disk, raw) = (disk_bytes(&dir), raw_bytes(&store));
        (most_memory, most_ratio) = (most_memory.max(memory), most_ratio.max(disk / raw));
        row(&[
            round.to_string(),
            format!("{seconds:.1}"),
            format!("{:.0} MiB", memory / MIB),
            format!("{:.0} MiB", disk / MIB),
            format!("{:.1}", disk / raw),
        ]);
    }
    let raw = raw_bytes(&store);
    println!(
        "\nRaw data: {:.0} MiB, the bytes of the database's keys and values, computed from the counters by the disk format.\n\
         Most memory: {:.0} MiB (target: under 200). Most disk: {most_ratio:.1} times the raw data (target: under 5).\n",
        raw / MIB,
        most_memory / MIB
    );
    expire(&dir, store, size).await;
}

fn count_in_each(store: &CounterStore, keys: &[CounterKey]) {
    for key in keys {
        store.add(key, 1).expect("there is room");
    }
}

async fn expire(dir: &Path, store: CounterStore, size: &Size) {
    head(&["", "counters in memory", "live counters on disk", "disk"]);
    let begun = now();
    while !store.is_empty() {
        assert!((now() - begun).as_secs() < 2 * size.ttl_seconds + 60, "all counters expire");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let seconds = (now() - begun).as_secs();
    // A counter's end is written by one checkpoint, its tombstone by the next, and the one after that removes it.
    for _ in 0..3 {
        store.flush().await.expect("the disk works");
    }
    store.close().await.expect("the disk works");
    show(&format!("all expired, {seconds} s later, closed"), 0, dir);
    let store = open(dir, size.ttl_seconds).await;
    store.flush().await.expect("the disk works");
    let held = store.len();
    store.close().await.expect("the disk works");
    drop(store);
    show("opened (which compacts) and closed again", held, dir);
}

fn show(when: &str, in_memory: usize, dir: &Path) {
    let on_disk = inspect(dir).expect("the database is whole").counters.len();
    let disk = format!("{:.1} MiB", disk_bytes(dir) / MIB);
    row(&[when.to_owned(), in_memory.to_string(), on_disk.to_string(), disk]);
}

async fn open(dir: &Path, ttl_seconds: u64) -> CounterStore {
    CounterStore::open(config(dir, ttl_seconds)).await.expect("the directory is writable")
}

/// The bytes of all records of counters: those of other records do not matter beside them.
fn raw_bytes(store: &CounterStore) -> f64 {
    store.iter().map(|counter| record_bytes(&counter)).sum::<usize>() as f64
}

/// Length of a record by the disk format: `c` and the key; a CRC, and `[epoch, replaced, [generation, [at, p0, n0], cells]]` in
/// MessagePack, with the epoch and the replica's number under 128 and a checksum in `replaced`.
fn record_bytes(counter: &CounterState) -> usize {
    let cells = counter.cells.iter().map(|(_, cell)| {
        2 + integer_bytes(cell.version.0) + integer_bytes(cell.p) + integer_bytes(cell.n)
    });
    let Marks { at, p0, n0 } = counter.marks;
    let numbers = [u64::from(counter.generation), at, p0, n0].map(integer_bytes);
    let numbers = 1 + numbers.iter().sum::<usize>();
    1 + counter.key.as_bytes().len() + 4 + 1 + 1 + 5 + 1 + numbers + 1 + cells.sum::<usize>()
}

fn integer_bytes(number: u64) -> usize {
    match number {
        0..128 => 1,
        128..256 => 2,
        256..65_536 => 3,
        65_536..4_294_967_296 => 5,
        _ => 9,
    }
}
