//! `splamc plot`: how a training went, as a picture.
//!
//! Takes a training folder, reads its metrics; writes the loss, the gradient's norm and the learning
//! rate over the updates as SVG or PNG. It computes nothing but the ends of axes.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use plotters::coord::Shift;
use plotters::drawing::DrawingAreaErrorKind;
use plotters::prelude::{
    BLUE, BitMapBackend, ChartBuilder, DrawingArea, DrawingBackend, IntoDrawingArea, LineSeries,
    SVGBackend, TRANSPARENT, WHITE,
};
use plotters::style::{FontStyle, register_font};
use serde_json::Value;

use crate::error::{At, Failure};
use crate::{files, outputs, png};

/// Draw how a training went.
///
/// Reads metrics.jsonl of a training folder, also while the training runs, and draws the loss, the
/// norm of the gradient and the learning rate over the updates.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    splamc plot run                     # run/metrics.svg\n  \
    splamc plot run -o loss.png")]
pub(crate) struct Arguments {
    /// The training folder: --out of `splamc train`.
    folder: PathBuf,
    /// The file to write, .svg or .png; metrics.svg in the folder if not given.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// A number of every update.
struct Series {
    title: &'static str,
    points: Vec<(f64, f64)>,
}

/// The numbers that are drawn, by their names in the metrics.
const SERIES: [(&str, &str); 3] = [
    ("loss", "loss"),
    ("grad_norm", "norm of the gradient"),
    ("lr", "learning rate"),
];

/// The size of the picture in pixels.
const SIZE: (u32, u32) = (960, 900);

/// The name of the font in pictures.
const FONT: &str = "sans-serif";

/// Draws.
pub(crate) fn execute(arguments: &Arguments) -> Result<(), Failure> {
    let metrics = arguments.folder.join("metrics.jsonl");
    let series = read(&metrics)?;
    let output = match &arguments.output {
        Some(output) => output.clone(),
        None => arguments.folder.join("metrics.svg"),
    };
    let place = output.display().to_string();
    let extension = output.extension().and_then(|extension| extension.to_str());
    let bytes = match extension {
        Some("svg") => svg(&series).at(&place)?.into_bytes(),
        Some("png") => bitmap(&series).at(&place)?,
        Some(_) | None => {
            let message = format!("{place}: plots are written as SVG or PNG");
            return Err(Failure::usage(message).hint("choose a name that ends in .svg or .png"));
        }
    };
    outputs::check(&output)?;
    outputs::write(&output, &[bytes.into()])
}

/// The series in a file of metrics.
fn read(path: &Path) -> Result<Vec<Series>, Failure> {
    let bytes = files::read(path)?;
    let text = std::str::from_utf8(&bytes).at(path.display())?;
    let mut lines = Vec::new();
    for (number, line) in text.lines().enumerate() {
        // A training that runs may be writing the last line.
        let parsed: Result<Value, _> = serde_json::from_str(line);
        match parsed {
            Ok(object) => lines.push(object),
            Err(_) if number + 1 == text.lines().count() => {}
            Err(error) => {
                return Err(error).at(format!("{}: line {}", path.display(), number + 1));
            }
        }
    }
    let series = |(name, title): (&str, &'static str)| {
        let point = |line: &Value| Some((line["step"].as_f64()?, line[name].as_f64()?));
        let points = lines.iter().filter_map(point).collect();
        Series { title, points }
    };
    let series: Vec<Series> = SERIES.into_iter().map(series).collect();
    match series.iter().all(|series| series.points.is_empty()) {
        true => Err(Failure::job(format!(
            "{}: there is no update yet",
            path.display()
        ))),
        false => Ok(series),
    }
}

/// Makes the font known: the texts of both formats are measured by it.
fn register() -> Result<(), String> {
    let font = epaint_default_fonts::UBUNTU_LIGHT;
    register_font(FONT, FontStyle::Normal, font).map_err(|_| "its font is damaged".to_owned())
}

fn svg(series: &[Series]) -> Result<String, String> {
    register()?;
    let mut text = String::new();
    draw(
        &SVGBackend::with_string(&mut text, SIZE).into_drawing_area(),
        series,
    )?;
    Ok(text)
}

fn bitmap(series: &[Series]) -> Result<Vec<u8>, String> {
    register()?;
    let mut pixels = vec![0; (SIZE.0 * SIZE.1 * 3) as usize];
    draw(
        &BitMapBackend::with_buffer(&mut pixels, SIZE).into_drawing_area(),
        series,
    )?;
    png::encode_rgb(&pixels, SIZE, &BTreeMap::new()).map_err(|failure| failure.to_string())
}

/// Draws one chart below the other.
fn draw<B: DrawingBackend>(area: &DrawingArea<B, Shift>, series: &[Series]) -> Result<(), String> {
    let said = |error: DrawingAreaErrorKind<B::ErrorType>| error.to_string();
    area.fill(&WHITE).map_err(said)?;
    for (part, series) in area.split_evenly((series.len(), 1)).iter().zip(series) {
        let [steps, values] = ends(&series.points);
        let mut chart = ChartBuilder::on(part)
            .caption(series.title, (FONT, 18))
            .margin(12)
            .x_label_area_size(28)
            .y_label_area_size(72)
            .build_cartesian_2d(steps, values)
            .map_err(said)?;
        let label = |value: &f64| match value.abs() {
            value_abs if value_abs != 0.0 && !(1e-3..1e5).contains(&value_abs) => {
                format!("{value:.1e}")
            }
            _ => format!("{value:.4}")
                .trim_end_matches('0')
                .trim_end_matches('.')
                .to_owned(),
        };
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .label_style((FONT, 13))
            .x_label_formatter(&|step| format!("{step:.0}"))
            .y_label_formatter(&label)
            .draw()
            .map_err(said)?;
        let line = LineSeries::new(series.points.iter().copied(), &BLUE);
        chart.draw_series(line).map_err(said)?;
    }
    area.present().map_err(said)
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
