//! The limits of a replay.

use std::error::Error;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use tallymesh::{Config, Limit};

use super::oracle::{Entry, Oracle, check_only_limits, entries};

const USUAL: &str = r#"
[[limit]]
name = "per session, turn and tool"
per = ["session", "turn", "tool"]
max = 5
window = "session"

[[limit]]
name = "per session and tool"
per = ["session", "tool"]
max = 10
window = "session"
"#;

/// The shortest window or time to live that a replay may shorten to, in milliseconds: those of a real clock are of this order.
const SHORTENED_MS_MIN: u64 = 100;

/// Limits for the instances, and for the oracle that judges them.
#[derive(Debug)]
pub(super) struct Limits {
    text: String,
    limits: Vec<Limit>,
    entries: Vec<Entry>,
}

impl Limits {
    /// The limits of a file, or the usual ones.
    ///
    /// # Errors
    /// When the file cannot be read, or has anything but limits.
    pub fn load(path: Option<&Path>) -> Result<Limits, Box<dyn Error>> {
        let Some(path) = path else { return Ok(Limits::usual()) };
        let in_file = |error: &dyn fmt::Display| format!("limits file {}: {error}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| in_file(&error))?;
        Ok(Limits::from_toml(&text).map_err(|error| in_file(&error))?)
    }

    /// 5 calls per session, turn and tool, and 10 per session and tool.
    pub fn usual() -> Limits {
        // Proven by every test of this file.
        Limits::from_toml(USUAL).unwrap_or_else(|error| unreachable!("{error}"))
    }

    /// The `[[limit]]` entries of a text.
    ///
    /// # Errors
    /// When it has anything else, or none, or one that is not allowed.
    pub fn from_toml(text: &str) -> Result<Limits, Box<dyn Error>> {
        check_only_limits(text)?;
        // Behind the limits, so that errors in them name the right line.
        let node =
            "[node]\nid = \"replay\"\n[storage]\nin_memory = true\n[counters]\nmax_labels = 1024\n";
        let config = Config::from_toml(&format!("{text}\n{node}"))?;
        let limits = config.limits().to_vec();
        Ok(Limits { text: text.to_owned(), limits, entries: entries(text)? })
    }

    /// The limits for an instance.
    pub fn limits(&self) -> &[Limit] {
        &self.limits
    }

    /// The exact counter under these limits.
    ///
    /// # Errors
    /// When it cannot read them.
    pub fn oracle(&self) -> Result<Oracle, Box<dyn Error>> {
        Oracle::from_toml(&self.text)
    }

    /// The labels that some limit looks at, each once, in order.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        let mut labels: Vec<&str> = self.entries.iter().flat_map(looked_at).collect();
        labels.sort_unstable();
        labels.dedup();
        labels.into_iter()
    }

    /// Whether some limit looks at a label.
    pub fn look_at(&self, label: &str) -> bool {
        self.entries.iter().flat_map(looked_at).any(|looked_at| looked_at == label)
    }

    /// A label that is not among these, and a limit that would deny every call for want of it.
    pub fn missing(&self, labels: &[String]) -> Option<(&str, &str)> {
        let has = |label: &str| labels.iter().any(|held| held == label);
        let denying = self.entries.iter().filter(|entry| !entry.skips_without_label());
        let applying = denying.filter(|entry| entry.when.keys().all(|label| has(label)));
        let mut missing = applying.filter_map(|entry| {
            let label = entry.per.iter().find(|label| !has(label))?;
            Some((label.as_str(), entry.name.as_str()))
        });
        missing.next()
    }

    /// Limits that apply to no call with only these labels, each with a label that it looks for.
    pub fn idle(&self, has: impl Fn(&str) -> bool) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().filter_map(move |entry| {
            let label = entry.when.keys().find(|label| !has(label))?;
            Some((entry.name.as_str(), label.as_str()))
        })
    }

    /// The same limits with every window and time to live so many times as short.
    ///
    /// # Errors
    /// When one gets too short to be replayed.
    pub fn shortened(&self, speed: f64) -> Result<Limits, Box<dyn Error>> {
        let mut file: toml::Table = toml::from_str(&self.text)?;
        let limits = file.get_mut("limit").and_then(toml::Value::as_array_mut);
        for limit in limits.into_iter().flatten().filter_map(toml::Value::as_table_mut) {
            let key = match limit.get("window").and_then(toml::Value::as_str) {
                Some("session") => "session_ttl",
                _ => "window",
            };
            let text = limit.get(key).and_then(toml::Value::as_str).unwrap_or(SESSION_TTL);
            let length = humantime::parse_duration(text)?;
            let shortened = Duration::try_from_secs_f64(length.as_secs_f64() / speed)?;
            let shortened_ms = shortened.as_millis() as u64;
            if speed > 1.0 && shortened_ms < SHORTENED_MS_MIN {
                let fastest = length.as_millis() as u64 / SHORTENED_MS_MIN;
                return Err(format!(
                    "at speed {speed}, {key} = {text:?} of the limit {} takes {shortened_ms} ms, which is too short \
                     to be replayed; the fastest for it is --speed {}",
                    limit.get("name").unwrap_or(&toml::Value::Boolean(false)),
                    fastest.max(1)
                )
                .into());
            }
            limit.insert(key.to_owned(), format!("{shortened_ms}ms").into());
        }
        Limits::from_toml(&toml::to_string(&file)?)
    }
}

/// How long a session lives where nothing else is said.
const SESSION_TTL: &str = "1h";

fn looked_at(entry: &Entry) -> impl Iterator<Item = &str> {
    entry.when.keys().chain(&entry.per).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use tallymesh::Window;

    use super::*;

    const TWO: &str = r#"
        [[limit]]
        name = "bookings"
        when = { tool = "book_*" }
        per = ["session", "user"]
        max = 3
        window = "session"
        [[limit]]
        name = "calls"
        max = 100
        window = "1m"
    "#;

    #[test]
    fn the_labels_that_limits_look_at_are_known_and_those_that_are_missing() {
        let limits = Limits::from_toml(TWO).unwrap();
        assert_eq!(limits.labels().collect::<Vec<_>>(), ["session", "tool", "user"]);
        assert!(limits.look_at("tool") && !limits.look_at("turn"));
        let labels = |labels: &[&str]| labels.iter().map(|label| (*label).to_owned()).collect();
        let only: Vec<String> = labels(&["session", "tool"]);
        assert_eq!(limits.missing(&only), Some(("user", "bookings")));
        assert_eq!(limits.missing(&labels(&["session"])), None);
        assert_eq!(limits.idle(|_| false).collect::<Vec<_>>(), [("bookings", "tool")]);
        let skipping = TWO.replace("max = 3", "max = 3\nwhen_label_missing = \"skip\"");
        assert_eq!(Limits::from_toml(&skipping).unwrap().missing(&only), None);
    }

    #[test]
    fn windows_and_times_to_live_get_shorter() {
        let windows =
            |limits: &Limits| limits.limits().iter().map(Limit::window).collect::<Vec<_>>();
        let shortened = Limits::from_toml(TWO).unwrap().shortened(10.0).unwrap();
        let ttl = Duration::from_secs(360);
        assert_eq!(
            windows(&shortened),
            [Window::Session { ttl }, Window::Fixed(Duration::from_secs(6))]
        );
        let message = Limits::from_toml(TWO).unwrap().shortened(1000.0).unwrap_err().to_string();
        for part in ["window = \"1m\"", "\"calls\"", "60 ms", "--speed 600"] {
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn a_file_with_more_than_limits_is_refused() {
        let message = Limits::from_toml(&format!("{TWO}[node]\nid = \"a\"\n")).unwrap_err();
        assert!(message.to_string().contains("has: node;"), "{message}");
        assert_eq!(Limits::usual().limits().len(), 2);
    }
}
