//! How long sessions and blocks last, whoever used them last and by whatever time to live; and limits of one name that say
//! different things.

use std::path::Path;
use std::time::Duration;

use tallymesh::{
    Config, ConfigBuilder, CounterKey, CounterKind, Limit, Limiter, Request, Reset, Timestamp,
    Window,
};
use tallymesh_test_support::until;

const PATIENCE: Duration = Duration::from_secs(30);
const YEAR: Duration = Duration::from_secs(366 * 24 * 3600);

fn sessions(max: u64, ttl: Duration) -> Limit {
    Limit::new("calls", max, Window::Session { ttl }).per("session")
}

async fn open(config: ConfigBuilder) -> Limiter {
    Limiter::open(config.build().unwrap()).await.unwrap()
}

async fn pair(of_a: Limit, of_b: Limit) -> [Limiter; 2] {
    let config = |name| Config::builder(name).in_memory().listen("127.0.0.1:0");
    let a = open(config("a").limit(of_a)).await;
    let address = a.counters().address().unwrap().to_string();
    [a, open(config("b").peers([address]).limit(of_b)).await]
}

#[tokio::test]
async fn a_long_time_to_live_on_one_node_does_not_hold_on_another() {
    let [a, b] = pair(sessions(1, YEAR), sessions(1, Duration::from_secs(1))).await;
    let request = Request::new().with("session", "s");
    assert!(a.acquire(&request).is_allowed());
    let key = &b.keys(&request)[0];
    until("b has heard of it", PATIENCE, || b.counters().value(key) == 1).await;
    until("the session is over on b", PATIENCE, || b.peek(&request).is_allowed()).await;
    assert!(b.acquire(&request).is_allowed());
    for node in [a, b] {
        node.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_lowered_time_to_live_holds_for_sessions_that_were_there() {
    let dir = tempfile::tempdir().unwrap();
    let config = |ttl| Config::builder("a").data_dir(dir.path()).limit(sessions(1, ttl));
    let limiter = open(config(YEAR)).await;
    let request = Request::new().with("session", "s");
    assert!(limiter.acquire(&request).is_allowed());
    limiter.close().await.unwrap();
    let limiter = open(config(Duration::from_secs(1))).await;
    assert_eq!(limiter.counters().value(&limiter.keys(&request)[0]), 1, "it is kept, for others");
    until("the session is over", PATIENCE, || limiter.peek(&request).is_allowed()).await;
    limiter.close().await.unwrap();
}

#[tokio::test]
async fn the_store_cannot_lengthen_a_session() {
    let ttl = Duration::from_secs(2);
    let limiter = open(Config::builder("a").in_memory().limit(sessions(100, ttl))).await;
    let request = || Request::new().with("session", "s");
    assert!(limiter.acquire(&request().cost(60)).is_allowed());
    let key = limiter.keys(&request()).remove(0);
    assert_eq!((key.kind(), key.limit()), (CounterKind::Session, "calls"));
    let latest = ttl + ttl / 16;
    let ends_in = |limiter: &Limiter| {
        let counters = limiter.counters();
        let found = counters.iter().find(|counter| counter.key == key);
        found.unwrap().expires_at.since(counters.now())
    };
    // By its name alone it is another counter, which belongs to no limit.
    let named = CounterKey::new("calls", &["s"]).unwrap();
    limiter.counters().add(&named, 5).unwrap();
    limiter.counters().subtract(&named, 5).unwrap();
    assert_eq!(limiter.counters().value(&key), 60);
    assert!(ends_in(&limiter) <= latest);
    // By its key it is the same one, and keeps its time to live.
    limiter.counters().subtract(&key, 5).unwrap();
    assert_eq!(limiter.counters().value(&key), 55);
    assert!(ends_in(&limiter) <= latest);
    let denial = limiter.acquire(&request().cost(60)).into_result().unwrap_err();
    assert!(denial.retry_after().unwrap() <= latest + Duration::from_millis(20), "{denial}");
    // So does a reset.
    assert_eq!(limiter.reset(Reset::limit("calls").label("session", "s")), Ok(1));
    assert!(ends_in(&limiter) <= latest);
    limiter.close().await.unwrap();
}

#[tokio::test]
async fn a_counter_with_a_time_to_live_of_its_own_is_kept_so_long() {
    let config = Config::builder("a").in_memory().counters_ttl(Duration::from_secs(2));
    let limiter = open(config).await;
    let store = limiter.counters();
    let block = CounterKey::new("block", &["k"]).unwrap();
    let before: Timestamp = store.now();
    store.add_for(&block, 1, Duration::from_secs(12)).unwrap();
    store.add(&block, 1).unwrap();
    let ends = store.iter().find(|counter| counter.key == block).unwrap().expires_at;
    assert!(ends >= before.plus(Duration::from_secs(12)));
    assert!(ends <= store.now().plus(Duration::from_millis(12_750)));
    limiter.close().await.unwrap();
}

/// What is left of 3 for a request, after an instance with another `per` has used 3.
async fn left_after(dir: &Path, before: &[&str], after: &[&str], request: &Request<'_>) -> u64 {
    let config = |per: &[&str]| {
        let limit = Limit::new("calls", 3, Window::Fixed(Duration::from_secs(86_400)));
        let limit = per.iter().fold(limit, |limit, label| limit.per(*label));
        Config::builder("a").data_dir(dir).limit(limit)
    };
    let limiter = open(config(before)).await;
    for _ in 0..3 {
        assert!(limiter.acquire(request).is_allowed());
    }
    limiter.close().await.unwrap();
    let limiter = open(config(after)).await;
    let left = (0..4).filter(|_| limiter.acquire(request).is_allowed()).count() as u64;
    limiter.close().await.unwrap();
    left
}

#[tokio::test]
async fn a_limit_that_counts_by_other_labels_counts_anew() {
    let request = Request::new().with("user", "alice").with("session", "alice");
    for (before, after, left) in [
        (&["user"][..], &["session"][..], 3),
        (&["user", "session"], &["session", "user"], 3),
        (&["user"], &["user"], 0),
    ] {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(left_after(dir.path(), before, after, &request).await, left, "{before:?}");
    }
}

#[tokio::test]
async fn peers_whose_limits_of_one_name_differ_are_told_of() {
    let hour = Duration::from_secs(3600);
    let limit = |name: &str, hours| Limit::new(name, 10, Window::Fixed(hour * hours));
    let config = |name| Config::builder(name).in_memory().listen("127.0.0.1:0");
    let a = open(config("a").limit(limit("calls", 1)).limit(limit("same", 1))).await;
    let address = a.counters().address().unwrap().to_string();
    let b = config("b").peers([address.clone()]);
    let b = open(b.limit(limit("same", 1)).limit(limit("calls", 2)).limit(limit("own", 1))).await;
    let c =
        open(config("c").peers([address]).limit(limit("same", 1)).limit(limit("calls", 1))).await;
    let differ = |node: &Limiter, peer: &str| {
        let peers = node.status().peers.into_iter().filter(|peer| peer.connected);
        let named = |replica: &tallymesh::ReplicaId| replica.node.as_str() == peer;
        peers.filter(|peer| peer.replica.as_ref().is_some_and(named)).last()
    };
    for (node, peer) in [(&a, "b"), (&b, "a")] {
        until("it is told", PATIENCE, || {
            differ(node, peer).is_some_and(|peer| peer.different_limits == ["calls"])
        })
        .await;
    }
    until("c is there", PATIENCE, || differ(&a, "c").is_some()).await;
    assert_eq!(differ(&a, "c").unwrap().different_limits, [""; 0], "the order is no difference");
    for node in [a, b, c] {
        node.close().await.unwrap();
    }
}
