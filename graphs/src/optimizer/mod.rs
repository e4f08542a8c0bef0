//! Optimisers as graphs: what turns the loss of a step into new parameters.
//!
//! Takes a function with a scalar loss over flat parameters and settings; adds their gradient, its
//! accumulation and clipping, AdamW and a moving average, so that a training step is one
//! function. Parameters, moments, averages and gradients are flat f32 tensors, one each
//! ([`Layout`]); what changes from step to step (learning rate, bias corrections) are scalars
//! that the host computes in f64 ([`Scalars::numbers`]). It loops over no steps.

use std::collections::BTreeMap;

use compiler::graph::autodiff::GradientError;
use compiler::graph::{Builder, Definition, Func, GraphError, Role, TensorType, Value};
use compiler::ops::{Add, Broadcast, Mul, Select, Sub};
use compiler::value::dtype::DType;
use compiler::value::tensor::{Tensor, Values};
use thiserror::Error;

mod adamw;
mod clip;
mod gradient;
mod layout;
mod loss_scale;

pub use layout::{Layout, Place};
pub use loss_scale::LossScale;

/// The flat parameters: f32 `[parameters]`, a weight of steps and a state of training steps.
pub const STUDENT: &str = "student";

/// The flat moving average of the parameters: f32 `[parameters]`, a weight of steps and a state of
/// training steps.
pub const EMA: &str = "ema";

/// What is minimised: f32 `[]`, a result.
pub const LOSS: &str = "loss";

/// The flat sum of gradients since the last update: f32 `[parameters]`, a state of steps that
/// accumulate; it begins with zeros.
pub const GRADIENT: &str = "gradient";

/// The norm of the gradient before it is clipped: f32 `[]`, a result.
pub const GRAD_NORM: &str = "grad_norm";

/// Whether parameters were updated, 1 or 0: f32 `[]`, a result of steps with a [`LossScale`].
pub const UPDATED: &str = "updated";

/// What is fixed for a whole training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Decay of the first and the second moment; 0.9 and 0.999 in PyTorch.
    pub betas: [f64; 2],
    /// What is added to the root of the second moment; 1e-8 in PyTorch.
    pub epsilon: f64,
    /// The norm to which a longer gradient is shortened.
    pub clip: Option<f64>,
    /// Whether there is a moving average.
    pub ema: bool,
    /// Steps whose gradients are averaged for one update, at least 1.
    pub accumulate: usize,
    /// How the loss is scaled for networks that compute in f16.
    pub loss_scale: Option<LossScale>,
}

/// What changes from update to update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scalars {
    /// The number of this update, from 1; steps that were skipped do not count.
    pub update: u64,
    /// The learning rate.
    pub lr: f64,
    /// The share of itself that a parameter loses per unit of learning rate.
    pub weight_decay: f64,
    /// The share of the moving average that stays; 0.95 for SPLAM.
    pub ema_decay: f64,
}

impl Scalars {
    /// The scalar inputs of a training step, each f32 `[]`: `adamw.keep`, `adamw.step_size`,
    /// `adamw.root_scale`, `ema.rate`. Bias corrections cancel in f32, so all is f64 before.
    ///
    /// # Source
    /// arXiv 1711.05101, algorithm 2, as `torch.optim.AdamW` spells it.
    pub fn numbers(&self, settings: &Settings) -> BTreeMap<String, Tensor> {
        // Beyond that many updates both corrections are 1 in f64.
        let update = i32::try_from(self.update).unwrap_or(i32::MAX);
        let [first, second] = settings.betas.map(|beta| 1.0 - beta.powi(update));
        [
            ("adamw.keep", 1.0 - self.lr * self.weight_decay),
            ("adamw.step_size", self.lr / first),
            ("adamw.root_scale", 1.0 / second.sqrt()),
            ("ema.rate", 1.0 - self.ema_decay),
        ]
        .into_iter()
        .filter(|(name, _)| settings.ema || *name != "ema.rate")
        .map(|(name, number)| (name.to_owned(), scalar_tensor(number)))
        .collect()
    }
}

/// Why there is no training step.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum OptimizerError {
    /// The numbers of a function do not fit each other.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The loss has no gradient.
    #[error(transparent)]
    Gradient(#[from] GradientError),
    /// A weight whose size is not known.
    #[error("parameter {name:?} has type {ty}, wanted known extents")]
    Unknown {
        /// The parameter.
        name: String,
        /// Its type.
        ty: TensorType,
    },
    /// Tensors that do not fit a layout.
    #[error("parameter {name:?} has shape {found:?}, wanted {wanted:?}")]
    Parameter {
        /// The parameter.
        name: String,
        /// The shape given, if it was given.
        found: Option<Vec<usize>>,
        /// The shape of the layout.
        wanted: Vec<usize>,
    },
    /// The function is not a step.
    #[error("{func:?} has no {what}, which a training step wants")]
    NotAStep {
        /// The function.
        func: String,
        /// What is missing.
        what: &'static str,
    },
    /// A setting that has no meaning.
    #[error("{name} is {found}, wanted {wanted}")]
    Setting {
        /// The option.
        name: &'static str,
        /// Its value.
        found: f64,
        /// What would do.
        wanted: &'static str,
    },
}

impl Settings {
    fn check(&self) -> Result<(), OptimizerError> {
        let share = |x: f64| (0.0..1.0).contains(&x);
        let positive = |x: f64| x > 0.0 && x.is_finite();
        let [beta1, beta2] = self.betas;
        let rules = [
            ("beta1", beta1, share(beta1), "0 or more and below 1"),
            ("beta2", beta2, share(beta2), "0 or more and below 1"),
            ("epsilon", self.epsilon, positive(self.epsilon), "above 0"),
            (
                "the clipping norm",
                self.clip.unwrap_or(1.0),
                self.clip.is_none_or(positive),
                "above 0",
            ),
            (
                "the number of accumulated steps",
                self.accumulate as f64,
                self.accumulate > 0,
                "1 or more",
            ),
        ];
        match rules.into_iter().find(|(_, _, holds, _)| !holds) {
            None => Ok(()),
            Some((name, found, _, wanted)) => Err(OptimizerError::Setting {
                name,
                found,
                wanted,
            }),
        }
    }
}

/// The function `step` with its update: gradient, accumulation, clipping, AdamW, moving average and
/// loss scale, as `settings` have them. One run of it is one training step.
///
/// `step` has the weight [`STUDENT`], cut as `layout` says, and the result [`LOSS`]. Added are the
/// scalar inputs of [`Scalars::numbers`], states for moments, average and accumulated gradient,
/// and the result [`GRAD_NORM`]; what is updated becomes a state.
///
/// # Errors
/// When a setting has no meaning, `step` is no step, or its loss has no gradient.
pub fn training_step(
    step: Func,
    layout: &Layout,
    settings: &Settings,
) -> Result<Func, OptimizerError> {
    settings.check()?;
    let updated: &[&str] = match settings.ema {
        true => &[STUDENT, EMA],
        false => &[STUDENT],
    };
    let mut builder = Builder::resume(with_states(&step, updated)?);
    let student = gradient::student(&builder)?;
    let scale = loss_scale::scale(&mut builder, settings, Role::State)?;
    let mut gradient = gradient::write(&mut builder, layout, scale)?;
    if settings.accumulate > 1 {
        let ty = builder.ty(gradient).clone();
        let sum = state(&mut builder, GRADIENT, ty.clone())?;
        gradient = builder.push(Add, &[sum, gradient])?;
        let share = scalar(&mut builder, 1.0 / settings.accumulate as f64)?;
        gradient = builder.push(Mul, &[gradient, share])?;
        let zero = scalar(&mut builder, 0.0)?;
        let zeros = builder.push(Broadcast { shape: ty.shape }, &[zero])?;
        builder.result(GRADIENT, zeros)?;
    }
    if let Some(scale) = scale {
        gradient = loss_scale::unscaled(&mut builder, gradient, scale)?;
    }
    update(&mut builder, settings, student, gradient, scale)?;
    Ok(builder.finish())
}

/// The function `step` with its gradient added to the state [`GRADIENT`]: what all but the last
/// run of `settings.accumulate` steps do. The last is a [`training_step`]; the two share their
/// states, and what is a state there and only read here is a weight.
///
/// # Errors
/// As [`training_step`].
pub fn accumulation_step(
    step: Func,
    layout: &Layout,
    settings: &Settings,
) -> Result<Func, OptimizerError> {
    settings.check()?;
    let mut builder = Builder::resume(step);
    let scale = loss_scale::scale(&mut builder, settings, Role::Weight)?;
    let gradient = gradient::write(&mut builder, layout, scale)?;
    let ty = builder.ty(gradient).clone();
    let sum = state(&mut builder, GRADIENT, ty)?;
    let sum = builder.push(Add, &[sum, gradient])?;
    builder.result(GRADIENT, sum)?;
    Ok(builder.finish())
}

/// The update of parameters by a flat gradient (f32 `[parameters]`): clipping, AdamW, the moving
/// average and the loss scale as `settings` have them. Their new values are results under the
/// names of their states; beside them [`GRAD_NORM`].
fn update(
    builder: &mut Builder,
    settings: &Settings,
    student: Value,
    gradient: Value,
    scale: Option<Value>,
) -> Result<(), OptimizerError> {
    let norm = clip::norm(builder, gradient)?;
    builder.result(GRAD_NORM, norm)?;
    let gradient = match settings.clip {
        None => gradient,
        Some(norm_max) => clip::shorten(builder, gradient, norm, norm_max)?,
    };
    let mut states = adamw::write(builder, settings, student, gradient)?;
    if settings.ema {
        let ema = state(builder, EMA, builder.ty(student).clone())?;
        let rate = scalar_input(builder, "ema.rate")?;
        let new = lerp(builder, ema, states[0].new, rate)?;
        states.push(Update {
            name: EMA,
            old: ema,
            new,
        });
    }
    if let (Some(scale), Some(setting)) = (scale, settings.loss_scale) {
        let finite = loss_scale::finite(builder, norm)?;
        for state in &mut states {
            state.new = builder.push(Select, &[finite, state.new, state.old])?;
        }
        states.extend(setting.adapt(builder, scale, finite)?);
    }
    for state in states {
        builder.result(state.name, state.new)?;
    }
    Ok(())
}

/// A state and what replaces it.
struct Update {
    name: &'static str,
    old: Value,
    new: Value,
}

/// The state `name`: the one that the function has already, or a new one.
fn state(builder: &mut Builder, name: &str, ty: TensorType) -> Result<Value, GraphError> {
    let same = |(value, found, _)| (found == name).then_some(value);
    let found = builder.func().params(Role::State).find_map(same);
    match found {
        Some(value) => Ok(value),
        None => builder.state(name, ty),
    }
}

/// `func` with the weights `names` as states.
fn with_states(func: &Func, names: &[&str]) -> Result<Func, GraphError> {
    let mut builder = Builder::new(func.name());
    for (_, data) in func.values() {
        builder.at(&data.origin);
        match &data.definition {
            Definition::Param(param) => {
                let role = match param.role {
                    Role::Weight if names.contains(&param.name.as_str()) => Role::State,
                    role => role,
                };
                builder.param(&param.name, role, data.ty.clone())?
            }
            Definition::Node(node) => builder.push(node.op.clone(), &node.operands)?,
        };
    }
    for (name, value) in func.results() {
        builder.result(name, *value)?;
    }
    Ok(builder.finish())
}

/// `a + rate·(b − a)`: its fixed point is exactly `b`, whatever the rate is rounded to.
fn lerp(builder: &mut Builder, a: Value, b: Value, rate: Value) -> Result<Value, GraphError> {
    let towards = builder.push(Sub, &[b, a])?;
    let towards = builder.push(Mul, &[rate, towards])?;
    builder.push(Add, &[a, towards])
}

/// An f32 input `[]`.
fn scalar_input(builder: &mut Builder, name: &str) -> Result<Value, GraphError> {
    builder.input(name, TensorType::scalar(DType::F32))
}

/// An f32 constant `[]`.
fn scalar(builder: &mut Builder, number: f64) -> Result<Value, GraphError> {
    builder.constant(scalar_tensor(number))
}

fn scalar_tensor(number: f64) -> Tensor {
    Tensor::from_values(DType::F32, &[], &Values::Float(vec![number]))
}
