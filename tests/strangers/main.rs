//! Hostile peers on real sockets, each beside a good pair that must keep converging.
//!
//! Once the good nodes have a cluster key and who connects has none: it is sent no byte, and has no effect. Once it is at a place where it
//! is listened to: with the key, or at nodes without one on the loopback interface; then what is asserted is the bound that holds.
//!
//! | what it does | without the key | listened to |
//! |---|---|---|
//! | a true message | `bytes::what_it_says_truly_is_counted` | the same |
//! | silence, a byte now and then | `bytes::silence_and_single_bytes_end_in_time` | the same |
//! | a hello that is cut or changed; lengths and nestings that cannot be; garbage | `bytes::nothing_comes_of_bytes_that_are_none` | the same |
//! | such bytes after a hello | - | `bytes::a_link_ends_over_bytes_that_are_none` |
//! | many idle connections, also with a length announced | `places::idle_connections_take_no_place_of_peers` | `places::announced_lengths_take_little` |
//! | claims to be the peer (same life, other nonce, earlier boot), or the node itself | `identity::claims_come_to_nothing` | the same |
//! | claims to be a later boot of the peer | the same | `identity::a_later_boot_does_not_throw_a_live_peer_out` |
//! | Conflict and Goodbye | `identity::complaints_of_strangers_are_a_few_lines` | the same |
//! | Goodbye(Myself) at an address of the config | - | `identity::who_says_myself_is_dialed_again` |
//! | promises what never comes | - | `identity::what_never_comes_is_not_waited_for` |
//! | greets in great numbers | `places::those_that_greet_are_not_met` | `places::those_that_greet_do_not_crowd_out_peers` |
//! | takes all places | the same | `places::a_peer_has_a_place_among_strangers` |
//! | digests and chains that do not end | `bounds::messages_of_strangers_are_not_read` | `bounds::digests_and_chains_that_do_not_end_are_bounded` |
//! | a clock beyond all times | the same | `bounds::a_clock_beyond_all_times_is_only_a_complaint` |
//! | a flood of pings or requests | the same | `bounds::floods_of_pings_and_requests_are_bounded` |
//! | a flood of connections, each reset | `flood::two_thousand_resets`, `flood::resets_for_ten_seconds` | - |
//!
//! What fills the log is in `tests/threads.rs`, too.
#![cfg(target_os = "linux")]

mod bounds;
mod bytes;
mod flood;
mod identity;
mod places;

use std::net::SocketAddr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tallymesh::{ClusterKey, Config, ConfigBuilder, CounterKey, CounterStore, ReplicaId};
use tallymesh_core::wire::{DEFAULT_CLUSTER, Message};
use tallymesh_test_support::hostile::{Hostile, hello};
use tallymesh_test_support::{Log, until};

const PATIENCE: Duration = Duration::from_secs(30);
const MIB: u64 = 1024 * 1024;

/// Memory is that of the process, and so is the log.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn key() -> ClusterKey {
    ClusterKey::parse(&"5a".repeat(32)).unwrap()
}

/// Two good nodes, of which the second has dialed the first.
struct Pair {
    a: CounterStore,
    b: CounterStore,
    key: Option<ClusterKey>,
    counted: AtomicU64,
    _only: tokio::sync::MutexGuard<'static, ()>,
}

fn config(name: &str) -> ConfigBuilder {
    Config::builder(name)
        .in_memory()
        .listen("127.0.0.1:0")
        .gossip_interval(Duration::from_millis(10))
        .sync_timeout(Duration::ZERO)
        .handshake_timeout(Duration::from_millis(500))
}

async fn open(config: ConfigBuilder) -> CounterStore {
    LazyLock::force(&LOG);
    CounterStore::open(config.build().unwrap()).await.unwrap()
}

fn counter(name: &str) -> CounterKey {
    CounterKey::new(name, &[]).unwrap()
}

/// Whether there is a link to the node of this name.
fn is_connected(store: &CounterStore, name: &str) -> bool {
    let is_it = |replica: &ReplicaId| replica.node.as_str() == name;
    store.peers().iter().any(|peer| peer.connected && peer.replica.as_ref().is_some_and(is_it))
}

impl Pair {
    async fn open(key: Option<ClusterKey>) -> Pair {
        Pair::open_with(key, |config| config).await
    }

    async fn open_with(
        key: Option<ClusterKey>,
        with: impl Fn(ConfigBuilder) -> ConfigBuilder,
    ) -> Pair {
        let only = ONE_AT_A_TIME.lock().await;
        let keyed = |config: ConfigBuilder| match &key {
            Some(key) => with(config.gossip_key([key.clone()])),
            None => with(config),
        };
        let a = open(keyed(config("a"))).await;
        let b = open(keyed(config("b").peers([a.address().unwrap().to_string()]))).await;
        let pair = Pair { a, b, key, counted: AtomicU64::new(0), _only: only };
        pair.converges("before anything").await;
        let knows_both = |store: &CounterStore| store.status().cluster_size == 2;
        until("both know it", PATIENCE, || knows_both(&pair.a) && knows_both(&pair.b)).await;
        pair
    }

    /// What each counts now is seen by the other.
    async fn converges(&self, when: &str) {
        let number = self.counted.fetch_add(1, Ordering::Relaxed);
        let fresh = counter(&format!("fresh {number}"));
        self.a.add(&fresh, 1).unwrap();
        self.b.add(&fresh, 1).unwrap();
        let what = format!("the good pair converges: {when}");
        until(&what, PATIENCE, || [&self.a, &self.b].iter().all(|one| one.value(&fresh) == 2))
            .await;
    }

    /// Whom strangers go to.
    fn address(&self) -> SocketAddr {
        self.a.address().unwrap()
    }

    /// A connection that has said nothing. Of many at once, some are turned away at that moment.
    async fn connect(&self, number: u32) -> Hostile {
        let connected = async {
            loop {
                if let Ok(peer) = Hostile::connect(self.address(), number).await {
                    return peer;
                }
            }
        };
        within("a connection", connected).await
    }

    /// A connection that is listened to: the key is proven, if there is one, and nothing is said yet.
    async fn prove(&self, number: u32, replica: &ReplicaId) -> Hostile {
        let mut peer = self.connect(number).await;
        if let Some(key) = &self.key {
            within("a proof", peer.prove(key, DEFAULT_CLUSTER, replica)).await.unwrap();
        }
        peer
    }

    /// A link: a hello was said and heard.
    async fn join(&self, number: u32, replica: &ReplicaId) -> Hostile {
        let mut peer = self.prove(number, replica).await;
        peer.say(&[hello(replica)]).await.unwrap();
        let first = within("its hello", peer.hear()).await.unwrap();
        assert!(matches!(first[0], Message::Hello { .. }), "{first:?}");
        peer
    }

    /// Nothing of a stranger was taken in: no peer but the good one, no replica but the two, no thread that stopped.
    fn is_untouched(&self) {
        for (store, other) in [(&self.a, "b"), (&self.b, "a")] {
            let peers = store.peers();
            let names = peers.iter().filter_map(|peer| peer.replica.as_ref());
            assert!(names.clone().all(|name| name.node.as_str() == other), "{peers:?}");
            let vector = store.version_vector();
            let ours = |name: &str| ["a", "b"].contains(&name);
            assert!(vector.iter().all(|(replica, _)| ours(replica.node.as_str())), "{vector:?}");
            assert_eq!(store.status().cluster_size, 2);
        }
        self.goes_on();
    }

    /// The two are connected, and no thread had to be started again.
    fn goes_on(&self) {
        assert!(is_connected(&self.a, "b") && is_connected(&self.b, "a"));
        for store in [&self.a, &self.b] {
            let (health, restarts) = (store.health(), store.status().thread_restarts);
            let is_of_a_thread = |reason: &String| reason.contains("thread");
            assert!(restarts == 0 && !health.reasons.iter().any(is_of_a_thread), "{health:?}");
        }
    }

    async fn close(self) {
        self.a.close().await.unwrap();
        self.b.close().await.unwrap();
    }
}

fn stranger(number: u64) -> ReplicaId {
    format!("stranger-{number}#1.{number}").parse().unwrap()
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("never: {what}"))
}

/// What this process has of the machine's memory, in bytes: both nodes and who attacks them.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// What every node of this process has logged.
static LOG: LazyLock<Log> = LazyLock::new(|| {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone());
    subscriber.init();
    log
});
