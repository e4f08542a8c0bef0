//! Optimisers as graphs: what turns the loss of a step into new parameters.
//!
//! Takes a function with a scalar loss over flat parameters and settings; adds their gradient, its
//! accumulation and clipping, AdamW and a moving average, so that a training step is one
//! function. Parameters, moments, averages and gradients are flat f32 tensors, one each
//! ([`Layout`]); what changes from step to step (learning rate, bias corrections) are scalars
//! that the host computes in f64 ([`Scalars::numbers`]). It loops over no steps.

use compiler::graph::{Builder, Definition, Func, GraphError, Role, Value};
use compiler::ops::{Add, Broadcast, Mul, Select};

mod adamw;
mod clip;
mod error;
mod gradient;
mod layout;
mod loss_scale;
mod settings;
mod states;

pub use error::OptimizerError;
pub use layout::{Layout, Place};
pub use settings::{LossScale, Scalars, Settings};
pub use states::{EMA, GRAD_NORM, GRADIENT, LOSS, STUDENT, UPDATED};
use states::{Update, lerp, scalar, scalar_input, state};

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
