//! Where counts come from, for people.

use std::fmt::Write;

use serde_json::Value;
use tallymesh::Timestamp;

use super::counters::{line, name};
use super::status::plain;

/// Counter by counter, each cell with the links that brought its replica's updates; then what took counters over their limits.
pub fn text(explanation: &Value) -> String {
    let mut out = String::new();
    write(&mut out, explanation).expect("text takes what is written");
    out
}

fn write(out: &mut String, explanation: &Value) -> std::fmt::Result {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let counters = list(&explanation["counters"]);
    if counters.is_empty() {
        writeln!(out, "no counter is meant")?;
    }
    for counter in &counters {
        writeln!(out, "{}", line(counter))?;
        let cells = list(&counter["by_replica"]);
        for cell in &cells {
            let (p, n, version) = (&cell["p"], &cell["n"], &cell["version"]);
            writeln!(out, "  {}  +{p} -{n} (version {version})", plain(&cell["replica"]))?;
            for link in list(&cell["brought_by"]) {
                let (updates, last) = (&link["updates"], moment(&link["last_unix_ms"]));
                writeln!(out, "    {updates} updates by {}, last at {last}", self::link(&link))?;
            }
            if cell["updates_by_others"] != 0 {
                writeln!(out, "    {} updates by links before those", cell["updates_by_others"])?;
            }
        }
        let left_out = counter["cells"].as_u64().unwrap_or(0).saturating_sub(cells.len() as u64);
        if left_out > 0 {
            writeln!(out, "  and {left_out} cells that count less")?;
        }
    }
    let crossings = list(&explanation["crossings"]);
    if !crossings.is_empty() {
        writeln!(out, "\ntaken to the limit or over it by a cell of a peer, the latest first")?;
    }
    for crossing in &crossings {
        let (before, after, max) = (&crossing["before"], &crossing["after"], &crossing["max"]);
        writeln!(out, "  {}  {}", moment(&crossing["at_unix_ms"]), name(crossing))?;
        writeln!(
            out,
            "    from {before} to {after} of {max}, by +{} of {}",
            crossing["cell"]["p"],
            plain(&crossing["replica"])
        )?;
        writeln!(out, "    brought by {}", link(&crossing["brought_by"]))?;
    }
    Ok(())
}

fn link(link: &Value) -> String {
    let mut text = plain(&link["node"]);
    for (name, word) in [("address", "at"), ("key", "with key")] {
        if let Some(value) = link[name].as_str() {
            text = format!("{text} {word} {value}");
        }
    }
    text
}

fn moment(unix_ms: &Value) -> String {
    Timestamp(unix_ms.as_u64().unwrap_or(0)).to_string()
}
