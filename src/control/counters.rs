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
    let mut json = cell(&explained.cell);
    json["replica"] = explained.replica.to_string().into();
    json["brought_by"] = explained.bringers.links.iter().map(brought).collect();
    json["updates_by_others"] = explained.bringers.by_others.into();
    json
}

fn brought(brought: &Brought) -> Value {
    let mut json = link(&brought.link);
    json["updates"] = brought.updates.into();
    json["last_unix_ms"] = brought.last.0.into();
    json
}

fn crossing(crossing: &Crossing) -> Value {
    let mut json = Value::Object(key(&crossing.key));
    json["replica"] = crossing.replica.to_string().into();
    json["cell"] = cell(&crossing.cell);
    json["before"] = crossing.before.into();
    json["after"] = crossing.after.into();
    json["max"] = crossing.max.into();
    json["brought_by"] = link(&crossing.link);
    json["at_unix_ms"] = crossing.at.0.into();
    json
}

fn cell(cell: &Cell) -> Value {
    json!({ "version": cell.version.0, "p": cell.p, "n": cell.n })
}

fn link(link: &LinkName) -> Value {
    json!({ "node": link.node.as_str(), "key": link.key, "address": link.address })
}
