//! The files of this tree, for the tests that read them.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::fs;
use std::path::Path;

/// A file of the tree, by its path from the root.
pub struct File {
    pub path: String,
    pub text: String,
}

/// Every file of the tree that people write.
pub fn tree() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let skipped = ["target", "node_modules", "fixtures", "dist", "native", "npm", "data", "build"];
    let read = ["rs", "ts", "mts", "mjs", "c", "md", "toml"];
    let mut files = Vec::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                if !skipped.contains(&name) && (!name.starts_with('.') || name == ".ci") {
                    dirs.push(path);
                }
            } else if path.ends_with(".ci/run")
                || path.extension().is_some_and(|ext| read.iter().any(|read| ext == *read))
            {
                let text = fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(root).unwrap().to_str().unwrap();
                let path = path.replace(std::path::MAIN_SEPARATOR, "/");
                files.push(File { path, text });
            }
        }
    }
    assert!(files.len() > 100, "the tree is where it is looked for");
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

impl File {
    pub fn is_code(&self) -> bool {
        [".rs", ".ts", ".mts", ".mjs", ".c"].iter().any(|end| self.path.ends_with(end))
    }

    pub fn is_in(&self, rooms: &[&str]) -> bool {
        rooms.iter().any(|room| self.path.starts_with(room))
    }

    /// A document is prose as a whole.
    pub fn split(&self) -> Split {
        if !self.is_code() {
            let prose = match self.path.ends_with(".toml") {
                true => self
                    .text
                    .lines()
                    .map(|line| {
                        line.split_once('#')
                            .map_or("\n".to_owned(), |(_, comment)| format!("{comment}\n"))
                    })
                    .collect(),
                false => self.text.clone(),
            };
            return Split { code: String::new(), prose };
        }
        split(&self.text, self.path.ends_with(".rs"))
    }
}

/// A file of code in two: what is compiled; and comments and texts. Each has the lines of the file.
#[derive(Default)]
pub struct Split {
    pub code: String,
    pub prose: String,
}

impl Split {
    fn code(&mut self, text: &str) {
        self.code.push_str(text);
        self.prose.extend(text.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
    }

    fn prose(&mut self, text: &str) {
        self.prose.push_str(text);
        self.code.extend(text.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
    }
}

pub fn split(text: &str, is_rust: bool) -> Split {
    let mut split = Split::default();
    let mut rest = text;
    let mut before = ' ';
    while let Some(c) = rest.chars().next() {
        let starts_word = !before.is_alphanumeric() && before != '_';
        let prose = prose_length(rest, is_rust, starts_word);
        let length = if prose > 0 { prose } else { c.len_utf8() };
        let (piece, after) = rest.split_at(length);
        if prose > 0 {
            split.prose(piece)
        } else {
            split.code(piece)
        }
        before = piece.chars().next_back().unwrap_or(' ');
        rest = after;
    }
    split
}

/// How long the comment or text is that begins here; 0 if none does.
fn prose_length(rest: &str, is_rust: bool, starts_word: bool) -> usize {
    let to = |end: &str, from: usize| {
        rest.get(from..)
            .and_then(|text| text.find(end))
            .map_or(rest.len(), |at| from + at + end.len())
    };
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return to("*/", 2);
    }
    if is_rust && starts_word && (rest.starts_with("r\"") || rest.starts_with("r#\"")) {
        return if rest.starts_with("r\"") { to("\"", 2) } else { to("\"#", 3) };
    }
    match rest.chars().next() {
        Some('"') => quoted_length(rest, '"'),
        Some(quote @ ('\'' | '`')) if !is_rust => quoted_length(rest, quote),
        // A character, or a lifetime, which is code.
        Some('\'') => {
            let mut chars = rest.char_indices().skip(1);
            match (chars.next(), chars.next()) {
                (Some((_, '\\')), _) => quoted_length(rest, '\''),
                (Some(_), Some((at, '\''))) => at + 1,
                _ => 0,
            }
        }
        _ => 0,
    }
}

fn quoted_length(rest: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

/// The words of a text, underscores within them, each with the number of its line.
pub fn words(text: &str) -> Vec<(usize, &str)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '\'';
    (1..)
        .zip(text.lines())
        .flat_map(|(number, line)| {
            let words = line.split(move |c: char| !is_word(c));
            let words = words.map(|word| word.trim_matches('\''));
            words.filter(|word| !word.is_empty()).map(move |word| (number, word))
        })
        .collect()
}

/// The lines of a file before the tests that stand in it.
pub fn before_tests(code: &str) -> &str {
    code.split("\nmod tests {").next().unwrap_or(code)
}

#[test]
fn code_and_prose_are_told_apart() {
    let text = "fn a<'a>(x: &'a str) { f('\"', \"b \\\" c\", r#\"d\"e\"#); } // g\n/* h */ i\n";
    let Split { code, prose } = split(text, true);
    let names = |text: &str| words(text).into_iter().map(|(_, w)| w.to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&code), ["fn", "a", "a", "x", "a", "str", "f", "i"]);
    assert_eq!(names(&prose), ["b", "c", "r", "d", "e", "g", "h"]);
    let Split { code, prose } = split("a('b', `c`); // d\n", false);
    assert_eq!(names(&code), ["a"]);
    assert_eq!(names(&prose), ["b", "c", "d"]);
}

#[test]
fn tests_in_a_file_are_cut_off_and_a_file_of_tests_is_not() {
    assert_eq!(before_tests("a;\nmod tests {\n    b;\n}\n"), "a;");
    assert_eq!(before_tests("mod a;\nmod tests;\nb;\n"), "mod a;\nmod tests;\nb;\n");
}
