//! What is replaced while a node runs: its list of peers, its keys and members, and its certificates.

use std::sync::Mutex;

use tokio::sync::oneshot;

use super::{Runtime, lock};
use crate::cluster_key::ClusterKey;
#[cfg(feature = "tls")]
use crate::config::certificates;
use crate::config::{ConfigError, PeerEntry, checked_keys, checked_members, checked_node_keys};
use crate::credentials::Credentials;
use crate::node_key::{NodeKey, NodeKeys};

/// What is replaced, and who waits for it to be in force.
pub(super) type Change = (Changed, oneshot::Sender<()>);

/// What takes the place of a setting of the config.
#[derive(Clone)]
pub(super) enum Changed {
    Peers(Vec<PeerEntry>),
    Credentials(Credentials),
}

/// Why the list of peers was not replaced. The former one stays in force.
///
/// ```
/// use tallymesh::{Config, CounterStore, SetPeersError};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = CounterStore::open(Config::builder("a").in_memory().build()?).await?;
/// let error = store.set_peers(["10.0.0.7"]).await.unwrap_err();
/// assert!(matches!(error, SetPeersError::Invalid(_)) && error.to_string().contains("host:port"));
/// store.close().await?;
/// assert!(matches!(store.set_peers(["10.0.0.7:7946"]).await, Err(SetPeersError::Closed)));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetPeersError {
    /// There are too many entries, or one is not allowed: as for `gossip.peers` of a config.
    #[error(transparent)]
    Invalid(#[from] ConfigError),
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
}

/// Why the keys were not replaced. The former ones stay in force.
///
/// ```
/// use tallymesh::{ClusterKey, Config, CounterStore, SetKeysError};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (key, config) = (ClusterKey::generate()?, Config::builder("a").in_memory());
/// let store = CounterStore::open(config.clone().gossip_key([key.clone()]).build()?).await?;
/// assert!(matches!(store.set_keys([]).await, Err(SetKeysError::Invalid(_))));
/// # store.close().await?;
/// let open = CounterStore::open(config.build()?).await?;
/// assert!(matches!(open.set_keys([key]).await, Err(SetKeysError::NoKey)));
/// # open.close().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetKeysError {
    /// There are none, too many, or one is given twice.
    #[error(transparent)]
    Invalid(#[from] ConfigError),
    /// The store was opened without a key of the cluster, and so are its peers: it would lose them all.
    #[error(
        "this node was opened without a key of the cluster, and so has none to replace: open it with gossip.key"
    )]
    NoKey,
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
}

/// Why the members, or the node's own key, were not replaced. The former ones stay in force.
///
/// ```
/// use tallymesh::{Config, CounterStore, NodeKey, SetMembersError};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (key, other) = (NodeKey::generate()?, NodeKey::generate()?);
/// let config = Config::builder("a").in_memory();
/// let members = [format!("a={}", key.public_key())];
/// let store = CounterStore::open(config.clone().node_key(key).members(members).build()?).await?;
/// // It would not be a member any more.
/// let without = store.set_members([format!("b={}", other.public_key())]).await;
/// assert!(matches!(without, Err(SetMembersError::Invalid(_))));
/// assert!(matches!(store.set_node_key(other.clone()).await, Err(SetMembersError::Invalid(_))));
/// # store.close().await?;
/// let open = CounterStore::open(config.build()?).await?;
/// assert!(matches!(open.set_node_key(other).await, Err(SetMembersError::NoNodeKey)));
/// # open.close().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetMembersError {
    /// An entry is not allowed, or the node would not be a member by its key: as for `gossip.members` of a config.
    #[error(transparent)]
    Invalid(#[from] ConfigError),
    /// The store was opened without a key of its own, and so are its peers: it would lose them all.
    #[error(
        "this node was opened without a key of its own, by which members prove who they are: open it with gossip.node_key"
    )]
    NoNodeKey,
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
}

/// By what a node proves itself and has others do so, as of now.
pub(super) struct InForce {
    now: Mutex<Credentials>,
    /// Who replaces them waits for its turn: it begins with what is there.
    turn: tokio::sync::Mutex<()>,
}

impl InForce {
    pub(super) fn new(credentials: Credentials) -> InForce {
        InForce { now: Mutex::new(credentials), turn: tokio::sync::Mutex::new(()) }
    }
}

/// Why certificates were not read again. The former ones stay in force.
///
/// ```
/// use tallymesh::{Config, CounterStore, ReloadTlsError};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = CounterStore::open(Config::builder("a").in_memory().build()?).await?;
/// assert!(matches!(store.reload_tls().await, Err(ReloadTlsError::NoTls)));
/// # store.close().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReloadTlsError {
    /// A file cannot be read, or has in it what is of no use: as for `gossip.tls_certificate` and the others of a config.
    #[error(transparent)]
    Invalid(#[from] ConfigError),
    /// The store was opened without certificates, and so are its peers.
    #[error(
        "this node was opened without certificates, and so has none to read again: open it with gossip.tls_certificate"
    )]
    NoTls,
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
}

impl Runtime {
    /// Replaces the list of peers, and waits until the gossip thread has taken it in.
    pub(crate) async fn set_peers(&self, peers: &[String]) -> Result<(), SetPeersError> {
        let sources = PeerEntry::parse_all(peers)?;
        self.change(Changed::Peers(sources)).await.ok_or(SetPeersError::Closed)
    }

    /// Replaces the keys, and waits until the gossip thread has taken them in.
    pub(crate) async fn set_keys(&self, keys: Vec<ClusterKey>) -> Result<(), SetKeysError> {
        let keys = checked_keys(keys)?;
        let in_force = self.credentials.as_ref().ok_or(SetKeysError::NoKey)?;
        let _turn = in_force.turn.lock().await;
        match &*lock(&in_force.now) {
            Credentials::ClusterKeys(_) => {}
            _ => return Err(SetKeysError::NoKey),
        }
        let keys = Credentials::ClusterKeys(keys);
        self.set_credentials(in_force, keys).await.ok_or(SetKeysError::Closed)
    }

    /// Replaces the members, and waits until the gossip thread has taken them in.
    pub(crate) async fn set_members(&self, entries: Vec<String>) -> Result<(), SetMembersError> {
        let members = checked_members(entries)?;
        self.set_node_keys(|keys| NodeKeys { members, ..keys }).await
    }

    /// Replaces the node's own key, and waits until the gossip thread has taken it in.
    pub(crate) async fn set_node_key(&self, own: NodeKey) -> Result<(), SetMembersError> {
        self.set_node_keys(|keys| NodeKeys { own, ..keys }).await
    }

    async fn set_node_keys(
        &self,
        change: impl FnOnce(NodeKeys) -> NodeKeys,
    ) -> Result<(), SetMembersError> {
        let in_force = self.credentials.as_ref().ok_or(SetMembersError::NoNodeKey)?;
        let _turn = in_force.turn.lock().await;
        let keys = match &*lock(&in_force.now) {
            Credentials::NodeKeys(keys) => keys.clone(),
            _ => return Err(SetMembersError::NoNodeKey),
        };
        let NodeKeys { own, members } = change(keys);
        let keys = checked_node_keys(own, members, &self.table.own_replica().node)?;
        let keys = Credentials::NodeKeys(keys);
        self.set_credentials(in_force, keys).await.ok_or(SetMembersError::Closed)
    }

    /// Reads the certificates again, and waits until the gossip thread has taken them in.
    #[cfg(feature = "tls")]
    pub(crate) async fn reload_tls(&self) -> Result<(), ReloadTlsError> {
        let in_force = self.credentials.as_ref().ok_or(ReloadTlsError::NoTls)?;
        let _turn = in_force.turn.lock().await;
        let files = match &*lock(&in_force.now) {
            Credentials::Certificates(certificates) => certificates.files().clone(),
            _ => return Err(ReloadTlsError::NoTls),
        };
        let read = certificates(files, &[self.table.own_replica().node])?;
        let read = Credentials::Certificates(read);
        self.set_credentials(in_force, read).await.ok_or(ReloadTlsError::Closed)
    }

    /// Without TLS there are no certificates.
    #[cfg(not(feature = "tls"))]
    pub(crate) async fn reload_tls(&self) -> Result<(), ReloadTlsError> {
        Err(ReloadTlsError::NoTls)
    }

    /// `None` if the gossip thread has ended, or is about to.
    async fn set_credentials(&self, in_force: &InForce, credentials: Credentials) -> Option<()> {
        self.change(Changed::Credentials(credentials.clone())).await?;
        *lock(&in_force.now) = credentials;
        Some(())
    }

    /// Has the gossip thread take this in; `None` if it has ended, or is about to.
    async fn change(&self, changed: Changed) -> Option<()> {
        if self.is_closing() {
            return None;
        }
        loop {
            let (tell_taken, taken) = oneshot::channel();
            // Fails only when the thread has ended.
            self.changes.send((changed.clone(), tell_taken)).await.ok()?;
            if taken.await.is_ok() {
                return Some(());
            }
            // A panic came before: the thread takes it in once it is started again, unless it has ended for good.
        }
    }

    /// The fingerprints of the own keys in force, first that of the one by which this node proves itself.
    pub(crate) fn keys(&self) -> Vec<String> {
        let in_force = self.credentials.as_ref();
        in_force.map(|in_force| lock(&in_force.now).fingerprints()).unwrap_or_default()
    }
}
