//! The walls between rooms: imports only point down, and the journeys of `docs/architecture.md` go where imports go.
//!
//! A room is a folder or a file at the top of `core/src` or `src`. What the compiler keeps (`core` is `no_std`, and depends on
//! nothing that touches the machine) is in `tests/tidy.rs`.

mod source;

use std::collections::{BTreeMap, BTreeSet};

use source::{File, before_tests, tree};

/// Every room, from the ground up: each may import those above it in this list, and none below.
const ROOMS: &[(&str, &str)] = &[
    ("core", "sync"),
    ("core", "text"),
    ("core", "mutant"),
    ("core", "id"),
    ("core", "time"),
    ("core", "varint"),
    ("core", "link"),
    ("core", "key"),
    ("core", "crdt"),
    ("core", "limit"),
    ("core", "operator"),
    ("core", "wire"),
    ("core", "table"),
    ("core", "gossip"),
    ("core", "storage"),
    ("library", "clock"),
    ("library", "log_line"),
    ("library", "random"),
    ("library", "curve"),
    ("library", "secret"),
    ("library", "cluster_key"),
    ("library", "node_key"),
    ("library", "tls"),
    ("library", "credentials"),
    ("library", "operator_key"),
    ("library", "config"),
    ("library", "transport"),
    ("library", "disk"),
    ("library", "offline"),
    ("library", "runtime"),
    ("library", "status"),
    ("library", "denial"),
    ("library", "receipt"),
    ("library", "token"),
    ("library", "engine"),
    ("library", "selection"),
    ("library", "explain"),
    ("library", "entries"),
    ("library", "control"),
    ("library", "decision"),
    ("library", "store"),
    ("library", "operate"),
    ("library", "handle"),
    ("library", "limiter"),
    ("library", "reset"),
    ("library", "meter"),
];

/// The front pages; they re-export, and belong to no room.
const FRONT_PAGES: &[&str] = &["core/src/lib.rs", "src/lib.rs"];

const MAP: &str = "docs/architecture.md";

/// What production code says in these files only: each is the end of a seam that a search finds.
const SAID_ONLY_IN: &[(&str, &[&str])] = &[
    ("sled::", &["src/disk/"]),
    ("toml::", &["src/disk/file_system.rs", "src/config/"]),
    ("tracing::", &["src/runtime/", "src/transport/", "src/limiter.rs"]),
    ("decode::<CounterRecord>", &["core/src/storage/put.rs"]),
    ("decode::<ReplicaRecord>", &["core/src/storage/recover.rs"]),
    ("read::<ReplicaRecord>", &["core/src/storage/walk.rs"]),
    ("Instant::now", &["src/clock.rs"]),
    ("SystemTime::now", &["src/clock.rs"]),
    ("SysRng", &["src/random.rs"]),
    (".inner.store.node", &[]),
];

/// Which room imports which, and one place where it does.
type Graph = BTreeMap<String, BTreeMap<String, String>>;

#[test]
fn every_file_is_in_a_room_and_every_room_has_files() {
    pass(homeless(&tree()));
}

#[test]
fn imports_only_point_down() {
    let (graph, complaints) = graph(&tree());
    pass([complaints, up(&graph)].concat());
}

#[test]
fn no_room_imports_itself_by_way_of_others() {
    pass(circles(&graph(&tree()).0));
}

#[test]
fn what_is_built_on_the_library_uses_its_api() {
    pass(past_the_api(&tree()));
}

#[test]
fn journeys_go_where_imports_go() {
    let files = tree();
    let map = files.iter().find(|file| file.path == MAP).expect("there is a map");
    let journeys = journeys(&map.text);
    let names: Vec<&str> = journeys.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["A request", "A delta", "A checkpoint", "A setting"]);
    pass(lost(&journeys, &graph(&files).0));
}

#[test]
fn seams_have_ends_that_a_search_finds() {
    pass(said_elsewhere(&tree()));
}

fn pass(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

// The checks.

fn homeless(files: &[File]) -> Vec<String> {
    let in_tree: BTreeSet<(&str, &str)> = files.iter().filter_map(room_of).collect();
    let listed: BTreeSet<(&str, &str)> = ROOMS.iter().copied().collect();
    let unlisted = in_tree.difference(&listed);
    let unlisted = unlisted.map(|(krate, room)| format!("the {krate}'s {room} is not among ROOMS"));
    let empty = listed.difference(&in_tree);
    let empty =
        empty.map(|(krate, room)| format!("the {krate} has no {room}, which is among ROOMS"));
    unlisted.chain(empty).collect()
}

fn up(graph: &Graph) -> Vec<String> {
    let rank = |room: &str| ROOMS.iter().position(|(_, listed)| *listed == room);
    let mut complaints = Vec::new();
    for (from, imports) in graph {
        for (to, at) in imports {
            if rank(to) > rank(from) {
                complaints.push(format!("{at}: {from} is below {to}, and must not import it"));
            }
        }
    }
    complaints
}

fn circles(graph: &Graph) -> Vec<String> {
    let goes_round = |room: &&String| {
        let mut reached = BTreeSet::new();
        let mut left: Vec<&String> =
            graph.get(*room).into_iter().flat_map(BTreeMap::keys).collect();
        while let Some(next) = left.pop() {
            if reached.insert(next) {
                left.extend(graph.get(next).into_iter().flat_map(BTreeMap::keys));
            }
        }
        reached.contains(room)
    };
    graph
        .keys()
        .filter(goes_round)
        .map(|room| format!("{room} is on a circle of imports"))
        .collect()
}

/// The one file among the users of the library that is a peer of it: it speaks the protocol.
const PEER: &str = "compare/src/one_life.rs";

/// The program, the npm package and the comparison name nothing of core but what the library exports.
fn past_the_api(files: &[File]) -> Vec<String> {
    let users = ["cli/src/", "node/src/", "compare/src/"];
    let users = files.iter().filter(|file| file.is_in(&users) && file.path.ends_with(".rs"));
    let users = users.filter(|file| file.path != PEER);
    let past = users.flat_map(|file| {
        let code = file.split().code;
        let lines = (1..).zip(code.lines()).filter(|(_, line)| line.contains("tallymesh_core"));
        let lines: Vec<usize> = lines.map(|(number, _)| number).collect();
        lines
            .into_iter()
            .map(|number| format!("{}:{number}: core, past the library's API", file.path))
    });
    past.collect()
}

/// Each step leads from a room that the journey has reached, along an import.
fn lost(journeys: &[(String, Vec<Step>)], graph: &Graph) -> Vec<String> {
    let mut complaints = Vec::new();
    for (name, steps) in journeys {
        if steps.len() < 2 {
            complaints.push(format!("{MAP}: the journey \"{name}\" has no steps"));
        }
        let mut reached: BTreeSet<&str> = BTreeSet::new();
        for Step { line, from, to } in steps {
            if !reached.is_empty() && !reached.contains(&**from) && !reached.contains(&**to) {
                complaints.push(format!(
                    "{MAP}:{line}: {name} has reached neither {from} nor {to} before"
                ));
            }
            if !graph.get(from).is_some_and(|imports| imports.contains_key(to)) {
                complaints.push(format!("{MAP}:{line}: {name}: {from} does not import {to}"));
            }
            reached.extend([&**from, &**to]);
        }
    }
    complaints
}

fn said_elsewhere(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files.iter().filter(|file| room_of(file).is_some() && !is_test(file)) {
        let code = file.split().code;
        for (line, text) in (1..).zip(before_tests(&code).lines()) {
            let said = |(what, only): &&(&str, &[&str])| text.contains(what) && !file.is_in(only);
            if let Some((what, only)) = SAID_ONLY_IN.iter().find(said) {
                complaints.push(format!("{}:{line}: `{what}` belongs in {only:?}", file.path));
            }
        }
    }
    complaints
}

fn is_test(file: &File) -> bool {
    file.path.ends_with("tests.rs") || file.path.contains("/tests/")
}

// What they read.

/// The crate and the room of a file; `None` for what is not production code, and for the front pages.
fn room_of(file: &File) -> Option<(&'static str, &str)> {
    if FRONT_PAGES.contains(&&*file.path) || !file.path.ends_with(".rs") {
        return None;
    }
    let (krate, path) = match file.path.strip_prefix("core/src/") {
        Some(path) => ("core", path),
        None => ("library", file.path.strip_prefix("src/")?),
    };
    let top = path.split('/').next()?;
    Some((krate, top.strip_suffix(".rs").unwrap_or(top)))
}

fn graph(files: &[File]) -> (Graph, Vec<String>) {
    let mut graph = Graph::new();
    let mut complaints = Vec::new();
    for file in files.iter().filter(|file| !is_test(file)) {
        let Some((krate, room)) = room_of(file) else { continue };
        let code = file.split().code;
        for (line, root, name) in imports(before_tests(&code)) {
            let of = if root == "crate" { krate } else { "core" };
            let at = format!("{}:{line}", file.path);
            if !ROOMS.contains(&(of, &name)) {
                complaints.push(format!(
                    "{at}: {root}::{name} is no room; import it from where it lives"
                ));
            } else if name != room {
                graph.entry(room.to_owned()).or_default().entry(name).or_insert(at);
            }
        }
    }
    (graph, complaints)
}

/// What a file names right behind `crate::` and `tallymesh_core::`, groups in braces included, with line and root.
fn imports(code: &str) -> Vec<(usize, &'static str, String)> {
    let mut found = Vec::new();
    for root in ["crate", "tallymesh_core"] {
        let path = format!("{root}::");
        for (at, _) in code.match_indices(&path) {
            let (before, rest) = code.split_at(at);
            if before.ends_with(is_word) {
                continue;
            }
            let line = 1 + before.matches('\n').count();
            let rest = rest.get(path.len()..).unwrap_or("").trim_start();
            let names = match rest.strip_prefix('{') {
                Some(group) => group_names(group),
                None => vec![first_word(rest)],
            };
            found.extend(
                names.into_iter().filter(|name| !name.is_empty()).map(|name| (line, root, name)),
            );
        }
    }
    found.sort();
    found
}

/// The first word of each entry of a group, up to its closing brace.
fn group_names(group: &str) -> Vec<String> {
    let mut names = vec![String::new()];
    let mut depth = 0;
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(String::new()),
            c => names.last_mut().expect("one is there").push(c),
        }
    }
    names.iter().map(|entry| first_word(entry.trim())).collect()
}

fn first_word(text: &str) -> String {
    text.chars().take_while(|c| is_word(*c)).collect()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// From one room into one that it imports.
#[derive(Debug, PartialEq)]
struct Step {
    line: usize,
    from: String,
    to: String,
}

/// The journeys of the map: under "## Journeys", a heading each, and a table whose rows begin with "`from` -> `to`".
fn journeys(map: &str) -> Vec<(String, Vec<Step>)> {
    let mut journeys: Vec<(String, Vec<Step>)> = Vec::new();
    let mut is_here = false;
    for (line, text) in (1..).zip(map.lines()) {
        if let Some(title) = text.strip_prefix("## ") {
            is_here = title == "Journeys";
        } else if let Some(title) = text.strip_prefix("### ").filter(|_| is_here) {
            journeys.push((title.to_owned(), Vec::new()));
        } else if let Some((_, steps)) = journeys.last_mut().filter(|_| is_here) {
            steps.extend(step(line, text));
        }
    }
    journeys
}

fn step(line: usize, row: &str) -> Option<Step> {
    let cell = row.strip_prefix('|')?.split('|').next()?;
    let (from, to) = cell.split_once("->")?;
    let name = |text: &str| Some(text.trim().strip_prefix('`')?.strip_suffix('`')?.to_owned());
    Some(Step { line, from: name(from)?, to: name(to)? })
}

// Each check finds what it is for.

fn file(path: &str, text: &str) -> File {
    File { path: path.to_owned(), text: text.to_owned() }
}

#[test]
fn a_file_without_a_room_is_found() {
    let mut files: Vec<File> = ROOMS
        .iter()
        .map(|(krate, room)| match *krate {
            "core" => file(&format!("core/src/{room}.rs"), ""),
            _ => file(&format!("src/{room}/mod.rs"), ""),
        })
        .collect();
    assert_eq!(homeless(&files), [""; 0]);
    files.push(file("src/attic.rs", ""));
    assert_eq!(homeless(&files), ["the library's attic is not among ROOMS"]);
    files.swap_remove(0);
    assert_eq!(homeless(&files).len(), 2);
}

#[test]
fn what_is_said_elsewhere_is_found() {
    let files = [
        file("src/store.rs", "fn f() { sled::open(); }\n// sled::open\n"),
        file("src/disk/sled.rs", "fn f() { sled::open(); }"),
        file("core/src/storage/recover.rs", "let x = decode::<CounterRecord>(key);"),
        file("src/engine.rs", "self.inner.store.node.table"),
    ];
    let found = said_elsewhere(&files);
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].starts_with("src/store.rs:1: `sled::`"));
}

#[test]
fn an_import_that_points_up_is_found() {
    let text = "use crate::id::NodeId;\nuse crate::{crdt::Cell, gossip::{Input, table}};\n";
    let (graph, complaints) = graph(&[file("core/src/table/mod.rs", text)]);
    assert_eq!(complaints, [""; 0]);
    assert_eq!(graph["table"].keys().collect::<Vec<_>>(), ["crdt", "gossip", "id"]);
    assert_eq!(
        up(&graph),
        ["core/src/table/mod.rs:2: table is below gossip, and must not import it"]
    );
}

#[test]
fn an_import_across_the_crates_is_found() {
    let text = "fn f(x: tallymesh_core::table::Table) { crate::store::g(); crate::Limiter::h() }\n";
    let (graph, complaints) = graph(&[file("src/config/mod.rs", text)]);
    assert_eq!(complaints.len(), 1, "{complaints:?}");
    assert!(complaints[0].contains("crate::Limiter is no room"));
    assert_eq!(up(&graph).len(), 1);
}

#[test]
fn imports_of_tests_and_comments_are_left_out() {
    let text =
        "/// [`crate::gossip`]\nfn f() {}\n#[cfg(test)]\nmod tests {\n use crate::gossip::X;\n}\n";
    let files = [
        file("src/config/tests/mod.rs", "use crate::Limiter;"),
        file("core/src/table/mod.rs", text),
        file("core/src/table/tests.rs", "use crate::gossip::X;"),
    ];
    assert_eq!(graph(&files).0, Graph::new());
}

#[test]
fn a_way_past_the_api_is_found() {
    let text = "// tallymesh_core\nuse tallymesh_core::table::Table;\n";
    assert_eq!(past_the_api(&[file("cli/src/node.rs", text)]).len(), 1);
    assert_eq!(past_the_api(&[file("sim/src/lib.rs", text)]), [""; 0]);
}

#[test]
fn a_circle_is_found() {
    let files = [
        file("core/src/id.rs", "use crate::time::T;"),
        file("core/src/time.rs", "use crate::key::K;"),
        file("core/src/key.rs", "use crate::id::I;"),
        file("core/src/table/mod.rs", "use crate::id::I;"),
    ];
    assert_eq!(circles(&graph(&files).0).len(), 3);
    assert_eq!(circles(&graph(&files[1..]).0), [""; 0]);
}

#[test]
fn a_journey_that_leaves_the_imports_is_found() {
    let map = "# Map\n\n## Journeys\n\n### One\n\n| rooms | what |\n|---|---|\n| `limiter` -> `engine` | asks |\n\
               | `engine` -> `table` | decides |\n\n## Other\n\n| `a` -> `b` | |\n";
    let journeys = journeys(map);
    assert_eq!(journeys.len(), 1);
    assert_eq!(journeys[0].1.len(), 2);
    assert_eq!(
        journeys[0].1[1],
        Step { line: 10, from: "engine".to_owned(), to: "table".to_owned() }
    );
    let engine = file("src/engine.rs", "use tallymesh_core::table::Table;");
    let limiter = file("src/limiter.rs", "use crate::engine::Engine;");
    let whole = graph(&[engine, limiter]).0;
    assert_eq!(lost(&journeys, &whole), [""; 0]);
    let engine = file("src/engine.rs", "");
    let limiter = file("src/limiter.rs", "use crate::engine::Engine;");
    assert_eq!(lost(&journeys, &graph(&[engine, limiter]).0).len(), 1);
    let jump = vec![(
        "Two".to_owned(),
        vec![
            Step { line: 1, from: "limiter".to_owned(), to: "engine".to_owned() },
            Step { line: 2, from: "gossip".to_owned(), to: "table".to_owned() },
        ],
    )];
    assert_eq!(lost(&jump, &whole).len(), 2);
    assert_eq!(lost(&[("Three".to_owned(), Vec::new())], &whole).len(), 1);
}
