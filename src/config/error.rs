//! What is wrong with a configuration.

use std::error::Error;
use std::path::PathBuf;

use tallymesh_core::limit::LimitError;

/// An invalid configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("config file {path}: {source}")]
    #[non_exhaustive]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The text is not TOML, has a key that is not a setting, lacks a required one, or has a value of the wrong type.
    #[error("config{}: {source}", path.as_ref().map(|path| format!(" file {}", path.display())).unwrap_or_default())]
    #[non_exhaustive]
    Syntax {
        /// The file, if it was one.
        path: Option<PathBuf>,
        /// Where and what.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A value is not allowed.
    #[error("config: {key} = {value}{} is not allowed: {allowed}", set_by(variable.as_deref()))]
    #[non_exhaustive]
    Invalid {
        /// The setting's path, such as `gossip.interval`.
        key: String,
        /// What it was set to.
        value: String,
        /// What it may be.
        allowed: String,
        /// The variable of the environment that set it, if one did.
        variable: Option<String>,
    },
    /// A variable of the environment begins as those of settings do, but is none.
    #[error("config: the environment variable {name} is no setting; expected one of {}", known.join(", "))]
    #[non_exhaustive]
    UnknownVariable {
        /// The variable.
        name: String,
        /// The variables that begin the same.
        known: Vec<String>,
    },
    /// A limit is invalid.
    #[error("config: {0}")]
    Limit(#[from] LimitError),
}

/// This value of this setting is not allowed.
pub(super) fn invalid(key: &str, value: impl Into<String>, allowed: &str) -> ConfigError {
    let (key, value, allowed) = (key.into(), value.into(), allowed.into());
    ConfigError::Invalid { key, value, allowed, variable: None }
}

fn set_by(variable: Option<&str>) -> String {
    variable.map(|name| format!(" (set by the environment variable {name})")).unwrap_or_default()
}
