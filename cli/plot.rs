//! `splamc plot`: how a training went, as a picture.
//!
//! Takes a training folder, reads its metrics; writes the loss, the gradient's norm and the learning
//! rate over the updates as SVG or PNG.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::chart::{self, Chart, Series};
use crate::error::{At, Failure};
use crate::files;

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

/// The numbers that are drawn, by their names in the metrics.
const SERIES: [(&str, &str); 3] = [
    ("loss", "loss"),
    ("grad_norm", "norm of the gradient"),
    ("lr", "learning rate"),
];

/// Draws.
pub(crate) fn execute(arguments: &Arguments) -> Result<(), Failure> {
    let metrics = arguments.folder.join("metrics.jsonl");
    let charts = read(&metrics)?;
    let output = match &arguments.output {
        Some(output) => output.clone(),
        None => arguments.folder.join("metrics.svg"),
    };
    chart::write(&output, &charts)
}

/// A chart of each series in a file of metrics.
fn read(path: &Path) -> Result<Vec<Chart>, Failure> {
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
    let chart = |(name, title): (&str, &str)| {
        let point = |line: &Value| Some((line["step"].as_f64()?, line[name].as_f64()?));
        let series = Series {
            name: name.to_owned(),
            points: lines.iter().filter_map(point).collect(),
        };
        Chart {
            title: title.to_owned(),
            along: String::new(),
            series: vec![series],
        }
    };
    let charts: Vec<Chart> = SERIES.into_iter().map(chart).collect();
    let mut series = charts.iter().flat_map(|chart| &chart.series);
    match series.all(|series| series.points.is_empty()) {
        true => Err(Failure::job(format!(
            "{}: there is no update yet",
            path.display()
        ))),
        false => Ok(charts),
    }
}
