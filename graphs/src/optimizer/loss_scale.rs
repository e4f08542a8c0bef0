//! Loss scaling: gradients of networks that compute in f16, kept away from zero.
//!
//! Takes a loss, gives it scaled; takes the norm of a gradient, says whether the step counts and
//! what the scale becomes. A step with a gradient that is not finite changes nothing but the scale.

use compiler::graph::{Builder, GraphError, TensorType, Value};
use compiler::ops::{Add, Div, Less, Mul, Select};
use compiler::program::training::names::{LOSS_SCALE, LOSS_SCALE_UPDATES};
use compiler::value::dtype::DType;

use super::settings::{LossScale, Settings};
use super::states::{Replaced, scalar, state};

/// The factor of the loss, if `settings` want one.
pub(super) fn scale(
    builder: &mut Builder,
    settings: &Settings,
) -> Result<Option<Value>, GraphError> {
    let scale = settings.loss_scale.map(|_| {
        let ty = TensorType::scalar(DType::F32);
        builder.state(LOSS_SCALE, ty)
    });
    scale.transpose()
}

/// The gradient of the loss itself, of one of the loss scaled.
pub(super) fn unscaled(
    builder: &mut Builder,
    gradient: Value,
    scale: Value,
) -> Result<Value, GraphError> {
    let one = scalar(builder, 1.0)?;
    let inverse = builder.push(Div, &[one, scale])?;
    builder.push(Mul, &[gradient, inverse])
}

/// Whether a norm is a finite number: bool `[]`.
pub(super) fn finite(builder: &mut Builder, norm: Value) -> Result<Value, GraphError> {
    let infinity = scalar(builder, f64::INFINITY)?;
    builder.push(Less, &[norm, infinity])
}

impl LossScale {
    /// What the states become.
    ///
    /// # Source
    /// `torch.amp.GradScaler.update` with its factors 2 and 1/2.
    pub(super) fn adapt(
        self,
        builder: &mut Builder,
        scale: Value,
        finite: Value,
    ) -> Result<[Replaced; 2], GraphError> {
        let updates = state(builder, LOSS_SCALE_UPDATES, TensorType::scalar(DType::F32))?;
        let [zero, one] = [scalar(builder, 0.0)?, scalar(builder, 1.0)?];
        let [two, half] = [scalar(builder, 2.0)?, scalar(builder, 0.5)?];
        let interval = scalar(builder, f64::from(self.growth_interval))?;
        let more = builder.push(Add, &[updates, one])?;
        let waiting = builder.push(Less, &[more, interval])?;
        let growth = builder.push(Select, &[waiting, one, two])?;
        let factor = builder.push(Select, &[finite, growth, half])?;
        let new_scale = builder.push(Mul, &[scale, factor])?;
        let counted = builder.push(Select, &[waiting, more, zero])?;
        let new_updates = builder.push(Select, &[finite, counted, zero])?;
        let update = |name, old, new| Replaced { name, old, new };
        Ok([
            update(LOSS_SCALE, scale, new_scale),
            update(LOSS_SCALE_UPDATES, updates, new_updates),
        ])
    }
}
