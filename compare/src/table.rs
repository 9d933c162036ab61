//! Tables in Markdown.

use std::fmt;

/// Rows of texts below heads.
pub struct Table {
    heads: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Without rows yet.
    pub fn new<H: Into<String>>(heads: impl IntoIterator<Item = H>) -> Table {
        Table { heads: heads.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// Adds a row, which has a cell for each head.
    pub fn row<C: Into<String>>(&mut self, cells: impl IntoIterator<Item = C>) {
        let cells: Vec<String> = cells.into_iter().map(Into::into).collect();
        assert_eq!(cells.len(), self.heads.len(), "{cells:?} below {:?}", self.heads);
        self.rows.push(cells);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| {} |", self.heads.join(" | "))?;
        writeln!(f, "|{}", "---|".repeat(self.heads.len()))?;
        self.rows.iter().try_for_each(|row| writeln!(f, "| {} |", row.join(" | ")))
    }
}

/// Nanoseconds, in the unit that suits them.
pub fn time(nanoseconds: f64) -> String {
    match nanoseconds {
        ..10.0 => format!("{nanoseconds:.1} ns"),
        ..1e3 => format!("{nanoseconds:.0} ns"),
        ..1e4 => format!("{:.1} µs", nanoseconds / 1e3),
        ..1e6 => format!("{:.0} µs", nanoseconds / 1e3),
        ..1e7 => format!("{:.2} ms", nanoseconds / 1e6),
        ..1e9 => format!("{:.0} ms", nanoseconds / 1e6),
        _ => format!("{:.2} s", nanoseconds / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_markdown() {
        let mut table = Table::new(["", "p50"]);
        table.row(["governor", "60 ns"]);
        assert_eq!(table.to_string(), "|  | p50 |\n|---|---|\n| governor | 60 ns |\n");
    }

    #[test]
    fn times_have_the_unit_that_suits_them() {
        let texts = [5.04, 96.4, 1_234.0, 45_600.0, 1_234_000.0, 2e9].map(time);
        assert_eq!(texts, ["5.0 ns", "96 ns", "1.2 µs", "46 µs", "1.23 ms", "2.00 s"]);
    }
}
