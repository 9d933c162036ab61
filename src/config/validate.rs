//! Values of settings: those that are set, the defaults of the others, and whether they are allowed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tallymesh_core::operator::OperatorPublicKey;
use tallymesh_core::time::{self, InvalidDuration, format_duration, whole_ms};

use super::ConfigError;
use super::error::invalid;
use super::peer_entry::PeerEntry;
use super::settings::{DefaultValue, Kind, SETTINGS, Setting};
use crate::cluster_key::Keys;
use crate::node_key::NodeKey;

/// A value of a setting. A duration or a path may also be text, as in a file.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Text(String),
    Path(PathBuf),
    Texts(Vec<String>),
    /// Or what is allowed instead.
    Keys(Result<Keys, String>),
    /// Or what is allowed instead.
    NodeKey(Result<NodeKey, String>),
    Flag(bool),
    Duration(Duration),
    Count(usize),
    Fraction(f64),
}

impl Value {
    /// The keys of this text, or why they are none.
    pub(super) fn keys(text: &str) -> Value {
        Value::Keys(Keys::parse(text))
    }

    /// The key of this text, or why it is none.
    pub(super) fn node_key(text: &str) -> Value {
        Value::NodeKey(NodeKey::parse(text).map_err(|why| why.to_string()))
    }

    /// Whether it is to be shown nowhere.
    #[cfg(feature = "serde")]
    pub(super) fn is_secret(&self) -> bool {
        matches!(self, Value::Keys(_) | Value::NodeKey(_))
    }
}

/// What is shown in the place of a key.
pub(super) const HIDDEN: &str = "(hidden)";

/// What stands for a time that does not come.
pub(super) const NEVER: &str = "never";

/// Who set a value. A later one overrides those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    /// A file, or another config that a builder starts from.
    Base,
    /// A variable of the environment.
    Environment,
    /// A method of the builder.
    Builder,
}

/// The settings that are set, by path.
#[derive(Debug, Clone, Default)]
pub(super) struct Values(BTreeMap<&'static str, (Value, Origin)>);

impl Values {
    /// Sets a value. What an earlier origin set, and this value excludes, no longer applies.
    pub(super) fn set(&mut self, path: &'static str, value: Value, origin: Origin) {
        if let Some(excluded) = excluded_by(path, &value)
            && self.origin(excluded).is_some_and(|of| of < origin)
        {
            self.0.remove(excluded);
        }
        self.0.insert(path, (value, origin));
    }

    /// Sets all of these, each with its origin.
    pub(super) fn set_all(&mut self, values: Values) {
        for (path, (value, origin)) in values.0 {
            self.set(path, value, origin);
        }
    }

    pub(super) fn origin(&self, path: &str) -> Option<Origin> {
        self.0.get(path).map(|(_, origin)| *origin)
    }

    pub(super) fn get(&self, path: &str) -> Option<&Value> {
        self.0.get(path).map(|(value, _)| value)
    }

    pub(super) fn is_set(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }

    /// Checks each setting that has a range or a list of words.
    pub(super) fn check_each(&self) -> Result<(), ConfigError> {
        SETTINGS.iter().try_for_each(|setting| self.check(setting))
    }

    pub(super) fn check(&self, setting: &Setting) -> Result<(), ConfigError> {
        match setting.kind {
            Kind::Duration(..) => self.duration(setting.path).map(drop),
            Kind::DurationOrNever(..) => self.duration_or_never(setting.path).map(drop),
            Kind::Count(..) => self.count_if_set(setting.path).map(drop),
            Kind::Fraction(..) => self.fraction(setting.path).map(drop),
            Kind::OneOf(_) => self.word(setting.path).map(drop),
            Kind::Keys => self.keys(setting.path).map(drop),
            Kind::NodeKey => self.node_key(setting.path).map(drop),
            Kind::Text | Kind::Texts | Kind::Flag => Ok(()),
        }
    }

    /// A text; `None` when it is not set.
    pub(super) fn text(&self, path: &str) -> Result<Option<String>, ConfigError> {
        match self.get(path) {
            Some(Value::Text(text)) => Ok(Some(text.clone())),
            Some(other) => Err(wrong_kind(path, other)),
            None => Ok(None),
        }
    }

    /// A path; `None` when it is not set.
    pub(super) fn path(&self, path: &str) -> Result<Option<PathBuf>, ConfigError> {
        match self.get(path) {
            Some(Value::Path(value)) => Ok(Some(value.clone())),
            _ => Ok(self.text(path)?.map(PathBuf::from)),
        }
    }

    pub(super) fn texts(&self, path: &str) -> Result<Vec<String>, ConfigError> {
        match self.get(path) {
            Some(Value::Texts(texts)) => Ok(texts.clone()),
            Some(other) => Err(wrong_kind(path, other)),
            None => Ok(Vec::new()),
        }
    }

    /// Keys; `None` when they are not set.
    pub(super) fn keys(&self, path: &str) -> Result<Option<Keys>, ConfigError> {
        match self.get(path) {
            Some(Value::Keys(Ok(keys))) => Ok(Some(keys.clone())),
            Some(Value::Keys(Err(allowed))) => Err(invalid(path, HIDDEN, allowed)),
            Some(_) => Err(not_allowed(path, HIDDEN)),
            None => Ok(None),
        }
    }

    /// The key of a node; `None` when it is not set.
    pub(super) fn node_key(&self, path: &str) -> Result<Option<NodeKey>, ConfigError> {
        match self.get(path) {
            Some(Value::NodeKey(Ok(key))) => Ok(Some(key.clone())),
            Some(Value::NodeKey(Err(allowed))) => Err(invalid(path, HIDDEN, allowed)),
            Some(_) => Err(not_allowed(path, HIDDEN)),
            None => Ok(None),
        }
    }

    /// The file of keys that is set, of whichever kind.
    pub(super) fn key_file(&self) -> Result<Option<String>, ConfigError> {
        match self.text("gossip.key_file")? {
            None => self.text("gossip.node_key_file"),
            file => Ok(file),
        }
    }

    pub(super) fn flag(&self, path: &str) -> Result<bool, ConfigError> {
        match self.get(path) {
            Some(Value::Flag(flag)) => Ok(*flag),
            Some(other) => Err(wrong_kind(path, other)),
            None => Ok(default_of(path)? == "true"),
        }
    }

    /// One of the words of the setting's row.
    pub(super) fn word(&self, path: &str) -> Result<String, ConfigError> {
        let word = match self.text(path)? {
            Some(word) => word,
            None => default_of(path)?.to_owned(),
        };
        match row(path)?.kind {
            Kind::OneOf(words) if words.contains(&word.as_str()) => Ok(word),
            _ => Err(not_allowed(path, format!("{word:?}"))),
        }
    }

    pub(super) fn duration(&self, path: &str) -> Result<Duration, ConfigError> {
        let value = match self.get(path) {
            Some(Value::Duration(value)) => *value,
            Some(Value::Text(text)) => parse_duration(path, text)?,
            Some(other) => return Err(wrong_kind(path, other)),
            None => parse_duration(path, default_of(path)?)?,
        };
        match row(path)?.kind {
            // Less than a millisecond would be rounded to none at all.
            Kind::Duration(least, most) | Kind::DurationOrNever(least, most)
                if (least..=most).contains(&value) && (whole_ms(value) > 0 || value.is_zero()) =>
            {
                Ok(value)
            }
            _ => Err(not_allowed(path, format_duration(value).to_string())),
        }
    }

    /// A duration; `None` for `never`.
    pub(super) fn duration_or_never(&self, path: &str) -> Result<Option<Duration>, ConfigError> {
        match self.get(path) {
            Some(Value::Text(text)) if text == NEVER => Ok(None),
            _ => self.duration(path).map(Some),
        }
    }

    pub(super) fn count(&self, path: &str) -> Result<usize, ConfigError> {
        match self.count_if_set(path)? {
            Some(value) => Ok(value),
            None => parse(path, default_of(path)?),
        }
    }

    /// A whole number; `None` when it is not set.
    pub(super) fn count_if_set(&self, path: &str) -> Result<Option<usize>, ConfigError> {
        let value = match self.get(path) {
            Some(Value::Count(value)) => *value,
            Some(other) => return Err(wrong_kind(path, other)),
            None => return Ok(None),
        };
        match row(path)?.kind {
            Kind::Count(least, most) if (least..=most).contains(&value) => Ok(Some(value)),
            _ => Err(not_allowed(path, value.to_string())),
        }
    }

    pub(super) fn fraction(&self, path: &str) -> Result<f64, ConfigError> {
        let value = match self.get(path) {
            Some(Value::Fraction(value)) => *value,
            Some(other) => return Err(wrong_kind(path, other)),
            None => parse(path, default_of(path)?)?,
        };
        match row(path)?.kind {
            Kind::Fraction(least, most) if (least..=most).contains(&value) => Ok(value),
            _ => Err(not_allowed(path, value.to_string())),
        }
    }

    /// The directory for the state; `None` keeps it in memory only.
    pub(super) fn data_dir(&self) -> Result<Option<PathBuf>, ConfigError> {
        let path = self.path("node.data_dir")?;
        match (path, self.flag("storage.in_memory")?) {
            (Some(path), false) if !path.as_os_str().is_empty() => Ok(Some(path)),
            (None, true) => Ok(None),
            (Some(path), true) => {
                let allowed = "only without storage.in_memory = true";
                Err(invalid("node.data_dir", format!("{path:?}"), allowed))
            }
            (_, false) => {
                let allowed =
                    "the path of a directory of this node alone, or storage.in_memory = true";
                Err(invalid("node.data_dir", "nothing", allowed))
            }
        }
    }

    /// The address to listen at: a loopback address, unless there is a key or `gossip.insecure` is set.
    pub(super) fn listen(&self) -> Result<Option<SocketAddr>, ConfigError> {
        let path = "gossip.listen";
        let Some(text) = self.text(path)? else { return Ok(None) };
        let quoted = format!("{text:?}");
        let text = text.replacen("localhost:", "127.0.0.1:", 1);
        let Ok(address) = text.parse::<SocketAddr>() else {
            let allowed = "an IP address and a port, such as \"127.0.0.1:7946\"";
            return Err(invalid(path, quoted, allowed));
        };
        let keys = ["gossip.key", "gossip.key_file", "gossip.node_key", "gossip.node_key_file"];
        let keys = [&keys[..], &["gossip.tls_certificate"]].concat();
        let has_key = keys.iter().any(|path| self.is_set(path));
        if !address.ip().is_loopback() && !has_key && !self.flag("gossip.insecure")? {
            let allowed = "only a loopback address, since without a key peers neither authenticate nor encrypt; set gossip.key or \
                           gossip.key_file (`tallymesh keygen` makes one), or gossip.node_key, or gossip.tls_certificate, or, on a network that you trust, gossip.insecure = true";
            return Err(invalid(path, quoted, allowed));
        }
        Ok(Some(address))
    }

    /// What other nodes are told to dial.
    pub(super) fn advertise(&self) -> Result<Option<String>, ConfigError> {
        let path = "gossip.advertise";
        let Some(text) = self.text(path)? else { return Ok(None) };
        let refused = |allowed: &str| Err(invalid(path, format!("{text:?}"), allowed));
        let Ok(address) = text.parse::<SocketAddr>() else {
            return refused(
                "an IP address and a port, such as \"10.0.0.7:7946\"; a name is not looked up by others",
            );
        };
        if address.port() == 0 {
            return refused("an IP address and a port of at least 1: others cannot dial port 0");
        }
        if address.ip().is_unspecified() || address.ip().is_multicast() {
            return refused(
                "the IP address of this node that others can dial; leave it out to have them take the one that they see",
            );
        }
        if !self.is_set("gossip.listen") {
            return refused(
                "only with gossip.listen, since others would dial a node that does not listen",
            );
        }
        Ok(Some(address.to_string()))
    }

    /// The public half of the operator's key.
    pub(super) fn operator(&self) -> Result<Option<OperatorPublicKey>, ConfigError> {
        let path = "operator.public_key";
        let Some(text) = self.text(path)? else { return Ok(None) };
        // Who gives the private half by mistake must not find it in a log.
        let parsed = text.parse::<OperatorPublicKey>();
        parsed.map(Some).map_err(|why| invalid(path, HIDDEN, &why.to_string()))
    }

    /// Where the peers' addresses come from.
    pub(super) fn peers(&self) -> Result<Vec<PeerEntry>, ConfigError> {
        PeerEntry::parse_all(&self.texts("gossip.peers")?)
    }
}

/// The setting that makes no sense beside this one.
fn excluded_by(path: &str, value: &Value) -> Option<&'static str> {
    match (path, value) {
        ("node.data_dir", _) => Some("storage.in_memory"),
        ("gossip.key", _) => Some("gossip.key_file"),
        ("gossip.key_file", _) => Some("gossip.key"),
        ("gossip.node_key", _) => Some("gossip.node_key_file"),
        ("gossip.node_key_file", _) => Some("gossip.node_key"),
        ("storage.in_memory", Value::Flag(true)) => Some("node.data_dir"),
        ("storage.durability", Value::Text(word)) if word == "sync" => {
            Some("storage.persist_every")
        }
        _ => None,
    }
}

/// Reads a duration of the file, at this key.
fn parse_duration(key: &str, text: &str) -> Result<Duration, ConfigError> {
    time::parse_duration(text).map_err(|why| {
        let range = match why {
            InvalidDuration::MonthsOrYears => row(key).map(|row| format!("{}; ", row.allowed())),
            _ => Ok(String::new()),
        };
        invalid(key, format!("{text:?}"), &format!("{}{why}", range.unwrap_or_default()))
    })
}

pub(super) fn parse<T: std::str::FromStr>(path: &str, text: &str) -> Result<T, ConfigError> {
    text.parse().map_err(|_| not_allowed(path, text))
}

fn row(path: &str) -> Result<&'static Setting, ConfigError> {
    Setting::find(path).ok_or_else(|| invalid(path, "a value", "not a setting"))
}

fn default_of(path: &str) -> Result<&'static str, ConfigError> {
    match row(path)?.default {
        DefaultValue::Is(text) => Ok(text),
        DefaultValue::Required | DefaultValue::Nothing => Err(not_allowed(path, "nothing")),
    }
}

/// The error of a value outside of what the setting's row allows.
pub(super) fn not_allowed(path: &str, value: impl Into<String>) -> ConfigError {
    let allowed = Setting::find(path).map(Setting::allowed).unwrap_or_default();
    invalid(path, value, &allowed)
}

fn wrong_kind(path: &str, value: &Value) -> ConfigError {
    not_allowed(path, format!("{value:?}"))
}
