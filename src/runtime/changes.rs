//! What is replaced while a node runs: its list of peers, and its keys.

use tokio::sync::oneshot;

use super::{Runtime, lock};
use crate::cluster_key::{ClusterKey, Keys};
use crate::config::{ConfigError, PeerEntry, checked_keys};

/// What is replaced, and who waits for it to be in force.
pub(super) type Change = (Changed, oneshot::Sender<()>);

/// What takes the place of a setting of the config.
#[derive(Clone)]
pub(super) enum Changed {
    Peers(Vec<PeerEntry>),
    Keys(Keys),
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
    /// The store was opened without a key, and so are its peers: it would lose them all.
    #[error(
        "this node was opened without a key, and so has none to replace: open it with gossip.key"
    )]
    NoKey,
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
        let shown = self.keys.as_ref().ok_or(SetKeysError::NoKey)?;
        self.change(Changed::Keys(keys.clone())).await.ok_or(SetKeysError::Closed)?;
        *lock(shown) = fingerprints(&keys);
        Ok(())
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

    /// The fingerprints of the keys in force, first that of the one to dial with.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.keys.as_ref().map(|keys| lock(keys).clone()).unwrap_or_default()
    }
}

pub(super) fn fingerprints(keys: &Keys) -> Vec<String> {
    keys.iter().map(ClusterKey::fingerprint).collect()
}
