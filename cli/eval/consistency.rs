//! `splamc eval consistency`: how far neighbouring outputs of a student's consistency function are
//! apart.
//!
//! Takes a student, its teacher and data; measures δ(t, k) over a grid of timesteps.

use std::path::PathBuf;

use compiler::program::pipeline::LatentSize;
use compiler::value::tensor::{Tensor, Values};
use graphs::distill::Teacher;
use graphs::evaluate::{consistency_function, ddim_path, noising};
use runtime::noise::{Generator, Noise};
use runtime::place::Place;
use runtime::training::data::{self as loading, DataSet, Feed, Loader, PictureFeed, Preparation};
use runtime::training::pictures::root_mean_square;
use serde_json::json;

use super::denoiser::{Conditions, Denoiser};
use super::report::{Report, ReportOptions, named};
use crate::chart::{Chart, Series};
use crate::data::PictureOptions;
use crate::error::{At, Failure};
use crate::model::Model;
use crate::options::{self, Execution};
use crate::{data, progress};

/// Measure how consistent a student is along a noised picture.
///
/// δ(t, k) is the distance of the consistency function's values at timesteps t and t - k, of one
/// picture with one noise. Smaller is better, but a student can be consistent and wrong: read it
/// beside other scores. The second curve takes the state at t - k from the teacher's DDIM step.
#[derive(clap::Args)]
#[command(
    after_help = "δ(t, k) is the distance of the consistency function's values at timesteps t and \
    t - k, of one\npicture with one noise; the second score takes the state at t - k from the teacher's \
    DDIM step.\nSmaller is better, but a student can be consistent and wrong: read it beside other \
    scores.\n\n\
    Examples:\n  \
    splamc eval consistency run/ema sd15/ --data pictures/ --plot delta.svg\n  \
    splamc eval consistency run/ema sd15/ --data encoded/ --samples 1000 --json delta.json"
)]
pub(super) struct ConsistencyArguments {
    /// The student: a diffusers directory, such as DIR/ema of a training.
    student: PathBuf,
    /// The teacher, which encodes pictures and captions too.
    teacher: PathBuf,
    /// Pictures with captions, webdataset shards, or what splamc encode wrote
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// Timesteps between the two values
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = options::count)]
    k: usize,
    /// Timesteps below this one are left out
    #[arg(long, value_name = "N", default_value_t = 100)]
    from: usize,
    /// The number of pictures; all of them if there are fewer
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = options::count)]
    samples: usize,
    /// The number of pictures of a call
    #[arg(short, long, value_name = "N", default_value_t = 4, value_parser = options::count)]
    batch: usize,
    /// The guidance scale of the teacher's steps in the standard form
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = options::finite)]
    cfg_scale: f64,
    /// The seed of the noise and of the order of pictures
    #[arg(short, long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    pictures: PictureOptions,
    #[command(flatten)]
    execution: Execution,
    #[command(flatten)]
    report: ReportOptions,
}

/// Sums of distances at one timestep.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    /// Of states with the same noise.
    same_noise: f64,
    /// Of states that the teacher steps to.
    stepped: f64,
}

/// The pictures that are measured.
struct Source {
    loader: Loader,
    place: String,
    batches: usize,
    /// `[batch, channels, rows, columns]`, in latents.
    shape: [usize; 4],
}

/// The networks, and where they are measured.
struct Setting {
    student: Denoiser,
    teacher: Denoiser,
    /// Timesteps from the noisiest on.
    grid: Vec<usize>,
    k: usize,
    seed: u64,
}

/// Measures the distances.
pub(super) fn execute(arguments: &ConsistencyArguments) -> Result<(), Failure> {
    arguments.report.check()?;
    let teacher = Model::open(&arguments.teacher)?;
    let student = Model::open(&arguments.student)?;
    let at = arguments.execution.place(&teacher, false)?;
    let mut source = Source::open(arguments, &teacher, &at)?;
    let [batch, _, height, width] = source.shape;
    let size = LatentSize {
        batch,
        height,
        width,
    };
    // A student has its guidance built in, or takes the scale as a number.
    let scale = match student.pipeline().guidance_width() {
        Some(_) => arguments.cfg_scale,
        None => 1.0,
    };
    let guide = Denoiser::open(&teacher, &at, size, arguments.cfg_scale)?;
    let setting = Setting {
        student: Denoiser::open(&student, &at, size, scale)?,
        grid: grid(arguments, guide.teacher.schedule.alphas_cumprod().len())?,
        teacher: guide,
        k: arguments.k,
        seed: arguments.seed,
    };
    let mut sums = vec![Sums::default(); setting.grid.len()];
    let bar = progress::bar("consistency", source.batches * sums.len());
    for number in 0..source.batches {
        setting.add(&mut source, number, &mut sums, &mut || bar.inc(1))?;
    }
    bar.finish_and_clear();
    arguments
        .report
        .write(&report(arguments, &source, &setting.grid, &sums))
}

/// The timesteps that are measured.
fn grid(arguments: &ConsistencyArguments, length: usize) -> Result<Vec<usize>, Failure> {
    let (k, last) = (arguments.k, length.saturating_sub(1));
    let grid: Vec<usize> = (arguments.from.max(k)..=last).rev().step_by(k).collect();
    match grid.is_empty() {
        true => Err(Failure::usage(format!(
            "--k is {k} and --from is {}; expected at most {last}, the last timestep",
            arguments.from
        ))),
        false => Ok(grid),
    }
}

impl Source {
    /// The batches of the data, encoded by the teacher where they are not.
    fn open(
        arguments: &ConsistencyArguments,
        teacher: &Model,
        at: &Place,
    ) -> Result<Source, Failure> {
        let latents = &teacher.pipeline().latents;
        let sizes = arguments.pictures.sizes(latents)?;
        let (feed, count) = match data::open(&arguments.data)? {
            DataSet::Encoded(set) => {
                let count = set.count();
                (Feed::Encoded(set), count)
            }
            DataSet::Pictures(pictures) => {
                let count = pictures.count();
                let feed = PictureFeed {
                    buckets: data::buckets(&pictures, &sizes),
                    preparation: Preparation {
                        crop: arguments.pictures.crop(),
                        flip: false,
                    },
                    encoder: data::encoders(teacher, at, &sizes)?,
                    cache_bytes: 0,
                    pictures,
                };
                (Feed::Pictures(feed), count)
            }
        };
        let &[size] = &feed.sizes()[..] else {
            let failure = Failure::usage("the data have pictures of several sizes");
            return Err(failure.hint("leave out --aspect-buckets: one size is measured at a time"));
        };
        let samples = arguments.samples.min(count);
        let batch = arguments.batch.min(samples);
        let settings = loading::Settings {
            seed: arguments.seed,
            batch,
            accumulate: 1,
            ahead: 1,
        };
        let place = arguments.data.display().to_string();
        let [height, width] = size.map(|extent| extent / latents.pixels);
        Ok(Source {
            loader: Loader::start(feed, teacher.pipeline(), settings, 0).at(&place)?,
            place,
            batches: samples / batch,
            shape: [batch, latents.channels, height, width],
        })
    }
}

impl Setting {
    /// Adds the distances of one batch.
    fn add(
        &self,
        source: &mut Source,
        number: usize,
        sums: &mut [Sums],
        on_timestep: &mut dyn FnMut(),
    ) -> Result<(), Failure> {
        let (place, shape) = (source.place.clone(), source.shape);
        let batch = source.loader.next_batch().at(&place)?;
        for skipped in &batch.skipped {
            progress::warn(format!("{} is skipped: {}", skipped.name, skipped.reason));
        }
        let conditions = Conditions {
            prompt: batch.conditions,
            negative: batch.unconditional,
        };
        let seed = self.seed.wrapping_add((number * shape[0]) as u64);
        let noise = Noise::new(Generator::Philox, seed, shape)
            .at(&place)?
            .draw();
        let noised = |timestep: usize| self.noised(&batch.latents, &noise, timestep).at(&place);
        // The value at t - k is that at t of the next timestep of the grid.
        let mut known: Option<Tensor> = None;
        for (timestep, sums) in self.grid.iter().copied().zip(sums) {
            let state = noised(timestep)?;
            let here = match known.take() {
                Some(value) => value,
                None => self.value(timestep, &state, &conditions)?,
            };
            let below = timestep - self.k;
            let next = self.value(below, &noised(below)?, &conditions)?;
            let Teacher {
                schedule,
                prediction,
            } = &self.teacher.teacher;
            let step = ddim_path(schedule, *prediction, &[timestep, below]).at(&place)?;
            let stepped = self.teacher.last(&step, &conditions, &state, &mut || {})?;
            let stepped = self.value(below, &stepped, &conditions)?;
            sums.same_noise += distance(&here, &next).at(&place)?;
            sums.stepped += distance(&here, &stepped).at(&place)?;
            known = Some(next);
            on_timestep();
        }
        Ok(())
    }

    /// Clean latents with noise.
    fn noised(&self, clean: &Tensor, noise: &[f32], timestep: usize) -> Result<Tensor, String> {
        let factors = noising(&self.teacher.teacher.schedule, timestep);
        let [alpha, sigma] = factors.map_err(|error| error.to_string())?;
        let Values::Float(values) = clean.values() else {
            return Err(format!("latents are {}; expected floats", clean.dtype()));
        };
        let pairs = values.iter().zip(noise);
        let values: Vec<f32> = pairs
            .map(|(x, noise)| (alpha * x + sigma * f64::from(*noise)) as f32)
            .collect();
        Ok(Tensor::from_f32(clean.shape(), &values))
    }

    /// The student's consistency function.
    fn value(
        &self,
        timestep: usize,
        state: &Tensor,
        conditions: &Conditions,
    ) -> Result<Tensor, Failure> {
        let own = &self.student.teacher;
        let table = consistency_function(&own.schedule, own.prediction, timestep);
        let table = table.at("the student's schedule")?;
        self.student.last(&table, conditions, state, &mut || {})
    }
}

fn report(
    arguments: &ConsistencyArguments,
    source: &Source,
    grid: &[usize],
    sums: &[Sums],
) -> Report {
    let [batch, channels, height, width] = source.shape;
    let measured = source.batches * batch;
    let root = ((channels * height * width) as f64).sqrt();
    let mean = |sum: f64| sum / measured as f64;
    let rows = grid.iter().zip(sums);
    let timesteps = rows.clone().map(|(timestep, sums)| {
        json!({
            "timestep": timestep,
            "rms": mean(sums.same_noise),
            "l2": mean(sums.same_noise) * root,
            "rms_teacher_step": mean(sums.stepped),
        })
    });
    let overall = |sum: fn(&Sums) -> f64| {
        let all = sums.iter().map(sum);
        mean(all.sum::<f64>()) / sums.len() as f64
    };
    let curve = |name: &str, number: fn(&Sums) -> f64| Series {
        name: name.to_owned(),
        points: rows
            .clone()
            .rev()
            .map(|(timestep, sums)| (*timestep as f64, mean(number(sums))))
            .collect(),
    };
    let facts = [
        ("timesteps", json!(timesteps.collect::<Vec<_>>())),
        ("student", json!(arguments.student.display().to_string())),
        ("teacher", json!(arguments.teacher.display().to_string())),
        ("data", json!({"path": source.place, "samples": measured})),
        ("k", json!(arguments.k)),
        ("gamma", json!(1)),
        ("cfg_scale", json!(arguments.cfg_scale)),
        ("seed", json!(arguments.seed)),
        ("latents", json!(source.shape)),
    ];
    Report {
        metric: "consistency",
        scores: vec![
            ("delta", overall(|sums| sums.same_noise)),
            ("delta_teacher_step", overall(|sums| sums.stepped)),
        ],
        facts: named(facts),
        chart: Chart {
            title: format!("δ(t, {})", arguments.k),
            along: "timestep".to_owned(),
            series: vec![
                curve("the same noise", |sums| sums.same_noise),
                curve("the teacher's step", |sums| sums.stepped),
            ],
        },
    }
}

/// The sum over samples of the root of the mean squared difference.
fn distance(a: &Tensor, b: &Tensor) -> Result<f64, String> {
    let batch = a.shape().first().copied().unwrap_or(1);
    let mut sum = 0.0;
    for sample in 0..batch {
        let one = |tensor: &Tensor| {
            let bytes = tensor.bytes();
            let length = bytes.len() / batch;
            let mut shape = tensor.shape().to_vec();
            shape[0] = 1;
            let bytes = bytes.slice(sample * length..(sample + 1) * length);
            Tensor::new(tensor.dtype(), shape, bytes).map_err(|error| error.to_string())
        };
        let error = root_mean_square(&one(a)?, &one(b)?);
        sum += error.map_err(|error| error.to_string())?;
    }
    Ok(sum)
}
