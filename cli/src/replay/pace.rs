//! The pace of a replay.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// How fast the calls follow one another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Pace {
    /// Each waits until all instances agree on what came before.
    Settle,
    /// They do not wait.
    Max,
    /// So many calls per second.
    Rate(f64),
    /// At the times that the trace says.
    Times,
}

impl Pace {
    /// A gossip interval that suits the pace.
    pub fn gossip_interval(self) -> Duration {
        match self {
            Pace::Settle => Duration::from_millis(2),
            Pace::Max | Pace::Rate(_) | Pace::Times => Duration::from_millis(50),
        }
    }

    /// What to wait for before each call, if anything.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn beat(self) -> Option<tokio::time::Interval> {
        match self {
            Pace::Settle | Pace::Max | Pace::Times => None,
            Pace::Rate(rate) => Some(tokio::time::interval(Duration::from_secs_f64(rate.recip()))),
        }
    }
}

impl FromStr for Pace {
    type Err = String;

    fn from_str(text: &str) -> Result<Pace, String> {
        match text {
            "settle" => return Ok(Pace::Settle),
            "max" => return Ok(Pace::Max),
            "times" => return Ok(Pace::Times),
            _ => {}
        }
        // A slower or faster beat than these is no duration that a timer can count.
        match text.parse::<f64>() {
            Ok(rate) if (0.001..=1_000_000.0).contains(&rate) => Ok(Pace::Rate(rate)),
            _ => {
                Err("allowed are times, settle, max, or calls per second from 0.001 to 1000000"
                    .into())
            }
        }
    }
}

/// Reads how many times as fast as in the trace: `10`, or `10x`.
pub(super) fn parse_speed(text: &str) -> Result<f64, String> {
    match text.strip_suffix('x').unwrap_or(text).parse::<f64>() {
        Ok(speed) if (0.001..=1_000_000.0).contains(&speed) => Ok(speed),
        _ => Err("allowed are 0.001 to 1000000, such as 10 for ten times as fast".into()),
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pace::Settle => f.write_str("settle"),
            Pace::Max => f.write_str("max"),
            Pace::Rate(rate) => rate.fmt(f),
            Pace::Times => f.write_str("times"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_settle_max_or_a_rate() {
        for (text, pace) in [
            ("settle", Pace::Settle),
            ("max", Pace::Max),
            ("times", Pace::Times),
            ("200", Pace::Rate(200.0)),
            ("0.5", Pace::Rate(0.5)),
        ] {
            assert_eq!(text.parse::<Pace>(), Ok(pace));
            assert_eq!(pace.to_string(), text);
        }
        assert_eq!([parse_speed("10"), parse_speed("0.5x")], [Ok(10.0), Ok(0.5)]);
        for text in ["", "x", "0", "-1", "NaN", "inf"] {
            assert!(parse_speed(text).expect_err(text).contains("0.001 to 1000000"));
        }
        for text in ["", "fast", "0", "-1", "inf", "NaN", "1e-9", "1e9", "Settle"] {
            let message = text.parse::<Pace>().expect_err(text);
            assert!(message.contains("settle, max, or calls per second"), "{message}");
        }
    }
}
