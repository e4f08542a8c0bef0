//! The operator [`Matmul`].

use crate::graph::TensorType;
use crate::ops::attribute::attributes;
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::shape::{broadcast, broadcast_strides, each_index, numeric, offset, same_dtype};
use crate::ops::{Class, Operator, Violation};
use crate::value::array::{Array, Fault};
use crate::value::dim::Dim;
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// # Meaning
/// `result[…, m, n] = Σ_k a[…, m, k] · b[…, k, n]`; leading axes broadcast; integers wrap.
///
/// # Operands
/// `a` `[…, m, k]`, `b` `[…, k, n]`.
///
/// # Result
/// `[…, m, n]` in the common element type.
///
/// # Constraints
/// * C1: both operands have one numeric element type.
/// * C2: the leading axes broadcast by NumPy's rule.
/// * C3: both operands have at least two axes.
/// * C4: the inner extents `k` are equal.
///
/// # Gradient
/// `da = dr · bᵀ`, `db = aᵀ · dr`, each summed over the axes along which it was stretched.
///
/// # Source
/// ONNX `MatMul` for two axes and more; vectors are reshaped by the importer.
#[derive(Debug, Clone, PartialEq)]
pub struct Matmul;

attributes!(Matmul {});

impl Operator for Matmul {
    const NAME: &'static str = "matmul";
    const OPERANDS: (usize, usize) = (2, 2);
    const CLASS: Class = Class::Gemm;
    // Sums over k round differently in every order; k reaches 5120 in the models we compile.
    const TOLERANCE: f64 = 2e-5;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        let dtype = same_dtype("C1", operands)?;
        numeric("C1", operands[0])?;
        if let Some(vector) = operands.iter().find(|operand| operand.rank() < 2) {
            return Err(Violation::new("C3", vector, "at least two axes"));
        }
        let (a, b) = (&operands[0].shape, &operands[1].shape);
        let (m, n) = (a[a.len() - 2].clone(), b[b.len() - 1].clone());
        let (left, right) = (&a[a.len() - 1], &b[b.len() - 2]);
        let found = format_args!("inner extents {left} and {right}");
        Violation::unless(left == right, "C4", found, "equal extents")?;
        let mut shape = broadcast("C2", &a[..a.len() - 2], &b[..b.len() - 2])?;
        shape.extend([m, n]);
        Ok(TensorType { dtype, shape })
    }

    fn eval(&self, operands: &[&Array], result: &Extents) -> Result<Values, Fault> {
        match (&operands[0].values, &operands[1].values) {
            (Values::Float(a), Values::Float(b)) => {
                let dot = |pairs: Pairs<'_>| pairs.map(|(i, j)| a[i] * b[j]).sum();
                Ok(Values::Float(contract(operands, result, dot)))
            }
            (Values::Int(a), Values::Int(b)) => {
                let dot = |pairs: Pairs<'_>| {
                    pairs.fold(0i64, |sum, (i, j)| {
                        sum.wrapping_add(a[i].wrapping_mul(b[j]))
                    })
                };
                Ok(Values::Int(contract(operands, result, dot)))
            }
            (_, _) => panic!("inferred as two operands of one numeric type"),
        }
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        let (a, b, dr) = (at.operand(0), at.operand(1), at.cotangent);
        let da = at.when(0, |at| {
            let turned = at.transposed(b)?;
            let whole = at.push(Matmul, &[dr, turned])?;
            at.sum_to(whole, a)
        })?;
        let db = at.when(1, |at| {
            let (left, right) = (at.shape(a), at.shape(b));
            let (k, n) = (right[right.len() - 2], right[right.len() - 1]);
            let m = left[left.len() - 2];
            let shared = right[..right.len() - 2].iter().all(|&extent| extent == 1);
            let rows: usize = left[..left.len() - 1].iter().product();
            let own = at.shape(dr)[..left.len().max(right.len()) - 2]
                .iter()
                .product::<usize>();
            if shared && own * m == rows {
                // Matrices that met the same right factor are one tall matrix.
                let (a, dr) = (at.reshape(a, &[rows, k])?, at.reshape(dr, &[rows, n])?);
                let turned = at.transposed(a)?;
                let whole = at.push(Matmul, &[turned, dr])?;
                return at.reshape(whole, &right);
            }
            let turned = at.transposed(a)?;
            let whole = at.push(Matmul, &[turned, dr])?;
            at.sum_to(whole, b)
        })?;
        Ok(vec![da, db])
    }

    fn flops(&self, operands: &[TensorType], result: &TensorType) -> Dim {
        let inner = operands[0].shape.last().cloned().unwrap_or(Dim::from(1));
        result.elements().mul(&inner).mul(&Dim::from(2))
    }
}

/// The positions in both operands of the products that one element sums.
type Pairs<'a> = &'a mut dyn Iterator<Item = (usize, usize)>;

/// Visits every element of the result with the positions of its products.
fn contract<T>(operands: &[&Array], result: &Extents, dot: impl Fn(Pairs<'_>) -> T) -> Vec<T> {
    let (a, b) = (&operands[0].shape, &operands[1].shape);
    let batch = &result.shape[..result.shape.len() - 2];
    let (m, n, k) = (a[a.len() - 2], b[b.len() - 1], a[a.len() - 1]);
    let a_strides = broadcast_strides(&a[..a.len() - 2], batch);
    let b_strides = broadcast_strides(&b[..b.len() - 2], batch);
    let mut values = Vec::with_capacity(result.elements());
    each_index(batch, |index| {
        let a_start = offset(index, &a_strides) * m * k;
        let b_start = offset(index, &b_strides) * k * n;
        for row in 0..m {
            for column in 0..n {
                let mut pairs = (0..k).map(|i| (a_start + row * k + i, b_start + i * n + column));
                values.push(dot(&mut pairs));
            }
        }
    });
    values
}
