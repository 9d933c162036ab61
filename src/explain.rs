//! Where the counts of a counter come from: whose cells it has, which links brought them, and which cells took it over its limit.

use std::sync::Arc;

use tallymesh_core::crdt::Cell;
use tallymesh_core::id::ReplicaId;
use tallymesh_core::table::{Bringers, Crossing};

use crate::engine::Engine;
use crate::selection::{Counted, CounterOrder, Cursor, Selection};

/// Where counts come from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explanation {
    /// The counters of the page that are meant, those of which most is used first.
    pub counters: Vec<ExplainedCounter>,
    /// How many counters of the page are meant, also those that were too many.
    pub found: usize,
    /// The cells that took a counter that is meant over its limit, of the last 4,096 that took any: the latest first, as many as were
    /// asked for. The same on each page.
    pub crossings: Vec<Arc<Crossing>>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<Cursor>,
}

/// A counter, cell by cell.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExplainedCounter {
    /// The counter.
    pub counted: Counted,
    /// Its cells, at most 256: those that count most first.
    pub cells: Vec<ExplainedCell>,
}

/// One replica's cell of a counter.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExplainedCell {
    /// Whose it is.
    pub replica: ReplicaId,
    /// What it counts.
    pub cell: Cell,
    /// By which links updates of this replica came since the start, of this counter or any other. None of the own replica, and of one
    /// that was read from the disk and not heard since.
    pub bringers: Bringers,
}

/// The most cells of a counter that are explained.
const CELLS_MAX: usize = 256;

impl Engine {
    /// Explains the counters of one page that are meant, at most `max`.
    pub(crate) fn explain(
        &self,
        selection: &Selection,
        max: usize,
        after: Option<Cursor>,
    ) -> Explanation {
        let page = self.page(selection, CounterOrder::Used, max, after);
        let limits = self.policy().limits();
        let crossings = self.table().crossings().into_iter();
        let crossings = crossings.filter(|crossing| selection.means(limits, &crossing.key));
        Explanation {
            found: page.found,
            next: page.next,
            counters: page.counters.into_iter().map(|counted| self.explained(counted)).collect(),
            crossings: crossings.take(max).collect(),
        }
    }

    fn explained(&self, counted: Counted) -> ExplainedCounter {
        // One that was swept meanwhile has none.
        let cells = self.table().counter(counted.key.as_bytes()).map(|counter| counter.cells);
        let mut cells = cells.unwrap_or_default();
        let net = |cell: &Cell| cell.p.saturating_sub(cell.n);
        cells.sort_by(|(one, first), (other, second)| {
            net(second).cmp(&net(first)).then_with(|| one.cmp(other))
        });
        cells.truncate(CELLS_MAX);
        let explained = |(replica, cell): (ReplicaId, Cell)| {
            let bringers = self.table().bringers(&replica);
            ExplainedCell { replica, cell, bringers }
        };
        ExplainedCounter { counted, cells: cells.into_iter().map(explained).collect() }
    }
}
