//! Denoising: predict what was added to noised latents. It is how a teacher is trained, and what
//! fine-tuning a student without a teacher does.
//!
//! Takes settings, and the timestep drawn for each sample; gives the nodes up to the loss, and the
//! numbers of a step. The student's output is compared with the noise, the velocity or the clean
//! latents, as the prediction type says (arXiv 2006.11239, eq. 14; spec 0.3).

use compiler::ops::Mul;
use compiler::program::training::names::STUDENT;
use compiler::program::training::{Distribution, Draw, Drawn};

use super::error::DistillError;
use super::loss::{HUBER_C, LOSS, Loss};
use super::method::{Entry, Folding, Method, Outcome, drawn_timesteps};
use super::network::At;
use super::row::{self, Point};
use super::row::{Numbers, vector};
use super::scene::{Scene, Written};
use super::settings::{Kind, Setting, Values};
use crate::noise_schedule::NoiseSchedule;
use crate::samplers::PredictionType;

/// The method in the table.
pub(super) const METHOD: Entry = Entry {
    name: "denoise",
    about: "ordinary training: predict the noise, velocity or clean latents of noised latents",
    settings: &[
        Setting {
            name: "min-snr",
            kind: Kind::Number,
            about: "weigh samples by their signal-to-noise ratio, cut at this number; 0 for equal \
                    weights, 5 in the paper",
            default: "0",
        },
        Setting {
            default: "l2",
            ..LOSS
        },
        HUBER_C,
    ],
    defaults: &[
        ("lr", "1e-4"),
        ("caption-dropout", "0.1"),
        ("ema-decay", "0.9999"),
        ("ema-warmup", "true"),
        ("steps", "10000"),
    ],
    set: |values, teacher| {
        Ok(Box::new(Settings {
            prediction: teacher.prediction,
            min_snr: Settings::min_snr(values)?,
            loss: Loss::set(values)?,
        }))
    },
};

/// The options of the method.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// What the student's output means.
    pub prediction: PredictionType,
    /// Where the signal-to-noise ratio that weighs the samples is cut; none for equal weights
    /// (arXiv 2303.09556, section 3.4).
    pub min_snr: Option<f64>,
    /// The distance to minimise.
    pub loss: Loss,
}

impl Settings {
    fn min_snr(values: &Values) -> Result<Option<f64>, DistillError> {
        let cut = values.number_within("min-snr", 0.0, f64::MAX)?;
        Ok((cut > 0.0).then_some(cut))
    }

    /// The factor of a sample's difference, the root of its weight.
    fn weight_root(&self, point: &Point) -> f64 {
        let Some(cut) = self.min_snr else { return 1.0 };
        let snr = (point.alpha / point.sigma).powi(2);
        let weight = match self.prediction {
            PredictionType::Epsilon => snr.min(cut) / snr,
            PredictionType::VPrediction => snr.min(cut) / (snr + 1.0),
            PredictionType::Sample => snr.min(cut),
        };
        // At zero terminal SNR the noise is all there is to learn from.
        if snr > 0.0 { weight.sqrt() } else { 1.0 }
    }
}

impl Method for Settings {
    fn draws(&self, schedule: &NoiseSchedule) -> Result<Vec<Draw>, DistillError> {
        let timesteps = 0..schedule.alphas_cumprod().len();
        Ok(vec![Draw {
            name: "timesteps",
            distribution: Distribution::OneOf(timesteps.map(|t| t as f64).collect()),
        }])
    }

    fn numbers(
        &self,
        schedule: &NoiseSchedule,
        _features: Option<usize>,
        drawn: &Drawn,
    ) -> Result<Numbers, DistillError> {
        numbers(self, schedule, &drawn_timesteps(drawn)?)
    }

    fn write(&self, scene: &mut Scene<'_>) -> Result<Written, DistillError> {
        write(scene, self)
    }

    fn result(&self) -> Outcome {
        Outcome {
            sampler: None,
            distilled: None,
            condition: Folding::Keep,
        }
    }
}

/// The numbers of a step: `timestep`, the factors `start.alpha` and `start.sigma` of the noised
/// latents, `target.latents` and `target.noise` of what is to be predicted, and where samples are
/// weighed `weight.root`, each `[batch]`.
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
    let target = |point: &Point| {
        let (latents, noise) = match settings.prediction {
            PredictionType::Epsilon => (0.0, 1.0),
            PredictionType::VPrediction => (-point.sigma, point.alpha),
            PredictionType::Sample => (1.0, 0.0),
        };
        let root = settings.weight_root(point);
        (root * latents, root * noise)
    };
    let all =
        |number: &dyn Fn(&Point) -> f64| vector(&points.iter().map(number).collect::<Vec<f64>>());
    let mut numbers = Numbers::from([
        ("timestep".to_owned(), all(&|p| p.timestep as f64)),
        ("start.alpha".to_owned(), all(&|p| p.alpha)),
        ("start.sigma".to_owned(), all(&|p| p.sigma)),
        ("target.latents".to_owned(), all(&|p| target(p).0)),
        ("target.noise".to_owned(), all(&|p| target(p).1)),
    ]);
    if settings.min_snr.is_some() {
        let roots = all(&|point| settings.weight_root(point));
        numbers.insert("weight.root".to_owned(), roots);
    }
    Ok(numbers)
}

/// Writes the step.
fn write(scene: &mut Scene<'_>, settings: &Settings) -> Result<Written, DistillError> {
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
    let mut compared = output;
    if settings.min_snr.is_some() {
        let root = scene.numbers("weight.root")?;
        let root = row::per_image(&mut scene.builder, root)?;
        compared = scene.builder.push(Mul, &[root, output])?;
    }
    let loss = settings.loss.write(&mut scene.builder, compared, target)?;
    let named = vec![
        ("noisy", noisy),
        ("student_out", output),
        ("target", target),
    ];
    Ok(Written { loss, named })
}
