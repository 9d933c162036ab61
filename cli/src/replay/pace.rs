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
}

impl Pace {
    /// A gossip interval that suits the pace.
    pub fn gossip_interval(self) -> Duration {
        match self {
            Pace::Settle => Duration::from_millis(2),
            Pace::Max | Pace::Rate(_) => Duration::from_millis(50),
        }
    }

    /// What to wait for before each call, if anything.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn beat(self) -> Option<tokio::time::Interval> {
        match self {
            Pace::Settle | Pace::Max => None,
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
            _ => {}
        }
        // A slower or faster beat than these is no duration that a timer can count.
        match text.parse::<f64>() {
            Ok(rate) if (0.001..=1_000_000.0).contains(&rate) => Ok(Pace::Rate(rate)),
            _ => Err("allowed are settle, max, or calls per second from 0.001 to 1000000".into()),
        }
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pace::Settle => f.write_str("settle"),
            Pace::Max => f.write_str("max"),
            Pace::Rate(rate) => rate.fmt(f),
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
            ("200", Pace::Rate(200.0)),
            ("0.5", Pace::Rate(0.5)),
        ] {
            assert_eq!(text.parse::<Pace>(), Ok(pace));
            assert_eq!(pace.to_string(), text);
        }
        for text in ["", "fast", "0", "-1", "inf", "NaN", "1e-9", "1e9", "Settle"] {
            let message = text.parse::<Pace>().expect_err(text);
            assert!(message.contains("settle, max, or calls per second"), "{message}");
        }
    }
}
