//! SPLAD, the distillation of SPLAM: the student follows straight sub-paths from a noised latent to
//! where the guided teacher walks from there, γ = 1 to γ = 0 (arXiv 2404.13903; spec 1).
//!
//! Takes settings, and the timestep and γ drawn for each sample; gives the nodes up to the loss,
//! and the numbers of a step. With `k` above `k_phi` the teacher takes several steps (multiple
//! estimation); a sample that reaches timestep 0 before has finished.
//!
//! The recipe of the released script: `k = k_phi = 20`, [`Sigma::Variance`],
//! [`GammaEmbed::Official`], and its `--w_scale 8` is `guidance` 9.

use compiler::graph::TensorType;
use compiler::value::dtype::DType;
use compiler::value::tensor::Tensor;

use super::error::DistillError;
use super::loss::Loss;
use super::network::At;
use super::roll_out::{Path, RollOut};
use super::row;
use super::row::{Numbers, Point, vector};
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
    /// The teacher's guidance scale in the standard form; 3 in the paper's main tables.
    pub guidance: f64,
    /// Timesteps from one end of a sub-path to the other: a multiple of `k_phi`.
    pub k: usize,
    /// Timesteps of one step of the teacher; 20 in the paper.
    pub k_phi: usize,
    /// How much noise a state between the ends is taken to hold.
    pub sigma: Sigma,
    /// How the student is told γ.
    pub gamma_embed: GammaEmbed,
    /// Which timesteps a sample may start at.
    pub grid: Grid,
    /// The distance to minimise; the pseudo-Huber one in the paper.
    pub loss: Loss,
}

/// The noise of a state between the ends of a sub-path (spec 1.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sigma {
    /// `(1 − γ)·r·σ_s + γ·σ_t`, exact where the end is the teacher's word.
    Linear,
    /// `√((r·σ_s)² + γ²·(1 − r²))`, as the released script has it.
    Variance,
}

/// The vector that stands for γ (spec 1.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GammaEmbed {
    /// `e(γ) − e(1)`: exactly zero at γ = 1, so that the condition can be dropped.
    ZeroAtOne,
    /// `e(γ)`, as the released script has it.
    Official,
}

/// Where sub-paths may start (spec 1.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grid {
    /// Every timestep of the teacher's grid.
    Fine,
    /// Every `k`-th timestep.
    Anchored,
}

/// What is drawn for one sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// The noisier end of the sub-path, one of [`Settings::grid_timesteps`].
    pub timestep: usize,
    /// Where on the sub-path the student stands, from 0 (the teacher's word) to 1.
    pub gamma: f64,
}

impl Settings {
    /// The timesteps at which samples start, in rising order.
    ///
    /// # Errors
    /// When k is no multiple of k_phi, or neither leaves a timestep in the schedule.
    pub fn grid_timesteps(&self, schedule: &NoiseSchedule) -> Result<Vec<usize>, DistillError> {
        self.roll_out()?;
        let stride = match self.grid {
            Grid::Fine => self.k_phi,
            Grid::Anchored => self.k,
        };
        let count = schedule.alphas_cumprod().len() / stride;
        match count {
            0 => Err(DistillError::Setting {
                name: "k",
                found: self.k.to_string(),
                wanted: format!("at most {}", schedule.alphas_cumprod().len()),
            }),
            count => Ok((1..=count).map(|j| j * stride - 1).collect()),
        }
    }

    fn roll_out(&self) -> Result<RollOut, DistillError> {
        /// Calls of the teacher in one step; beyond, a program is out of all proportion.
        const STEPS_MAX: usize = 1000;
        let stride = self.k_phi;
        let steps = self.k.checked_div(stride).unwrap_or(0);
        if steps == 0 || steps > STEPS_MAX || !self.k.is_multiple_of(stride) {
            return Err(DistillError::Setting {
                name: "k",
                found: self.k.to_string(),
                wanted: format!("1 to {STEPS_MAX} times k_phi, which is {stride}"),
            });
        }
        Ok(RollOut {
            prediction: self.prediction,
            stride,
            steps,
        })
    }
}

/// The vector `[features]` that tells a student `gamma`.
pub fn gamma_embedding(form: GammaEmbed, gamma: f64, features: usize) -> Vec<f32> {
    let scalar = |gamma: f64| 10.0 - 10.0 * gamma;
    let mut vector = guidance_embedding(scalar(gamma), features);
    if form == GammaEmbed::ZeroAtOne {
        let one = guidance_embedding(scalar(1.0), features);
        vector.iter_mut().zip(one).for_each(|(x, one)| *x -= one);
    }
    vector
}

/// The noise of the state at `gamma` between `start` and `end`.
pub fn sigma(form: Sigma, start: Point, end: Point, gamma: f64) -> f64 {
    let r = start.alpha / end.alpha;
    let a = r * end.sigma;
    match form {
        Sigma::Linear => (1.0 - gamma) * a + gamma * start.sigma,
        Sigma::Variance => (a * a + gamma * gamma * (1.0 - r * r)).sqrt(),
    }
}

/// The numbers of a step: the teacher's rows, `guidance`, `gamma.end` and `gamma.start` (the
/// factors of the ends in the student's state, spec 1.3 eq. 12), the timesteps and rows of student
/// and target, and `student.timestep_cond` and `target.timestep_cond` `[batch, features]`.
///
/// # Errors
/// When k is no multiple of k_phi, a timestep is not on the grid, or γ is not in 0..=1.
pub fn numbers(
    settings: &Settings,
    schedule: &NoiseSchedule,
    features: usize,
    samples: &[Sample],
) -> Result<Numbers, DistillError> {
    let teacher = settings.roll_out()?;
    let mut paths = Vec::new();
    for (place, sample) in samples.iter().enumerate() {
        paths.push(path(settings, &teacher, schedule, place, sample)?);
    }
    let of = |number: &dyn Fn(&Path, f64) -> f64| -> Vec<f64> {
        let pairs = paths.iter().zip(samples);
        pairs
            .map(|(path, sample)| number(path, sample.gamma))
            .collect()
    };
    let ends = of(&|path, gamma| (1.0 - gamma) * path.start().alpha / path.end().alpha);
    let sigmas = of(&|path, gamma| sigma(settings.sigma, path.start(), path.end(), gamma));
    let mut numbers = teacher.numbers(&paths);
    let mut add = |name: &str, tensor| numbers.insert(name.to_owned(), tensor);
    add("guidance", vector(&vec![settings.guidance; samples.len()]));
    add("gamma.end", vector(&ends));
    add("gamma.start", vector(&of(&|_, gamma| gamma)));
    let embeddings = |gammas: Vec<f64>| {
        let embedding = |&gamma: &f64| gamma_embedding(settings.gamma_embed, gamma, features);
        let all: Vec<f32> = gammas.iter().flat_map(embedding).collect();
        Tensor::from_f32(&[gammas.len(), features], &all)
    };
    add("student.timestep_cond", embeddings(of(&|_, gamma| gamma)));
    add("target.timestep_cond", embeddings(of(&|_, _| 1.0)));
    let starts = paths.iter().map(Path::start).zip(sigmas);
    let ends = paths.iter().map(|path| (path.end(), path.end().sigma));
    numbers.extend(row::at_points("student", settings.prediction, starts));
    numbers.extend(row::at_points("target", settings.prediction, ends));
    Ok(numbers)
}

/// The teacher's way for one sample.
fn path(
    settings: &Settings,
    teacher: &RollOut,
    schedule: &NoiseSchedule,
    place: usize,
    sample: &Sample,
) -> Result<Path, DistillError> {
    if !(0.0..=1.0).contains(&sample.gamma) {
        return Err(DistillError::Sample {
            sample: place,
            name: "gamma",
            found: sample.gamma,
            wanted: "a number from 0 to 1".to_owned(),
        });
    }
    if settings.grid == Grid::Anchored && !(sample.timestep + 1).is_multiple_of(settings.k) {
        return Err(DistillError::Sample {
            sample: place,
            name: "timestep",
            found: sample.timestep as f64,
            wanted: format!("one less than a multiple of {}", settings.k),
        });
    }
    teacher.path(schedule, place, sample.timestep)
}

/// Writes the step.
pub(super) fn write(scene: &mut Scene<'_>, settings: &Settings) -> Result<Written, DistillError> {
    let path = settings.roll_out()?.write(scene, "splad")?;
    let (z_t, z_s) = (path[0], stop_gradient(scene, path[path.len() - 1])?);
    let factors = [scene.numbers("gamma.end")?, scene.numbers("gamma.start")?];
    let z_gamma = row::combine(&mut scene.builder, factors, [z_s, z_t])?;
    let student = scene.flat_network(STUDENT)?;
    let ema = scene.flat_network(EMA)?;
    let features = student.condition_features();
    let features = features.ok_or_else(|| DistillError::Interface {
        func: scene.bodies.student.name().to_owned(),
        found: "no input \"timestep_cond\"".to_owned(),
        wanted: "a condition on gamma",
    })?;
    let condition = TensorType::new(DType::F32, [scene.sizes.batch, features]);
    let mut at = |who: &str, sample| -> Result<At, DistillError> {
        let name = format!("{who}.timestep_cond");
        Ok(At {
            sample,
            timestep: scene.numbers(&format!("{who}.timestep"))?,
            timestep_cond: Some(scene.builder.input(&name, condition.clone())?),
        })
    };
    let (at_gamma, at_end) = (at("student", z_gamma)?, at("target", z_s)?);
    let (target_eps, target) = scene.consistent(&ema, "target", &at_end)?;
    let target = stop_gradient(scene, target)?;
    let (student_eps, model_pred) = scene.consistent(&student, "student", &at_gamma)?;
    let loss = settings
        .loss
        .write(&mut scene.builder, model_pred, target)?;
    let named = vec![
        ("z_t", z_t),
        ("z_s", z_s),
        ("z_gamma", z_gamma),
        ("target_eps", target_eps),
        ("target", target),
        ("student_eps", student_eps),
        ("model_pred", model_pred),
    ];
    Ok(Written { loss, named })
}
