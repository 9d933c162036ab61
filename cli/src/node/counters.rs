//! The command `counters`: which counters, in which order, and what is said of each.

use std::cmp::{Ordering, Reverse};

use serde_json::{Value, json};
use tallymesh::{CounterState, CounterStore, Limit, Limiter};
use wildmatch::WildMatch;

use crate::inspect::counter_json;
use crate::usage::percent;

/// What is asked for.
#[derive(Debug, Default)]
pub(super) struct Selection {
    limit: Option<WildMatch>,
    labels: Vec<(String, WildMatch)>,
    order: Order,
    top: Option<usize>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Order {
    /// By how much of its limit is used, the fullest first; last what belongs to no limit.
    #[default]
    Used,
    /// The largest first.
    Value,
    /// What ends soonest first.
    Left,
    /// By limit and values.
    Name,
}

/// A counter, and the limit that counts in it.
#[derive(Debug)]
pub(super) struct Counted<'a> {
    state: CounterState,
    /// `None` for a counter that belongs to no limit in force.
    limit: Option<&'a Limit>,
}

impl Selection {
    /// Reads `label=pattern` and the options.
    ///
    /// # Errors
    /// When a word is neither; names it, and what is allowed.
    pub(super) fn parse(words: &[&str]) -> Result<Selection, String> {
        let mut selection = Selection::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let Some(option) = word.strip_prefix("--") else {
                let (label, pattern) = word.split_once('=').ok_or_else(|| {
                    format!("{word:?} is neither label=value nor --limit, --sort or --top")
                })?;
                selection.labels.push((label.to_owned(), WildMatch::new(pattern)));
                continue;
            };
            let (option, value) = match option.split_once('=') {
                Some((option, value)) => (option, Some(value)),
                None => (option, words.next().copied()),
            };
            selection.set(option, value)?;
        }
        Ok(selection)
    }

    fn set(&mut self, option: &str, value: Option<&str>) -> Result<(), String> {
        let given = |allowed: &str| {
            value.ok_or_else(|| format!("--{option} has no value; allowed is {allowed}"))
        };
        match option {
            "limit" => {
                let pattern = given("a limit's name; * stands for any text, ? for one character")?;
                self.limit = Some(WildMatch::new(pattern));
            }
            "sort" => {
                const ALLOWED: &str = "used, value, left or name";
                self.order = match given(ALLOWED)? {
                    "used" => Order::Used,
                    "value" => Order::Value,
                    "left" => Order::Left,
                    "name" => Order::Name,
                    other => return Err(format!("--sort {other} is unknown; use {ALLOWED}")),
                };
            }
            "top" => {
                let number = given("a number")?;
                let number = number.parse();
                self.top = Some(number.map_err(|_| "--top takes a number".to_owned())?);
            }
            other => {
                return Err(format!("--{other} is no option; use --limit, --sort or --top"));
            }
        }
        Ok(())
    }

    /// The counters that are asked for, in the order that is asked for.
    pub(super) fn of<'a>(&self, limiter: &'a Limiter) -> Vec<Counted<'a>> {
        let limits: Vec<&Limit> = limiter.limits().collect();
        let counted = limiter.counters().iter().map(|state| {
            let limit = limits.iter().copied().find(|limit| limit.counts_in(&state.key));
            Counted { state, limit }
        });
        let mut counted: Vec<Counted<'_>> = counted.filter(|one| self.has(one)).collect();
        counted.sort_by(|one, other| {
            self.order.compare(one, other).then_with(|| Order::Name.compare(one, other))
        });
        counted.truncate(self.top.unwrap_or(usize::MAX));
        counted
    }

    fn has(&self, counted: &Counted<'_>) -> bool {
        let is_of_limit =
            self.limit.as_ref().is_none_or(|pattern| pattern.matches(counted.state.key.limit()));
        let has_label = |(label, pattern): &(String, WildMatch)| {
            counted.labels().any(|(held, value)| held == label && pattern.matches(value))
        };
        is_of_limit && self.labels.iter().all(has_label)
    }
}

impl Order {
    fn compare(self, one: &Counted<'_>, other: &Counted<'_>) -> Ordering {
        match self {
            Order::Used => {
                other.percent().unwrap_or(-1.0).total_cmp(&one.percent().unwrap_or(-1.0))
            }
            Order::Value => Reverse(one.state.value).cmp(&Reverse(other.state.value)),
            Order::Left => one.state.expires_at.cmp(&other.state.expires_at),
            Order::Name => {
                let (one, other) = (&one.state.key, &other.state.key);
                one.limit().cmp(other.limit()).then_with(|| one.values().cmp(other.values()))
            }
        }
    }
}

impl Counted<'_> {
    /// The labels that it counts apart by, with their values.
    fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        let labels = self.limit.into_iter().flat_map(Limit::per_labels);
        labels.zip(self.state.key.values())
    }

    fn percent(&self) -> Option<f64> {
        self.limit.map(|limit| percent(self.state.value, limit.max()))
    }

    /// The counter for programs.
    pub(super) fn json(&self, store: &CounterStore) -> Value {
        let labels = self.labels().map(|(label, value)| (label.to_owned(), value.into()));
        let left = store.wait_until(self.state.expires_at);
        let mut json = counter_json(&self.state);
        json["labels"] = Value::Object(labels.collect());
        json["max"] = json!(self.limit.map(Limit::max));
        json["percent"] = json!(self.percent());
        json["left_ms"] = json!(left.as_nanos().div_ceil(1_000_000) as u64);
        json
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tallymesh::{Config, CounterKey, Request, Window};

    use super::*;

    #[test]
    fn what_cannot_be_read_is_named_with_what_is_allowed() {
        for (words, expected) in [
            (&["session"][..], "\"session\" is neither label=value nor --limit"),
            (&["--sort", "size"], "--sort size is unknown; use used, value, left or name"),
            (&["--sort"], "--sort has no value; allowed is used,"),
            (&["--top=many"], "--top takes a number"),
            (&["--all"], "--all is no option; use --limit"),
        ] {
            let message = Selection::parse(words).unwrap_err();
            assert!(message.starts_with(expected), "{message}");
        }
    }

    /// A limiter with two limits, and a counter that belongs to none.
    async fn limiter() -> Limiter {
        let limits = [
            Limit::new("calls per user", 4, Window::Fixed(Duration::from_secs(366 * 24 * 3600)))
                .per("user"),
            Limit::new("bookings", 10, Window::Session { ttl: Duration::from_secs(3600) })
                .per("session")
                .per("tool")
                .when("tool", "book_*"),
        ];
        let config = Config::builder("a").in_memory();
        let config = limits.into_iter().fold(config, tallymesh::ConfigBuilder::limit);
        let limiter = Limiter::open(config.build().unwrap()).await.unwrap();
        let book = |session, tool, cost| {
            let request = Request::tool_call(session, tool).with("user", "u1").cost(cost);
            assert!(limiter.acquire(&request).is_allowed());
        };
        book("s1", "book_a", 1);
        book("s2", "book_b", 2);
        limiter.counters().add(&CounterKey::new("bookings", &["s9", "t"]).unwrap(), 50).unwrap();
        limiter
    }

    #[tokio::test]
    async fn each_counter_has_its_limit_and_they_are_sorted_and_filtered() {
        let limiter = limiter().await;
        let shown = |words: &[&str]| -> Vec<String> {
            let counted = Selection::parse(words).unwrap().of(&limiter);
            let show = |one: &Counted<'_>| {
                let json = one.json(limiter.counters());
                assert!(json["left_ms"].as_u64().unwrap() > 0, "{json}");
                format!(
                    "{} {} of {} {}",
                    json["values"], json["value"], json["max"], json["percent"]
                )
            };
            counted.iter().map(show).collect()
        };
        let (user, one) = (r#"["u1"] 3 of 4 75.0"#, r#"["s1","book_a"] 1 of 10 10.0"#);
        let two = r#"["s2","book_b"] 2 of 10 20.0"#;
        let plain = r#"["s9","t"] 50 of null null"#;
        assert_eq!(shown(&[]), [user, two, one, plain]);
        assert_eq!(shown(&["--sort", "value"]), [plain, user, two, one]);
        assert_eq!(shown(&["--sort=name"]), [one, two, plain, user]);
        assert_eq!(shown(&["--sort", "left"]).last().unwrap(), user);
        assert_eq!(shown(&["--top", "1"]), [user]);
        assert_eq!(shown(&["--limit", "calls*", "--sort", "used"]), [user]);
        assert_eq!(shown(&["session=s2"]), [two]);
        assert_eq!(shown(&["tool=book_*", "session=s*", "--sort=name", "--top=9"]), [one, two]);
        assert_eq!(shown(&["user=u2"]), Vec::<String>::new());
        limiter.close().await.unwrap();
    }
}
