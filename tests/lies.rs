//! A member that lies, on real sockets, beside a good pair that must keep converging: it has the cluster's key, and says of itself and of
//! others what cannot be true, or is at the very bound of what is believed.
//!
//! Of a connected member only its own link is believed. So most lies are told while the two good ones are cut off from each other, or
//! are about lives that ended.
#![cfg(target_os = "linux")]

use std::time::Duration;

use tallymesh::{
    ClusterKey, Config, ConfigBuilder, CounterKey, CounterStore, Incarnation, ReplicaId, Version,
};
use tallymesh_core::crdt::{Delta, Update};
use tallymesh_core::wire::{DEFAULT_CLUSTER, Message};
use tallymesh_test_support::hostile::{Hostile, count, hello};
use tallymesh_test_support::{Proxy, until};

const PATIENCE: Duration = Duration::from_secs(60);
/// So far above its start a replica may be at once.
const VERSIONS_AT_START: u64 = 1 << 47;

/// Two good nodes, of which the second has dialed the first through a proxy, and a liar that is a member.
struct Three {
    a: CounterStore,
    b: CounterStore,
    between: Proxy,
    liar: Hostile,
    as_liar: ReplicaId,
    _dir: tempfile::TempDir,
}

fn config(name: &str) -> ConfigBuilder {
    Config::builder(name)
        .listen("127.0.0.1:0")
        .gossip_key([ClusterKey::parse(&"5a".repeat(32)).unwrap()])
        .gossip_interval(Duration::from_millis(10))
        .digest_interval(Duration::from_millis(200))
        .silence_timeout(Duration::from_secs(1))
        .sync_timeout(Duration::ZERO)
        // Or the two would find a way past the proxy.
        .peer_exchange(false)
}

async fn open(config: ConfigBuilder) -> CounterStore {
    CounterStore::open(config.build().unwrap()).await.unwrap()
}

fn key(name: &str) -> CounterKey {
    CounterKey::new(name, &[]).unwrap()
}

impl Three {
    async fn open() -> Three {
        let dir = tempfile::tempdir().unwrap();
        let between = Proxy::start().await.unwrap();
        let a = open(config("a").in_memory()).await;
        between.lead_to(a.address().unwrap());
        let b = open(Three::config_of_b(&dir, &between)).await;
        let as_liar: ReplicaId = format!("liar#{}.7", a.now().0).parse().unwrap();
        let liar = join(&a, &as_liar).await;
        let three = Three { a, b, between, liar, as_liar, _dir: dir };
        three.converges("before anything").await;
        three
    }

    fn config_of_b(dir: &tempfile::TempDir, between: &Proxy) -> ConfigBuilder {
        let peers = [between.address().to_string()];
        config("b").data_dir(dir.path().join("b")).peers(peers)
    }

    /// What either counts now is seen by the other.
    async fn converges(&self, when: &str) {
        let fresh = key("fresh");
        let before = self.a.value(&fresh).max(self.b.value(&fresh));
        self.a.add(&fresh, 1).unwrap();
        self.b.add(&fresh, 1).unwrap();
        let what = format!("the good pair converges: {when}");
        let both = || [&self.a, &self.b].iter().all(|one| one.value(&fresh) == before + 2);
        until(&what, PATIENCE, both).await;
    }

    /// Cuts the two off from each other, until each has given the other up.
    async fn cut(&self) {
        self.between.cut(true);
        let is_away = |store: &CounterStore, name: &str| {
            !store.peers().iter().any(|peer| {
                let is_it = |of: &ReplicaId| of.node.as_str() == name;
                peer.connected && peer.replica.as_ref().is_some_and(is_it)
            })
        };
        until("both are alone", PATIENCE, || is_away(&self.a, "b") && is_away(&self.b, "a")).await;
    }

    fn heal(&self) {
        self.between.cut(false);
    }

    /// The liar says this, and `a` has taken it in.
    async fn lie(&mut self, lies: &[Message]) {
        // It may have been silent for too long.
        if self.liar.say(lies).await.is_err() {
            self.liar = join(&self.a, &self.as_liar).await;
            self.liar.say(lies).await.unwrap();
        }
        self.liar.say(&[Message::Ping {}]).await.unwrap();
        loop {
            let answer = within("an answer", self.liar.hear()).await.unwrap();
            if answer.iter().any(|message| matches!(message, Message::Pong { .. })) {
                return;
            }
        }
    }

    async fn liar_comes_anew(&mut self) {
        self.liar = join(&self.a, &self.as_liar).await;
    }

    async fn close(self) {
        self.a.close().await.unwrap();
        self.b.close().await.unwrap();
    }
}

async fn join(to: &CounterStore, as_liar: &ReplicaId) -> Hostile {
    let mut liar = Hostile::connect(to.address().unwrap(), 1).await.unwrap();
    let secret = ClusterKey::parse(&"5a".repeat(32)).unwrap();
    within("a proof", liar.prove(&secret, DEFAULT_CLUSTER, as_liar)).await.unwrap();
    liar.say(&[hello(as_liar)]).await.unwrap();
    liar
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("never: {what}"))
}

/// A chain of no cell that is complete to there.
fn watermark(replica: &ReplicaId, to: u64) -> Message {
    Message::Delta(Delta {
        replica: replica.clone(),
        from: Version::ZERO,
        chain: 9,
        part: 0,
        watermark: Some(Version(to)),
        as_of: None,
        begun: Vec::new(),
        updates: Vec::new(),
    })
}

/// A cell in `x` as its writer would send it, but for what is changed.
fn cell(store: &CounterStore, replica: &ReplicaId, change: impl Fn(&mut Update)) -> Message {
    let Message::Delta(delta) = count(replica, &key("x"), 1, store.now().0) else {
        unreachable!("it is a delta")
    };
    let mut updates = delta.updates;
    updates.iter_mut().for_each(change);
    Message::Push { replica: replica.clone(), updates, at_once: false }
}

#[tokio::test]
async fn what_it_says_truly_is_counted() {
    let mut three = Three::open().await;
    let (as_liar, x) = (three.as_liar.clone(), key("x"));
    three.liar_comes_anew().await;
    let truth = count(&as_liar, &x, 5, three.a.now().0);
    three.lie(&[truth]).await;
    until("both count it", PATIENCE, || three.a.value(&x) == 5 && three.b.value(&x) == 5).await;
    three.converges("after a true word").await;
    three.close().await;
}

/// The last watermark is dropped; one at the bound is believed while `b` is away, and heals once it is back.
#[tokio::test]
async fn a_forged_watermark_heals() {
    for (to, is_believed) in [(u64::MAX, false), (VERSIONS_AT_START, true)] {
        let mut three = Three::open().await;
        let (b, x) = (three.b.replica(), key("x"));
        three.cut().await;
        three.liar_comes_anew().await;
        three.lie(&[watermark(&b, to)]).await;
        let held = three.a.version_vector().watermark(&b);
        assert_eq!(held == Version(to), is_believed, "{held}");
        assert_eq!(three.a.rejections().cells_implausible > 0, !is_believed);
        three.b.add(&x, 50).unwrap();
        three.heal();
        until("a sees all of it", PATIENCE, || three.a.value(&x) == 50).await;
        three.converges("after a forged watermark").await;
        three.close().await;
    }
}

#[tokio::test]
async fn a_forged_version_heals() {
    for (version, is_believed) in [(u64::MAX, false), (VERSIONS_AT_START, true)] {
        let mut three = Three::open().await;
        let (b, x) = (three.b.replica(), key("x"));
        three.b.add(&x, 1).unwrap();
        until("a sees it", PATIENCE, || three.a.value(&x) == 1).await;
        three.cut().await;
        three.liar_comes_anew().await;
        let forged = cell(&three.a, &b, |update| {
            (update.version, update.p) = (Version(version), 900);
        });
        three.lie(&[forged]).await;
        assert_eq!(three.a.value(&x), if is_believed { 900 } else { 1 });
        three.b.add(&x, 9).unwrap();
        three.heal();
        until("a sees the truth", PATIENCE, || three.a.value(&x) == 10).await;
        three.converges("after a forged version").await;
        three.close().await;
    }
}

#[tokio::test]
async fn of_a_connected_member_only_its_own_link_is_believed() {
    let mut three = Three::open().await;
    let (b, x) = (three.b.replica(), key("x"));
    three.liar_comes_anew().await;
    let forged = cell(&three.a, &b, |update| (update.version, update.p) = (Version(1 << 40), 900));
    three.lie(&[forged, watermark(&b, 1 << 41)]).await;
    assert_eq!(three.a.value(&x), 0);
    assert!(three.a.version_vector().watermark(&b) < Version(1 << 40));
    three.converges("while it lies").await;
    three.close().await;
}

#[tokio::test]
async fn the_last_generation_is_dropped_and_a_counter_can_always_be_reset() {
    let mut three = Three::open().await;
    let (as_liar, x) = (three.as_liar.clone(), key("x"));
    three.a.add(&x, 1).unwrap();
    three.liar_comes_anew().await;
    let forged = cell(&three.a, &as_liar, |update| {
        (update.generation, update.p) = (u32::MAX, (1 << 53) - 1);
    });
    three.lie(&[forged]).await;
    assert_eq!((three.a.value(&x), three.a.rejections().cells_implausible), (1, 1));
    // So far it is believed at any time: that is a reset, as any member may do.
    let forged = cell(&three.a, &as_liar, |update| {
        (update.version, update.generation, update.p) = (Version(2), 1 << 24, 900);
    });
    three.lie(&[forged]).await;
    until("both believe it", PATIENCE, || three.a.value(&x) == 900 && three.b.value(&x) == 900)
        .await;
    for store in [&three.b, &three.a] {
        store.reset(&x).unwrap();
        let both_are_empty = || three.a.value(&x) == 0 && three.b.value(&x) == 0;
        until("it is reset on both", PATIENCE, both_are_empty).await;
        store.add(&x, 3).unwrap();
        let both_count = || three.a.value(&x) == 3 && three.b.value(&x) == 3;
        until("and counts again", PATIENCE, both_count).await;
    }
    three.converges("after forged generations").await;
    three.close().await;
}

#[tokio::test]
async fn boots_that_it_makes_up_raise_no_ones_own() {
    let mut three = Three::open().await;
    let (b, x) = (three.b.replica(), key("x"));
    three.liar_comes_anew().await;
    for (boot, p) in [(u64::MAX, 1), (1 << 63, 2), ((1 << 63) - 1, 4)] {
        let incarnation = Incarnation { boot, nonce: 7 };
        let forged = ReplicaId { node: b.node.clone(), incarnation };
        let said = cell(&three.a, &forged, |update| update.p = p);
        three.lie(&[said, watermark(&forged, 1)]).await;
    }
    until("b holds cells of them", PATIENCE, || three.b.value(&x) == 7).await;
    three.b.close().await.unwrap();
    three.b = open(Three::config_of_b(&three._dir, &three.between)).await;
    assert_eq!(three.b.value(&x), 7, "they are on its disk");
    let boot = three.b.replica().incarnation.boot;
    let hour = 3_600_000;
    assert!(b.incarnation.boot < boot && boot < three.b.now().0 + hour, "{boot}");
    three.converges("after its restart").await;
    three.close().await;
}
