//! What was measured, as a table.

use std::fmt;

use super::{Point, Study, is_tolerable};

/// Texts in rows, the first of them heads.
pub struct Table(Vec<Vec<String>>);

impl Table {
    pub fn of(study: &Study) -> Table {
        let expects = study.points().any(|point| point.expected.is_some());
        let several = study.series.len() > 1;
        let mut heads = vec![study.x.label, "mean", "10% to 90% of runs", "p99"];
        if several {
            heads.insert(0, "");
        }
        if expects {
            heads.extend(["formula", "measured / formula"]);
        }
        let mut rows = vec![heads.into_iter().map(str::to_owned).collect()];
        for series in &study.series {
            for point in &series.points {
                let mut row = cells(point, expects);
                if several {
                    row.insert(0, series.label.to_owned());
                }
                rows.push(row);
            }
        }
        Table(rows)
    }

    pub fn html(&self) -> String {
        let mut html = "<table>\n".to_owned();
        for (number, row) in self.0.iter().enumerate() {
            let tag = if number == 0 { "th" } else { "td" };
            let cells = row.iter().map(|cell| format!("<{tag}>{cell}</{tag}>"));
            html += &format!("<tr>{}</tr>\n", cells.collect::<String>());
        }
        html + "</table>\n"
    }
}

fn cells(point: &Point, expects: bool) -> Vec<String> {
    let measured = &point.measured;
    let mut cells = vec![
        point.x.to_string(),
        format!("{:.1} ± {:.1}", measured.mean, measured.uncertainty),
        format!("{:.0} to {:.0}", measured.low, measured.high),
        format!("{:.1}", measured.p99),
    ];
    if expects {
        cells.push(point.expected.map_or(String::new(), |expected| format!("{expected:.1}")));
        cells.push(point.ratio().map_or(String::new(), |ratio| {
            let verdict = if is_tolerable(ratio) { "" } else { " (off)" };
            format!("{ratio:.3}{verdict}")
        }));
    }
    cells
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.0.first().map_or(0, Vec::len);
        let width = |column: usize| {
            self.0.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.0 {
            for (cell, width) in row.iter().zip(&widths) {
                write!(f, "{cell:>width$}  ")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
