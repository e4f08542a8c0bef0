//! Charts as SVG or PNG files.
//!
//! Takes titled series of points; writes one chart below the other. It computes nothing but the ends
//! of axes.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use plotters::coord::Shift;
use plotters::drawing::DrawingAreaErrorKind;
use plotters::prelude::{
    BLUE, BitMapBackend, ChartBuilder, Circle, DrawingArea, DrawingBackend, GREEN, IntoDrawingArea,
    LineSeries, MAGENTA, PathElement, RED, RGBColor, SVGBackend, TRANSPARENT, WHITE,
};
use plotters::style::{Color, FontStyle, register_font};

use crate::error::{At, Failure};
use crate::{outputs, png};

/// Some series over one pair of axes.
#[derive(Debug, Clone)]
pub(crate) struct Chart {
    /// What the values are.
    pub(crate) title: String,
    /// What the points are along the horizontal axis.
    pub(crate) along: String,
    /// What is drawn in colours of its own.
    pub(crate) series: Vec<Series>,
}

/// Points that belong together.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    /// What they are; only shown where there are several series.
    pub(crate) name: String,
    /// From left to right.
    pub(crate) points: Vec<(f64, f64)>,
}

/// The width of a picture in pixels.
const WIDTH: u32 = 960;

/// The height of one chart in pixels.
const HEIGHT: u32 = 300;

/// The fewest pixels of a picture's height.
const HEIGHT_MIN: u32 = 420;

/// The colours of series, in order and then again.
const COLORS: [RGBColor; 5] = [BLUE, RED, GREEN, MAGENTA, RGBColor(255, 140, 0)];

/// Points up to which each is marked.
const MARKED_MAX: usize = 40;

/// The name of the font in pictures.
pub(crate) const FONT: &str = "sans-serif";

/// The formats of pictures.
enum Format {
    Svg,
    Png,
}

/// The format that a name asks for.
fn format(path: &Path) -> Result<Format, Failure> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("svg") => Ok(Format::Svg),
        Some("png") => Ok(Format::Png),
        Some(_) | None => {
            let message = format!("{}: plots are written as SVG or PNG", path.display());
            Err(Failure::usage(message).hint("choose a name that ends in .svg or .png"))
        }
    }
}

/// Refuses a file that could not be written when all work is done.
pub(crate) fn check(path: &Path) -> Result<(), Failure> {
    format(path)?;
    outputs::check(path)
}

/// Draws charts into a `.svg` or `.png` file.
pub(crate) fn write(path: &Path, charts: &[Chart]) -> Result<(), Failure> {
    let size = (WIDTH, (HEIGHT * charts.len() as u32).max(HEIGHT_MIN));
    let bytes = match format(path)? {
        Format::Svg => svg(charts, size).at(path.display())?.into_bytes(),
        Format::Png => bitmap(charts, size).at(path.display())?,
    };
    outputs::check(path)?;
    outputs::write(path, &[bytes.into()])
}

/// Makes the font known: the texts of both formats are measured by it.
pub(crate) fn register() -> Result<(), String> {
    let font = epaint_default_fonts::UBUNTU_LIGHT;
    register_font(FONT, FontStyle::Normal, font).map_err(|_| "its font is damaged".to_owned())
}

fn svg(charts: &[Chart], size: (u32, u32)) -> Result<String, String> {
    register()?;
    let mut text = String::new();
    draw(
        &SVGBackend::with_string(&mut text, size).into_drawing_area(),
        charts,
    )?;
    Ok(text)
}

fn bitmap(charts: &[Chart], size: (u32, u32)) -> Result<Vec<u8>, String> {
    register()?;
    let mut pixels = vec![0; (size.0 * size.1 * 3) as usize];
    draw(
        &BitMapBackend::with_buffer(&mut pixels, size).into_drawing_area(),
        charts,
    )?;
    png::encode_rgb(&pixels, size, &BTreeMap::new()).map_err(|failure| failure.to_string())
}

/// Draws one chart below the other.
fn draw<B: DrawingBackend>(area: &DrawingArea<B, Shift>, charts: &[Chart]) -> Result<(), String> {
    let said = |error: DrawingAreaErrorKind<B::ErrorType>| error.to_string();
    area.fill(&WHITE).map_err(said)?;
    for (part, chart) in area.split_evenly((charts.len(), 1)).iter().zip(charts) {
        draw_one(part, chart).map_err(said)?;
    }
    area.present().map_err(said)
}

fn draw_one<B: DrawingBackend>(
    part: &DrawingArea<B, Shift>,
    chart: &Chart,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let points = chart.series.iter().flat_map(|series| &series.points);
    let [across, up] = ends(&points.copied().collect::<Vec<_>>());
    let mut axes = ChartBuilder::on(part)
        .caption(&chart.title, (FONT, 18))
        .margin(12)
        .x_label_area_size(if chart.along.is_empty() { 28 } else { 42 })
        .y_label_area_size(72)
        .build_cartesian_2d(across, up)?;
    axes.configure_mesh()
        .light_line_style(TRANSPARENT)
        .label_style((FONT, 13))
        .x_desc(&chart.along)
        .x_label_formatter(&|value| label(*value))
        .y_label_formatter(&|value| label(*value))
        .draw()?;
    for (series, color) in chart.series.iter().zip(COLORS.iter().cycle()) {
        let points = series.points.iter().copied();
        let line = axes.draw_series(LineSeries::new(points.clone(), color))?;
        if chart.series.len() > 1 {
            line.label(&series.name)
                .legend(|(x, y)| PathElement::new(vec![(x, y), (x + 16, y)], *color));
        }
        if series.points.len() <= MARKED_MAX {
            axes.draw_series(points.map(|point| Circle::new(point, 3, color.filled())))?;
        }
    }
    if chart.series.len() > 1 {
        axes.configure_series_labels()
            .label_font((FONT, 13))
            .background_style(WHITE)
            .draw()?;
    }
    Ok(())
}

/// A number beside an axis.
fn label(value: f64) -> String {
    match value.abs() {
        size if size != 0.0 && !(1e-3..1e7).contains(&size) => format!("{value:.1e}"),
        _ => format!("{value:.4}")
            .trim_end_matches('0')
            .trim_end_matches('.')
            .to_owned(),
    }
}

/// The ranges of points along both axes, none of them empty.
fn ends(points: &[(f64, f64)]) -> [Range<f64>; 2] {
    let range = |number: fn(&(f64, f64)) -> f64| {
        let numbers = points
            .iter()
            .map(number)
            .filter(|number| number.is_finite());
        let (low, high) = numbers.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| {
            (low.min(x), high.max(x))
        });
        match (low < high, low.is_finite()) {
            (true, _) => low..high,
            (false, true) => low - 0.5 * low.abs().max(1e-9)..low + 0.5 * low.abs().max(1e-9),
            (false, false) => 0.0..1.0,
        }
    };
    [range(|point| point.0), range(|point| point.1)]
}
