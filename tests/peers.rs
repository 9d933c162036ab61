//! What an instance says of its peers, above all of those that are not there.

use std::time::Duration;

use tallymesh::{Config, ConfigBuilder, CounterKey, CounterStore, PeerAbsence, SetPeersError};
use tallymesh_test_support::until;

const PATIENCE: Duration = Duration::from_secs(20);
/// Longer than a test may take: who waits for it fails.
const TOO_LONG: Duration = Duration::from_secs(60);

fn config(name: &str) -> ConfigBuilder {
    Config::builder(name)
        .in_memory()
        .listen("127.0.0.1:0")
        .gossip_interval(Duration::from_millis(10))
}

async fn open(config: ConfigBuilder) -> CounterStore {
    CounterStore::open(config.build().unwrap()).await.unwrap()
}

fn key(name: &str) -> CounterKey {
    CounterKey::new(name, &[]).unwrap()
}

/// An address that refuses.
fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

fn absences(store: &CounterStore) -> Vec<(Option<String>, Option<PeerAbsence>)> {
    store.peers().into_iter().map(|peer| (peer.address, peer.absence)).collect()
}

#[tokio::test]
async fn a_name_without_an_address_and_an_address_without_an_answer_are_listed_and_waited_for() {
    let wait = Duration::from_millis(300);
    let (name, address) = ("not-yet.invalid:7946".to_owned(), free_address());
    for (peer, absence) in [(name, PeerAbsence::Unresolved), (address, PeerAbsence::Unanswered)] {
        let mut opening = Box::pin(open(config("a").peers([peer.clone()]).sync_timeout(wait)));
        let early = tokio::time::timeout(wait / 2, &mut opening).await;
        assert!(early.is_err(), "it was not waited for: {peer}");
        let store = opening.await;
        assert_eq!(absences(&store), [(Some(peer), Some(absence))]);
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_peer_that_begins_to_answer_while_it_is_waited_for_ends_the_wait() {
    let address = free_address();
    let waiting = tokio::spawn(open(config("a").peers([address.clone()]).sync_timeout(TOO_LONG)));
    let peer = open(config("b").listen(address)).await;
    peer.add(&key("x"), 3).unwrap();
    let store = tokio::time::timeout(PATIENCE, waiting).await.expect("it waits on").unwrap();
    assert_eq!(store.peers().iter().filter(|peer| peer.connected).count(), 1);
    until("what the peer has is here", PATIENCE, || store.value(&key("x")) == 3).await;
    peer.close().await.unwrap();
    until("it is known why the peer is gone", PATIENCE, || {
        store.peers().iter().all(|peer| peer.absence == Some(PeerAbsence::Stopped))
    })
    .await;
    store.close().await.unwrap();
}

/// A name of two families, of which the peer has one, is not waited for; nor is a name of our own.
#[tokio::test]
async fn an_address_that_leads_nowhere_beside_one_that_answers_is_not_waited_for() {
    let peer = open(config("b")).await;
    let port = peer.address().unwrap().port();
    let opening = open(config("a").peers([format!("localhost:{port}")]).sync_timeout(TOO_LONG));
    let store = tokio::time::timeout(PATIENCE, opening).await.expect("it waits");
    assert!(store.peers().iter().any(|peer| peer.connected));
    let own = free_address();
    let opening = open(config("c").listen(own.clone()).peers([own]).sync_timeout(TOO_LONG));
    let alone = tokio::time::timeout(PATIENCE, opening).await.expect("it waits for itself");
    assert_eq!(alone.peers(), []);
    for store in [store, alone, peer] {
        store.close().await.unwrap();
    }
}

/// The only peer that a store shows.
fn absence(store: &CounterStore) -> Option<PeerAbsence> {
    store.peers().iter().find_map(|peer| peer.absence)
}

#[tokio::test]
async fn the_list_of_peers_is_replaced_while_the_node_runs() {
    let (a, b) = (open(config("a")).await, open(config("b")).await);
    let address = a.address().unwrap().to_string();
    a.add(&key("x"), 3).unwrap();
    b.set_peers([address.clone()]).await.unwrap();
    assert_eq!(b.peers().len(), 1, "the list is in force");
    until("what the peer has is here", PATIENCE, || b.value(&key("x")) == 3).await;

    b.set_peers(Vec::<String>::new()).await.unwrap();
    let removed = Some(PeerAbsence::Removed);
    assert_eq!(absence(&b), removed);
    until("the other end knows why, too", PATIENCE, || absence(&a) == removed).await;
    assert_eq!(b.value(&key("x")), 3, "what was counted stays counted");

    let error = b.set_peers(["nonsense"]).await.unwrap_err();
    assert!(matches!(error, SetPeersError::Invalid(_)) && error.to_string().contains("nonsense"));
    b.set_peers([address]).await.unwrap();
    a.add(&key("x"), 1).unwrap();
    until("they have met again", PATIENCE, || b.value(&key("x")) == 4).await;
    // A connection that came in stays: it is the peer's to close.
    a.set_peers(Vec::<String>::new()).await.unwrap();
    a.add(&key("x"), 1).unwrap();
    until("they are connected still", PATIENCE, || b.value(&key("x")) == 5).await;
    b.close().await.unwrap();
    assert!(matches!(b.set_peers(["h:1"]).await, Err(SetPeersError::Closed)));
    a.close().await.unwrap();
}

#[tokio::test]
async fn the_lines_of_a_file_are_peers_as_long_as_they_are_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("peers");
    let entry = format!("file:{}", path.display());
    let (a, b) = (open(config("a")).await, open(config("b")).await);
    let opening = config("c").peers([entry.clone()]).sync_timeout(Duration::ZERO);
    let c = open(opening).await;
    assert_eq!(absences(&c), [(Some(entry), Some(PeerAbsence::Unresolved))]);
    let address = |store: &CounterStore| store.address().unwrap().to_string();
    std::fs::write(&path, format!("garbage\n{}\n\n# b\n{}", address(&a), address(&b))).unwrap();
    let connected = || c.peers().iter().filter(|peer| peer.connected).count();
    until("a file that appears is read", PATIENCE, || connected() == 2).await;
    std::fs::write(&path, address(&b)).unwrap();
    until("a line that leaves is a peer that leaves", PATIENCE, || connected() == 1).await;
    assert_eq!(absence(&c), Some(PeerAbsence::Removed));
    std::fs::write(&path, "nothing that is of use").unwrap();
    until("it may be without peers", PATIENCE, || connected() == 0).await;
    for store in [a, b, c] {
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_list_of_only_ourselves_is_no_trouble() {
    let address = free_address();
    let store = open(config("a").listen(address.clone()).peers([address])).await;
    until("it is known", PATIENCE, || store.peers().is_empty()).await;
    store.add(&key("x"), 1).unwrap();
    assert!(store.health().reasons.is_empty());
    store.close().await.unwrap();
}
