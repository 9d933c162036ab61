//! The threads, asleep and woken.

use std::time::Duration;

use super::*;
use crate::{ConfigBuilder, CounterKey, CounterStore};
use tallymesh_test_support::until;

const PATIENCE: Duration = Duration::from_secs(20);

/// A store whose digests are so rare that only a wake-up brings a change to the peer in time.
async fn open(config: ConfigBuilder) -> CounterStore {
    let config = config
        .listen("127.0.0.1:0")
        .gossip_interval(Duration::from_millis(5))
        .digest_interval(Duration::from_secs(50))
        .silence_timeout(Duration::from_secs(100));
    CounterStore::open(config.build().unwrap()).await.unwrap()
}

#[tokio::test]
async fn threads_that_sleep_are_woken_by_a_change() {
    let dir = tempfile::tempdir().unwrap();
    let writer = open(Config::builder("a").data_dir(dir.path().join("a"))).await;
    let address = writer.address().unwrap().to_string();
    let reader = open(Config::builder("b").in_memory().peers([address])).await;
    let key = CounterKey::new("x", &["y"]).unwrap();
    let sleeping = |worker| writer.engine().runtime().signals.asleep.is_set(worker);
    for round in 1..=5 {
        until("both threads sleep", PATIENCE, || {
            sleeping(Worker::Disk) && sleeping(Worker::Gossip)
        })
        .await;
        assert_eq!(writer.add(&key, 1).unwrap(), round);
        until("the peer hears of it", PATIENCE, || reader.value(&key) == round).await;
    }
    reader.close().await.unwrap();
    writer.close().await.unwrap();
}
