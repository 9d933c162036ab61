//! A node with a real directory, and a peer that knows all it knows.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tallymesh::{Config, ConfigBuilder, Durability, Limit, Limiter, OpenError, Request, Window};
use tallymesh_test_support::{copy_moment, until};

pub const PATIENCE: Duration = Duration::from_secs(30);
const COUNTERS: usize = 2_000;

/// The peer, and the directory of a closed node.
pub struct Cluster {
    pub peer: Limiter,
    /// The directory as it is.
    pub dir: PathBuf,
    /// The directory as an earlier life left it.
    pub earlier: PathBuf,
    /// What the node holds.
    pub state_checksum: u64,
}

impl Cluster {
    /// Lets a node live a few lives beside its peer.
    pub async fn start(temp: &Path) -> Cluster {
        let peer = limited("b").in_memory().listen("127.0.0.1:0").build().unwrap();
        let peer = Limiter::open(peer).await.unwrap();
        let (dir, earlier) = (temp.join("a"), temp.join("earlier"));
        for life in 0..4 {
            let node = open(&dir, Some(&peer)).await.unwrap();
            for number in (0..COUNTERS).filter(|number| life == 0 || number % 4 == life) {
                let session = format!("session {number}");
                let request = Request::tool_call(&session, "tool");
                assert!(node.acquire(&request).is_allowed());
                if number % 10 == 0 {
                    node.counters().flush().await.unwrap();
                }
                assert!(number % 3 > 0 || peer.acquire(&request).is_allowed());
            }
            until("both hold the same", PATIENCE, || {
                node.counters().version_vector() == peer.counters().version_vector()
            })
            .await;
            node.close().await.unwrap();
            if life == 1 {
                copy_moment(&dir, &earlier);
            }
        }
        let state_checksum = peer.counters().state_checksum();
        Cluster { peer, dir, earlier, state_checksum }
    }
}

/// The name and the limits, without which the counters are others.
pub fn limited(name: &str) -> ConfigBuilder {
    let ttl = Duration::from_secs(24 * 3600);
    let limit = Limit::new("calls", 1_000_000, Window::Session { ttl }).per("session");
    Config::builder(name)
        .gossip_interval(Duration::from_millis(5))
        .sync_timeout(PATIENCE)
        .durability(Durability::Sync)
        .limit(limit)
}

/// Opens the node on a directory, beside its peer or alone.
pub async fn open(dir: &Path, peer: Option<&Limiter>) -> Result<Limiter, OpenError> {
    let peer = peer.map(|peer| peer.counters().address().unwrap().to_string());
    let opening = Limiter::open(limited("a").data_dir(dir).peers(peer).build().unwrap());
    tokio::time::timeout(PATIENCE, opening).await.expect("an opening comes to its end")
}

/// What a node counted in a session.
pub fn value(node: &Limiter, session: &str) -> u64 {
    node.counters().value(&node.keys(&Request::new().with("session", session))[0])
}

/// Whether an error says what to do.
pub fn is_helpful(error: &str) -> bool {
    let advice = [
        "choose", "move", "give", "set ", "stop", "fix", "replace", "delete", "restore", "enlarge",
    ];
    advice.iter().any(|word| error.contains(word))
}
