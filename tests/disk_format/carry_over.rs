//! Directories of format 1 are carried over by the first start, and by one that is killed in the middle of it.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tallymesh::{Config, Limit, Limiter, StorageError, Window, inspect};

use crate::{FIXTURES, LIMIT, MAX, TTL, as_json, config, counter, fixtures, goes_on, held, unpack};

/// What a directory of format 1 must hold once it is carried over: the values, generations, cells and watermarks are as they
/// were, and the ends to a sixteenth.
fn is_as_it_was(dir: &Path, expected: &Value, context: &str) {
    let contents = inspect(dir).unwrap();
    assert_eq!((&*contents.node, contents.format), ("a", 2), "{context}");
    let (found, list) = (as_json(&contents), "counters");
    let counters = |of: &Value| of[list].as_array().unwrap().clone();
    assert_eq!(counters(&found).len(), counters(expected).len(), "{context}");
    for (found, expected) in counters(&found).iter().zip(counters(expected)) {
        for field in ["limit", "values", "value", "generation", "cells [replica, version, p, n]"] {
            assert_eq!(found[field], expected[field], "{context}, {field}");
        }
        let end = |of: &Value| of["expires_at_unix_ms"].as_u64().unwrap();
        let (found, expected) = (end(found), end(&expected));
        assert!(found.abs_diff(expected) <= TTL.as_millis() as u64 / 16, "{context}");
    }
    let watermarks = |of: &Value| of["watermarks"].as_array().unwrap().clone();
    let found = watermarks(&found);
    for expected in watermarks(expected) {
        assert!(found.contains(&expected), "{context}: {expected}");
    }
}

/// Whether the sessions of a fixture have ended by now: then it is not known what a start would have found.
fn has_ended(expected: &Value) -> bool {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
    let ends = expected["counters"].as_array().unwrap().iter();
    let first = ends.map(|counter| counter["expires_at_unix_ms"].as_u64().unwrap()).min().unwrap();
    if first < now {
        eprintln!("SKIPPED: the sessions of the fixture ended at {first}");
    }
    first < now
}

#[tokio::test]
async fn a_directory_of_format_1_is_carried_over_at_the_start() {
    for (name, boot, values) in FIXTURES {
        let fixture = fixtures(1).join(name);
        let expected = held(&fixture);
        if has_ended(&expected) {
            return;
        }
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("a");
        unpack(&fixture, &dir);
        // Offline, nothing is known of limits, so nothing is carried over.
        for error in [inspect(&dir).unwrap_err(), tallymesh::check(&dir).unwrap_err()] {
            assert!(matches!(error, StorageError::OtherFormat { found: 1, .. }), "{error}");
            assert!(error.to_string().contains("start its node"), "{error}");
        }
        let limiter = Limiter::open(config(&dir)).await.unwrap();
        assert_eq!(limiter.counters().set_aside(), None, "{name}");
        assert!(limiter.counters().replica().incarnation.boot > boot, "{name}");
        for (session, value) in values {
            let key = &limiter.keys(&crate::request(session))[0];
            assert_eq!(limiter.counters().value(key), *value, "{name}, {session}");
        }
        limiter.close().await.unwrap();
        is_as_it_was(&dir, &expected, name);
        assert_eq!(tallymesh::check(&dir).unwrap().damage, [], "{name}");
        let contents = inspect(&dir).unwrap();
        assert_eq!(counter(&contents, values[0].0).value, values[0].1);
        goes_on(&dir, &contents).await;
    }
}

/// The limit that counted has another window now: its counters belong to no limit, and lose nothing.
#[tokio::test]
async fn counters_that_fit_no_limit_any_more_belong_to_none_and_stay() {
    let fixture = fixtures(1).join("peers");
    if has_ended(&held(&fixture)) {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("a");
    unpack(&fixture, &dir);
    let limit = Limit::new(LIMIT, MAX, Window::Fixed(Duration::from_secs(60))).per("session");
    let config =
        Config::builder("a").data_dir(&dir).limit(limit).counters_ttl(TTL).build().unwrap();
    let limiter = Limiter::open(config).await.unwrap();
    let key = tallymesh::CounterKey::new(LIMIT, &["s0"]).unwrap();
    assert_eq!(limiter.counters().value(&key), 7);
    let of_limit = &limiter.keys(&crate::request("s0"))[0];
    assert_eq!(limiter.counters().value(of_limit), 0);
    limiter.close().await.unwrap();
}

const ASKED_TO: &str = "TALLYMESH_CARRY_OVER";

/// Does nothing unless [`a_kill_in_the_middle_leaves_one_format_or_the_other_whole`] asks for it.
#[tokio::test]
async fn a_process_of_its_own_opens_the_directory_that_it_is_asked_to() {
    let Some(dir) = std::env::var_os(ASKED_TO) else { return };
    let limiter = Limiter::open(config(Path::new(&dir))).await.unwrap();
    limiter.close().await.unwrap();
}

/// Kills a process that carries a directory over, at moments from its start to its end.
#[tokio::test]
async fn a_kill_in_the_middle_leaves_one_format_or_the_other_whole() {
    let fixture = fixtures(1).join("lives");
    let expected = held(&fixture);
    if has_ended(&expected) {
        return;
    }
    let spawn = |dir: &Path| {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        let test = "carry_over::a_process_of_its_own_opens_the_directory_that_it_is_asked_to";
        command.args([test, "--exact", "--test-threads=1"]).env(ASKED_TO, dir);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        command.spawn().unwrap()
    };
    let mut formats = std::collections::BTreeMap::new();
    let mut delay = Duration::ZERO;
    loop {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("a");
        unpack(&fixture, &dir);
        let mut child = spawn(&dir);
        // The moment itself is the condition that is waited for.
        std::thread::sleep(delay);
        let has_ended = child.try_wait().unwrap().is_some();
        child.kill().unwrap();
        child.wait().unwrap();
        let identity = std::fs::read_to_string(dir.join("identity.toml")).unwrap();
        let format = identity.lines().find(|line| line.starts_with("format")).unwrap().to_owned();
        *formats.entry(format).or_insert(0) += 1;
        let limiter = Limiter::open(config(&dir)).await.unwrap();
        assert_eq!(limiter.counters().set_aside(), None, "{delay:?}");
        limiter.close().await.unwrap();
        is_as_it_was(&dir, &expected, &format!("{delay:?}"));
        if has_ended {
            break;
        }
        delay += Duration::from_millis(2).max(delay / 40);
    }
    println!("{formats:?}");
    assert_eq!(formats.len(), 2, "killed before and after: {formats:?}");
}
