//! A window as a person types it: `60s`, `session`, `session 1h`.

use alloc::{
    format,
    string::{String, ToString},
};
use core::fmt;
use core::str::FromStr;

use super::{SESSION_TTL, Window};
use crate::time::{InvalidDuration, format_duration, parse_duration};

/// A text that is no window.
///
/// ```
/// use std::time::Duration;
/// use tallymesh::{InvalidWindow, Window};
///
/// let window: Window = "session 30m".parse()?;
/// assert_eq!(window, Window::Session { ttl: Duration::from_secs(1800) });
/// let refused: InvalidWindow = "daily".parse::<Window>().unwrap_err();
/// assert!(refused.to_string().starts_with("\"daily\" is no window: use a duration such as \"60s\""));
/// # Ok::<(), InvalidWindow>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no window: use a duration such as \"60s\" or \"1h\", or \"session\" with or without a time to live, such as \
     \"session 1h\"{}", varies(*.why)
)]
pub struct InvalidWindow {
    text: String,
    why: InvalidDuration,
}

fn varies(why: InvalidDuration) -> String {
    match why {
        InvalidDuration::MonthsOrYears => format!("; {why}"),
        _ => String::new(),
    }
}

impl FromStr for Window {
    type Err = InvalidWindow;

    fn from_str(text: &str) -> Result<Window, InvalidWindow> {
        let duration = |part: &str| {
            parse_duration(part).map_err(|why| InvalidWindow { text: text.to_string(), why })
        };
        match text.split_once(' ').unwrap_or((text, "")) {
            ("session", "") => Ok(Window::Session { ttl: SESSION_TTL }),
            ("session", ttl) => Ok(Window::Session { ttl: duration(ttl)? }),
            _ => Ok(Window::Fixed(duration(text)?)),
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Window::Fixed(length) => format_duration(*length).fmt(f),
            Window::Session { ttl } => write!(f, "session {}", format_duration(*ttl)),
        }
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Window {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for Window {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Window, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    #[test]
    fn a_window_is_read_as_it_is_written() {
        let hour = Duration::from_secs(3600);
        for (text, window) in [
            ("60s", Window::Fixed(Duration::from_secs(60))),
            ("1h 30m", Window::Fixed(hour * 3 / 2)),
            ("31d 1h", Window::Fixed(hour * 745)),
            ("366d", Window::Fixed(hour * 24 * 366)),
            ("session", Window::Session { ttl: hour }),
            ("session 2h 1s", Window::Session { ttl: hour * 2 + Duration::from_secs(1) }),
        ] {
            assert_eq!(text.parse(), Ok(window));
            assert_eq!(window.to_string().parse(), Ok(window));
        }
        for bad in ["", "daily", "60", "session daily", "sessions", " 60s 5"] {
            let message = bad.parse::<Window>().unwrap_err().to_string();
            assert!(message.contains(bad) && message.contains("\"session 1h\""), "{message}");
        }
        for bad in ["1month", "1M", "2 years", "session 1y", "1month 3d"] {
            let message = bad.parse::<Window>().unwrap_err().to_string();
            assert!(message.contains(bad) && message.contains("\"30d\""), "{message}");
        }
    }
}
