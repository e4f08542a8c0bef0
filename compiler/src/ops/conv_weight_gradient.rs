//! The operator [`ConvWeightGradient`].

use crate::graph::TensorType;
use crate::ops::attribute::attributes;
use crate::ops::reverse::{Gradients, Reverse, dims};
use crate::ops::shape::one_float;
use crate::ops::window::{Windows, conv_flops};
use crate::ops::{Class, Conv, Operator, Violation};
use crate::value::array::{Array, Fault};
use crate::value::dim::Dim;
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// # Meaning
/// `result[o, c, t] = Σ_b Σ_p dr[b, o, p] · x[b, g·depth + c, p·stride + t·dilation − before]` in
/// the group `g = floor(o / (features / groups))` with `depth = channels / groups`, `x` being 0
/// outside of its extents: the gradient of [`Conv`](struct@crate::ops::Conv) with respect to its
/// weight.
///
/// # Operands
/// `x` `[batch, channels, spatial…]`, `dr` `[batch, features, positions…]`.
///
/// # Result
/// `[features, depth, kernel…]`.
///
/// # Constraints
/// * C1: both operands have one floating-point element type.
/// * C2: `x` has a spatial axis or more, and `dr` as many axes as `x`.
/// * C3: both operands have the same batch.
/// * C4: `groups` is at least 1 and divides `channels` and `features`.
/// * C5: every list has one entry per spatial axis; kernel extents, strides and dilations are at
///   least 1; none exceeds [`ELEMENTS_MAX`](crate::graph::ELEMENTS_MAX).
/// * C6: the dilated kernel is not larger than the padded extent.
/// * C7: a convolution on `x` has the positions of `dr`.
///
/// # Gradient
/// It is linear in both: with `v` the gradient of the result, `dx` is the
/// [`conv_transpose`](struct@crate::ops::ConvTranspose) of `dr` with `v` as the weight, to the
/// spatial extents of `x`; the gradient with respect to `dr` is the convolution of `x` with `v`.
///
/// # Source
/// The derivative of the formula of [`Conv`](struct@crate::ops::Conv); PyTorch
/// `torch.nn.grad.conv2d_weight`.
#[derive(Debug, Clone, PartialEq)]
pub struct ConvWeightGradient {
    /// Elements of the image between neighbouring positions, per spatial axis.
    pub strides: Vec<usize>,
    /// Zeros before the first element, per spatial axis.
    pub pads_before: Vec<usize>,
    /// Zeros after the last element, per spatial axis.
    pub pads_after: Vec<usize>,
    /// Elements of the image between neighbouring elements of the kernel, per spatial axis.
    pub dilations: Vec<usize>,
    /// Independent convolutions, each of its share of the channels.
    pub groups: usize,
    /// The spatial extents of the weight.
    pub kernel: Vec<usize>,
}

attributes!(ConvWeightGradient {
    strides,
    pads_before,
    pads_after,
    dilations,
    groups,
    kernel
});

impl ConvWeightGradient {
    fn windows(&self) -> Windows<'_> {
        Windows {
            kernel: &self.kernel,
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

impl Operator for ConvWeightGradient {
    const NAME: &'static str = "conv_weight_gradient";
    const OPERANDS: (usize, usize) = (2, 2);
    const CLASS: Class = Class::Conv;
    // Sums over batch and positions round differently in every order, up to 2^16 terms.
    const TOLERANCE: f64 = 3e-5;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        let dtype = one_float("C1", operands)?;
        let (x, dr) = (operands[0], operands[1]);
        let found = format_args!("{x} and {dr}");
        let ranks = x.rank() >= 3 && dr.rank() == x.rank();
        Violation::unless(
            ranks,
            "C2",
            found,
            "the same number of axes, at least three",
        )?;
        Violation::unless(x.shape[0] == dr.shape[0], "C3", found, "one batch")?;
        let (channels, features) = (&x.shape[1], &dr.shape[1]);
        let groups = Dim::from(self.groups);
        let shared = |extent: &Dim| match self.groups {
            0 => None,
            _ => extent.exact_div(&groups),
        };
        let (Some(depth), Some(_)) = (shared(channels), shared(features)) else {
            let found = format!("{channels} channels and {features} features");
            let wanted = format!("numbers that {groups} groups share evenly");
            return Err(Violation::new("C4", found, wanted));
        };
        let positions = self.windows().positions("C5", "C6", &x.shape[2..])?;
        let fit = positions == dr.shape[2..];
        let positions = TensorType::new(dtype, positions);
        let wanted = format_args!("the positions {positions} of a convolution");
        Violation::unless(fit, "C7", dr, wanted)?;
        let mut shape = vec![features.clone(), depth];
        shape.extend(self.kernel.iter().map(|&extent| Dim::from(extent)));
        Ok(TensorType { dtype, shape })
    }

    fn eval(&self, operands: &[&Array], result: &Extents) -> Result<Values, Fault> {
        let (x, dr) = (operands[0].floats(), operands[1].floats());
        let mut values = vec![0.0; result.elements()];
        let shapes = [&operands[0].shape[..], &result.shape, &operands[1].shape];
        self.windows().each_product(self.groups, shapes, |at| {
            values[at.kernel] += dr[at.position] * x[at.image];
        });
        Ok(Values::Float(values))
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        let (x, dr, g) = (at.operand(0), at.operand(1), at.cotangent);
        let dx = at.when(0, |at| {
            let extents = dims(&at.shape(x)[2..]);
            at.push(self.forward().transposed(extents), &[dr, g])
        })?;
        let ddr = at.when(1, |at| at.push(self.forward(), &[x, g]))?;
        Ok(vec![dx, ddr])
    }

    fn flops(&self, operands: &[TensorType], result: &TensorType) -> Dim {
        conv_flops(&operands[1], result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Op;
    use crate::value::dtype::DType;

    fn op(stride: usize, groups: usize, kernel: &[usize]) -> ConvWeightGradient {
        ConvWeightGradient {
            strides: vec![stride; 2],
            pads_before: vec![1; 2],
            pads_after: vec![1; 2],
            dilations: vec![1; 2],
            groups,
            kernel: kernel.to_vec(),
        }
    }

    #[test]
    fn constraints_are_checked() {
        type Case<'a> = (
            ConvWeightGradient,
            &'a [i64],
            &'a [i64],
            Result<&'a [i64], &'a str>,
        );
        let cases: [Case<'_>; 11] = [
            (
                op(1, 1, &[3, 3]),
                &[2, 3, 4, 5],
                &[2, 6, 4, 5],
                Ok(&[6, 3, 3, 3]),
            ),
            (
                op(2, 1, &[3, 2]),
                &[2, 3, 4, 5],
                &[2, 6, 2, 3],
                Ok(&[6, 3, 3, 2]),
            ),
            (
                op(1, 2, &[3, 3]),
                &[2, 4, 4, 5],
                &[2, 6, 4, 5],
                Ok(&[6, 2, 3, 3]),
            ),
            (op(1, 1, &[3, 3]), &[2, 3], &[2, 6], Err("C2")),
            (op(1, 1, &[3, 3]), &[2, 3, 4, 5], &[2, 6, 4], Err("C2")),
            (op(1, 1, &[3, 3]), &[2, 3, 4, 5], &[1, 6, 4, 5], Err("C3")),
            (op(1, 2, &[3, 3]), &[2, 3, 4, 5], &[2, 6, 4, 5], Err("C4")),
            (op(1, 0, &[3, 3]), &[2, 3, 4, 5], &[2, 6, 4, 5], Err("C4")),
            (op(1, 1, &[3]), &[2, 3, 4, 5], &[2, 6, 4, 5], Err("C5")),
            (op(1, 1, &[9, 3]), &[2, 3, 4, 5], &[2, 6, 4, 5], Err("C6")),
            (op(1, 1, &[3, 3]), &[2, 3, 4, 5], &[2, 6, 4, 4], Err("C7")),
        ];
        for (op, x, dr, wanted) in cases {
            let ty = |shape: &[i64]| TensorType::new(DType::F32, shape.iter().copied());
            let found = Op::from(op.clone()).infer(&[ty(x), ty(dr)]);
            let found = found.map_err(|violation| violation.constraint);
            assert_eq!(found, wanted.map(ty), "{op:?} of {x:?} and {dr:?}");
        }
        let mixed = [DType::F32, DType::F16].map(|dtype| TensorType::new(dtype, [1, 1, 4, 5]));
        let found = Op::from(op(1, 1, &[3, 3])).infer(&mixed);
        assert_eq!(found.map_err(|violation| violation.constraint), Err("C1"));
    }

    /// At stride 2 the first window of `[1, 10, 100]` begins a zero before it.
    #[test]
    fn each_tap_sums_what_it_met() {
        let op = ConvWeightGradient {
            strides: vec![2],
            pads_before: vec![1],
            pads_after: vec![1],
            dilations: vec![1],
            groups: 1,
            kernel: vec![3],
        };
        let array = |shape: &[usize], values: &[f64]| Array {
            shape: shape.to_vec(),
            values: Values::Float(values.to_vec()),
        };
        let x = array(&[1, 1, 3], &[1.0, 10.0, 100.0]);
        let dr = array(&[1, 1, 2], &[2.0, 3.0]);
        let result = Extents {
            dtype: DType::F64,
            shape: vec![1, 1, 3],
        };
        let found = op.eval(&[&x, &dr], &result);
        assert_eq!(found, Ok(Values::Float(vec![30.0, 302.0, 20.0])));
    }
}
