//! Denoising: predict what was added to noised latents. It is how a teacher is trained, and what
//! fine-tuning a student without a teacher does.
//!
//! Takes settings, and the timestep drawn for each sample; gives the nodes up to the loss, and the
//! numbers of a step. The student's output is compared with the noise, the velocity or the clean
//! latents, as the prediction type says (arXiv 2006.11239, eq. 14; spec 0.3).

use super::error::DistillError;
use super::loss::Loss;
use super::network::At;
use super::row::{self, Point};
use super::row::{Numbers, vector};
use super::scene::{Scene, Written};
use crate::noise_schedule::NoiseSchedule;
use crate::optimizer::STUDENT;
use crate::samplers::PredictionType;

/// The options of the method.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// What the student's output means.
    pub prediction: PredictionType,
    /// The distance to minimise.
    pub loss: Loss,
}

/// The numbers of a step: `timestep`, the factors `start.alpha` and `start.sigma` of the noised
/// latents, and `target.latents` and `target.noise` of what is to be predicted, each `[batch]`.
///
/// # Errors
/// When the schedule does not hold a timestep.
pub fn numbers(
    settings: &Settings,
    schedule: &NoiseSchedule,
    timesteps: &[usize],
) -> Result<Numbers, DistillError> {
    let mut points = Vec::new();
    for (sample, &timestep) in timesteps.iter().enumerate() {
        let point = Point::of(schedule, timestep);
        points.push(point.ok_or_else(|| DistillError::Sample {
            sample,
            name: "timestep",
            found: timestep as f64,
            wanted: format!("a timestep below {}", schedule.alphas_cumprod().len()),
        })?);
    }
    let target = |point: &Point| match settings.prediction {
        PredictionType::Epsilon => (0.0, 1.0),
        PredictionType::VPrediction => (-point.sigma, point.alpha),
        PredictionType::Sample => (1.0, 0.0),
    };
    let all =
        |number: &dyn Fn(&Point) -> f64| vector(&points.iter().map(number).collect::<Vec<f64>>());
    Ok(Numbers::from([
        ("timestep".to_owned(), all(&|p| p.timestep as f64)),
        ("start.alpha".to_owned(), all(&|p| p.alpha)),
        ("start.sigma".to_owned(), all(&|p| p.sigma)),
        ("target.latents".to_owned(), all(&|p| target(p).0)),
        ("target.noise".to_owned(), all(&|p| target(p).1)),
    ]))
}

/// Writes the step.
pub(super) fn write(scene: &mut Scene<'_>, settings: &Settings) -> Result<Written, DistillError> {
    let student = scene.flat_network(STUDENT)?;
    let timestep = scene.numbers("timestep")?;
    let start = [scene.numbers("start.alpha")?, scene.numbers("start.sigma")?];
    let wanted = [
        scene.numbers("target.latents")?,
        scene.numbers("target.noise")?,
    ];
    let ends = [scene.latents, scene.noise];
    let noisy = row::combine(&mut scene.builder, start, ends)?;
    let target = row::combine(&mut scene.builder, wanted, ends)?;
    let at = At {
        sample: noisy,
        timestep,
        timestep_cond: None,
    };
    let output = student.call(&mut scene.builder, &at, &scene.conditions)?;
    let loss = settings.loss.write(&mut scene.builder, output, target)?;
    let named = vec![
        ("noisy", noisy),
        ("student_out", output),
        ("target", target),
    ];
    Ok(Written { loss, named })
}
