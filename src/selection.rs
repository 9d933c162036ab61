//! Which counters are meant, by patterns, and listings of them: a page at a time, so that a listing of any length holds up nothing.

use std::cmp::{Ordering, Reverse};
use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use tallymesh_core::key::CounterKey;
use tallymesh_core::limit::Limit;
use tallymesh_core::table::{CountError, CounterSummary, Op, SLOTS_PER_LOCK, SlotId};
use tallymesh_core::time::Timestamp;
use wildmatch::WildMatch;

use crate::engine::Engine;

/// Which counters are meant: those of limits whose name fits a pattern, with labels whose values fit patterns. In a pattern, `*` stands
/// for any text, also none, and `?` for one character; there is no way to mean those two characters themselves.
///
/// A label is one of those that the limit in force counts apart by ([`Limit::per`]); a counter of no limit has a name and no labels.
///
/// ```
/// use tallymesh::Selection;
///
/// // What sessions of one tenant used of all limits on bookings:
/// let bookings = Selection::all().limit("booking*").label("session", "acme-*");
/// ```
#[derive(Debug, Clone, Default)]
#[must_use = "it only says which counters are meant"]
pub struct Selection {
    limit: Option<WildMatch>,
    labels: Vec<(String, WildMatch)>,
}

/// The order of a listing.
///
/// ```
/// use tallymesh::CounterOrder;
///
/// assert_eq!("last-use".parse(), Ok(CounterOrder::LastUse));
/// assert_eq!(CounterOrder::default().to_string(), "used");
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CounterOrder {
    /// By how much of its limit is used, the fullest first; last what belongs to no limit.
    #[default]
    Used,
    /// The largest first.
    Value,
    /// What ends soonest first.
    Left,
    /// By limit and values.
    Name,
    /// What was used last first; last the counters of windows, of which that is not noted.
    LastUse,
}

/// What is no order of a listing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no order; use used, value, left, name or last-use")]
pub struct InvalidCounterOrder(String);

/// A counter in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counted {
    /// What it counts.
    pub key: CounterKey,
    /// The labels that it is counted apart by, with their values; none of a counter of no limit in force.
    pub labels: Vec<(String, String)>,
    /// Its value.
    pub value: u64,
    /// The maximum of its limit; `None` if it belongs to no limit in force.
    pub max: Option<u64>,
    /// How often it was reset.
    pub generation: u32,
    /// When it ends.
    pub expires_at: Timestamp,
    /// When it was used last, rounded down to a sixteenth of its time to live; `None` of a window, of which that is not noted.
    pub last_use: Option<Timestamp>,
    /// Of how many replicas it has a cell.
    pub cells: usize,
}

/// Where the next page of a listing begins. It is a place in the table, so it stays good whatever changes between two pages: a counter
/// that is there throughout is listed once, one that comes or goes meanwhile is listed or not.
///
/// ```
/// use tallymesh::Cursor;
///
/// // What a client keeps between two requests:
/// let cursor: Cursor = "4097".parse()?;
/// assert_eq!(cursor.to_string(), "4097");
/// # Ok::<(), std::num::ParseIntError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor(SlotId);

/// A page of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CounterPage {
    /// The counters of the page that are meant, in order: as many as were asked for.
    pub counters: Vec<Counted>,
    /// How many counters of the page are meant, also those that were too many.
    pub found: usize,
    /// How many slots of the table were looked at: at most 4,096.
    pub visited: usize,
    /// Where the next page begins; `None` after the last.
    pub next: Option<Cursor>,
}

/// How many slots a page looks at, a few under each lock.
const PAGE_SLOTS_MAX: usize = 4096;

impl Selection {
    /// All counters.
    pub fn all() -> Selection {
        Selection::default()
    }

    /// Only those of limits (or with a name, of no limit) whose name fits this pattern.
    pub fn limit(mut self, pattern: &str) -> Selection {
        self.limit = Some(WildMatch::new(pattern));
        self
    }

    /// Only those that have this label, with a value that fits this pattern.
    pub fn label(mut self, label: impl Into<String>, pattern: &str) -> Selection {
        self.labels.push((label.into(), WildMatch::new(pattern)));
        self
    }

    /// The counter, if it is meant.
    fn take(&self, limits: &[Limit], counter: CounterSummary) -> Option<Counted> {
        let name = counter.key.limit();
        if self.limit.as_ref().is_some_and(|pattern| !pattern.matches(name)) {
            return None;
        }
        let limit = limits.iter().find(|limit| limit.counts_in(&counter.key));
        let labels = limit.into_iter().flat_map(Limit::per_labels).zip(counter.key.values());
        let labels: Vec<(String, String)> =
            labels.map(|(label, value)| (label.to_owned(), value.to_owned())).collect();
        let has = |(label, pattern): &(String, WildMatch)| {
            labels.iter().any(|(held, value)| held == label && pattern.matches(value))
        };
        self.labels.iter().all(has).then_some(Counted {
            labels,
            value: counter.value,
            max: limit.map(Limit::max),
            generation: counter.generation,
            expires_at: counter.expires_at,
            last_use: counter.last_use,
            cells: counter.cells,
            key: counter.key,
        })
    }

    /// Whether the counter of this key is meant.
    pub(crate) fn means(&self, limits: &[Limit], key: &CounterKey) -> bool {
        let name_fits = self.limit.as_ref().is_none_or(|pattern| pattern.matches(key.limit()));
        if !name_fits || self.labels.is_empty() {
            return name_fits;
        }
        let Some(limit) = limits.iter().find(|limit| limit.counts_in(key)) else { return false };
        self.labels.iter().all(|(label, pattern)| {
            let mut held = limit.per_labels().zip(key.values());
            held.any(|(of, value)| of == label && pattern.matches(value))
        })
    }
}

impl CounterOrder {
    /// Which of two comes first; between equals, by name.
    pub(crate) fn compare(self, one: &Counted, other: &Counted) -> Ordering {
        let by_name = || {
            let (one, other) = (&one.key, &other.key);
            one.limit().cmp(other.limit()).then_with(|| one.values().cmp(other.values()))
        };
        let first = match self {
            CounterOrder::Used => other.used().total_cmp(&one.used()),
            CounterOrder::Value => Reverse(one.value).cmp(&Reverse(other.value)),
            CounterOrder::Left => one.expires_at.cmp(&other.expires_at),
            CounterOrder::LastUse => other.last_use.cmp(&one.last_use),
            CounterOrder::Name => Ordering::Equal,
        };
        first.then_with(by_name)
    }
}

impl Counted {
    /// How much of the limit is used, 1 for all of it; less than nothing where there is no limit.
    fn used(&self) -> f64 {
        match self.max {
            None => -1.0,
            // Of a maximum of 0, all is used from the start.
            Some(0) => self.value.max(1) as f64,
            Some(max) => self.value as f64 / max as f64,
        }
    }
}

impl Engine {
    /// The counters of one page that are meant and have not ended; of more than `max`, those that come first in this order.
    pub(crate) fn page(
        &self,
        selection: &Selection,
        order: CounterOrder,
        max: usize,
        after: Option<Cursor>,
    ) -> CounterPage {
        let (now, limits) = (self.now(), self.policy().limits());
        let (mut counters, mut visited) = (Vec::new(), 0);
        let mut next = after.map(|cursor| cursor.0);
        for _ in 0..PAGE_SLOTS_MAX / SLOTS_PER_LOCK {
            let (some, slots, following) = self.table().summaries(next);
            visited += slots;
            next = following;
            let live = some.into_iter().filter(|counter| counter.expires_at > now);
            counters.extend(live.filter_map(|counter| selection.take(limits, counter)));
            if next.is_none() {
                break;
            }
        }
        let found = counters.len();
        counters.sort_by(|one, other| order.compare(one, other));
        counters.truncate(max);
        CounterPage { counters, found, visited, next: next.map(Cursor) }
    }
}

/// What became of a page of a reset.
pub(crate) struct ResetPage {
    pub resets: usize,
    pub next: Option<Cursor>,
}

impl Engine {
    /// Resets the counters of one page that are meant.
    ///
    /// # Errors
    /// When the instance is closed.
    pub(crate) fn reset_page(
        &self,
        selection: &Selection,
        after: Option<Cursor>,
    ) -> Result<ResetPage, CountError> {
        let page = self.page(selection, CounterOrder::Name, usize::MAX, after);
        let mut resets = 0;
        for counted in page.counters {
            match self.table().execute(self.now(), &counted.key, Op::Reset, self.counter_lifetime())
            {
                Ok(result) => {
                    self.executed(result);
                    resets += usize::from(result.applied);
                }
                Err(CountError::Closed) => return Err(CountError::Closed),
                // It has ended meanwhile, or is of a kind that this version does not know.
                Err(_) => {}
            }
        }
        Ok(ResetPage { resets, next: page.next })
    }
}

impl FromStr for CounterOrder {
    type Err = InvalidCounterOrder;

    fn from_str(text: &str) -> Result<CounterOrder, InvalidCounterOrder> {
        let all = [
            CounterOrder::Used,
            CounterOrder::Value,
            CounterOrder::Left,
            CounterOrder::Name,
            CounterOrder::LastUse,
        ];
        let found = all.into_iter().find(|order| order.to_string() == text);
        found.ok_or_else(|| InvalidCounterOrder(text.to_owned()))
    }
}

impl fmt::Display for CounterOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CounterOrder::Used => "used",
            CounterOrder::Value => "value",
            CounterOrder::Left => "left",
            CounterOrder::Name => "name",
            CounterOrder::LastUse => "last-use",
        })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.number())
    }
}

impl FromStr for Cursor {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Cursor, ParseIntError> {
        text.parse().map(|number| Cursor(SlotId::from_number(number)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use tallymesh_core::limit::{Request, Window};

    use super::*;
    use crate::{Config, ConfigBuilder, Limiter};

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
        let config =
            limits.into_iter().fold(Config::builder("a").in_memory(), ConfigBuilder::limit);
        let limiter = Limiter::open(config.build().unwrap()).await.unwrap();
        for (session, tool, cost) in [("s1", "book_a", 1), ("s2", "book_b", 2)] {
            let request = Request::tool_call(session, tool).with("user", "u1").cost(cost);
            assert!(limiter.acquire(&request).is_allowed());
        }
        limiter.counters().add(&CounterKey::new("bookings", &["s9", "t"]).unwrap(), 50).unwrap();
        limiter
    }

    #[tokio::test]
    async fn counters_are_chosen_by_patterns_and_put_in_order() {
        let limiter = limiter().await;
        let shown = |selection: Selection, order: &str, max: usize| -> Vec<String> {
            let page = limiter.counters().page(&selection, order.parse().unwrap(), max, None);
            assert_eq!((page.next, page.visited), (None, 4));
            let show = |one: &Counted| one.key.values().collect::<Vec<_>>().join(" ");
            page.counters.iter().map(show).collect()
        };
        let all = Selection::all;
        assert_eq!(shown(all(), "used", 9), ["u1", "s2 book_b", "s1 book_a", "s9 t"]);
        assert_eq!(shown(all(), "value", 9), ["s9 t", "u1", "s2 book_b", "s1 book_a"]);
        assert_eq!(shown(all(), "name", 2), ["s1 book_a", "s2 book_b"]);
        assert_eq!(shown(all(), "last-use", 9).last().unwrap(), "u1");
        assert_eq!(shown(all(), "left", 9).last().unwrap(), "u1");
        assert_eq!(shown(all().limit("calls*"), "used", 9), ["u1"]);
        assert_eq!(shown(all().limit("bookings"), "name", 9).len(), 3);
        assert_eq!(shown(all().label("session", "s?"), "name", 9), ["s1 book_a", "s2 book_b"]);
        let two = all().label("session", "s*").label("tool", "*_b");
        assert_eq!(shown(two, "name", 9), ["s2 book_b"]);
        assert_eq!(shown(all().label("user", "u2"), "used", 9), Vec::<String>::new());
        assert!("size".parse::<CounterOrder>().unwrap_err().to_string().contains("last-use"));
        limiter.close().await.unwrap();
    }

    /// Pages of a table that changes: bounded, and without losing or repeating what stays.
    #[tokio::test]
    async fn a_page_is_bounded_and_a_cursor_outlives_changes() {
        const STAY: usize = 10_000;
        let limiter =
            Limiter::open(Config::builder("a").in_memory().build().unwrap()).await.unwrap();
        let store = limiter.counters();
        let key =
            |name: &str, number: usize| CounterKey::new(name, &[&number.to_string()]).unwrap();
        let add = |name: &str, number: usize| {
            store.add(&key(name, number), 1).unwrap();
        };
        (0..STAY).for_each(|number| add("stays", number));
        let (mut seen, mut after, mut pages) = (Vec::new(), None, 0);
        loop {
            let page =
                store.page(&Selection::all().limit("stays"), CounterOrder::Name, usize::MAX, after);
            assert!(page.visited <= PAGE_SLOTS_MAX, "{}", page.visited);
            seen.extend(page.counters.iter().map(|one| one.key.clone()));
            pages += 1;
            // Others come, and some change, between two pages.
            (0..500).for_each(|number| add("comes", pages * 1_000 + number));
            (0..500).for_each(|number| add("stays", number));
            match page.next {
                Some(next) => after = Some(next.to_string().parse().unwrap()),
                None => break,
            }
        }
        assert!(pages >= 3, "{pages}");
        assert_eq!(seen.len(), STAY, "each that stays is there once");
        assert_eq!(seen.into_iter().collect::<BTreeSet<_>>().len(), STAY);
        // A cursor that was made up leads to no counter, or to some.
        let page = store.page(
            &Selection::all(),
            CounterOrder::Name,
            1,
            Some("4294967295".parse().unwrap()),
        );
        assert!(page.counters.is_empty() && page.next.is_none());
        limiter.close().await.unwrap();
    }
}
