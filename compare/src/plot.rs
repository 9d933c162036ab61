//! Plots as SVG.

use std::error::Error;
use std::io;
use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::*;

/// Lines over two axes.
pub struct Plot {
    pub title: &'static str,
    pub x: Axis,
    pub y: Axis,
    /// Names, and points in the order in which they are joined.
    pub series: Vec<(String, Vec<(f64, f64)>)>,
}

/// What an axis says.
#[derive(Debug, Clone, Copy)]
pub struct Axis {
    label: &'static str,
    is_logarithmic: bool,
}

impl Axis {
    pub fn linear(label: &'static str) -> Axis {
        Axis { label, is_logarithmic: false }
    }

    pub fn logarithmic(label: &'static str) -> Axis {
        Axis { label, is_logarithmic: true }
    }
}

const SIZE: (u32, u32) = (840, 440);
const LEGEND_WIDTH: u32 = 280;
/// A line of more points is drawn without dots.
const POINTS_MARKED_MAX: usize = 8;
const FONT: &str = "sans-serif";
const PAPER: RGBColor = RGBColor(255, 255, 255);
const INK: RGBColor = RGBColor(34, 34, 34);
const FAINT: RGBColor = RGBColor(221, 221, 221);
/// They differ to the colour-blind as well (Okabe and Ito, and two more).
const COLOURS: [RGBColor; 9] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(34, 34, 34),
    RGBColor(150, 150, 150),
    RGBColor(136, 34, 85),
];

impl Plot {
    /// Draws it.
    pub fn svg(&self) -> io::Result<String> {
        let mut svg = String::new();
        self.draw_into(&mut svg).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(svg)
    }

    fn draw_into(&self, svg: &mut String) -> Result<(), Box<dyn Error>> {
        let points = || self.series.iter().flat_map(|(_, points)| points);
        let x = self.x.over(points().map(|at| at.0));
        let y = self.y.over(points().map(|at| at.1));
        let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        root.fill(&PAPER)?;
        // The legend stands beside the lines, since there may be a line anywhere.
        let (lines, legend) = root.split_horizontally(SIZE.0 - LEGEND_WIDTH);
        let style = || (FONT, 14).into_font().color(&INK);
        let mut chart = ChartBuilder::on(&lines)
            .margin(12)
            .caption(self.title, (FONT, 16).into_font().color(&INK))
            .x_label_area_size(44)
            .y_label_area_size(72)
            .build_cartesian_2d(x, y)?;
        chart
            .configure_mesh()
            .bold_line_style(FAINT)
            .light_line_style(TRANSPARENT)
            .axis_style(INK)
            .label_style(style())
            .axis_desc_style(style())
            .x_desc(self.x.label)
            .y_desc(self.y.label)
            .draw()?;
        for (number, (name, points)) in self.series.iter().enumerate() {
            let colour = COLOURS[number % COLOURS.len()];
            let points: Vec<_> =
                points.iter().map(|(x, y)| (self.x.place(*x), self.y.place(*y))).collect();
            if points.len() <= POINTS_MARKED_MAX {
                chart.draw_series(points.iter().map(|at| Circle::new(*at, 4, colour.filled())))?;
            }
            chart.draw_series(LineSeries::new(points, colour.stroke_width(2)))?;
            let at = 60 + 22 * number as i32;
            legend.draw(&Rectangle::new([(0, at), (14, at + 4)], colour.filled()))?;
            legend.draw(&Text::new(name.as_str(), (20, at - 6), style()))?;
        }
        root.present()?;
        Ok(())
    }
}

impl Axis {
    /// Where a value is drawn.
    fn place(self, value: f64) -> f64 {
        if self.is_logarithmic { value.max(f64::MIN_POSITIVE).log10() } else { value }
    }

    fn over(self, values: impl Iterator<Item = f64>) -> Scale {
        let range = self.range(values);
        Scale { axis: self, ticks: self.ticks(&range), range }
    }

    /// All values, and a little more; a linear axis begins at 0.
    fn range(self, values: impl Iterator<Item = f64>) -> Range<f64> {
        let places = values.map(|value| self.place(value));
        let (least, most) = places
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), place| {
                (least.min(place), most.max(place))
            });
        match self.is_logarithmic {
            _ if least > most => 0.0..1.0,
            true => least - 0.1..most + 0.1,
            false => 0.0..most * 1.05,
        }
    }

    /// Powers of ten, or about five round numbers.
    fn ticks(self, range: &Range<f64>) -> Vec<f64> {
        let step = if self.is_logarithmic { 1.0 } else { round(range.end / 5.0) };
        let first = (range.start / step).ceil() as i64;
        (first..).map(|number| number as f64 * step).take_while(|at| *at <= range.end).collect()
    }

    fn label_at(self, place: f64) -> String {
        let value = if self.is_logarithmic { 10_f64.powf(place) } else { place };
        // Without the far decimals that come of adding up steps.
        ((value * 1000.0).round() / 1000.0).to_string()
    }
}

/// An axis with values on it, as the plotting library wants it: places, and ticks among them.
#[derive(Clone)]
struct Scale {
    axis: Axis,
    range: Range<f64>,
    ticks: Vec<f64>,
}

impl Ranged for Scale {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let fraction = (value - self.range.start) / (self.range.end - self.range.start);
        limit.0 + (fraction * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Scale {
    fn format_ext(&self, place: &f64) -> String {
        self.axis.label_at(*place)
    }
}

/// The next of 1, 2, 5, 10, ...
fn round(number: f64) -> f64 {
    let power = 10_f64.powf(number.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    steps.into_iter().find(|step| *step >= number).unwrap_or(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        assert_eq!(Axis::linear("").ticks(&(0.0..63.0)), [0.0, 20.0, 40.0, 60.0]);
        assert_eq!(Axis::logarithmic("").ticks(&(0.9..3.1)), [1.0, 2.0, 3.0]);
        assert_eq!(Axis::logarithmic("").label_at(3.0), "1000");
    }

    #[test]
    fn a_plot_is_svg_with_its_names() {
        let plot = Plot {
            title: "Decisions",
            x: Axis::logarithmic("keys"),
            y: Axis::linear("ns"),
            series: vec![("governor".to_owned(), vec![(10.0, 50.0), (1000.0, 80.0)])],
        };
        let svg = plot.svg().unwrap();
        assert!(svg.starts_with("<svg ") && svg.contains("governor"), "{svg}");
    }
}
