//! `splamc eval solver-error`: how far one long step of DDIM is from many short ones.
//!
//! Takes a teacher; walks from noise in unit steps and measures jumps against that path. It is what
//! makes the k of a distillation a choice: long jumps of the teacher are wrong ones.

use std::path::PathBuf;

use compiler::program::sampler::SamplerTable;
use compiler::value::tensor::Tensor;
use graphs::evaluate::ddim_path;
use runtime::noise::{Generator, Noise};
use runtime::training::pictures::root_mean_square;
use serde_json::json;

use super::denoiser::{Conditions, Denoiser};
use super::report::{Report, ReportOptions, named};
use crate::chart::{Chart, Series};
use crate::error::{At, Failure};
use crate::model::Model;
use crate::options::{self, Execution};
use crate::{progress, sampled, teacher};

/// Measure one long DDIM step of a teacher against unit steps.
///
/// From noise the teacher walks in unit steps. At timesteps 999, 899, … one jump of --jump timesteps
/// and several of --short cover the same way from the same state; the error is the root of the mean
/// squared difference of latents at its end. A solver of first order errs about jump / short times
/// more in one step.
#[derive(clap::Args)]
#[command(
    after_help = "From noise the teacher walks in unit steps. At timesteps 999, 899, … one jump \
    of --jump\ntimesteps and several of --short cover the same way from the same state; an error is the \
    root of\nthe mean squared difference of latents at the end.\n\n\
    Examples:\n  \
    splamc eval solver-error sd15/ --cfg-scale 3 --plot error.svg\n  \
    splamc eval solver-error sd15/ --prompts prompts.txt --jump 100 --short 20 --json error.json"
)]
pub(super) struct SolverArguments {
    /// The teacher: a diffusers or ONNX directory, or a compiled .splam.
    teacher: PathBuf,
    /// The prompts, one a line; four of our own if not given
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    /// Timesteps of the jump that is measured
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = options::count)]
    jump: usize,
    /// Timesteps of the shorter jumps beside it; must divide --jump
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = options::count)]
    short: usize,
    /// The least timestep at which a jump begins
    #[arg(long, value_name = "N", default_value_t = 199)]
    from: usize,
    /// The guidance scale in the standard form
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = options::finite)]
    cfg_scale: f64,
    /// The seed of the first prompt's noise; later ones follow
    #[arg(short, long, default_value_t = 1000)]
    seed: u64,
    #[command(flatten)]
    execution: Execution,
    #[command(flatten)]
    report: ReportOptions,
}

/// The errors of jumps that begin at a timestep.
struct Row {
    timestep: usize,
    jump: f64,
    short: f64,
}

/// A teacher on the way from noise.
struct Walk {
    denoiser: Denoiser,
    conditions: Conditions,
    place: String,
    /// The noisiest timestep.
    last: usize,
}

/// Measures the errors.
pub(super) fn execute(arguments: &SolverArguments) -> Result<(), Failure> {
    arguments.report.check()?;
    let (jump, short) = (arguments.jump, arguments.short);
    if !jump.is_multiple_of(short) {
        let message = format!("--short is {short}; expected a divisor of --jump, which is {jump}");
        return Err(Failure::usage(message).hint("pass another --short, such as 20 for 100"));
    }
    let model = Model::open(&arguments.teacher)?;
    let prompts = sampled::prompts(arguments.prompts.as_deref())?;
    let size = model
        .pipeline()
        .latents
        .of_pixels(prompts.len(), None, None)?;
    let teacher = teacher::of(&model)?;
    let starts = starts(arguments, teacher.schedule.alphas_cumprod().len())?;
    let at = arguments.execution.place(&model, false)?;
    let walk = Walk {
        conditions: Conditions::of_prompts(&model, &at, &prompts, size)?,
        denoiser: Denoiser::open(&model, &at, size, arguments.cfg_scale)?,
        place: model.place(),
        last: teacher.schedule.alphas_cumprod().len() - 1,
    };
    let shape = [
        size.batch,
        model.pipeline().latents.channels,
        size.height,
        size.width,
    ];
    let noise = Noise::new(Generator::Philox, arguments.seed, shape)
        .at(&walk.place)?
        .draw();
    let rows = walk.errors(&Tensor::from_f32(&shape, &noise), &starts, [jump, short])?;
    arguments.report.write(&report(arguments, &rows, &prompts))
}

/// The timesteps at which jumps begin, from the noisiest on.
fn starts(arguments: &SolverArguments, length: usize) -> Result<Vec<usize>, Failure> {
    let (jump, last) = (arguments.jump, length.saturating_sub(1));
    let starts = (arguments.from.max(jump)..=last).rev().step_by(jump);
    let starts: Vec<usize> = starts.collect();
    match starts.is_empty() {
        true => Err(Failure::usage(format!(
            "--jump is {jump} and --from is {}; expected at most {last}, the last timestep",
            arguments.from
        ))),
        false => Ok(starts),
    }
}

impl Walk {
    /// Walks from noise in unit steps, and measures jumps of two lengths against that path.
    fn errors(
        &self,
        noise: &Tensor,
        starts: &[usize],
        [jump, short]: [usize; 2],
    ) -> Result<Vec<Row>, Failure> {
        let end = starts.last().map_or(self.last, |least| least - jump);
        let calls = self.last - end + starts.len() * (1 + jump / short);
        let bar = progress::bar("solve", calls);
        let path: Vec<usize> = (end..=self.last).rev().collect();
        let mut states = vec![noise.clone()];
        let table = self.table(&path)?;
        states.extend(
            self.denoiser
                .run(&table, &self.conditions, noise, &mut || bar.inc(1))?,
        );
        let state = |timestep: usize| &states[self.last - timestep];
        let error = |start: usize, step: usize| -> Result<f64, Failure> {
            let timesteps: Vec<usize> = (start - jump..=start).rev().step_by(step).collect();
            let table = self.table(&timesteps)?;
            let from = state(start);
            let found = self
                .denoiser
                .last(&table, &self.conditions, from, &mut || bar.inc(1))?;
            root_mean_square(&found, state(start - jump)).at(&self.place)
        };
        let row = |start: &usize| {
            Ok(Row {
                timestep: *start,
                jump: error(*start, jump)?,
                short: error(*start, short)?,
            })
        };
        let rows = starts.iter().map(row).collect();
        bar.finish_and_clear();
        rows
    }

    fn table(&self, timesteps: &[usize]) -> Result<SamplerTable, Failure> {
        let teacher = &self.denoiser.teacher;
        ddim_path(&teacher.schedule, teacher.prediction, timesteps).at(&self.place)
    }
}

fn report(arguments: &SolverArguments, rows: &[Row], prompts: &[String]) -> Report {
    let mean = |number: fn(&Row) -> f64| rows.iter().map(number).sum::<f64>() / rows.len() as f64;
    let (jump_error, short_error) = (mean(|row| row.jump), mean(|row| row.short));
    let timesteps = rows.iter().map(|row| {
        json!({
            "timestep": row.timestep,
            "jump_error": row.jump,
            "short_jumps_error": row.short,
            "ratio": row.jump / row.short,
        })
    });
    let facts = [
        ("mean_ratio", json!(mean(|row| row.jump / row.short))),
        ("timesteps", json!(timesteps.collect::<Vec<_>>())),
        ("teacher", json!(arguments.teacher.display().to_string())),
        ("jump", json!(arguments.jump)),
        ("short", json!(arguments.short)),
        ("cfg_scale", json!(arguments.cfg_scale)),
        ("prompts", json!(prompts)),
        ("seed", json!(arguments.seed)),
        (
            "norm",
            json!("root of the mean squared difference of latents"),
        ),
        ("path", json!("unit steps of DDIM from noise")),
    ];
    let curve = |name: String, number: fn(&Row) -> f64| Series {
        name,
        points: rows
            .iter()
            .rev()
            .map(|row| (row.timestep as f64, number(row)))
            .collect(),
    };
    let (jump, short) = (arguments.jump, arguments.short);
    Report {
        metric: "solver_error",
        scores: vec![
            ("jump_error", jump_error),
            ("short_jumps_error", short_error),
            ("ratio", jump_error / short_error),
        ],
        facts: named(facts),
        chart: Chart {
            title: "error of DDIM against unit steps".to_owned(),
            along: "timestep".to_owned(),
            series: vec![
                curve(format!("one jump of {jump}"), |row| row.jump),
                curve(format!("{} jumps of {short}", jump / short), |row| {
                    row.short
                }),
            ],
        },
    }
}
