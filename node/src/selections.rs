//! Counters by pattern, a page at a time, and where their counts come from.

use std::collections::HashMap;

use napi::Result;
use napi::bindgen_prelude::BigInt;
use napi_derive::napi;
use tallymesh::{
    Brought, Counted, CounterKey, CounterOrder, Crossing, Cursor, ExplainedCell, ExplainedCounter,
    LinkName, Selection,
};

use crate::decisions::number;
use crate::error::{self, Code, error, guard};
use crate::limiters::with;

/// Which counters are meant, how many, in which order, from where on.
#[napi(object, object_to_js = false)]
pub struct Query {
    /// A pattern of the names of limits.
    pub limit: Option<String>,
    /// A pattern for each label.
    pub labels: Option<HashMap<String, String>>,
    /// The order.
    pub sort: Option<String>,
    /// How many.
    pub max: u32,
    /// Where the former page ended.
    pub after: Option<String>,
}

/// A counter of a page.
#[napi(object, object_from_js = false)]
pub struct CountedReport {
    /// The name of the limit that counts in it.
    pub limit: String,
    /// The values of the labels that it is counted apart for.
    pub values: Vec<String>,
    /// The labels of those.
    pub labels: HashMap<String, String>,
    /// When its window began, in milliseconds since 1970.
    pub window_start: Option<f64>,
    /// Its value.
    pub value: BigInt,
    /// The maximum of its limit.
    pub max: Option<f64>,
    /// How often it was reset.
    pub generation: u32,
    /// When it ends, in milliseconds since 1970.
    pub expires_at: f64,
    /// When it was used last, in milliseconds since 1970.
    pub last_use: Option<f64>,
    /// Of how many replicas it has a cell.
    pub cells: u32,
}

/// A page of counters.
#[napi(object, object_from_js = false)]
pub struct CounterPage {
    /// Those that come first.
    pub counters: Vec<CountedReport>,
    /// How many are meant.
    pub found: u32,
    /// How many slots were looked at.
    pub visited: u32,
    /// Where the next page begins.
    pub next: Option<String>,
}

/// A link by its name.
#[napi(object, object_from_js = false)]
pub struct LinkReport {
    /// Which node the peer says that it is.
    pub node: String,
    /// The fingerprint of the key that it has proven.
    pub key: Option<String>,
    /// Its address.
    pub address: Option<String>,
}

/// What a link brought of a replica.
#[napi(object, object_from_js = false)]
pub struct BroughtReport {
    /// The link.
    pub link: LinkReport,
    /// How many updates that were new.
    pub updates: f64,
    /// When it brought the last, in milliseconds since 1970.
    pub last: f64,
}

/// A cell of a counter.
#[napi(object, object_from_js = false)]
pub struct CellReport {
    /// Whose it is.
    pub replica: String,
    /// Its version.
    pub version: f64,
    /// What was added.
    pub p: f64,
    /// What was taken back.
    pub n: f64,
    /// Which links brought updates of the replica.
    pub brought_by: Vec<BroughtReport>,
    /// How many came by links that are not remembered.
    pub updates_by_others: f64,
}

/// A counter, cell by cell.
#[napi(object, object_from_js = false)]
pub struct ExplainedReport {
    /// The counter.
    pub counter: CountedReport,
    /// Its cells.
    pub by_replica: Vec<CellReport>,
}

/// A cell that took a counter to its limit or over it.
#[napi(object, object_from_js = false)]
pub struct CrossingReport {
    /// The name of the limit.
    pub limit: String,
    /// The values of the labels.
    pub values: Vec<String>,
    /// Whose cell it was.
    pub replica: String,
    /// What the cell had added.
    pub p: f64,
    /// What the cell had taken back.
    pub n: f64,
    /// The counter's value before.
    pub before: BigInt,
    /// The counter's value after.
    pub after: BigInt,
    /// The maximum of the limit.
    pub max: f64,
    /// By which link.
    pub brought_by: LinkReport,
    /// When, in milliseconds since 1970.
    pub at: f64,
}

/// Where counts come from.
#[napi(object, object_from_js = false)]
pub struct ExplanationReport {
    /// The counters.
    pub counters: Vec<ExplainedReport>,
    /// How many are meant.
    pub found: u32,
    /// What took counters over their limits.
    pub crossings: Vec<CrossingReport>,
    /// Where the next page begins.
    pub next: Option<String>,
}

/// One page of the counters that are meant.
#[napi]
pub fn counter_page(limiter: u32, query: Query) -> Result<CounterPage> {
    guard(|| {
        with(limiter, |local| {
            let order = query.sort.as_deref().map_or(Ok(CounterOrder::default()), str::parse);
            let order = order.map_err(|why| error(Code::InvalidInput, format!("sort: {why}")))?;
            let (after, max) = (query.after()?, query.max as usize);
            let page = local.store().page(&query.selection(), order, max, after);
            Ok(CounterPage {
                counters: page.counters.into_iter().map(counted_report).collect(),
                found: page.found as u32,
                visited: page.visited as u32,
                next: page.next.map(|next| next.to_string()),
            })
        })
    })
}

/// Where the counts of one page of counters come from.
#[napi]
pub fn explain(limiter: u32, query: Query) -> Result<ExplanationReport> {
    guard(|| {
        with(limiter, |local| {
            let (after, max) = (query.after()?, query.max as usize);
            let explanation = local.store().explain(&query.selection(), max, after);
            let crossings = explanation.crossings.iter().map(|crossing| crossing_report(crossing));
            Ok(ExplanationReport {
                counters: explanation.counters.into_iter().map(explained_report).collect(),
                found: explanation.found as u32,
                crossings: crossings.collect(),
                next: explanation.next.map(|next| next.to_string()),
            })
        })
    })
}

/// Resets all counters that are meant, of those that this instance holds, on every node. Returns how many there were.
#[napi]
pub fn reset_selected(limiter: u32, query: Query) -> Result<u32> {
    guard(|| {
        with(limiter, |local| {
            let resets = local.shared.limiter.reset(query.selection()).map_err(error::reset)?;
            Ok(resets as u32)
        })
    })
}

impl Query {
    fn selection(&self) -> Selection {
        let all = match &self.limit {
            Some(pattern) => Selection::all().limit(pattern),
            None => Selection::all(),
        };
        let labels = self.labels.iter().flatten();
        labels.fold(all, |selection, (label, pattern)| selection.label(label, pattern))
    }

    fn after(&self) -> Result<Option<Cursor>> {
        let parsed = self.after.as_deref().map(str::parse).transpose();
        parsed.map_err(|_| error(Code::InvalidInput, "after is none that a page had as next"))
    }
}

fn counted_report(counted: Counted) -> CountedReport {
    CountedReport {
        limit: counted.key.limit().to_owned(),
        values: values(&counted.key),
        window_start: counted.key.window().map(|window| number(window.start().0)),
        labels: counted.labels.into_iter().collect(),
        value: counted.value.into(),
        max: counted.max.map(number),
        generation: counted.generation,
        expires_at: number(counted.expires_at.0),
        last_use: counted.last_use.map(|at| number(at.0)),
        cells: counted.cells as u32,
    }
}

fn explained_report(explained: ExplainedCounter) -> ExplainedReport {
    let cell = |explained: ExplainedCell| CellReport {
        replica: explained.replica.to_string(),
        version: number(explained.cell.version.0),
        p: number(explained.cell.p),
        n: number(explained.cell.n),
        brought_by: explained.bringers.links.iter().map(brought_report).collect(),
        updates_by_others: number(explained.bringers.by_others),
    };
    ExplainedReport {
        counter: counted_report(explained.counted),
        by_replica: explained.cells.into_iter().map(cell).collect(),
    }
}

fn brought_report(brought: &Brought) -> BroughtReport {
    BroughtReport {
        link: link_report(&brought.link),
        updates: number(brought.updates),
        last: number(brought.last.0),
    }
}

fn crossing_report(crossing: &Crossing) -> CrossingReport {
    CrossingReport {
        limit: crossing.key.limit().to_owned(),
        values: values(&crossing.key),
        replica: crossing.replica.to_string(),
        p: number(crossing.cell.p),
        n: number(crossing.cell.n),
        before: crossing.before.into(),
        after: crossing.after.into(),
        max: number(crossing.max),
        brought_by: link_report(&crossing.link),
        at: number(crossing.at.0),
    }
}

fn link_report(link: &LinkName) -> LinkReport {
    LinkReport { node: link.node.to_string(), key: link.key.clone(), address: link.address.clone() }
}

fn values(key: &CounterKey) -> Vec<String> {
    key.values().map(str::to_owned).collect()
}
