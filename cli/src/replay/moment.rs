//! The moments in the column `time` of a trace.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Numbers from here on are milliseconds since 1970; as seconds, they would be of the year 5138.
const MILLISECONDS_FROM: f64 = 1e11;

/// When a call was made, in seconds, by the clock of its form.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Moment {
    /// In what form it is written. Moments of two forms cannot be told apart.
    pub form: Form,
    /// In seconds.
    pub seconds: f64,
}

/// How a moment is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A date with a time, UTC where it says no offset.
    Date,
    /// A number of seconds, since 1970 or anything else.
    Seconds,
    /// A number of milliseconds since 1970.
    Milliseconds,
}

impl Moment {
    /// Reads a field.
    ///
    /// # Errors
    /// When it is of none of the forms; says what is allowed.
    pub fn parse(text: &str) -> Result<Moment, String> {
        let text = text.trim();
        if let Ok(number) = text.parse::<f64>()
            && number.is_finite()
        {
            return Ok(match number >= MILLISECONDS_FROM {
                true => Moment { form: Form::Milliseconds, seconds: number / 1000.0 },
                false => Moment { form: Form::Seconds, seconds: number },
            });
        }
        let date = text.parse::<Timestamp>().or_else(|why| {
            let date: DateTime = text.parse().map_err(|_| why)?;
            TimeZone::UTC.to_timestamp(date)
        });
        match date {
            Ok(date) => Ok(Moment { form: Form::Date, seconds: date.as_nanosecond() as f64 / 1e9 }),
            Err(_) => Err(format!(
                "time {text:?} cannot be read; allowed are seconds such as 12.5, milliseconds since 1970, \
                 or a date such as 2026-01-31T23:59:59.5Z"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_numbers_or_dates() {
        for (text, form, seconds) in [
            ("0", Form::Seconds, 0.0),
            (" 12.5", Form::Seconds, 12.5),
            ("-3", Form::Seconds, -3.0),
            ("1790000000", Form::Seconds, 1_790_000_000.0),
            ("1790000000123", Form::Milliseconds, 1_790_000_000.123),
            ("1970-01-02T00:00:01Z", Form::Date, 86_401.0),
            ("1970-01-02T02:00:01.5+02:00", Form::Date, 86_401.5),
            ("1970-01-02 00:00:01", Form::Date, 86_401.0),
            ("1970-01-02T00:00:01.25", Form::Date, 86_401.25),
        ] {
            assert_eq!(Moment::parse(text), Ok(Moment { form, seconds }), "{text}");
        }
        for text in ["", "yesterday", "NaN", "inf", "12:30", "2026-13-01T00:00:00Z"] {
            let message = Moment::parse(text).expect_err(text);
            assert!(message.contains(&format!("time {text:?}")), "{message}");
        }
    }
}
