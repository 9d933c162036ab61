//! Durable calls, beside what the disk takes for a write of 4 KiB and an fdatasync.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use hdrhistogram::Histogram;
use tallymesh::{Config, Limit, Limiter, Request, Window};

use crate::Size;
use crate::measure::{head, latencies, milliseconds, now, row};

const CALLERS: &[usize] = &[1, 8, 64];

pub fn run(dir: &Path, size: &Size) {
    let time = Duration::from_secs(size.seconds);
    head(&["", "calls/s", "p50", "p99", "max"]);
    show("write of 4 KiB and fdatasync", &write_and_sync(dir, time), time);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("the system gives us an event loop");
    for callers in CALLERS {
        let dir = dir.join(format!("callers-{callers}"));
        let measured = runtime.block_on(acquire_durable(&dir, *callers, time));
        let plural = if *callers == 1 { "" } else { "s" };
        show(&format!("acquire_durable, {callers} caller{plural}"), &measured, time);
    }
    show("write of 4 KiB and fdatasync, again", &write_and_sync(dir, time), time);
    println!(
        "\nTarget: p99 under 10 ms where fdatasync takes under 1 ms; thousands of calls/s with 64 callers."
    );
}

/// In a file that has its full size already, so that a sync writes data and no size, as in a database.
fn write_and_sync(dir: &Path, time: Duration) -> Histogram<u64> {
    const BLOCK: usize = 4096;
    const BLOCKS: u64 = 4096;
    let path = dir.join("raw");
    let file = File::create(&path).expect("the directory is writable");
    for place in 0..BLOCKS {
        file.write_all_at(&[1; BLOCK], place * BLOCK as u64).expect("the disk has room");
    }
    file.sync_all().expect("the disk works");
    let mut measured = latencies();
    let (start, mut place) = (now(), 0);
    while now() - start < time {
        let begun = now();
        file.write_all_at(&[place as u8; BLOCK], place * BLOCK as u64).expect("the disk works");
        file.sync_data().expect("the disk works");
        measured.saturating_record((now() - begun).as_nanos() as u64);
        place = (place + 1) % BLOCKS;
    }
    measured
}

async fn acquire_durable(dir: &Path, callers: usize, time: Duration) -> Histogram<u64> {
    let window = Window::Session { ttl: Duration::from_secs(3600) };
    let limit = Limit::new("calls", 1 << 40, window).per("session");
    let config = Config::builder("bench").data_dir(dir).limit(limit).build();
    let limiter = Limiter::open(config.expect("the settings are valid")).await;
    let limiter = limiter.expect("the directory is writable");
    let start = now();
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let limiter = limiter.clone();
            tokio::spawn(async move {
                let (mut measured, mut calls) = (latencies(), 0);
                while now() - start < time {
                    // A hundred sessions for each caller.
                    let session = format!("session-{caller}-{}", calls % 100);
                    let request = Request::tool_call(&session, "book_service");
                    let begun = now();
                    let decision = limiter.acquire_durable(&request).await;
                    measured.saturating_record((now() - begun).as_nanos() as u64);
                    assert!(decision.expect("the disk works").is_allowed());
                    calls += 1;
                }
                measured
            })
        })
        .collect();
    let mut measured = latencies();
    for task in tasks {
        measured.add(task.await.expect("the caller ran to its end")).expect("equal bounds");
    }
    limiter.close().await.expect("the disk works");
    measured
}

fn show(name: &str, measured: &Histogram<u64>, time: Duration) {
    let per_second = measured.len() as f64 / time.as_secs_f64();
    let quantile = |quantile| milliseconds(measured.value_at_quantile(quantile));
    let max = milliseconds(measured.max());
    row(&[name.to_owned(), format!("{per_second:.0}"), quantile(0.5), quantile(0.99), max]);
}
