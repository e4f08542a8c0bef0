//! `splamc eval curve`: how distances and agreement change with steps, guidance or updates.
//!
//! Takes models or folders of trainings; samples each by `splamc sample` itself, measures what it
//! drew and draws a curve for each. It computes no score.

use std::fs;
use std::path::{Path, PathBuf};

use runtime::training::checkpoint;
use serde_json::{Map, Value, json};

use super::clip::Chosen;
use super::distance::Reference;
use super::features::FeatureOptions;
use super::report::{Report, ReportOptions};
use crate::chart::{Chart, Series};
use crate::columns::{Column, Drawn, columns, drawn};
use crate::error::{At, Failure, said};
use crate::sampled::{self, Request};
use crate::train::export::{EMA, write_checkpoint};
use crate::train::folder::TrainingFolder;
use crate::{options, progress};

/// Measure how pictures change with steps, guidance scales or updates.
///
/// Every model draws one picture for each prompt, all from the same noise. Of the folder of a
/// training every checkpoint is measured.
#[derive(clap::Args)]
#[command(
    after_help = "Every model draws one picture for each prompt, all from the same noise; of the folder \
    of a training\nevery checkpoint is measured. The plot shows the Fréchet distance over updates, \
    or the number of\nsteps, or the guidance scale, whichever varies; with --clip and several scales \
    it shows agreement\nover distance.\n\n\
    Examples:\n  \
    splamc eval curve sd15@ddim run/ema --reference coco.npz --features inception.onnx \\\n      \
    --prompts coco.txt --steps 1,2,4,8 --plot steps.svg\n  \
    splamc eval curve sd15 --reference coco.npz --features inception.onnx --clip clip/ \\\n      \
    --prompts coco.txt --steps 20 --cfg-scale 2,3,5,8 --plot guidance.svg\n  \
    splamc eval curve run other-run --reference coco.npz --features inception.onnx \\\n      \
    --prompts coco.txt --steps 4 --plot updates.svg"
)]
pub(super) struct CurveArguments {
    /// Models, with @NAME for a sampler, :N,… for numbers of steps and =X for a guidance scale, or
    /// folders of trainings.
    #[arg(required = true, value_name = "MODEL[@SAMPLER][:N,…][=X]", value_parser = drawn)]
    models: Vec<Drawn>,
    /// The pictures to measure against, or their statistics in a .npz file
    #[arg(long, value_name = "PATH")]
    reference: PathBuf,
    /// The prompts, one a line: a picture is drawn for each
    #[arg(long, value_name = "FILE")]
    prompts: PathBuf,
    /// The numbers of steps of models that have none of their own
    #[arg(
        long,
        value_name = "N,…",
        value_delimiter = ',',
        default_value = "4",
        value_parser = options::count
    )]
    steps: Vec<usize>,
    /// The guidance scales, in the standard form, of models that have none here; their own if not
    /// given
    #[arg(long, value_name = "X,…", value_delimiter = ',', value_parser = options::finite)]
    cfg_scale: Vec<f64>,
    /// Measure agreement with the prompts too, by the CLIP in this directory
    #[arg(long, value_name = "MODEL")]
    clip: Option<PathBuf>,
    /// The seed of the first prompt; later ones follow
    #[arg(short, long, default_value_t = 1000)]
    seed: u64,
    #[command(flatten)]
    features: FeatureOptions,
    #[command(flatten)]
    report: ReportOptions,
}

/// What is measured: a column, and the checkpoint of its training if that is what it names.
struct Point {
    column: Column,
    updates: Option<u64>,
}

/// A point with its scores.
struct Measured {
    point: Point,
    fid: f64,
    clip: Option<f64>,
}

/// Measures.
pub(super) fn execute(arguments: &CurveArguments) -> Result<(), Failure> {
    arguments.report.check()?;
    let prompts = sampled::prompts(Some(&arguments.prompts))?;
    let points = points(arguments)?;
    let reference = Reference::open(&arguments.reference, &arguments.features)?;
    let chosen = arguments.clip.as_deref().map(|clip| Chosen {
        clip,
        size: None,
        batch: arguments.features.batch,
        execution: &arguments.features.execution,
    });
    let mut scorer = chosen.map(Chosen::scorer).transpose()?;
    let bar = progress::bar("curve", points.len());
    let mut measured = Vec::new();
    for point in points {
        let drawn = bar.suspend(|| drawn_pictures(arguments, &point, &prompts))?;
        let fid = reference.distance(drawn.path())?;
        let clip = scorer.as_mut().map(|scorer| scorer.score(drawn.path()));
        let clip = clip.transpose()?;
        measured.push(Measured { point, fid, clip });
        bar.inc(1);
    }
    bar.finish_and_clear();
    let mut facts = reference.facts();
    if let Some(scorer) = &scorer {
        facts.insert("clip".to_owned(), Value::Object(scorer.facts()));
    }
    facts.insert("prompts".to_owned(), json!(prompts.len()));
    facts.insert("seed".to_owned(), json!(arguments.seed));
    let rows: Vec<Value> = measured.iter().map(Measured::facts).collect();
    facts.insert("points".to_owned(), json!(rows));
    arguments
        .report
        .print(measured.iter().map(Measured::line).collect())?;
    arguments.report.write(&Report {
        metric: "curve",
        scores: Vec::new(),
        facts,
        chart: chart(&measured),
    })
}

/// Everything to measure: columns, those of a training once for each of its checkpoints.
fn points(arguments: &CurveArguments) -> Result<Vec<Point>, Failure> {
    let all = columns(&arguments.models, &arguments.cfg_scale, &arguments.steps);
    let mut points = Vec::new();
    for column in all {
        let store = TrainingFolder::at(&column.model);
        let steps = match column.model.join(EMA).is_dir() {
            true => checkpoint::list(&store).at(column.model.display())?,
            false => Vec::new(),
        };
        let point = |updates| Point {
            column: column.clone(),
            updates,
        };
        match &steps[..] {
            [] => points.push(point(None)),
            steps => points.extend(steps.iter().map(|step| point(Some(*step)))),
        }
    }
    Ok(points)
}

/// A folder with a picture of each prompt.
fn drawn_pictures(
    arguments: &CurveArguments,
    point: &Point,
    prompts: &[String],
) -> Result<tempfile::TempDir, Failure> {
    let scratch = tempfile::tempdir().at("a folder for pictures")?;
    let column = &point.column;
    let model = match point.updates {
        Some(step) => {
            let student = scratch.path().join("student");
            write_checkpoint(&column.model, step, &student)?;
            student
        }
        None => column.model.clone(),
    };
    let pictures = tempfile::tempdir().at("a folder for pictures")?;
    let batches = prompts.chunks(arguments.features.batch);
    for (number, prompts) in batches.enumerate() {
        let folder = pictures.path().join(format!("{number:06}"));
        fs::create_dir_all(&folder)
            .map_err(said)
            .at(folder.display())?;
        let first = (number * arguments.features.batch) as u64;
        let request = Request {
            prompts,
            seed: arguments.seed.wrapping_add(first),
            size: None,
            flags: column.flags(&arguments.features.execution),
        };
        sampled::write(&model, &request, &folder)?;
        gather(&folder, pictures.path())?;
    }
    Ok(pictures)
}

/// Moves the files of a folder into another, under its name and theirs, and removes it.
fn gather(from: &Path, to: &Path) -> Result<(), Failure> {
    let place = from.display();
    let name = from.file_name().unwrap_or_default().to_string_lossy();
    for entry in fs::read_dir(from).map_err(said).at(&place)? {
        let entry = entry.map_err(said).at(&place)?;
        let own = format!("{name}-{}", entry.file_name().to_string_lossy());
        fs::rename(entry.path(), to.join(own))
            .map_err(said)
            .at(&place)?;
    }
    fs::remove_dir(from).map_err(said).at(&place)
}

impl Measured {
    /// What it is and its scores, in words.
    fn line(&self) -> String {
        let Point { column, updates } = &self.point;
        let updates = updates.map_or(String::new(), |updates| format!(" at {updates}"));
        let clip = self
            .clip
            .map_or(String::new(), |clip| format!(" clip {clip:.6}"));
        let (name, settings) = (column.name(), column.settings());
        format!("{name}{updates}, {settings}: fid {:.6}{clip}\n", self.fid)
    }

    fn facts(&self) -> Value {
        let Point { column, updates } = &self.point;
        let mut facts = Map::from_iter([
            (
                "model".to_owned(),
                json!(column.model.display().to_string()),
            ),
            ("steps".to_owned(), json!(column.steps)),
            ("fid".to_owned(), json!(self.fid)),
        ]);
        let others = [
            ("sampler", json!(column.sampler)),
            ("cfg_scale", json!(column.scale)),
            ("updates", json!(updates)),
            ("clip", json!(self.clip)),
        ];
        let others = others.into_iter().filter(|(_, value)| !value.is_null());
        facts.extend(others.map(|(name, value)| (name.to_owned(), value)));
        Value::Object(facts)
    }
}

/// Distances over what varies, or agreement over distances where guidance does.
fn chart(measured: &[Measured]) -> Chart {
    let varies = |value: fn(&Point) -> f64| {
        let mut values = measured.iter().map(|one| value(&one.point));
        let first = values.next();
        values.any(|value| Some(value) != first)
    };
    let updates = |point: &Point| point.updates.map_or(0.0, |updates| updates as f64);
    let steps = |point: &Point| point.column.steps as f64;
    let scale = |point: &Point| point.column.scale.unwrap_or(0.0);
    let agreement = measured.iter().all(|one| one.clip.is_some()) && varies(scale);
    let (along, place): (&str, fn(&Point) -> f64) = match () {
        () if agreement => ("Fréchet distance", scale),
        () if varies(updates) => ("updates", updates),
        () if varies(steps) || !varies(scale) => ("steps", steps),
        () => ("guidance scale", scale),
    };
    // A series is everything but what it goes along.
    let series_name = |one: &Measured| {
        let column = &one.point.column;
        let own = Column {
            steps: if along == "steps" { 0 } else { column.steps },
            scale: column
                .scale
                .filter(|_| along != "guidance scale" && !agreement),
            ..column.clone()
        };
        match (own.steps, own.scale) {
            (0, None) => own.name(),
            (0, Some(scale)) => format!("{}, scale {scale}", own.name()),
            (_, _) => format!("{}, {}", own.name(), own.settings()),
        }
    };
    let mut series: Vec<Series> = Vec::new();
    for one in measured {
        let name = series_name(one);
        let point = match one.clip.filter(|_| agreement) {
            Some(clip) => (one.fid, clip),
            None => (place(&one.point), one.fid),
        };
        match series.iter_mut().find(|series| series.name == name) {
            Some(series) => series.points.push(point),
            None => series.push(Series {
                name,
                points: vec![point],
            }),
        }
    }
    Chart {
        title: match agreement {
            true => "CLIP score by guidance scale".to_owned(),
            false => "Fréchet distance".to_owned(),
        },
        along: along.to_owned(),
        series,
    }
}
