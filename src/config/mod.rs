//! Settings, from a TOML file or a builder, checked before anything starts.

mod builder;
mod control;
mod environment;
mod error;
mod file;
mod keys;
mod names;
mod peer_entry;
mod settings;
mod slots;
#[cfg(test)]
mod tests;
mod tls;
mod validate;
mod written;

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use crate::credentials::Credentials;
use tallymesh_core::gossip::GossipSettings;
use tallymesh_core::id::NodeId;
use tallymesh_core::limit::Limit;
use tallymesh_core::operator::OperatorPublicKey;
use tallymesh_core::table::Bounds;

pub use builder::ConfigBuilder;
pub(crate) use control::Control;
pub use error::ConfigError;
pub(crate) use keys::{checked_keys, checked_members, checked_node_keys};
pub(crate) use peer_entry::{PEERS_MAX, PeerEntry, is_host_and_port};
pub(crate) use slots::Slots;
#[cfg(feature = "tls")]
pub(crate) use tls::certificates;
use validate::{Values, not_allowed};

/// Everything a node needs to know before it starts.
///
/// ```
/// use std::time::Duration;
/// use tallymesh::{Config, Limit, Window};
///
/// let config = Config::builder("orchestrator-1")
///     .data_dir("data/orchestrator-1")
///     .listen("127.0.0.1:7946")
///     .peers(["127.0.0.1:7947", "127.0.0.1:7948"])
///     .limit(Limit::new("calls per minute", 100, Window::Fixed(Duration::from_secs(60))).per("session"))
///     .build()?;
/// # Ok::<(), tallymesh::ConfigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Config {
    pub(crate) node: NodeId,
    /// What of `node`, `data_dir`, `listen` and the advertised address is added to, for each process of several.
    pub(crate) slots: Option<Slots>,
    /// `None` keeps the state in memory only.
    pub(crate) data_dir: Option<PathBuf>,
    /// Where operators ask the node, or that they cannot; `None` where nothing was said.
    pub(crate) control: Option<Control>,
    /// The addresses of the other slots, of which any may be empty.
    pub(crate) other_slots: BTreeSet<String>,
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) peers: Vec<PeerEntry>,
    /// By what nodes prove who they are; without any, nothing is encrypted.
    pub(crate) credentials: Option<Credentials>,
    /// Where the cluster's keys were read, or the node's own one; as it was given.
    pub(crate) key_file: Option<String>,
    /// The public half of the operator's key; without it, nothing is believed that is said to be the operator's.
    pub(crate) operator: Option<OperatorPublicKey>,
    /// Whether it may be reached, and learn addresses, beyond the loopback interface without a key.
    pub(crate) insecure: bool,
    pub(crate) peer_exchange: bool,
    pub(crate) sync_timeout: Duration,
    pub(crate) gossip: GossipSettings,
    pub(crate) durability: Durability,
    /// Time between two checkpoints, when durability is relaxed.
    pub(crate) persist_every: Duration,
    pub(crate) bounds: Bounds,
    pub(crate) labels_max: usize,
    pub(crate) unmatched: Unmatched,
    pub(crate) counter_ttl: Duration,
    pub(crate) limits: Vec<Limit>,
}

/// When counts are written to disk. Under either setting, what
/// [`Limiter::acquire_durable`](crate::Limiter::acquire_durable) admits is on disk before it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// Every [`persist_every`](ConfigBuilder::persist_every). A crash loses at most the node's own counts of that time that
    /// no peer had heard of yet.
    Relaxed,
    /// As soon as there is something to write, so that plain `acquire` calls are on disk shortly after, too.
    Sync,
}

impl Durability {
    /// As it is written in a file.
    fn word(self) -> &'static str {
        match self {
            Durability::Relaxed => "relaxed",
            Durability::Sync => "sync",
        }
    }
}

/// What happens to a request that needs a counter past [`max_counters`](ConfigBuilder::max_counters).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// It is denied.
    Deny,
    /// It is allowed, and not counted.
    Allow,
}

/// What happens to a request that no limit applies to, also where there are no limits at all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unmatched {
    /// It is allowed, and counted in no limit's counter. How many there were, [`Status`](crate::Status) says.
    #[default]
    Allow,
    /// It is denied.
    Deny,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Durability {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Durability, ConfigError> {
        by_word("storage.durability", [Durability::Relaxed, Durability::Sync], text)
    }
}

impl fmt::Display for WhenFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for WhenFull {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<WhenFull, ConfigError> {
        by_word("counters.when_full", [WhenFull::Deny, WhenFull::Allow], text)
    }
}

impl fmt::Display for Unmatched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Unmatched {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Unmatched, ConfigError> {
        by_word("counters.unmatched", [Unmatched::Allow, Unmatched::Deny], text)
    }
}

impl Unmatched {
    /// As it is written in a file.
    fn word(self) -> &'static str {
        match self {
            Unmatched::Allow => "allow",
            Unmatched::Deny => "deny",
        }
    }
}

impl WhenFull {
    /// As it is written in a file.
    fn word(self) -> &'static str {
        match self {
            WhenFull::Deny => "deny",
            WhenFull::Allow => "allow",
        }
    }
}

impl Config {
    /// Reads a TOML file; `docs/settings.md` lists the settings. Variables of the environment override what is in it:
    /// `TALLYMESH_GOSSIP_INTERVAL` is `gossip.interval`.
    ///
    /// # Errors
    /// When the file cannot be read, is not TOML, or a value is not allowed, or when a variable of the environment begins
    /// like one of a setting and is none.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Config, ConfigError> {
        ConfigBuilder::from_file(path)?.build()
    }

    /// Reads TOML. The environment is not looked at.
    ///
    /// # Errors
    /// When the text is not TOML, or a value is not allowed.
    pub fn from_toml(text: &str) -> Result<Config, ConfigError> {
        file::parse(text, Values::default())?.build()
    }

    /// Starts from the defaults, for the node of this name; `@hostname` stands for the machine's host name.
    pub fn builder(node_id: impl Into<String>) -> ConfigBuilder {
        ConfigBuilder::new(node_id.into())
    }

    /// A builder that starts from this config: what is set there overrides it, and limits are added to its limits.
    pub fn to_builder(&self) -> ConfigBuilder {
        ConfigBuilder { values: written::values(self), limits: self.limits.clone() }
    }

    /// The node's name; with [`slots`](ConfigBuilder::slots), what each of them adds its number to.
    pub fn node_id(&self) -> &NodeId {
        &self.node
    }

    /// The directory for the state; with [`slots`](ConfigBuilder::slots), the one that has a directory for each. `None` in memory.
    pub fn data_dir(&self) -> Option<&Path> {
        self.data_dir.as_deref()
    }

    /// Whether others can reach the node, and nothing makes them prove who they are.
    pub(crate) fn is_open(&self) -> bool {
        let is_beyond = self.listen.is_some_and(|address| !address.ip().is_loopback());
        is_beyond && self.credentials.is_none()
    }

    /// The limits, in order.
    pub fn limits(&self) -> &[Limit] {
        &self.limits
    }
}

/// Reads a setting that is one of a few words.
fn by_word<T: fmt::Display>(
    setting: &str,
    known: impl IntoIterator<Item = T>,
    text: &str,
) -> Result<T, ConfigError> {
    let found = known.into_iter().find(|known| known.to_string() == text);
    found.ok_or_else(|| not_allowed(setting, format!("{text:?}")))
}
