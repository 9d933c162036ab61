//! Node keys on real sockets: members count together, a member is itself and no other, a stranger gets one message, and a key is
//! changed without a gap and taken away at once.

use std::sync::LazyLock;
use std::time::Duration;

use tallymesh::{
    ClusterKey, Config, ConfigBuilder, CounterKey, CounterStore, NodeKey, PeerAbsence, ReplicaId,
    SetMembersError,
};
use tallymesh_core::wire::DEFAULT_CLUSTER;
use tallymesh_test_support::hostile::{Hostile, hello};
use tallymesh_test_support::{Added, Adding, Log, until};

const PATIENCE: Duration = Duration::from_secs(30);

/// What every node of this process has logged.
static LOG: LazyLock<Log> = LazyLock::new(|| {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone());
    subscriber.init();
    log
});

fn key(byte: u8) -> NodeKey {
    NodeKey::parse(&format!("{byte:02x}").repeat(32)).unwrap()
}

fn fingerprint(byte: u8) -> String {
    key(byte).public_key().fingerprint()
}

/// A list in which each node has this key.
fn members(of: &[(&str, u8)]) -> Vec<String> {
    of.iter().map(|(node, byte)| format!("{node}={}", key(*byte).public_key())).collect()
}

fn base(name: &str, peers: &[&CounterStore]) -> ConfigBuilder {
    let peers = peers.iter().map(|peer| peer.address().unwrap().to_string());
    Config::builder(name)
        .in_memory()
        .listen("127.0.0.1:0")
        .gossip_interval(Duration::from_millis(10))
        .sync_timeout(Duration::ZERO)
        .peers(peers)
}

async fn open(config: ConfigBuilder) -> CounterStore {
    LazyLock::force(&LOG);
    CounterStore::open(config.build().unwrap()).await.unwrap()
}

/// The node of this name with its key in this list, which has dialed those.
async fn node(name: &str, listed: &[(&str, u8)], peers: &[&CounterStore]) -> CounterStore {
    let own = listed.iter().find(|(node, _)| *node == name).unwrap().1;
    open(base(name, peers).node_key(key(own)).members(members(listed))).await
}

async fn close(stores: impl IntoIterator<Item = CounterStore>) {
    for store in stores {
        store.close().await.unwrap();
    }
}

fn counter(name: &str) -> CounterKey {
    CounterKey::new(name, &[]).unwrap()
}

/// The fingerprint by which the node of this name is connected.
fn key_of(store: &CounterStore, name: &str) -> Option<String> {
    let is_it = |replica: &ReplicaId| replica.node.as_str() == name;
    let peers = store.peers();
    let mut there = peers.iter().filter(|peer| peer.connected);
    there.find(|peer| peer.replica.as_ref().is_some_and(is_it))?.key.clone()
}

fn is_connected(store: &CounterStore, name: &str) -> bool {
    key_of(store, name).is_some()
}

fn strangers(store: &CounterStore) -> u64 {
    store.rejections().strangers_refused
}

fn is_unproven(store: &CounterStore) -> bool {
    store.peers().iter().any(|peer| peer.absence == Some(PeerAbsence::Unproven))
}

/// What each counts now is seen by all.
async fn converge(stores: &[&CounterStore], what: &str) {
    let fresh = counter(what);
    for store in stores {
        store.add(&fresh, 1).unwrap();
    }
    let all = stores.len() as u64;
    until(what, PATIENCE, || stores.iter().all(|store| store.value(&fresh) == all)).await;
}

#[tokio::test]
async fn three_members_agree_and_show_by_which_keys() {
    let listed = [("a", 1), ("b", 2), ("c", 3)];
    let a = node("a", &listed, &[]).await;
    let b = node("b", &listed, &[&a]).await;
    let c = node("c", &listed, &[&a, &b]).await;
    converge(&[&a, &b, &c], "three agree").await;
    for (store, others) in [(&a, [("b", 2), ("c", 3)]), (&c, [("a", 1), ("b", 2)])] {
        for (name, byte) in others {
            until("it is shown", PATIENCE, || key_of(store, name) == Some(fingerprint(byte))).await;
        }
        assert_eq!((strangers(store), store.health().reasons), (0, Vec::new()));
    }
    assert_eq!(a.status().keys, [fingerprint(1)]);
    // Frames that are longer than a record holds.
    for n in 0..4_000 {
        let long = format!("a counter with a long name, of which a frame holds but some, {n}");
        a.add(&counter(&long), 1).unwrap();
    }
    until("all of it has arrived", PATIENCE, || a.state_checksum() == c.state_checksum()).await;
    close([a, b, c]).await;
}

#[tokio::test]
async fn a_stranger_gets_one_message_and_a_good_pair_goes_on() {
    let listed = [("a", 4), ("b", 5)];
    let a = node("a", &listed, &[]).await;
    let b = node("b", &listed, &[&a]).await;
    converge(&[&a, &b], "before strangers").await;
    for number in 1..20 {
        // Its own name, and that of a member.
        let claims = if number % 2 == 0 { "stranger#1.1" } else { "b#9.9" }.parse().unwrap();
        let mut peer = Hostile::connect(a.address().unwrap(), number).await.unwrap();
        let unknown = key(6);
        let proving = peer.prove_node(&unknown, DEFAULT_CLUSTER, &claims);
        let refused = tokio::time::timeout(PATIENCE, proving).await.expect("it is refused");
        refused.expect_err("no link, and no word of why");
        assert_eq!(peer.all_until_the_end().await, b"");
        until("it is counted", PATIENCE, || strangers(&a) == u64::from(number)).await;
        converge(&[&a, &b], &format!("after stranger {number}")).await;
    }
    let mut peer = Hostile::connect(a.address().unwrap(), 20).await.unwrap();
    peer.send(&[&[0, 32][..], &[9; 32]].concat()).await.unwrap();
    peer.end().await;
    let got = peer.all_until_the_end().await.len();
    assert!((1..=1026).contains(&got), "one message of at most 1 KiB: {got}");
    assert!(LOG.says(&["a connection was refused", &fingerprint(6), "not among gossip.members"]));
    assert_eq!((a.peers().len(), a.status().cluster_size), (1, 2), "a stranger is no peer");
    close([a, b]).await;
}

/// Each has the node make a message, and says no more; more of them at once than have a place.
#[tokio::test]
async fn a_flood_of_first_messages_gets_one_message_each_and_a_good_pair_goes_on() {
    let listed = [("a", 22), ("b", 23)];
    let with = |name: &str, byte, peers: &[&CounterStore]| {
        let config = base(name, peers).handshake_timeout(Duration::from_millis(500));
        open(config.node_key(key(byte)).members(members(&listed)))
    };
    let a = with("a", 22, &[]).await;
    let b = with("b", 23, &[&a]).await;
    converge(&[&a, &b], "before the flood").await;
    let (address, mut flood) = (a.address().unwrap(), tokio::task::JoinSet::new());
    for number in 0..400 {
        flood.spawn(async move {
            // It may be pushed out at any moment.
            let Ok(mut peer) = Hostile::connect(address, number).await else { return 0 };
            let _ = peer.send(&[&[0, 32][..], &[9; 32]].concat()).await;
            peer.all_until_the_end().await.len()
        });
    }
    let mut answered = 0;
    for number in 0..400 {
        let got = tokio::time::timeout(PATIENCE, flood.join_next()).await.expect("its end");
        let got = got.unwrap().unwrap();
        assert!(got <= 1026, "{got}");
        answered += u64::from(got > 0);
        if number % 100 == 0 {
            converge(&[&a, &b], &format!("beside the flood, {number}")).await;
        }
    }
    assert!(answered > 0, "some have a place");
    until("they are counted", PATIENCE, || strangers(&a) >= answered).await;
    assert!(is_connected(&a, "b") && a.peers().len() == 1);
    assert_eq!(a.status().thread_restarts, 0);
    close([a, b]).await;
}

#[tokio::test]
async fn a_member_is_no_other_node() {
    let listed = [("a", 7), ("b", 8), ("c", 9)];
    let a = node("a", &listed, &[]).await;
    let b = node("b", &listed, &[&a]).await;
    converge(&[&a, &b], "before the member that lies").await;
    let c: ReplicaId = "c#1.1".parse().unwrap();
    for (number, claims) in (1..).zip([b.replica(), a.replica(), "d#1.1".parse().unwrap()]) {
        // By the handshake.
        let mut peer = Hostile::connect(a.address().unwrap(), number).await.unwrap();
        peer.prove_node(&key(9), DEFAULT_CLUSTER, &claims).await.expect_err("it is refused");
        until("it is counted", PATIENCE, || strangers(&a) == u64::from(number)).await;
        // By the hello after a true handshake.
        let mut peer = Hostile::connect(a.address().unwrap(), number).await.unwrap();
        let sent = peer.prove_node(&key(9), DEFAULT_CLUSTER, &c).await.unwrap();
        assert!(sent <= 1026, "{sent}");
        peer.say(&[hello(&claims)]).await.unwrap();
        let its_end = async { while peer.hear().await.is_ok() {} };
        tokio::time::timeout(PATIENCE, its_end).await.expect("its end");
        converge(&[&a, &b], &format!("beside what says that it is {claims}")).await;
    }
    assert!(LOG.says(&["it says that it is b", &fingerprint(9), "that of c in gossip.members"]));
    assert!(is_connected(&a, "b") && is_connected(&b, "a"));
    close([a, b]).await;
}

#[tokio::test]
async fn a_copied_key_is_of_no_use_under_another_name() {
    let listed = [("a", 10), ("b", 11)];
    let a = node("a", &listed, &[]).await;
    // With the key of b, in a list that has it as another node's.
    let copied = members(&[("a", 10), ("d", 11)]);
    let d = open(base("d", &[&a]).node_key(key(11)).members(copied)).await;
    until("it is refused, and knows", PATIENCE, || is_unproven(&d) && strangers(&a) > 0).await;
    until("the logs say it", PATIENCE, || {
        LOG.says(&["it says that it is d", &fingerprint(11), "that of b in gossip.members"])
            && LOG.says(&["it does not take our key", &fingerprint(11), "for that of d"])
    })
    .await;
    // Under its own list it does not even open.
    let config = base("d", &[]).node_key(key(11)).members(members(&listed));
    let why = config.build().unwrap_err().to_string();
    assert!(why.contains("gossip.members") && why.contains("not b's"), "{why}");
    assert_eq!(a.peers().len(), 0);
    close([a, d]).await;
}

#[tokio::test]
async fn neither_kind_of_key_leads_to_the_other() {
    let cluster_key = || [ClusterKey::parse(&"5b".repeat(32)).unwrap()];
    let by_node = node("a", &[("a", 12)], &[]).await;
    let by_cluster = open(base("b", &[]).gossip_key(cluster_key())).await;
    let to_node = open(base("c", &[&by_node]).gossip_key(cluster_key())).await;
    let to_cluster = node("d", &[("d", 13)], &[&by_cluster]).await;
    until("each is refused", PATIENCE, || strangers(&by_node) > 0 && strangers(&by_cluster) > 0)
        .await;
    until("who dialed knows", PATIENCE, || is_unproven(&to_node) && is_unproven(&to_cluster)).await;
    for said in [
        "it uses a cluster key (gossip.key), and this node a node key",
        "it uses a node key (gossip.node_key), and this node a cluster key",
        "it does not answer with a node key: it has a cluster key (gossip.key)",
    ] {
        until(said, PATIENCE, || LOG.says(&[said])).await;
    }
    close([by_node, by_cluster, to_node, to_cluster]).await;
}

#[tokio::test]
async fn a_revoked_key_ends_at_once_and_what_it_counted_stays() {
    let listed = [("a", 14), ("b", 15), ("c", 16)];
    let a = node("a", &listed, &[]).await;
    let b = node("b", &listed, &[&a]).await;
    let c = node("c", &listed, &[&a, &b]).await;
    let x = counter("x");
    c.add(&x, 5).unwrap();
    until("it has spread", PATIENCE, || a.value(&x) == 5 && b.value(&x) == 5).await;
    for store in [&a, &b] {
        store.set_members(members(&listed[..2])).await.unwrap();
        until("it is gone", PATIENCE, || !is_connected(store, "c")).await;
    }
    c.add(&x, 1).unwrap();
    until("it knows why", PATIENCE, || is_unproven(&c)).await;
    converge(&[&a, &b], "the others go on").await;
    assert_eq!((a.value(&x), b.value(&x), c.value(&x)), (5, 5, 6));
    // Another key of the same node is one that is not in the list, until it is.
    for store in [&a, &b] {
        store.set_members(members(&listed)).await.unwrap();
    }
    until("it is back", PATIENCE, || a.value(&x) == 6 && b.value(&x) == 6).await;

    let without_itself = a.set_members(members(&listed[1..])).await.unwrap_err();
    assert!(matches!(without_itself, SetMembersError::Invalid(_)), "{without_itself}");
    assert!(without_itself.to_string().contains(&members(&listed[..1])[0]), "{without_itself}");
    let other = a.set_node_key(key(15)).await.unwrap_err().to_string();
    assert!(other.contains("not b's") && !other.contains(&key(15).reveal()), "{other}");
    assert!(is_connected(&a, "b"), "the former list and key stay");
    close([a, b]).await;
    c.close().await.unwrap();
    let closed = c.set_members(members(&listed)).await;
    assert!(matches!(closed, Err(SetMembersError::Closed)));
}

/// The keys of both nodes are changed: of the one that was dialed, and of the one that dialed.
#[tokio::test]
async fn keys_are_changed_under_load_without_a_gap() {
    let a = node("a", &[("a", 17), ("b", 18)], &[]).await;
    let b = node("b", &[("a", 17), ("b", 18)], &[&a]).await;
    until("they are connected", PATIENCE, || is_connected(&a, "b") && is_connected(&b, "a")).await;
    let load = Adding::begin(&[&a, &b], counter("load"));
    let goes_on = || async {
        let here = load.until_now().counted;
        until("the load goes on", PATIENCE, || load.until_now().counted > here + 100).await;
    };
    let steps: [(&CounterStore, &CounterStore, _, _, _); 2] = [
        (&a, &b, "a", 19, [vec![("a", 19), ("a", 17), ("b", 18)], vec![("a", 19), ("b", 18)]]),
        (&b, &a, "b", 20, [vec![("a", 19), ("b", 20), ("b", 18)], vec![("a", 19), ("b", 20)]]),
    ];
    for (changes, other, name, new, lists) in steps {
        for store in [&a, &b] {
            store.set_members(members(&lists[0])).await.unwrap();
        }
        goes_on().await;
        changes.set_node_key(key(new)).await.unwrap();
        assert_eq!(changes.status().keys, [fingerprint(new)]);
        let is_under = || key_of(other, name) == Some(fingerprint(new));
        until("the link is renewed", PATIENCE, is_under).await;
        goes_on().await;
        for store in [&a, &b] {
            store.set_members(members(&lists[1])).await.unwrap();
        }
        goes_on().await;
        assert!(is_under(), "it stays");
    }
    let Added { counted, unconnected, .. } = load.end().await;
    let x = counter("load");
    until("no count is lost", PATIENCE, || [&a, &b].iter().all(|one| one.value(&x) == counted))
        .await;
    assert_eq!(unconnected, 0, "they were connected all the while");
    assert_eq!((strangers(&a), strangers(&b)), (0, 0));
    close([a, b]).await;
}

#[tokio::test]
async fn with_a_node_key_a_node_that_others_can_reach_has_nothing_to_say() {
    let listed = members(&[("a", 21)]);
    let config = base("a", &[]).listen("0.0.0.0:0").node_key(key(21)).members(listed);
    let store = open(config).await;
    assert_eq!(store.health().reasons, Vec::<String>::new());
    close([store]).await;
}
