//! One limit: which requests it is for, how much it allows, and over what time.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use wildmatch::WildMatch;

use super::label::Label;
use super::{Request, WINDOW_MAX, Window};
use crate::crdt::COUNT_MAX;
use crate::key::KEY_VALUES_MAX;
use crate::time::whole_ms;

/// One limit: for requests that match, at most `max` in each window, counted apart for each distinct value of `per`.
///
/// ```
/// use std::time::Duration;
/// use tallymesh::{Limit, Window};
///
/// let limit = Limit::new("booking per session", 3, Window::Session { ttl: Duration::from_secs(3600) })
///     .when("tool", "book_*")
///     .per("session");
/// assert_eq!(limit.max(), 3);
/// ```
#[derive(Debug, Clone)]
pub struct Limit {
    name: String,
    when: Vec<(Label, WildMatch)>,
    per: Vec<Label>,
    max: u64,
    window: Window,
}

impl Limit {
    /// A limit on every request, with one counter for all of them.
    pub fn new(name: impl Into<String>, max: u64, window: Window) -> Limit {
        Limit { name: name.into(), when: Vec::new(), per: Vec::new(), max, window }
    }

    /// Restricts the limit to requests whose label matches the pattern; `*` stands for any text, `?` for one character.
    #[must_use]
    pub fn when(mut self, label: impl Into<String>, pattern: &str) -> Limit {
        self.when.push((Label::from(label.into()), WildMatch::new(pattern)));
        self
    }

    /// Counts apart for each distinct value of a label. The limit does not apply to a request without the label; this is
    /// logged once.
    #[must_use]
    pub fn per(mut self, label: impl Into<String>) -> Limit {
        self.per.push(Label::from(label.into()));
        self
    }

    /// The limit's name, unique among the limits; it is part of every counter's key.
    #[inline]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How much is allowed in each window.
    #[inline]
    pub fn max(&self) -> u64 {
        self.max
    }

    /// Over what time it counts.
    #[inline]
    pub fn window(&self) -> Window {
        self.window
    }

    /// The labels by whose values it counts apart, in the order in which they were given.
    pub fn per_labels(&self) -> impl ExactSizeIterator<Item = &str> {
        self.per.iter().map(Label::as_str)
    }

    /// The labels that it looks at, each with its pattern.
    pub(super) fn patterns(&self) -> impl Iterator<Item = (&str, String)> {
        self.when.iter().map(|(label, pattern)| (label.as_str(), pattern.pattern()))
    }

    #[inline]
    pub(super) fn labels_of_per(&self) -> &[Label] {
        &self.per
    }

    #[inline]
    pub(super) fn matches(&self, request: &Request<'_>) -> bool {
        let fits = |(label, pattern): &(Label, WildMatch)| {
            request.value_of(label).is_some_and(|value| pattern.matches(value))
        };
        self.when.iter().all(fits)
    }

    /// Whether the limit can be put in force: everything is in its range.
    pub(super) fn check(&self) -> Result<(), LimitError> {
        let invalid =
            |key, value: String, allowed| Err(LimitError::invalid(&self.name, key, value, allowed));
        if self.name.is_empty() || self.name.len() > 128 {
            return invalid("name", format!("{:?}", self.name), "1 to 128 bytes");
        }
        if self.max > COUNT_MAX {
            return invalid("max", self.max.to_string(), "0 to 2^53 - 1");
        }
        if self.per.len() > KEY_VALUES_MAX {
            return invalid("per", format!("{} labels", self.per.len()), "at most 32 labels");
        }
        let (key, length) = match self.window {
            Window::Fixed(length) => ("window", length),
            Window::Session { ttl } => ("session_ttl", ttl),
        };
        if whole_ms(length) == 0 || length > WINDOW_MAX {
            let value = humantime::format_duration(length).to_string();
            return invalid(key, value, "1ms to 366 days");
        }
        Ok(())
    }
}

/// A limit that cannot be put in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("limit {limit:?}: {key} = {value} is not allowed: {allowed}")]
pub struct LimitError {
    limit: String,
    key: &'static str,
    value: String,
    allowed: &'static str,
}

impl LimitError {
    pub(super) fn invalid(
        limit: &str,
        key: &'static str,
        value: String,
        allowed: &'static str,
    ) -> LimitError {
        LimitError { limit: limit.to_string(), key, value, allowed }
    }

    /// A second limit of the same name.
    pub(super) fn name_taken(limit: &Limit) -> LimitError {
        let (name, value) = (limit.name.clone(), format!("{:?}", limit.name));
        LimitError { limit: name, key: "name", value, allowed: "each name once" }
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    #[test]
    fn limits_out_of_range_are_refused_by_name() {
        let window = Window::Fixed(Duration::from_secs(3600));
        let refused = |limit: Limit| limit.check().unwrap_err().to_string();
        assert!(refused(Limit::new("", 1, window)).contains("name"));
        assert!(refused(Limit::new("l", u64::MAX, window)).contains("max = 18446744073709551615"));
        assert!(refused(Limit::new("l", 1, Window::Fixed(Duration::ZERO))).contains("window = 0s"));
    }
}
