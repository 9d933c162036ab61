//! The floors of the architecture: an import points down only.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Each module of the library with its floor; `lib.rs` is the front page.
const FLOORS: &[(&str, u8)] = &[
    ("mutant", 0),
    ("id", 0),
    ("time", 0),
    ("key", 0),
    ("crdt", 0),
    ("limit", 0),
    ("table", 1),
    ("wire", 1),
    ("gossip", 1),
    ("storage", 2),
    ("transport", 2),
    ("clock", 2),
    ("config", 3),
    ("node", 3),
    ("store", 3),
    ("handle", 3),
    ("limiter", 3),
    ("meter", 3),
    ("inspect", 3),
    ("check", 3),
];

/// What floors 0 and 1 must not touch: clocks, randomness that is not handed in, IO, threads, and maps whose order is random.
const NOT_BELOW_THE_SHELL: &[&str] = &[
    "Instant::now",
    "SystemTime::now",
    "rand::rng(",
    "rand::random(",
    "SysRng",
    "tokio::",
    "std::fs",
    "std::net",
    "std::thread",
    "std::process",
    "std::io",
    "HashMap",
    "HashSet",
];

#[test]
fn imports_point_down_only() {
    let floors: BTreeMap<&str, u8> = FLOORS.iter().copied().collect();
    let mut violations = Vec::new();
    for (path, module, text) in library_files() {
        let floor = *floors.get(module.as_str()).unwrap_or_else(|| panic!("{module} has no floor"));
        for (number, line) in production_lines(&text) {
            for imported in imports(line) {
                let other = floors.get(imported).copied();
                if other.is_none_or(|other| other > floor) {
                    violations.push(format!("{}:{number}: {line}", path.display()));
                }
            }
        }
    }
    assert!(violations.is_empty(), "these imports point up:\n{}", violations.join("\n"));
}

#[test]
fn the_lower_floors_know_no_time_randomness_or_io() {
    let floors: BTreeMap<&str, u8> = FLOORS.iter().copied().collect();
    let mut violations = Vec::new();
    for (path, module, text) in
        library_files().into_iter().filter(|(_, m, _)| floors[m.as_str()] < 2)
    {
        for (number, line) in production_lines(&text) {
            if NOT_BELOW_THE_SHELL.iter().any(|word| line.contains(word)) {
                violations.push(format!("{} ({module}):{number}: {line}", path.display()));
            }
        }
    }
    assert!(violations.is_empty(), "below the shell:\n{}", violations.join("\n"));
}

#[test]
fn the_check_sees_what_it_is_for() {
    assert_eq!(imports("use crate::table::Table;").collect::<Vec<_>>(), ["table"]);
    assert_eq!(
        imports("    crate::node::Node::open(crate::id::x)").collect::<Vec<_>>(),
        ["node", "id"]
    );
    assert_eq!(imports("use super::Cell;").count(), 0);
}

/// Every file of the library but the front page: path, top module, text.
fn library_files() -> Vec<(PathBuf, String, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    let mut dirs = vec![src.clone()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let top = path.strip_prefix(&src).unwrap().components().next().unwrap();
            let top = Path::new(&top).file_stem().unwrap().to_str().unwrap().to_owned();
            if top == "lib" {
                continue;
            }
            if path.is_dir() {
                dirs.push(path);
            } else {
                let text = fs::read_to_string(&path).unwrap();
                files.push((path, top, text));
            }
        }
    }
    assert!(files.len() > 20, "the library is where it is looked for");
    let is_test = |path: &Path| {
        path.components().any(|part| part.as_os_str() == "tests")
            || path.to_string_lossy().ends_with("tests.rs")
    };
    files.into_iter().filter(|(path, _, _)| !is_test(path.strip_prefix(&src).unwrap())).collect()
}

/// The lines before the tests, with their numbers, comments left out.
fn production_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().take_while(|(_, line)| !line.starts_with("mod tests {"));
    let code = lines.filter(|(_, line)| !line.trim_start().starts_with("//"));
    code.map(|(number, line)| (number + 1, line))
}

/// The top modules that a line names by `crate::`.
fn imports(line: &str) -> impl Iterator<Item = &str> {
    line.split("crate::").skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        &rest[..end]
    })
}
