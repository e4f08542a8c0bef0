//! Latent consistency distillation: what the student says at the start of one guided step of the
//! teacher is what it, or its says at the end (arXiv 2310.04378, algorithm 1; spec 2.1).
//!
//! Takes settings, and the timestep and the guidance scale drawn for each sample; gives the nodes
//! up to the loss, and the numbers of a step. A student with `timestep_cond` is told the scale; one
//! without is distilled with the scales it is given (fixed guidance).

use compiler::graph::TensorType;
use compiler::program::pipeline::Distilled;
use compiler::program::training::names::{EMA, STUDENT};
use compiler::program::training::{Distribution, Draw, Drawn};
use compiler::value::dtype::DType;
use compiler::value::tensor::Tensor;
use serde_json::{Map, Value};

use super::adapter::{self, Adapter};
use super::error::DistillError;
use super::loss::{HUBER_C, LOSS, Loss};
use super::method::{Entry, Folding, Method, Outcome, Student, Teacher, drawn, drawn_timesteps};
use super::network::At;
use super::roll_out::{RollOut, Solver};
use super::row;
use super::row::{Numbers, vector};
use super::scene::{Scene, Written, stop_gradient};
use super::settings::{Kind, Range, Setting, Values};
use crate::guidance::guidance_embedding;
use crate::noise_schedule::NoiseSchedule;
use crate::samplers::PredictionType;

/// The method in the table.
pub(super) const METHOD: Entry = Entry {
    name: "lcm",
    about: "latent consistency distillation with a fixed guidance scale or a range of them",
    settings: &[
        GUIDANCE,
        K,
        Setting {
            name: "online-target",
            kind: Kind::Switch,
            about: "take the student itself, without gradient, for the target, not its average",
            default: "false",
        },
        LOSS,
        HUBER_C,
    ],
    defaults: &[("lr", "8e-6"), ("ema-decay", "0.95"), ("steps", "10000")],
    set: |values, teacher| {
        let target = match values.switch("online-target") {
            true => Target::Student,
            false => Target::Ema,
        };
        set(values, teacher, target, None)
    },
};

/// LCM-LoRA in the table: the same with low-rank matrices for a student, whose target is itself.
pub(super) const LORA: Entry = Entry {
    name: "lcm-lora",
    about: "latent consistency distillation of low-rank matrices, to be added to any such network",
    settings: &[GUIDANCE, K, adapter::RANK, adapter::ALPHA, LOSS, HUBER_C],
    defaults: &[("lr", "1e-4"), ("ema-decay", "0.95"), ("steps", "1000")],
    set: |values, teacher| {
        let adapter = Adapter::set(values)?;
        set(values, teacher, Target::Student, Some(adapter))
    },
};

const GUIDANCE: Setting = Setting {
    name: "guidance",
    kind: Kind::Range,
    about: "the teacher's guidance scale in the standard form, or a range LOW..HIGH of which the \
            student is told each sample's",
    default: "8",
};

const K: Setting = Setting {
    name: "k",
    kind: Kind::Count,
    about: "timesteps of the teacher's step",
    default: "20",
};

/// Features of the condition of released models.
pub(super) const CONDITION_WIDTH: usize = 256;

fn set(
    values: &Values,
    teacher: &Teacher,
    target: Target,
    adapter: Option<Adapter>,
) -> Result<Box<dyn Method>, DistillError> {
    let settings = Settings {
        prediction: teacher.prediction,
        k: values.positive("k")?,
        guidance: values.range("guidance"),
        target,
        adapter,
        loss: Loss::set(values)?,
    };
    settings.draws(&teacher.schedule)?;
    Ok(Box::new(settings))
}

impl Settings {
    fn is_fixed(&self) -> bool {
        self.guidance.low == self.guidance.high
    }
}

impl Method for Settings {
    fn draws(&self, schedule: &NoiseSchedule) -> Result<Vec<Draw>, DistillError> {
        let k = self.k;
        let length = schedule.alphas_cumprod().len();
        let starts: Vec<f64> = (1..=length / k).map(|j| (j * k - 1) as f64).collect();
        if starts.is_empty() {
            return Err(DistillError::Setting {
                name: "k",
                found: k.to_string(),
                wanted: format!("at most {length}"),
            });
        }
        // LCM's own form of the scale (spec 0.4).
        let (low, high) = (self.guidance.low - 1.0, self.guidance.high - 1.0);
        Ok(vec![
            Draw {
                name: "timesteps",
                distribution: Distribution::OneOf(starts),
            },
            Draw {
                name: "w",
                distribution: Distribution::uniform(low, high),
            },
        ])
    }

    fn numbers(
        &self,
        schedule: &NoiseSchedule,
        features: Option<usize>,
        of: &Drawn,
    ) -> Result<Numbers, DistillError> {
        let timesteps = drawn_timesteps(of)?.into_iter();
        let pairs = timesteps.zip(drawn(of, "w")?);
        let sample = |(timestep, w): (usize, &f64)| Sample {
            timestep,
            guidance: w + 1.0,
        };
        let samples: Vec<Sample> = pairs.map(sample).collect();
        numbers(self, schedule, features, &samples)
    }

    fn write(&self, scene: &mut Scene<'_>) -> Result<Written, DistillError> {
        write(scene, self)
    }

    fn student(&self) -> Student {
        let told = !self.is_fixed() && self.adapter.is_none();
        Student {
            condition: told.then_some(CONDITION_WIDTH),
            adapter: self.adapter,
        }
    }

    fn result(&self) -> Outcome {
        let Range { low, high } = self.guidance;
        let (guidance, distilled) = match (self.is_fixed(), self.adapter) {
            (false, None) => (None, format!("{low}..{high}")),
            (true, _) => (Some(1.0), low.to_string()),
            (false, Some(_)) => (Some(1.0), format!("{low}..{high}")),
        };
        Outcome {
            sampler: Some(lcm_sampler(self.k)),
            distilled: Some(Distilled {
                method: match self.adapter {
                    None => METHOD.name.to_owned(),
                    Some(_) => LORA.name.to_owned(),
                },
                steps: 4,
                guidance,
                distilled_guidance: Some(distilled),
                windows: None,
            }),
            condition: Folding::Keep,
        }
    }
}

/// The class and the options of the sampler of consistency models whose timesteps are `stride`
/// apart (spec 1.12, 4.7).
pub(super) fn lcm_sampler(stride: usize) -> (&'static str, Map<String, Value>) {
    let steps = 1000 / stride.max(1);
    let options = [
        ("original_inference_steps", Value::from(steps.max(1))),
        // The sampler does not read it; diffusers' pipelines warn where it is not 1.
        ("steps_offset", Value::from(1)),
        ("timestep_spacing", Value::from("leading")),
        ("timestep_scaling", Value::from(10.0)),
        ("clip_sample", Value::from(false)),
    ];
    let options = options.map(|(name, value)| (name.to_owned(), value));
    ("LCMScheduler", options.into_iter().collect())
}

/// The options of the method.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// What the outputs of teacher and student mean.
    pub prediction: PredictionType,
    /// Timesteps of the teacher's step: the schedule's length over `num_ddim_timesteps`; 20 for
    /// released models.
    pub k: usize,
    /// The teacher's guidance scales in the standard form; a student is told those of a range.
    pub guidance: Range,
    /// Which network gives the target.
    pub target: Target,
    /// The matrices that are trained in place of all weights.
    pub adapter: Option<Adapter>,
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
            solver: Solver::Ddim,
            prediction: settings.prediction,
            stride,
            steps: 1,
            guided: true,
        }),
    }
}

/// Writes the step.
fn write(scene: &mut Scene<'_>, settings: &Settings) -> Result<Written, DistillError> {
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
    let (student_out, model_pred) = scene.consistent(&student, "student", &at_start, noisy)?;
    let (_, target) = match settings.target {
        Target::Student => scene.consistent(&student, "target", &at_end, x_prev)?,
        Target::Ema => {
            let ema = scene.flat_network(EMA)?;
            scene.consistent(&ema, "target", &at_end, x_prev)?
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
