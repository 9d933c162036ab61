//! How long it takes to open a directory with many counters, each with the cells of three replicas.

use std::path::Path;

use tallymesh::CounterStore;

use crate::Size;
use crate::measure::{MIB, config, disk_bytes, head, keys, now, row};

/// Every life of a node is a replica of its own.
const LIVES: usize = 3;
const OPENINGS: usize = 3;
const TTL_SECONDS: u64 = 24 * 3600;

pub fn run(dir: &Path, size: &Size) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the system gives us an event loop");
    let dir = dir.join("node");
    runtime.block_on(async {
        fill(&dir, size).await;
        reopen(&dir, size).await;
    });
}

async fn fill(dir: &Path, size: &Size) {
    let keys = keys(size.counters);
    for _ in 0..LIVES {
        let store = CounterStore::open(config(dir, TTL_SECONDS)).await.expect("it is writable");
        for key in &keys {
            store.add(key, 1).expect("there is room");
        }
        store.close().await.expect("the disk works");
    }
}

async fn reopen(dir: &Path, size: &Size) {
    head(&["", "seconds", "counters", "cells each", "disk"]);
    for opening in 1..=OPENINGS {
        // A plain read of the file beside it: what the disk, or its cache, allows.
        let begun = now();
        let bytes = std::fs::read(dir.join("db/db")).expect("the database is there").len();
        let read = (now() - begun).as_secs_f64();
        let begun = now();
        let store = CounterStore::open(config(dir, TTL_SECONDS)).await.expect("it is readable");
        let seconds = (now() - begun).as_secs_f64();
        assert_eq!(store.len(), size.counters);
        let cells = store.iter().map(|counter| counter.cells.len()).min().unwrap_or(0);
        store.close().await.expect("the disk works");
        let none = String::new;
        let name = format!("read of the database's file, {:.0} MiB", bytes as f64 / MIB);
        row(&[name, format!("{read:.2}"), none(), none(), none()]);
        row(&[
            format!("CounterStore::open, time {opening}"),
            format!("{seconds:.2}"),
            size.counters.to_string(),
            cells.to_string(),
            format!("{:.0} MiB", disk_bytes(dir) / MIB),
        ]);
    }
    println!("\nTarget: under 4 seconds with 1,000,000 counters.");
}
