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

/// Two instances of which the first was told of the second, so that they are peers of its config, and met.
async fn pair(dir: &std::path::Path) -> (CounterStore, CounterStore) {
    let other = Config::builder("b").data_dir(dir.join("b")).listen("127.0.0.1:0");
    let other = CounterStore::open(other.build().unwrap()).await.unwrap();
    let address = other.address().unwrap().to_string();
    let own = Config::builder("a").data_dir(dir.join("a")).listen("127.0.0.1:0").peers([address]);
    let own = CounterStore::open(own.build().unwrap()).await.unwrap();
    until("they have met", PATIENCE, || is_connected(&own) && is_connected(&other)).await;
    (own, other)
}

fn is_connected(store: &CounterStore) -> bool {
    store.peers().iter().any(|peer| peer.connected)
}

fn provoke(store: &CounterStore, worker: Worker) {
    store.engine().runtime().signals.provoke(worker);
}

#[tokio::test]
async fn a_gossip_thread_that_panics_is_seen_and_started_again_and_its_port_is_never_free() {
    let dir = tempfile::tempdir().unwrap();
    let (own, other) = pair(dir.path()).await;
    let key = CounterKey::new("x", &[]).unwrap();
    let address = own.address().unwrap();
    // The other one is not in the config here, so it has to find its way back through the same port.
    provoke(&other, Worker::Gossip);
    until("it is seen", PATIENCE, || other.status().thread_restarts == 1).await;
    assert!(other.peers().is_empty());
    let [reason] = &other.health().reasons[..] else { panic!("{:?}", other.health()) };
    assert!(reason.starts_with("the gossip thread stopped (a panic: provoked"), "{reason}");
    assert!(other.health().is_durable(), "that is the disk's");
    let listening = other.address().unwrap();
    // Whether it has begun again meanwhile or not, no other process can listen there.
    assert!(std::net::TcpListener::bind(listening).is_err());
    other.add(&key, 2).unwrap();
    until("it is heard again", PATIENCE, || own.value(&key) == 2).await;
    assert_eq!(other.address(), Some(listening));

    provoke(&own, Worker::Gossip);
    until("it is seen", PATIENCE, || own.peers().is_empty()).await;
    own.add(&key, 3).unwrap();
    until("it is heard again", PATIENCE, || other.value(&key) == 5).await;
    until("they are peers again", PATIENCE, || is_connected(&own) && is_connected(&other)).await;
    assert_eq!(own.address(), Some(address));
    let reasons = own.health().reasons.concat();
    assert!(reasons.contains("was started again"), "{reasons}");
    own.close().await.unwrap();
    other.close().await.unwrap();
}

#[tokio::test]
async fn a_list_of_peers_that_is_set_while_the_gossip_thread_is_down_is_taken_in() {
    let dir = tempfile::tempdir().unwrap();
    let (own, other) = pair(dir.path()).await;
    let third = Config::builder("c").in_memory().listen("127.0.0.1:0");
    let third = CounterStore::open(third.build().unwrap()).await.unwrap();
    provoke(&own, Worker::Gossip);
    until("it is seen", PATIENCE, || own.status().thread_restarts == 1).await;
    own.set_peers([third.address().unwrap().to_string()]).await.unwrap();
    until("they have met", PATIENCE, || is_connected(&third)).await;
    // A panic does not bring the first list back.
    provoke(&own, Worker::Gossip);
    until("it is seen", PATIENCE, || own.status().thread_restarts == 2).await;
    until("they have met again", PATIENCE, || is_connected(&own) && is_connected(&third)).await;
    for store in [own, other, third] {
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_node_whose_gossip_thread_is_down_closes_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (own, other) = pair(dir.path()).await;
    let key = CounterKey::new("x", &[]).unwrap();
    own.add(&key, 1).unwrap();
    let confirmed = || own.peers().iter().any(|peer| peer.connected && peer.lag == 0);
    until("it is confirmed", PATIENCE, || other.value(&key) == 1 && confirmed()).await;
    provoke(&own, Worker::Gossip);
    until("it is seen", PATIENCE, || own.status().thread_restarts == 1).await;
    own.add(&CounterKey::new("y", &[]).unwrap(), 1).unwrap();
    let closed = own.close().await.unwrap();
    // Unless it began again just before: then it was told, and there is nothing to say of it.
    let had_begun = own.health().reasons.concat().contains("was started again");
    assert!(closed.unconfirmed == 1 || had_begun, "{closed:?}");
    other.close().await.unwrap();
    let counters = crate::inspect(dir.path().join("a")).unwrap().counters;
    assert_eq!(counters.iter().map(|counter| counter.value).sum::<u64>(), 2);
}

#[tokio::test]
async fn a_disk_thread_that_panics_fails_who_waits_and_goes_on_in_a_new_database() {
    let dir = tempfile::tempdir().unwrap();
    let (own, other) = pair(dir.path()).await;
    let key = CounterKey::new("x", &[]).unwrap();
    own.add(&key, 1).unwrap();
    own.flush().await.unwrap();
    // Nothing comes between, since the thread makes its checkpoints in a row.
    provoke(&own, Worker::Disk);
    own.add(&key, 1).unwrap();
    let error = own.flush().await.unwrap_err();
    let is_named = matches!(&error, DurabilityError::Degraded { reason } if reason.contains("a panic: provoked"));
    assert!(is_named, "{error}");
    let health = own.health();
    assert!(health.is_failed() && own.status().thread_restarts == 1);
    assert!(health.reasons.concat().contains("the disk thread stopped (a panic: provoked)"));
    // Decisions and peers do not mind.
    own.add(&key, 1).unwrap();
    until("the peer hears of it", PATIENCE, || other.value(&key) == 3).await;
    until("it is durable again", PATIENCE, || own.health().is_durable()).await;
    own.flush().await.unwrap();
    assert!(own.health().reasons.concat().contains("was started again"));
    own.add(&key, 1).unwrap();
    own.close().await.unwrap();
    other.close().await.unwrap();
    assert_eq!(crate::inspect(dir.path().join("a")).unwrap().counters[0].value, 4);
}

#[tokio::test]
async fn a_disk_thread_that_panics_at_the_last_checkpoint_writes_it_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::builder("a").data_dir(dir.path()).persist_every(PATIENCE);
    let store = CounterStore::open(config.build().unwrap()).await.unwrap();
    store.add(&CounterKey::new("x", &[]).unwrap(), 1).unwrap();
    provoke(&store, Worker::Disk);
    store.close().await.unwrap();
    assert_eq!(store.status().thread_restarts, 1);
    assert_eq!(crate::inspect(dir.path()).unwrap().counters[0].value, 1);
}
