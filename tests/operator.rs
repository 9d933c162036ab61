//! What an operator does, over real sockets: quarantine, release, forget, and who is believed.

use std::time::Duration;

use tallymesh::{
    Cell, Config, ConfigBuilder, CounterKey, CounterStore, EntryError, EntryStatus, Incarnation,
    NodeId, OperatorEntry, OperatorKey, ReplicaId, Version,
};
use tallymesh_core::wire::Message;
use tallymesh_test_support::hostile::{Hostile, count, hello};
use tallymesh_test_support::until;

const PATIENCE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn config(name: &str, peers: &[String], operator: Option<&OperatorKey>) -> ConfigBuilder {
    let config = Config::builder(name).in_memory().listen("127.0.0.1:0").peers(peers);
    let config = config.digest_interval(Duration::from_millis(100));
    match operator {
        Some(key) => config.operator_public_key(key.public().to_string()),
        None => config,
    }
}

async fn open(config: ConfigBuilder) -> CounterStore {
    CounterStore::open(config.build().unwrap()).await.unwrap()
}

/// Nodes of these names that are connected.
async fn cluster(names: &[&str], operator: &OperatorKey) -> Vec<CounterStore> {
    let mut stores: Vec<CounterStore> = Vec::new();
    for name in names {
        let peers: Vec<String> = stores.iter().map(address).collect();
        stores.push(open(config(name, &peers, Some(operator))).await);
    }
    until("all are connected", PATIENCE, || {
        let others = |store: &CounterStore| store.peers().iter().filter(|p| p.connected).count();
        stores.iter().all(|store| others(store) + 1 == stores.len())
    })
    .await;
    stores
}

fn address(store: &CounterStore) -> String {
    store.address().unwrap().to_string()
}

fn key(name: &str) -> CounterKey {
    CounterKey::new(name, &[]).unwrap()
}

fn values(stores: &[CounterStore], name: &str) -> Vec<u64> {
    stores.iter().map(|store| store.value(&key(name))).collect()
}

fn node(name: &str) -> NodeId {
    name.parse().unwrap()
}

/// All entries of a node, by what each does.
fn said(store: &CounterStore) -> Vec<EntryStatus> {
    store.status().operator
}

fn all_through(store: &CounterStore, action: &str) -> bool {
    said(store).iter().any(|entry| entry.action == action && entry.progress == 100)
}

/// A peer that says that it is `forged` and has counted so much, from now on.
async fn forge(store: &CounterStore, forged: &ReplicaId, name: &str, amount: u64) -> Hostile {
    let mut hostile = Hostile::connect(store.address().unwrap(), 7).await.unwrap();
    let count = count(forged, &key(name), amount, store.now().0);
    hostile.say(&[hello(forged), count]).await.unwrap();
    hostile
}

#[tokio::test]
async fn a_quarantine_reaches_all_nodes_and_a_release_undoes_it() {
    let operator = OperatorKey::generate().unwrap();
    let stores = cluster(&["a", "b", "bad"], &operator).await;
    stores[0].add(&key("x"), 3).unwrap();
    stores[2].add(&key("x"), 1_000).unwrap();
    until("all have counted", PATIENCE, || values(&stores, "x") == [1_003; 3]).await;
    stores[1].quarantine(&node("bad"), HOUR, Some(&operator)).unwrap();
    until("it counts for nothing", PATIENCE, || values(&stores, "x") == [3, 3, 1_003]).await;
    assert!(stores[..2].iter().all(|store| all_through(store, "quarantine")));
    until("it says so itself", PATIENCE, || {
        stores[2].health().reasons.concat().contains("in quarantine")
    })
    .await;
    stores[2].add(&key("x"), 500).unwrap();
    stores[1].add(&key("x"), 1).unwrap();
    until("what good nodes count does", PATIENCE, || values(&stores, "x") == [4, 4, 1_504]).await;
    // A node that comes later learns it before it is ready, or as soon as it can be told.
    let peers: Vec<String> = stores.iter().map(address).collect();
    let late = open(config("late", &peers, Some(&operator))).await;
    until("also where it comes late", PATIENCE, || {
        late.value(&key("x")) == 4 && !said(&late).is_empty()
    })
    .await;
    stores[0].release(&node("bad"), Some(&operator)).unwrap();
    until("all is back", PATIENCE, || values(&stores, "x") == [1_504; 3]).await;
    until("there too", PATIENCE, || late.value(&key("x")) == 1_504).await;
}

#[tokio::test]
async fn a_forged_replica_is_forgotten_while_all_run_and_is_not_learned_again() {
    let operator = OperatorKey::generate().unwrap();
    let stores = cluster(&["a", "b"], &operator).await;
    stores[0].add(&key("x"), 3).unwrap();
    let forged: ReplicaId = "forged#1.00000000000000ff".parse().unwrap();
    let mut hostile = forge(&stores[0], &forged, "x", 1_000).await;
    until("it is believed", PATIENCE, || values(&stores, "x") == [1_003; 2]).await;
    stores[1].forget(&forged, Some(&operator)).unwrap();
    until("it is gone", PATIENCE, || values(&stores, "x") == [3; 2]).await;
    // It goes on telling, and so does what still had it.
    let more = count(&forged, &key("x"), 5_000, stores[0].now().0);
    hostile.say(&[more]).await.unwrap();
    until("it is refused", PATIENCE, || stores[0].rejections().cells_forgotten > 0).await;
    stores[0].add(&key("x"), 1).unwrap();
    until("the others count on", PATIENCE, || values(&stores, "x") == [4; 2]).await;
    let cells = |store: &CounterStore| -> Vec<ReplicaId> {
        let all = store.iter().flat_map(|counter| counter.cells);
        all.map(|(replica, _): (ReplicaId, Cell)| replica).collect()
    };
    assert!(stores.iter().all(|store| !cells(store).contains(&forged)));
    assert!(stores.iter().all(|store| store.version_vector().watermark(&forged) == Version::ZERO));
}

#[tokio::test]
async fn a_live_replica_that_hears_itself_forgotten_goes_on_as_another() {
    let operator = OperatorKey::generate().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let a = open(config("a", &[], Some(&operator))).await;
    let with_disk = |peers: &[String]| {
        let config = Config::builder("b").data_dir(dir.path()).listen("127.0.0.1:0").peers(peers);
        let config = config.operator_public_key(operator.public().to_string());
        config.digest_interval(Duration::from_millis(100))
    };
    let b = open(with_disk(&[address(&a)])).await;
    b.add(&key("x"), 1_000).unwrap();
    until("a has it", PATIENCE, || a.value(&key("x")) == 1_000).await;
    let first = b.replica();
    a.forget(&first, Some(&operator)).unwrap();
    until("b goes on as another", PATIENCE, || b.replica() != first).await;
    let second = b.replica();
    assert_eq!(second.node, first.node);
    assert!(second.incarnation.boot > first.incarnation.boot);
    let Incarnation { nonce, .. } = second.incarnation;
    assert_ne!(nonce, first.incarnation.nonce);
    until("what it had told is gone", PATIENCE, || a.value(&key("x")) == 0).await;
    // From here on nothing may be lost.
    let before = b.value(&key("x"));
    for _ in 0..50 {
        b.add(&key("x"), 1).unwrap();
    }
    a.add(&key("x"), 2).unwrap();
    let all = before + 52;
    until("both count on", PATIENCE, || [&a, &b].iter().all(|s| s.value(&key("x")) == all)).await;
    until("they are peers", PATIENCE, || {
        a.peers().iter().any(|p| p.replica == Some(second.clone()))
    })
    .await;
    // And a restart finds it all, under a third.
    b.close().await.unwrap();
    let b = open(with_disk(&[address(&a)])).await;
    assert!(b.replica().incarnation.boot > second.incarnation.boot);
    assert_eq!((b.value(&key("x")), said(&b).len()), (all, 1));
    b.add(&key("x"), 1).unwrap();
    until("a hears it", PATIENCE, || a.value(&key("x")) == all + 1).await;
}

#[tokio::test]
async fn who_is_not_the_operator_is_refused_and_counted() {
    let (operator, other) = (OperatorKey::generate().unwrap(), OperatorKey::generate().unwrap());
    let store = open(config("a", &[], Some(&operator))).await;
    let b = node("b");
    assert_eq!(store.quarantine(&b, HOUR, None), Err(EntryError::NotSigned));
    assert_eq!(store.quarantine(&b, HOUR, Some(&other)), Err(EntryError::WrongSignature));
    let elsewhere = operator.sign(OperatorEntry::quarantine(&b, store.now(), HOUR), "elsewhere");
    assert_eq!(store.take_entry(elsewhere), Err(EntryError::WrongSignature));
    assert!(said(&store).is_empty());
    // A member says that it has something of the operator's, and sends that when it is asked.
    let member: ReplicaId = "member#1.0000000000000001".parse().unwrap();
    let mut hostile = Hostile::connect(store.address().unwrap(), 9).await.unwrap();
    hostile.say(&[hello(&member)]).await.unwrap();
    let forged = OperatorEntry::forget(&store.replica(), store.now());
    for (entry, refused) in [(forged.clone(), 1), (other.sign(forged.clone(), "default"), 2)] {
        let digest = Message::Digest {
            after: None,
            entries: Vec::new(),
            last: true,
            others: None,
            buckets: Vec::new(),
            operator: Some(refused),
        };
        let entries = vec![entry.to_bytes().into()];
        hostile.say(&[digest, Message::OperatorEntries { entries }]).await.unwrap();
        until("it is refused", PATIENCE, || store.rejections().entries_refused == refused).await;
    }
    assert!(said(&store).is_empty());
    // Without a key in its config, a node does what it is told to itself, and says that no other does.
    let lone = open(config("lone", &[address(&store)], None)).await;
    assert_eq!(lone.quarantine(&b, HOUR, Some(&operator)), Err(EntryError::NoKey));
    lone.quarantine(&b, HOUR, None).unwrap();
    let held = &said(&lone)[0];
    assert_eq!((held.is_in_force, held.is_told), (true, false));
    assert_eq!((&*held.action, &*held.subject), ("quarantine", "b"));
    // One that was signed where the private key is.
    let signed = operator.sign(OperatorEntry::release(&b, store.now()), "default");
    let signed = OperatorEntry::from_bytes(&signed.to_bytes()).unwrap();
    assert_eq!(store.take_entry(signed.clone()), Ok(true));
    assert_eq!(store.take_entry(signed), Ok(false));
    store.close().await.unwrap();
    assert_eq!(store.release(&b, Some(&operator)), Err(EntryError::Closed));
}
