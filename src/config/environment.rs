//! Settings from variables of the environment: `TALLYMESH_GOSSIP_INTERVAL` is `gossip.interval`.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use super::ConfigError;
use super::error::invalid;
use super::settings::{Kind, SETTINGS, Setting, VARIABLES};
use super::validate::{Origin, Value, Values, not_allowed, parse};

/// The settings that these variables set. An empty one counts as not set; one that does not begin as those of a table do is
/// left alone.
pub(super) fn read(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Values, ConfigError> {
    let mut values = Values::default();
    for (name, text) in variables {
        let Some(name) = name.to_str().filter(|name| !text.is_empty() && is_ours(name)) else {
            continue;
        };
        let setting = SETTINGS.iter().find(|setting| setting.variable() == name);
        let setting = setting.ok_or_else(|| unknown(name))?;
        let value = value(setting, &text).map_err(|error| named(error, setting))?;
        values.set(setting.path, value, Origin::Environment);
    }
    Ok(values)
}

/// The error, with the variable that set the value if it came from the environment.
pub(super) fn with_variable(error: ConfigError, values: &Values) -> ConfigError {
    let ConfigError::Invalid { key, .. } = &error else { return error };
    match Setting::find(key) {
        Some(setting) if values.origin(key) == Some(Origin::Environment) => named(error, setting),
        _ => error,
    }
}

fn named(error: ConfigError, setting: &Setting) -> ConfigError {
    match error {
        ConfigError::Invalid { key, value, allowed, .. } => {
            ConfigError::Invalid { key, value, allowed, variable: Some(setting.variable()) }
        }
        other => other,
    }
}

fn value(setting: &Setting, text: &OsStr) -> Result<Value, ConfigError> {
    let path = setting.path;
    if path == "node.data_dir" {
        return Ok(Value::Path(PathBuf::from(text)));
    }
    match setting.kind {
        Kind::Keys => return Ok(Value::keys(&text.to_string_lossy())),
        Kind::NodeKey => return Ok(Value::node_key(&text.to_string_lossy())),
        _ => {}
    }
    let text = text.to_str().ok_or_else(|| invalid(path, format!("{text:?}"), "UTF-8"))?;
    Ok(match setting.kind {
        Kind::Text
        | Kind::Keys
        | Kind::NodeKey
        | Kind::OneOf(_)
        | Kind::Duration(..)
        | Kind::DurationOrNever(..) => Value::Text(text.to_owned()),
        Kind::Texts => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Value::Texts(items.map(str::to_owned).collect())
        }
        Kind::Flag => match text {
            "true" => Value::Flag(true),
            "false" => Value::Flag(false),
            _ => return Err(not_allowed(path, format!("{text:?}"))),
        },
        Kind::Count(..) => Value::Count(parse(path, text)?),
        Kind::Fraction(..) => Value::Fraction(parse(path, text)?),
    })
}

/// How the variables of a table begin.
fn prefix(setting: &Setting) -> String {
    format!("{VARIABLES}{}_", setting.table().to_uppercase())
}

fn is_ours(name: &str) -> bool {
    name.starts_with(VARIABLES) && SETTINGS.iter().any(|setting| name.starts_with(&prefix(setting)))
}

fn unknown(name: &str) -> ConfigError {
    let near = SETTINGS.iter().filter(|setting| name.starts_with(&prefix(setting)));
    ConfigError::UnknownVariable {
        name: name.to_owned(),
        known: near.map(Setting::variable).collect(),
    }
}
