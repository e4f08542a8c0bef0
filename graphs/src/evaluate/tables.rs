//! Tables that evaluations run a denoising network by: deterministic paths of chosen jumps, and the
//! consistency function at one timestep.
//!
//! Takes a noise schedule and timesteps, returns sampler tables in the form that every run obeys.

use compiler::program::sampler::{Limit, Row, SamplerStep, SamplerTable};

use super::EvaluateError;
use crate::distill::{Point, row};
use crate::noise_schedule::NoiseSchedule;
use crate::samplers::PredictionType;

/// A path of DDIM steps without noise through `timesteps`, from the noisiest on: one network call
/// for each but the last.
///
/// # Errors
/// When the schedule has no such timestep.
///
/// # Source
/// arXiv 2010.02502, eq. 12; spec 4.1.
pub fn ddim_path(
    schedule: &NoiseSchedule,
    prediction: PredictionType,
    timesteps: &[usize],
) -> Result<SamplerTable, EvaluateError> {
    let points = timesteps.iter().map(|timestep| point(schedule, *timestep));
    let points: Vec<Point> = points.collect::<Result<_, _>>()?;
    let steps = points
        .windows(2)
        .map(|pair| step(pair[0], row::ddim(prediction, pair[0], pair[1])));
    Ok(table(steps.collect()))
}

/// The consistency function of a student at a timestep: one network call, after which the state is
/// the function's value.
///
/// # Errors
/// When the schedule has no such timestep.
///
/// # Source
/// Spec 1.7 and 5.5, γ = 1.
pub fn consistency_function(
    schedule: &NoiseSchedule,
    prediction: PredictionType,
    timestep: usize,
) -> Result<SamplerTable, EvaluateError> {
    let point = point(schedule, timestep)?;
    let row = row::consistency(prediction, point, point.sigma);
    Ok(table(vec![step(point, row)]))
}

/// The factors of clean latents and of noise at a timestep.
///
/// # Errors
/// When the schedule has no such timestep.
pub fn noising(schedule: &NoiseSchedule, timestep: usize) -> Result<[f64; 2], EvaluateError> {
    let Point { alpha, sigma, .. } = point(schedule, timestep)?;
    Ok([alpha, sigma])
}

fn point(schedule: &NoiseSchedule, timestep: usize) -> Result<Point, EvaluateError> {
    Point::of(schedule, timestep).ok_or(EvaluateError::Timestep {
        timestep,
        length: schedule.alphas_cumprod().len(),
    })
}

fn step(from: Point, row: row::Row) -> SamplerStep {
    let next = Row {
        x: row.state,
        output: row.output,
        ..Row::default()
    };
    SamplerStep {
        timestep: from.timestep as f64,
        input_scale: 1.0,
        draw: None,
        // Nothing bounds or reads an estimate.
        estimate: Row::default(),
        limit: Limit::None,
        next,
        stores: Vec::new(),
    }
}

fn table(steps: Vec<SamplerStep>) -> SamplerTable {
    SamplerTable {
        init_noise_sigma: 1.0,
        draws: 0,
        history_slots: 0,
        steps,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise_schedule::{BetaSchedule, NoiseScheduleSpec};

    #[test]
    fn jumps_of_the_true_noise_are_exact() {
        let spec = NoiseScheduleSpec {
            num_train_timesteps: 1000,
            beta_start: 0.00085,
            beta_end: 0.012,
            beta_schedule: BetaSchedule::ScaledLinear,
            trained_betas: None,
            zero_terminal_snr: false,
        };
        let schedule = NoiseSchedule::new(&spec).expect("a schedule");
        let (x0, noise) = (0.7, -1.3);
        let at = |timestep| {
            let [alpha, sigma] = noising(&schedule, timestep).expect("a timestep");
            alpha * x0 + sigma * noise
        };
        let path = ddim_path(&schedule, PredictionType::Epsilon, &[999, 500, 99]).expect("a path");
        let states = path.steps.iter().scan(at(999), |x, step| {
            *x = step.next.x * *x + step.next.output * noise;
            Some(*x)
        });
        for (found, wanted) in states.zip([at(500), at(99)]) {
            assert!((found - wanted).abs() < 1e-12, "{found} {wanted}");
        }
        let table = consistency_function(&schedule, PredictionType::Epsilon, 699).expect("a table");
        let row = table.steps[0].next;
        let found = row.x * at(699) + row.output * noise;
        assert!((found - x0).abs() < 1e-3, "{found}");
        assert!(ddim_path(&schedule, PredictionType::Epsilon, &[1000, 0]).is_err());
    }
}
