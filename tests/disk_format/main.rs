//! Directories that earlier versions wrote are read as they were meant.
//!
//! Each directory in `tests/fixtures/format-N` is a node's, closed, as the version that introduced format N left it, with
//! what the node held when it closed in `expected.json`. With `TALLYMESH_WRITE_FIXTURES=1` those of the present format are
//! written again; that is for a new format, and never to be done to an old one. Those of format 1 are carried over at the
//! start of a node.
//!
//! The counters' sessions end 366 days after the last use, which is the longest that a session can last. What must hold for
//! ever is read with `inspect`, which shows counters past their end too. A node counts an ended session from 0; what is
//! asked of it here holds either way.

mod carry_over;
mod write;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tallymesh::{
    Config, Contents, CounterKind, CounterState, CounterStore, Limit, Limiter, Request, Window,
};

const LIMIT: &str = "calls per session";
/// The longest that a session can last.
const TTL: Duration = Duration::from_secs(366 * 24 * 3600);
/// What a session may have. No fixture comes near it.
const MAX: u64 = 1000;
/// The size of sled's segments. Its file is always a row of whole ones.
const SEGMENT: usize = 512 * 1024;

/// Sessions, each with what was counted in it.
type Values = &'static [(&'static str, u64)];

/// Each fixture's boot number, and what its counters must be.
const FIXTURES: [(&str, u64, Values); 2] = [
    // s0: 5 and a refund in the first life, 2 in the second. s1: reset in the second, then 1. s2: of the first life only.
    ("lives", 2, &[("s0", 6), ("s1", 1), ("s2", 7)]),
    // s0: 1 of a, 2 of b, 4 of c. s1: of b only.
    ("peers", 1, &[("s0", 7), ("s1", 3)]),
];

#[tokio::test]
async fn every_fixture_is_read_as_it_was_meant() {
    if std::env::var("TALLYMESH_WRITE_FIXTURES").is_ok_and(|value| value == "1") {
        write::all(&fixtures(2)).await;
    }
    for (name, boot, values) in FIXTURES {
        let fixture = fixtures(2).join(name);
        let expected = held(&fixture);
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("a");
        unpack(&fixture, &dir);

        let report = tallymesh::check(&dir).unwrap();
        assert_eq!(report.damage, [], "{name}");
        let tombstones = if name == "lives" { 1 } else { 0 };
        assert_eq!(report.tombstones, tombstones, "{name}");
        let contents = tallymesh::inspect(&dir).unwrap();
        assert_eq!(contents, report.contents, "{name}");
        assert_eq!((&*contents.node, contents.boot, contents.format), ("a", boot, 2), "{name}");
        assert_eq!(as_json(&contents), expected, "{name}");
        for (session, value) in values {
            let found = counter(&contents, session);
            assert_eq!(found.value, *value, "{name}, {session}");
        }
        assert_eq!(contents.counters.len(), values.len(), "{name}");
        if name == "lives" {
            assert_eq!(counter(&contents, "s1").generation, 1);
            let cells = counter(&contents, "s0")
                .cells
                .iter()
                .map(|(replica, cell)| (replica.incarnation.boot, cell.p, cell.n));
            assert_eq!(cells.collect::<Vec<_>>(), [(1, 5, 1), (2, 2, 0)]);
        }
        goes_on(&dir, &contents).await;
    }
}

/// A limiter, and after it a counter store, take the directory over, and count on.
async fn goes_on(dir: &Path, contents: &Contents) {
    let session = contents.counters[0].key.values().next().unwrap().to_owned();
    let limiter = Limiter::open(config(dir)).await.unwrap();
    let store = limiter.counters();
    assert_eq!(store.set_aside(), None);
    assert!(store.replica().incarnation.boot > contents.boot);
    let held = contents.counters.iter().filter(|counter| counter.expires_at > store.now());
    for counter in held {
        assert_eq!(store.value(&counter.key), counter.value);
    }
    for (replica, watermark) in &contents.replicas {
        assert_eq!(store.version_vector().watermark(replica), *watermark, "{replica}");
    }
    let key = limiter.keys(&request(&session))[0].clone();
    let before = store.value(&key);
    assert!(limiter.acquire_durable(&request(&session)).await.unwrap().is_allowed());
    limiter.close().await.unwrap();

    let store = CounterStore::open(config(dir)).await.unwrap();
    assert_eq!(store.set_aside(), None);
    assert_eq!(store.value(&key), before + 1);
    store.close().await.unwrap();
}

/// Where the fixtures of a format are.
fn fixtures(format: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/format-{format}"))
}

/// What a fixture's node held when it closed.
fn held(fixture: &Path) -> Value {
    let expected = std::fs::read_to_string(fixture.join("expected.json")).unwrap();
    serde_json::from_str(&expected).unwrap()
}

fn config(dir: &Path) -> Config {
    let limit = Limit::new(LIMIT, MAX, Window::Session { ttl: TTL }).per("session");
    Config::builder("a").data_dir(dir).limit(limit).build().unwrap()
}

fn request(session: &str) -> Request<'_> {
    Request::tool_call(session, "tool")
}

fn counter<'a>(contents: &'a Contents, session: &str) -> &'a CounterState {
    let of_session = |counter: &&CounterState| {
        let key = &counter.key;
        (key.limit(), key.kind()) == (LIMIT, CounterKind::Session) && key.values().eq([session])
    };
    contents.counters.iter().find(of_session).unwrap()
}

/// Puts a fixture where a node can use it: the zeroes at the end of sled's file are left out of fixtures.
fn unpack(fixture: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(fixture).unwrap().map(Result::unwrap) {
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            unpack(&path, &to);
            continue;
        }
        let mut bytes = std::fs::read(&path).unwrap();
        if path.ends_with("db/db") {
            bytes.resize(bytes.len().next_multiple_of(SEGMENT), 0);
        }
        std::fs::write(to, bytes).unwrap();
    }
}

fn as_json(contents: &Contents) -> Value {
    let replicas = contents.replicas.iter();
    let replicas = replicas.map(|(replica, watermark)| (replica.to_string(), watermark.0));
    expected(replicas.collect(), &contents.counters)
}

/// What a fixture must hold, in an order of its own.
fn expected(mut replicas: Vec<(String, u64)>, counters: &[CounterState]) -> Value {
    replicas.sort();
    let mut counters: Vec<&CounterState> = counters.iter().collect();
    counters.sort_by(|a, b| a.key.cmp(&b.key));
    let counters = counters.into_iter().map(|counter| {
        let cells = counter
            .cells
            .iter()
            .map(|(replica, cell)| json!([replica.to_string(), cell.version.0, cell.p, cell.n]));
        json!({
            "limit": counter.key.limit(),
            "values": counter.key.values().collect::<Vec<_>>(),
            "value": counter.value,
            "generation": counter.generation,
            "expires_at_unix_ms": counter.expires_at.0,
            "marks [at, p0, n0]": [counter.marks.at, counter.marks.p0, counter.marks.n0],
            "cells [replica, version, p, n]": cells.collect::<Vec<_>>(),
        })
    });
    json!({
        "watermarks": replicas,
        "counters": counters.collect::<Vec<_>>(),
    })
}
