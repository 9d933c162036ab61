//! Three nodes that know one another.

use std::io;

use tallymesh::{ClusterKey, Limiter, Request};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::counting_proxy::CountingProxy;
use crate::cluster::{self, address, limit, node, open, until};
use crate::peers::Place;

/// A limit that is far from being reached, so that changes wait for the next round.
pub const NORMAL: &str = "normal";
/// A limit that one call takes up, so that changes are sent at once.
pub const URGENT: &str = "urgent";

/// The interval between two rounds, on average: the default.
pub const INTERVAL_MS: f64 = 50.0;

/// What nodes say to each other: as it is, or under a key of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    Plain,
    Encrypted,
}

pub struct Nodes {
    pub nodes: Vec<Limiter>,
    /// What the nodes' connections lead through, if that was asked for.
    pub proxies: Vec<CountingProxy>,
    runtime: Runtime,
    _directory: TempDir,
}

impl Nodes {
    /// All connected; each dials those before it.
    pub fn start(count: usize, place: Place, proxied: bool, line: Line) -> io::Result<Nodes> {
        let key = (line == Line::Encrypted).then(ClusterKey::generate).transpose()?;
        let (runtime, directory) = (cluster::runtime(), cluster::directory());
        let on_disk = (place == Place::Disk).then_some(&directory);
        let (mut nodes, mut proxies) = (Vec::<Limiter>::new(), Vec::new());
        for name in ["a", "b", "c"].iter().take(count) {
            let mut peers: Vec<String> =
                nodes.iter().map(|node| address(node.counters())).collect();
            if proxied {
                for peer in &mut peers {
                    let proxy = CountingProxy::start(peer)?;
                    *peer = proxy.address.clone();
                    proxies.push(proxy);
                }
            }
            let settings = node(name, on_disk).peers(peers).peer_exchange(false);
            let settings = settings.limit(limit(NORMAL, 1 << 40)).limit(limit(URGENT, 1));
            let settings = match &key {
                Some(key) => settings.gossip_key([key.clone()]),
                None => settings,
            };
            nodes.push(open(&runtime, settings));
        }
        until("all are connected", || {
            let connected =
                |node: &Limiter| node.peers().iter().filter(|peer| peer.connected).count();
            nodes.iter().all(|node| connected(node) + 1 >= count)
        });
        Ok(Nodes { nodes, proxies, runtime, _directory: directory })
    }

    /// Waits until nothing is left to write.
    pub fn flush(&self) {
        for node in &self.nodes {
            self.runtime.block_on(node.counters().flush()).expect("the disk works");
        }
    }

    /// Leaves nothing running.
    pub fn close(self) {
        for node in &self.nodes {
            self.runtime.block_on(node.close()).expect("the disk works");
        }
    }
}

/// A call that only the limit of this name counts.
pub fn call<'a>(limit: &'a str, session: &'a str) -> Request<'a> {
    Request::new().with("limit", limit).with("session", session)
}
