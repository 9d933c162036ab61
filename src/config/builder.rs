//! Settings from code.

mod security;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tallymesh_core::gossip::GossipSettings;
use tallymesh_core::limit::{Limit, Policy};
use tallymesh_core::table::Bounds;
use tallymesh_core::time::format_duration;

use super::environment::with_variable;
use super::error::invalid;
use super::names::{cluster, node_id};
use super::validate::{NEVER, Origin, Value, Values};
use super::{Config, ConfigError, Durability, Slots, Unmatched, WhenFull, file, keys, slots};

/// Settings on their way to a [`Config`]. There is a method for each setting of the TOML file, named as it is there: alone, or
/// after its table where the name alone says too little (`gossip.interval` is [`gossip_interval`](Self::gossip_interval)).
/// Ranges and defaults are listed in `docs/settings.md`.
#[derive(Debug, Clone)]
pub struct ConfigBuilder {
    pub(super) values: Values,
    pub(super) limits: Vec<Limit>,
}

impl ConfigBuilder {
    pub(super) fn new(node_id: String) -> ConfigBuilder {
        let builder = ConfigBuilder { values: Values::default(), limits: Vec::new() };
        builder.set("node.id", Value::Text(node_id))
    }

    fn set(mut self, path: &'static str, value: Value) -> ConfigBuilder {
        self.values.set(path, value, Origin::Builder);
        self
    }

    /// Starts from a TOML file and the environment, as [`Config::from_file`] reads them; what is set here overrides both, and
    /// limits are added to those of the file.
    ///
    /// # Errors
    /// When the file cannot be read, is not TOML, or has an unknown key, or a variable of the environment cannot be one's
    /// value. Whether the values are allowed, [`build`](Self::build) says.
    pub fn from_file(path: impl AsRef<Path>) -> Result<ConfigBuilder, ConfigError> {
        file::read(path.as_ref(), std::env::vars_os())
    }

    /// The directory for the state, of this node alone.
    #[must_use]
    pub fn data_dir(self, path: impl Into<PathBuf>) -> Self {
        self.set("node.data_dir", Value::Path(path.into()))
    }

    /// How many processes share these settings, from 1 to 1024. Each takes a slot, a number from 0 on, that no other process holds, and
    /// with slot `N` it is the node `ID-N`, whose state is in `DATA_DIR/N`, at the ports of [`listen`](Self::listen) and
    /// [`advertise`](Self::advertise) plus `N`. The other slots are its peers. A process that is started after another one ended
    /// takes its slot, and so goes on as the same node.
    ///
    /// ```
    /// use tallymesh::{Config, Limiter};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    /// # let (dir, listen) = (dir.path(), free.to_string());
    /// let config = Config::builder("api").data_dir(dir).listen(listen).slots(4).build()?;
    /// let limiter = Limiter::open(config).await?;
    /// assert_eq!(limiter.slot(), Some(0));
    /// assert_eq!(limiter.status().replica.node.as_str(), "api-0");
    /// # limiter.close().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn slots(self, count: usize) -> Self {
        self.set("node.slots", Value::Count(count))
    }

    /// The slot of this process, below [`slots`](Self::slots), where what starts the processes numbers them. Without it, a process
    /// takes the first that is free.
    #[must_use]
    pub fn slot(self, slot: usize) -> Self {
        self.set("node.slot", Value::Count(slot))
    }

    /// The IP address and port to listen at. Without it, the node only dials its peers.
    #[must_use]
    pub fn listen(self, address: impl Into<String>) -> Self {
        self.set("gossip.listen", Value::Text(address.into()))
    }

    /// The cluster's name: nodes of another one are refused; 1 to 64 ASCII letters, digits, `.`, `_` or `-`.
    #[must_use]
    pub fn cluster(self, name: impl Into<String>) -> Self {
        self.set("gossip.cluster", Value::Text(name.into()))
    }

    /// The IP address and port that other nodes are told to dial. Without it, the port that this node listens at, at the address
    /// that they see.
    #[must_use]
    pub fn advertise(self, address: impl Into<String>) -> Self {
        self.set("gossip.advertise", Value::Text(address.into()))
    }

    /// Whether to learn the addresses of other members from the peers that the node dialed, at most 4,096. Without a
    /// [key](Self::gossip_key) that is done only if it listens on a loopback address, or is [`insecure`](Self::insecure).
    #[must_use]
    pub fn peer_exchange(self, learn: bool) -> Self {
        self.set("gossip.peer_exchange", Value::Flag(learn))
    }

    /// Where the other nodes are, in at most 4,096 entries that lead to at most 4,096 addresses. Each is one of
    ///
    /// - `host:port`. A name with several addresses is several peers, and is looked up again every 5 s;
    /// - `srv:name`, with the cargo feature `srv`: the targets of the SRV records of this name in the DNS, looked up as often;
    /// - `file:path`: a file of one `host:port` a line, where what follows a `#` is a comment. It is read again when it changes.
    ///
    /// The node's own address is recognised and left out. [`CounterStore::set_peers`](crate::CounterStore::set_peers) replaces
    /// the list while the node runs.
    #[must_use]
    pub fn peers<P: Into<String>>(self, peers: impl IntoIterator<Item = P>) -> Self {
        self.set("gossip.peers", Value::Texts(peers.into_iter().map(Into::into).collect()))
    }

    /// The time between two rounds in which changes are sent, on average; 1 ms to 1 minute.
    #[must_use]
    pub fn gossip_interval(self, interval: Duration) -> Self {
        self.set("gossip.interval", Value::Duration(interval))
    }

    /// The fraction of a limit from which a change is sent at once; 0 to 1.
    #[must_use]
    pub fn urgent_at(self, fraction: f64) -> Self {
        self.set("gossip.urgent_at", Value::Fraction(fraction))
    }

    /// The time after which nodes compare what they have; 10 ms to 1 minute.
    #[must_use]
    pub fn digest_interval(self, interval: Duration) -> Self {
        self.set("gossip.digest_interval", Value::Duration(interval))
    }

    /// How long opening may wait for the peers of the config to answer, and for their state; at most 1 minute, 0 for not at all.
    #[must_use]
    pub fn sync_timeout(self, timeout: Duration) -> Self {
        self.set("gossip.sync_timeout", Value::Duration(timeout))
    }

    /// How long after the start the node calls itself ready at the latest, whatever peers have not answered or are still sending;
    /// at most 10 minutes.
    #[must_use]
    pub fn ready_timeout(self, timeout: Duration) -> Self {
        self.set("gossip.ready_timeout", Value::Duration(timeout))
    }

    /// How long a node that stops waits for a peer to confirm its last counts; at most 1 minute, 0 for not at all.
    #[must_use]
    pub fn leave_timeout(self, timeout: Duration) -> Self {
        self.set("gossip.leave_timeout", Value::Duration(timeout))
    }

    /// Up to this many nodes, each sends its own changes to every peer; 0 to 65,536.
    #[must_use]
    pub fn direct_up_to(self, nodes: usize) -> Self {
        self.set("gossip.direct_up_to", Value::Count(nodes))
    }

    /// In a larger cluster, the number of random peers that each round sends changes to; 1 to 1,024.
    #[must_use]
    pub fn fanout(self, peers: usize) -> Self {
        self.set("gossip.fanout", Value::Count(peers))
    }

    /// How long a peer may take to introduce itself; 100 ms to 1 minute.
    #[must_use]
    pub fn handshake_timeout(self, timeout: Duration) -> Self {
        self.set("gossip.handshake_timeout", Value::Duration(timeout))
    }

    /// How long a peer may be silent before its connection is closed; 100 ms to 10 minutes, and at least twice the digest
    /// interval.
    #[must_use]
    pub fn silence_timeout(self, timeout: Duration) -> Self {
        self.set("gossip.silence_timeout", Value::Duration(timeout))
    }

    /// How long a member may be silent without a goodbye until limits that heed cuts
    /// ([`Limit::when_cut_off`]) take it for dead; 1 second to 1 day, or `None` for never. After that a
    /// crash and a cut are no longer told from each other: each side has the whole limit.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tallymesh::{Config, Limit, WhenCutOff, Window};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let day = Window::Fixed(Duration::from_secs(24 * 3600));
    /// let spend = Limit::new("spend", 10_000, day).when_cut_off(WhenCutOff::Share);
    /// // However long a cut lasts, no side has more than its share.
    /// let config = Config::builder("a").in_memory().limit(spend).presumed_dead_after(None).build()?;
    /// assert_eq!(config.limits()[0].when_is_cut_off(), WhenCutOff::Share);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn presumed_dead_after(self, after: impl Into<Option<Duration>>) -> Self {
        let after = after.into().map_or(Value::Text(NEVER.to_owned()), Value::Duration);
        self.set("gossip.presumed_dead_after", after)
    }

    /// The difference between a peer's clock and the node's from which it is logged; 1 ms to 1 hour.
    #[must_use]
    pub fn clock_offset_max(self, offset: Duration) -> Self {
        self.set("gossip.clock_offset_max", Value::Duration(offset))
    }

    /// The most connections at a time; 1 to 65,536.
    #[must_use]
    pub fn max_connections(self, connections: usize) -> Self {
        self.set("gossip.max_connections", Value::Count(connections))
    }

    /// The longest frame, in bytes; 16 KiB to 16 MiB.
    #[must_use]
    pub fn max_frame_bytes(self, bytes: usize) -> Self {
        self.set("gossip.max_frame_bytes", Value::Count(bytes))
    }

    /// The most frames that wait for a slow peer; 1 to 16.
    #[must_use]
    pub fn max_frames_queued(self, frames: usize) -> Self {
        self.set("gossip.max_frames_queued", Value::Count(frames))
    }

    /// When counts are written to disk.
    #[must_use]
    pub fn durability(self, durability: Durability) -> Self {
        self.set("storage.durability", Value::Text(durability.word().to_owned()))
    }

    /// The time between two checkpoints; 1 ms to 1 minute. Only with [`Durability::Relaxed`].
    #[must_use]
    pub fn persist_every(self, every: Duration) -> Self {
        self.set("storage.persist_every", Value::Duration(every))
    }

    /// Keeps the state in memory only; a restart begins with what the peers have.
    #[must_use]
    pub fn in_memory(self) -> Self {
        self.set("storage.in_memory", Value::Flag(true))
    }

    /// The most counters in memory; 1 to 100,000,000.
    #[must_use]
    pub fn max_counters(self, counters: usize) -> Self {
        self.set("counters.max_counters", Value::Count(counters))
    }

    /// What happens to a request that needs a counter past that.
    #[must_use]
    pub fn when_full(self, action: WhenFull) -> Self {
        self.set("counters.when_full", Value::Text(action.word().to_owned()))
    }

    /// What happens to a request that no limit applies to, also where there are no limits.
    #[must_use]
    pub fn unmatched(self, action: Unmatched) -> Self {
        self.set("counters.unmatched", Value::Text(action.word().to_owned()))
    }

    /// The longest key, in bytes: a limit's name and label values together; 16 to 8,192.
    #[must_use]
    pub fn max_key_bytes(self, bytes: usize) -> Self {
        self.set("counters.max_key_bytes", Value::Count(bytes))
    }

    /// The most labels of a request; 1 to 1,024.
    #[must_use]
    pub fn max_labels(self, labels: usize) -> Self {
        self.set("counters.max_labels", Value::Count(labels))
    }

    /// The most replicas (nodes and their restarts) that the node remembers; 2 to 1,000,000.
    #[must_use]
    pub fn max_replicas(self, replicas: usize) -> Self {
        self.set("counters.max_replicas", Value::Count(replicas))
    }

    /// The most replicas in one counter; 2 to 1,000,000.
    #[must_use]
    pub fn max_replicas_per_counter(self, replicas: usize) -> Self {
        self.set("counters.max_replicas_per_counter", Value::Count(replicas))
    }

    /// How long an expired counter is kept for changes that arrive late; 100 ms to 1 day.
    #[must_use]
    pub fn counters_grace(self, grace: Duration) -> Self {
        self.set("counters.grace", Value::Duration(grace))
    }

    /// How far ahead of the node's clock a peer's window may begin; 100 ms to 1 day.
    #[must_use]
    pub fn future_max(self, ahead: Duration) -> Self {
        self.set("counters.future_max", Value::Duration(ahead))
    }

    /// How long a counter that is used without a limit is kept after its last change; 1 ms to 366 days.
    #[must_use]
    pub fn counters_ttl(self, ttl: Duration) -> Self {
        self.set("counters.ttl", Value::Duration(ttl))
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
    /// The first setting whose value is not allowed, by its path, or the first limit that is invalid.
    pub fn build(self) -> Result<Config, ConfigError> {
        let values = self.values.clone();
        self.checked().map_err(|error| with_variable(error, &values))
    }

    fn checked(self) -> Result<Config, ConfigError> {
        let values = &self.values;
        let node = node_id(values)?;
        // What a value may be by itself, before what settings mean for each other.
        values.check_each()?;
        let credentials = keys::credentials(values, &node)?;
        let mut config = Config {
            node,
            slots: Slots::of(values)?,
            other_slots: BTreeSet::new(),
            data_dir: data_dir(values)?,
            listen: values.listen()?,
            peers: values.peers()?,
            sync_timeout: values.duration("gossip.sync_timeout")?,
            credentials,
            key_file: values.key_file()?,
            insecure: values.flag("gossip.insecure")?,
            peer_exchange: values.flag("gossip.peer_exchange")?,
            gossip: gossip(values)?,
            durability: durability(values)?,
            persist_every: values.duration("storage.persist_every")?,
            bounds: bounds(values)?,
            labels_max: values.count("counters.max_labels")?,
            unmatched: values.word("counters.unmatched")?.parse()?,
            counter_ttl: values.duration("counters.ttl")?,
            limits: self.limits,
        };
        slots::check(&config)?;
        let policy = Policy::new(config.limits.iter().cloned())?;
        policy.check_bounds(config.labels_max, config.bounds.key_bytes_max)?;
        config.gossip.limits = policy.hashes().into();
        config.gossip.heeds_cuts = policy.heeds_cuts();
        // A peer that need not prove who it is could have the node dial anything.
        let is_trusted = config.credentials.is_some()
            || config.insecure
            || config.listen.is_some_and(|address| address.ip().is_loopback());
        config.gossip.peer_exchange = config.peer_exchange && is_trusted;
        Ok(config)
    }
}

/// `None` keeps the state in memory only.
fn data_dir(values: &Values) -> Result<Option<PathBuf>, ConfigError> {
    let path = values.path("node.data_dir")?;
    match (path, values.flag("storage.in_memory")?) {
        (Some(path), false) if !path.as_os_str().is_empty() => Ok(Some(path)),
        (None, true) => Ok(None),
        (Some(path), true) => {
            let allowed = "only without storage.in_memory = true";
            Err(invalid("node.data_dir", format!("{path:?}"), allowed))
        }
        (_, false) => {
            let allowed = "the path of a directory of this node alone, or storage.in_memory = true";
            Err(invalid("node.data_dir", "nothing", allowed))
        }
    }
}

fn gossip(values: &Values) -> Result<GossipSettings, ConfigError> {
    let settings = GossipSettings {
        cluster: cluster(values)?,
        advertised: values.advertise()?,
        leave_timeout: values.duration("gossip.leave_timeout")?,
        ready_timeout: values.duration("gossip.ready_timeout")?,
        interval: values.duration("gossip.interval")?,
        digest_interval: values.duration("gossip.digest_interval")?,
        direct_up_to: values.count("gossip.direct_up_to")?,
        fanout: values.count("gossip.fanout")?,
        frame_bytes_max: values.count("gossip.max_frame_bytes")?,
        frames_queued_max: values.count("gossip.max_frames_queued")?,
        links_max: values.count("gossip.max_connections")?,
        handshake_timeout: values.duration("gossip.handshake_timeout")?,
        silence_timeout: values.duration("gossip.silence_timeout")?,
        presumed_dead_after: values.duration_or_never("gossip.presumed_dead_after")?,
        clock_offset_max: values.duration("gossip.clock_offset_max")?,
        ..GossipSettings::default()
    };
    if settings.silence_timeout < settings.digest_interval * 2 {
        let value = format_duration(settings.silence_timeout).to_string();
        let allowed = "at least twice gossip.digest_interval, or live peers are taken for gone";
        return Err(invalid("gossip.silence_timeout", value, allowed));
    }
    Ok(settings)
}

fn durability(values: &Values) -> Result<Durability, ConfigError> {
    if values.word("storage.durability")? == "relaxed" {
        return Ok(Durability::Relaxed);
    }
    if values.is_set("storage.persist_every") {
        let every = values.duration("storage.persist_every")?;
        let value = format!("{:?}", format_duration(every).to_string());
        let allowed = "only with storage.durability = \"relaxed\"";
        return Err(invalid("storage.persist_every", value, allowed));
    }
    Ok(Durability::Sync)
}

fn bounds(values: &Values) -> Result<Bounds, ConfigError> {
    Ok(Bounds {
        counters_max: values.count("counters.max_counters")?,
        key_bytes_max: values.count("counters.max_key_bytes")?,
        replicas_max: values.count("counters.max_replicas")?,
        replicas_per_counter_max: values.count("counters.max_replicas_per_counter")?,
        admit_when_full: values.word("counters.when_full")? == "allow",
        grace: values.duration("counters.grace")?,
        future_max: values.duration("counters.future_max")?,
        urgent_fraction: values.fraction("gossip.urgent_at")?,
    })
}
