//! `splamc eval solver-error`: how far one long step of DDIM is from many short ones.
//!
//! Takes a teacher; walks from noise in unit steps and measures jumps against that path. It is what
//! makes the k of a distillation a choice: long jumps of the teacher are wrong ones.

use std::path::PathBuf;

use compiler::program::pipeline::LatentSize;
use compiler::value::tensor::Tensor;
use graphs::evaluate::ddim_path;
use runtime::noise::{Generator, Noise};
use runtime::training::pictures::root_mean_square;
use serde_json::{Map, json};

use super::denoiser::{Conditions, Denoiser};
use super::report::{Report, ReportOptions};
use crate::chart::{Chart, Series};
use crate::error::{At, Failure};
use crate::model::Model;
use crate::options::{self, Execution};
use crate::{progress, sampled};

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

/// Measures the errors.
pub(super) fn execute(arguments: &SolverArguments) -> Result<(), Failure> {
    arguments.report.check()?;
    let (jump, short) = (arguments.jump, arguments.short);
    if !jump.is_multiple_of(short) {
        let message = format!("--short is {short}; expected a divisor of --jump, which is {jump}");
        return Err(Failure::usage(message).hint("pass another --short, such as 20 for 100"));
    }
    let model = Model::open(&arguments.teacher)?;
    let at = arguments.execution.place(&model, false)?;
    let prompts = sampled::prompts(arguments.prompts.as_deref())?;
    let latents = &model.pipeline().latents;
    let size = LatentSize {
        batch: prompts.len(),
        ..latents.of_pixels(prompts.len(), None, None)?
    };
    let conditions = Conditions::of_prompts(&model, &at, &prompts, size)?;
    let denoiser = Denoiser::open(&model, &at, size, arguments.cfg_scale)?;
    let schedule = &denoiser.teacher.schedule;
    let prediction = denoiser.teacher.prediction;
    let place = model.place();
    let last = schedule.alphas_cumprod().len().saturating_sub(1);
    let starts = (0..).map(|number| last.checked_sub(number * jump));
    let starts: Vec<usize> = starts
        .map_while(|start| start.filter(|start| *start >= arguments.from.max(jump)))
        .collect();
    let Some(&least) = starts.last() else {
        let message = format!(
            "--jump is {jump} and --from is {}; expected at most {last}, the last timestep",
            arguments.from
        );
        return Err(Failure::usage(message));
    };
    let path: Vec<usize> = (least - jump..=last).rev().collect();
    let shape = [size.batch, latents.channels, size.height, size.width];
    let noise = Noise::new(Generator::Philox, arguments.seed, shape)
        .at(&place)?
        .draw();
    let noise = Tensor::from_f32(&shape, &noise);
    let calls = path.len() - 1 + starts.len() * (1 + jump / short);
    let bar = progress::bar("solve", calls);
    let run = |timesteps: &[usize], from: &Tensor| {
        let table = ddim_path(schedule, prediction, timesteps).at(&place)?;
        let states = denoiser.run(&table, &conditions, from, &mut || bar.inc(1));
        states
    };
    let mut states = vec![noise.clone()];
    states.extend(run(&path, &noise)?);
    let state = |timestep: usize| &states[last - timestep];
    let mut rows = Vec::new();
    for &start in &starts {
        let end = state(start - jump);
        let error = |step: usize| -> Result<f64, Failure> {
            let timesteps: Vec<usize> = (start - jump..=start).rev().step_by(step).collect();
            let found = run(&timesteps, state(start))?.pop();
            let found = found.ok_or_else(|| Failure::job("no step was made"))?;
            root_mean_square(&found, end).at(&place)
        };
        rows.push((start as f64, error(jump)?, error(short)?));
    }
    bar.finish_and_clear();
    let count = rows.len() as f64;
    let mean = |number: fn(&(f64, f64, f64)) -> f64| rows.iter().map(number).sum::<f64>() / count;
    let (long_error, short_error) = (mean(|row| row.1), mean(|row| row.2));
    let timesteps = rows.iter().map(|(start, long, short)| {
        json!({"timestep": start, "jump_error": long, "short_jumps_error": short, "ratio": long / short})
    });
    let facts = json!({
        "mean_ratio": mean(|row| row.1 / row.2),
        "timesteps": timesteps.collect::<Vec<_>>(),
        "teacher": place,
        "jump": jump,
        "short": short,
        "cfg_scale": arguments.cfg_scale,
        "prompts": prompts,
        "seed": arguments.seed,
        "norm": "root of the mean squared difference of latents",
        "path": "unit steps of DDIM from noise",
    });
    let series = |name: String, points: Vec<(f64, f64)>| Series { name, points };
    let long = rows.iter().rev().map(|row| (row.0, row.1)).collect();
    let shorter = rows.iter().rev().map(|row| (row.0, row.2)).collect();
    arguments.report.write(&Report {
        metric: "solver_error",
        scores: vec![
            ("jump_error", long_error),
            ("short_jumps_error", short_error),
            ("ratio", long_error / short_error),
        ],
        facts: facts.as_object().cloned().unwrap_or_else(Map::new),
        chart: Chart {
            title: "error of DDIM against unit steps".to_owned(),
            along: "timestep".to_owned(),
            series: vec![
                series(format!("one jump of {jump}"), long),
                series(format!("{} jumps of {short}", jump / short), shorter),
            ],
        },
    })
}
