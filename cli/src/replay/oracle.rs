//! The oracle: an exact counter that sees every admitted call, in order and at once.
//!
//! It shares nothing with the library but the format of the limits, so it can find the library's mistakes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::time::Duration;

use serde::Deserialize;
use tallymesh::{Request, Timestamp};
use wildmatch::WildMatch;

use crate::usage::percent;

/// The reference that judges decisions, by an exact count of what was really admitted.
#[derive(Debug)]
pub(super) struct Oracle {
    limits: Vec<OracleLimit>,
    counts: HashMap<Counter, Count>,
}

/// What was counted in a counter.
#[derive(Debug, Default)]
struct Count {
    /// If its session has ended where that is not certain.
    least: u64,
    /// If it has not. Equal to `least` in a window, and where it is certain.
    most: u64,
    /// The most that was ever counted in it for certain.
    peak: u64,
    /// What was asked for, admitted or not.
    asked: u64,
    last_used_ms: u64,
}

/// How much of a limit was used in one counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Usage {
    /// The limit's name.
    pub limit: String,
    /// The labels that it counts apart by, with their values.
    pub labels: Vec<(String, String)>,
    /// The most that was counted.
    pub used: u64,
    /// How much is allowed.
    pub max: u64,
    /// What was asked for, admitted or not.
    pub asked: u64,
    /// How long until the window or session ends; zero if it has.
    pub left: Duration,
}

/// The clock of an instance and that of the oracle are read so many milliseconds apart at most, or a little more on a busy
/// machine; for sessions, whose ends are not certain anyway.
const CLOCKS_APART_MS: u64 = 10;

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
        let limits = entries(text)?.into_iter().map(OracleLimit::new);
        let limits = limits.collect::<Result<Vec<_>, _>>()?;
        Ok(Oracle { limits, counts: HashMap::new() })
    }

    /// Judges the decision on a request of this cost at this time, and counts the request if it was admitted,
    /// rightly or not.
    pub fn judge(
        &mut self,
        request: &Request<'_>,
        cost: u64,
        at: Timestamp,
        admitted: bool,
    ) -> Verdict {
        let Some(counters) = self.counters(request, at) else {
            return if admitted { Verdict::Overshoot } else { Verdict::Right };
        };
        let (mut has_room, mut is_full) = (true, false);
        for counter in counters {
            let limit = &self.limits[counter.limit];
            let count = self.counts.entry(counter).or_default();
            if let Span::Session(ttl_ms) = limit.span {
                count.end_if_idle(at.0, ttl_ms);
                // What is admitted and costs nothing leaves no trace.
                if !admitted || cost > 0 {
                    count.last_used_ms = at.0;
                }
            }
            has_room &= count.most.saturating_add(cost) <= limit.max;
            is_full |= count.least.saturating_add(cost) > limit.max;
            count.asked = count.asked.saturating_add(cost);
            if admitted && count.most.saturating_add(cost) > limit.max {
                // Where it is not certain whether the session has ended, this says so.
                count.most = count.least;
            }
            if admitted {
                count.least = count.least.saturating_add(cost);
                count.most = count.most.saturating_add(cost);
                count.peak = count.peak.max(count.least);
            }
        }
        match admitted {
            true if is_full => Verdict::Overshoot,
            false if has_room => Verdict::FalseDenial,
            _ => Verdict::Right,
        }
    }

    /// How many counters there were.
    pub fn counters_count(&self) -> usize {
        self.counts.len()
    }

    /// The counters in which most of the limit was used, and of those the ones that were asked most of; as of this time.
    pub fn worst(&self, now: Timestamp, count: usize) -> Vec<Usage> {
        let mut counts: Vec<(&Counter, &Count)> = self.counts.iter().collect();
        counts.sort_by_cached_key(|(counter, count)| {
            let percent = percent(count.peak, self.limits[counter.limit].max);
            // To a tenth, so it is whole times ten, and not below zero.
            let tenths = (percent * 10.0).round() as u64;
            let (window, values) = (counter.window, counter.values.clone());
            (Reverse(tenths), Reverse(count.asked), counter.limit, values, window)
        });
        counts.truncate(count);
        counts.into_iter().map(|(counter, count)| self.usage(counter, count, now)).collect()
    }

    fn usage(&self, counter: &Counter, count: &Count, now: Timestamp) -> Usage {
        let limit = &self.limits[counter.limit];
        let end_ms = match limit.span {
            Span::Session(ttl_ms) => count.last_used_ms.saturating_add(ttl_ms),
            Span::Window(length_ms) => {
                counter.window.unwrap_or(0).saturating_add(1).saturating_mul(length_ms)
            }
        };
        Usage {
            limit: limit.name.clone(),
            labels: limit.per.iter().cloned().zip(counter.values.iter().cloned()).collect(),
            used: count.peak,
            max: limit.max,
            asked: count.asked,
            left: Duration::from_millis(end_ms.saturating_sub(now.0)),
        }
    }

    /// The counters of the limits that apply; `None` if one matches and lacks a label, which it does not skip.
    fn counters(&self, request: &Request<'_>, at: Timestamp) -> Option<Vec<Counter>> {
        let mut counters = Vec::new();
        for (index, limit) in
            self.limits.iter().enumerate().filter(|(_, limit)| limit.matches(request))
        {
            let window = match limit.span {
                Span::Window(length_ms) => Some(at.0 / length_ms),
                Span::Session(_) => None,
            };
            match limit.values(request) {
                Some(values) => counters.push(Counter { limit: index, window, values }),
                None if limit.skips_without_label => {}
                None => return None,
            }
        }
        Some(counters)
    }
}

impl Count {
    /// A session ends when it was not used for its time to live, or up to a sixteenth of that later.
    fn end_if_idle(&mut self, now_ms: u64, ttl_ms: u64) {
        let idle_ms = now_ms.saturating_sub(self.last_used_ms);
        if idle_ms.saturating_add(CLOCKS_APART_MS) >= ttl_ms {
            self.least = 0;
        }
        if idle_ms >= ttl_ms.saturating_add(ttl_ms / 16).saturating_add(CLOCKS_APART_MS) {
            self.most = 0;
        }
    }
}

/// The `[[limit]]` entries of a text.
///
/// # Errors
/// When they are not limits.
pub(super) fn entries(text: &str) -> Result<Vec<Entry>, toml::de::Error> {
    Ok(toml::from_str::<File>(text)?.limits)
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

/// A limit as a file says it.
#[derive(Debug, Deserialize)]
pub(super) struct Entry {
    /// Its name.
    pub name: String,
    /// The patterns for labels.
    #[serde(default)]
    pub when: BTreeMap<String, String>,
    /// The labels that it counts apart by.
    #[serde(default)]
    pub per: Vec<String>,
    max: u64,
    window: String,
    session_ttl: Option<String>,
    when_label_missing: Option<String>,
}

impl Entry {
    /// Whether it does not apply to a request that lacks a label of `per`; else it denies it.
    pub fn skips_without_label(&self) -> bool {
        self.when_label_missing.as_deref() == Some("skip")
    }
}

#[derive(Debug)]
struct OracleLimit {
    name: String,
    when: Vec<(String, WildMatch)>,
    per: Vec<String>,
    max: u64,
    span: Span,
    /// Whether it does not apply to a request that lacks a label; else it denies it.
    skips_without_label: bool,
}

/// Over what time a limit counts, in milliseconds.
#[derive(Debug, Clone, Copy)]
enum Span {
    /// Windows of this length, since 1970.
    Window(u64),
    /// Until it was not used for so long.
    Session(u64),
}

impl OracleLimit {
    fn new(entry: Entry) -> Result<OracleLimit, Box<dyn Error>> {
        let skips_without_label = entry.skips_without_label();
        let when = entry.when.into_iter();
        let when = when.map(|(label, pattern)| (label, WildMatch::new(&pattern))).collect();
        let ms = |length: &str| -> Result<u64, Box<dyn Error>> {
            let length_ms = humantime::parse_duration(length)?.as_millis();
            Ok(u64::try_from(length_ms)?.max(1))
        };
        let span = match entry.window.as_str() {
            "session" => Span::Session(ms(entry.session_ttl.as_deref().unwrap_or("1h"))?),
            length => Span::Window(ms(length)?),
        };
        let (name, per, max) = (entry.name, entry.per, entry.max);
        Ok(OracleLimit { name, when, per, max, span, skips_without_label })
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
            oracle.judge(&Request::tool_call(session, tool), 1, Timestamp(*at), *admitted)
        };
        calls.iter().map(judge).collect()
    }

    #[test]
    fn only_matching_calls_count_and_sessions_count_apart() {
        let calls = [
            ("s1", "book_flight", 0, true),
            ("s1", "find_flight", 0, true),
            ("s2", "book_hotel", 0, true),
            ("s1", "book_hotel", 3_599_000, false),
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
    fn a_session_ends_when_it_was_not_used_allowed_or_denied() {
        let limits = BOOKING.replace("\"session\"\n    ", "\"session\"\nsession_ttl = \"16s\"\n");
        let calls = |moments: &[(u64, bool)]| {
            let calls = moments.iter().map(|(at, admitted)| ("s", "book_a", *at, *admitted));
            verdicts(&limits, &calls.collect::<Vec<_>>())
        };
        let used = [(0, true), (10_000, false), (20_000, false)];
        // For its time to live it is certain that it goes on, and after a sixteenth more that it does not.
        assert_eq!(calls(&[&used[..], &[(35_900, true)]].concat())[3], Overshoot);
        assert_eq!(calls(&[&used[..], &[(35_900, false)]].concat())[3], Right);
        assert_eq!(calls(&[&used[..], &[(37_100, false)]].concat())[3], FalseDenial);
        assert_eq!(
            calls(&[&used[..], &[(37_100, true), (37_200, true)]].concat())[3..],
            [Right, Overshoot]
        );
        // Between them it may or may not.
        for admitted in [true, false] {
            assert_eq!(calls(&[&used[..], &[(36_500, admitted)]].concat()), [Right; 4]);
        }
    }

    #[test]
    fn costs_are_counted_and_one_that_does_not_fit_is_rightly_denied() {
        let mut oracle = Oracle::from_toml(&PER_SECOND.replace("max = 2", "max = 10")).unwrap();
        let mut judge = |cost, admitted| {
            oracle.judge(&Request::tool_call("s", "t"), cost, Timestamp(1), admitted)
        };
        assert_eq!([judge(8, true), judge(3, false), judge(2, false)], [Right, Right, FalseDenial]);
        assert_eq!([judge(2, true), judge(0, true), judge(1, true)], [Right, Right, Overshoot]);
        // Past its limit, not even what costs nothing is admitted.
        assert_eq!([judge(0, true), judge(u64::MAX, false)], [Overshoot, Right]);
    }

    #[test]
    fn a_call_that_is_admitted_and_costs_nothing_does_not_keep_a_session() {
        for (cost, expected) in [(0, Right), (1, Overshoot)] {
            let limits = BOOKING.replace("max = 1", "max = 2");
            let mut oracle = Oracle::from_toml(&limits).unwrap();
            let mut judge = |cost, at| {
                oracle.judge(&Request::tool_call("s", "book_a"), cost, Timestamp(at), true)
            };
            assert_eq!([judge(1, 0), judge(cost, 3_000_000)], [Right; 2]);
            // An hour and a sixteenth after the first.
            assert_eq!(judge(2, 3_900_000), expected);
        }
    }

    #[test]
    fn the_worst_counters_are_the_fullest_and_of_those_the_most_wanted() {
        let mut oracle = Oracle::from_toml(&format!("{BOOKING}{PER_SECOND}")).unwrap();
        for (session, at, admitted) in
            [("s1", 0, true), ("s2", 0, true), ("s2", 1, false), ("s3", 1_500, true)]
        {
            oracle.judge(&Request::tool_call(session, "book_a"), 1, Timestamp(at), admitted);
        }
        let worst = oracle.worst(Timestamp(1_600), 5);
        let shown = worst.iter().map(|one| {
            let values = one.labels.iter().map(|(label, value)| format!("{label}={value}"));
            let (values, left) = (values.collect::<String>(), one.left.as_millis());
            format!(
                "{} {values} {} of {}, {} asked, {left}",
                one.limit, one.used, one.max, one.asked
            )
        });
        assert_eq!(
            shown.collect::<Vec<_>>(),
            [
                "all  2 of 2, 3 asked, 0",
                "booking session=s2 1 of 1, 2 asked, 3598401",
                "booking session=s1 1 of 1, 1 asked, 3598400",
                "booking session=s3 1 of 1, 1 asked, 3599900",
                "all  1 of 2, 1 asked, 400",
            ]
        );
        assert_eq!((oracle.worst(Timestamp(1_600), 1).len(), oracle.counters_count()), (1, 5));
    }

    #[test]
    fn a_request_without_a_label_is_denied_unless_the_limit_says_otherwise() {
        let mut oracle = Oracle::from_toml(BOOKING).unwrap();
        let without_session = Request::new().with("tool", "book_flight");
        assert_eq!(oracle.judge(&without_session, 1, Timestamp(0), true), Overshoot);
        assert_eq!(oracle.judge(&without_session, 1, Timestamp(0), false), Right);
        let limits = BOOKING.replace("max = 1", "max = 0\nwhen_label_missing = \"skip\"");
        let mut oracle = Oracle::from_toml(&limits).unwrap();
        assert_eq!(oracle.judge(&without_session, 1, Timestamp(0), true), Right);
        let with_session = without_session.with("session", "s1");
        assert_eq!(oracle.judge(&with_session, 1, Timestamp(0), true), Overshoot);
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
