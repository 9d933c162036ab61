//! A log that cannot be written, and descriptors that run out: a node goes on beside a good peer.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::Value;
use tallymesh::{ClusterKey, Config, CounterKey, CounterStore};
use tallymesh_test_support::until;

use crate::PATIENCE;

/// A node that answers over HTTP, whose peer is `good`, and that is killed should the test fail.
struct Node {
    child: Child,
    http: String,
    gossip: String,
}

impl Drop for Node {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _ = self.child.kill();
    }
}

/// An address with a free port, one of those that the system gives only when asked for it, and no other test's.
fn address() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + (std::process::id() % 10_000) as u16;
    loop {
        let address = format!("127.0.0.1:{}", first + NEXT.fetch_add(1, Ordering::Relaxed));
        if TcpListener::bind(&address).is_ok() {
            return address;
        }
    }
}

impl Node {
    /// Started by `program` with `before` in front of its own arguments.
    fn start(
        (program, before): (&str, &[&str]),
        (dir, good): (&Path, &CounterStore),
        (out, log): (Stdio, Stdio),
    ) -> Node {
        Node::start_with(None, (program, before), (dir, good), (out, log))
    }

    /// The same with this key of the cluster, if there is one.
    fn start_with(
        key: Option<&ClusterKey>,
        (program, before): (&str, &[&str]),
        (dir, good): (&Path, &CounterStore),
        (out, log): (Stdio, Stdio),
    ) -> Node {
        let config = dir.join("b.toml");
        let (data, peer) = (dir.join("b"), good.address().unwrap());
        let (gossip, http) = (address(), address());
        let settings = format!(
            "[node]\nid = \"b\"\ndata_dir = {data:?}\n[gossip]\nlisten = \"{gossip}\"\npeers = [\"{peer}\"]\n\
             [[limit]]\nname = \"calls\"\nper = [\"session\"]\nmax = 2\nwindow = \"session\"\n"
        );
        std::fs::write(&config, settings).unwrap();
        let child = Command::new(program)
            .args(before)
            .args(["node", "--config", config.to_str().unwrap(), "--http", &http])
            .env("RUST_LOG", "trace")
            .envs(key.map(|key| ("TALLYMESH_GOSSIP_KEY", key.reveal())))
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(log)
            .spawn()
            .unwrap();
        Node { child, http, gossip }
    }

    /// The answer to a command; none if the node does not answer yet.
    fn ask(&self, command: &str) -> Option<Value> {
        let mut stream = TcpStream::connect(&self.http).ok()?;
        let length = command.len();
        write!(stream, "POST / HTTP/1.1\r\ncontent-length: {length}\r\n\r\n{command}").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        serde_json::from_str(body.lines().next()?).ok()
    }

    /// What it counts reaches the good peer, what that counts reaches it, and is durable.
    async fn converges(&self, good: &CounterStore, rounds: std::ops::Range<usize>) {
        for round in rounds {
            let counters = good.len();
            good.add(&CounterKey::new(&format!("good {round}"), &[]).unwrap(), 1).unwrap();
            let command = format!("acquire session=s{round}");
            until("it answers", PATIENCE, || {
                self.ask(&command).is_some_and(|answer| answer["allowed"] == true)
            })
            .await;
            until("the good one hears of it", PATIENCE, || good.len() == counters + 2).await;
            let confirmed = || good.peers().iter().any(|peer| peer.connected && peer.lag == 0);
            until("it has heard of the good one", PATIENCE, confirmed).await;
        }
        assert_eq!(self.ask("flush").unwrap()["durable"], true);
    }

    async fn end(mut self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        let mut ended = None;
        until("it ends", PATIENCE, || {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        })
        .await;
        assert_eq!(ended.unwrap().code(), Some(0));
    }
}

async fn good() -> CounterStore {
    good_with(None).await
}

/// The good peer, with this key of the cluster if there is one.
async fn good_with(key: Option<&ClusterKey>) -> CounterStore {
    let config = Config::builder("a").in_memory().listen("127.0.0.1:0");
    let config = key.into_iter().fold(config, |config, key| config.gossip_key([key.clone()]));
    CounterStore::open(config.build().unwrap()).await.unwrap()
}

const PROGRAM: (&str, &[&str]) = (env!("CARGO_BIN_EXE_tallymesh"), &[]);

/// The program with so many descriptors; `ulimit` sets the hard limit too.
fn with_descriptors(script: &'static str) -> (&'static str, Vec<&'static str>) {
    ("sh", vec!["-c", script, env!("CARGO_BIN_EXE_tallymesh")])
}

/// `/dev/full` is Linux's.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_node_whose_log_and_answers_cannot_be_written_goes_on_beside_a_good_peer() {
    let (dir, good) = (tempfile::tempdir().unwrap(), good().await);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let (reader, closed) = std::io::pipe().unwrap();
    drop(reader);
    let node = Node::start(PROGRAM, (dir.path(), &good), (closed.into(), full.into()));
    node.converges(&good, 0..5).await;
    for _ in 0..50 {
        TcpStream::connect(&node.gossip).unwrap().write_all(&[7; 64]).unwrap();
    }
    node.converges(&good, 5..10).await;
    let state = node.ask("state").unwrap();
    assert!(state["log_lines_dropped"].as_u64() > Some(0), "{state}");
    assert_eq!((&state["thread_restarts"], &state["durable"]), (&0.into(), &true.into()));
    node.end().await;
    good.close().await.unwrap();
}

/// A pipe that is full holds up who writes to it, as long as it is not read.
#[tokio::test]
async fn a_node_whose_log_is_not_read_goes_on_beside_a_good_peer() {
    let (dir, good) = (tempfile::tempdir().unwrap(), good().await);
    let (_unread, mut pipe) = std::io::pipe().unwrap();
    pipe.write_all(&[b'.'; 60_000]).unwrap();
    let node = Node::start(PROGRAM, (dir.path(), &good), (Stdio::null(), pipe.into()));
    node.converges(&good, 0..10).await;
    assert_eq!(node.ask("state").unwrap()["thread_restarts"], 0);
    node.end().await;
    good.close().await.unwrap();
}

#[tokio::test]
async fn as_many_connections_are_taken_in_as_the_process_may_open() {
    more_come_than_there_are_descriptors(None).await;
}

/// Those that come have a few descriptors only.
#[tokio::test]
async fn strangers_do_not_use_up_descriptors() {
    let key = ClusterKey::parse(&"5a".repeat(32)).unwrap();
    more_come_than_there_are_descriptors(Some(&key)).await;
}

async fn more_come_than_there_are_descriptors(key: Option<&ClusterKey>) {
    let (dir, good) = (tempfile::tempdir().unwrap(), good_with(key).await);
    let log = dir.path().join("log");
    let (program, before) = with_descriptors("ulimit -n 256 && exec \"$0\" \"$@\"");
    let files = (Stdio::null(), File::create(&log).unwrap().into());
    let node = Node::start_with(key, (program, &before), (dir.path(), &good), files);
    node.converges(&good, 0..3).await;
    // More than it has descriptors, and they say nothing.
    let began = crate::now();
    let idle: Vec<TcpStream> =
        (0..400).map(|_| TcpStream::connect(&node.gossip).unwrap()).collect();
    node.converges(&good, 3..8).await;
    let state = node.ask("state").unwrap();
    let reasons = state["reasons"].to_string();
    let part = "gossip.max_connections is 2048, and the process may open 256 files at once";
    assert!(reasons.contains(part) && reasons.contains("no more than 128"), "{reasons}");
    if key.is_some() {
        // At least those for whom there is none of the 64 places.
        assert!(state["strangers_refused"].as_u64() >= Some(400 - 64), "{state}");
    }
    drop(idle);
    node.end().await;
    let log = String::from_utf8_lossy(&std::fs::read(log).unwrap()).into_owned();
    assert!(log.contains(part), "it is logged");
    // Without a key, those that are turned away linger for a moment, and may take the last descriptors.
    let complaints = log.matches("a connection could not be accepted").count() as u64;
    let may_be = key.map_or(1 + (crate::now() - began).as_secs() / 10, |_| 0);
    assert!(complaints <= may_be, "{complaints} complaints");
    good.close().await.unwrap();
}

#[tokio::test]
async fn the_soft_limit_of_descriptors_is_raised_where_that_is_allowed() {
    let allows = "test \"$(ulimit -H -n)\" = unlimited || test \"$(ulimit -H -n)\" -ge 2176";
    if !Command::new("sh").args(["-c", allows]).status().unwrap().success() {
        eprintln!("SKIPPED: the hard limit of descriptors is below 2176");
        return;
    }
    let (dir, good) = (tempfile::tempdir().unwrap(), good().await);
    let (program, before) = with_descriptors("ulimit -S -n 256 && exec \"$0\" \"$@\"");
    let log = dir.path().join("log");
    let files = (Stdio::null(), File::create(&log).unwrap().into());
    let node = Node::start((program, &before), (dir.path(), &good), files);
    node.converges(&good, 0..2).await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", node.child.id()));
    if let Ok(limits) = limits {
        let open_files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        assert_eq!(open_files.split_whitespace().nth(3), Some("2176"));
    }
    assert_eq!(node.ask("state").unwrap()["reasons"], serde_json::json!([]));
    node.end().await;
    let log = std::fs::read(log).unwrap();
    assert!(String::from_utf8_lossy(&log).contains("the limit of open files was raised"));
    good.close().await.unwrap();
}
