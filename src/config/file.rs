//! The TOML form of the settings.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::{Config, ConfigBuilder, ConfigError, Durability, invalid};
use tallymesh_core::limit::{Limit, Window};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    node: Node,
    #[serde(default)]
    gossip: Gossip,
    #[serde(default)]
    storage: Storage,
    #[serde(default)]
    counters: Counters,
    #[serde(default, rename = "limit")]
    limits: Vec<LimitEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Node {
    id: String,
    data_dir: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Gossip {
    listen: Option<String>,
    #[serde(default)]
    peers: Vec<String>,
    #[serde(default)]
    insecure: bool,
    interval: Option<String>,
    digest_interval: Option<String>,
    sync_timeout: Option<String>,
    handshake_timeout: Option<String>,
    silence_timeout: Option<String>,
    clock_offset_max: Option<String>,
    urgent_at: Option<f64>,
    direct_up_to: Option<usize>,
    fanout: Option<usize>,
    max_connections: Option<usize>,
    max_frame_bytes: Option<usize>,
    max_frames_queued: Option<usize>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Storage {
    durability: Option<String>,
    persist_every: Option<String>,
    #[serde(default)]
    in_memory: bool,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Counters {
    max_counters: Option<usize>,
    max_key_bytes: Option<usize>,
    max_labels: Option<usize>,
    max_replicas: Option<usize>,
    max_replicas_per_counter: Option<usize>,
    when_full: Option<String>,
    grace: Option<String>,
    future_max: Option<String>,
    ttl: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitEntry {
    name: String,
    #[serde(default)]
    when: BTreeMap<String, String>,
    #[serde(default)]
    per: Vec<String>,
    max: u64,
    window: String,
    session_ttl: Option<String>,
}

pub(super) fn parse(text: &str) -> Result<Config, ConfigError> {
    let file: File = toml::from_str(text)
        .map_err(|source| ConfigError::Syntax { path: None, source: Box::new(source) })?;
    let mut builder = Config::builder(file.node.id);
    builder.data_dir = file.node.data_dir;
    set_gossip(&mut builder, file.gossip)?;
    set_storage(&mut builder, &file.storage)?;
    set_counters(&mut builder, &file.counters)?;
    for entry in file.limits {
        builder.limits.push(limit(entry)?);
    }
    builder.build()
}

fn set_gossip(builder: &mut ConfigBuilder, gossip: Gossip) -> Result<(), ConfigError> {
    builder.listen = gossip.listen;
    builder.peers = gossip.peers;
    builder.insecure = gossip.insecure;
    let settings = &mut builder.gossip;
    for (key, text, target) in [
        ("gossip.interval", gossip.interval, &mut settings.interval),
        ("gossip.digest_interval", gossip.digest_interval, &mut settings.digest_interval),
        ("gossip.handshake_timeout", gossip.handshake_timeout, &mut settings.handshake_timeout),
        ("gossip.silence_timeout", gossip.silence_timeout, &mut settings.silence_timeout),
        ("gossip.clock_offset_max", gossip.clock_offset_max, &mut settings.clock_offset_max),
        ("gossip.sync_timeout", gossip.sync_timeout, &mut builder.sync_timeout),
    ] {
        set_duration(key, text.as_deref(), target)?;
    }
    set(gossip.urgent_at, &mut builder.bounds.urgent_fraction);
    set(gossip.direct_up_to, &mut settings.direct_up_to);
    set(gossip.fanout, &mut settings.fanout);
    set(gossip.max_connections, &mut settings.links_max);
    set(gossip.max_frame_bytes, &mut settings.frame_bytes_max);
    set(gossip.max_frames_queued, &mut settings.frames_queued_max);
    Ok(())
}

fn set_storage(builder: &mut ConfigBuilder, storage: &Storage) -> Result<(), ConfigError> {
    builder.in_memory = storage.in_memory;
    match storage.durability.as_deref() {
        None | Some("relaxed") => {
            let mut every = Duration::from_millis(10);
            set_duration("storage.persist_every", storage.persist_every.as_deref(), &mut every)?;
            builder.durability = Durability::Relaxed { every };
        }
        Some("sync") => {
            if let Some(every) = &storage.persist_every {
                let allowed = "only with durability = \"relaxed\"";
                return Err(invalid("storage.persist_every", format!("{every:?}"), allowed));
            }
            builder.durability = Durability::Sync;
        }
        Some(other) => {
            let allowed = "\"relaxed\" or \"sync\"";
            return Err(invalid("storage.durability", format!("{other:?}"), allowed));
        }
    }
    Ok(())
}

fn set_counters(builder: &mut ConfigBuilder, counters: &Counters) -> Result<(), ConfigError> {
    let bounds = &mut builder.bounds;
    set(counters.max_counters, &mut bounds.counters_max);
    set(counters.max_key_bytes, &mut bounds.key_bytes_max);
    set(counters.max_replicas, &mut bounds.replicas_max);
    set(counters.max_replicas_per_counter, &mut bounds.replicas_per_counter_max);
    set(counters.max_labels, &mut builder.labels_max);
    set_duration("counters.grace", counters.grace.as_deref(), &mut bounds.grace)?;
    set_duration("counters.future_max", counters.future_max.as_deref(), &mut bounds.future_max)?;
    set_duration("counters.ttl", counters.ttl.as_deref(), &mut builder.counter_ttl)?;
    bounds.admit_when_full = match counters.when_full.as_deref() {
        None | Some("deny") => false,
        Some("allow") => true,
        Some(other) => {
            let allowed = "\"deny\" or \"allow\"";
            return Err(invalid("counters.when_full", format!("{other:?}"), allowed));
        }
    };
    Ok(())
}

fn limit(entry: LimitEntry) -> Result<Limit, ConfigError> {
    let key = |of: &str| format!("limit {:?}: {of}", entry.name);
    let window = if entry.window == "session" {
        let mut ttl = Duration::from_secs(3600);
        set_duration(&key("session_ttl"), entry.session_ttl.as_deref(), &mut ttl)?;
        Window::Session { ttl }
    } else {
        if let Some(ttl) = &entry.session_ttl {
            let allowed = "only with window = \"session\"";
            return Err(invalid(&key("session_ttl"), format!("{ttl:?}"), allowed));
        }
        let length = humantime::parse_duration(&entry.window).map_err(|_| {
            let allowed = "\"session\" or a duration such as \"60s\" or \"1h\"";
            invalid(&key("window"), format!("{:?}", entry.window), allowed)
        })?;
        Window::Fixed(length)
    };
    let mut limit = Limit::new(entry.name, entry.max, window);
    for (label, pattern) in &entry.when {
        limit = limit.when(label, pattern);
    }
    Ok(entry.per.into_iter().fold(limit, Limit::per))
}

fn set<T>(value: Option<T>, target: &mut T) {
    if let Some(value) = value {
        *target = value;
    }
}

fn set_duration(key: &str, text: Option<&str>, target: &mut Duration) -> Result<(), ConfigError> {
    if let Some(text) = text {
        *target = humantime::parse_duration(text).map_err(|_| {
            invalid(key, format!("{text:?}"), "a duration such as \"50ms\" or \"1h\"")
        })?;
    }
    Ok(())
}
