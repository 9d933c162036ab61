//! A limit as a file says it: `window = "session"` with a `session_ttl`, or `window = "60s"`.

use alloc::{collections::BTreeMap, format, string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use super::limit::{Limit, LimitError};
use super::window::{SESSION_TTL, Window};
use super::{WhenCutOff, WhenLabelMissing};
use crate::time::{InvalidDuration, parse_duration};

/// A limit in the form of a file's `[[limit]]`. A [`Limit`] is made from it, and it from a limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitEntry {
    name: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    per: Vec<String>,
    max: u64,
    window: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session_ttl: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    when: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    when_label_missing: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    when_cut_off: Option<String>,
}

impl LimitEntry {
    /// The limit that an entry says.
    ///
    /// # Errors
    /// When its window or its ttl cannot be read.
    pub fn into_limit(self) -> Result<Limit, LimitError> {
        let entry = self;
        let invalid = |key, value: &str, allowed| {
            LimitError::invalid(&entry.name, key, format!("{value:?}"), allowed)
        };
        let window = if entry.window == "session" {
            let ttl = entry.session_ttl.as_deref().map_or(Ok(SESSION_TTL), |text| {
                parse_duration(text).map_err(|why| {
                    invalid(
                        "session_ttl",
                        text,
                        allowed(why, "a duration such as \"50ms\" or \"1h\""),
                    )
                })
            })?;
            Window::Session { ttl }
        } else {
            if let Some(ttl) = &entry.session_ttl {
                return Err(invalid("session_ttl", ttl, "only with window = \"session\""));
            }
            let length = parse_duration(&entry.window).map_err(|why| {
                let readable = "\"session\" or a duration such as \"60s\" or \"1h\"";
                invalid("window", &entry.window, allowed(why, readable))
            })?;
            Window::Fixed(length)
        };
        let when_label_missing = entry.when_label_missing.as_deref().map_or(
            Ok(WhenLabelMissing::default()),
            |text| {
                let allowed = "\"deny\" or \"skip\"";
                text.parse().map_err(|_| invalid("when_label_missing", text, allowed))
            },
        )?;
        let when_cut_off =
            entry.when_cut_off.as_deref().map_or(Ok(WhenCutOff::default()), |text| {
                let allowed = "\"allow\", \"share\" or \"deny\"";
                text.parse().map_err(|_| invalid("when_cut_off", text, allowed))
            })?;
        let limit = Limit::new(entry.name, entry.max, window);
        let limit = limit.when_label_missing(when_label_missing).when_cut_off(when_cut_off);
        let limit =
            entry.when.iter().fold(limit, |limit, (label, pattern)| limit.when(label, pattern));
        Ok(entry.per.into_iter().fold(limit, Limit::per))
    }
}

/// What is allowed instead of a text that is no length of time.
fn allowed(why: InvalidDuration, readable: &'static str) -> &'static str {
    match why {
        InvalidDuration::MonthsOrYears => {
            "a month or a year is not of one length, and there are no windows by the calendar yet: write days, such as \
             \"30d\""
        }
        _ => readable,
    }
}

#[cfg(feature = "serde")]
impl LimitEntry {
    /// # Errors
    /// When the limit has two patterns for one label, which a file cannot say.
    fn of(limit: &Limit) -> Result<LimitEntry, LimitError> {
        use alloc::string::ToString;

        let text = |length| crate::time::format_duration(length).to_string();
        let (window, session_ttl) = match limit.window() {
            Window::Fixed(length) => (text(length), None),
            Window::Session { ttl } => ("session".to_string(), Some(text(ttl))),
        };
        let mut when = BTreeMap::new();
        for (label, pattern) in limit.patterns() {
            if when.insert(label.to_string(), pattern.clone()).is_some() {
                let value = format!("{pattern:?} for the label {label:?}");
                let allowed = "one pattern for each label, where it is written as a file says it";
                return Err(LimitError::invalid(limit.name(), "when", value, allowed));
            }
        }
        Ok(LimitEntry {
            name: limit.name().to_string(),
            per: limit.labels_of_per().iter().map(|label| label.as_str().to_string()).collect(),
            max: limit.max(),
            window,
            session_ttl,
            when,
            when_label_missing: match limit.when_label_is_missing() {
                WhenLabelMissing::Deny => None,
                skip => Some(skip.to_string()),
            },
            when_cut_off: match limit.when_is_cut_off() {
                WhenCutOff::Allow => None,
                other => Some(other.to_string()),
            },
        })
    }
}

#[cfg(feature = "serde")]
impl Serialize for Limit {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        LimitEntry::of(self).map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

#[cfg(feature = "serde")]
impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Limit, D::Error> {
        let limit = LimitEntry::deserialize(deserializer)?.into_limit();
        let limit = limit.map_err(serde::de::Error::custom)?;
        limit.check().map_err(serde::de::Error::custom)?;
        Ok(limit)
    }
}
