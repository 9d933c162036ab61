//! The oracle: an exact counter that sees every admitted call, in order and at once.
//!
//! It shares nothing with the library but the format of the limits, so it can find the library's mistakes.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;

use serde::Deserialize;
use tallymesh::{Request, Timestamp};
use wildmatch::WildMatch;

/// The reference that judges decisions, by an exact count of what was really admitted. Its sessions never expire.
#[derive(Debug)]
pub(super) struct Oracle {
    limits: Vec<OracleLimit>,
    counts: HashMap<Counter, u64>,
}

/// What the oracle says of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The oracle decides the same.
    Right,
    /// The call was admitted although a limit was reached.
    Overshoot,
    /// The call was denied although every limit had room.
    FalseDenial,
}

impl Oracle {
    /// An oracle under the `[[limit]]` entries of a config.
    ///
    /// # Errors
    /// When they are not limits.
    pub fn from_toml(text: &str) -> Result<Oracle, Box<dyn Error>> {
        let file: File = toml::from_str(text)?;
        let limits = file.limits.into_iter().map(OracleLimit::new);
        let limits = limits.collect::<Result<Vec<_>, _>>()?;
        Ok(Oracle { limits, counts: HashMap::new() })
    }

    /// Judges the decision on a request at this time, and counts the request if it was admitted,
    /// rightly or not.
    pub fn judge(&mut self, request: &Request<'_>, at: Timestamp, admitted: bool) -> Verdict {
        let Some(counters) = self.counters(request, at) else {
            return if admitted { Verdict::Overshoot } else { Verdict::Right };
        };
        let has_room = |counter: &Counter| {
            let used = self.counts.get(counter).copied().unwrap_or(0);
            used < self.limits[counter.limit].max
        };
        let verdict = match (admitted, counters.iter().all(has_room)) {
            (true, false) => Verdict::Overshoot,
            (false, true) => Verdict::FalseDenial,
            _ => Verdict::Right,
        };
        if admitted {
            for counter in counters {
                *self.counts.entry(counter).or_default() += 1;
            }
        }
        verdict
    }

    /// The counters of the limits that apply; `None` if one matches and lacks a label, which it does not skip.
    fn counters(&self, request: &Request<'_>, at: Timestamp) -> Option<Vec<Counter>> {
        let mut counters = Vec::new();
        for (index, limit) in
            self.limits.iter().enumerate().filter(|(_, limit)| limit.matches(request))
        {
            let window = limit.window_ms.map(|length| at.0 / length);
            match limit.values(request) {
                Some(values) => counters.push(Counter { limit: index, window, values }),
                None if limit.skips_without_label => {}
                None => return None,
            }
        }
        Some(counters)
    }
}

/// Refuses a file that configures more than limits.
///
/// # Errors
/// When the text is not TOML, has anything but `[[limit]]`, or no limit at all.
pub(super) fn check_only_limits(text: &str) -> Result<(), Box<dyn Error>> {
    let file: toml::Table = toml::from_str(text)?;
    let others: Vec<_> = file.keys().map(String::as_str).filter(|key| *key != "limit").collect();
    if !others.is_empty() {
        let others = others.join(", ");
        return Err(format!(
            "only [[limit]] entries are allowed here, but it has: {others}; \
             the replay sets up its instances itself"
        )
        .into());
    }
    let limits = file.get("limit");
    if limits.is_none_or(|limits| limits.as_array().is_some_and(Vec::is_empty)) {
        return Err("it has no [[limit]] entry; expected at least one".into());
    }
    Ok(())
}

#[derive(Deserialize)]
struct File {
    #[serde(rename = "limit")]
    limits: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    when: BTreeMap<String, String>,
    #[serde(default)]
    per: Vec<String>,
    max: u64,
    window: String,
    when_label_missing: Option<String>,
}

#[derive(Debug)]
struct OracleLimit {
    when: Vec<(String, WildMatch)>,
    per: Vec<String>,
    max: u64,
    /// `None` for a session.
    window_ms: Option<u64>,
    /// Whether it does not apply to a request that lacks a label; else it denies it.
    skips_without_label: bool,
}

impl OracleLimit {
    fn new(entry: Entry) -> Result<OracleLimit, Box<dyn Error>> {
        let when = entry.when.into_iter();
        let when = when.map(|(label, pattern)| (label, WildMatch::new(&pattern))).collect();
        let window_ms = match entry.window.as_str() {
            "session" => None,
            length => {
                let length_ms = humantime::parse_duration(length)?.as_millis();
                Some(u64::try_from(length_ms)?.max(1))
            }
        };
        let skips_without_label = entry.when_label_missing.as_deref() == Some("skip");
        Ok(OracleLimit { when, per: entry.per, max: entry.max, window_ms, skips_without_label })
    }

    /// Whether every pattern fits the request.
    fn matches(&self, request: &Request<'_>) -> bool {
        let fits = |(label, pattern): &(String, WildMatch)| {
            request.value(label).is_some_and(|value| pattern.matches(value))
        };
        self.when.iter().all(fits)
    }

    /// The values that tell the request's counter from others; `None` when a label is missing.
    fn values(&self, request: &Request<'_>) -> Option<Vec<String>> {
        self.per.iter().map(|label| request.value(label).map(str::to_owned)).collect()
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Counter {
    /// The limit's index among the limits.
    limit: usize,
    /// Which fixed window since 1970; `None` for a session.
    window: Option<u64>,
    values: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::Verdict::{FalseDenial, Overshoot, Right};
    use super::*;

    const BOOKING: &str = r#"
        [[limit]]
        name = "booking"
        when = { tool = "book_*" }
        per = ["session"]
        max = 1
        window = "session"
    "#;
    const PER_SECOND: &str = "[[limit]]\nname = \"all\"\nmax = 2\nwindow = \"1s\"\n";

    /// Judges calls of (session, tool, time in ms, admitted).
    fn verdicts(limits: &str, calls: &[(&str, &str, u64, bool)]) -> Vec<Verdict> {
        let mut oracle = Oracle::from_toml(limits).unwrap();
        let judge = |(session, tool, at, admitted): &(&str, &str, u64, bool)| {
            oracle.judge(&Request::tool_call(session, tool), Timestamp(*at), *admitted)
        };
        calls.iter().map(judge).collect()
    }

    #[test]
    fn only_matching_calls_count_and_sessions_count_apart() {
        let calls = [
            ("s1", "book_flight", 0, true),
            ("s1", "find_flight", 0, true),
            ("s2", "book_hotel", 0, true),
            ("s1", "book_hotel", 9_999_999, false),
        ];
        assert_eq!(verdicts(BOOKING, &calls), [Right; 4]);
    }

    #[test]
    fn a_denial_with_room_is_false_and_counts_nothing() {
        let calls =
            [("s1", "book_a", 0, false), ("s1", "book_a", 0, true), ("s1", "book_a", 0, false)];
        assert_eq!(verdicts(BOOKING, &calls), [FalseDenial, Right, Right]);
    }

    #[test]
    fn an_overshoot_is_counted_too() {
        let calls = [("s", "t", 0, true), ("s", "t", 1, true), ("s", "t", 999, true)];
        assert_eq!(verdicts(PER_SECOND, &calls), [Right, Right, Overshoot]);

        let ever = "[[limit]]\nname = \"ever\"\nmax = 3\nwindow = \"session\"\n";
        let limits = format!("{PER_SECOND}{ever}");
        let calls = [0, 0, 0, 1_000].map(|at| ("s", "t", at, true));
        assert_eq!(verdicts(&limits, &calls), [Right, Right, Overshoot, Overshoot]);
    }

    #[test]
    fn a_fixed_window_starts_from_zero() {
        let calls = [0, 999, 1_000, 1_999].map(|at| ("s", "t", at, true));
        assert_eq!(verdicts(PER_SECOND, &calls), [Right; 4]);
    }

    #[test]
    fn a_request_without_a_label_is_denied_unless_the_limit_says_otherwise() {
        let mut oracle = Oracle::from_toml(BOOKING).unwrap();
        let without_session = Request::new().with("tool", "book_flight");
        assert_eq!(oracle.judge(&without_session, Timestamp(0), true), Overshoot);
        assert_eq!(oracle.judge(&without_session, Timestamp(0), false), Right);
        let limits = BOOKING.replace("max = 1", "max = 0\nwhen_label_missing = \"skip\"");
        let mut oracle = Oracle::from_toml(&limits).unwrap();
        assert_eq!(oracle.judge(&without_session, Timestamp(0), true), Right);
        let with_session = without_session.with("session", "s1");
        assert_eq!(oracle.judge(&with_session, Timestamp(0), true), Overshoot);
    }

    #[test]
    fn a_file_with_more_than_limits_is_refused() {
        assert!(check_only_limits(BOOKING).is_ok());
        let message = check_only_limits(&format!("{BOOKING}[node]\nid = \"a\"\n")).unwrap_err();
        assert!(message.to_string().contains("has: node;"), "{message}");
        for nothing in ["", "limit = []"] {
            let message = check_only_limits(nothing).unwrap_err().to_string();
            assert!(message.contains("no [[limit]]"), "{message}");
        }
        assert!(check_only_limits("[[limit").is_err());
    }
}
