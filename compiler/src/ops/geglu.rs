//! The operator [`Geglu`].

use crate::graph::TensorType;
use crate::ops::attribute::attributes;
use crate::ops::elementary::Elementary;
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::shape::float;
use crate::ops::{Class, Concat, Gelu, GeluForm, Operator, Violation};
use crate::value::array::{Array, Fault};
use crate::value::dim::Dim;
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// # Meaning
/// `result[…, i] = x[…, i] · gelu(x[…, c + i])` for `i < c`, with the exact `gelu`.
///
/// # Operands
/// `x` `[…, 2c]`.
///
/// # Result
/// `[…, c]` in the element type of `x`.
///
/// # Constraints
/// * C1: `x` is floating-point.
/// * C2: `x` has an axis or more and the last extent is even.
///
/// # Gradient
/// `dx[…, i] = dr · gelu(x[…, c + i])` and `dx[…, c + i] = dr · x[…, i] · gelu′(x[…, c + i])`.
///
/// # Source
/// Shazeer 2020 (arXiv 2002.05202), eq. 6; diffusers `GEGLU`, whose gate is the second half.
#[derive(Debug, Clone, PartialEq)]
pub struct Geglu;

attributes!(Geglu {});

impl Operator for Geglu {
    const NAME: &'static str = "geglu";
    const OPERANDS: (usize, usize) = (1, 1);
    // Lowering makes it two access maps and a pointwise product.
    const CLASS: Class = Class::Plain;
    const TOLERANCE: f64 = 2e-6;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        float("C1", operands[0])?;
        let mut ty = operands[0].clone();
        let half = ty
            .shape
            .last()
            .and_then(|both| both.exact_div(&Dim::from(2)));
        match (ty.shape.last_mut(), half) {
            (Some(last), Some(half)) => *last = half,
            (_, _) => return Err(Violation::new("C2", ty, "an even last extent")),
        }
        Ok(ty)
    }

    fn eval(&self, operands: &[&Array], result: &Extents) -> Result<Values, Fault> {
        let x = operands[0].floats();
        let half = result.shape[result.shape.len() - 1];
        let gelu = Elementary::GeluErf.exact();
        let value = |position: usize| {
            let start = position / half * half;
            let first = start + position;
            x[first] * gelu(x[first + half])
        };
        Ok(Values::Float((0..result.elements()).map(value).collect()))
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        at.unary(|at| {
            let (x, dr) = (at.operand(0), at.cotangent);
            let axis = at.ty(x).rank() - 1;
            let half = at.shape(dr)[axis];
            let (value, gate) = (at.slice(x, axis, 0, half)?, at.slice(x, axis, half, half)?);
            let form = GeluForm::Erf;
            let open = at.push(Gelu { form }, &[gate])?;
            let dvalue = at.mul(dr, open)?;
            let slope = form.slope(at, gate)?;
            let dgate = at.mul(dr, value)?;
            let dgate = at.mul(dgate, slope)?;
            at.push(Concat { axis }, &[dvalue, dgate])
        })
    }

    fn flops(&self, _operands: &[TensorType], result: &TensorType) -> Dim {
        result.elements().mul(&Dim::from(6))
    }
}
