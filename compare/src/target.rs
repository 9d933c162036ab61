//! What is to be reached, and whether it was.

use crate::table::Table;

/// A bound, beside what was measured.
pub struct Target {
    what: String,
    bound: Bound,
    unit: &'static str,
    measured: f64,
}

#[derive(Clone, Copy)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Target {
    /// Met by anything up to `bound`.
    pub fn at_most(
        what: impl Into<String>,
        bound: f64,
        unit: &'static str,
        measured: f64,
    ) -> Target {
        Target { what: what.into(), bound: Bound::AtMost(bound), unit, measured }
    }

    /// Met by anything from `bound` on.
    pub fn at_least(
        what: impl Into<String>,
        bound: f64,
        unit: &'static str,
        measured: f64,
    ) -> Target {
        Target { what: what.into(), bound: Bound::AtLeast(bound), unit, measured }
    }

    fn verdict(&self) -> String {
        let (is_met, bound) = match self.bound {
            Bound::AtMost(bound) => (self.measured <= bound, bound),
            Bound::AtLeast(bound) => (self.measured >= bound, bound),
        };
        match is_met {
            true => "met".to_owned(),
            false => format!("**missed** by {:.0} %", 100.0 * (self.measured / bound - 1.0).abs()),
        }
    }
}

/// All of them.
pub fn table(targets: &[Target]) -> Table {
    let mut table = Table::new(["target", "", "measured", ""]);
    for target in targets {
        let (word, bound) = match target.bound {
            Bound::AtMost(bound) => ("at most", bound),
            Bound::AtLeast(bound) => ("at least", bound),
        };
        let number = |number: f64| format!("{}{}", rounded(number), target.unit);
        table.row([
            target.what.clone(),
            format!("{word} {}", number(bound)),
            number(target.measured),
            target.verdict(),
        ]);
    }
    table
}

/// Three digits, and no zeros behind.
fn rounded(number: f64) -> String {
    match number {
        100.0.. => format!("{number:.0}"),
        10.0.. => format!("{number:.1}").replace(".0", ""),
        _ => {
            let text = format!("{number:.2}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_miss_says_by_how_much() {
        let targets = [
            Target::at_most("fast", 0.8, "x", 0.75),
            Target::at_most("fast", 0.8, "x", 1.0),
            Target::at_least("scales", 1.7, "x", 1.36),
        ];
        let text = table(&targets).to_string();
        assert!(text.contains("| fast | at most 0.8x | 0.75x | met |"), "{text}");
        assert!(text.contains("| fast | at most 0.8x | 1x | **missed** by 25 % |"), "{text}");
        assert!(text.contains("| scales | at least 1.7x | 1.36x | **missed** by 20 % |"), "{text}");
    }
}
