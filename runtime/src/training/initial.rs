//! First values of parameters.
//!
//! Takes distributions, draws from them; returns one flat tensor. It knows no network.

use compiler::program::training::{Initial, Layout};
use compiler::value::dtype::DType;
use compiler::value::tensor::Tensor;

use super::draws::{Address, Draws, Purpose};

/// The parameters of `layout`, flat (f32 `[total]`), drawn from a distribution each.
pub fn parameters(layout: &Layout, initial: &[Initial], draws: Draws) -> Tensor {
    let mut flat = Vec::with_capacity(4 * layout.total());
    for ((place, initial), number) in layout.places().iter().zip(initial).zip(0..) {
        let at = Address {
            step: 0,
            sample: number,
        };
        let mut uniforms = draws.uniforms(Purpose::Parameters, at);
        for _ in 0..place.elements() {
            let value = match initial {
                Initial::Constant(value) => *value,
                Initial::Uniform { bound } => bound * (2.0 * uniforms.next().unwrap_or(0.5) - 1.0),
            };
            flat.extend((value as f32).to_le_bytes());
        }
    }
    let flat = Tensor::new(DType::F32, vec![layout.total()], flat.into());
    flat.expect("every place is filled")
}
