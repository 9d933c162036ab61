//! BENCHMARKS.md, whose tables are written by this program.

use std::path::Path;
use std::{fs, io};

use crate::report::Report;

/// Puts a report between its marks in BENCHMARKS.md, and its plots into the directory that the page shows them from.
pub fn renew(report: &Report) -> io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let path = root.join("BENCHMARKS.md");
    let page = fs::read_to_string(&path)?;
    let renewed = with_block(&page, report.name, report.markdown()).ok_or_else(|| {
        io::Error::other(format!("BENCHMARKS.md has no marks for {}", report.name))
    })?;
    fs::write(&path, renewed)?;
    report.write_plots_to(&root.join("docs/benchmarks"))
}

/// The page with another text between `<!-- name -->` and `<!-- /name -->`.
fn with_block(page: &str, name: &str, block: &str) -> Option<String> {
    let (before, rest) = page.split_once(&format!("<!-- {name} -->\n"))?;
    let (_, after) = rest.split_once(&format!("<!-- /{name} -->"))?;
    Some(format!("{before}<!-- {name} -->\n{block}<!-- /{name} -->{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "head\n<!-- a -->\nold\n<!-- /a -->\n<!-- b -->\n<!-- /b -->\n";

    #[test]
    fn only_the_named_block_changes() {
        let page = with_block(PAGE, "a", "new\n").unwrap();
        assert_eq!(page, "head\n<!-- a -->\nnew\n<!-- /a -->\n<!-- b -->\n<!-- /b -->\n");
        assert_eq!(with_block(&page, "b", "x\n").unwrap().matches("x\n").count(), 1);
        assert_eq!(with_block(PAGE, "c", "new\n"), None);
    }

    #[test]
    fn the_page_has_marks_for_every_part() {
        let page = include_str!("../../BENCHMARKS.md");
        for name in ["decisions", "stalls", "propagation", "memory"] {
            assert!(with_block(page, name, "").is_some(), "{name}");
        }
    }
}
