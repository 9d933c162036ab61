//! The log, over real sockets: what strangers bring about does not fill it, and where it cannot be written, nothing but the line is lost.
//! What becomes of a thread that panics is tested beside it, in `src/runtime/tests.rs`: from outside, none can be made to.

use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

use tallymesh::{Config, ConfigBuilder, CounterKey, CounterStore, Limiter, Request};
use tallymesh_core::wire::{Message, Outbox, PROTOCOLS};
use tallymesh_test_support::until;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tracing_subscriber::EnvFilter;

const PATIENCE: Duration = Duration::from_secs(30);

/// So many lines may all strangers together cause in 30 seconds.
const STRANGERS_LINES: usize = 32;

/// The log of this process, which all tests share.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static PANICS: AtomicBool = AtomicBool::new(false);
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

struct Log;

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        assert!(!PANICS.load(Ordering::Relaxed), "the log cannot be written");
        Write::write(&mut *log(), line)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn log() -> MutexGuard<'static, Vec<u8>> {
    LOG.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Begins an empty log, which is this test's until what is returned is dropped.
async fn begin_log() -> tokio::sync::MutexGuard<'static, ()> {
    static STARTED: Once = Once::new();
    let only = ONE_AT_A_TIME.lock().await;
    STARTED.call_once(|| {
        let filter = EnvFilter::new("warn,tallymesh=info");
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(false)
            .with_writer(|| Log)
            .init();
    });
    log().clear();
    only
}

fn lines_with(part: &str) -> usize {
    String::from_utf8_lossy(&log()).lines().filter(|line| line.contains(part)).count()
}

fn config(name: &str, dir: &Path) -> ConfigBuilder {
    Config::builder(name).data_dir(dir.join(name)).listen("127.0.0.1:0")
}

async fn open(config: ConfigBuilder) -> CounterStore {
    CounterStore::open(config.build().unwrap()).await.unwrap()
}

/// Two good nodes that have met.
async fn pair(dir: &Path) -> (CounterStore, CounterStore) {
    let a = open(config("a", dir)).await;
    let b = open(config("b", dir).peers([a.address().unwrap().to_string()])).await;
    converge(&a, &b, "first").await;
    (a, b)
}

/// What each counts reaches the other.
async fn converge(a: &CounterStore, b: &CounterStore, name: &str) {
    let key = CounterKey::new(name, &[]).unwrap();
    a.add(&key, 1).unwrap();
    b.add(&key, 1).unwrap();
    until("they converge", PATIENCE, || a.value(&key) == 2 && b.value(&key) == 2).await;
}

/// The first words of a stranger who says to be of this cluster.
fn hello(cluster: &str) -> Vec<u8> {
    let hello = Message::Hello {
        protocols: PROTOCOLS.to_vec(),
        replica: "stranger#1.7".parse().unwrap(),
        limits_digest: 0,
        cluster: cluster.to_owned(),
        advertised: None,
    };
    let mut outbox = Outbox::default();
    assert!(outbox.push(&hello, 64 * 1024).is_none());
    outbox.finish().unwrap()
}

/// Connects, says this, and waits until the connection is closed.
async fn say(node: &CounterStore, bytes: &[u8]) {
    let mut stream = TcpStream::connect(node.address().unwrap()).await.unwrap();
    // A node that closes while it is written to is no failure here, nor is a reset.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

#[tokio::test]
async fn four_hundred_strangers_do_not_crowd_out_the_complaint_over_a_peer() {
    let (_only, dir) = (begin_log().await, tempfile::tempdir().unwrap());
    let (a, b) = pair(dir.path()).await;
    // One that is read as it is meant: that of one's own cluster is met.
    say(&a, &hello("default")).await;
    until("it is met", PATIENCE, || lines_with("peer connected replica=stranger#1.") == 1).await;
    for number in 0..400 {
        say(&a, &hello(&format!("cluster-{number}"))).await;
    }
    until("all are refused", PATIENCE, || a.status().log_lines_dropped >= 400 - 32).await;
    let lines = lines_with("a node of the cluster \"cluster-");
    assert!((20..=STRANGERS_LINES).contains(&lines), "{lines} lines");
    converge(&a, &b, "second").await;
    assert!(a.health().reasons.is_empty(), "{:?}", a.health());

    // A real one: a peer that the config leads to is of another cluster.
    let c = open(config("c", dir.path()).cluster("elsewhere")).await;
    let address = c.address().unwrap();
    a.set_peers([b.address().unwrap().to_string(), address.to_string()]).await.unwrap();
    let complaint = format!("a node of the cluster \"elsewhere\" at {address} is refused");
    until("that is logged", PATIENCE, || lines_with(&complaint) == 1).await;
    for store in [a, b, c] {
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn garbage_from_fourteen_hundred_connections_is_a_few_lines() {
    let (_only, dir) = (begin_log().await, tempfile::tempdir().unwrap());
    let (a, b) = pair(dir.path()).await;
    for number in 0..1_400_u32 {
        // A length that is allowed, a wrong checksum, and what follows; or a length that is not.
        let length = if number.is_multiple_of(2) { 56 } else { u32::MAX - number };
        let mut bytes = [length.to_be_bytes(), number.to_be_bytes()].concat();
        bytes.extend([number as u8; 56]);
        say(&a, &bytes).await;
        if number.is_multiple_of(200) {
            converge(&a, &b, &number.to_string()).await;
        }
    }
    let (lines, bytes) = (lines_with("a connection was closed over its bytes"), log().len());
    assert!((1..=STRANGERS_LINES).contains(&lines), "{lines} lines");
    assert!(bytes < 16 * 1024, "{bytes} bytes of log, of both nodes");
    converge(&a, &b, "at last").await;
    a.close().await.unwrap();
    b.close().await.unwrap();
}

#[tokio::test]
async fn a_log_that_panics_costs_its_lines_and_nothing_else() {
    let (_only, dir) = (begin_log().await, tempfile::tempdir().unwrap());
    /// So that no other test has it, should this one fail.
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            PANICS.store(false, Ordering::Relaxed);
        }
    }
    let panics = Panics;
    PANICS.store(true, Ordering::Relaxed);
    let (a, b) = pair(dir.path()).await;
    for number in 0..100 {
        say(&a, &hello(&format!("cluster-{number}"))).await;
    }
    converge(&a, &b, "second").await;
    // A request that no limit applies to is logged by the thread that asks.
    let limiter = Limiter::open(config("c", dir.path()).build().unwrap()).await.unwrap();
    assert!(limiter.acquire(&Request::new().with("tool", "search")).is_allowed());
    assert_eq!(limiter.status().requests_unmatched, 1);
    for store in [&a, &b, limiter.counters()] {
        store.flush().await.unwrap();
        let status = store.status();
        assert_eq!((status.thread_restarts, status.health.reasons.len()), (0, 0), "{status:?}");
        assert!(status.log_lines_dropped > 0, "they are counted");
        store.close().await.unwrap();
    }
    drop(panics);
    assert!(log().is_empty());
}
