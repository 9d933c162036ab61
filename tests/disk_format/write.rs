//! Writes the fixtures of the present format.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tallymesh::{Config, ConfigBuilder, CounterStore, Limit, Limiter, WhenLabelMissing, Window};
use tallymesh_test_support::until;

use crate::{LIMIT, MAX, TTL, expected, request};

const PATIENCE: Duration = Duration::from_secs(30);

/// Writes every fixture in the place of what is there.
pub async fn all(fixtures: &Path) {
    let temp = tempfile::tempdir().unwrap();
    let told = lives(&temp.path().join("lives")).await;
    pack(&temp.path().join("lives"), &fixtures.join("lives"), &told);
    let told = peers(temp.path()).await;
    pack(&temp.path().join("a"), &fixtures.join("peers"), &told);
}

/// Two lives of a node; refunds, a reset, and the tombstone of a counter that ended.
async fn lives(dir: &Path) -> Value {
    let brief = Limit::new("brief", MAX, Window::Session { ttl: Duration::from_secs(1) });
    let brief = config("a")
        .data_dir(dir)
        .limit(brief.per("user").when_label_missing(WhenLabelMissing::Skip))
        .counters_grace(Duration::from_millis(100));
    let node = Limiter::open(brief.clone().build().unwrap()).await.unwrap();
    charge(&node, "s0", 4);
    let receipt = node.acquire(&request("s0")).into_allowed().unwrap();
    node.refund(receipt).unwrap();
    charge(&node, "s1", 3);
    charge(&node, "s2", 6);
    assert!(node.acquire(&request("s2").with("user", "u")).is_allowed());
    node.close().await.unwrap();

    // The counter ends while no node is there whose word of it could be waited for.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let node = Limiter::open(brief.build().unwrap()).await.unwrap();
    charge(&node, "s0", 2);
    assert!(node.reset(&request("s1")).is_ok());
    charge(&node, "s1", 1);
    // The counter that ended goes; the next checkpoint notes its end, and the last one buries it.
    until("the ended counter is swept", PATIENCE, || node.counters().len() == 3).await;
    node.counters().flush().await.unwrap();
    let told = told(node.counters());
    node.close().await.unwrap();
    told
}

/// A node that heard of two others.
async fn peers(dir: &Path) -> Value {
    let mut nodes: Vec<Limiter> = Vec::new();
    for name in ["a", "b", "c"] {
        let addresses = nodes.iter().map(|node| node.counters().address().unwrap().to_string());
        let config = config(name).data_dir(dir.join(name)).listen("127.0.0.1:0").peers(addresses);
        let node = Limiter::open(config.build().unwrap()).await.unwrap();
        nodes.push(node);
    }
    charge(&nodes[0], "s0", 1);
    charge(&nodes[1], "s0", 2);
    charge(&nodes[2], "s0", 4);
    charge(&nodes[1], "s1", 3);
    let state =
        |node: &Limiter| (node.counters().version_vector(), node.counters().state_checksum());
    until("all hold the same", PATIENCE, || {
        nodes[0].counters().iter().map(|counter| counter.value).sum::<u64>() == 10
            && nodes.iter().all(|node| state(node) == state(&nodes[0]))
    })
    .await;
    let told = told(nodes[0].counters());
    for node in &nodes {
        node.close().await.unwrap();
    }
    told
}

/// What a node holds, as it says itself.
fn told(store: &CounterStore) -> Value {
    let vector = store.version_vector();
    let watermarks = vector.iter().map(|(replica, watermark)| (replica.to_string(), watermark.0));
    expected(watermarks.collect(), &store.iter().collect::<Vec<_>>())
}

/// Checkpoints are written when they are asked for only, so that the tombstone is there when the node closes.
fn config(name: &str) -> ConfigBuilder {
    let limit = Limit::new(LIMIT, MAX, Window::Session { ttl: TTL }).per("session");
    Config::builder(name).persist_every(Duration::from_secs(60)).limit(limit)
}

fn charge(node: &Limiter, session: &str, times: usize) {
    assert!((0..times).all(|_| node.acquire(&request(session)).is_allowed()));
}

/// Copies a closed directory into the fixtures, without its lock and the zeroes at the end of sled's file.
fn pack(dir: &Path, to: &Path, told: &Value) {
    if to.exists() {
        std::fs::remove_dir_all(to).unwrap();
    }
    copy(dir, to);
    let text = serde_json::to_string_pretty(told).unwrap();
    std::fs::write(to.join("expected.json"), text + "\n").unwrap();
}

fn copy(dir: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &to);
        } else if !path.ends_with("LOCK") {
            let mut bytes = std::fs::read(&path).unwrap();
            if path.ends_with("db/db") {
                let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                bytes.truncate(end);
            }
            std::fs::write(to, bytes).unwrap();
        }
    }
}
