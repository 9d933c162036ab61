//! What a replay found, for people and for programs.

use std::fmt;
use std::time::Duration;

use hdrhistogram::{CreationError, Histogram};
use serde::Serialize;

/// The outcome of a replay. As text, one figure to a line; as JSON, one object.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub trace: String,
    pub nodes: u8,
    pub pace: String,
    pub gossip_interval_ms: f64,
    pub calls: usize,
    #[serde(flatten)]
    pub tally: Tally,
    /// From the last decision until all instances had the same state.
    pub converged_ms: f64,
    #[serde(flatten)]
    pub latency: Latency,
    pub calls_per_s: f64,
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
        writeln!(f, "pace: {}", self.pace)?;
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
        write!(f, "calls/s: {:.1}", self.calls_per_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            trace: "t.csv".into(),
            nodes: 3,
            pace: "max".into(),
            gossip_interval_ms: in_ms(Duration::from_millis(50)),
            calls: 4,
            tally: Tally { allowed: 3, denied: 1, false_denials: 0, overshoot: 2 },
            converged_ms: in_ms(Duration::from_micros(12_340)),
            latency: Latency::of([100, 200, 300].map(Duration::from_nanos).into_iter()).unwrap(),
            calls_per_s: per_second(4, Duration::from_secs(2)),
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
    }
}
