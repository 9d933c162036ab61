//! What of the settings is replaced while a limiter runs.

use super::Limiter;
use crate::cluster_key::ClusterKey;
use crate::node_key::NodeKey;
use crate::runtime::{ReloadTlsError, SetKeysError, SetMembersError, SetPeersError};

impl Limiter {
    /// Replaces the list of peers while the limiter runs: as [`CounterStore::set_peers`](crate::CounterStore::set_peers).
    ///
    /// # Errors
    /// As there.
    ///
    /// ```
    /// # use tallymesh::{Config, Limiter};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let limiter = Limiter::open(Config::builder("a").in_memory().build()?).await?;
    /// limiter.set_peers(["127.0.0.1:7947"]).await?;
    /// assert_eq!(limiter.peers().len(), 1);
    /// # limiter.close().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn set_peers<P: Into<String>>(
        &self,
        peers: impl IntoIterator<Item = P>,
    ) -> Result<(), SetPeersError> {
        self.counters.set_peers(peers).await
    }

    /// Replaces the keys of the cluster while the limiter runs: as [`CounterStore::set_keys`](crate::CounterStore::set_keys), where a
    /// change without a gap is shown.
    ///
    /// # Errors
    /// As there.
    ///
    /// ```
    /// # use tallymesh::{ClusterKey, Config, Limiter};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (old, new) = (ClusterKey::generate()?, ClusterKey::generate()?);
    /// let config = Config::builder("a").in_memory().gossip_key([old.clone()]);
    /// let limiter = Limiter::open(config.build()?).await?;
    /// limiter.set_keys([old, new]).await?;
    /// # limiter.close().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn set_keys(
        &self,
        keys: impl IntoIterator<Item = ClusterKey>,
    ) -> Result<(), SetKeysError> {
        self.counters.set_keys(keys).await
    }

    /// Replaces the list of members while the limiter runs: as [`CounterStore::set_members`](crate::CounterStore::set_members),
    /// where a change without a gap is shown.
    ///
    /// # Errors
    /// As [`CounterStore::set_members`](crate::CounterStore::set_members).
    ///
    /// ```
    /// # use tallymesh::{Config, Limiter, NodeKey};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (a, b) = (NodeKey::generate()?, NodeKey::generate()?);
    /// let members = [format!("a={}", a.public_key()), format!("b={}", b.public_key())];
    /// let config = Config::builder("a").in_memory().node_key(a).members(&members[..1]);
    /// let limiter = Limiter::open(config.build()?).await?;
    /// limiter.set_members(members).await?;
    /// # limiter.close().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn set_members<M: Into<String>>(
        &self,
        members: impl IntoIterator<Item = M>,
    ) -> Result<(), SetMembersError> {
        self.counters.set_members(members).await
    }

    /// Replaces the node's own key while the limiter runs: as [`CounterStore::set_node_key`](crate::CounterStore::set_node_key).
    ///
    /// # Errors
    /// As [`CounterStore::set_node_key`](crate::CounterStore::set_node_key).
    ///
    /// ```
    /// # use tallymesh::{Config, Limiter, NodeKey};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (old, new) = (NodeKey::generate()?, NodeKey::generate()?);
    /// let members = [format!("a={}", new.public_key()), format!("a={}", old.public_key())];
    /// let config = Config::builder("a").in_memory().node_key(old).members(members);
    /// let limiter = Limiter::open(config.build()?).await?;
    /// limiter.set_node_key(new).await?;
    /// # limiter.close().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn set_node_key(&self, key: NodeKey) -> Result<(), SetMembersError> {
        self.counters.set_node_key(key).await
    }

    /// Reads the files of certificates again while the limiter runs: as [`CounterStore::reload_tls`](crate::CounterStore::reload_tls).
    ///
    /// # Errors
    /// As [`CounterStore::reload_tls`](crate::CounterStore::reload_tls).
    ///
    /// ```no_run
    /// # use tallymesh::{Config, Limiter};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let limiter = Limiter::open(Config::from_file("tallymesh.toml")?).await?;
    /// limiter.reload_tls().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn reload_tls(&self) -> Result<(), ReloadTlsError> {
        self.counters.reload_tls().await
    }
}
