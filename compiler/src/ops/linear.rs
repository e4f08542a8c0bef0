//! The operator [`Linear`].

use crate::graph::TensorType;
use crate::ops::attribute::attributes;
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::shape::{exact_shape, one_float, rank};
use crate::ops::{Class, Matmul, Operator, Violation};
use crate::value::array::{Array, Fault};
use crate::value::dim::Dim;
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// # Meaning
/// `result[…, n] = bias[n] + Σ_k x[…, k] · w[n, k]`.
///
/// # Operands
/// `x` `[…, k]`, `w` `[n, k]`, optional `bias` `[n]`.
///
/// # Result
/// `[…, n]` in the common element type.
///
/// # Constraints
/// * C1: all operands have one floating-point element type.
/// * C2: `x` has an axis or more and `w` has two.
/// * C3: the inner extents `k` are equal.
/// * C4: `bias` has the shape `[n]`.
///
/// # Gradient
/// `dx = dr · w`, `dw = drᵀ · x` and `dbias = Σ dr`, with the leading axes taken as one.
///
/// # Source
/// PyTorch `nn.functional.linear`.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear;

attributes!(Linear {});

impl Operator for Linear {
    const NAME: &'static str = "linear";
    const OPERANDS: (usize, usize) = (2, 3);
    const CLASS: Class = Class::Gemm;
    // Sums over k round differently in every order; k reaches 5120 in the models we compile.
    const TOLERANCE: f64 = 2e-5;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        let dtype = one_float("C1", operands)?;
        let (x, w) = (operands[0], operands[1]);
        rank("C2", w, 2)?;
        let Some((inner, leading)) = x.shape.split_last() else {
            return Err(Violation::new("C2", x, "at least one axis"));
        };
        let found = format_args!("inner extents {inner} and {}", w.shape[1]);
        Violation::unless(*inner == w.shape[1], "C3", found, "equal extents")?;
        if let Some(bias) = operands.get(2) {
            exact_shape("C4", bias, &w.shape[..1])?;
        }
        let shape = [leading, &w.shape[..1]].concat();
        Ok(TensorType { dtype, shape })
    }

    fn eval(&self, operands: &[&Array], result: &Extents) -> Result<Values, Fault> {
        let (x, w) = (operands[0].floats(), operands[1].floats());
        let bias = operands.get(2).map(|bias| bias.floats());
        let (n, k) = (operands[1].shape[0], operands[1].shape[1]);
        let rows: usize = operands[0].shape[..operands[0].shape.len() - 1]
            .iter()
            .product();
        let mut values = Vec::with_capacity(result.elements());
        for row in 0..rows {
            for column in 0..n {
                let (a, b) = (&x[row * k..][..k], &w[column * k..][..k]);
                let dot: f64 = a.iter().zip(b).map(|(a, b)| a * b).sum();
                values.push(dot + bias.map_or(0.0, |bias| bias[column]));
            }
        }
        Ok(Values::Float(values))
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        let (x, w, dr) = (at.operand(0), at.operand(1), at.cotangent);
        let dx = at.when(0, |at| {
            let turned = at.transposed(w)?;
            at.push(Linear, &[dr, turned])
        })?;
        let leading: Vec<usize> = (0..at.ty(dr).rank() - 1).collect();
        let rows: usize = at.shape(dr)[..leading.len()].iter().product();
        let dw = at.when(1, |at| {
            let (n, k) = (at.shape(w)[0], at.shape(w)[1]);
            let (x, dr) = (at.reshape(x, &[rows, k])?, at.reshape(dr, &[rows, n])?);
            let turned = at.transposed(dr)?;
            at.push(Matmul, &[turned, x])
        })?;
        let mut gradients = vec![dx, dw];
        if at.has_operand(2) {
            gradients.push(at.when(2, |at| at.sum(dr, &leading, false))?);
        }
        Ok(gradients)
    }

    fn flops(&self, operands: &[TensorType], result: &TensorType) -> Dim {
        result
            .elements()
            .mul(&operands[1].shape[1])
            .mul(&Dim::from(2))
    }
}
