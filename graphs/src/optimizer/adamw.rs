//! AdamW: moments of the gradient, decoupled weight decay.
//!
//! Takes flat parameters and their gradient, gives new parameters and moments. The numbers that
//! change from update to update are scalar inputs ([`super::Scalars`]).

use compiler::graph::{Builder, Value};
use compiler::ops::{Add, Div, Mul, Select, Sqrt, Sub};

use compiler::program::training::names::{FIRST_MOMENT, SECOND_MOMENT, STUDENT};

use super::error::OptimizerError;
use super::settings::Settings;
use super::states::{
    FIRST_RATE, Replaced, SECOND_KEEP, SECOND_RATE, lerp, scalar, scalar_input, state,
};

/// The new parameters, then the moments, which are the old ones where `updated` (bool `[]`), if it
/// is given, is false:
/// `m ← m + (1 − β₁)(g − m)`, `v ← β₂·v + (1 − β₂)·g²`,
/// `θ ← (1 − lr·λ)·θ − (lr/(1 − β₁ᵗ))·m / (√v/√(1 − β₂ᵗ) + ε)`.
///
/// # Source
/// arXiv 1711.05101, algorithm 2, as `torch.optim.AdamW` spells it.
pub(super) fn write(
    builder: &mut Builder,
    settings: &Settings,
    student: Value,
    gradient: Value,
    updated: Option<Value>,
) -> Result<Vec<Replaced>, OptimizerError> {
    let ty = builder.ty(student).clone();
    let first = state(builder, FIRST_MOMENT, ty.clone())?;
    let second = state(builder, SECOND_MOMENT, ty)?;
    let rate = scalar_input(builder, FIRST_RATE)?;
    let new_first = lerp(builder, first, gradient, rate)?;
    // What follows reads the states as they become, so that no second copy of them is kept.
    let new_first = guarded(builder, updated, new_first, first)?;
    let square = builder.push(Mul, &[gradient, gradient])?;
    let keep = scalar_input(builder, SECOND_KEEP)?;
    let rate = scalar_input(builder, SECOND_RATE)?;
    let kept = builder.push(Mul, &[second, keep])?;
    let square = builder.push(Mul, &[square, rate])?;
    let new_second = builder.push(Add, &[kept, square])?;
    let new_second = guarded(builder, updated, new_second, second)?;

    let root_scale = scalar_input(builder, "adamw.root_scale")?;
    let root = builder.push(Sqrt, &[new_second])?;
    let root = builder.push(Mul, &[root, root_scale])?;
    let epsilon = scalar(builder, settings.epsilon)?;
    let divisor = builder.push(Add, &[root, epsilon])?;
    let direction = builder.push(Div, &[new_first, divisor])?;
    let step_size = scalar_input(builder, "adamw.step_size")?;
    let step = builder.push(Mul, &[direction, step_size])?;
    let keep = scalar_input(builder, "adamw.keep")?;
    let kept = builder.push(Mul, &[student, keep])?;
    let new = builder.push(Sub, &[kept, step])?;
    let new = guarded(builder, updated, new, student)?;
    let update = |name, old, new| Replaced { name, old, new };
    Ok(vec![
        update(STUDENT, student, new),
        update(FIRST_MOMENT, first, new_first),
        update(SECOND_MOMENT, second, new_second),
    ])
}

/// `new`, or `old` where `updated` is false.
fn guarded(
    builder: &mut Builder,
    updated: Option<Value>,
    new: Value,
    old: Value,
) -> Result<Value, OptimizerError> {
    match updated {
        Some(updated) => Ok(builder.push(Select, &[updated, new, old])?),
        None => Ok(new),
    }
}
