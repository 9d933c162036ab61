//! The rule: whether a cost fits under a limit. Everything that decides asks here, and nothing else compares a value with a
//! limit.
//!
//! What is *read* and what is *charged* are two things. A [`Reading`] is what a window makes of the counters that it reads;
//! it knows no counter, so a window may read one or several. The counter that a cost is charged to stands in a
//! [`Demand`](super::Demand).

/// What was read for a decision: how much of a limit is used, and how much it allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// What the window's counters hold now.
    pub used: u64,
    /// What the limit allows in one window.
    pub max: u64,
}

/// The answer of [`judge`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// The cost fits.
    Room,
    /// It does not: what is used and the cost together are more than the limit allows.
    Full,
}

/// Whether a cost fits: what is used and the cost together are at most the limit's `max`.
///
/// A cost of 0 fits unless more is used than is allowed already, as happens when other nodes counted at the same time.
#[inline(always)]
pub fn judge(reading: Reading, cost: u64) -> Verdict {
    match reading.after(cost).used <= reading.max {
        true => Verdict::Room,
        false => Verdict::Full,
    }
}

impl Verdict {
    /// Whether the cost may be charged.
    #[inline(always)]
    pub fn is_room(self) -> bool {
        self == Verdict::Room
    }
}

impl Reading {
    /// A limit of which nothing is used: what does not fit there never fits.
    #[inline(always)]
    pub fn unused(max: u64) -> Reading {
        Reading { used: 0, max }
    }

    /// What will be read once a cost is charged.
    #[inline(always)]
    pub fn after(self, cost: u64) -> Reading {
        Reading { used: self.used.saturating_add(cost), ..self }
    }

    /// How much is left; 0 if more is used than is allowed.
    #[inline(always)]
    pub fn remaining(self) -> u64 {
        self.max.saturating_sub(self.used)
    }
}

#[cfg(test)]
mod tests {
    use alloc::{format, string::String, vec::Vec};
    use std::path::{Path, PathBuf};

    use super::*;

    #[test]
    fn what_is_used_and_the_cost_may_be_the_max_and_no_more() {
        let judge = |used, max, cost| judge(Reading { used, max }, cost);
        assert_eq!(judge(2, 3, 1), Verdict::Room);
        assert_eq!(judge(3, 3, 1), Verdict::Full);
        assert_eq!(judge(0, 3, 3), Verdict::Room);
        assert_eq!(judge(0, 3, 4), Verdict::Full);
        assert_eq!(judge(0, 0, 0), Verdict::Room);
        assert_eq!(judge(0, 0, 1), Verdict::Full);
    }

    #[test]
    fn a_cost_of_nothing_fits_unless_the_limit_is_passed_already() {
        assert_eq!(judge(Reading { used: 3, max: 3 }, 0), Verdict::Room);
        assert_eq!(judge(Reading { used: 4, max: 3 }, 0), Verdict::Full);
    }

    #[test]
    fn nothing_overflows() {
        let full = Reading { used: u64::MAX, max: u64::MAX - 1 };
        assert_eq!(judge(full, u64::MAX), Verdict::Full);
        assert_eq!((full.remaining(), full.after(1).used), (0, u64::MAX));
        assert_eq!(Reading::unused(5).after(2).remaining(), 3);
    }

    fn files(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => files(&path, found),
                false => found.push(path),
            }
        }
    }

    /// Whether a line compares something with a limit: behind the operator stands the word `max`.
    fn compares_with_max(line: &str) -> bool {
        let code = line.split("//").next().unwrap_or("");
        [" < ", " <= ", " > ", " >= "].iter().any(|operator| {
            code.split_once(operator).is_some_and(|(_, right)| {
                let word = |c: char| c.is_alphanumeric() || c == '_';
                let right = right.split(&['{', ';', '&', '|'][..]).next().unwrap_or("");
                right.match_indices("max").any(|(at, _)| {
                    let (before, behind) = (&right[..at], &right[at + 3..]);
                    !before.ends_with(word) && !behind.starts_with(word) && !behind.starts_with('(')
                })
            })
        })
    }

    #[test]
    fn nothing_else_compares_a_value_with_a_limit() {
        assert!(compares_with_max("if value.saturating_add(amount) > max {"));
        assert!(compares_with_max("used <= demand.max"));
        assert!(!compares_with_max("held < self.bounds.counters_max"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut paths = Vec::new();
        ["limit", "table"].iter().for_each(|room| files(&source.join(room), &mut paths));
        let mut second: Vec<String> = Vec::new();
        for path in paths.iter().filter(|path| !path.ends_with("limit/rule.rs")) {
            let text = std::fs::read_to_string(path).unwrap();
            for (line, number) in text.lines().zip(1..) {
                // When peers must be told at once is another question than what is allowed.
                if compares_with_max(line) && !line.contains("urgent_fraction") {
                    second.push(format!("{}:{number}: {line}", path.display()));
                }
            }
        }
        assert!(second.is_empty(), "ask rule::judge instead:\n{}", second.join("\n"));
    }
}
