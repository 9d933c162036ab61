//! The public API on one page, `docs/api.txt`: it changes on purpose only, names no foreign type, and each of it has an example.

mod listing;
mod source;

use std::collections::BTreeSet;
use std::path::Path;

use source::{File, tree};

/// What no example shows yet. An entry that has one is a complaint too. A method counts as shown by its name alone.
const WITHOUT_EXAMPLE: &[&str] = &[
    "CountError",
    "CounterKey::as_bytes",
    "CounterKey::check",
    "DurabilityError",
    "InvalidDenialReason",
    "InvalidReplicaId",
    "InvalidTimestamp",
    "InvalidWindow",
    "LimitError",
    "Limiter::life",
    "PeerStatus",
    "Rejections",
    "Request::charged_cost",
    "Request::labels",
    "Request::labels_count",
    "StorageError::is_corrupt",
    "Timestamp::plus",
    "WindowIndex::start",
];

/// Types of signatures that are not exported; each is to become private, or exported.
const FOREIGN: &[&str] = &[];

const HEAD: &str = "\
The public API of the crate tallymesh: everything that it exports, without documentation.
Written by TALLYMESH_WRITE_DOCS=1 cargo test -p tallymesh --test api

";

#[test]
fn the_listing_is_what_the_sources_say() {
    let text: Vec<String> = listing::api(&tree()).iter().map(listing::Entry::text).collect();
    let text = format!("{HEAD}{}", text.join("\n"));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/api.txt");
    if std::env::var_os("TALLYMESH_WRITE_DOCS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = text.lines().zip(kept.lines()).find(|(now, kept)| now != kept);
    assert!(
        text == kept,
        "the public API has changed, first at {differs:?}: if that is meant, write docs/api.txt \
         again (its head says how)"
    );
}

#[test]
fn no_foreign_type_is_in_a_signature() {
    let entries = listing::api(&tree());
    let foreign: Vec<String> = entries
        .iter()
        .flat_map(|entry| entry.foreign.iter().map(|name| format!("{}: {name}", entry.name)))
        .collect();
    assert_eq!(foreign, FOREIGN, "types that users cannot name without another crate");
}

#[test]
fn everything_public_is_in_an_example() {
    let files = tree();
    let examples = examples(&files);
    let words: BTreeSet<&str> = examples.split(|c: char| !is_of_name(c)).collect();
    let is_shown = |name: &str| match name.split_once("::") {
        None => words.contains(name),
        Some((_, method)) => [".", "::"].iter().any(|before| {
            let call = format!("{before}{method}");
            examples.match_indices(&call).any(|(at, _)| {
                let after = examples[at + call.len()..].chars().next();
                !after.is_some_and(is_of_name)
            })
        }),
    };
    let entries = listing::api(&files);
    let names: BTreeSet<&str> =
        entries.iter().flat_map(|entry| &entry.names).map(|name| &**name).collect();
    let excepted: BTreeSet<&str> = WITHOUT_EXAMPLE.iter().copied().collect();
    let missing: BTreeSet<&str> = names.iter().copied().filter(|name| !is_shown(name)).collect();
    let without: Vec<&&str> = missing.difference(&excepted).collect();
    assert!(without.is_empty(), "no example shows {without:#?}");
    let too_many: Vec<&&str> = excepted.difference(&missing).collect();
    assert!(too_many.is_empty(), "these have an example or are gone: {too_many:#?}");
}

/// The code of the examples: their files, and the Rust blocks of documentation.
fn examples(files: &[File]) -> String {
    let mut code = String::new();
    for file in files {
        let is_source = file.path.starts_with("src/") || file.path.starts_with("core/src/");
        if file.path.starts_with("examples/") {
            code.push_str(&file.text);
        } else if is_source && file.path.ends_with(".rs") {
            let comments = file.text.lines().map(|line| {
                let line = line.trim_start();
                line.strip_prefix("///").or_else(|| line.strip_prefix("//!")).unwrap_or("")
            });
            blocks(comments, &mut code);
        } else if ["README.md", "docs/crate.md"].contains(&&*file.path) {
            blocks(file.text.lines(), &mut code);
        }
    }
    code
}

fn blocks<'a>(lines: impl Iterator<Item = &'a str>, code: &mut String) {
    let mut is_block = false;
    for line in lines {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            is_block = !is_block && ["", "rust", "rust,no_run", "no_run"].contains(&language);
        } else if is_block {
            code.push_str(line);
            code.push('\n');
        }
    }
}

fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[test]
fn a_foreign_type_and_a_change_are_found() {
    let file = |path: &str, text: &str| File { path: path.to_owned(), text: text.to_owned() };
    let lib = file("src/lib.rs", "mod a;\npub use a::A;\n");
    let bad = "use sled::Db;\npub struct A { pub db: Db, hidden: toml::Table }\n\
        impl A { pub fn key(&self) -> Key { todo!() } fn private(&self) {} }";
    let entries = listing::api(&[lib, file("src/a.rs", bad)]);
    let [entry] = &entries[..] else { panic!("one is exported") };
    assert_eq!(entry.foreign.iter().collect::<Vec<_>>(), ["Db", "Key"]);
    assert_eq!(entry.names.iter().collect::<Vec<_>>(), ["A", "A::key"]);
    let text = "pub struct A {\n    pub db: Db,\n    /* private */\n}\n\
        impl A {\n    pub fn key(&self) -> Key;\n}\n";
    assert_eq!(entry.text(), text);
}
