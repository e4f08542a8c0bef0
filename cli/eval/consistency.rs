//! `splamc eval consistency`: how far neighbouring outputs of a student's consistency function are
//! apart.
//!
//! Takes a student, its teacher and data; measures δ(t, k) over a grid of timesteps.

use std::collections::BTreeMap;
use std::path::PathBuf;

use compiler::program::pipeline::LatentSize;
use compiler::value::tensor::{Tensor, Values};
use graphs::evaluate::{consistency_function, ddim_path, noising};
use runtime::noise::{Generator, Noise};
use runtime::training::data::{self as loading, DataSet, Feed, Loader, PictureFeed, Preparation};
use runtime::training::pictures::root_mean_square;
use serde_json::{Map, json};

use super::denoiser::{Conditions, Denoiser};
use super::report::{Report, ReportOptions};
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

/// Measures the distances.
pub(super) fn execute(arguments: &ConsistencyArguments) -> Result<(), Failure> {
    arguments.report.check()?;
    let teacher = Model::open(&arguments.teacher)?;
    let student = Model::open(&arguments.student)?;
    let at = arguments.execution.place(&teacher, false)?;
    let sizes = arguments.pictures.sizes(&teacher.pipeline().latents)?;
    let &[size] = &sizes[..] else {
        let failure = Failure::usage("--aspect-buckets has several sizes");
        return Err(failure.hint("leave it out: one size is measured at a time"));
    };
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
                encoder: data::encoders(&teacher, &at, &sizes)?,
                cache_bytes: 0,
                pictures,
            };
            (Feed::Pictures(feed), count)
        }
    };
    let size = match feed.sizes()[..] {
        [own] => own,
        _ => size,
    };
    let samples = arguments.samples.min(count);
    let batch = arguments.batch.min(samples);
    let pixels = teacher.pipeline().latents.pixels;
    let latent_size = LatentSize {
        batch,
        height: size[0] / pixels,
        width: size[1] / pixels,
    };
    let settings = loading::Settings {
        seed: arguments.seed,
        batch,
        accumulate: 1,
        ahead: 1,
    };
    let place = arguments.data.display();
    let mut loader = Loader::start(feed, teacher.pipeline(), settings, 0).at(&place)?;
    // A student has its guidance built in, or takes the scale as a number.
    let scale = match student.pipeline().guidance_width() {
        Some(_) => arguments.cfg_scale,
        None => 1.0,
    };
    let own = Denoiser::open(&student, &at, latent_size, scale)?;
    let guide = Denoiser::open(&teacher, &at, latent_size, arguments.cfg_scale)?;
    let schedule = &guide.teacher.schedule;
    let last = schedule.alphas_cumprod().len().saturating_sub(1);
    let k = arguments.k;
    let grid: Vec<usize> = (arguments.from.max(k)..=last).rev().step_by(k).collect();
    if grid.is_empty() {
        let message = format!(
            "--k is {k} and --from is {}; expected at most {last}, the last timestep",
            arguments.from
        );
        return Err(Failure::usage(message));
    }
    let batches = (samples / batch).max(1);
    let bar = progress::bar("consistency", batches * grid.len());
    let mut sums = vec![Sums::default(); grid.len()];
    let channels = teacher.pipeline().latents.channels;
    let shape = [batch, channels, latent_size.height, latent_size.width];
    for number in 0..batches {
        let found = loader.next_batch().at(&place)?;
        for skipped in &found.skipped {
            progress::warn(format!("{} is skipped: {}", skipped.name, skipped.reason));
        }
        let conditions = Conditions {
            prompt: found.conditions,
            negative: found.unconditional,
        };
        let seed = arguments.seed.wrapping_add((number * batch) as u64);
        let noise = Noise::new(Generator::Philox, seed, shape)
            .at(&place)?
            .draw();
        let noised = |timestep: usize| -> Result<Tensor, Failure> {
            let [alpha, sigma] = noising(schedule, timestep).at(&place)?;
            let Values::Float(clean) = found.latents.values() else {
                return Err(Failure::job(format!("{place}: latents are not floats")));
            };
            let pairs = clean.iter().zip(&noise);
            let values: Vec<f32> = pairs
                .map(|(x, noise)| (alpha * x + sigma * f64::from(*noise)) as f32)
                .collect();
            Ok(Tensor::from_f32(&shape, &values))
        };
        let value = |timestep: usize, state: &Tensor| -> Result<Tensor, Failure> {
            let prediction = own.teacher.prediction;
            let table = consistency_function(&own.teacher.schedule, prediction, timestep);
            let states = own.run(&table.at(&place)?, &conditions, state, &mut || {})?;
            let last = states.into_iter().next_back();
            last.ok_or_else(|| Failure::job("the network was not called"))
        };
        // The value at t - k is that at t of the next timestep of the grid.
        let mut known: BTreeMap<usize, Tensor> = BTreeMap::new();
        for (timestep, sums) in grid.iter().copied().zip(&mut sums) {
            let state = noised(timestep)?;
            let here = match known.remove(&timestep) {
                Some(value) => value,
                None => value(timestep, &state)?,
            };
            let below = timestep - k;
            let next = value(below, &noised(below)?)?;
            let prediction = guide.teacher.prediction;
            let step = ddim_path(schedule, prediction, &[timestep, below]).at(&place)?;
            let stepped = guide.run(&step, &conditions, &state, &mut || {})?;
            let stepped = value(below, stepped.last().unwrap_or(&state))?;
            sums.same_noise += distance(&here, &next).at(&place)?;
            sums.stepped += distance(&here, &stepped).at(&place)?;
            known.insert(below, next);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let measured = batches * batch;
    let elements = (shape[1] * shape[2] * shape[3]) as f64;
    let mean = |sum: f64| sum / measured as f64;
    let rows: Vec<_> = grid.iter().zip(&sums).collect();
    let timesteps = rows.iter().map(|(timestep, sums)| {
        json!({
            "timestep": timestep,
            "rms": mean(sums.same_noise),
            "l2": mean(sums.same_noise) * elements.sqrt(),
            "rms_teacher_step": mean(sums.stepped),
        })
    });
    let overall = |sum: fn(&Sums) -> f64| {
        let all = sums.iter().map(sum);
        mean(all.sum::<f64>()) / sums.len() as f64
    };
    let facts = json!({
        "timesteps": timesteps.collect::<Vec<_>>(),
        "student": student.place(),
        "teacher": teacher.place(),
        "data": {"path": place.to_string(), "samples": measured},
        "k": k,
        "gamma": 1,
        "cfg_scale": arguments.cfg_scale,
        "seed": arguments.seed,
        "size": size,
    });
    let curve = |name: &str, number: fn(&Sums) -> f64| Series {
        name: name.to_owned(),
        points: rows
            .iter()
            .rev()
            .map(|(timestep, sums)| (**timestep as f64, mean(number(sums))))
            .collect(),
    };
    arguments.report.write(&Report {
        metric: "consistency",
        scores: vec![
            ("delta", overall(|sums| sums.same_noise)),
            ("delta_teacher_step", overall(|sums| sums.stepped)),
        ],
        facts: facts.as_object().cloned().unwrap_or_else(Map::new),
        chart: Chart {
            title: format!("δ(t, {k})"),
            along: "timestep".to_owned(),
            series: vec![
                curve("the same noise", |sums| sums.same_noise),
                curve("the teacher's step", |sums| sums.stepped),
            ],
        },
    })
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
