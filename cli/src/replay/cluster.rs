//! Several instances in one process, connected over the loopback interface.

use std::collections::BTreeSet;
use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::pin::Pin;
use std::time::Duration;

use tallymesh::{
    Config, ConfigBuilder, ConfigError, DurabilityError, Limit, Limiter, OpenError, VersionVector,
};
use tempfile::TempDir;

/// Instances that all know one another.
pub(super) struct Cluster {
    setup: Setup,
    nodes: Vec<Limiter>,
    /// The instance that is being opened. Kept here, so that `close` can wait for it whenever the opening is given up.
    opening: Option<Opening>,
    /// The parent of every instance's data directory; removed when dropped.
    data: TempDir,
}

type Opening = Pin<Box<dyn Future<Output = Result<Limiter, OpenError>>>>;

/// What the instances have in common.
pub(super) struct Setup {
    /// How many there are.
    pub count: usize,
    /// How often they gossip, on average.
    pub gossip_interval: Duration,
    /// The limits.
    pub limits: Vec<Limit>,
    /// The most labels of a request.
    pub labels_max: usize,
    /// The most counters.
    pub counters_max: usize,
}

/// The longest key, in bytes: what settings allow.
const KEY_BYTES_MAX: usize = 8192;
/// How often to look for other free ports when another process took one.
const START_ATTEMPTS: usize = 5;
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
const AGREEMENT_PATIENCE: Duration = Duration::from_secs(10);
const CONVERGE_PATIENCE: Duration = Duration::from_secs(30);
/// The timer counts in whole milliseconds, so in practice this is one millisecond.
const LOOK_EVERY: Duration = Duration::from_micros(200);

impl Cluster {
    /// Instances that are not started yet.
    ///
    /// # Errors
    /// When there can be no directory for their data.
    pub fn prepare(setup: Setup) -> io::Result<Cluster> {
        let data = tempfile::Builder::new().prefix("tallymesh-replay-").tempdir()?;
        Ok(Cluster { setup, nodes: Vec::new(), opening: None, data })
    }

    /// Starts the instances, and waits until each is connected to all others.
    ///
    /// # Errors
    /// When an instance cannot be opened, or they do not connect.
    pub async fn start(&mut self) -> Result<(), Box<dyn Error>> {
        let mut attempts_left = START_ATTEMPTS;
        loop {
            attempts_left -= 1;
            let addresses = free_addresses(self.setup.count)?;
            match self.open(&addresses, attempts_left).await {
                Err(error) if attempts_left > 0 && port_was_taken(&*error) => {
                    // What went wrong first says more than what follows from it.
                    let _ = self.close_nodes().await;
                }
                started => return started,
            }
        }
    }

    async fn open(
        &mut self,
        addresses: &[SocketAddr],
        attempt: usize,
    ) -> Result<(), Box<dyn Error>> {
        for index in 0..addresses.len() {
            let config = self.config_of(index, addresses, attempt)?;
            let opened = self.opening.insert(Box::pin(Limiter::open(config))).await;
            self.opening = None;
            self.nodes.push(opened?);
        }
        let connected = || self.nodes.iter().all(|node| peers_met(node) + 1 >= self.nodes.len());
        if !is_true_within(self.patience(CONNECT_PATIENCE), connected).await {
            return Err(self.unconnected().into());
        }
        Ok(())
    }

    fn config_of(
        &self,
        index: usize,
        addresses: &[SocketAddr],
        attempt: usize,
    ) -> Result<Config, ConfigError> {
        let name = format!("node-{}", index + 1);
        let own = addresses[index];
        let builder = Config::builder(&name)
            .data_dir(self.data.path().join(attempt.to_string()).join(&name))
            .listen(own.to_string())
            .peers(addresses.iter().filter(|address| **address != own).map(SocketAddr::to_string))
            .gossip_interval(self.setup.gossip_interval)
            // All begin empty, so none has a state to wait for; those that come later are not there yet.
            .sync_timeout(Duration::ZERO)
            // A replay is about the limits, and not about what bounds an instance.
            .max_labels(self.setup.labels_max)
            .max_counters(self.setup.counters_max)
            .max_key_bytes(KEY_BYTES_MAX);
        self.setup.limits.iter().cloned().fold(builder, ConfigBuilder::limit).build()
    }

    /// The instances, in the order in which they were started.
    pub fn nodes(&self) -> &[Limiter] {
        &self.nodes
    }

    /// Waits until every instance has every update of every other.
    ///
    /// # Errors
    /// When that takes too long; says which one lags.
    pub async fn await_agreement(&self) -> Result<(), String> {
        let patience = self.patience(AGREEMENT_PATIENCE);
        if is_true_within(patience, || self.has_equal_versions()).await {
            return Ok(());
        }
        Err(self.disagreement(patience))
    }

    /// Waits until all instances have the same state, and checks that by its checksum.
    ///
    /// # Errors
    /// As [`await_agreement`](Self::await_agreement).
    pub async fn converge(&self) -> Result<(), String> {
        let patience = self.patience(CONVERGE_PATIENCE);
        let converged = || self.has_equal_versions() && self.has_equal_checksums();
        if is_true_within(patience, converged).await {
            return Ok(());
        }
        Err(self.disagreement(patience))
    }

    /// Closes every instance, and removes their data.
    ///
    /// # Errors
    /// The first failure of a disk; the other instances are closed all the same.
    pub async fn close(mut self) -> Result<(), Box<dyn Error>> {
        if let Some(opening) = self.opening.take() {
            // Dropped, it would leave a thread behind that may still write.
            self.nodes.extend(opening.await);
        }
        let closed = self.close_nodes().await;
        self.data.close()?;
        Ok(closed?)
    }

    async fn close_nodes(&mut self) -> Result<(), DurabilityError> {
        let mut outcome = Ok(());
        // Each is held until it is closed, whenever this is given up.
        while let Some(node) = self.nodes.last() {
            outcome = outcome.and(node.close().await.map(drop));
            self.nodes.pop();
        }
        outcome
    }

    /// Two gossip rounds come on top, since changes travel slowly when rounds are rare.
    fn patience(&self, at_least: Duration) -> Duration {
        at_least + self.setup.gossip_interval * 2
    }

    fn has_equal_versions(&self) -> bool {
        all_equal(self.nodes.iter().map(|node| node.counters().version_vector()))
    }

    fn has_equal_checksums(&self) -> bool {
        all_equal(self.nodes.iter().map(|node| node.counters().state_checksum()))
    }

    fn unconnected(&self) -> String {
        let others = self.nodes.len() - 1;
        let of_node = |node: &Limiter| {
            let met = peers_met(node);
            (met < others).then(|| format!("{} met {met} of {others} others", name_of(node)))
        };
        let unconnected: Vec<String> = self.nodes.iter().filter_map(of_node).collect();
        format!("the instances did not connect: {}", unconnected.join(", "))
    }

    fn disagreement(&self, patience: Duration) -> String {
        let seconds = patience.as_secs_f64();
        let lagging = lagging(self.nodes.iter().map(|node| node.counters().version_vector()));
        if lagging.is_empty() {
            return format!(
                "after {seconds:.1} s the instances have the same updates, \
                 but not the same state checksum: this is a bug"
            );
        }
        let lag = |(index, lacks): &(usize, u64)| {
            format!("{} lacks {lacks} updates", name_of(&self.nodes[*index]))
        };
        let lags: Vec<String> = lagging.iter().map(lag).collect();
        format!("the instances did not agree within {seconds:.1} s: {}", lags.join(", "))
    }
}

/// Addresses that were free a moment ago; all are held at once, so that they differ.
fn free_addresses(count: usize) -> io::Result<Vec<SocketAddr>> {
    let bind = |_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let held: Vec<TcpListener> = (0..count).map(bind).collect::<io::Result<_>>()?;
    held.iter().map(TcpListener::local_addr).collect()
}

fn port_was_taken(error: &(dyn Error + 'static)) -> bool {
    matches!(error.downcast_ref::<OpenError>(), Some(OpenError::Listen { .. }))
}

fn name_of(node: &Limiter) -> String {
    node.counters().replica().node.to_string()
}

fn peers_met(node: &Limiter) -> usize {
    // A peer may be listed twice: by its address, and by a link that it opened itself.
    let connected = node.peers().into_iter().filter(|peer| peer.connected);
    connected.filter_map(|peer| peer.replica).collect::<BTreeSet<_>>().len()
}

/// Whether the condition comes true in time; looks again and again.
async fn is_true_within(patience: Duration, is_true: impl Fn() -> bool) -> bool {
    let looking = async {
        while !is_true() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(patience, looking).await.is_ok()
}

fn all_equal<T: PartialEq>(mut items: impl Iterator<Item = T>) -> bool {
    let Some(first) = items.next() else { return true };
    items.all(|item| item == first)
}

/// Which of the instances lack updates that another has, by index, and how many.
fn lagging(vectors: impl Iterator<Item = VersionVector>) -> Vec<(usize, u64)> {
    let vectors: Vec<VersionVector> = vectors.collect();
    let all = vectors.iter().flat_map(VersionVector::iter);
    let newest: VersionVector = all.map(|(replica, version)| (replica.clone(), version)).collect();
    let lacks = |vector: &VersionVector| -> u64 {
        newest.iter().map(|(replica, version)| version.0 - vector.watermark(replica).0).sum()
    };
    let lags = vectors.iter().map(lacks).enumerate();
    lags.filter(|(_, lacks)| *lacks > 0).collect()
}

#[cfg(test)]
mod tests {
    use tallymesh::{Incarnation, ReplicaId, Version};

    use super::*;

    #[test]
    fn the_instance_that_lags_is_named_by_index() {
        let replica = |name: &str| ReplicaId {
            node: name.parse().unwrap(),
            incarnation: Incarnation { boot: 1, nonce: 0 },
        };
        let vector = |a, b| -> VersionVector {
            [(replica("a"), Version(a)), (replica("b"), Version(b))].into_iter().collect()
        };
        let vectors = [vector(5, 2), vector(3, 2), vector(5, 2)];
        assert!(!all_equal(vectors.iter()));
        assert_eq!(lagging(vectors.into_iter()), [(1, 2)]);
        assert!(lagging([vector(1, 1), vector(1, 1)].into_iter()).is_empty());
    }

    #[test]
    fn free_addresses_differ() {
        let addresses: BTreeSet<SocketAddr> = free_addresses(8).unwrap().into_iter().collect();
        assert_eq!(addresses.len(), 8);
    }
}
