//! The TOML form of the settings. Which tables and keys there are, and of which kind, the rows of [`SETTINGS`] say.

use std::ffi::OsString;
use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use tallymesh_core::limit::LimitEntry;
use zeroize::Zeroizing;

use super::settings::{DefaultValue, Kind, SETTINGS, Setting};
use super::validate::{HIDDEN, Origin, Value, Values};
use super::{ConfigBuilder, ConfigError, environment};

/// The key of the limits, which are not settings.
pub(super) const LIMIT: &str = "limit";

/// Reads a file; these variables of the environment override what is in it.
pub(super) fn read(
    path: &Path,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<ConfigBuilder, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    // A key may be in it.
    let text = Zeroizing::new(text);
    parse(&text, environment::read(variables)?).map_err(|error| match error {
        ConfigError::Syntax { source, .. } => {
            ConfigError::Syntax { path: Some(path.to_owned()), source }
        }
        other => other,
    })
}

/// Reads the text of a file; what `overriding` sets need not be in it, and does not apply if it is.
pub(super) fn parse(text: &str, overriding: Values) -> Result<ConfigBuilder, ConfigError> {
    let syntax = |source| ConfigError::Syntax { path: None, source: without_keys(source) };
    let deserializer = toml::Deserializer::parse(text).map_err(syntax)?;
    let file = FileSeed { overriding: &overriding };
    file.deserialize(deserializer)
        .map_err(|mut source: toml::de::Error| {
            source.set_input(Some(text));
            syntax(source)
        })?
        .into_builder(overriding)
}

/// The error, which shows the line that it is about, without any key that is written there.
fn without_keys(error: toml::de::Error) -> Box<dyn std::error::Error + Send + Sync> {
    let text = error.to_string();
    let is_long_word = |word: &str| word.len() >= KEY_LIKE_FROM;
    let hidden = text.lines().map(|line| {
        let Some((number, code)) = line.split_once(" | ") else { return line.to_owned() };
        let is_key = ["key", "node_key"].iter().any(|name| {
            let rest = code.trim_start().strip_prefix(name).map(str::trim_start);
            rest.is_some_and(|rest| rest.starts_with('=') || rest.is_empty())
        });
        // The line below an assignment may go on with it.
        let may_have_key = is_key || code.split(|c: char| !c.is_ascii_hexdigit()).any(is_long_word);
        match may_have_key {
            true => format!("{number} | {HIDDEN}"),
            false => line.to_owned(),
        }
    });
    let hidden = hidden.collect::<Vec<_>>().join("\n");
    match hidden.trim_end() == text.trim_end() {
        true => Box::new(error),
        false => hidden.into(),
    }
}

/// A word of so many hex digits is taken for a part of a key.
const KEY_LIKE_FROM: usize = 16;

/// The content of a file, before its values are checked.
#[derive(Default)]
pub(super) struct File {
    values: Values,
    limits: Vec<LimitEntry>,
}

impl File {
    pub(super) fn into_builder(self, overriding: Values) -> Result<ConfigBuilder, ConfigError> {
        let limits =
            self.limits.into_iter().map(LimitEntry::into_limit).collect::<Result<_, _>>()?;
        let mut values = self.values;
        values.set_all(overriding);
        Ok(ConfigBuilder { values, limits })
    }
}

/// Reads a [`File`].
pub(super) struct FileSeed<'a> {
    /// What is set already, and so need not be in the file.
    pub overriding: &'a Values,
}

impl<'de> DeserializeSeed<'de> for FileSeed<'_> {
    type Value = File;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<File, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for FileSeed<'_> {
    type Value = File;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the tables of a config")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<File, A::Error> {
        let mut names: Vec<&'static str> = SETTINGS.iter().map(Setting::table).collect();
        names.push(LIMIT);
        names.dedup();
        let mut file = File::default();
        while let Some(name) = map.next_key_seed(KnownKey { table: None, names: &names })? {
            match name {
                LIMIT => file.limits = map.next_value()?,
                name => {
                    let (values, overriding) = (&mut file.values, self.overriding);
                    map.next_value_seed(Table { name, values, overriding })?;
                }
            }
        }
        let is_missing = |setting: &&Setting| is_missing(setting, &file.values, self.overriding);
        match SETTINGS.iter().find(is_missing) {
            // A table that is there has said so itself.
            Some(missing) => Err(A::Error::missing_field(missing.table())),
            None => Ok(file),
        }
    }
}

/// Whether a required setting is nowhere set.
fn is_missing(setting: &Setting, values: &Values, overriding: &Values) -> bool {
    setting.default == DefaultValue::Required
        && !values.is_set(setting.path)
        && !overriding.is_set(setting.path)
}

/// One of these keys, of the table if it is of one; any other is an error.
struct KnownKey<'a> {
    table: Option<&'static str>,
    names: &'a [&'static str],
}

impl<'de> DeserializeSeed<'de> for KnownKey<'_> {
    type Value = &'static str;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<&'static str, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for KnownKey<'_> {
    type Value = &'static str;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<&'static str, E> {
        self.names.iter().find(|known| **known == key).copied().ok_or_else(|| {
            let known: Vec<String> = self.names.iter().map(|known| format!("`{known}`")).collect();
            let place = self.table.map(|table| format!(" in [{table}]")).unwrap_or_default();
            let known = known.join(", ");
            E::custom(format_args!("unknown field `{key}`{place}, expected one of {known}"))
        })
    }
}

/// One table of settings.
struct Table<'a> {
    name: &'static str,
    values: &'a mut Values,
    overriding: &'a Values,
}

impl<'de> DeserializeSeed<'de> for Table<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Table<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the table [{}]", self.name)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let here = || SETTINGS.iter().filter(|setting| setting.table() == self.name);
        let names: Vec<&'static str> = here().map(Setting::name).collect();
        while let Some(name) =
            map.next_key_seed(KnownKey { table: Some(self.name), names: &names })?
        {
            for setting in here().filter(|setting| setting.name() == name).take(1) {
                let value = map.next_value_seed(ValueOf(setting))?;
                self.values.set(setting.path, value, Origin::Base);
            }
        }
        match here().find(|setting| is_missing(setting, self.values, self.overriding)) {
            Some(missing) => Err(A::Error::missing_field(missing.name())),
            None => Ok(()),
        }
    }
}

/// The value of one setting. A refusal of its type says which setting it is and what that may be.
struct ValueOf<'a>(&'a Setting);

impl<'de> DeserializeSeed<'de> for ValueOf<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<Value, D::Error> {
        let setting = self.0;
        let read = match setting.kind {
            Kind::Text | Kind::OneOf(_) | Kind::Duration(..) | Kind::DurationOrNever(..) => {
                String::deserialize(value).map(Value::Text)
            }
            Kind::Texts => Vec::deserialize(value).map(Value::Texts),
            // What is wrong with a key is said later: here the line would be shown.
            Kind::Keys => String::deserialize(value).map(|text| Value::keys(&Zeroizing::new(text))),
            Kind::NodeKey => {
                String::deserialize(value).map(|text| Value::node_key(&Zeroizing::new(text)))
            }
            Kind::Flag => bool::deserialize(value).map(Value::Flag),
            Kind::Count(..) => usize::deserialize(value).map(Value::Count),
            Kind::Fraction(..) => f64::deserialize(value).map(Value::Fraction),
        };
        read.map_err(|error| {
            let (path, error, allowed) = (setting.path, error.to_string(), setting.allowed());
            D::Error::custom(format_args!("{path}: {}; allowed: {allowed}", error.trim_end()))
        })
    }
}
