//! Members that come and go, over real sockets: one seed leads to all, who leaves takes no count along, who arrives waits for
//! the others' counts, and a restart remembers who there was.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tallymesh::{Config, ConfigBuilder, CounterKey, CounterStore, PeerAbsence, PeerSource};
use tallymesh_test_support::until;

const PATIENCE: Duration = Duration::from_secs(60);

fn config(name: &str, peers: &[String]) -> ConfigBuilder {
    Config::builder(name).in_memory().listen("127.0.0.1:0").peers(peers)
}

async fn open(config: ConfigBuilder) -> CounterStore {
    CounterStore::open(config.build().unwrap()).await.unwrap()
}

fn address(store: &CounterStore) -> String {
    store.address().unwrap().to_string()
}

fn key(name: &str) -> CounterKey {
    CounterKey::new(name, &[]).unwrap()
}

/// The nodes that are connected to this one, by name.
fn connected(store: &CounterStore) -> Vec<String> {
    let peers = store.peers().into_iter().filter(|peer| peer.connected);
    let mut names: Vec<String> =
        peers.filter_map(|peer| Some(peer.replica?.node.to_string())).collect();
    names.sort();
    names
}

async fn all_connected(stores: &[CounterStore]) {
    let complete = |store: &CounterStore| connected(store).len() + 1 == stores.len();
    until("all are connected", PATIENCE, || stores.iter().all(complete)).await;
}

/// A seed that knows no other, and nodes that know the seed alone.
async fn one_seed(nodes: usize) -> Vec<CounterStore> {
    let mut stores = vec![open(config("n0", &[])).await];
    let seed = address(&stores[0]);
    for n in 1..nodes {
        stores.push(open(config(&format!("n{n}"), std::slice::from_ref(&seed))).await);
    }
    stores
}

#[tokio::test]
async fn with_one_seed_all_members_list_one_that_arrives() {
    let mut stores = one_seed(9).await;
    all_connected(&stores).await;
    // The seed is not needed for that: any member will do.
    let any = address(&stores[5]);
    let late = open(config("late", std::slice::from_ref(&any))).await;
    stores.push(late.clone());
    all_connected(&stores).await;
    until("all count ten", PATIENCE, || {
        stores.iter().all(|store| store.status().cluster_size == 10)
    })
    .await;
    for peer in late.peers() {
        let expected = match peer.address.as_ref() == Some(&any) {
            true => [PeerSource::Config; 2],
            false => [PeerSource::Exchange, PeerSource::DialedUs],
        };
        assert!(expected.contains(&peer.source.unwrap()), "{peer:?}");
        assert!(peer.since.is_some() && peer.address.is_some(), "{peer:?}");
    }
    late.close().await.unwrap();
    stores.pop();
    until("it is none any more", PATIENCE, || {
        stores.iter().all(|store| store.status().cluster_size == 9)
    })
    .await;
    let gone = stores[0].peers().into_iter().find(|peer| !peer.connected).unwrap();
    assert_eq!(gone.absence, Some(PeerAbsence::Stopped));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scale_down_under_load_loses_no_count() {
    let stores = one_seed(6).await;
    all_connected(&stores).await;
    let (counted, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let threads: Vec<_> = stores
        .iter()
        .map(|store| {
            let (store, counted, over) = (store.clone(), counted.clone(), over.clone());
            std::thread::spawn(move || {
                let mut n = 0;
                while !over.load(Ordering::Relaxed)
                    && store.add(&key(&format!("k{}", n % 50)), 1).is_ok()
                {
                    counted.fetch_add(1, Ordering::Relaxed);
                    n += 1;
                    if n % 100 == 0 {
                        std::thread::yield_now();
                    }
                }
            })
        })
        .collect();
    let (stay, go) = stores.split_at(3);
    until("there is load", PATIENCE, || counted.load(Ordering::Relaxed) > 10_000).await;
    // All at one moment: none may rely on another that leaves.
    let leaving = go.iter().cloned().map(|store| tokio::spawn(async move { store.close().await }));
    for closed in leaving.collect::<Vec<_>>() {
        assert_eq!(closed.await.unwrap().unwrap().unconfirmed, 0);
    }
    over.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let all = counted.load(Ordering::Relaxed);
    let sum = |store: &CounterStore| -> u64 {
        (0..50).map(|n| store.value(&key(&format!("k{n}")))).sum()
    };
    until("each has every count", PATIENCE, || stay.iter().all(|store| sum(store) == all)).await;
}

#[tokio::test]
async fn an_instance_without_an_answer_says_how_much_no_peer_has() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let peers = [unused.local_addr().unwrap().to_string()];
    let store = open(config("a", &peers).sync_timeout(Duration::ZERO)).await;
    for name in ["x", "y", "z"] {
        store.add(&key(name), 1).unwrap();
    }
    assert_eq!(store.close().await.unwrap().unconfirmed, 3);
    let alone = open(config("b", &[])).await;
    alone.add(&key("x"), 1).unwrap();
    assert_eq!(alone.close().await.unwrap().unconfirmed, 0);
}

#[tokio::test]
async fn who_arrives_is_ready_once_it_has_what_the_others_had() {
    let stores = one_seed(2).await;
    for n in 0..3_000 {
        stores[0].add(&key(&format!("k{n}")), 1).unwrap();
    }
    let has_all =
        |store: &CounterStore| (0..3_000).all(|n| store.value(&key(&format!("k{n}"))) == 1);
    until("the other has them", PATIENCE, || has_all(&stores[1])).await;
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let free = unused.local_addr().unwrap().to_string();
    drop(unused);
    // An address that refuses is tried, and not waited for.
    let late = config("late", &[address(&stores[0]), free]);
    let late =
        open(late.sync_timeout(Duration::ZERO).ready_timeout(Duration::from_secs(600))).await;
    tokio::time::timeout(PATIENCE, late.ready()).await.expect("it is never ready");
    assert!(has_all(&late));
    assert!(late.status().ready && late.status().waiting_for.is_empty(), "{:?}", late.status());

    let unknown = config("waits", &["no-such-host.invalid:1".to_owned()]);
    let waits =
        open(unknown.sync_timeout(Duration::ZERO).ready_timeout(Duration::from_secs(600))).await;
    let status = waits.status();
    assert!(!status.ready);
    assert!(status.waiting_for[0].contains("no-such-host.invalid:1"), "{status:?}");
    waits.close().await.unwrap();
    tokio::time::timeout(PATIENCE, waits.ready()).await.expect("it waits though it is closed");
}

#[tokio::test]
async fn clusters_of_two_names_stay_apart() {
    let blue = open(config("a", &[]).cluster("blue")).await;
    let peers = [address(&blue)];
    let green = config("b", &peers).cluster("green").sync_timeout(Duration::ZERO);
    let green = open(green).await;
    until("it is known why", PATIENCE, || {
        green.peers().iter().any(|peer| peer.absence == Some(PeerAbsence::OtherCluster))
    })
    .await;
    let also_blue = open(config("c", &peers).cluster("blue")).await;
    until("one name, one cluster", PATIENCE, || connected(&also_blue) == ["a"]).await;
    until("it is counted", PATIENCE, || blue.status().cluster_size == 2).await;
    assert_eq!(green.status().cluster_size, 1);
}

#[tokio::test]
async fn a_restart_remembers_the_members_and_finds_them_where_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let on_disk = |peers: &[String]| {
        Config::builder("disk").data_dir(dir.path()).listen("127.0.0.1:0").peers(peers)
    };
    let stores = one_seed(3).await;
    let node = open(on_disk(&[address(&stores[0])])).await;
    until("it knows all", PATIENCE, || connected(&node).len() == 3).await;
    // What a peer connects to by itself stays that: the other two may have been the quicker ones.
    let told = |node: &CounterStore| {
        let peers = node.peers().into_iter();
        peers.filter(|peer| peer.source == Some(PeerSource::Exchange)).count()
    };
    let exchanged = told(&node);
    node.close().await.unwrap();

    // Nothing says where the others are, but its own disk.
    let node = open(on_disk(&[])).await;
    assert_eq!(node.status().cluster_size, 4);
    until("it dials who it learned of", PATIENCE, || connected(&node).len() >= exchanged).await;
    node.close().await.unwrap();

    for store in &stores {
        store.close().await.unwrap();
    }
    let node = open(on_disk(&[]).sync_timeout(Duration::ZERO)).await;
    assert_eq!(node.status().cluster_size, 4, "it did not hear them say goodbye");
    let lost = |peer: &tallymesh::PeerStatus| {
        matches!(peer.absence, Some(PeerAbsence::Lost | PeerAbsence::Unreachable))
    };
    assert!(node.peers().iter().all(lost), "{:?}", node.peers());
    node.close().await.unwrap();
}
