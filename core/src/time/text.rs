//! Lengths of time as a person writes them: `50ms`, `1h 30m`, `30d`. No months and years, since they are not of one length.

use core::fmt;
use core::time::Duration;

const DAY_S: u64 = 24 * 3600;

/// How people write months and years, whatever the case; `M` is a month too, and `m` a minute.
const MONTHS_AND_YEARS: &[&str] =
    &["month", "months", "mo", "mon", "mth", "y", "yr", "yrs", "year", "years"];

/// A text that is no length of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidDuration {
    /// It cannot be read.
    #[error("a duration such as \"50ms\" or \"1h\"")]
    Unreadable,
    /// It has months or years.
    #[error(
        "months and years are not of one length, and there are no windows by the calendar yet: write days, such as \"30d\" \
         or \"365d\""
    )]
    MonthsOrYears,
}

/// Reads a length of time such as `1h 30m`: a number and a unit, from `ns` to `w`, as often as need be.
///
/// ```
/// use std::time::Duration;
/// use tallymesh_core::time::{InvalidDuration, parse_duration};
///
/// assert_eq!(parse_duration("1h 30m"), Ok(Duration::from_secs(5_400)));
/// assert_eq!(parse_duration("1month"), Err(InvalidDuration::MonthsOrYears));
/// ```
///
/// # Errors
/// When the text is no such length, or has months or years.
pub fn parse_duration(text: &str) -> Result<Duration, InvalidDuration> {
    let mut units = text.split(|c: char| !c.is_alphabetic());
    let varies = |unit: &str| {
        unit == "M" || MONTHS_AND_YEARS.iter().any(|known| known.eq_ignore_ascii_case(unit))
    };
    if units.any(varies) {
        return Err(InvalidDuration::MonthsOrYears);
    }
    humantime::parse_duration(text).map_err(|_| InvalidDuration::Unreadable)
}

/// A length of time as [`parse_duration`] reads it, in days at most.
pub fn format_duration(duration: Duration) -> impl fmt::Display {
    InDays(duration)
}

struct InDays(Duration);

impl fmt::Display for InDays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, within) = (self.0.as_secs() / DAY_S, self.0.as_secs() % DAY_S);
        let rest = Duration::new(within, self.0.subsec_nanos());
        match days {
            0 => return humantime::format_duration(rest).fmt(f),
            1 => f.write_str("1day")?,
            _ => write!(f, "{days}days")?,
        }
        match rest.is_zero() {
            true => Ok(()),
            false => write!(f, " {}", humantime::format_duration(rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{format, string::ToString};

    #[test]
    fn months_and_years_are_refused_however_they_are_written() {
        for unit in ["months", "month", "M", "years", "year", "yr", "yrs", "y", "mo", "Y", "Months"]
        {
            for text in [format!("1{unit}"), format!("2 {unit}"), format!("1d 1.5{unit} 3s")] {
                assert_eq!(parse_duration(&text), Err(InvalidDuration::MonthsOrYears), "{text}");
            }
        }
        assert!(InvalidDuration::MonthsOrYears.to_string().contains("\"30d\""));
        for (text, days) in [("30d", 30), ("365days", 365), ("1w", 7), ("2weeks", 14)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(days * DAY_S)));
        }
        for text in ["", "5", "month5", "daily", "1.5", "-1s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert_eq!(parse_duration("1m"), Ok(Duration::from_secs(60)), "m is a minute");
    }

    proptest::proptest! {
        #[test]
        fn a_length_reads_back_as_written(secs in 0_u64..1 << 40, nanos in 0_u32..1_000_000_000) {
            let length = Duration::new(secs, nanos);
            let text = format_duration(length).to_string();
            proptest::prop_assert_eq!(parse_duration(&text), Ok(length), "{}", text);
        }
    }

    #[test]
    fn many_days_are_written_as_days() {
        let text = |secs| format_duration(Duration::from_secs(secs)).to_string();
        assert_eq!(text(366 * DAY_S), "366days");
        assert_eq!([text(DAY_S), text(31 * DAY_S + 5_400)], ["1day", "31days 1h 30m"]);
        assert_eq!([text(0), text(90)], ["0s", "1m 30s"]);
    }
}
