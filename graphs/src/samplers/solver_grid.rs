//! Timesteps and noise levels of the DPM-Solvers and DEIS.
//!
//! Takes their options, of which each class has its own selection, returns what a run visits. It
//! never steps.

use super::error::SamplerError;
use super::levels::sigma_ends;
use super::options::Options;
use super::schedule::{listed_timesteps, schedule};
use super::schedule::{train_timesteps, zero_terminal_snr};
use super::sigmas::{Curve, TrainSigmas, along};
use super::spacing::{Spacing, solver_timesteps};

/// What a run visits.
pub(super) struct SolverGrid {
    /// One timestep for each network call.
    pub(super) points: Vec<f64>,
    /// Ratios of noise to signal in single precision, one more than timesteps.
    pub(super) ratios: Vec<f64>,
}

/// The switches of curves that these classes have.
const CURVES: [(&str, Curve); 4] = [
    ("use_karras_sigmas", Curve::Karras),
    ("use_lu_lambdas", Curve::Lu),
    ("use_exponential_sigmas", Curve::Exponential),
    ("use_beta_sigmas", Curve::Beta),
];

/// Reads the grid of a run. Options that the class does not have keep their defaults; one without
/// `final_sigmas_type` ends on the least noise that its curve has.
pub(super) fn read(options: &Options, steps: usize) -> Result<SolverGrid, SamplerError> {
    let has = |option: &str| options.sampler.reads(option);
    let curves: Vec<_> = CURVES
        .into_iter()
        .filter(|(option, _)| has(option))
        .collect();
    let curve = Curve::read(options, &curves)?;
    let schedule = schedule(options)?;
    let train = TrainSigmas::new(&schedule, zero_terminal_snr(options)?);
    let clipped = match has("lambda_min_clipped") {
        true => options.number("lambda_min_clipped", f64::NEG_INFINITY)?,
        false => f64::NEG_INFINITY,
    };
    // λ falls with the timestep; those below the clip are cut off.
    let count = train_timesteps(options)?;
    let logs = train.logs.iter();
    let last = logs.take_while(|log| f64::from(-**log) >= clipped).count();
    if last == 0 {
        return Err(options.wrong("lambda_min_clipped", "a number that some timestep exceeds"));
    }
    let listed = match has("timesteps") {
        true => listed_timesteps(options, true)?,
        false => None,
    };
    let mut points = match (listed, has("timestep_spacing")) {
        (Some(points), _) => points,
        (None, true) => {
            let offset = options.count("steps_offset", 0)? as f64;
            let spacing = Spacing::read(options, "linspace")?;
            solver_timesteps(spacing, count, last, steps, offset)
        }
        (None, false) => solver_timesteps(Spacing::Linspace, count, last, steps, 0.0),
    };
    let ends = match has("sigma_max") {
        true => sigma_ends(options, &train)?,
        false => train.ends(),
    };
    let bar = schedule.alphas_cumprod()[0];
    let mut least = f64::from(((1.0 - bar) / bar).sqrt());
    let mut ratios: Vec<f64> = match along(curve, &train, ends, steps) {
        None => points.iter().map(|point| train.at(*point)).collect(),
        Some(levels) => {
            let rounded = match curve {
                Curve::Karras | Curve::Lu => !has("euler_at_final") || !is_cosine(options)?,
                Curve::Schedule | Curve::Exponential | Curve::Beta => false,
            };
            let told = levels.iter().map(|sigma| train.timestep_of(*sigma));
            points = match rounded {
                true => told.map(f64::round_ties_even).collect(),
                false => told.map(f64::trunc).collect(),
            };
            if !has("final_sigmas_type") {
                least = levels.last().copied().unwrap_or(least);
            }
            levels
        }
    };
    let finals = [("zero", 0.0), ("sigma_min", least)];
    ratios.push(match has("final_sigmas_type") {
        true => options.choice("final_sigmas_type", "zero", &finals)?,
        false => least,
    });
    let ratios = ratios.into_iter().map(|ratio| f64::from(ratio as f32));
    let ratios = ratios.collect();
    Ok(SolverGrid { points, ratios })
}

/// Whether the schedule is the cosine, along which the multistep class does not round timesteps.
fn is_cosine(options: &Options) -> Result<bool, SamplerError> {
    let schedules = [
        ("linear", false),
        ("scaled_linear", false),
        ("squaredcos_cap_v2", true),
    ];
    options.choice("beta_schedule", "linear", &schedules)
}
