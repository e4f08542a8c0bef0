//! The training step of a method: a program, what is loaded with it, and what computes its numbers.
//!
//! Takes a teacher, a method and sizes; returns the program of one step with its weights and first
//! states. `train` runs it with data, `bench` with numbers from a seed.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use compiler::graph::{Func, Role};
use compiler::program::pipeline::{LatentSize, Task};
use compiler::program::training::names::{
    EMA, LOSS_SCALE, LOSS_SCALE_START, LOSS_SCALE_UPDATES, STUDENT,
};
use compiler::program::training::{Drawn, Layout, probed};
use compiler::program::{Compiled, compile};
use compiler::value::dim::Bindings;
use compiler::value::dtype::DType;
use compiler::value::tensor::Tensor;
use graphs::Imported;
use graphs::distill::settings::Values;
use graphs::distill::{self, Bodies, Method, Teacher};
use graphs::models::{self, Timestep, initial, unet};
use graphs::optimizer::{Decay, Fall, LossScale, Rate, Scalars, Settings, layout_of};
use runtime::training::checkpoint;
use runtime::training::draws::Draws;
use runtime::training::feed::Named;
use runtime::training::initial::parameters;
use runtime::training::run::Recipe;

use crate::error::{At, Failure};
use crate::loaded::Loaded;
use crate::model::Model;

/// What the names of the teacher's weights begin with in a step.
const TEACHER: &str = "teacher.";

/// What is trained, and from where.
pub(crate) struct Start<'a> {
    /// The teacher's model, or the one that is trained without a teacher.
    pub(crate) model: &'a Model,
    /// Another network than the teacher's for a student.
    pub(crate) student: Option<&'a Path>,
    /// Another average than the student for a beginning: a file of parameters.
    pub(crate) ema: Option<BTreeMap<String, Tensor>>,
    /// Samples, rows, columns and tokens of micro-batches, one for each size of pictures.
    pub(crate) sizes: Vec<distill::Sizes>,
    /// The type that networks compute in.
    pub(crate) dtype: DType,
    /// The seed of parameters that begin at random.
    pub(crate) seed: u64,
    /// Whether the step says which value is the first that is not finite.
    pub(crate) probed: bool,
}

/// A training step.
pub(crate) struct Step {
    /// The program of each size, with its weights and first states.
    pub(crate) loaded: Vec<Loaded>,
    /// Where the student's parameters are in its flat states.
    pub(crate) layout: Layout,
    /// The student, as its configuration describes it.
    pub(crate) student: unet::Config,
    /// What computes its numbers.
    pub(crate) numbers: StepNumbers,
    /// What tells the teacher from others.
    pub(crate) model: String,
}

/// What computes the numbers of a step.
pub(crate) struct StepNumbers {
    /// The method.
    pub(crate) method: Box<dyn Method>,
    /// The teacher's schedule and what its output means.
    pub(crate) teacher: Teacher,
    /// Features of the student's condition.
    features: Option<usize>,
    /// What is fixed of the optimiser.
    pub(crate) optimizer: Settings,
    /// The learning rate.
    pub(crate) rate: Rate,
    decay: Decay,
    weight_decay: f64,
}

impl Recipe for StepNumbers {
    fn numbers(&self, drawn: &Drawn) -> Result<Named, Box<dyn Error>> {
        let schedule = &self.teacher.schedule;
        Ok(self.method.numbers(schedule, self.features, drawn)?)
    }

    fn scalars(&self, step: u64, updated: u64, last: bool) -> Named {
        let scalars = Scalars {
            update: updated + 1,
            lr: self.rate.at(step),
            weight_decay: self.weight_decay,
            ema_decay: self.decay.at(updated),
            last,
        };
        scalars.numbers(&self.optimizer)
    }
}

/// The sizes of a step for pictures of a model.
pub(crate) fn sizes(model: &Model, size: LatentSize) -> Result<distill::Sizes, Failure> {
    let denoiser = model.pipeline().of_task(Task::Denoise)?;
    let shapes = denoiser.shapes(&model.pipeline().latents, size)?;
    let text = shapes
        .iter()
        .find(|(name, _)| name == "encoder_hidden_states");
    Ok(distill::Sizes {
        batch: size.batch,
        height: size.height,
        width: size.width,
        tokens: text.map_or(0, |(_, shape)| shape[1]),
    })
}

/// The optimiser as the settings of every training have it.
fn optimizer(general: &Values, dtype: DType) -> Result<Settings, Failure> {
    /// Updates in a row after which the loss scale doubles, as in PyTorch.
    const GROWTH_INTERVAL: u32 = 2000;
    let clip = general.number_within("clip", 0.0, f64::MAX);
    let clip = clip.map_err(Failure::usage)?;
    Ok(Settings {
        betas: [0.9, 0.999],
        epsilon: 1e-8,
        clip: (clip > 0.0).then_some(clip),
        ema: true,
        accumulate: general.positive("accumulate").map_err(Failure::usage)?,
        loss_scale: (dtype == DType::F16).then_some(LossScale {
            growth_interval: GROWTH_INTERVAL,
        }),
    })
}

impl StepNumbers {
    /// The numbers of a method whose student's condition has `features` features.
    fn new(
        method: Box<dyn Method>,
        teacher: Teacher,
        features: Option<usize>,
        general: &Values,
        dtype: DType,
    ) -> Result<StepNumbers, Failure> {
        let falls = [
            ("constant", Fall::Constant),
            ("linear", Fall::Linear),
            ("cosine", Fall::Cosine),
        ];
        let decay = general.number_within("ema-decay", 0.0, 1.0);
        Ok(StepNumbers {
            method,
            teacher,
            features,
            optimizer: optimizer(general, dtype)?,
            rate: Rate {
                lr: general
                    .number_within("lr", 0.0, f64::MAX)
                    .map_err(Failure::usage)?,
                fall: general.word("lr-schedule", &falls),
                warmup: general.count("warmup") as u64,
                steps: general.count("steps") as u64,
            },
            decay: Decay {
                decay: decay.map_err(Failure::usage)?,
                warmup: general.switch("ema-warmup"),
            },
            weight_decay: general
                .number_within("weight-decay", 0.0, f64::MAX)
                .map_err(Failure::usage)?,
        })
    }
}

/// The program of a step with what is loaded with it.
pub(crate) fn build(
    start: &Start<'_>,
    method: Box<dyn Method>,
    teacher: Teacher,
    general: &Values,
) -> Result<Step, Failure> {
    let place = start.model.place();
    let (config, network) = start.model.unet(Timestep::PerSample, start.dtype)?;
    let model = fingerprint(&network)?;
    let own = match start.student {
        Some(path) => {
            let model = Model::open(path)?;
            let (config, network) = model.unet(Timestep::PerSample, start.dtype)?;
            (config, network.weights)
        }
        None => {
            let condition = method.student().condition;
            let config = unet::Config {
                condition_width: config.condition_width.or(condition),
                ..config
            };
            (config, network.weights.clone())
        }
    };
    let (config, weights) = own;
    let options = models::Options {
        dtype: start.dtype,
        timestep: Timestep::PerSample,
        hidden_states: false,
    };
    let student = unet::build("student", &config, &options).at(&place)?;
    let adapter = method.student().adapter;
    let layout = match adapter {
        Some(adapter) => adapter.layout(&student).at(&place)?,
        None => layout_of(&student).at(&place)?,
    };
    let numbers = StepNumbers::new(
        method,
        teacher,
        config.condition_width,
        general,
        start.dtype,
    )?;
    let draws = Draws::new(start.seed);
    let begin = match adapter {
        Some(_) => parameters(&layout, &initial::adapter(&layout), draws),
        None => begin(&layout, weights, draws).at(&place)?,
    };
    let ema = match &start.ema {
        Some(ema) => layout.join(ema).at("--ema-weights")?,
        None => begin.clone(),
    };
    let mut loaded = Vec::new();
    for &sizes in &start.sizes {
        let bodies = Bodies {
            teacher: Some(&network.func),
            student: &student,
            adapter,
        };
        let step = distill::step(numbers.method.as_ref(), bodies, sizes, false).at(&place)?;
        let step = graphs::optimizer::training_step(step, &layout, &numbers.optimizer);
        let step = match start.probed {
            true => probed(&step.at(&place)?).at(&place)?,
            false => step.at(&place)?,
        };
        let reads_teacher = step
            .params(Role::Weight)
            .any(|(_, name, _)| name.starts_with(TEACHER));
        if reads_teacher && network.weights.is_empty() {
            let failure = Failure::job(format!("{place}: the teacher has no weights"));
            return Err(failure.hint("train it first: splamc train … --method denoise"));
        }
        let mut weights = teacher_weights(&step, &network);
        weights.extend(states(&step, &begin, &ema));
        let Compiled { program, patches } = compile(&step, &Bindings::new()).at(&place)?;
        loaded.push(Loaded {
            program,
            parts: None,
            weights,
            patches,
        });
    }
    Ok(Step {
        loaded,
        layout,
        student: config,
        numbers,
        model,
    })
}

/// What tells a network from others: the names of its weights, and the contents of small ones,
/// which no two trained networks share.
fn fingerprint(network: &Imported) -> Result<String, Failure> {
    /// Elements of the largest weight that is read.
    const SMALL: usize = 1 << 14;
    let mut parts: Vec<Vec<u8>> = Vec::new();
    for (name, tensor) in &network.weights {
        parts.push(name.clone().into_bytes());
        if tensor.elements() <= SMALL {
            parts.push(tensor.fetched().at(name)?.bytes().to_vec());
        }
    }
    Ok(checkpoint::fingerprint(parts))
}

/// The student's first parameters: `weights`, and for what they lack what new layers begin with.
fn begin(
    layout: &Layout,
    mut weights: BTreeMap<String, Tensor>,
    draws: Draws,
) -> Result<Tensor, compiler::program::training::LayoutError> {
    let places = layout.places().iter();
    let lacking = places
        .filter(|place| !weights.contains_key(&place.name))
        .count();
    if lacking > 0 {
        let new = parameters(layout, &initial::initial(layout), draws);
        for (name, tensor) in layout.cut(&new)? {
            weights.entry(name).or_insert(tensor);
        }
    }
    layout.join(&weights)
}

/// The first states of a step.
fn states(step: &Func, student: &Tensor, ema: &Tensor) -> BTreeMap<String, Tensor> {
    let of = |name: &str| match name {
        STUDENT => student.clone(),
        EMA => ema.clone(),
        LOSS_SCALE => Tensor::from_f32(&[], &[LOSS_SCALE_START]),
        LOSS_SCALE_UPDATES => Tensor::from_f32(&[], &[0.0]),
        _ => {
            let zeros = vec![0; student.bytes().len()];
            let zeros = Tensor::new(DType::F32, student.shape().to_vec(), zeros.into());
            zeros.expect("moments are as long as the parameters")
        }
    };
    let names = step.params(Role::State);
    names
        .map(|(_, name, _)| (name.to_owned(), of(name)))
        .collect()
}

/// The teacher's weights under the names of the step, which may do without them.
fn teacher_weights(step: &Func, teacher: &Imported) -> BTreeMap<String, Tensor> {
    let names = step.params(Role::Weight);
    names
        .filter_map(|(_, name, _)| {
            let tensor = teacher.weights.get(name.strip_prefix(TEACHER)?)?;
            Some((name.to_owned(), tensor.clone()))
        })
        .collect()
}
