//! What of the settings is replaced while a store runs.

use super::CounterStore;
use crate::cluster_key::ClusterKey;
use crate::node_key::NodeKey;
use crate::runtime::{ReloadTlsError, SetKeysError, SetMembersError, SetPeersError};

impl CounterStore {
    /// Replaces the list of peers, `gossip.peers` of the config, while the store runs. The entries are as in
    /// [`ConfigBuilder::peers`](crate::ConfigBuilder::peers). Returns once the new list is in force: new addresses are being dialed
    /// then, not yet connected. The next opening begins with its config's list again.
    ///
    /// An address that is not on the list any more is not dialed again, and the connection that this node dialed there is closed,
    /// with a word to the peer, which does not take it for a failure. A connection that the peer dialed stays, until the peer is
    /// told the same. What was counted stays counted on both.
    ///
    /// # Errors
    /// When an entry is not allowed, or the store is closed; the former list stays in force then.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tallymesh::{Config, CounterStore};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let a = CounterStore::open(Config::builder("a").in_memory().listen("127.0.0.1:0").build()?).await?;
    /// let b = CounterStore::open(Config::builder("b").in_memory().build()?).await?;
    /// b.set_peers([a.address().expect("it listens").to_string()]).await?;
    /// while !b.peers().iter().any(|peer| peer.connected) {
    ///     tokio::time::sleep(Duration::from_millis(10)).await;
    /// }
    /// # a.close().await?;
    /// # b.close().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn set_peers<P: Into<String>>(
        &self,
        peers: impl IntoIterator<Item = P>,
    ) -> Result<(), SetPeersError> {
        let peers: Vec<String> = peers.into_iter().map(Into::into).collect();
        self.engine.runtime().set_peers(&peers).await
    }

    /// Replaces the keys of the cluster, `gossip.key` of the config, while the store runs: from one to four, of which the first is
    /// used to dial and all are accepted. Returns once they are in force. The next opening begins with its config's keys again.
    ///
    /// A connection under a key that is not accepted any more is closed at once. One that this node dialed under another key than
    /// the first is dialed again within seconds, and closed once the new one is there. So a key is changed without a gap in three
    /// steps, each on all nodes before the next: accept the new key as well (`[old, new]`), dial with it (`[new, old]`), and, once
    /// every [peer's key](tallymesh_core::gossip::PeerStatus::key) is the new one, take the old one away (`[new]`).
    ///
    /// # Errors
    /// When there are none, too many, or one is there twice; when the store was opened without a key; or when it is closed. The
    /// former keys stay in force then.
    ///
    /// ```
    /// # use tallymesh::{ClusterKey, Config, CounterStore};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (old, new) = (ClusterKey::generate()?, ClusterKey::generate()?);
    /// let config = Config::builder("a").in_memory().gossip_key([old.clone()]);
    /// let store = CounterStore::open(config.build()?).await?;
    /// store.set_keys([old.clone(), new.clone()]).await?;
    /// assert_eq!(store.status().keys, [old.fingerprint(), new.fingerprint()]);
    /// # store.close().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn set_keys(
        &self,
        keys: impl IntoIterator<Item = ClusterKey>,
    ) -> Result<(), SetKeysError> {
        self.engine.runtime().set_keys(keys.into_iter().collect()).await
    }

    /// Replaces the list of members, `gossip.members` of the config, while the store runs. Returns once it is in force. The next opening
    /// begins with its config's list again.
    ///
    /// A connection whose node, or whose key of that node, is not in the list any more is closed at once; what the node has counted
    /// stays. One that this node dialed to a node whose first key in the list is another one is dialed again within seconds, and closed
    /// once the new one is there. So a node's key is changed without a gap in three steps, each on all nodes before the next: put the
    /// new public key before the old one in all lists (`a=NEW`, `a=OLD`), have the node [use the new key](Self::set_node_key), and, once
    /// its [key](tallymesh_core::gossip::PeerStatus::key) is the new one at each peer, take the old one out of all lists.
    ///
    /// # Errors
    /// When an entry is not allowed, or the node would not be a member by its own key; when the store was opened without a key of its
    /// own; or when it is closed. The former list stays in force then.
    ///
    /// ```
    /// # use tallymesh::{Config, CounterStore, NodeKey};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (a, b) = (NodeKey::generate()?, NodeKey::generate()?);
    /// let members = [format!("a={}", a.public_key()), format!("b={}", b.public_key())];
    /// let config = Config::builder("a").in_memory().node_key(a).members(members.clone());
    /// let store = CounterStore::open(config.build()?).await?;
    /// // The key of b is not accepted any more.
    /// store.set_members(&members[..1]).await?;
    /// # store.close().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn set_members<M: Into<String>>(
        &self,
        members: impl IntoIterator<Item = M>,
    ) -> Result<(), SetMembersError> {
        self.engine.runtime().set_members(members.into_iter().map(Into::into).collect()).await
    }

    /// Replaces the node's own key, `gossip.node_key` of the config, while the store runs: the second step of
    /// [a change without a gap](Self::set_members). Connections that this node dialed are dialed again within seconds, and the old ones
    /// closed once the new ones are there; those that came in stay until their other ends dial again. The next opening begins with its
    /// config's key again.
    ///
    /// # Errors
    /// When the new key is not in the list of members as this node's; when the store was opened without a key of its own; or when it is
    /// closed. The former key stays in force then.
    ///
    /// ```
    /// # use tallymesh::{Config, CounterStore, NodeKey};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (old, new) = (NodeKey::generate()?, NodeKey::generate()?);
    /// let members = [format!("a={}", new.public_key()), format!("a={}", old.public_key())];
    /// let config = Config::builder("a").in_memory().node_key(old).members(members);
    /// let store = CounterStore::open(config.build()?).await?;
    /// store.set_node_key(new.clone()).await?;
    /// assert_eq!(store.status().keys, [new.public_key().fingerprint()]);
    /// # store.close().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn set_node_key(&self, key: NodeKey) -> Result<(), SetMembersError> {
        self.engine.runtime().set_node_key(key).await
    }

    /// Reads the files of certificates again, `gossip.tls_certificate` and the others of the config, while the store runs: those that
    /// were renewed, authorities that were added or taken away, and what is revoked. Returns once they are in force.
    ///
    /// A connection whose peer's certificate is not accepted any more, since it is revoked, has expired or is of no authority of the
    /// file, is closed at once. One that this node dialed with another certificate of its own is dialed again within seconds, and closed
    /// once the new one is there. All others stay. Needs the cargo feature `tls`.
    ///
    /// # Errors
    /// When a file cannot be read, or what is in it is of no use or not of this node; when the store was opened without certificates; or
    /// when it is closed. The former ones stay in force then.
    ///
    /// ```no_run
    /// # use tallymesh::{Config, CounterStore};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let config = Config::builder("a").data_dir("data/a").listen("0.0.0.0:7946");
    /// let config = config.tls_certificate("a.crt").tls_key("a.key").tls_authorities("ca.crt");
    /// let config = config.tls_revoked("ca.crl");
    /// let store = CounterStore::open(config.build()?).await?;
    /// // After a.crt and a.key, or ca.crl, were replaced.
    /// store.reload_tls().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn reload_tls(&self) -> Result<(), ReloadTlsError> {
        self.engine.runtime().reload_tls().await
    }
}
