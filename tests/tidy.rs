//! Style as a test, in the manner of TigerBeetle's `tidy.zig`: "X is banned, use Y".
//!
//! Each check is a function from the files of the tree to complaints, and has a test with a small bad input, so that it is known
//! to find what it is for.

mod source;
mod words;

use std::collections::BTreeSet;
use std::path::Path;

use source::{File, before_tests, tree, words};
use words::{IDENTIFIERS, Identifier, PHRASES, PHRASES_ALLOWED};

/// Files of more than [`LINES_MAX`] lines, each with the reason why it is one.
const LONG_FILES: &[(&str, &str)] = &[
    ("core/src/table/admission.rs", "one decision, in which all steps share what was found"),
    ("core/src/table/tests.rs", "the table's tests as a whole: one set of helpers for all of them"),
    (
        "node/lib/limiter.ts",
        "one class, which TypeScript has in one file; most of it says what its calls mean",
    ),
    (
        "sim/src/disk.rs",
        "one simulated disk: its files, its database and its faults share their state",
    ),
];

const LINES_MAX: usize = 500;

/// What `tallymesh-core` must not depend on: it decides, replicates and recovers, and the shell does the rest.
const NOT_IN_CORE: &[&str] = &["tokio", "sled", "tracing", "toml", "clap"];

/// The one file of `tallymesh-core` that names `std`.
const STD_IN_CORE: &str = "core/src/sync.rs";

/// The one other way to name it, for tests alone.
const STD_FOR_TESTS: &str = "#[cfg(test)]\nextern crate std;";

#[test]
fn every_thing_has_one_name() {
    pass(banned_identifiers(&tree()));
}

#[test]
fn english_is_plain() {
    pass(banned_phrases(&tree()));
}

#[test]
fn core_names_std_in_one_file() {
    pass(std_in_core(&tree()));
}

#[test]
fn core_depends_on_nothing_that_touches_the_machine() {
    pass(core_dependencies(&tree()));
}

#[test]
fn files_are_short() {
    pass(long_files(&tree()));
}

#[test]
fn modules_are_where_their_paths_say() {
    pass(path_attributes(&tree()));
}

#[test]
fn every_file_is_compiled() {
    pass(dead_files(&tree()));
}

#[test]
fn the_tree_speaks_of_itself_only() {
    pass(workplace(&tree()));
}

#[test]
fn documents_point_to_what_is_there() {
    pass(dead_pointers(&tree()));
}

fn pass(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

// The checks.

fn banned_identifiers(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files.iter().filter(|file| file.is_code() && !is_a_list(file)) {
        let rules = IDENTIFIERS.iter();
        let rules: Vec<&Identifier> = rules.filter(|rule| file.is_in(rule.rooms)).collect();
        let code = file.split().code;
        let words = words(&code);
        for (at, (line, word)) in words.iter().enumerate() {
            let next = words.get(at + 1).map_or("", |(_, next)| next);
            let is_banned = |rule: &&&Identifier| match rule.name.split_once(' ') {
                None => rule.name == *word,
                Some((first, second)) => first == *word && second == next,
            };
            if let Some(Identifier { name, instead, .. }) = rules.iter().find(is_banned) {
                complaints.push(format!("{}:{line}: `{name}` is banned, use {instead}", file.path));
            }
        }
    }
    complaints
}

/// The lists of words, and the tests of what finds them, are full of what is banned.
fn is_a_list(file: &File) -> bool {
    file.path == "tests/tidy.rs" || file.path.starts_with("tests/words/")
}

fn banned_phrases(files: &[File]) -> Vec<String> {
    let phrases: Vec<(Vec<&str>, &str)> =
        PHRASES.iter().map(|(phrase, instead)| (phrase.split(' ').collect(), *instead)).collect();
    let mut complaints = Vec::new();
    for file in files.iter().filter(|file| !is_a_list(file)) {
        let prose = file.split().prose.to_lowercase();
        let words = words(&prose);
        for (phrase, instead) in &phrases {
            let found = words.windows(phrase.len()).filter(|window| {
                window.iter().map(|(_, word)| word).eq(phrase.iter())
                    && !PHRASES_ALLOWED.contains(&(&*file.path, &*phrase.join(" ")))
            });
            complaints.extend(found.filter_map(|window| {
                let (line, _) = window.first()?;
                let phrase = phrase.join(" ");
                Some(format!("{}:{line}: \"{phrase}\" is banned, use {instead}", file.path))
            }));
        }
    }
    complaints
}

fn std_in_core(files: &[File]) -> Vec<String> {
    let is_test = |path: &str| path.ends_with("tests.rs") || path.contains("/tests/");
    let mut complaints = Vec::new();
    for file in files {
        if !file.path.starts_with("core/src/") || is_test(&file.path) || file.path == STD_IN_CORE {
            continue;
        }
        // What tests need of it is brought in at the root.
        let code = file.split().code.replace(STD_FOR_TESTS, "\n");
        for (line, word) in words(before_tests(&code)) {
            if word == "std" {
                complaints.push(format!(
                    "{}:{line}: `std` is banned, use core, alloc, or what {STD_IN_CORE} exports",
                    file.path
                ));
            }
        }
    }
    let root = files.iter().find(|file| file.path == "core/src/lib.rs");
    if root.is_some_and(|root| !root.split().code.contains("#![no_std]")) {
        complaints.push("core/src/lib.rs: `#![no_std]` is missing".to_owned());
    }
    complaints
}

fn core_dependencies(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files.iter().filter(|file| file.path == "core/Cargo.toml") {
        let mut section = "";
        for (number, line) in (1..).zip(file.text.lines()) {
            if line.starts_with('[') {
                section = line;
            }
            // What only tests use is not in what is built on it.
            if !section.contains("dependencies") || section.contains("dev-dependencies") {
                continue;
            }
            // `tokio = ..`, `tokio.workspace = true`, `[dependencies.tokio]`, `x = { package = "tokio" }`
            for name in
                NOT_IN_CORE.iter().filter(|name| words(line).iter().any(|(_, w)| w == *name))
            {
                complaints.push(format!(
                    "{}:{number}: a dependency on {name} is banned, use a value that the shell hands in or takes out",
                    file.path
                ));
            }
        }
    }
    complaints
}

fn long_files(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files.iter().filter(|file| file.is_code()) {
        let lines = file.text.lines().count();
        let listed = LONG_FILES.iter().any(|(path, _)| *path == file.path);
        if lines > LINES_MAX && !listed {
            complaints.push(format!(
                "{}: {lines} lines are banned, use two files, or list it with a reason",
                file.path
            ));
        }
        if lines <= LINES_MAX && listed {
            complaints.push(format!("{}: is short, and need not be listed any more", file.path));
        }
    }
    complaints
}

fn path_attributes(files: &[File]) -> Vec<String> {
    let rust = files.iter().filter(|file| file.path.ends_with(".rs"));
    let lines = rust.flat_map(|file| {
        let code = file.split().code;
        let numbered: Vec<(usize, String)> = (1..).zip(code.lines().map(str::to_owned)).collect();
        numbered.into_iter().map(|(number, line)| (&file.path, number, line.replace(' ', "")))
    });
    lines
        .filter(|(_, _, line)| line.contains("#[path") || line.contains("#![path"))
        .map(|(path, number, _)| {
            format!("{path}:{number}: `#[path]` is banned, use a module of the crate or a crate of its own")
        })
        .collect()
}

/// Files of Rust that no `mod` leads to: the compiler does not miss them.
fn dead_files(files: &[File]) -> Vec<String> {
    let code =
        |path: &str| files.iter().find(|file| file.path == path).map(|file| file.split().code);
    let mut complaints = Vec::new();
    for file in files.iter().filter(|file| file.path.ends_with(".rs")) {
        let Some((dir, name)) = file.path.rsplit_once('/') else { continue };
        let is_root = ["lib.rs", "main.rs", "build.rs"].contains(&name);
        let is_alone =
            ["tests", "benches", "examples", "bin"].iter().any(|root| dir.ends_with(root));
        if is_root || (is_alone && name != "mod.rs") {
            continue;
        }
        let (dir, name) = match name {
            "mod.rs" => dir.rsplit_once('/').unwrap_or(("", dir)),
            name => (dir, name.trim_end_matches(".rs")),
        };
        let mut parents = vec![format!("{dir}.rs")];
        parents.extend(["mod.rs", "lib.rs", "main.rs"].map(|root| format!("{dir}/{root}")));
        // A module of tests beside it belongs to any of the tests that stand alone.
        let alone = |file: &&File| file.path.rsplit_once('/').is_some_and(|(of, _)| of == dir);
        parents.extend(files.iter().filter(alone).map(|file| file.path.clone()));
        let declares =
            |code: &str| words(code).windows(2).any(|w| w[0].1 == "mod" && w[1].1 == name);
        if !parents.iter().filter_map(|path| code(path)).any(|code| declares(&code)) {
            complaints.push(format!(
                "{}: a file that no `mod` leads to is banned, use it or remove it",
                file.path
            ));
        }
    }
    complaints
}

fn workplace(files: &[File]) -> Vec<String> {
    // Said in two parts, since this file is one of those that are looked at.
    let places = [
        concat!("/wo", "rk/"),
        concat!("wo", "rktree"),
        concat!("house", ".md"),
        concat!("br", "ief.md"),
    ];
    let mut complaints = Vec::new();
    for file in files {
        for (number, line) in (1..).zip(file.text.lines()) {
            let complain = |what: &str| {
                format!("{}:{number}: {what} is banned, use the reason itself", file.path)
            };
            complaints.extend(
                places.iter().filter(|place| line.contains(**place)).map(|what| complain(what)),
            );
            if names_an_issue(line) {
                complaints.push(complain("the number of an issue"));
            }
        }
    }
    complaints
}

/// Whether a line has the word and a number, or a number behind `#` in parentheses.
fn names_an_issue(line: &str) -> bool {
    let line = line.to_lowercase();
    let after = |start: &str| {
        let begins = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
        line.split(start).skip(1).any(begins)
    };
    ["issue ", "issue #", "issues ", "issues #", "(#"].into_iter().any(after)
}

/// Links between documents, and paths of files that documents name in code spans.
fn dead_pointers(files: &[File]) -> Vec<String> {
    let paths: BTreeSet<&str> = files.iter().map(|file| &*file.path).collect();
    let is_there = |path: &str| {
        let path = path.trim_end_matches('/');
        paths.contains(path)
            || paths
                .iter()
                .any(|file| file.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')))
            || Path::new(env!("CARGO_MANIFEST_DIR")).join(path).exists()
    };
    let mut complaints = Vec::new();
    for file in files.iter().filter(|file| file.path.ends_with(".md")) {
        let mut is_block = false;
        for (number, line) in (1..).zip(file.text.lines()) {
            if line.starts_with("```") {
                is_block = !is_block;
            }
            if is_block {
                continue;
            }
            for target in links(line) {
                let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
                let path =
                    if path.is_empty() { file.path.clone() } else { beside(&file.path, path) };
                let text = files.iter().find(|file| file.path == path).map(|file| &*file.text);
                let has_anchor = |text: &str| anchor.is_empty() || anchors(text).contains(anchor);
                if !is_there(&path) || text.is_some_and(|text| !has_anchor(text)) {
                    complaints
                        .push(format!("{}:{number}: the link {target} leads nowhere", file.path));
                }
            }
            if POINTING.contains(&&*file.path) {
                let dead = spans(line).filter(|span| names_a_file(span) && !is_there(span));
                complaints
                    .extend(dead.map(|path| format!("{}:{number}: there is no {path}", file.path)));
            }
        }
    }
    complaints
}

/// The documents whose code spans are paths from the root, where they look like paths.
const POINTING: &[&str] = &["docs/architecture.md", "docs/glossary.md", "CONTRIBUTING.md"];

// What the checks read.

/// The targets of a line's links that lead to files of this tree.
fn links(line: &str) -> impl Iterator<Item = &str> {
    let targets = line.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    targets.map(|(target, _)| target).filter(|target| !target.contains(':') && !target.is_empty())
}

/// The code spans of a line.
fn spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// Whether a code span looks like the path of a file from the root.
fn names_a_file(span: &str) -> bool {
    let is_path = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let ends = [".rs", ".md", ".toml", ".ts", "/"];
    span.contains('/') && span.chars().all(is_path) && ends.iter().any(|end| span.ends_with(end))
}

/// A relative path as seen from a file of the tree.
fn beside(file: &str, path: &str) -> String {
    let mut parts: Vec<&str> = file.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." | "" => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The anchors of a document's headings, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter_map(|line| line.strip_prefix('#'));
    headings
        .map(|heading| {
            let heading = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

// Each check finds what it is for.

fn file(path: &str, text: &str) -> Vec<File> {
    vec![File { path: path.to_owned(), text: text.to_owned() }]
}

#[test]
fn an_old_identifier_is_found() {
    let bad = file("core/src/table/x.rs", "struct A;\nfn f(place: Resolved) {}\n");
    let found = banned_identifiers(&bad);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[1].starts_with("core/src/table/x.rs:2: `Resolved` is banned, use SlotRef"));
    // Two words in a row; and only in the rooms of the rule.
    assert_eq!(banned_identifiers(&file("src/x.rs", "enum Change {}\n")).len(), 1);
    assert!(banned_identifiers(&file("tests/x.rs", "enum Change {}\n")).is_empty());
    // Not in words that hold it, in comments or in texts.
    let good = "// a Charge\nfn f() { std::thread::scope(|_| placed); \"Charge\"; }\n";
    assert!(banned_identifiers(&file("core/src/table/x.rs", good)).is_empty());
}

#[test]
fn an_old_phrase_is_found() {
    let bad = "/// It is as good\n/// as gone.\nfn f() { log(\"Nobody is there\"); }\n";
    let found = banned_phrases(&file("src/x.rs", bad));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.iter().any(|line| line.starts_with("src/x.rs:3: \"nobody\"")), "{found:?}");
    assert!(found.iter().any(|line| line.starts_with("src/x.rs:1: \"as good as gone\"")));
    assert_eq!(banned_phrases(&file("docs/x.md", "Begin anew.\n")).len(), 1);
    assert_eq!(banned_phrases(&file("x.toml", "# begin anew\nanew = 1\n")).len(), 1);
    // Not in longer words, and not in code.
    let good = "// amended\nfn mend() { begin_anew(anew); }\n";
    assert!(banned_phrases(&file("src/x.rs", good)).is_empty());
}

#[test]
fn std_in_core_is_found() {
    let bad =
        "use std::sync::Arc;\n/// use std::fs;\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n";
    let found = std_in_core(&file("core/src/x.rs", bad));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("core/src/x.rs:1:"));
    assert!(std_in_core(&file(STD_IN_CORE, bad)).is_empty());
    assert!(std_in_core(&file("src/x.rs", bad)).is_empty());
    assert_eq!(std_in_core(&file("core/src/lib.rs", "// #![no_std]\n")).len(), 1);
    let root = format!("#![no_std]\n{STD_FOR_TESTS}\n");
    assert_eq!(std_in_core(&file("core/src/lib.rs", &root)), [""; 0]);
    assert_eq!(std_in_core(&file("core/src/lib.rs", "#![no_std]\nextern crate std;\n")).len(), 1);
}

#[test]
fn a_dependency_of_core_is_found() {
    for bad in [
        "[dependencies]\ntokio = \"1\"\n",
        "[dependencies]\nclock = { package = \"tokio\", version = \"1\" }\n",
        "[dependencies.tokio]\nversion = \"1\"\n",
        "[target.'cfg(unix)'.dependencies]\ntokio.workspace = true\n",
    ] {
        assert_eq!(core_dependencies(&file("core/Cargo.toml", bad)).len(), 1, "{bad}");
    }
    let good = "[dependencies]\nserde = \"1\"\n[dev-dependencies]\ntokio = \"1\"\n";
    assert!(core_dependencies(&file("core/Cargo.toml", good)).is_empty());
}

#[test]
fn a_long_file_is_found() {
    assert_eq!(long_files(&file("src/x.rs", &"\n".repeat(LINES_MAX + 1))).len(), 1);
    assert!(long_files(&file("src/x.rs", &"\n".repeat(LINES_MAX))).is_empty());
    let (listed, _) = LONG_FILES[0];
    assert!(long_files(&file(listed, &"\n".repeat(LINES_MAX + 1))).is_empty());
    assert_eq!(long_files(&file(listed, "\n")).len(), 1);
}

#[test]
fn a_module_from_elsewhere_is_found() {
    assert_eq!(path_attributes(&file("tests/x.rs", "#[path = \"../y.rs\"]\nmod y;\n")).len(), 1);
    assert!(path_attributes(&file("tests/x.rs", "// #[path = \"../y.rs\"]\nmod y;\n")).is_empty());
}

#[test]
fn a_dead_file_is_found() {
    let mut files = file("src/lib.rs", "mod a;\n// mod dead;\n");
    files.extend(file("src/a/mod.rs", "pub(crate) mod b;\n"));
    files.extend(file("src/a/b.rs", ""));
    files.extend(file("tests/x.rs", "mod source;\n"));
    files.extend(file("tests/source/mod.rs", ""));
    assert_eq!(dead_files(&files), [""; 0]);
    files.extend(file("src/dead.rs", ""));
    files.extend(file("src/a/dead/mod.rs", ""));
    assert_eq!(dead_files(&files).len(), 2);
}

#[test]
fn a_word_about_the_workplace_is_found() {
    for bad in
        [concat!("see /wo", "rk/x"), concat!("as iss", "ue 7 says"), concat!("fixed (", "#12)")]
    {
        assert_eq!(workplace(&file("docs/x.md", bad)).len(), 1, "{bad}");
    }
    assert!(workplace(&file("docs/x.md", "an issue of taste; [a](#anchor); # 7")).is_empty());
}

#[test]
fn a_dead_pointer_is_found() {
    let two = |first: &str, second: &str| {
        let mut files = file("docs/architecture.md", first);
        files.extend(file("docs/y.md", second));
        files
    };
    for bad in ["[x](y.md#no)", "[x](z.md)", "[x](#no)", "`core/src/no.rs`", "see `no/such/`"] {
        assert_eq!(dead_pointers(&two(bad, "# Two words\n")).len(), 1, "{bad}");
    }
    for good in ["[x](y.md#two-words)", "[x](../docs/y.md)", "`docs/y.md`", "`docs/`", "`a / b`"] {
        assert_eq!(dead_pointers(&two(good, "# Two words\n")), [""; 0], "{good}");
    }
}
