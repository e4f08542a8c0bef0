//! What an evaluation prints and writes: scores, a result file, a plot.
//!
//! Takes named numbers and what made them; prints the numbers to standard output.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use crate::chart::{self, Chart, Series};
use crate::error::{At, Failure};
use crate::{outputs, stdout};

/// Where results go.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ReportOptions {
    /// Write the scores and how they were made to this JSON file, or to standard output with -
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
    /// Draw the scores as a .svg or .png file
    #[arg(long, value_name = "FILE")]
    pub(super) plot: Option<PathBuf>,
}

/// The result of an evaluation.
pub(super) struct Report {
    /// The metric's name.
    pub(super) metric: &'static str,
    /// The scores, in the order in which they are printed.
    pub(super) scores: Vec<(&'static str, f64)>,
    /// What made them.
    pub(super) facts: Map<String, Value>,
    /// What is drawn.
    pub(super) chart: Chart,
}

impl ReportOptions {
    /// Refuses files that could not be written when all work is done.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if let Some(path) = &self.plot {
            chart::check(path)?;
        }
        self.json.as_deref().map_or(Ok(()), outputs::check)
    }

    /// Prints the scores and writes the files.
    pub(super) fn write(&self, report: &Report) -> Result<(), Failure> {
        if let Some(path) = &self.plot {
            chart::write(path, std::slice::from_ref(&report.chart))?;
        }
        if let Some(path) = &self.json {
            let mut object = Map::from_iter([("metric".to_owned(), json!(report.metric))]);
            let scores = report.scores.iter();
            object.extend(scores.map(|(name, score)| ((*name).to_owned(), json!(score))));
            object.extend(report.facts.clone());
            object.insert("splamc".to_owned(), json!(env!("CARGO_PKG_VERSION")));
            let mut text = serde_json::to_vec_pretty(&object).at(path.display())?;
            text.push(b'\n');
            outputs::write(path, &[text.into()])?;
        }
        let lines = report.scores.iter();
        let lines = lines.map(|(name, score)| format!("{name} {score:.6}\n"));
        self.print(lines.collect())
    }

    /// Prints lines to standard output, where the result file does not go there.
    pub(super) fn print(&self, lines: String) -> Result<(), Failure> {
        let is_json = self
            .json
            .as_ref()
            .is_some_and(|path| outputs::is_stdout(path));
        match is_json {
            true => Ok(()),
            false => stdout::print(lines),
        }
    }
}

/// Facts by name.
pub(super) fn named<const N: usize>(facts: [(&str, Value); N]) -> Map<String, Value> {
    let facts = facts.into_iter();
    facts
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// A chart of values in their order.
pub(super) fn numbered(title: &str, along: &str, values: &[f64]) -> Chart {
    let numbered = values.iter().enumerate();
    Chart {
        title: title.to_owned(),
        along: along.to_owned(),
        series: vec![Series {
            name: String::new(),
            points: numbered
                .map(|(place, value)| (place as f64, *value))
                .collect(),
        }],
    }
}
