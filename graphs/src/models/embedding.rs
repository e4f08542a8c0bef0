//! Sinusoids of timesteps and sizes.
//!
//! Takes numbers, gives the embedding that time networks are fed with.

use compiler::graph::{GraphError, Value};
use compiler::ops::{Concat, Cos, Mul, Sin};
use compiler::value::dim::Dim;
use compiler::value::dtype::DType;

use crate::models::layers::Layers;

/// The lowest frequency is one over this (spec 6.2).
const PERIOD_MAX: f64 = 10_000.0;

/// How diffusers spells a sinusoid.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sinusoid {
    /// Cosines come first.
    pub cosine_first: bool,
    /// Subtracted from the number of frequencies in the exponent's divisor.
    pub shift: f64,
}

/// The sinusoid of `numbers` `[n]` (f32) with `width` features, half of them cosines: f32
/// `[n, width]`. It stays f32 whatever the model's type, because timesteps need the digits.
///
/// # Source
/// `f_j = exp(−ln(10⁴)·j/(width/2 − shift))`, spec 6.2; diffusers `get_timestep_embedding`.
pub(crate) fn sinusoid(
    layers: &mut Layers,
    numbers: Value,
    width: usize,
    form: Sinusoid,
) -> Result<Value, GraphError> {
    let half = width / 2;
    let frequencies = (0..half).map(|j| frequency(j, half, form.shift)).collect();
    let frequencies = layers.constant(DType::F32, &[1, half], frequencies)?;
    let column = vec![layers.shape(numbers)[0].clone(), Dim::from(1)];
    let numbers = layers.reshape(numbers, column)?;
    let angles = layers.push(Mul, &[numbers, frequencies])?;
    let sine = layers.push(Sin, &[angles])?;
    let cosine = layers.push(Cos, &[angles])?;
    let both = match form.cosine_first {
        true => [cosine, sine],
        false => [sine, cosine],
    };
    layers.push(Concat { axis: 1 }, &both)
}

/// One frequency, rounded where PyTorch rounds in f32: at t = 999 the exact frequency would turn
/// the angle by up to 1e-4 from what the models were trained with.
fn frequency(j: usize, half: usize, shift: f64) -> f64 {
    let exponent = -PERIOD_MAX.ln() as f32 * j as f32 / (half as f64 - shift) as f32;
    f64::from(f64::from(exponent).exp() as f32)
}
