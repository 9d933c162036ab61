//! A node under load is killed at random moments (by SIGKILL; on Windows by TerminateProcess), opened again, and held to what it had
//! acknowledged.
//!
//! `TALLYMESH_CRASH_CYCLES` sets how often (100; half of it where durability is relaxed), `TALLYMESH_SEED` draws the same
//! moments again.

mod ledger;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Duration;

use ledger::Ledger;
use rand::RngExt;
use rand::rngs::StdRng;
use tallymesh::{Config, Limiter};
use tallymesh_test_support::load::{self, Load, SESSIONS};
use tallymesh_test_support::{child, seed};

const EVERY: Duration = Duration::from_millis(20);
/// What a checkpoint of four counters may take on a busy machine with a slow disk, beside the time between two of them.
const CHECKPOINT: Duration = Duration::from_millis(100);

fn cycles() -> u64 {
    seed::number("TALLYMESH_CRASH_CYCLES").unwrap_or(100)
}

fn load(dir: &Path) -> Load {
    Load {
        data_dir: dir.join("a"),
        report_to: None,
        every: None,
        peer: None,
        lives: 1,
        callers: 1,
        calls: u64::MAX,
        beside: 0,
        durable: false,
        flushes: false,
    }
}

/// When to kill: this long after this many lines of the child's report.
struct Moment {
    lines: usize,
    delay: Duration,
}

impl Moment {
    /// One in eight is in the opening, the others are under load, of all orders of magnitude.
    fn draw(random: &mut StdRng) -> Moment {
        let lines = match random.random_range(0..8) {
            0 => 0,
            _ => 1 << random.random_range(3..11_u32),
        };
        let lines = if lines == 0 { 0 } else { random.random_range(lines..lines * 2) };
        let most = if lines == 0 { 60_000 } else { 5_000 };
        Moment { lines, delay: Duration::from_micros(random.random_range(0..most)) }
    }

    fn of_no_return() -> Moment {
        Moment { lines: 2 + SESSIONS.len(), delay: Duration::ZERO }
    }
}

/// One life of the child, from its start to its kill: the lines that it reported.
fn live_and_die(load: &Load, moment: &Moment) -> Vec<String> {
    let mut child = child::spawn(load, |_| {});
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut report: Vec<String> = lines.by_ref().take(moment.lines).collect();
    // The moment itself is the condition that is waited for.
    std::thread::sleep(moment.delay);
    let ended_before = child.try_wait().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    // Whatever it had said by then is still in the pipe.
    report.extend(lines);
    if let Some(status) = ended_before {
        let last = &report[report.len().saturating_sub(20)..];
        panic!("the child ended by itself, with {status}:\n{}", last.join("\n"));
    }
    report
}

/// Does nothing unless [`child::spawn`] asks for it.
#[test]
fn a_process_of_its_own_runs_the_load_that_it_is_asked_to() {
    child::run_if_asked();
}

#[test]
fn nothing_acknowledged_is_missing_after_a_kill() {
    let (seed, mut random) = seed::generator();
    let dir = tempfile::tempdir().unwrap();
    let load = Load { durable: true, callers: 3, ..load(dir.path()) };
    let mut ledger = Ledger::new(true);
    for cycle in 0..cycles() {
        let context = format!("seed {seed}, cycle {cycle}");
        ledger.enter(&live_and_die(&load, &Moment::draw(&mut random)), &context);
    }
    ledger.enter(&live_and_die(&load, &Moment::of_no_return()), "the last look");
    assert!(ledger.acknowledged() > cycles() * 10, "it was under load");
    eprintln!("{} lives, {} calls acknowledged", ledger.lives(), ledger.acknowledged());
}

#[test]
fn a_kill_under_relaxed_durability_loses_the_calls_of_one_checkpoint_at_the_most() {
    let (seed, mut random) = seed::generator();
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::new(false);
    let (mut lost, mut flushed_before) = (Vec::new(), false);
    for cycle in 0..cycles() / 2 {
        // What a flush had covered is certain; without any, only the time between checkpoints bounds what is lost.
        let flushes = cycle % 4 == 0;
        let load = Load { every: Some(EVERY), flushes, ..load(dir.path()) };
        let mut moment = Moment::draw(&mut random);
        // Most lives must be longer than what may be lost.
        moment.lines *= 4;
        let report = live_and_die(&load, &moment);
        // What is told is the end of the life before.
        let newly_lost = ledger.enter(&report, &format!("seed {seed}, cycle {cycle}"));
        lost.extend(newly_lost.filter(|_| !flushed_before));
        flushed_before = flushes;
    }
    lost.sort_unstable();
    eprintln!("time lost: {lost:?}");
    // One life of a process that the machine left waiting proves nothing, so this is a bound on nine in ten.
    let most = lost.get(lost.len() * 9 / 10).copied().unwrap_or_default();
    assert!(most <= EVERY + CHECKPOINT, "seed {seed}: one kill in ten lost {most:?} or more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn nothing_that_a_live_peer_had_heard_of_is_missing_after_a_kill() {
    let (seed, mut random) = seed::generator();
    let dir = tempfile::tempdir().unwrap();
    let settings = Config::builder("b").in_memory().listen("127.0.0.1:0").limit(load::limit());
    let peer = settings.gossip_interval(Duration::from_millis(5)).build().unwrap();
    let peer = Limiter::open(peer).await.unwrap();
    let address = peer.counters().address().unwrap().to_string();
    // Checkpoints so rare that what comes back comes from the peer.
    let every = Some(Duration::from_secs(60));
    let load = Load { every, peer: Some(address), ..load(dir.path()) };
    let mut ledger = Ledger::new(false);
    for cycle in 0..cycles() / 2 {
        let report = live_and_die(&load, &Moment::draw(&mut random));
        ledger.enter(&report, &format!("seed {seed}, cycle {cycle}"));
        for (index, session) in SESSIONS.iter().enumerate() {
            ledger.is_held_elsewhere(index, load::value(&peer, session));
        }
    }
    ledger.enter(&live_and_die(&load, &Moment::of_no_return()), "the last look");
    assert!(ledger.found() > cycles(), "the peer heard of some");
    peer.close().await.unwrap();
}
