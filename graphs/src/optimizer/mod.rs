//! Optimisers as graphs: what turns the loss of a step into new parameters.
//!
//! Takes a function with a scalar loss over flat parameters and settings; adds their gradient, its
//! accumulation and clipping, AdamW and a moving average, so that a training step is one
//! function. Parameters, moments, averages and gradients are flat f32 tensors, one each
//! ([`Layout`]); what changes from step to step (learning rate, bias corrections) are scalars
//! that the host computes in f64 ([`Scalars::numbers`]). It loops over no steps.

use compiler::graph::{Builder, Definition, Func, GraphError, Role, Value};
use compiler::ops::{Add, And, Broadcast, Cast, Less, Mul, Select};
use compiler::program::training::Layout;
use compiler::program::training::names::{EMA, GRAD_NORM, GRADIENT, STUDENT, UPDATED};
use compiler::value::dtype::DType;

mod adamw;
mod clip;
mod error;
mod gradient;
mod layout;
mod loss_scale;
mod rate;
mod settings;
mod states;

pub use error::OptimizerError;
pub use layout::layout_of;
pub(crate) use layout::{pieces, split};
pub use rate::{Decay, Fall, Rate};
pub use settings::{LossScale, Scalars, Settings};
use states::{GATHER, LAST, Replaced, lerp, scalar, scalar_input, state};

/// The function `step` with its update: gradient, accumulation, clipping, AdamW, moving average and
/// loss scale, as `settings` have them. One run of it is one micro-batch, the last of
/// `settings.accumulate` updates the parameters.
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
    let scale = loss_scale::scale(&mut builder, settings)?;
    let mut gradient = gradient::write(&mut builder, layout, scale)?;
    let mut last = None;
    if settings.accumulate > 1 {
        let (sum, is_last) = accumulated(&mut builder, gradient, scale.is_some())?;
        let share = scalar(&mut builder, 1.0 / settings.accumulate as f64)?;
        gradient = builder.push(Mul, &[sum, share])?;
        last = Some(is_last);
    }
    if let Some(scale) = scale {
        gradient = loss_scale::unscaled(&mut builder, gradient, scale)?;
    }
    let update = Update {
        student,
        gradient,
        scale,
        last,
    };
    update.write(&mut builder, settings)?;
    Ok(builder.finish())
}

/// The sum of gradients since the last update, this one included, and whether it is complete: bool
/// `[]`, of the scalar input [`Scalars::last`]. The sum is a state that a complete one leaves zero.
fn accumulated(
    builder: &mut Builder,
    gradient: Value,
    scaled: bool,
) -> Result<(Value, Value), OptimizerError> {
    let ty = builder.ty(gradient).clone();
    let before = state(builder, GRADIENT, ty.clone())?;
    let sum = builder.push(Add, &[before, gradient])?;
    let zero = scalar(builder, 0.0)?;
    let last = scalar_input(builder, LAST)?;
    let last = builder.push(Less, &[zero, last])?;
    let after = match scaled {
        // Of a sum that overflowed nothing may stay.
        true => {
            let zeros = builder.push(Broadcast { shape: ty.shape }, &[zero])?;
            builder.push(Select, &[last, zeros, sum])?
        }
        false => {
            let keep = scalar_input(builder, GATHER)?;
            builder.push(Mul, &[sum, keep])?
        }
    };
    builder.result(GRADIENT, after)?;
    Ok((sum, last))
}

/// An update under construction.
struct Update {
    /// The flat parameters: f32 `[parameters]`.
    student: Value,
    /// Their gradient: f32 `[parameters]`.
    gradient: Value,
    /// What the loss is multiplied by.
    scale: Option<Value>,
    /// Whether the gradient is complete: bool `[]`; always, if there is none.
    last: Option<Value>,
}

impl Update {
    /// Clipping, AdamW, the moving average and the loss scale as `settings` have them. New values
    /// are results under the names of their states; beside them [`GRAD_NORM`] and [`UPDATED`]. A
    /// gradient that is not complete changes no parameter, nor does one of a scaled loss that is not
    /// finite.
    fn write(&self, builder: &mut Builder, settings: &Settings) -> Result<(), OptimizerError> {
        let norm = clip::norm(builder, self.gradient)?;
        builder.result(GRAD_NORM, norm)?;
        let gradient = match settings.clip {
            None => self.gradient,
            Some(norm_max) => clip::shorten(builder, self.gradient, norm, norm_max)?,
        };
        let finite = loss_scale::finite(builder, norm)?;
        let updated = match self.last {
            Some(last) => builder.push(And, &[finite, last])?,
            None => finite,
        };
        // Only scaled losses overflow as a matter of course. A choice element by element of flat
        // tensors costs more than the update itself.
        let guard = self.scale.map(|_| updated);
        let mut states = adamw::write(builder, settings, self.student, gradient, guard)?;
        if settings.ema {
            let ema = state(builder, EMA, builder.ty(self.student).clone())?;
            let rate = scalar_input(builder, "ema.rate")?;
            let mut new = lerp(builder, ema, states[0].new, rate)?;
            if let Some(updated) = guard {
                new = builder.push(Select, &[updated, new, ema])?;
            }
            states.push(Replaced {
                name: EMA,
                old: ema,
                new,
            });
        }
        if let (Some(scale), Some(setting)) = (self.scale, settings.loss_scale) {
            let mut adapted = setting.adapt(builder, scale, finite)?;
            if let Some(last) = self.last {
                for state in &mut adapted {
                    state.new = builder.push(Select, &[last, state.new, state.old])?;
                }
            }
            states.extend(adapted);
        }
        for state in states {
            builder.result(state.name, state.new)?;
        }
        let updated = builder.push(Cast { dtype: DType::F32 }, &[updated])?;
        builder.result(UPDATED, updated)?;
        Ok(())
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
