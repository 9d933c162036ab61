//! Settings of who may be a peer, and by what it proves it.

use super::super::validate::Value;
use super::ConfigBuilder;
use crate::cluster_key::{ClusterKey, Keys};
use crate::node_key::NodeKey;

impl ConfigBuilder {
    /// The keys of the cluster, from one to four: the first is used to dial, all are accepted. Only who has one of them is a peer,
    /// and what peers say to each other is encrypted.
    ///
    /// They are not written by serde, so that a config that was read again has none.
    /// [`CounterStore::set_keys`](crate::CounterStore::set_keys) replaces them while the node runs.
    ///
    /// ```
    /// use tallymesh::{ClusterKey, Config};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let key = ClusterKey::generate()?;
    /// let config = Config::builder("a").in_memory().listen("0.0.0.0:7946").gossip_key([key]).build()?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn gossip_key(self, keys: impl IntoIterator<Item = ClusterKey>) -> Self {
        self.set("gossip.key", Value::Keys(Keys::new(keys.into_iter().collect())))
    }

    /// The path of a file with the keys of the cluster, one a line, in the place of [`gossip_key`](Self::gossip_key). What follows
    /// a `#` is a comment. On Unix, a file that others than its owner can read is refused.
    ///
    /// ```
    /// use tallymesh::{ClusterKey, Config};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// // As `tallymesh keygen --out cluster.key` makes it.
    /// # let file = tempfile::NamedTempFile::new()?;
    /// # let path = file.path().to_str().unwrap_or_default();
    /// std::fs::write(path, ClusterKey::generate()?.reveal())?;
    /// let config = Config::builder("a").in_memory().listen("0.0.0.0:7946").key_file(path).build()?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn key_file(self, path: impl Into<String>) -> Self {
        self.set("gossip.key_file", Value::Text(path.into()))
    }

    /// The key that this node has alone, in the place of a [`gossip_key`](Self::gossip_key) that all have in common: by it the others
    /// know that it is this node and no other. What peers say to each other is encrypted. Who the others are, [`members`](Self::members)
    /// says.
    ///
    /// It is not written by serde, so that a config that was read again has none.
    /// [`CounterStore::set_node_key`](crate::CounterStore::set_node_key) replaces it while the node runs.
    ///
    /// ```
    /// use tallymesh::{Config, NodeKey};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (a, b) = (NodeKey::generate()?, NodeKey::generate()?);
    /// let members = [format!("a={}", a.public_key()), format!("b={}", b.public_key())];
    /// let config = Config::builder("a").in_memory().listen("0.0.0.0:7946").node_key(a).members(members).build()?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn node_key(self, key: NodeKey) -> Self {
        self.set("gossip.node_key", Value::NodeKey(Ok(key)))
    }

    /// The path of a file with the node's key, in the place of [`node_key`](Self::node_key). What follows a `#` is a comment. On Unix, a
    /// file that others than its owner can read is refused.
    ///
    /// ```
    /// use tallymesh::{Config, NodeKey};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// // As `tallymesh keygen --node --out node.key` makes it.
    /// # let file = tempfile::NamedTempFile::new()?;
    /// # let path = file.path().to_str().unwrap_or_default();
    /// let key = NodeKey::generate()?;
    /// std::fs::write(path, key.reveal())?;
    /// let members = [format!("a={}", key.public_key())];
    /// let config = Config::builder("a").in_memory().node_key_file(path).members(members).build()?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn node_key_file(self, path: impl Into<String>) -> Self {
        self.set("gossip.node_key_file", Value::Text(path.into()))
    }

    /// The nodes that may be peers, with a [`node_key`](Self::node_key): at most 4,096, each as `node=public key`, this node among them.
    /// All nodes have the same list. A node may have up to four keys, each as an entry of its own: all are accepted, and a link that
    /// this node dialed is made again until it is under the first. A key is of one node only.
    ///
    /// [`CounterStore::set_members`](crate::CounterStore::set_members) replaces the list while the node runs.
    #[must_use]
    pub fn members<M: Into<String>>(self, members: impl IntoIterator<Item = M>) -> Self {
        self.set("gossip.members", Value::Texts(members.into_iter().map(Into::into).collect()))
    }

    /// The path of a file with this node's certificate in PEM, and those between it and an authority, in the place of a
    /// [key](Self::gossip_key): peers prove themselves by certificates, in TLS. It names the node by a URI `tallymesh:node/ID` among
    /// its alternative names. Needs [`tls_key`](Self::tls_key), [`tls_authorities`](Self::tls_authorities) and the cargo feature `tls`;
    /// without that, [`build`](Self::build) refuses it.
    ///
    /// [`CounterStore::reload_tls`](crate::CounterStore::reload_tls) reads the files again while the node runs.
    ///
    /// ```
    /// use tallymesh::Config;
    ///
    /// let config = Config::builder("a").in_memory().listen("0.0.0.0:7946");
    /// let config = config.tls_certificate("no/such.crt").tls_key("no/such.key").tls_authorities("ca.crt");
    /// // By the feature, which is missing, or the files.
    /// assert!(config.build().unwrap_err().to_string().contains("gossip.tls_"));
    /// ```
    #[must_use]
    pub fn tls_certificate(self, path: impl Into<String>) -> Self {
        self.set("gossip.tls_certificate", Value::Text(path.into()))
    }

    /// The path of a file with the private key of the [certificate](Self::tls_certificate) in PEM. On Unix, a file that others than
    /// its owner can read is refused.
    #[must_use]
    pub fn tls_key(self, path: impl Into<String>) -> Self {
        self.set("gossip.tls_key", Value::Text(path.into()))
    }

    /// The path of a file with the certificates in PEM of the authorities whose [certificates](Self::tls_certificate) are accepted.
    #[must_use]
    pub fn tls_authorities(self, path: impl Into<String>) -> Self {
        self.set("gossip.tls_authorities", Value::Text(path.into()))
    }

    /// The path of a file with the lists of revoked certificates in PEM of those [authorities](Self::tls_authorities), one of each: the
    /// certificates of one that has none are refused. Without the setting, nothing is revoked.
    #[must_use]
    pub fn tls_revoked(self, path: impl Into<String>) -> Self {
        self.set("gossip.tls_revoked", Value::Text(path.into()))
    }

    /// Listens beyond the loopback interface without a [key](Self::gossip_key): peers then neither authenticate nor encrypt.
    #[must_use]
    pub fn insecure(self, insecure: bool) -> Self {
        self.set("gossip.insecure", Value::Flag(insecure))
    }
}
