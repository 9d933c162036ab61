//! A disk that takes writes and refuses to make them durable, under a running node, and is fixed.
//!
//! Nothing less than the system itself says so: a library loaded before it makes `fsync` and `fdatasync` fail.
#![cfg(target_os = "linux")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tallymesh::{Config, Durability, DurabilityError, Limit, Limiter, Request, Window};
use tallymesh_test_support::{copy_moment, until};

/// Set in the child process: the directory to work in.
const CHILD_IN: &str = "TALLYMESH_FAILING_SYNC_IN";
const BROKEN: &str = "broken";

#[test]
fn a_failing_sync_ends_durability_until_a_whole_database_could_be_synced() {
    if let Ok(dir) = std::env::var(CHILD_IN) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        return runtime.block_on(break_and_fix(Path::new(&dir)));
    }
    let dir = tempfile::tempdir().unwrap();
    let library = dir.path().join("failing_sync.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/failing_sync/failing_sync.c");
    let mut compile = Command::new("cc");
    compile.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]).arg(&library).arg(source);
    let Ok(compiled) = compile.arg("-ldl").output() else {
        eprintln!("skipped: no C compiler to build the failing sync with");
        return;
    };
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "--nocapture", "--test-threads=1"]);
    child.arg("a_failing_sync_ends_durability_until_a_whole_database_could_be_synced");
    child.env(CHILD_IN, dir.path()).env("FAILING_SYNC_IF", dir.path().join(BROKEN));
    let output = child.env("LD_PRELOAD", &library).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

async fn break_and_fix(dir: &Path) {
    for durability in [Durability::Sync, Durability::Relaxed] {
        let data_dir = dir.join(format!("{durability:?}"));
        let limiter = open(&data_dir, durability).await;
        let request = Request::tool_call("s", "tool");
        assert!(limiter.acquire_durable(&request).await.unwrap().is_allowed());

        std::fs::write(dir.join(BROKEN), "").unwrap();
        let refused = limiter.acquire_durable(&request).await.unwrap_err();
        assert!(matches!(&refused, DurabilityError::Degraded { .. }), "{refused}");
        let health = limiter.counters().health();
        assert!(
            health.is_failed() && refused.to_string().contains(&health.reasons[0]),
            "{refused}"
        );
        assert!(limiter.acquire(&request).is_allowed(), "decisions go on from memory");
        assert!(
            limiter.counters().flush().await.is_err(),
            "it is not retried as if nothing was lost"
        );

        std::fs::remove_file(dir.join(BROKEN)).unwrap();
        let is_fixed = || limiter.counters().health().is_durable();
        until("the disk is fixed", Duration::from_secs(60), is_fixed).await;
        assert!(limiter.acquire_durable(&request).await.unwrap().is_allowed());
        assert_eq!(value(&limiter), 3, "what was allowed is counted, and an error charges nothing");

        // What a kill at this moment would leave.
        let copy = dir.join(format!("copy of {durability:?}"));
        copy_moment(&data_dir, &copy);
        let next = open(&copy, durability).await;
        assert_eq!((next.counters().set_aside(), value(&next)), (None, 3));
        next.close().await.unwrap();
        limiter.close().await.unwrap();
    }
}

async fn open(data_dir: &Path, durability: Durability) -> Limiter {
    let window = Window::Session { ttl: Duration::from_secs(3600) };
    let limit = Limit::new("calls", 100, window).per("session");
    let config = Config::builder("a").data_dir(data_dir).durability(durability).limit(limit);
    let config = match durability {
        Durability::Sync => config,
        _ => config.persist_every(Duration::from_millis(1)),
    };
    Limiter::open(config.build().unwrap()).await.unwrap()
}

fn value(limiter: &Limiter) -> u64 {
    limiter.counters().value(&limiter.keys(&Request::new().with("session", "s"))[0])
}
