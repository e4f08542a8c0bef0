//! `splamc bench --train METHOD`: a whole training step as one program.
//!
//! Takes a pipeline's denoising network as the teacher; gives the program of one step of a student
//! that begins as the teacher, its teacher's weights, and what it is fed. Samples start all over
//! the schedule. It trains nothing: every run is the same step.

use std::collections::BTreeMap;

use clap::ValueEnum;
use compiler::graph::{Func, Role};
use compiler::program::pipeline::{LatentSize, Task};
use compiler::program::{Compiled, compile};
use compiler::value::dim::Bindings;
use compiler::value::dtype::DType;
use compiler::value::tensor::Tensor;
use graphs::Imported;
use graphs::distill::loss::Loss;
use graphs::distill::{self, Bodies, Method, Numbers, denoise, lcm, splad};
use graphs::models::{self, Timestep, unet};
use graphs::noise_schedule::{BetaSchedule, NoiseSchedule, NoiseScheduleSpec};
use graphs::optimizer::{EMA, Layout, STUDENT, Scalars, Settings, training_step};
use graphs::samplers::PredictionType;

use crate::error::{At, Failure};
use crate::loaded::Loaded;
use crate::model::Model;

/// A training step to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum MethodName {
    /// The network learns to denoise: forward and backward.
    Denoise,
    /// A guided step of the teacher, the target by the EMA, the student forward and backward.
    Lcm,
    /// As lcm, with the student between the ends of the teacher's step.
    Splad,
}

/// A step, and what it is fed.
pub(super) struct Training {
    /// The program with the teacher's weights and the first states.
    pub(super) loaded: Loaded,
    /// Numbers; what is missing may be anything.
    pub(super) inputs: BTreeMap<String, Tensor>,
}

/// Timesteps of the teacher's step, as released models were distilled with.
const K: usize = 20;

/// Features of the student's condition, as released models have them.
const CONDITION_WIDTH: usize = 256;

/// The optimiser of SPLAM's and LCM's scripts.
const SETTINGS: Settings = Settings {
    betas: [0.9, 0.999],
    epsilon: 1e-8,
    clip: Some(1.0),
    ema: true,
    accumulate: 1,
    loss_scale: None,
};

/// The first update by SPLAM's recipe.
const SCALARS: Scalars = Scalars {
    update: 1,
    lr: 8e-6,
    weight_decay: 0.0,
    ema_decay: 0.95,
};

/// The program of one step.
pub(super) fn load(
    model: &Model,
    method: MethodName,
    size: LatentSize,
    place: &str,
) -> Result<Training, Failure> {
    let (config, teacher) = model.unet(Timestep::PerSample)?;
    let student = student(&config, method).at(place)?;
    let denoiser = model.pipeline().of_task(Task::Denoise)?;
    let text = denoiser.shapes(&model.pipeline().latents, size)?;
    let text = text
        .iter()
        .find(|(name, _)| name == "encoder_hidden_states");
    let tokens = text.map_or(0, |(_, shape)| shape[1]);
    let sizes = distill::Sizes {
        batch: size.batch,
        height: size.height,
        width: size.width,
        tokens,
    };
    let (method, mut inputs) = step_of(method, &config, sizes.batch).at(place)?;
    let bodies = Bodies {
        teacher: Some(&teacher.func),
        student: &student,
    };
    let step = distill::step(&method, bodies, sizes, false).at(place)?;
    let layout = Layout::of(&student).at(place)?;
    let step = training_step(step, &layout, &SETTINGS).at(place)?;
    inputs.extend(SCALARS.numbers(&SETTINGS));
    let flat = layout
        .join(&student_weights(&student, &teacher))
        .at(place)?;
    let elements = layout.total();
    let zeros = Tensor::new(DType::F32, vec![elements], vec![0; 4 * elements].into()).at(place)?;
    let mut weights = teacher_weights(&step, teacher);
    for (_, name, _) in step.params(Role::State) {
        let begin = match name {
            STUDENT | EMA => flat.clone(),
            _ => zeros.clone(),
        };
        weights.insert(name.to_owned(), begin);
    }
    let Compiled { program, patches } = compile(&step, &Bindings::new()).at(place)?;
    Ok(Training {
        loaded: Loaded {
            program,
            parts: None,
            weights,
            patches,
        },
        inputs,
    })
}

/// The student: the teacher with a condition, which learning to denoise does without.
fn student(config: &unet::Config, method: MethodName) -> Result<Func, compiler::graph::GraphError> {
    let condition = match method {
        MethodName::Denoise => config.condition_width,
        MethodName::Lcm | MethodName::Splad => Some(CONDITION_WIDTH),
    };
    let config = unet::Config {
        condition_width: config.condition_width.or(condition),
        ..config.clone()
    };
    let options = models::Options {
        dtype: DType::F32,
        timestep: Timestep::PerSample,
        hidden_states: false,
    };
    unet::build("student", &config, &options)
}

/// The teacher's weights, and zeros for what it has not.
fn student_weights(student: &Func, teacher: &Imported) -> BTreeMap<String, Tensor> {
    let weight = |name: &str, shape: &[usize]| match teacher.weights.get(name) {
        Some(tensor) => tensor.clone(),
        None => Tensor::from_f32(shape, &vec![0.0; shape.iter().product()]),
    };
    student
        .params(Role::Weight)
        .map(|(_, name, ty)| {
            let shape = ty.extents().expect("weights have known sizes");
            (name.to_owned(), weight(name, &shape))
        })
        .collect()
}

/// The teacher's weights under the names of the step, which may do without them.
fn teacher_weights(step: &Func, teacher: Imported) -> BTreeMap<String, Tensor> {
    let mut weights = teacher.weights;
    let names = step.params(Role::Weight);
    names
        .filter_map(|(_, name, _)| {
            let tensor = weights.remove(name.strip_prefix("teacher.")?)?;
            Some((name.to_owned(), tensor))
        })
        .collect()
}

/// The method with the settings of its paper, and the numbers of samples that start all over the
/// schedule.
fn step_of(
    method: MethodName,
    config: &unet::Config,
    batch: usize,
) -> Result<(Method, Numbers), distill::DistillError> {
    let schedule = NoiseSchedule::new(&NoiseScheduleSpec {
        num_train_timesteps: 1000,
        beta_start: 0.00085,
        beta_end: 0.012,
        beta_schedule: BetaSchedule::ScaledLinear,
        trained_betas: None,
        zero_terminal_snr: false,
    })
    .expect("the schedule of latent diffusion is one");
    let points = schedule.alphas_cumprod().len() / K;
    let timesteps = (0..batch).map(|sample| (sample % points + 1) * K - 1);
    let prediction = PredictionType::Epsilon;
    let features = config.condition_width.unwrap_or(CONDITION_WIDTH);
    Ok(match method {
        MethodName::Denoise => {
            let loss = Loss::L2;
            let settings = denoise::Settings { prediction, loss };
            let timesteps: Vec<usize> = timesteps.collect();
            let numbers = denoise::numbers(&settings, &schedule, &timesteps)?;
            (Method::Denoise(settings), numbers)
        }
        MethodName::Lcm => {
            let settings = lcm::Settings {
                prediction,
                k: K,
                target: lcm::Target::Ema,
                loss: Loss::Huber,
            };
            let sample = |timestep| lcm::Sample {
                timestep,
                guidance: 8.0,
            };
            let samples: Vec<lcm::Sample> = timesteps.map(sample).collect();
            let numbers = lcm::numbers(&settings, &schedule, Some(features), &samples)?;
            (Method::Lcm(settings), numbers)
        }
        MethodName::Splad => {
            let settings = splad::Settings {
                prediction,
                guidance: 3.0,
                k: K,
                k_phi: K,
                sigma: splad::Sigma::Linear,
                gamma_embed: splad::GammaEmbed::ZeroAtOne,
                grid: splad::Grid::Fine,
                loss: Loss::Huber,
            };
            let sample = |timestep| splad::Sample {
                timestep,
                gamma: 0.5,
            };
            let samples: Vec<splad::Sample> = timesteps.map(sample).collect();
            let numbers = splad::numbers(&settings, &schedule, features, &samples)?;
            (Method::Splad(settings), numbers)
        }
    })
}
