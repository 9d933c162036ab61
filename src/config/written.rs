//! A config as settings again: for a builder, and as serde writes it, in the shape of the file.

use super::control::{Control, OFF};
#[cfg(feature = "serde")]
use super::validate::HIDDEN;
use super::validate::{NEVER, Origin, Value, Values};
use super::{Config, Durability, WhenFull};
use crate::credentials::Credentials;

/// All settings of the config. Those that it does not have are not set.
pub(super) fn values(config: &Config) -> Values {
    let Config { gossip, bounds, .. } = config;
    let when_full = if bounds.admit_when_full { WhenFull::Allow } else { WhenFull::Deny };
    let mut values = Values::default();
    let mut set = |path, value| values.set(path, value, Origin::Base);
    set("node.id", Value::Text(config.node.to_string()));
    match &config.data_dir {
        Some(path) => set("node.data_dir", Value::Path(path.clone())),
        None => set("storage.in_memory", Value::Flag(true)),
    }
    match &config.control {
        Some(Control::At(path)) => set("node.control", Value::Path(path.clone())),
        Some(Control::Off) => set("node.control", Value::Text(OFF.to_owned())),
        None => {}
    }
    if let Some(slots) = config.slots {
        set("node.slots", Value::Count(slots.count));
        if let Some(own) = slots.own {
            set("node.slot", Value::Count(own));
        }
    }
    if let Some(address) = config.listen {
        set("gossip.listen", Value::Text(address.to_string()));
    }
    set("gossip.insecure", Value::Flag(config.insecure));
    match (config.credentials.clone(), config.key_file.clone()) {
        (Some(Credentials::ClusterKeys(_)), Some(path)) => {
            set("gossip.key_file", Value::Text(path))
        }
        (Some(Credentials::ClusterKeys(keys)), None) => set("gossip.key", Value::Keys(Ok(keys))),
        (Some(Credentials::NodeKeys(keys)), path) => {
            set("gossip.members", Value::Texts(keys.members.entries().collect()));
            match path {
                Some(path) => set("gossip.node_key_file", Value::Text(path)),
                None => set("gossip.node_key", Value::NodeKey(Ok(keys.own))),
            }
        }
        #[cfg(feature = "tls")]
        (Some(Credentials::Certificates(certificates)), _) => {
            let files = certificates.files();
            set("gossip.tls_certificate", Value::Text(files.certificate.clone()));
            set("gossip.tls_key", Value::Text(files.key.clone()));
            set("gossip.tls_authorities", Value::Text(files.authorities.clone()));
            if let Some(revoked) = &files.revoked {
                set("gossip.tls_revoked", Value::Text(revoked.clone()));
            }
        }
        (None, _) => {}
    }
    set("gossip.cluster", Value::Text(gossip.cluster.to_string()));
    if let Some(address) = &gossip.advertised {
        set("gossip.advertise", Value::Text(address.clone()));
    }
    set("gossip.peer_exchange", Value::Flag(config.peer_exchange));
    set("gossip.ready_timeout", Value::Duration(gossip.ready_timeout));
    set("gossip.leave_timeout", Value::Duration(gossip.leave_timeout));
    set("gossip.peers", Value::Texts(config.peers.iter().map(ToString::to_string).collect()));
    set("gossip.interval", Value::Duration(gossip.interval));
    set("gossip.urgent_at", Value::Fraction(bounds.urgent_fraction));
    set("gossip.digest_interval", Value::Duration(gossip.digest_interval));
    set("gossip.sync_timeout", Value::Duration(config.sync_timeout));
    set("gossip.direct_up_to", Value::Count(gossip.direct_up_to));
    set("gossip.fanout", Value::Count(gossip.fanout));
    set("gossip.handshake_timeout", Value::Duration(gossip.handshake_timeout));
    set("gossip.silence_timeout", Value::Duration(gossip.silence_timeout));
    let dead_after = gossip.presumed_dead_after;
    let dead_after = dead_after.map_or(Value::Text(NEVER.to_owned()), Value::Duration);
    set("gossip.presumed_dead_after", dead_after);
    set("gossip.clock_offset_max", Value::Duration(gossip.clock_offset_max));
    set("gossip.max_connections", Value::Count(gossip.links_max));
    set("gossip.max_frame_bytes", Value::Count(gossip.frame_bytes_max));
    set("gossip.max_frames_queued", Value::Count(gossip.frames_queued_max));
    if let Some(key) = config.operator {
        set("operator.public_key", Value::Text(key.to_string()));
    }
    set("storage.durability", Value::Text(config.durability.to_string()));
    if config.durability == Durability::Relaxed {
        set("storage.persist_every", Value::Duration(config.persist_every));
    }
    set("counters.max_counters", Value::Count(bounds.counters_max));
    set("counters.when_full", Value::Text(when_full.to_string()));
    set("counters.unmatched", Value::Text(config.unmatched.to_string()));
    set("counters.max_key_bytes", Value::Count(bounds.key_bytes_max));
    set("counters.max_labels", Value::Count(config.labels_max));
    set("counters.max_replicas", Value::Count(bounds.replicas_max));
    set("counters.max_replicas_per_counter", Value::Count(bounds.replicas_per_counter_max));
    set("counters.grace", Value::Duration(bounds.grace));
    set("counters.future_max", Value::Duration(bounds.future_max));
    set("counters.ttl", Value::Duration(config.counter_ttl));
    values
}

/// In the shape of the TOML file, so that what is written is what a file may say.
#[cfg(feature = "serde")]
mod form {
    use serde::de::{DeserializeSeed, Deserializer, Error};
    use serde::ser::{SerializeMap, Serializer};
    use serde::{Deserialize, Serialize};

    use super::super::file::{FileSeed, LIMIT};
    use super::super::settings::{SETTINGS, Setting};
    use super::*;

    impl Serialize for Config {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let values = values(self);
            let mut tables: Vec<&str> = SETTINGS.iter().map(Setting::table).collect();
            tables.dedup();
            let mut map = serializer.serialize_map(None)?;
            for table in tables {
                map.serialize_entry(table, &Table { table, values: &values })?;
            }
            map.serialize_entry(LIMIT, &self.limits)?;
            map.end()
        }
    }

    impl<'de> Deserialize<'de> for Config {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Config, D::Error> {
            let none = Values::default();
            let file = FileSeed { overriding: &none }.deserialize(deserializer)?;
            let builder = file.into_builder(Values::default()).map_err(D::Error::custom)?;
            builder.build().map_err(D::Error::custom)
        }
    }

    struct Table<'a> {
        table: &'a str,
        values: &'a Values,
    }

    impl Serialize for Table<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(None)?;
            for setting in SETTINGS.iter().filter(|setting| setting.table() == self.table) {
                // A key is written nowhere.
                let value = self.values.get(setting.path);
                if let Some(value) = value.filter(|value| !value.is_secret()) {
                    map.serialize_entry(setting.name(), value)?;
                }
            }
            map.end()
        }
    }

    impl Serialize for Value {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match self {
                Value::Text(text) => text.serialize(serializer),
                Value::Path(path) => path.serialize(serializer),
                Value::Texts(texts) => texts.serialize(serializer),
                Value::Keys(_) | Value::NodeKey(_) => HIDDEN.serialize(serializer),
                Value::Flag(flag) => flag.serialize(serializer),
                Value::Duration(length) => {
                    serializer.collect_str(&tallymesh_core::time::format_duration(*length))
                }
                Value::Count(count) => count.serialize(serializer),
                Value::Fraction(fraction) => fraction.serialize(serializer),
            }
        }
    }
}
