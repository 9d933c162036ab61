//! Counters, for people; and those that come first of many pages.

use std::cmp::Ordering;
use std::fmt::Write;

use serde_json::Value;

use super::status::plain;
use crate::usage::percent;

/// The order of a listing, as a node has it.
#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
pub enum Order {
    /// By how much of its limit is used.
    #[default]
    Used,
    /// The largest first.
    Value,
    /// What ends soonest first.
    Left,
    /// By limit and values.
    Name,
    /// What was used last first.
    LastUse,
}

impl Order {
    /// As a request says it.
    pub fn word(self) -> &'static str {
        match self {
            Order::Used => "used",
            Order::Value => "value",
            Order::Left => "left",
            Order::Name => "name",
            Order::LastUse => "last-use",
        }
    }

    fn compare(self, one: &Value, other: &Value) -> Ordering {
        let number = |counter: &Value, name: &str| counter[name].as_u64().unwrap_or(0);
        let by_name = |counter: &Value| (plain(&counter["limit"]), counter["values"].to_string());
        let first = match self {
            Order::Used => used(other).total_cmp(&used(one)),
            Order::Value => number(other, "value").cmp(&number(one, "value")),
            Order::Left => {
                number(one, "expires_at_unix_ms").cmp(&number(other, "expires_at_unix_ms"))
            }
            Order::LastUse => {
                number(other, "last_use_unix_ms").cmp(&number(one, "last_use_unix_ms"))
            }
            Order::Name => Ordering::Equal,
        };
        first.then_with(|| by_name(one).cmp(&by_name(other)))
    }

    /// Adds the counters of a page, and keeps those that come first.
    pub fn merge(self, counters: &mut Vec<Value>, page: &Value, max: usize) {
        counters.extend(page["counters"].as_array().into_iter().flatten().cloned());
        counters.sort_by(|one, other| self.compare(one, other));
        counters.truncate(max);
    }
}

fn used(counter: &Value) -> f64 {
    let value = counter["value"].as_u64().unwrap_or(0);
    counter["max"].as_u64().map_or(-1.0, |max| percent(value, max))
}

/// A line for each counter, under how many there are.
pub fn text(listing: &Value) -> String {
    let counters = listing["counters"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut out = format!(
        "{} counters held, {} meant, {} shown\n",
        listing["held"],
        listing["found"],
        counters.len()
    );
    for counter in counters {
        out.push_str(&line(counter));
        out.push('\n');
    }
    out
}

/// What is counted, and how much of its limit that is.
pub fn line(counter: &Value) -> String {
    let mut line = name(counter);
    let written = match counter["max"].as_u64() {
        Some(max) => write!(line, ": {} of {max} ({}%)", counter["value"], used(counter)),
        None => write!(line, ": {}", counter["value"]),
    };
    written.expect("text takes what is written");
    line
}

/// The limit, and what it counts apart.
pub fn name(counter: &Value) -> String {
    let labels = counter["labels"].as_object().filter(|labels| !labels.is_empty());
    let parts: Vec<String> = match labels {
        Some(labels) => {
            labels.iter().map(|(label, value)| format!("{label}={}", plain(value))).collect()
        }
        None => counter["values"].as_array().into_iter().flatten().map(plain).collect(),
    };
    format!("{} {}", plain(&counter["limit"]), parts.join(" ")).trim_end().to_owned()
}
