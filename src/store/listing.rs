//! Listings of a store's counters by pattern, a page at a time, and where their counts come from.

use super::CounterStore;
use crate::explain::Explanation;
use crate::selection::{CounterOrder, CounterPage, Cursor, Selection};

impl CounterStore {
    /// One page of the counters that are meant: of those that the next 4,096 slots of the table hold, the `max` that come first in this
    /// order. `after` is where the former page ended, and `None` for the first. Nothing is waited for, and no lock is held for longer than
    /// 32 counters take.
    ///
    /// ```
    /// # use tallymesh::{Config, CounterKey, CounterOrder, CounterStore, Selection};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let store = CounterStore::open(Config::builder("a").in_memory().build()?).await?;
    /// store.add(&CounterKey::new("tokens", &["s1"])?, 700)?;
    /// // The ten largest of all, however many there are:
    /// let (mut largest, mut after) = (Vec::new(), None);
    /// loop {
    ///     let page = store.page(&Selection::all(), CounterOrder::Value, 10, after);
    ///     largest.extend(page.counters);
    ///     largest.sort_by_key(|counter| std::cmp::Reverse(counter.value));
    ///     largest.truncate(10);
    ///     after = page.next;
    ///     if after.is_none() {
    ///         break;
    ///     }
    /// }
    /// assert_eq!(largest[0].value, 700);
    /// # Ok(())
    /// # }
    /// ```
    pub fn page(
        &self,
        selection: &Selection,
        order: CounterOrder,
        max: usize,
        after: Option<Cursor>,
    ) -> CounterPage {
        self.engine.page(selection, order, max, after)
    }

    /// Where the counts of the counters that are meant come from, a page at a time as [`page`](Self::page): whose cells they have, which
    /// links brought updates of those replicas, when last and how many, and which cells took a counter over its limit. At most `max`
    /// counters and `max` crossings. What links brought is of this start of the instance, and what it recovered from disk came by none.
    ///
    /// ```
    /// # use tallymesh::{Config, CounterKey, CounterStore, Selection};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let store = CounterStore::open(Config::builder("a").in_memory().build()?).await?;
    /// store.add(&CounterKey::new("tokens", &["s1"])?, 700)?;
    /// let explanation = store.explain(&Selection::all().limit("tokens"), 10, None);
    /// let cell = &explanation.counters[0].cells[0];
    /// assert_eq!((&cell.replica, cell.cell.p), (&store.replica(), 700));
    /// assert!(cell.bringers.links.is_empty(), "it was counted here");
    /// # Ok(())
    /// # }
    /// ```
    pub fn explain(&self, selection: &Selection, max: usize, after: Option<Cursor>) -> Explanation {
        self.engine.explain(selection, max, after)
    }
}
