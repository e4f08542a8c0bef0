//! The operator [`AveragePool`].

use crate::graph::TensorType;
use crate::ops::attribute::attributes;
use crate::ops::reverse::{Gradients, Reverse, dims};
use crate::ops::shape::float;
use crate::ops::window::Windows;
use crate::ops::{Class, ConvTranspose, Operator, Violation};
use crate::value::array::{Array, Fault};
use crate::value::dim::Dim;
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// # Meaning
/// `result[b, c, p]` is the mean of `x[b, c, p·stride + t·dilation − before]` over the indices `t`
/// of the kernel whose place lies inside of `x`; with `count_padding`, also over the places in the
/// padding, where `x` is 0. Places behind the padding, in the overhang, never count. A window
/// without a place that counts gives NaN.
///
/// # Operands
/// `x` `[batch, channels, spatial…]`.
///
/// # Result
/// `[batch, channels, positions…]` in the element type of `x`, with `positions =
/// floor((spatial + before + after + overhang − (kernel − 1) · dilation − 1) / stride) + 1`.
///
/// # Constraints
/// * C1: `x` is floating-point.
/// * C2: `x` has a spatial axis or more.
/// * C3: every list has one entry per spatial axis; kernel extents, strides and dilations are at
///   least 1; none exceeds [`ELEMENTS_MAX`](crate::graph::ELEMENTS_MAX).
/// * C4: the dilated kernel is not larger than the padded extent with its overhang.
///
/// # Gradient
/// Each place of `x` gets `dr / count` from every window that holds it.
///
/// # Source
/// ONNX `AveragePool` with its padding resolved; `ceil_mode` is an overhang.
#[derive(Debug, Clone, PartialEq)]
pub struct AveragePool {
    /// Extents of the window.
    pub kernel: Vec<usize>,
    /// Elements between neighbouring positions, per spatial axis.
    pub strides: Vec<usize>,
    /// Places before the first element, per spatial axis.
    pub pads_before: Vec<usize>,
    /// Places after the last element, per spatial axis.
    pub pads_after: Vec<usize>,
    /// Places behind the padding that windows may reach, per spatial axis.
    pub overhang: Vec<usize>,
    /// Elements between neighbouring places of one window, per spatial axis.
    pub dilations: Vec<usize>,
    /// Whether places in the padding count.
    pub count_padding: bool,
}

attributes!(AveragePool {
    kernel,
    strides,
    pads_before,
    pads_after,
    overhang,
    dilations,
    count_padding
});

impl AveragePool {
    fn windows<'a>(&'a self, reach: &'a [usize]) -> Windows<'a> {
        Windows {
            kernel: &self.kernel,
            strides: &self.strides,
            pads_before: &self.pads_before,
            pads_after: reach,
            dilations: &self.dilations,
        }
    }

    /// Padding and overhang after the last element.
    fn reach(&self) -> Vec<usize> {
        let both = self.pads_after.iter().zip(&self.overhang);
        both.map(|(after, over)| after.saturating_add(*over))
            .collect()
    }

    /// What each place of a window at these positions has of its result: one part of those that
    /// count.
    fn shares(&self, image: &[usize], positions: &[usize]) -> Vec<f64> {
        let mut shares = Vec::new();
        let reach = self.reach();
        self.windows(&reach)
            .each(image, positions, |position, taps| {
                let count = match self.count_padding {
                    true => self.places(position, image),
                    false => taps.len(),
                };
                shares.push(1.0 / count as f64);
            });
        shares
    }

    /// How many places of the window at `position` lie in the image or its padding.
    fn places(&self, position: &[usize], image: &[usize]) -> usize {
        let on_axis = |axis: usize| {
            let end = self.pads_before[axis] + image[axis] + self.pads_after[axis];
            let start = position[axis] * self.strides[axis];
            let place = |tap: &usize| start + tap * self.dilations[axis] < end;
            (0..self.kernel[axis]).filter(place).count()
        };
        (0..image.len()).map(on_axis).product()
    }
}

impl Operator for AveragePool {
    const NAME: &'static str = "average_pool";
    const OPERANDS: (usize, usize) = (1, 1);
    const CLASS: Class = Class::Plain;
    const TOLERANCE: f64 = 1e-5;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        let x = &operands[0];
        float("C1", x)?;
        Violation::unless(x.rank() >= 3, "C2", x, "at least three axes")?;
        let found = format_args!("overhang {:?}", self.overhang);
        let entries = self.overhang.len() == self.pads_after.len();
        Violation::unless(entries, "C3", found, "an entry per spatial axis")?;
        let reach = self.reach();
        let positions = self.windows(&reach).positions("C3", "C4", &x.shape[2..])?;
        let mut shape = x.shape[..2].to_vec();
        shape.extend(positions);
        Ok(TensorType::new(x.dtype, shape))
    }

    fn eval(&self, operands: &[&Array], result: &Extents) -> Result<Values, Fault> {
        let (x, image) = (operands[0].floats(), &operands[0].shape[2..]);
        let positions = &result.shape[2..];
        let planes = result.shape[0] * result.shape[1];
        let (image_size, size): (usize, usize) =
            (image.iter().product(), positions.iter().product());
        let mut values = vec![0.0; result.elements()];
        let mut shares = self.shares(image, positions).into_iter().enumerate();
        let reach = self.reach();
        self.windows(&reach).each(image, positions, |_, taps| {
            let (at, share) = shares.next().expect("a share for each position");
            for plane in 0..planes {
                let x = &x[plane * image_size..];
                let sum: f64 = taps.iter().map(|tap| x[tap.image]).sum();
                values[plane * size + at] = sum * share;
            }
        });
        Ok(Values::Float(values))
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        at.unary(|at| {
            let (x, positions) = (at.shape(at.operand(0)), at.shape(at.result));
            let dtype = at.ty(at.cotangent).dtype;
            let each = at.tensor(
                dtype,
                &positions[2..],
                self.shares(&x[2..], &positions[2..]),
            )?;
            let shared = at.mul(at.cotangent, each)?;
            let planes = [&[x[0] * x[1], 1][..], &positions[2..]].concat();
            let shared = at.reshape(shared, &planes)?;
            let window: usize = self.kernel.iter().product();
            let ones = [&[1, 1][..], &self.kernel].concat();
            let ones = at.tensor(dtype, &ones, vec![1.0; window])?;
            let back = ConvTranspose {
                strides: self.strides.clone(),
                pads_before: self.pads_before.clone(),
                pads_after: self.reach(),
                dilations: self.dilations.clone(),
                groups: 1,
                extents: dims(&x[2..]),
            };
            let dx = at.push(back, &[shared, ones])?;
            at.reshape(dx, &x)
        })
    }

    fn flops(&self, _operands: &[TensorType], result: &TensorType) -> Dim {
        self.kernel
            .iter()
            .fold(result.elements(), |product, &extent| {
                product.mul(&Dim::from(extent))
            })
    }
}
