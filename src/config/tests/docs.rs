//! The rows against `docs/settings.md`, which is written from them.

use std::fmt::Write;
use std::path::Path;

use super::super::settings::{DefaultValue, Kind, SETTINGS, Setting};
use super::builder::methods;

const FRONT: &str = "\
# Settings

The settings of a node. In TOML each is a key of a table (`interval` of `[gossip]`), in Rust a method of `ConfigBuilder`, in
Node.js a property in camelCase (`gossip.interval`, `counters.maxCounters`). Lengths of time are texts with a unit in TOML and Node.js
(`\"50ms\"`, `\"1h 30m\"`, `\"30d\"`) and a `Duration` in Rust; months and years are refused, since they are not of one length. Ranges include both ends. A setting that is unknown or out of range is
refused before anything starts, with its path, its value and what is allowed. The limits are no settings: each is
a `[[limit]]`, as in this file:

```toml
[node]
id = \"orchestrator-1\"
data_dir = \"data/orchestrator-1\"

[gossip]
listen = \"127.0.0.1:7946\"
peers = [\"127.0.0.1:7947\", \"127.0.0.1:7948\"]

[[limit]]
name = \"booking per session\"
when = { tool = \"book_*\" }     # `*` is any text, `?` one character
per = [\"session\"]              # counted apart for each session; without it, one counter for all
when_cut_off = \"share\"         # while members are silent, each side admits its share of what was left; \"deny\": a side of at most half refuses; \"allow\", the default: each goes on by what it sees
when_label_missing = \"deny\"    # a call of no session is denied, which is the default; \"skip\": it is no business of this limit
max = 3
window = \"session\"             # until it was not used for:
session_ttl = \"1h\"

[[limit]]
name = \"calls per minute\"
max = 100
window = \"60s\"                 # fixed, aligned to UTC
```

**Windows.** Fixed windows follow each other since 1970-01-01 00:00 UTC, which was a Thursday: `\"1d\"` begins at midnight UTC, `\"7d\"`
on Thursdays, `\"30d\"` on no certain day of the month. There are no windows by the calendar yet.

**Environment.** Where a *file* is read (`Config::from_file`, `ConfigBuilder::from_file`, `Limiter.open(path)` in Node.js, the program's
`--config`), the variable of a setting overrides what is in the file; what a builder or an object was given, it never overrides. A
list is written with commas (`TALLYMESH_GOSSIP_PEERS=10.0.0.7:7946,10.0.0.8:7946`), a flag as `true` or `false`, all else as in the
file, without quotes. An empty variable counts as not set. A variable that begins like those of a table (`TALLYMESH_GOSSIP_...`) and
is not listed here is an error, so that no misspelling goes unnoticed; other variables (`TALLYMESH_LOG`, ...) are left alone. What
excludes a setting of the file replaces it: with `TALLYMESH_STORAGE_IN_MEMORY=true`, a `data_dir` of the file does not apply.

This page is written from `src/config/settings.rs` by `TALLYMESH_WRITE_DOCS=1 cargo test -p tallymesh --lib config`.
";

fn page() -> String {
    let methods = methods();
    let (mut page, mut table) = (FRONT.to_owned(), "");
    for setting in SETTINGS {
        if setting.table() != table {
            table = setting.table();
            writeln!(page, "\n## `[{table}]`\n").unwrap();
            writeln!(
                page,
                "| path | default | allowed | in Rust | environment | meaning |\n|---|---|---|---|---|---|"
            )
            .unwrap();
        }
        let method = match methods.get(setting.path) {
            Some(method) => format!("`.{method}()`"),
            None => "`Config::builder()`".to_owned(),
        };
        let (default, allowed) = (default(setting), allowed(setting));
        writeln!(
            page,
            "| `{}` | {default} | {allowed} | {method} | `{}` | {} |",
            setting.path,
            setting.variable(),
            setting.doc
        )
        .unwrap();
    }
    page
}

fn default(setting: &Setting) -> String {
    match (setting.default, setting.kind) {
        (DefaultValue::Required, _) => "required".to_owned(),
        (DefaultValue::Nothing, _) => "none".to_owned(),
        (
            DefaultValue::Is(value),
            Kind::Duration(..) | Kind::DurationOrNever(..) | Kind::OneOf(_),
        ) => format!("`{value:?}`"),
        (DefaultValue::Is(value), _) => format!("`{value}`"),
    }
}

fn allowed(setting: &Setting) -> String {
    match setting.kind {
        Kind::OneOf(words) => {
            words.iter().map(|word| format!("`{word:?}`")).collect::<Vec<_>>().join(" or ")
        }
        Kind::Flag => "`true` or `false`".to_owned(),
        _ => setting.allowed(),
    }
}

#[test]
fn the_page_of_settings_is_written_from_the_rows() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/settings.md");
    if std::env::var("TALLYMESH_WRITE_DOCS").is_ok_and(|value| value == "1") {
        std::fs::write(&path, page()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page(),
        "docs/settings.md is not what the rows say; write it again with\n\
         TALLYMESH_WRITE_DOCS=1 cargo test -p tallymesh --lib config"
    );
}

#[test]
fn each_setting_is_explained_in_one_line() {
    for Setting { path, doc, .. } in SETTINGS {
        assert!(!doc.is_empty() && !doc.contains(['|', '\n']) && !doc.ends_with('.'), "{path}");
    }
}
