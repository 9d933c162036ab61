//! Bounds that real nodes reach: each has a number, and a reason in the health, and no peer is blamed for it.

use std::time::Duration;

use tallymesh::{Config, ConfigBuilder, CounterKey, CounterStore, PeerAbsence, Rejections};
use tallymesh_test_support::until;

const PATIENCE: Duration = Duration::from_secs(30);

async fn open(
    name: &str,
    peers: &[&CounterStore],
    with: impl FnOnce(ConfigBuilder) -> ConfigBuilder,
) -> CounterStore {
    let peers = peers.iter().map(|peer| peer.address().unwrap().to_string());
    let config = Config::builder(name)
        .in_memory()
        .listen("127.0.0.1:0")
        .gossip_interval(Duration::from_millis(10))
        .digest_interval(Duration::from_millis(100))
        .sync_timeout(Duration::ZERO)
        .peers(peers);
    CounterStore::open(with(config).build().unwrap()).await.unwrap()
}

fn key(name: &str) -> CounterKey {
    CounterKey::new(name, &[]).unwrap()
}

/// Waits until this was refused, and returns the reasons that the node has then.
async fn reasons_once(store: &CounterStore, refused: impl Fn(&Rejections) -> u64) -> String {
    until("it is refused", PATIENCE, || refused(&store.rejections()) > 0).await;
    assert_eq!(store.rejections().cells_implausible, 0, "no peer is blamed");
    store.health().reasons.concat()
}

#[tokio::test]
async fn without_room_for_a_replica_its_counts_are_refused_by_name() {
    let a = open("a", &[], |config| config).await;
    let b = open("b", &[&a], |config| config.max_replicas(2)).await;
    a.add(&key("x"), 1).unwrap();
    until("the first one has room", PATIENCE, || b.value(&key("x")) == 1).await;
    let c = open("c", &[&b], |config| config).await;
    c.add(&key("x"), 1).unwrap();
    let reasons = reasons_once(&b, |rejections| rejections.replicas_refused).await;
    assert!(reasons.contains("counters.max_replicas is reached"), "{reasons}");
    assert!(reasons.contains("(2 of 2)"), "{reasons}");
    let lag = |of: &CounterStore| of.peers().iter().map(|peer| peer.lag).max();
    until("the other end sees it", PATIENCE, || lag(&c) == Some(1)).await;
    assert_eq!((b.value(&key("x")), c.health().reasons.len()), (1, 0));
    for store in [a, b, c] {
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn without_room_in_a_counter_a_cell_is_refused_by_name() {
    let a = open("a", &[], |config| config).await;
    let c = open("c", &[], |config| config).await;
    a.add(&key("x"), 1).unwrap();
    c.add(&key("x"), 1).unwrap();
    let b = open("b", &[&a, &c], |config| config.max_replicas_per_counter(2)).await;
    let d = open("d", &[&b], |config| config).await;
    d.add(&key("x"), 1).unwrap();
    let reasons = reasons_once(&b, |rejections| rejections.cells_refused).await;
    assert!(reasons.contains("counters.max_replicas_per_counter is reached"), "{reasons}");
    assert_eq!(b.value(&key("x")), 2);
    for store in [a, b, c, d] {
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_connection_too_many_is_turned_away_with_a_word() {
    let a = open("a", &[], |config| config.max_connections(1)).await;
    let b = open("b", &[&a], |config| config).await;
    until("there is one", PATIENCE, || a.peers().iter().any(|peer| peer.connected)).await;
    let c = open("c", &[&a], |config| config).await;
    let reasons = reasons_once(&a, |rejections| rejections.connections_refused).await;
    assert!(reasons.contains("gossip.max_connections is reached"), "{reasons}");
    b.close().await.unwrap();
    until("there is room again", PATIENCE, || c.peers().iter().any(|peer| peer.connected)).await;
    for store in [a, c] {
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_frame_that_is_too_long_is_no_peer_that_is_lost() {
    let a = open("a", &[], |config| config).await;
    for n in 0..2_000 {
        a.add(&key(&format!("a counter with a long name, of which a frame holds many {n}")), 1)
            .unwrap();
    }
    let b = open("b", &[&a], |config| config.max_frame_bytes(16_384)).await;
    let reasons = reasons_once(&b, |rejections| rejections.frames_refused).await;
    assert!(reasons.contains("gossip.max_frame_bytes"), "{reasons}");
    let absence = |of: &CounterStore| of.peers().iter().find_map(|peer| peer.absence);
    until("both know why", PATIENCE, || {
        // It is dialed again and again, so they may be connected at this moment.
        assert!(![&a, &b].iter().any(|of| absence(of) == Some(PeerAbsence::Lost)));
        absence(&b) == Some(PeerAbsence::Refused)
    })
    .await;
    for store in [a, b] {
        store.close().await.unwrap();
    }
}
