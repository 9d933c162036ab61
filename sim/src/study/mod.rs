//! Studies: clusters without faults measured, and drawn beside what the formulas say.

mod formula;
mod measure;
mod page;
mod plot;
mod questions;
mod table;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use measure::Sample;
use questions::Effort;
use table::Table;

/// Runs the studies, or `only` the one of this name, prints their tables, and writes a plot of each and the page that holds them all, whose path it
/// returns.
pub fn run(out: &Path, quick: bool, only: Option<&str>) -> io::Result<PathBuf> {
    write(out, if quick { Effort::QUICK } else { Effort::THOROUGH }, only)
}

fn write(out: &Path, effort: Effort, only: Option<&str>) -> io::Result<PathBuf> {
    fs::create_dir_all(out)?;
    let mut drawn = Vec::new();
    for (name, question) in questions::ALL {
        if only.is_some_and(|only| only != name) {
            continue;
        }
        let study = question(effort)?;
        crate::out!("{}\n\n{}", study.title, Table::of(&study));
        let svg = plot::draw(&study)?;
        fs::write(out.join(format!("{}.svg", study.name)), &svg)?;
        drawn.push((study, svg));
    }
    let page = out.join("index.html");
    fs::write(&page, page::write(&drawn))?;
    Ok(page)
}

/// How far the mean may be from the formula, as a factor.
const TOLERANCE: f64 = 1.25;

/// One question and its answer.
struct Study {
    /// Of its file.
    name: &'static str,
    title: &'static str,
    /// What was run.
    setting: String,
    /// What the formula is, if there is one.
    formula: Option<&'static str>,
    /// What is to be seen.
    finding: &'static str,
    x: Axis,
    y: Axis,
    series: Vec<Series>,
}

struct Axis {
    label: &'static str,
    is_logarithmic: bool,
}

/// Points that belong together.
struct Series {
    label: &'static str,
    points: Vec<Point>,
}

struct Point {
    x: f64,
    measured: Sample,
    /// By the formula.
    expected: Option<f64>,
}

impl Study {
    fn points(&self) -> impl Iterator<Item = &Point> {
        self.series.iter().flat_map(|series| &series.points)
    }

    /// The least and the greatest ratio of what was measured to the formula.
    fn ratios(&self) -> Option<(f64, f64)> {
        let ratios = || self.points().filter_map(Point::ratio);
        Some((ratios().reduce(f64::min)?, ratios().reduce(f64::max)?))
    }
}

impl Point {
    fn ratio(&self) -> Option<f64> {
        self.expected.map(|expected| self.measured.mean / expected)
    }
}

fn is_tolerable(ratio: f64) -> bool {
    (1.0 / TOLERANCE..=TOLERANCE).contains(&ratio)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;
    use measure::{CALLS_PER_S, DELAY_MS, cluster};

    const INTERVAL_MS: f64 = 50.0;

    fn check(options: &Options, age_ms: f64) {
        let shares = formula::shares(options.nodes, 0.0);
        let expected = formula::overshoot(CALLS_PER_S as f64, &shares, age_ms);
        let mean = measure::overshoot(options, 16).unwrap().mean;
        let nodes = options.nodes;
        assert!(is_tolerable(mean / expected), "{nodes} nodes: {mean} instead of {expected}");
    }

    #[test]
    fn without_faults_the_mean_overshoot_is_within_a_quarter_of_the_formula() {
        for nodes in [3, 5, 10] {
            check(&cluster(nodes), formula::direct_age_ms(INTERVAL_MS, DELAY_MS));
        }
        let epidemic = Options { direct_up_to: 0, ..cluster(12) };
        let age_ms =
            formula::epidemic_age_ms(epidemic.nodes, epidemic.fanout, INTERVAL_MS, DELAY_MS);
        check(&epidemic, age_ms);
    }

    #[test]
    fn the_page_holds_every_plot_and_needs_nothing_else() {
        let out = tempfile::tempdir().unwrap();
        let page = write(out.path(), Effort { runs: 1, nodes_max: 5 }, None).unwrap();
        let page = fs::read_to_string(page).unwrap();
        assert_eq!(page.matches("<svg ").count(), questions::ALL.len());
        let space = "xmlns=\"http://www.w3.org/2000/svg\"";
        let rest = page.replace(space, "");
        for reference in ["http:", "https:", "src=", "href=", "url(", "@import"] {
            assert!(!rest.contains(reference), "{reference}");
        }
        let files = fs::read_dir(out.path()).unwrap();
        assert_eq!(files.count(), questions::ALL.len() + 1);
    }
}
