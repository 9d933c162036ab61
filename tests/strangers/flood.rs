//! Connections without end, each closed by a reset.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tallymesh_test_support::hostile::{Hostile, frame, hello};
use tallymesh_test_support::until;

use super::{MIB, PATIENCE, Pair, counter, is_connected, key, resident, stranger};

/// What those who connect begin with: nothing, a true hello, or a record that no key opens.
fn words(number: u32) -> Vec<u8> {
    match number % 3 {
        0 => Vec::new(),
        1 => frame(&[hello(&stranger(number.into()))]),
        _ => [&96_u16.to_be_bytes()[..], &[number as u8; 96]].concat(),
    }
}

/// Opens `count` connections to these, or as many as it can in ten seconds, `at_once` of them at a time; returns how many it tried
/// and how many came about.
async fn open_and_reset(to: [SocketAddr; 2], count: u32, at_once: u32) -> (u64, u64) {
    let (next, made) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let end = tokio::time::Instant::now() + Duration::from_secs(10);
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..at_once {
        let (next, made) = (next.clone(), made.clone());
        all.spawn(async move {
            loop {
                if tokio::time::Instant::now() >= end {
                    return;
                }
                let number = next.fetch_add(1, Ordering::Relaxed) as u32;
                if number >= count {
                    return;
                }
                let connected = Hostile::connect(to[number as usize % 2], number / 16);
                let patience = Duration::from_secs(1);
                if let Ok(Ok(mut peer)) = tokio::time::timeout(patience, connected).await {
                    made.fetch_add(1, Ordering::Relaxed);
                    let _ = peer.send(&words(number)).await;
                    peer.reset();
                }
            }
        });
    }
    while let Some(ended) = all.join_next().await {
        ended.unwrap();
    }
    (next.load(Ordering::Relaxed).min(count.into()), made.load(Ordering::Relaxed))
}

/// Two good nodes count all the while that strangers come and go. Returns what was measured, in a line.
async fn flood(count: u32, at_once: u32) -> String {
    let pair = Pair::open(Some(key())).await;
    let before = resident();
    let to = [&pair.a, &pair.b].map(|store| store.address().unwrap());
    // A thread of its own, as an attacker has a machine of its own.
    let is_over = Arc::new(AtomicBool::new(false));
    let over = is_over.clone();
    let attacker = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let started = runtime.block_on(async { tokio::time::Instant::now() });
        let made = runtime.block_on(open_and_reset(to, count, at_once));
        over.store(true, Ordering::Release);
        (made, started.elapsed())
    });
    let load = counter("load");
    let (mut counted, mut most, mut converged) = (0, before, 0);
    while !is_over.load(Ordering::Acquire) {
        for store in [&pair.a, &pair.b] {
            store.add(&load, 1).unwrap();
            counted += 1;
        }
        pair.converges("in the flood").await;
        converged += 1;
        most = most.max(resident());
        assert!(is_connected(&pair.a, "b") && is_connected(&pair.b, "a"));
    }
    let ((tried, made), took) = attacker.join().unwrap();
    until("no count is lost", PATIENCE, || {
        [&pair.a, &pair.b].iter().all(|store| store.value(&load) == counted)
    })
    .await;
    pair.is_untouched();
    assert!(converged > 0 && made > 0, "{made} of {tried} connections");
    let grown = most.max(resident()) - before;
    assert!(grown <= 64 * MIB, "{} MiB", grown / MIB);
    let refused: u64 =
        [&pair.a, &pair.b].iter().map(|one| one.rejections().strangers_refused).sum();
    pair.close().await;
    let rate = made as f64 / took.as_secs_f64();
    format!(
        "{made} connections of {tried}, {rate:.0} a second for {:.1} s; {refused} seen and refused; memory of nodes and attacker grew by {:.1} MiB; {counted} counted, 0 lost; converged {converged} times, 0 missed",
        took.as_secs_f64(),
        grown as f64 / MIB as f64
    )
}

#[tokio::test]
async fn two_thousand_resets() {
    println!("{}", flood(2_000, 16).await);
}

#[tokio::test]
#[ignore = "takes ten seconds: run it with --ignored --nocapture to see the figures"]
async fn resets_for_ten_seconds() {
    println!("{}", flood(100_000, 64).await);
}
