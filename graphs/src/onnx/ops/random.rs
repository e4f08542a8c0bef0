//! Draws from distributions: constants, as an imported function has no state.
//!
//! Takes a known shape and a seed, returns the same numbers at every run. Without a seed the node's
//! name is one, so that two nodes draw different numbers.

use std::f64::consts::TAU;

use compiler::value::tensor::{Tensor, Values};

use crate::onnx::context::{Context, Result, Wire, symbolic};
use crate::onnx::error::Problem;
use crate::onnx::node::Node;

use super::data::element_type_of;

/// Draws are stored in the program; latents of a large picture are a fraction of this.
const DRAWS_MAX: usize = 1 << 24;

/// Normally distributed numbers in the shape of the operand.
pub(crate) fn random_normal_like(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let like = node.input(0, "input")?;
    let extent = |dim: &compiler::value::dim::Dim| {
        dim.extent()
            .ok_or_else(|| symbolic("an extent of random numbers", dim))
    };
    let shape: Result<Vec<usize>> = context.shape(like).iter().map(extent).collect();
    let shape = shape?;
    let count = shape
        .iter()
        .try_fold(1usize, |count, &extent| count.checked_mul(extent));
    let count = count
        .filter(|&count| count <= DRAWS_MAX)
        .ok_or_else(|| Problem::Operand {
            name: "input",
            found: context.ty(like).to_string(),
            wanted: format!("at most {DRAWS_MAX} random numbers"),
        })?;
    let dtype = match node.has("dtype") {
        true => element_type_of(node, "dtype")?,
        false => context.dtype(like),
    };
    let (mean, deviation) = (node.float_or("mean", 0.0)?, node.float_or("scale", 1.0)?);
    let mut state = match node.has("seed") {
        true => node.float_or("seed", 0.0)?.to_bits(),
        false => context
            .origin()
            .bytes()
            .fold(0, |seed, byte| mixed(seed ^ u64::from(byte))),
    };
    let draws = (0..count)
        .map(|_| mean + deviation * normal(&mut state))
        .collect();
    let draws = Tensor::from_values(dtype, &shape, &Values::Float(draws));
    Ok(vec![context.constant(draws)])
}

/// A draw by Box and Muller 1958, eq. 1.
fn normal(state: &mut u64) -> f64 {
    // Above 0, so that the logarithm is finite.
    let radius = (-2.0 * (1.0 - uniform(state)).ln()).sqrt();
    radius * (TAU * uniform(state)).cos()
}

/// A draw from 0 to 1, exclusive: the upper 53 bits of SplitMix64 (Steele, Lea and Flood 2014,
/// figure 17).
fn uniform(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    (mixed(*state) >> 11) as f64 / (1u64 << 53) as f64
}

fn mixed(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
