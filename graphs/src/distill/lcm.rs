//! Latent consistency distillation: what the student says at the start of one guided step of the
//! teacher is what it, or its says at the end (arXiv 2310.04378, algorithm 1; spec 2.1).
//!
//! Takes settings, and the timestep and the guidance scale drawn for each sample; gives the nodes
//! up to the loss, and the numbers of a step. A student with `timestep_cond` is told the scale; one
//! without is distilled with the scales it is given (fixed guidance).

use compiler::graph::TensorType;
use compiler::value::dtype::DType;
use compiler::value::tensor::Tensor;

use super::error::DistillError;
use super::loss::Loss;
use super::network::At;
use super::roll_out::RollOut;
use super::row;
use super::row::{Numbers, vector};
use super::scene::{Scene, Written, stop_gradient};
use crate::guidance::guidance_embedding;
use crate::noise_schedule::NoiseSchedule;
use crate::optimizer::{EMA, STUDENT};
use crate::samplers::PredictionType;

/// The options of the method.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// What the outputs of teacher and student mean.
    pub prediction: PredictionType,
    /// Timesteps of the teacher's step: the schedule's length over `num_ddim_timesteps`; 20 for
    /// released models.
    pub k: usize,
    /// Whose word is the target.
    pub target: Target,
    /// The distance to minimise.
    pub loss: Loss,
}

/// Which network gives the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The student's moving average.
    Ema,
    /// The student as it is.
    Student,
}

/// What is drawn for one sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Where the teacher starts: one less than a multiple of k.
    pub timestep: usize,
    /// The guidance scale in the standard form (1 is none).
    pub guidance: f64,
}

/// The numbers of a step: the teacher's rows, `guidance`, the timesteps and rows of student and
/// target, and `timestep_cond` `[batch, features]` for a student whose condition has that many
/// features: the embedding of the scale less one (spec 0.4).
///
/// # Errors
/// When k is 0 or a timestep is not on the grid.
pub fn numbers(
    settings: &Settings,
    schedule: &NoiseSchedule,
    features: Option<usize>,
    samples: &[Sample],
) -> Result<Numbers, DistillError> {
    let teacher = roll_out(settings)?;
    let mut paths = Vec::new();
    for (place, sample) in samples.iter().enumerate() {
        paths.push(teacher.path(schedule, place, sample.timestep)?);
    }
    let mut numbers = teacher.numbers(&paths);
    let guidance: Vec<f64> = samples.iter().map(|sample| sample.guidance).collect();
    numbers.insert("guidance".to_owned(), vector(&guidance));
    let starts = paths.iter().map(|path| (path.start(), path.start().sigma));
    let ends = paths.iter().map(|path| (path.end(), path.end().sigma));
    numbers.extend(row::at_points("student", settings.prediction, starts));
    numbers.extend(row::at_points("target", settings.prediction, ends));
    if let Some(features) = features {
        let embeddings = guidance
            .iter()
            .map(|w| guidance_embedding(w - 1.0, features));
        let all: Vec<f32> = embeddings.flatten().collect();
        let tensor = Tensor::from_f32(&[samples.len(), features], &all);
        numbers.insert("timestep_cond".to_owned(), tensor);
    }
    Ok(numbers)
}

fn roll_out(settings: &Settings) -> Result<RollOut, DistillError> {
    match settings.k {
        0 => Err(DistillError::Setting {
            name: "k",
            found: settings.k.to_string(),
            wanted: "at least 1".to_owned(),
        }),
        stride => Ok(RollOut {
            prediction: settings.prediction,
            stride,
            steps: 1,
        }),
    }
}

/// Writes the step.
pub(super) fn write(scene: &mut Scene<'_>, settings: &Settings) -> Result<Written, DistillError> {
    let path = roll_out(settings)?.write(scene, "lcm")?;
    let [noisy, x_prev] = [path[0], stop_gradient(scene, path[1])?];
    let student = scene.flat_network(STUDENT)?;
    let timestep_cond = match student.condition_features() {
        None => None,
        Some(features) => {
            let ty = TensorType::new(DType::F32, [scene.sizes.batch, features]);
            Some(scene.builder.input("timestep_cond", ty)?)
        }
    };
    let at_start = At {
        sample: noisy,
        timestep: scene.numbers("student.timestep")?,
        timestep_cond,
    };
    let at_end = At {
        sample: x_prev,
        timestep: scene.numbers("target.timestep")?,
        timestep_cond,
    };
    let (student_out, model_pred) = scene.consistent(&student, "student", &at_start)?;
    let (_, target) = match settings.target {
        Target::Student => scene.consistent(&student, "target", &at_end)?,
        Target::Ema => {
            let ema = scene.flat_network(EMA)?;
            scene.consistent(&ema, "target", &at_end)?
        }
    };
    let target = stop_gradient(scene, target)?;
    let loss = settings
        .loss
        .write(&mut scene.builder, model_pred, target)?;
    let named = vec![
        ("noisy", noisy),
        ("x_prev", x_prev),
        ("student_out", student_out),
        ("model_pred", model_pred),
        ("target", target),
    ];
    Ok(Written { loss, named })
}
