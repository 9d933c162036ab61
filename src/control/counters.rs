//! Counters, and where their counts come from, as JSON.

use serde_json::{Map, Value, json};

use crate::explain::{ExplainedCell, ExplainedCounter, Explanation};
use crate::selection::{Counted, CounterPage};
use tallymesh_core::crdt::Cell;
use tallymesh_core::key::CounterKey;
use tallymesh_core::link::LinkName;
use tallymesh_core::table::{Brought, Crossing};

/// A page of counters.
pub(super) fn page(page: &CounterPage, counters: usize) -> Value {
    json!({
        "held": counters,
        "found": page.found,
        "visited": page.visited,
        "counters": page.counters.iter().map(|one| Value::Object(counted(one))).collect::<Vec<_>>(),
        "next": page.next.map(|next| next.to_string()),
    })
}

/// A page of counters, each cell by cell.
pub(super) fn explanation(explanation: &Explanation) -> Value {
    let crossings = explanation.crossings.iter().map(|crossing| self::crossing(crossing));
    json!({
        "found": explanation.found,
        "counters": explanation.counters.iter().map(explained).collect::<Vec<_>>(),
        "crossings": crossings.collect::<Vec<_>>(),
        "next": explanation.next.map(|next| next.to_string()),
    })
}

fn counted(counted: &Counted) -> Map<String, Value> {
    let text = |(label, value): &(String, String)| (label.clone(), value.as_str().into());
    let labels: Map<String, Value> = counted.labels.iter().map(text).collect();
    let mut json = key(&counted.key);
    json.extend([
        ("labels".to_owned(), Value::Object(labels)),
        ("value".to_owned(), counted.value.into()),
        ("max".to_owned(), json!(counted.max)),
        ("generation".to_owned(), counted.generation.into()),
        ("expires_at_unix_ms".to_owned(), counted.expires_at.0.into()),
        ("last_use_unix_ms".to_owned(), json!(counted.last_use.map(|use_| use_.0))),
        ("cells".to_owned(), counted.cells.into()),
    ]);
    json
}

fn key(key: &CounterKey) -> Map<String, Value> {
    Map::from_iter([
        ("limit".to_owned(), key.limit().into()),
        ("values".to_owned(), key.values().collect::<Vec<_>>().into()),
        ("window_start_unix_ms".to_owned(), json!(key.window().map(|window| window.start().0))),
    ])
}

fn explained(explained: &ExplainedCounter) -> Value {
    let mut json = counted(&explained.counted);
    let by_replica: Vec<Value> = explained.cells.iter().map(by_replica).collect();
    json.insert("by_replica".to_owned(), by_replica.into());
    Value::Object(json)
}

fn by_replica(explained: &ExplainedCell) -> Value {
    let Cell { version, p, n } = explained.cell;
    json!({
        "replica": explained.replica.to_string(),
        "version": version.0,
        "p": p,
        "n": n,
        "brought_by": explained.bringers.links.iter().map(brought).collect::<Vec<_>>(),
        "updates_by_others": explained.bringers.by_others,
    })
}

fn brought(brought: &Brought) -> Value {
    let LinkName { node, key, address } = &*brought.link;
    json!({
        "node": node.as_str(),
        "key": key,
        "address": address,
        "updates": brought.updates,
        "last_unix_ms": brought.last.0,
    })
}

fn crossing(crossing: &Crossing) -> Value {
    let (Cell { version, p, n }, LinkName { node, key, address }) =
        (crossing.cell, &*crossing.link);
    let mut json = self::key(&crossing.key);
    json.extend([
        ("replica".to_owned(), crossing.replica.to_string().into()),
        ("cell".to_owned(), json!({ "version": version.0, "p": p, "n": n })),
        ("before".to_owned(), crossing.before.into()),
        ("after".to_owned(), crossing.after.into()),
        ("max".to_owned(), crossing.max.into()),
        ("brought_by".to_owned(), json!({ "node": node.as_str(), "key": key, "address": address })),
        ("at_unix_ms".to_owned(), crossing.at.0.into()),
    ]);
    Value::Object(json)
}
