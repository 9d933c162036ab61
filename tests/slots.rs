//! Several processes of one program: each has a slot, and with it an id, a directory and a port.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use tallymesh::{Config, ConfigBuilder, Limit, Limiter, OpenError, Request, StorageError, Window};
use tallymesh_test_support::until;

const PATIENCE: Duration = Duration::from_secs(30);
const IDS: [&str; 3] = ["api-0", "api-1", "api-2"];

/// A port that was free a moment ago, and so were the two after it.
fn base() -> u16 {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let ports = [Some(first), first.checked_add(1), first.checked_add(2)];
        if ports
            .iter()
            .all(|port| port.is_some_and(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()))
        {
            return first;
        }
    }
}

fn three(base: u16) -> ConfigBuilder {
    let window = Window::Session { ttl: Duration::from_secs(3600) };
    Config::builder("api")
        .listen(format!("127.0.0.1:{base}"))
        .slots(3)
        .gossip_interval(Duration::from_millis(5))
        .limit(Limit::new("calls", 1000, window).per("session"))
}

async fn open(config: ConfigBuilder) -> Limiter {
    Limiter::open(config.build().unwrap()).await.unwrap()
}

async fn refused(config: ConfigBuilder) -> OpenError {
    Limiter::open(config.build().unwrap()).await.expect_err("it is refused")
}

fn count(limiter: &Limiter) -> u64 {
    tallymesh_test_support::load::value(limiter, "s")
}

fn acquire(limiter: &Limiter, times: usize) {
    for _ in 0..times {
        limiter.acquire(&Request::new().with("session", "s")).into_result().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_process_takes_a_free_slot_and_the_next_one_that_of_the_one_that_ended() {
    let (dir, base) = (tempfile::tempdir().unwrap(), base());
    let config = || three(base).data_dir(dir.path());
    let mut all = [open(config()).await, open(config()).await, open(config()).await];
    for (slot, limiter) in all.iter().enumerate() {
        assert_eq!(limiter.slot(), Some(slot));
        assert_eq!(limiter.status().replica.node.as_str(), IDS[slot]);
        let address = limiter.status().address.unwrap();
        assert_eq!(usize::from(address.port()), usize::from(base) + slot);
        assert!(dir.path().join(slot.to_string()).join("identity.toml").exists());
        acquire(limiter, 10);
    }
    until("each knows of all", PATIENCE, || all.iter().all(|limiter| count(limiter) == 30)).await;
    for slot in [1, 0, 2] {
        all[slot].close().await.unwrap();
        let next = open(config()).await;
        assert_eq!((next.slot(), count(&next)), (Some(slot), 30));
        all[slot] = next;
    }
    // The boots of one node, and no other nodes.
    until("members are counted once", PATIENCE, || {
        all.iter().all(|limiter| limiter.status().cluster_size == 3)
    })
    .await;
    let error = refused(config()).await;
    let OpenError::NoFreeSlot { taken, .. } = &error else { panic!("{error}") };
    assert_eq!(taken.len(), 3);
    let message = error.to_string();
    for part in ["each of the 3 slots is taken", "slot 2: data directory", "node.slots"] {
        assert!(message.contains(part), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_memory_the_port_makes_a_slot_one_s_own() {
    let base = base();
    let config = || three(base).in_memory();
    let first = open(config()).await;
    let second = open(config()).await;
    assert_eq!((first.slot(), second.slot()), (Some(0), Some(1)));
    acquire(&first, 5);
    first.close().await.unwrap();
    let next = open(config()).await;
    assert_eq!((next.slot(), count(&next)), (Some(0), 5));
}

#[tokio::test]
async fn two_processes_of_one_slot_are_refused_with_what_is_held() {
    let (dir, base) = (tempfile::tempdir().unwrap(), base());
    let config = || three(base).data_dir(dir.path());
    let first = open(config().slot(1)).await;
    assert_eq!((first.slot(), first.status().replica.node.as_str()), (Some(1), "api-1"));
    let error = refused(config().slot(1)).await;
    let OpenError::SlotTaken { slot: 1, source, .. } = &error else { panic!("{error}") };
    assert!(matches!(**source, OpenError::Storage(StorageError::Held { .. })), "{source}");
    let held = dir.path().join("1").display().to_string();
    assert!(error.to_string().contains("slot 1 is taken") && error.to_string().contains(&held));
    let error = refused(three(base).in_memory().slot(1)).await.to_string();
    assert!(error.contains("slot 1 is taken: cannot listen at"), "{error}");
    assert!(error.contains(&(base + 1).to_string()), "{error}");
}

#[tokio::test]
async fn a_port_that_another_program_has_makes_its_slot_a_taken_one() {
    let (dir, base) = (tempfile::tempdir().unwrap(), base());
    let other = TcpListener::bind(("127.0.0.1", base)).unwrap();
    let limiter = open(three(base).data_dir(dir.path())).await;
    assert_eq!(limiter.slot(), Some(1));
    drop(other);
    assert_eq!(open(three(base).data_dir(dir.path())).await.slot(), Some(0));
}

#[tokio::test]
async fn what_is_wrong_with_a_directory_is_no_reason_to_take_the_next_slot() {
    let (dir, base) = (tempfile::tempdir().unwrap(), base());
    std::fs::write(dir.path().join("0"), "no directory").unwrap();
    let error = refused(three(base).data_dir(dir.path())).await;
    assert!(matches!(error, OpenError::Storage(_)), "{error}");
    assert!(!Path::new(&dir.path().join("1")).exists());
}

#[test]
fn slots_that_cannot_be_are_refused_by_their_setting() {
    let with = |extra: fn(ConfigBuilder) -> ConfigBuilder| {
        extra(Config::builder("a").in_memory()).build().unwrap_err().to_string()
    };
    for (message, parts) in [
        (
            with(|c| c.listen("127.0.0.1:1").slots(4).slot(4)),
            ["node.slot = 4", "0 to 3, since node.slots = 4"],
        ),
        (with(|c| c.listen("127.0.0.1:1").slot(2)), ["node.slot = 2", "only with node.slots"]),
        (with(|c| c.slots(2)), ["node.slots = 2", "only with gossip.listen"]),
        (with(|c| c.listen("127.0.0.1:1").slots(0)), ["node.slots = 0", "1 to 1024"]),
        (with(|c| c.listen("127.0.0.1:0").slots(2)), ["node.slots = 2", "a port of at least 1"]),
        (with(|c| c.listen("127.0.0.1:65535").slots(2)), ["node.slots = 2", "at most 1"]),
        (
            with(|c| c.listen("127.0.0.1:1").advertise("10.0.0.7:65534").slots(3)),
            ["node.slots = 3", "at most 2"],
        ),
        (
            with(|c| c.listen("0.0.0.0:1").insecure(true).slots(2)),
            ["node.slots = 2", "gossip.advertise"],
        ),
    ] {
        for part in parts {
            assert!(message.contains(part), "{message:?}, without {part:?}");
        }
    }
    let long = Config::builder("a".repeat(63)).in_memory().listen("127.0.0.1:1");
    assert!(long.clone().build().is_ok());
    let message = long.slots(2).build().unwrap_err().to_string();
    assert!(message.contains("a shorter node.id"), "{message}");
}

#[test]
fn slots_are_read_from_a_file_and_kept_by_a_builder() {
    let text = "[node]\nid = \"a\"\ndata_dir = \"d\"\nslots = 3\nslot = 2\n[gossip]\nlisten = \"127.0.0.1:7\"\n";
    let config = Config::from_toml(text).unwrap();
    assert_eq!(config.node_id().as_str(), "a");
    let message = config.to_builder().slots(2).build().unwrap_err().to_string();
    assert!(message.contains("node.slot = 2"), "{message}");
}

/// These lines stand in `docs/operating/processes.md`.
async fn the_lines_of_the_page() -> Result<(), Box<dyn std::error::Error>> {
    let window = Window::Session { ttl: Duration::from_secs(3600) };
    let config = Config::builder("api")
        .data_dir("data")
        .slots(4)
        .listen("127.0.0.1:7946")
        .limit(Limit::new("calls per session", 1000, window).per("session"))
        .build()?;
    let limiter = Limiter::open(config).await?;
    println!("{:?}", limiter.slot()); // Some(0), Some(1), Some(2) or Some(3)
    Ok(())
}

#[test]
fn the_page_shows_what_compiles() {
    // Its ports and its directory are not a test's own: that it compiles is enough.
    let _ = the_lines_of_the_page;
    let page = include_str!("../docs/operating/processes.md");
    let block = page.split("```rust\n").nth(1).unwrap().split("```").next().unwrap();
    let source = include_str!("slots.rs").replace("\n    ", "\n");
    assert!(source.contains(block), "{block}");
}
