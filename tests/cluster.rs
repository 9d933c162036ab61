//! Real instances: sockets on the loopback interface, sled on disk, nothing simulated.

use std::path::Path;
use std::time::Duration;

use tallymesh::{Config, ConfigBuilder, CounterStore, Limit, Limiter, Peek, Request, Window};
use tallymesh_test_support::{Proxy, copy_moment, until};

const NAMES: [&str; 3] = ["a", "b", "c"];
const PATIENCE: Duration = Duration::from_secs(20);

fn session_limit(max: u64) -> Limit {
    let ttl = Duration::from_secs(3600);
    Limit::new("calls per session", max, Window::Session { ttl }).per("session")
}

fn config(dir: &Path, name: &str) -> ConfigBuilder {
    Config::builder(name)
        .data_dir(dir.join(name))
        .listen("127.0.0.1:0")
        .gossip_interval(Duration::from_millis(10))
        // The proxies are the only way between two instances.
        .peer_exchange(false)
}

/// Three instances, each behind proxies of its own towards each other.
struct Cluster {
    dir: tempfile::TempDir,
    proxies: Vec<Vec<Proxy>>,
    nodes: Vec<Limiter>,
}

impl Cluster {
    async fn start(max: u64) -> Cluster {
        let dir = tempfile::tempdir().unwrap();
        let mut proxies = Vec::new();
        for _ in NAMES {
            let mut row = Vec::new();
            for _ in NAMES {
                row.push(Proxy::start().await.unwrap());
            }
            proxies.push(row);
        }
        let mut cluster = Cluster { dir, proxies, nodes: Vec::new() };
        for index in 0..NAMES.len() {
            let node = cluster.open(index, max).await;
            cluster.nodes.push(node);
        }
        cluster
    }

    async fn open(&self, index: usize, max: u64) -> Limiter {
        let peers = (0..NAMES.len()).filter(|to| *to != index);
        let peers = peers.map(|to| self.proxies[index][to].address().to_string());
        let config = config(self.dir.path(), NAMES[index]).peers(peers).limit(session_limit(max));
        let node = Limiter::open(config.build().unwrap()).await.unwrap();
        for row in &self.proxies {
            row[index].lead_to(node.counters().address().unwrap());
        }
        node
    }

    fn isolate(&self, index: usize, cut: bool) {
        for other in (0..NAMES.len()).filter(|other| *other != index) {
            self.proxies[index][other].cut(cut);
            self.proxies[other][index].cut(cut);
        }
    }

    async fn converge(&self) {
        until("all instances hold the same", PATIENCE, || {
            let state = |node: &Limiter| {
                (node.counters().version_vector(), node.counters().state_checksum())
            };
            self.nodes.windows(2).all(|pair| state(&pair[0]) == state(&pair[1]))
        })
        .await;
    }

    /// How many of `calls` in this session an instance admits.
    fn admits(&self, index: usize, session: &str, calls: usize) -> usize {
        let request = Request::tool_call(session, "book");
        (0..calls).filter(|_| self.nodes[index].acquire(&request).is_allowed()).count()
    }

    async fn close(self) {
        for node in &self.nodes {
            node.close().await.unwrap();
        }
    }
}

#[tokio::test]
async fn three_nodes_share_a_limit_and_agree_after_a_partition() {
    let cluster = Cluster::start(5).await;
    assert_eq!(cluster.admits(0, "s", 3), 3);
    cluster.converge().await;
    assert_eq!(cluster.admits(1, "s", 1), 1);
    cluster.converge().await;

    cluster.isolate(2, true);
    until("c has lost its peers", PATIENCE, || {
        cluster.nodes[2].peers().iter().all(|peer| !peer.connected)
    })
    .await;
    assert_eq!(cluster.admits(0, "s", 9), 1);
    assert_eq!(cluster.admits(2, "s", 9), 1);
    assert_eq!(cluster.admits(2, "other", 9), 5);

    cluster.isolate(2, false);
    cluster.converge().await;
    for index in 0..3 {
        assert_eq!(cluster.admits(index, "s", 1), 0);
        assert_eq!(cluster.admits(index, "other", 1), 0);
        let key = &cluster.nodes[0].keys(&Request::tool_call("s", "book"))[0];
        assert_eq!(cluster.nodes[index].counters().value(key), 6, "one overshot, on each side");
    }
    cluster.close().await;
}

#[tokio::test]
async fn a_burst_of_new_keys_on_every_node_converges() {
    let cluster = Cluster::start(100).await;
    for n in 0..3_000 {
        assert_eq!(cluster.admits(n % 3, &format!("session {n}"), 1), 1);
    }
    cluster.converge().await;
    assert!(cluster.nodes.iter().all(|node| node.counters().len() == 3_000));
    let peers = cluster.nodes[0].peers();
    assert!(peers.iter().filter(|peer| peer.connected).count() >= 2, "{peers:?}");
    cluster.close().await;
}

#[tokio::test]
async fn a_restart_keeps_the_counts_and_hears_what_it_missed_before_it_admits() {
    let mut cluster = Cluster::start(4).await;
    assert_eq!(cluster.admits(0, "s", 2), 2);
    cluster.converge().await;
    cluster.nodes[0].close().await.unwrap();
    let before = cluster.nodes[0].counters().replica();
    // While a is away, b admits the rest.
    assert_eq!(cluster.admits(1, "s", 9), 2);
    cluster.nodes[0] = cluster.open(0, 4).await;
    let after = cluster.nodes[0].counters().replica();
    assert!(after.incarnation.boot > before.incarnation.boot);
    assert_ne!(after.incarnation.nonce, before.incarnation.nonce);
    assert_eq!(cluster.admits(0, "s", 9), 0, "opening waited for what the peers know");
    cluster.close().await;
}

#[tokio::test]
async fn an_older_copy_of_the_disk_takes_no_count_from_what_the_peers_hold() {
    let mut cluster = Cluster::start(100).await;
    assert_eq!(cluster.admits(0, "s", 3), 3);
    cluster.nodes[0].close().await.unwrap();
    let (dir, backup) = (cluster.dir.path().join("a"), cluster.dir.path().join("backup"));
    copy_moment(&dir, &backup);
    cluster.nodes[0] = cluster.open(0, 100).await;
    assert_eq!(cluster.admits(0, "s", 5), 5);
    cluster.converge().await;
    cluster.nodes[0].close().await.unwrap();
    // The backup has 3 of the 8, and the boot number that the second life has used already.
    std::fs::remove_dir_all(&dir).unwrap();
    std::fs::rename(&backup, &dir).unwrap();
    cluster.nodes[0] = cluster.open(0, 100).await;
    assert_eq!(cluster.admits(0, "s", 2), 2);
    cluster.converge().await;
    let key = &cluster.nodes[0].keys(&Request::tool_call("s", "book"))[0];
    for node in &cluster.nodes {
        assert_eq!(node.counters().value(key), 10);
    }
    cluster.close().await;
}

#[tokio::test]
async fn a_lost_disk_is_relearned_from_the_peers() {
    let mut cluster = Cluster::start(4).await;
    assert_eq!(cluster.admits(0, "s", 4), 4);
    cluster.converge().await;
    cluster.nodes[0].close().await.unwrap();
    std::fs::remove_dir_all(cluster.dir.path().join("a/db")).unwrap();
    cluster.nodes[0] = cluster.open(0, 4).await;
    assert!(cluster.nodes[0].counters().set_aside().is_some(), "never a silent empty start");
    assert_eq!(cluster.admits(0, "s", 1), 0);
    cluster.close().await;
}

#[tokio::test]
async fn what_was_acknowledged_as_durable_is_there_without_a_farewell() {
    let dir = tempfile::tempdir().unwrap();
    let open = || async {
        let config = config(dir.path(), "a").limit(session_limit(100)).build().unwrap();
        Limiter::open(config).await.unwrap()
    };
    let limiter = open().await;
    let request = Request::tool_call("s", "t");
    let calls: Vec<_> = (0..50).map(|_| limiter.acquire_durable(&request)).collect();
    for call in calls {
        assert!(call.await.unwrap().is_allowed());
    }
    // What a crash at this moment would leave.
    let copy = tempfile::tempdir().unwrap();
    copy_moment(&dir.path().join("a"), &copy.path().join("a"));
    let contents = tallymesh::inspect(copy.path().join("a")).unwrap();
    assert_eq!(contents.counters[0].value, 50);
    limiter.close().await.unwrap();
    let limiter = open().await;
    let Peek::Allowed { remaining, .. } = limiter.peek(&request) else { panic!("there is room") };
    assert_eq!(remaining, Some(49));
    limiter.close().await.unwrap();
}

#[tokio::test]
async fn a_held_directory_and_a_taken_port_are_told_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let first = CounterStore::open(config(dir.path(), "a").build().unwrap()).await.unwrap();
    let second = CounterStore::open(config(dir.path(), "a").build().unwrap()).await;
    let message = second.unwrap_err().to_string();
    let told = "open in this process already: close it first, or attach";
    assert!(message.contains(told), "{message}");
    let taken = first.address().unwrap().to_string();
    let third = config(dir.path(), "b").listen(taken.clone()).build().unwrap();
    let message = CounterStore::open(third).await.unwrap_err().to_string();
    assert!(message.contains(&taken), "{message}");
    first.close().await.unwrap();
    // Nothing of the failed attempts is left in the way.
    let again = CounterStore::open(config(dir.path(), "a").build().unwrap()).await.unwrap();
    again.close().await.unwrap();
    again.close().await.unwrap();
    assert!(again.flush().await.is_err(), "closed is closed");
}

#[tokio::test]
async fn an_opening_that_is_given_up_lets_go_of_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    // A peer that takes the connection and says nothing keeps the opening waiting.
    let mute = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = || {
        let peer = mute.local_addr().unwrap().to_string();
        config(dir.path(), "a").peers([peer]).sync_timeout(Duration::from_secs(60))
    };
    let opening = Limiter::open(settings().build().unwrap());
    let (given_up, stream) =
        tokio::join!(tokio::time::timeout(Duration::from_millis(300), opening), mute.accept());
    assert!(given_up.is_err() && stream.is_ok());
    let again = config(dir.path(), "a").sync_timeout(Duration::ZERO);
    let mut opened = Limiter::open(again.clone().build().unwrap()).await;
    while let Err(error) = &opened {
        assert!(error.to_string().contains("open in this process already"), "{error}");
        tokio::time::sleep(Duration::from_millis(5)).await;
        opened = Limiter::open(again.clone().build().unwrap()).await;
    }
    opened.unwrap().close().await.unwrap();
}

#[tokio::test]
async fn a_name_given_twice_and_our_own_address_do_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let limit = || session_limit(100);
    let a = Limiter::open(config(dir.path(), "a").limit(limit()).build().unwrap()).await.unwrap();
    let address = a.counters().address().unwrap().to_string();
    // The same peer twice, once by name.
    let by_name = address.replace("127.0.0.1", "localhost");
    let b = config(dir.path(), "b").peers([address.clone(), by_name]).limit(limit());
    let b = Limiter::open(b.build().unwrap()).await.unwrap();
    assert!(b.acquire(&Request::tool_call("s", "t")).is_allowed());
    let key = &a.keys(&Request::tool_call("s", "t"))[0];
    until("a hears of it", PATIENCE, || a.counters().value(key) == 1).await;
    a.close().await.unwrap();
    b.close().await.unwrap();
}

#[tokio::test]
async fn strangers_and_garbage_on_the_socket_do_no_harm() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let cluster = Cluster::start(5).await;
    let address = cluster.nodes[0].counters().address().unwrap();
    let mut strangers = Vec::new();
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 5_000], &[0; 64], b"x"] {
        let mut stranger = tokio::net::TcpStream::connect(address).await.unwrap();
        stranger.write_all(garbage).await.unwrap();
        strangers.push(stranger);
    }
    assert_eq!(cluster.admits(1, "s", 5), 5);
    cluster.converge().await;
    assert_eq!(cluster.admits(0, "s", 1), 0);
    for stranger in &mut strangers[..3] {
        let mut rest = Vec::new();
        let hung_up = tokio::time::timeout(PATIENCE, stranger.read_to_end(&mut rest)).await;
        assert!(hung_up.is_ok(), "who talks nonsense is hung up on");
    }
    cluster.close().await;
}
