//! What a replay found, for people and for programs.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::{CreationError, Histogram};
use serde::Serialize;

use super::oracle::Usage;
use crate::usage::percent;

/// The outcome of a replay. As text, one figure to a line; as JSON, one object.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub trace: String,
    pub nodes: u8,
    pub pace: String,
    /// How many times as fast as in the trace; none where the calls are not made by its times.
    pub speed: Option<f64>,
    pub route: &'static str,
    pub gossip_interval_ms: f64,
    pub calls: usize,
    #[serde(flatten)]
    pub tally: Tally,
    /// From the last decision until all instances had the same state.
    pub converged_ms: f64,
    #[serde(flatten)]
    pub latency: Latency,
    pub calls_per_s: f64,
    /// How many counters there were.
    pub counters: usize,
    /// Those that were used most.
    pub worst: Vec<Worst>,
}

/// How much of a limit was used in one counter.
#[derive(Debug, Serialize)]
pub(super) struct Worst {
    limit: String,
    labels: BTreeMap<String, String>,
    used: u64,
    max: u64,
    percent: f64,
    /// What was asked for, admitted or not.
    asked: u64,
    /// Until its window or session ends, in the time of the trace; 0 if it has.
    left_ms: u64,
}

impl Worst {
    /// For people and programs, where time passes so many times as fast as in the trace.
    pub fn of(usage: Usage, speed: f64) -> Worst {
        let Usage { limit, labels, used, max, asked, left } = usage;
        let left_ms = (left.as_millis() as f64 * speed) as u64;
        let labels = labels.into_iter().collect();
        Worst { limit, labels, used, max, percent: percent(used, max), asked, left_ms }
    }
}

impl fmt::Display for Worst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Worst { limit, labels, used, max, percent, asked, left_ms } = self;
        write!(f, "{used} of {max} ({percent}%), {asked} asked, ")?;
        match left_ms {
            0 => f.write_str("ended")?,
            // Where there are seconds, milliseconds are noise.
            ms => {
                let left = Duration::from_millis(if *ms < 1000 { *ms } else { ms / 1000 * 1000 });
                write!(f, "{} left", humantime::format_duration(left))?;
            }
        }
        write!(f, ": {limit}")?;
        for (index, (label, value)) in labels.iter().enumerate() {
            let separator = if index == 0 { ", " } else { " " };
            write!(f, "{separator}{label}={}", value.escape_debug())?;
        }
        Ok(())
    }
}

/// The decisions by what they were and what the oracle says of them.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Tally {
    pub allowed: u64,
    pub denied: u64,
    pub false_denials: u64,
    pub overshoot: u64,
}

/// How long a decision took.
#[derive(Debug, Serialize)]
pub(super) struct Latency {
    decision_ns_p50: u64,
    decision_ns_p99: u64,
    decision_ns_p99_9: u64,
}

impl Latency {
    /// The percentiles, to three digits; what took more than a minute is shown as about one.
    ///
    /// # Errors
    /// When a histogram of these bounds does not fit into memory.
    pub fn of(decisions: impl Iterator<Item = Duration>) -> Result<Latency, CreationError> {
        const MINUTE_NS: u64 = 60_000_000_000;
        let mut histogram: Histogram<u64> = Histogram::new_with_bounds(1, MINUTE_NS, 3)?;
        for took in decisions {
            histogram.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(MINUTE_NS));
        }
        Ok(Latency {
            decision_ns_p50: histogram.value_at_quantile(0.5),
            decision_ns_p99: histogram.value_at_quantile(0.99),
            decision_ns_p99_9: histogram.value_at_quantile(0.999),
        })
    }
}

/// A duration in milliseconds, to a microsecond.
pub(super) fn in_ms(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

/// How many of these there were in a second. A duration of 0 is taken for a nanosecond.
pub(super) fn per_second(count: usize, took: Duration) -> f64 {
    count as f64 / took.max(Duration::from_nanos(1)).as_secs_f64()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "trace: {}", self.trace)?;
        writeln!(f, "nodes: {}", self.nodes)?;
        match self.speed {
            Some(speed) => writeln!(f, "pace: {}, {speed} times as fast", self.pace)?,
            None => writeln!(f, "pace: {}", self.pace)?,
        }
        writeln!(f, "route: {}", self.route)?;
        writeln!(f, "gossip interval: {} ms", self.gossip_interval_ms)?;
        writeln!(f, "calls: {}", self.calls)?;
        writeln!(f, "allowed: {}", self.tally.allowed)?;
        writeln!(f, "denied: {}", self.tally.denied)?;
        writeln!(f, "false denials: {}", self.tally.false_denials)?;
        writeln!(f, "overshoot: {}", self.tally.overshoot)?;
        writeln!(f, "converged after: {:.1} ms", self.converged_ms)?;
        let Latency { decision_ns_p50, decision_ns_p99, decision_ns_p99_9 } = self.latency;
        writeln!(
            f,
            "decision: p50 {decision_ns_p50} ns, p99 {decision_ns_p99} ns, \
             p99.9 {decision_ns_p99_9} ns"
        )?;
        writeln!(f, "calls/s: {:.1}", self.calls_per_s)?;
        write!(f, "counters: {}", self.counters)?;
        for worst in &self.worst {
            write!(f, "\nworst: {worst}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worst(used: u64, left_ms: u64) -> Worst {
        let labels = [("user", "u1"), ("session", "a\u{1b}b")];
        let usage = Usage {
            limit: "per session".into(),
            labels: labels.map(|(label, value)| (label.into(), value.into())).to_vec(),
            used,
            max: 6,
            asked: 9,
            left: Duration::from_millis(left_ms),
        };
        Worst::of(usage, 10.0)
    }

    fn report() -> Report {
        Report {
            trace: "t.csv".into(),
            nodes: 3,
            pace: "times".into(),
            speed: Some(10.0),
            route: "session",
            gossip_interval_ms: in_ms(Duration::from_millis(50)),
            calls: 4,
            tally: Tally { allowed: 3, denied: 1, false_denials: 0, overshoot: 2 },
            converged_ms: in_ms(Duration::from_micros(12_340)),
            latency: Latency::of([100, 200, 300].map(Duration::from_nanos).into_iter()).unwrap(),
            calls_per_s: per_second(4, Duration::from_secs(2)),
            counters: 7,
            worst: vec![worst(5, 12_345), worst(1, 98), worst(0, 0)],
        }
    }

    #[test]
    fn text_has_one_figure_to_a_line() {
        let text = report().to_string();
        let expected = [
            "gossip interval: 50 ms",
            "false denials: 0",
            "overshoot: 2",
            "converged after: 12.3 ms",
            "decision: p50 200 ns, p99 300 ns, p99.9 300 ns",
            "calls/s: 2.0",
            "pace: times, 10 times as fast",
            "route: session",
            "counters: 7",
            "worst: 5 of 6 (83.3%), 9 asked, 2m 3s left: per session, session=a\\u{1b}b user=u1",
            "worst: 1 of 6 (16.7%), 9 asked, 980ms left: per session, session=a\\u{1b}b user=u1",
            "worst: 0 of 6 (0%), 9 asked, ended: per session, session=a\\u{1b}b user=u1",
        ];
        for line in expected {
            assert!(text.lines().any(|shown| shown == line), "{line:?} is not in {text}");
        }
    }

    #[test]
    fn json_is_one_flat_object() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!(json["overshoot"], 2);
        assert_eq!(json["converged_ms"], 12.34);
        assert_eq!(json["decision_ns_p50"], 200);
        let worst = &json["worst"][0];
        assert_eq!((&worst["percent"], &worst["left_ms"]), (&83.3.into(), &123_450.into()));
        assert_eq!(worst["labels"]["user"], "u1");
    }
}
