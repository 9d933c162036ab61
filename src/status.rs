//! How an instance is doing: one snapshot, which everything that shows it reads.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::runtime::{Health, Runtime};
use tallymesh_core::gossip::PeerStatus;
use tallymesh_core::id::ReplicaId;
use tallymesh_core::table::Rejections;

/// How an instance is doing, as of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// The replica that this instance writes as.
    pub replica: ReplicaId,
    /// Where this instance listens, with the real port if the config said port 0; `None` if it does not listen.
    pub address: Option<SocketAddr>,
    /// Whether counts reach the disk.
    pub health: Health,
    /// Where the database went, if it was found damaged when the store was opened.
    pub set_aside: Option<PathBuf>,
    /// The peers, as of the last round.
    pub peers: Vec<PeerStatus>,
    /// How many counters are held, including those that have expired but are kept for late updates.
    pub counters: usize,
    /// What was refused or dropped since the start.
    pub rejections: Rejections,
}

impl Status {
    pub(crate) fn of(runtime: &Runtime) -> Status {
        let table = &runtime.table;
        Status {
            replica: table.own_replica(),
            address: runtime.address,
            health: runtime.disk.health(),
            set_aside: runtime.set_aside.clone(),
            peers: runtime.peers(),
            counters: table.len(),
            rejections: table.rejections(),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Config, CounterKey, CounterStore, Health};

    #[tokio::test]
    async fn the_accessors_show_what_the_snapshot_does() {
        let config = Config::builder("a").in_memory().listen("127.0.0.1:0");
        let mut config = config.build().unwrap();
        config.bounds.counters_max = 1;
        let store = CounterStore::open(config).await.unwrap();
        store.add(&CounterKey::new("x", &[]), 1).unwrap();
        assert!(store.add(&CounterKey::new("y", &[]), 1).is_err());
        let status = store.status();
        assert_eq!(status.replica, store.replica());
        assert_eq!((status.counters, status.rejections.counters_refused), (1, 1));
        assert_eq!((status.counters, status.rejections), (store.len(), store.rejections()));
        assert!(status.address.is_some_and(|address| address.port() != 0));
        assert_eq!((status.address, &status.health), (store.address(), &Health::Durable));
        assert_eq!((status.set_aside.as_deref(), status.peers.len()), (store.set_aside(), 0));
        store.close().await.unwrap();
    }
}
