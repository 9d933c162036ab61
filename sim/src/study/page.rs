//! The page that holds all plots and tables, and needs nothing else.

use plotters::style::RGBColor;

use super::plot::{COLOURS, FAINT, INK, PAPER};
use super::{Study, TOLERANCE, Table, is_tolerable};

/// The page of these studies and their plots.
pub fn write(drawn: &[(Study, String)]) -> String {
    let sections = drawn.iter().map(|(study, svg)| section(study, svg));
    format!(
        "<!DOCTYPE html>\n\
         <html lang=\"en\">\n\
         <head>\n\
         <meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>tallymesh: studies</title>\n\
         <style>\n{STYLE}{}</style>\n\
         </head>\n\
         <body>\n\
         <h1>tallymesh: studies</h1>\n\
         {}{}\
         </body>\n\
         </html>\n",
        dark_plots(),
        introduction(drawn),
        sections.collect::<String>(),
    )
}

const STYLE: &str = "\
:root { --paper: #ffffff; --ink: #222222; --faint: #dddddd; }
@media (prefers-color-scheme: dark) { :root { --paper: #16191d; --ink: #e4e4e4; --faint: #3a3f46; } }
body { background: var(--paper); color: var(--ink); font: 1rem/1.5 sans-serif; max-width: 45rem;
  margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
svg { display: block; width: 100%; height: auto; }
code { overflow-wrap: anywhere; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.2rem 0.6rem; text-align: right; border-bottom: 1px solid var(--faint); }
th { vertical-align: bottom; } td { white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
";

/// Redraws the plots' colours on dark paper; a rule is stronger than the attributes that a plot is made of.
fn dark_plots() -> String {
    let light = ["#56b4e9", "#f0a35e", "#4fc3a1", "#d9a0c6"];
    let by_role = [(PAPER, "var(--paper)"), (INK, "var(--ink)"), (FAINT, "var(--faint)")];
    let roles = by_role.map(|(colour, value)| recolour(colour, value));
    let series = COLOURS.iter().zip(light).map(|(colour, value)| recolour(*colour, value));
    format!(
        "{}@media (prefers-color-scheme: dark) {{\n{}}}\n",
        roles.concat(),
        series.collect::<String>()
    )
}

fn recolour(RGBColor(red, green, blue): RGBColor, value: &str) -> String {
    let colour = format!("#{red:02X}{green:02X}{blue:02X}");
    let rule = |attribute| format!("svg [{attribute}=\"{colour}\"] {{ {attribute}: {value}; }}\n");
    rule("fill") + &rule("stroke")
}

fn introduction(drawn: &[(Study, String)]) -> String {
    let ratios =
        || drawn.iter().flat_map(|(study, _)| study.points()).filter_map(|point| point.ratio());
    let all = ratios().count();
    let tolerable = ratios().filter(|ratio| is_tolerable(*ratio)).count();
    let (least, greatest) = (ratios().fold(f64::INFINITY, f64::min), ratios().fold(0.0, f64::max));
    format!(
        "<p>Clusters of the production code in virtual time, without faults. <b>Overshoot</b> is what a cluster admits \
         beyond a limit, because a node does not yet know of the last calls of the others. Points are means over many \
         runs, bars reach from the lowest to the highest tenth of the runs, lines are formulas; ± is twice the standard error of the mean. <b>N</b> is the number \
         of nodes, <b>L</b> the calls a second on one counter, all nodes together, <b>T</b> the interval between two \
         rounds of gossip, <b>f</b> how many random peers a round reaches, <b>d</b> the mean delay of the network.</p>\n\
         <p>The mean is to be within a factor of {TOLERANCE} of the formula. That holds for {tolerable} of {all} points that have one; \
         measured / formula is from {least:.2} to {greatest:.2}.</p>\n"
    )
}

fn section(study: &Study, svg: &str) -> String {
    let formula =
        study.formula.map_or(String::new(), |formula| format!("<p><code>{formula}</code></p>\n"));
    let verdict = study.ratios().map_or(String::new(), |(least, greatest)| {
        let within =
            if is_tolerable(least) && is_tolerable(greatest) { "within" } else { "NOT within" };
        format!(" Measured / formula is from {least:.2} to {greatest:.2}, {within} the tolerance.")
    });
    let svg =
        svg.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{}\" ", study.title), 1);
    format!(
        "<h2>{}</h2>\n<p>{}{verdict}</p>\n{formula}{svg}<p>{}.</p>\n<div class=\"table\">\n{}</div>\n",
        study.title,
        study.finding,
        study.setting,
        Table::of(study).html(),
    )
}
