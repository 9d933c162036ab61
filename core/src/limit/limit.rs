//! One limit: which requests it is for, how much it allows, and over what time.

use alloc::{
    format,
    string::{String, ToString},
    vec,
    vec::Vec,
};

use wildmatch::WildMatch;

use super::label::Label;
use super::{Request, WINDOW_MAX, WhenCutOff, WhenLabelMissing, Window};
use crate::crdt::COUNT_MAX;
use crate::key::KEY_VALUES_MAX;
use crate::time::{format_duration, whole_ms};

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
    when_label_missing: WhenLabelMissing,
    when_cut_off: WhenCutOff,
}

impl Limit {
    /// A limit on every request, with one counter for all of them.
    pub fn new(name: impl Into<String>, max: u64, window: Window) -> Limit {
        let when_label_missing = WhenLabelMissing::default();
        Limit {
            name: name.into(),
            when: Vec::new(),
            per: Vec::new(),
            max,
            window,
            when_label_missing,
            when_cut_off: WhenCutOff::default(),
        }
    }

    /// Restricts the limit to requests whose label matches the pattern; `*` stands for any text, `?` for one character.
    #[must_use]
    pub fn when(mut self, label: impl Into<String>, pattern: &str) -> Limit {
        self.when.push((Label::from(label.into()), WildMatch::new(pattern)));
        self
    }

    /// Counts apart for each distinct value of a label. A request without the label is denied, unless the limit
    /// [says otherwise](Self::when_label_missing); either is logged once.
    #[must_use]
    pub fn per(mut self, label: impl Into<String>) -> Limit {
        self.per.push(Label::from(label.into()));
        self
    }

    /// What happens to a request that matches the limit and lacks one of its `per` labels. Without this, it is denied.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tallymesh::{Limit, WhenLabelMissing, Window};
    ///
    /// // Anonymous requests, without a user, are none of this limit's business.
    /// let limit = Limit::new("calls per user", 100, Window::Fixed(Duration::from_secs(60)))
    ///     .per("user")
    ///     .when_label_missing(WhenLabelMissing::Skip);
    /// assert_eq!(limit.when_label_is_missing(), WhenLabelMissing::Skip);
    /// ```
    #[must_use]
    pub fn when_label_missing(mut self, action: WhenLabelMissing) -> Limit {
        self.when_label_missing = action;
        self
    }

    /// What happens to a request that matches and lacks one of its `per` labels, as
    /// [set](Self::when_label_missing).
    #[inline]
    pub fn when_label_is_missing(&self) -> WhenLabelMissing {
        self.when_label_missing
    }

    /// What it allows while some member of the cluster is silent. Without this, each side of a partition goes on by what it sees.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tallymesh::{Limit, WhenCutOff, Window};
    ///
    /// // Whatever the network does, no more than 10,000 a day are spent, all nodes together.
    /// let limit = Limit::new("spend", 10_000, Window::Fixed(Duration::from_secs(24 * 3600)))
    ///     .when_cut_off(WhenCutOff::Share);
    /// assert_eq!(limit.when_is_cut_off(), WhenCutOff::Share);
    /// ```
    #[must_use]
    pub fn when_cut_off(mut self, action: WhenCutOff) -> Limit {
        self.when_cut_off = action;
        self
    }

    /// What it allows while some member of the cluster is silent, as [set](Self::when_cut_off).
    #[inline]
    pub fn when_is_cut_off(&self) -> WhenCutOff {
        self.when_cut_off
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
        self.check_labels()?;
        let (key, length) = match self.window {
            Window::Fixed(length) => ("window", length),
            Window::Session { ttl } => ("session_ttl", ttl),
        };
        if whole_ms(length) == 0 || length > WINDOW_MAX {
            let value = format_duration(length).to_string();
            return invalid(key, value, "1ms to 366 days");
        }
        Ok(())
    }

    /// Whether a request with at most so many labels can match it.
    pub(super) fn check_labels_count(&self, labels_max: usize) -> Result<(), LimitError> {
        let looked_at = self.when.iter().map(|(label, _)| label).chain(&self.per);
        let mut labels: Vec<&Label> = Vec::new();
        for label in looked_at {
            if !labels.contains(&label) {
                labels.push(label);
            }
        }
        match labels.len() <= labels_max {
            true => Ok(()),
            false => {
                let value = format!("{} labels", labels.len());
                let allowed = "no more, with those of `per`, than counters.max_labels";
                Err(LimitError::invalid(&self.name, "when", value, allowed))
            }
        }
    }

    /// Whether there can be requests that it matches, and that carry the labels by which it counts.
    fn check_labels(&self) -> Result<(), LimitError> {
        let invalid =
            |key, value: String, allowed| Err(LimitError::invalid(&self.name, key, value, allowed));
        for (index, label) in self.per.iter().enumerate() {
            if label.is_reserved() {
                return invalid("per", format!("{:?}", label.as_str()), LABELS_ALLOWED);
            }
            if self.per.iter().take(index).any(|earlier| earlier == label) {
                return invalid("per", format!("{:?}, twice", label.as_str()), "each label once");
            }
        }
        for (index, (label, pattern)) in self.when.iter().enumerate() {
            if label.is_reserved() {
                return invalid("when", format!("{:?}", label.as_str()), LABELS_ALLOWED);
            }
            let text = pattern.pattern();
            if text.is_empty() {
                let value = format!("\"\" for the label {:?}", label.as_str());
                return invalid(
                    "when",
                    value,
                    "a pattern that a value of the label can match; \"*\" for any value",
                );
            }
            let earlier = self.when.iter().take(index).filter(|(earlier, _)| earlier == label);
            for other in earlier.map(|(_, earlier)| earlier.pattern()) {
                if !can_both_match(&other, &text) {
                    let value =
                        format!("{other:?} and {text:?} for the label {:?}", label.as_str());
                    return invalid("when", value, "patterns that one value can match together");
                }
            }
        }
        Ok(())
    }
}

const LABELS_ALLOWED: &str =
    "the name of a label: at least one character, and not \"cost\", which no label is called";

/// Whether some text matches both patterns, of `*` for any text and `?` for one character.
fn can_both_match(one: &str, other: &str) -> bool {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    // Whether what begins here in `one`, and at each place of `other`, can match together; the ends first.
    let mut later: Vec<bool> = Vec::new();
    for at in (0..=one.len()).rev() {
        let mut row = vec![false; other.len() + 1];
        for other_at in (0..=other.len()).rev() {
            let (left, right) = (one.get(at), other.get(other_at));
            let next = |row: &[bool], skipped: usize| row.get(other_at + skipped) == Some(&true);
            let fits = match (left, right) {
                (None, None) => true,
                // A star takes nothing, or one more character of what the other stands for.
                (Some('*'), _) if next(&later, 0) => true,
                (_, Some('*')) if next(&row, 1) => true,
                (Some('*'), Some(_)) => next(&row, 1),
                (Some(_), Some('*')) => next(&later, 0),
                (Some(left), Some(right)) => {
                    (left == right || *left == '?' || *right == '?') && next(&later, 1)
                }
                (None, _) | (_, None) => false,
            };
            if let Some(cell) = row.get_mut(other_at) {
                *cell = fits;
            }
        }
        later = row;
    }
    later.first() == Some(&true)
}

/// A limit that cannot be put in force.
///
/// ```
/// use std::time::Duration;
/// use tallymesh::{Config, ConfigError, Limit, LimitError, Window};
///
/// let limit = Limit::new("calls", 3, Window::Fixed(Duration::ZERO));
/// let refused = Config::builder("a").in_memory().limit(limit).build().unwrap_err();
/// let ConfigError::Limit(error) = refused else { panic!("the limit is what is wrong") };
/// let error: LimitError = error;
/// assert_eq!(error.to_string(), "limit \"calls\": window = 0s is not allowed: 1ms to 366 days");
/// assert_eq!((error.limit(), error.key()), ("calls", "window"));
/// assert_eq!((error.value(), error.allowed()), ("0s", "1ms to 366 days"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("limit {limit:?}: {key} = {value} is not allowed: {allowed}")]
pub struct LimitError {
    limit: String,
    key: &'static str,
    value: String,
    allowed: &'static str,
}

impl LimitError {
    /// The name of the limit.
    pub fn limit(&self) -> &str {
        &self.limit
    }

    /// What of the limit is wrong, by its key in a file: `window`, `session_ttl`.
    pub fn key(&self) -> &str {
        self.key
    }

    /// What it was set to.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// What it may be.
    pub fn allowed(&self) -> &str {
        self.allowed
    }

    pub(super) fn invalid(
        limit: &str,
        key: &'static str,
        value: String,
        allowed: &'static str,
    ) -> LimitError {
        LimitError { limit: limit.to_string(), key, value, allowed }
    }

    /// A name that leaves no room for the values of its labels.
    pub(super) fn name_too_long(limit: &Limit) -> LimitError {
        let value = format!("{:?}", limit.name);
        let allowed = "a name that leaves room for the values of `per` in counters.max_key_bytes";
        LimitError::invalid(&limit.name, "name", value, allowed)
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

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn limits_out_of_range_are_refused_by_name() {
        let window = Window::Fixed(Duration::from_secs(3600));
        let refused = |limit: Limit| limit.check().unwrap_err().to_string();
        assert!(refused(Limit::new("", 1, window)).contains("name"));
        assert!(refused(Limit::new("l", u64::MAX, window)).contains("max = 18446744073709551615"));
        assert!(refused(Limit::new("l", 1, Window::Fixed(Duration::ZERO))).contains("window = 0s"));
    }

    #[test]
    fn what_no_request_can_match_or_carry_is_refused() {
        let limit = || Limit::new("l", 1, Window::Fixed(Duration::from_secs(3600)));
        for (limit, parts) in [
            (limit().per(""), &["per = \"\"", "at least one character"][..]),
            (limit().per("cost"), &["per = \"cost\"", "no label"]),
            (limit().per("user").per("tool").per("user"), &["per = \"user\", twice"]),
            (limit().when("cost", "5"), &["when = \"cost\"", "no label"]),
            (limit().when("", "*"), &["when = \"\"", "at least one character"]),
            (limit().when("tool", ""), &["\"tool\"", "can match"]),
            (limit().when("tool", "a*").when("tool", "b*"), &["\"a*\" and \"b*\"", "together"]),
        ] {
            let message = limit.check().unwrap_err().to_string();
            parts.iter().for_each(|part| assert!(message.contains(part), "{message}: {part}"));
        }
        let both = limit().when("tool", "a*").when("tool", "*b").when("user", "a*").per("costs");
        assert_eq!(both.check(), Ok(()));
    }

    #[test]
    fn two_patterns_can_match_one_text_or_not() {
        for (one, other, expected) in [
            ("a", "a", true),
            ("a", "b", false),
            ("a*", "*b", true),
            ("a?", "?b", true),
            ("a?", "a", false),
            ("*", "", true),
            ("?*", "", false),
            ("a*b*c", "a?c", true),
            ("a*b*c", "a?d", false),
            ("a*b*c", "abc", true),
            ("*ab", "*ba*", true),
            ("a*", "**", true),
            ("ab*", "a*c", true),
        ] {
            assert_eq!(can_both_match(one, other), expected, "{one} {other}");
            assert_eq!(can_both_match(other, one), expected, "{other} {one}");
        }
    }

    proptest! {
        #[test]
        fn patterns_that_a_text_matches_can_both_match(
            one in "[ab*?]{0,5}", other in "[ab*?]{0,5}", text in "[ab]{0,6}",
        ) {
            let matches = |pattern: &str| WildMatch::new(pattern).matches(&text);
            prop_assert!(!(matches(&one) && matches(&other)) || can_both_match(&one, &other));
        }
    }
}
