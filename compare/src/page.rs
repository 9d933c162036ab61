//! The pages in docs/benchmarks, whose tables and plots are written by this program.

use std::path::Path;
use std::{fs, io};

use crate::report::Report;

/// Puts a report between the marks in its page, and its plots beside the page.
pub fn renew(report: &Report) -> io::Result<()> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/benchmarks");
    let path = directory.join(format!("{}.md", report.name));
    let page = fs::read_to_string(&path)?;
    let renewed = with_block(&page, report.name, report.markdown()).ok_or_else(|| {
        io::Error::other(format!("docs/benchmarks/{0}.md has no marks for {0}", report.name))
    })?;
    fs::write(&path, renewed)?;
    report.write_plots_to(&directory)
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
    fn every_page_has_marks_for_its_part() {
        let pages = [
            ("decisions", include_str!("../../docs/benchmarks/decisions.md")),
            ("stalls", include_str!("../../docs/benchmarks/stalls.md")),
            ("propagation", include_str!("../../docs/benchmarks/propagation.md")),
            ("memory", include_str!("../../docs/benchmarks/memory.md")),
            ("lives", include_str!("../../docs/benchmarks/lives.md")),
        ];
        for (name, page) in pages {
            assert!(with_block(page, name, "").is_some(), "{name}");
        }
    }
}
