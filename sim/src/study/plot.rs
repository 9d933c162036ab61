//! A study as a plot.

use std::error::Error;
use std::io;

use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;

use super::{Series, Study};

/// For phones: small enough that its texts can be read when it is as wide as the screen.
const SIZE: (u32, u32) = (560, 400);
const FONT: &str = "sans-serif";

/// What is drawn on.
pub const PAPER: RGBColor = RGBColor(255, 255, 255);
/// Texts and axes.
pub const INK: RGBColor = RGBColor(34, 34, 34);
/// The mesh.
pub const FAINT: RGBColor = RGBColor(221, 221, 221);
/// One for each series; they differ to the colour-blind as well (Okabe and Ito).
pub const COLOURS: [RGBColor; 4] =
    [RGBColor(0, 114, 178), RGBColor(213, 94, 0), RGBColor(0, 158, 115), RGBColor(170, 90, 140)];

/// Draws measured points with bars from the lowest to the highest tenth of the runs, and lines for the formulas.
pub fn draw(study: &Study) -> io::Result<String> {
    let mut svg = String::new();
    draw_into(&mut svg, study).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(svg)
}

fn draw_into(svg: &mut String, study: &Study) -> Result<(), Box<dyn Error>> {
    let mut at: Vec<f64> = study.points().map(|point| point.x).collect();
    at.sort_by(f64::total_cmp);
    at.dedup();
    let (Some(&first), Some(&last)) = (at.first(), at.last()) else { return Ok(()) };
    if study.x.is_logarithmic {
        let x = (first / 1.2..last * 1.2).log_scale();
        draw_along(svg, study, x.with_key_points(at))
    } else {
        let margin = (last - first) / 20.0;
        draw_along(svg, study, first - margin..last + margin)
    }
}

fn draw_along<X>(svg: &mut String, study: &Study, x: X) -> Result<(), Box<dyn Error>>
where
    X: AsRangedCoord<Value = f64>,
    X::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&PAPER)?;
    let heights =
        study.points().flat_map(|point| [point.measured.high, point.expected.unwrap_or(0.0)]);
    let top = heights.fold(0.0, f64::max) * 1.2;
    let mut chart = ChartBuilder::on(&root)
        .margin(12)
        .x_label_area_size(48)
        .y_label_area_size(64)
        .build_cartesian_2d(x, 0.0..top)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(FAINT)
        .light_line_style(TRANSPARENT)
        .axis_style(INK)
        .y_labels(6)
        .label_style((FONT, 15).into_font().color(&INK))
        .axis_desc_style((FONT, 15).into_font().color(&INK))
        .x_label_formatter(&rounded)
        .y_label_formatter(&rounded)
        .x_desc(study.x.label)
        .y_desc(study.y.label)
        .draw()?;
    for (series, colour) in study.series.iter().zip(COLOURS) {
        draw_series(&mut chart, series, colour)?;
    }
    chart
        .configure_series_labels()
        .position(if falls(study) {
            SeriesLabelPosition::UpperRight
        } else {
            SeriesLabelPosition::UpperLeft
        })
        .background_style(PAPER)
        .border_style(FAINT)
        .label_font((FONT, 15).into_font().color(&INK))
        .draw()?;
    root.present()?;
    drop(chart);
    Ok(())
}

fn draw_series<'a, X>(
    chart: &mut ChartContext<
        'a,
        SVGBackend<'a>,
        Cartesian2d<X, plotters::coord::types::RangedCoordf64>,
    >,
    series: &Series,
    colour: RGBColor,
) -> Result<(), Box<dyn Error>>
where
    X: Ranged<ValueType = f64>,
{
    let formula = series.points.iter().filter_map(|point| Some((point.x, point.expected?)));
    let formula: Vec<(f64, f64)> = formula.collect();
    if !formula.is_empty() {
        chart
            .draw_series(LineSeries::new(formula, colour.stroke_width(2)))?
            .label(format!("{}: formula", series.label))
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2)));
    }
    let bars = series.points.iter().map(|point| {
        let measured = &point.measured;
        let style = colour.filled();
        ErrorBar::new_vertical(point.x, measured.low, measured.mean, measured.high, style, 8)
    });
    chart.draw_series(bars)?;
    let points = series.points.iter().map(|point| (point.x, point.measured.mean));
    chart
        .draw_series(points.map(|at| Circle::new(at, 4, colour.filled())))?
        .label(format!("{}: measured", series.label))
        .legend(move |(x, y)| Circle::new((x + 10, y), 4, colour.filled()));
    Ok(())
}

/// Whether there is more room for a legend on the right.
fn falls(study: &Study) -> bool {
    let ends = study.series.iter().filter_map(|series| {
        Some((series.points.first()?.measured.high, series.points.last()?.measured.high))
    });
    let (first, last) =
        ends.fold((0.0_f64, 0.0_f64), |(first, last), ends| (first.max(ends.0), last.max(ends.1)));
    first > last
}

/// Without the far decimals that come of adding up steps.
fn rounded(number: &f64) -> String {
    ((number * 100.0).round() / 100.0).to_string()
}
