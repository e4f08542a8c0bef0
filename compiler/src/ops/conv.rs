//! The operator [`Conv`].

use crate::graph::TensorType;
use crate::ops::attribute::attributes;
use crate::ops::reverse::{Gradients, Reverse, dims};
use crate::ops::shape::{exact_shape, known_extents, one_float};
use crate::ops::window::{Windows, conv_flops};
use crate::ops::{Class, ConvTranspose, ConvWeightGradient, Operator, Violation};
use crate::value::array::{Array, Fault};
use crate::value::dim::Dim;
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// # Meaning
/// `result[b, o, p] = bias[o] + Σ_c Σ_t x[b, g·depth + c, p·stride + t·dilation − before] · w[o, c, t]`
/// over `c < depth` and the kernel's indices `t`, in the group
/// `g = floor(o / (features / groups))`; `p`, `t`, `stride`, `dilation` and `before` have one entry
/// per spatial axis, and `x` is 0 outside of its extents.
///
/// # Operands
/// `x` `[batch, channels, spatial…]`, `w` `[features, depth, kernel…]`, optional `bias`
/// `[features]`.
///
/// # Result
/// `[batch, features, positions…]` with
/// `positions = floor((spatial + before + after − (kernel − 1) · dilation − 1) / stride) + 1`.
///
/// # Constraints
/// * C1: all operands have one floating-point element type.
/// * C2: `x` has a spatial axis or more, and `w` as many axes as `x`.
/// * C3: the kernel's extents are known.
/// * C4: `groups` is at least 1 and divides `features`, and `channels = groups · depth`.
/// * C5: every list has one entry per spatial axis; kernel extents, strides and dilations are at
///   least 1; none exceeds [`ELEMENTS_MAX`](crate::graph::ELEMENTS_MAX).
/// * C6: the dilated kernel is not larger than the padded extent.
/// * C7: `bias` has the shape `[features]`.
///
/// # Gradient
/// `dx` is the [`conv_transpose`](struct@crate::ops::ConvTranspose) of `dr` with `w`, to the
/// spatial extents of `x`; `dw` the [`conv_weight_gradient`](struct@crate::ops::ConvWeightGradient)
/// of `x` and `dr`; `dbias[o] = Σ_b Σ_p dr[b, o, p]`.
///
/// # Source
/// ONNX `Conv`; PyTorch `conv2d`, whose "convolution" is a correlation too.
#[derive(Debug, Clone, PartialEq)]
pub struct Conv {
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
}

attributes!(Conv {
    strides,
    pads_before,
    pads_after,
    dilations,
    groups
});

impl Conv {
    fn windows<'a>(&'a self, kernel: &'a [usize]) -> Windows<'a> {
        Windows {
            kernel,
            strides: &self.strides,
            pads_before: &self.pads_before,
            pads_after: &self.pads_after,
            dilations: &self.dilations,
        }
    }

    /// The operator that takes gradients of this one's result to its input of spatial `extents`.
    pub(crate) fn transposed(&self, extents: Vec<Dim>) -> ConvTranspose {
        ConvTranspose {
            strides: self.strides.clone(),
            pads_before: self.pads_before.clone(),
            pads_after: self.pads_after.clone(),
            dilations: self.dilations.clone(),
            groups: self.groups,
            extents,
        }
    }

    /// The operator that takes gradients of this one's result to its weight.
    pub(crate) fn of_weight(&self, kernel: Vec<usize>) -> ConvWeightGradient {
        ConvWeightGradient {
            strides: self.strides.clone(),
            pads_before: self.pads_before.clone(),
            pads_after: self.pads_after.clone(),
            dilations: self.dilations.clone(),
            groups: self.groups,
            kernel,
        }
    }

    fn check_groups(&self, channels: &Dim, features: &Dim, depth: &Dim) -> Result<(), Violation> {
        let groups = Dim::from(self.groups);
        let even = self.groups > 0
            && features.exact_div(&groups).is_some()
            && depth.mul(&groups) == *channels;
        let found = format_args!("{channels} channels, {features} features of depth {depth}");
        let wanted = format_args!("numbers that {groups} groups share evenly");
        Violation::unless(even, "C4", found, wanted)
    }
}

impl Operator for Conv {
    const NAME: &'static str = "conv";
    const OPERANDS: (usize, usize) = (2, 3);
    const CLASS: Class = Class::Conv;
    // Sums over depth and kernel round differently in every order, up to 2560 · 3 · 3 terms.
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
        self.check_groups(&x.shape[1], &w.shape[0], &w.shape[1])?;
        let positions = self.windows(&kernel).positions("C5", "C6", &x.shape[2..])?;
        if let Some(bias) = operands.get(2) {
            exact_shape("C7", bias, &w.shape[..1])?;
        }
        let mut shape = vec![x.shape[0].clone(), w.shape[0].clone()];
        shape.extend(positions);
        Ok(TensorType { dtype, shape })
    }

    fn eval(&self, operands: &[&Array], result: &Extents) -> Result<Values, Fault> {
        let (x, w) = (operands[0].floats(), operands[1].floats());
        let [image, kernel] = [0, 1].map(|number| &operands[number].shape[..]);
        let size: usize = result.shape[2..].iter().product();
        let bias = operands.get(2).map(|bias| bias.floats());
        let start = |at: usize| bias.map_or(0.0, |bias| bias[at / size % bias.len()]);
        let mut values: Vec<f64> = (0..result.elements()).map(start).collect();
        let shapes = [image, kernel, &result.shape];
        self.windows(&kernel[2..])
            .each_product(self.groups, shapes, |at| {
                values[at.position] += x[at.image] * w[at.kernel];
            });
        Ok(Values::Float(values))
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        let (x, w, dr) = (at.operand(0), at.operand(1), at.cotangent);
        let dx = at.when(0, |at| {
            let extents = dims(&at.shape(x)[2..]);
            at.push(self.transposed(extents), &[dr, w])
        })?;
        let dw = at.when(1, |at| {
            let kernel = at.shape(w)[2..].to_vec();
            at.push(self.of_weight(kernel), &[x, dr])
        })?;
        let mut gradients = vec![dx, dw];
        if at.has_operand(2) {
            let axes: Vec<usize> = (0..at.ty(dr).rank()).filter(|&axis| axis != 1).collect();
            gradients.push(at.when(2, |at| at.sum(dr, &axes, false))?);
        }
        Ok(gradients)
    }

    fn flops(&self, operands: &[TensorType], result: &TensorType) -> Dim {
        conv_flops(result, &operands[1])
    }
}
