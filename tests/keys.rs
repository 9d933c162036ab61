//! Cluster keys on real sockets: who has one counts together, who has none gets nothing, and a key is changed without a gap.

use std::io::ErrorKind;
use std::sync::LazyLock;
use std::time::Duration;

use tallymesh::{
    ClusterKey, Config, ConfigBuilder, CounterKey, CounterStore, PeerAbsence, SetKeysError,
};
use tallymesh_test_support::{Added, Adding, Log, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than a test may take: who waits for it fails.
const TOO_LONG: Duration = Duration::from_secs(60);
/// The places of those who have not proven anything.
const PLACES: usize = 64;

fn key(byte: u8) -> ClusterKey {
    ClusterKey::parse(&format!("{byte:02x}").repeat(32)).unwrap()
}

fn keys(bytes: &[u8]) -> Vec<ClusterKey> {
    bytes.iter().map(|byte| key(*byte)).collect()
}

fn config(name: &str, peers: &[&CounterStore]) -> ConfigBuilder {
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

async fn close(stores: impl IntoIterator<Item = CounterStore>) {
    for store in stores {
        store.close().await.unwrap();
    }
}

fn counter() -> CounterKey {
    CounterKey::new("x", &[]).unwrap()
}

fn is_connected(store: &CounterStore) -> bool {
    store.peers().iter().any(|peer| peer.connected)
}

fn absence(store: &CounterStore) -> Option<PeerAbsence> {
    store.peers().iter().find_map(|peer| peer.absence)
}

fn strangers(store: &CounterStore) -> u64 {
    store.rejections().strangers_refused
}

/// What every node of this process has logged.
static LOG: LazyLock<Log> = LazyLock::new(|| {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone());
    subscriber.init();
    log
});

#[tokio::test]
async fn two_nodes_with_a_key_in_common_agree_and_show_which_one() {
    let a = open(config("a", &[]).gossip_key(keys(&[1, 2]))).await;
    let b = open(config("b", &[&a]).gossip_key(keys(&[2]))).await;
    a.add(&counter(), 3).unwrap();
    b.add(&counter(), 4).unwrap();
    until("they agree", PATIENCE, || [&a, &b].iter().all(|store| store.value(&counter()) == 7))
        .await;
    for store in [&a, &b] {
        until("it is shown", PATIENCE, || is_connected(store)).await;
        let peer = store.peers().into_iter().find(|peer| peer.connected).unwrap();
        assert_eq!(peer.key, Some(key(2).fingerprint()));
        assert_eq!(strangers(store), 0);
    }
    assert_eq!(a.status().keys, [key(1).fingerprint(), key(2).fingerprint()]);
    // A frame that is longer than a record holds.
    for n in 0..4_000 {
        let long = format!("a counter with a long name, of which a frame holds but some, {n}");
        a.add(&CounterKey::new(&long, &[]).unwrap(), 1).unwrap();
    }
    until("all of it has arrived", PATIENCE, || a.state_checksum() == b.state_checksum()).await;
    close([a, b]).await;
}

#[tokio::test]
async fn another_key_is_refused_at_both_ends_with_a_word() {
    let a = open(config("a", &[]).gossip_key(keys(&[3]))).await;
    let b = open(config("b", &[&a]).gossip_key(keys(&[4]))).await;
    b.add(&counter(), 1).unwrap();
    until("who dialed knows", PATIENCE, || absence(&b) == Some(PeerAbsence::Unproven)).await;
    until("who was dialed counts", PATIENCE, || strangers(&a) > 1).await;
    assert_eq!((a.peers().len(), a.value(&counter())), (0, 0), "no peer was ever there");
    let (ours, theirs) = (key(3).fingerprint(), key(4).fingerprint());
    until("the log says it", PATIENCE, || {
        LOG.says(&["a connection was refused", "none of the keys", &ours, "127.0.0.1"])
            && LOG.says(&["does not prove that it is of this cluster", &theirs, "gossip.key"])
    })
    .await;
    // Another name of the cluster is as another key.
    let c = open(config("c", &[&a]).gossip_key(keys(&[3])).cluster("other")).await;
    until("it is refused", PATIENCE, || absence(&c) == Some(PeerAbsence::Unproven)).await;
    assert!(!LOG.text().contains(&key(3).reveal()) && !LOG.text().contains(&key(4).reveal()));
    close([a, b, c]).await;
}

#[tokio::test]
async fn no_key_is_refused_by_one_and_does_not_answer_to_one() {
    let keyed = open(config("a", &[]).gossip_key(keys(&[5]))).await;
    let plain = open(config("b", &[&keyed])).await;
    plain.add(&counter(), 1).unwrap();
    until("it is refused", PATIENCE, || strangers(&keyed) > 1).await;
    until("the log says it at both ends", PATIENCE, || {
        LOG.says(&["a connection was refused", "it has no gossip.key"])
            && LOG.says(&["closed the connection", "has it a gossip.key"])
    })
    .await;
    assert!(!is_connected(&plain) && keyed.peers().is_empty());

    let dialing = open(config("c", &[&plain]).gossip_key(keys(&[5]))).await;
    until("the key is not answered", PATIENCE, || absence(&dialing) == Some(PeerAbsence::Unproven))
        .await;
    assert!(!plain.peers().iter().any(|peer| peer.connected));
    assert_eq!((keyed.value(&counter()), dialing.value(&counter())), (0, 0));
    close([keyed, plain, dialing]).await;
}

/// Waits for the end of a connection, and returns how it ended; what was sent before it must be nothing.
async fn ends_without_a_byte(mut stream: TcpStream, what: &str) -> Result<(), ErrorKind> {
    let mut bytes = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await;
    let ended = ended.unwrap_or_else(|_| panic!("it was never closed: {what}"));
    assert!(bytes.is_empty(), "{what}: {bytes:?}");
    ended.map(drop).map_err(|error| error.kind())
}

/// Two nodes with a key; the second has dialed the first.
async fn pair(
    byte: u8,
    with: impl Fn(ConfigBuilder) -> ConfigBuilder,
) -> (CounterStore, CounterStore) {
    let a = open(with(config("a", &[]).gossip_key(keys(&[byte])))).await;
    let b = open(with(config("b", &[&a]).gossip_key(keys(&[byte])))).await;
    until("they are connected", PATIENCE, || is_connected(&a) && is_connected(&b)).await;
    (a, b)
}

#[tokio::test]
async fn whatever_a_stranger_sends_it_is_closed_and_a_good_pair_goes_on() {
    let (a, b) = pair(6, |config| config.handshake_timeout(Duration::from_millis(300))).await;
    let mut inputs: Vec<(String, Vec<u8>)> = Vec::new();
    for size in [0, 1, 2, 3, 47, 48, 50, 64, 1_024, 1_026, 4_096, 65_537] {
        inputs.push((
            format!("{size} bytes of garbage"),
            (0..size).map(|n| n as u8 ^ 0x5a).collect(),
        ));
        // As a record of that length would be.
        let length = (size as u16).to_be_bytes();
        inputs.push((format!("a record of {size}"), [&length[..], &vec![7; size]].concat()));
    }
    inputs.push(("a record of 64 KiB".to_owned(), [&[0xff, 0xff][..], &vec![0; 65_535]].concat()));
    inputs.push(("HTTP".to_owned(), b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()));
    let (address, count) = (a.address().unwrap(), inputs.len() as u64);
    for ((what, input), counted) in inputs.into_iter().zip(1..) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // It may be closed before it has taken everything in.
        let _ = stream.write_all(&input).await;
        a.add(&counter(), 1).unwrap();
        until("the good pair goes on", PATIENCE, || b.value(&counter()) == counted).await;
        let end = ends_without_a_byte(stream, &what).await;
        assert!(matches!(end, Ok(()) | Err(ErrorKind::ConnectionReset)), "{what}: {end:?}");
    }
    until("each was counted", PATIENCE, || strangers(&a) == count).await;
    assert!(is_connected(&a) && is_connected(&b));
    assert_eq!(a.peers().len(), 1, "a stranger is no peer");
    close([a, b]).await;
}

#[tokio::test]
async fn strangers_have_few_places_and_none_of_those_of_peers() {
    let with = |config: ConfigBuilder| config.handshake_timeout(TOO_LONG).max_connections(2);
    let (a, b) = pair(7, with).await;
    let mut silent = Vec::new();
    for _ in 0..3 * PLACES {
        silent.push(TcpStream::connect(a.address().unwrap()).await.unwrap());
    }
    let pushed_out = 2 * PLACES as u64;
    until("the oldest are pushed out", PATIENCE, || strangers(&a) == pushed_out).await;
    for stream in silent.drain(..2 * PLACES) {
        let end = ends_without_a_byte(stream, "one of the oldest").await;
        assert_eq!(end, Err(ErrorKind::ConnectionReset), "nothing of it is left in the system");
    }
    // All places are taken, and a member comes in all the same.
    let c = open(with(config("c", &[&a]).gossip_key(keys(&[7])))).await;
    c.add(&counter(), 5).unwrap();
    until("what it counts is here", PATIENCE, || a.value(&counter()) == 5).await;
    until("and there", PATIENCE, || b.value(&counter()) == 5).await;
    assert_eq!(a.peers().iter().filter(|peer| peer.connected).count(), 2);
    drop(silent);
    close([a, b, c]).await;
}

#[tokio::test]
async fn a_key_is_changed_under_load_without_a_gap() {
    let (old, new) = (8, 9);
    let (a, b) = pair(old, |config| config).await;
    let load = Adding::begin(&[&a, &b], counter());
    let all_under = |byte| {
        let fingerprint = Some(key(byte).fingerprint());
        let is_under =
            |store: &CounterStore| store.peers().iter().all(|peer| peer.key == fingerprint);
        is_under(&a) && is_under(&b)
    };
    assert!(all_under(old));
    for keys_in_force in [&[old, new][..], &[new, old], &[new]] {
        for store in [&a, &b] {
            store.set_keys(keys(keys_in_force)).await.unwrap();
            let fingerprints: Vec<String> =
                keys(keys_in_force).iter().map(ClusterKey::fingerprint).collect();
            assert_eq!(store.status().keys, fingerprints);
        }
        if keys_in_force[0] == new {
            until("the link is renewed", PATIENCE, || all_under(new)).await;
        } else {
            assert!(all_under(old), "nothing changes for a link that is there");
        }
        let here = load.until_now().counted;
        until("the load goes on", PATIENCE, || load.until_now().counted > here + 100).await;
    }
    let Added { counted, unconnected, .. } = load.end().await;
    until("no count is lost", PATIENCE, || {
        a.value(&counter()) == counted && b.value(&counter()) == counted
    })
    .await;
    assert_eq!(unconnected, 0, "they were connected all the while");
    // Who still has the old key only is a stranger now.
    let late = open(config("c", &[&a]).gossip_key(keys(&[old]))).await;
    until("it is refused", PATIENCE, || absence(&late) == Some(PeerAbsence::Unproven)).await;
    close([a, b, late]).await;
}

#[tokio::test]
async fn a_link_under_a_key_that_is_taken_away_ends_at_once_at_both_ends() {
    let (a, b) = pair(10, |config| config).await;
    a.set_keys(keys(&[11])).await.unwrap();
    until("it is gone here", PATIENCE, || !is_connected(&a)).await;
    until("and there, with why", PATIENCE, || absence(&b) == Some(PeerAbsence::Unproven)).await;
    a.add(&counter(), 1).unwrap();
    b.set_keys(keys(&[11])).await.unwrap();
    until("they meet again", PATIENCE, || b.value(&counter()) == 1).await;

    let none = b.set_keys(Vec::new()).await.unwrap_err();
    assert!(matches!(none, SetKeysError::Invalid(_)) && none.to_string().contains("gossip.key"));
    let twice = b.set_keys(keys(&[11, 11])).await.unwrap_err().to_string();
    assert!(twice.contains("each key once") && !twice.contains(&key(11).reveal()), "{twice}");
    assert_eq!(b.status().keys, [key(11).fingerprint()], "the former ones stay");
    close([a]).await;
    b.close().await.unwrap();
    assert!(matches!(b.set_keys(keys(&[11])).await, Err(SetKeysError::Closed)));
    let open = open(config("c", &[])).await;
    assert!(matches!(open.set_keys(keys(&[11])).await, Err(SetKeysError::NoKey)));
    close([open]).await;
}

#[tokio::test]
async fn without_a_key_a_node_that_others_can_reach_says_so_as_long_as_it_runs() {
    let reasons = |store: &CounterStore| store.health().reasons.concat();
    let beyond = |name: &str| config(name, &[]).listen("0.0.0.0:0");
    let insecure = open(beyond("a").insecure(true)).await;
    assert!(reasons(&insecure).contains("gossip.key"), "{}", reasons(&insecure));
    assert!(LOG.says(&["WARN", "gossip.insecure is set and there is no gossip.key"]));
    let keyed = open(beyond("b").gossip_key(keys(&[12]))).await;
    let local = open(config("c", &[]).insecure(true)).await;
    assert_eq!((reasons(&keyed), reasons(&local)), (String::new(), String::new()));
    close([insecure, keyed, local]).await;
}
