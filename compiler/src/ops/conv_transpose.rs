//! The operator [`ConvTranspose`].

use crate::graph::TensorType;
use crate::ops::attribute::attributes;
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::shape::{known_extents, one_float};
use crate::ops::window::{Windows, conv_flops};
use crate::ops::{Class, Conv, Operator, Violation};
use crate::value::array::{Array, Fault};
use crate::value::dim::Dim;
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// # Meaning
/// `result[b, g·depth + c, s] = Σ_o Σ_p Σ_t x[b, o, p] · w[o, c, t]` over the features `o` of the
/// group `g`, and the positions `p` and indices of the kernel `t` with
/// `p·stride + t·dilation − before = s`: each position of `x` spreads over the window that
/// [`Conv`](struct@crate::ops::Conv) with these attributes, on an image of the spatial extents
/// `extents`, sums for it.
///
/// # Operands
/// `x` `[batch, features, positions…]`, `w` `[features, depth, kernel…]`.
///
/// # Result
/// `[batch, groups · depth, extents…]`.
///
/// # Constraints
/// * C1: both operands have one floating-point element type.
/// * C2: `x` has a spatial axis or more, and `w` as many axes as `x`.
/// * C3: the kernel's extents are known.
/// * C4: `groups` is at least 1 and divides `features`, which are those of `w`.
/// * C5: every list has one entry per spatial axis; kernel extents, strides and dilations are at
///   least 1; none exceeds [`ELEMENTS_MAX`](crate::graph::ELEMENTS_MAX).
/// * C6: the dilated kernel is not larger than the padded extent.
/// * C7: a convolution on `extents` has the positions of `x`.
///
/// # Gradient
/// `dx` is the convolution of `dr` with `w`, by the same attributes; `dw` is the
/// [`conv_weight_gradient`](struct@crate::ops::ConvWeightGradient) of `dr` as the image and `x` as
/// the gradient of what the convolution gives.
///
/// # Source
/// ONNX `ConvTranspose` without its bias, the extents resolved by the importer; PyTorch
/// `conv_transpose2d`; Dumoulin and Visin 2016 (arXiv 1603.07285), section 4.
#[derive(Debug, Clone, PartialEq)]
pub struct ConvTranspose {
    /// Elements of the result between neighbouring positions, per spatial axis.
    pub strides: Vec<usize>,
    /// Elements before the first of the result that windows reach, per spatial axis.
    pub pads_before: Vec<usize>,
    /// Elements after the last of the result that windows may reach, per spatial axis.
    pub pads_after: Vec<usize>,
    /// Elements of the result between neighbouring elements of the kernel, per spatial axis.
    pub dilations: Vec<usize>,
    /// Independent convolutions, each of its share of the features.
    pub groups: usize,
    /// The spatial extents of the result.
    pub extents: Vec<Dim>,
}

attributes!(ConvTranspose {
    strides,
    pads_before,
    pads_after,
    dilations,
    groups,
    extents
});

impl ConvTranspose {
    fn windows<'a>(&'a self, kernel: &'a [usize]) -> Windows<'a> {
        Windows {
            kernel,
            strides: &self.strides,
            pads_before: &self.pads_before,
            pads_after: &self.pads_after,
            dilations: &self.dilations,
        }
    }

    /// The convolution that this belongs to.
    fn forward(&self) -> Conv {
        Conv {
            strides: self.strides.clone(),
            pads_before: self.pads_before.clone(),
            pads_after: self.pads_after.clone(),
            dilations: self.dilations.clone(),
            groups: self.groups,
        }
    }
}

impl Operator for ConvTranspose {
    const NAME: &'static str = "conv_transpose";
    const OPERANDS: (usize, usize) = (2, 2);
    const CLASS: Class = Class::Conv;
    // Sums over features and kernel round differently in every order, as those of a convolution.
    const TOLERANCE: f64 = 2e-5;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        let dtype = one_float("C1", operands)?;
        let (x, w) = (operands[0], operands[1]);
        let found = format_args!("{x} and a kernel {w}");
        let ranks = x.rank() >= 3 && w.rank() == x.rank();
        Violation::unless(
            ranks,
            "C2",
            found,
            "the same number of axes, at least three",
        )?;
        let kernel = known_extents("C3", w, 2)?;
        let groups = Dim::from(self.groups);
        let features = &x.shape[1];
        let even = self.groups > 0 && features.exact_div(&groups).is_some();
        let found = format_args!("{features} features and a kernel {w}");
        let wanted = format_args!("equal features that {groups} groups share evenly");
        Violation::unless(even && *features == w.shape[0], "C4", found, wanted)?;
        let (spatial, given) = (x.rank() - 2, self.extents.len());
        let (found, wanted) = (format!("{given} extents"), format!("{spatial} entries"));
        Violation::unless(given == spatial, "C5", found, wanted)?;
        let positions = self.windows(&kernel).positions("C5", "C6", &self.extents)?;
        let fit = positions == x.shape[2..];
        let positions = TensorType::new(dtype, positions);
        let wanted = format_args!("the positions {positions} of a convolution");
        Violation::unless(fit, "C7", x, wanted)?;
        let mut shape = vec![x.shape[0].clone(), w.shape[1].mul(&groups)];
        shape.extend(self.extents.iter().cloned());
        Ok(TensorType { dtype, shape })
    }

    fn eval(&self, operands: &[&Array], result: &Extents) -> Result<Values, Fault> {
        let (x, w) = (operands[0].floats(), operands[1].floats());
        let [positions, kernel] = [0, 1].map(|number| &operands[number].shape[..]);
        let mut values = vec![0.0; result.elements()];
        let shapes = [&result.shape, kernel, positions];
        self.windows(&kernel[2..])
            .each_product(self.groups, shapes, |at| {
                values[at.image] += x[at.position] * w[at.kernel];
            });
        Ok(Values::Float(values))
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        let (x, w, g) = (at.operand(0), at.operand(1), at.cotangent);
        let dx = at.when(0, |at| at.push(self.forward(), &[g, w]))?;
        let dw = at.when(1, |at| {
            let kernel = at.shape(w)[2..].to_vec();
            at.push(self.forward().of_weight(kernel), &[g, x])
        })?;
        Ok(vec![dx, dw])
    }

    fn flops(&self, operands: &[TensorType], _result: &TensorType) -> Dim {
        conv_flops(&operands[0], &operands[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Op;
    use crate::value::dtype::DType;

    fn op(stride: usize, groups: usize, extents: &[i64]) -> ConvTranspose {
        ConvTranspose {
            strides: vec![stride; 2],
            pads_before: vec![1; 2],
            pads_after: vec![1; 2],
            dilations: vec![1; 2],
            groups,
            extents: extents.iter().copied().map(Dim::from).collect(),
        }
    }

    #[test]
    fn constraints_are_checked() {
        type Case<'a> = (
            ConvTranspose,
            &'a [i64],
            &'a [i64],
            Result<&'a [i64], &'a str>,
        );
        let cases: [Case<'_>; 12] = [
            (
                op(1, 1, &[4, 5]),
                &[2, 6, 4, 5],
                &[6, 3, 3, 3],
                Ok(&[2, 3, 4, 5]),
            ),
            (
                op(2, 1, &[5, 6]),
                &[2, 6, 3, 3],
                &[6, 3, 3, 3],
                Ok(&[2, 3, 5, 6]),
            ),
            (
                op(2, 1, &[6, 5]),
                &[2, 6, 3, 3],
                &[6, 3, 3, 3],
                Ok(&[2, 3, 6, 5]),
            ),
            (
                op(1, 2, &[4, 5]),
                &[2, 6, 4, 5],
                &[6, 3, 3, 3],
                Ok(&[2, 6, 4, 5]),
            ),
            (op(1, 1, &[4, 5]), &[2, 6], &[6, 3], Err("C2")),
            (op(1, 1, &[4, 5]), &[2, 6, 4, 5], &[6, 3, 3], Err("C2")),
            (op(1, 1, &[4, 5]), &[2, 5, 4, 5], &[6, 3, 3, 3], Err("C4")),
            (op(1, 4, &[4, 5]), &[2, 6, 4, 5], &[6, 3, 3, 3], Err("C4")),
            (op(1, 0, &[4, 5]), &[2, 6, 4, 5], &[6, 3, 3, 3], Err("C4")),
            (op(1, 1, &[4]), &[2, 6, 4, 5], &[6, 3, 3, 3], Err("C5")),
            (op(1, 1, &[4, 0]), &[2, 6, 4, 1], &[6, 3, 3, 3], Err("C6")),
            (op(2, 1, &[7, 6]), &[2, 6, 3, 3], &[6, 3, 3, 3], Err("C7")),
        ];
        for (op, x, w, wanted) in cases {
            let ty = |shape: &[i64]| TensorType::new(DType::F32, shape.iter().copied());
            let found = Op::from(op.clone()).infer(&[ty(x), ty(w)]);
            let found = found.map_err(|violation| violation.constraint);
            assert_eq!(found, wanted.map(ty), "{op:?} of {x:?} and {w:?}");
        }
        let mixed = [DType::F32, DType::F16].map(|dtype| TensorType::new(dtype, [1, 1, 4, 5]));
        let found = Op::from(op(1, 1, &[4, 5]))
            .infer(&mixed)
            .map_err(|violation| violation.constraint);
        assert_eq!(found, Err("C1"));
    }

    /// Two windows of `[1, 10, 100]` at stride 2, the first and last element beyond the border.
    #[test]
    fn windows_that_overlap_add_up() {
        let op = ConvTranspose {
            strides: vec![2],
            pads_before: vec![1],
            pads_after: vec![1],
            dilations: vec![1],
            groups: 1,
            extents: vec![Dim::from(3)],
        };
        let array = |shape: &[usize], values: &[f64]| Array {
            shape: shape.to_vec(),
            values: Values::Float(values.to_vec()),
        };
        let x = array(&[1, 1, 2], &[2.0, 3.0]);
        let w = array(&[1, 1, 3], &[1.0, 10.0, 100.0]);
        let result = Extents {
            dtype: DType::F64,
            shape: vec![1, 1, 3],
        };
        let found = op.eval(&[&x, &w], &result);
        assert_eq!(found, Ok(Values::Float(vec![20.0, 203.0, 30.0])));
    }
}
