//! Settings, from a TOML file or a builder, checked before anything starts.

mod file;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tallymesh_core::gossip::GossipSettings;
use tallymesh_core::id::NodeId;
use tallymesh_core::limit::{Limit, LimitError, Policy};
use tallymesh_core::table::Bounds;
use tallymesh_core::time::whole_ms;

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
    /// `None` keeps the state in memory only.
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) peers: Vec<String>,
    pub(crate) sync_timeout: Duration,
    pub(crate) gossip: GossipSettings,
    pub(crate) durability: Durability,
    pub(crate) bounds: Bounds,
    pub(crate) labels_max: usize,
    pub(crate) counter_ttl: Duration,
    pub(crate) limits: Vec<Limit>,
}

/// When the node's counts reach the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Every so often. A crash loses at most the node's own counts of that time that no peer had heard of yet.
    Relaxed {
        /// Time between two checkpoints; 1 ms to 1 minute.
        every: Duration,
    },
    /// As soon as there is something to write. What [`Limiter::acquire_durable`](crate::Limiter::acquire_durable) admits
    /// is on disk before it is said to be, under either setting; this one also keeps plain `acquire` calls close behind.
    Sync,
}

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("config file {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The text is not TOML, or has keys that mean nothing.
    #[error("config{}: {source}", path.as_ref().map(|path| format!(" file {}", path.display())).unwrap_or_default())]
    Syntax {
        /// The file, if it was one.
        path: Option<PathBuf>,
        /// Where and what.
        source: Box<toml::de::Error>,
    },
    /// A value is not allowed.
    #[error("config: {key} = {value} is not allowed: {allowed}")]
    Invalid {
        /// The key, with its table.
        key: String,
        /// What it was set to.
        value: String,
        /// What it may be.
        allowed: String,
    },
    /// A limit cannot be put in force.
    #[error("config: {0}")]
    Limit(#[from] LimitError),
}

impl Config {
    /// Reads a TOML file; the keys are listed in the README.
    ///
    /// # Errors
    /// When the file cannot be read, is not TOML, or a value is not allowed.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Config, ConfigError> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Config::from_toml(&text).map_err(|error| match error {
            ConfigError::Syntax { source, .. } => {
                ConfigError::Syntax { path: Some(path.to_owned()), source }
            }
            other => other,
        })
    }

    /// Reads TOML.
    ///
    /// # Errors
    /// When the text is not TOML, or a value is not allowed.
    pub fn from_toml(text: &str) -> Result<Config, ConfigError> {
        file::parse(text)
    }

    /// Starts from the defaults, for the node of this name.
    pub fn builder(node_id: impl Into<String>) -> ConfigBuilder {
        ConfigBuilder {
            node: node_id.into(),
            data_dir: None,
            in_memory: false,
            listen: None,
            insecure: false,
            peers: Vec::new(),
            sync_timeout: Duration::from_secs(1),
            gossip: GossipSettings::default(),
            durability: Durability::Relaxed { every: Duration::from_millis(10) },
            bounds: Bounds::default(),
            labels_max: 16,
            counter_ttl: Duration::from_secs(24 * 3600),
            limits: Vec::new(),
        }
    }

    /// The node's name.
    pub fn node_id(&self) -> &NodeId {
        &self.node
    }

    /// The limits, in order.
    pub fn limits(&self) -> &[Limit] {
        &self.limits
    }
}

/// Settings on their way to a [`Config`]. Every method is a key of the file; see there for what it means.
#[derive(Debug, Clone)]
pub struct ConfigBuilder {
    node: String,
    data_dir: Option<PathBuf>,
    in_memory: bool,
    listen: Option<String>,
    insecure: bool,
    peers: Vec<String>,
    sync_timeout: Duration,
    gossip: GossipSettings,
    durability: Durability,
    bounds: Bounds,
    labels_max: usize,
    counter_ttl: Duration,
    limits: Vec<Limit>,
}

impl ConfigBuilder {
    /// Where the state is kept: a directory of this node alone.
    #[must_use]
    pub fn data_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(path.into());
        self
    }

    /// Keeps the state in memory only; a restart then starts from what the peers hold.
    #[must_use]
    pub fn in_memory(mut self) -> Self {
        self.in_memory = true;
        self
    }

    /// The IP address and port to listen at. Without it, the node only dials its peers.
    #[must_use]
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.listen = Some(address.into());
        self
    }

    /// Listens beyond the loopback interface although peers neither authenticate nor encrypt.
    #[must_use]
    pub fn insecure(mut self, insecure: bool) -> Self {
        self.insecure = insecure;
        self
    }

    /// The other instances, as `host:port`. A name with several addresses is several peers; one that leads back here is
    /// recognised and left alone.
    #[must_use]
    pub fn peers<P: Into<String>>(mut self, peers: impl IntoIterator<Item = P>) -> Self {
        self.peers = peers.into_iter().map(Into::into).collect();
        self
    }

    /// How often changes are told to the peers, on average; 1 ms to 1 minute.
    #[must_use]
    pub fn gossip_interval(mut self, interval: Duration) -> Self {
        self.gossip.interval = interval;
        self
    }

    /// How long opening may wait for the state of the peers that answer; at most 1 minute, 0 for not at all.
    #[must_use]
    pub fn sync_timeout(mut self, timeout: Duration) -> Self {
        self.sync_timeout = timeout;
        self
    }

    /// When counts reach the disk.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// How the node gossips, beyond the interval.
    #[must_use]
    pub fn gossip_settings(mut self, settings: GossipSettings) -> Self {
        self.gossip = settings;
        self
    }

    /// What the node holds at the most.
    #[must_use]
    pub fn bounds(mut self, bounds: Bounds) -> Self {
        self.bounds = bounds;
        self
    }

    /// Adds a limit.
    #[must_use]
    pub fn limit(mut self, limit: Limit) -> Self {
        self.limits.push(limit);
        self
    }

    /// Checks everything.
    ///
    /// # Errors
    /// The first setting that is not allowed, by its key.
    pub fn build(self) -> Result<Config, ConfigError> {
        let node: NodeId = self.node.parse().map_err(|_| {
            invalid(
                "node.id",
                format!("{:?}", self.node),
                "1 to 64 ASCII letters, digits, '.', '_' or '-'",
            )
        })?;
        let data_dir = match (self.data_dir, self.in_memory) {
            (Some(path), false) if !path.as_os_str().is_empty() => Some(path),
            (None, true) => None,
            (Some(path), true) => {
                let value = format!("{path:?} with storage.in_memory = true");
                return Err(invalid("node.data_dir", value, "either a data_dir or in_memory"));
            }
            (_, false) => {
                let allowed =
                    "the path of a directory of this node alone, or storage.in_memory = true";
                return Err(invalid("node.data_dir", "nothing", allowed));
            }
        };
        let listen = self.listen.map(|text| parse_listen(&text, self.insecure)).transpose()?;
        if self.peers.len() > PEERS_MAX {
            let value = format!("{} addresses", self.peers.len());
            return Err(invalid("gossip.peers", value, &format!("at most {PEERS_MAX}")));
        }
        for peer in &self.peers {
            check_peer(peer)?;
        }
        let minute = Duration::from_secs(60);
        let ms = Duration::from_millis(1);
        let durations = [
            ("gossip.interval", self.gossip.interval, ms, minute),
            ("gossip.digest_interval", self.gossip.digest_interval, ms * 10, minute),
            ("gossip.handshake_timeout", self.gossip.handshake_timeout, ms * 100, minute),
            ("gossip.silence_timeout", self.gossip.silence_timeout, ms * 100, minute * 10),
            ("gossip.clock_offset_max", self.gossip.clock_offset_max, ms, minute * 60),
            ("gossip.sync_timeout", self.sync_timeout, Duration::ZERO, minute),
            ("counters.grace", self.bounds.grace, ms * 100, minute * 60 * 24),
            ("counters.future_max", self.bounds.future_max, ms * 100, minute * 60 * 24),
            ("counters.ttl", self.counter_ttl, ms, tallymesh_core::limit::WINDOW_MAX),
        ];
        for (key, value, least, most) in durations {
            check_duration(key, value, least, most)?;
        }
        if let Durability::Relaxed { every } = self.durability {
            check_duration("storage.persist_every", every, ms, minute)?;
        }
        if self.gossip.silence_timeout < self.gossip.digest_interval * 2 {
            let value = humantime::format_duration(self.gossip.silence_timeout).to_string();
            let allowed = "at least twice gossip.digest_interval, or live peers are taken for gone";
            return Err(invalid("gossip.silence_timeout", value, allowed));
        }
        let bounds = &self.bounds;
        let numbers = [
            ("counters.max_counters", bounds.counters_max, 1, 100_000_000),
            ("counters.max_key_bytes", bounds.key_bytes_max, 16, 8192),
            ("counters.max_replicas", bounds.replicas_max, 2, 1_000_000),
            ("counters.max_replicas_per_counter", bounds.replicas_per_counter_max, 2, 1_000_000),
            ("counters.max_labels", self.labels_max, 1, 1024),
            ("gossip.max_connections", self.gossip.links_max, 1, 65_536),
            ("gossip.max_frame_bytes", self.gossip.frame_bytes_max, 16_384, 16 * 1024 * 1024),
            ("gossip.max_frames_queued", self.gossip.frames_queued_max, 1, 16),
            ("gossip.direct_up_to", self.gossip.direct_up_to, 0, 65_536),
            ("gossip.fanout", self.gossip.fanout, 1, 1024),
        ];
        for (key, value, least, most) in numbers {
            if !(least..=most).contains(&value) {
                return Err(invalid(key, value.to_string(), &format!("{least} to {most}")));
            }
        }
        if !(0.0..=1.0).contains(&bounds.urgent_fraction) {
            return Err(invalid(
                "gossip.urgent_at",
                bounds.urgent_fraction.to_string(),
                "0.0 to 1.0",
            ));
        }
        Policy::new(self.limits.iter().cloned())?;
        Ok(Config {
            node,
            data_dir,
            listen,
            peers: self.peers,
            sync_timeout: self.sync_timeout,
            gossip: self.gossip,
            durability: self.durability,
            bounds: self.bounds,
            labels_max: self.labels_max,
            counter_ttl: self.counter_ttl,
            limits: self.limits,
        })
    }
}

const PEERS_MAX: usize = 4096;

fn invalid(key: &str, value: impl Into<String>, allowed: &str) -> ConfigError {
    ConfigError::Invalid { key: key.into(), value: value.into(), allowed: allowed.into() }
}

fn check_duration(
    key: &str,
    value: Duration,
    least: Duration,
    most: Duration,
) -> Result<(), ConfigError> {
    if (least..=most).contains(&value) && (whole_ms(value) > 0 || value.is_zero()) {
        return Ok(());
    }
    let text = |duration| humantime::format_duration(duration).to_string();
    Err(invalid(key, text(value), &format!("{} to {}", text(least), text(most))))
}

fn parse_listen(text: &str, insecure: bool) -> Result<SocketAddr, ConfigError> {
    let quoted = format!("{text:?}");
    let text = text.replacen("localhost:", "127.0.0.1:", 1);
    let address: SocketAddr = text.parse().map_err(|_| {
        invalid(
            "gossip.listen",
            quoted.clone(),
            "an IP address and a port, such as \"127.0.0.1:7946\"",
        )
    })?;
    if !address.ip().is_loopback() && !insecure {
        let allowed = "only a loopback address, since peers neither authenticate nor encrypt yet; \
                       on a network that you trust, set gossip.insecure = true";
        return Err(invalid("gossip.listen", quoted, allowed));
    }
    Ok(address)
}

fn check_peer(peer: &str) -> Result<(), ConfigError> {
    let valid = peer.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if valid {
        return Ok(());
    }
    Err(invalid("gossip.peers", format!("{peer:?}"), "\"host:port\", such as \"10.0.0.7:7946\""))
}
