//! The operator [`UpsampleNearest`].

use crate::graph::{TensorType, Value};
use crate::ops::attribute::attributes;
use crate::ops::movement::{copies_summed, pick};
use crate::ops::reverse::{Gradients, Reverse, RuleError};
use crate::ops::shape::{each_index, offset, strides};
use crate::ops::{Class, Operator, Violation};
use crate::value::array::{Array, Fault};
use crate::value::dim::Dim;
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// # Meaning
/// `result[b, c, p] = x[b, c, floor(p · spatial / size)]`, with one entry per spatial axis in `p`,
/// `spatial` and `size`.
///
/// # Operands
/// `x` `[batch, channels, spatial…]`.
///
/// # Result
/// `[batch, channels, size…]` in the element type of `x`.
///
/// # Constraints
/// * C1: `x` has a spatial axis or more.
/// * C2: `size` has one entry per spatial axis.
/// * C3: an axis without elements stays so.
///
/// # Gradient
/// `dx` at each place is the sum of `dr` over the places that copy it.
///
/// # Source
/// PyTorch `nn.functional.interpolate(mode="nearest")`; ONNX `Resize` with `nearest`, `floor` and
/// `asymmetric`.
#[derive(Debug, Clone, PartialEq)]
pub struct UpsampleNearest {
    /// The spatial extents of the result; smaller ones than those of `x` leave elements out.
    pub size: Vec<Dim>,
}

attributes!(UpsampleNearest { size });

impl Operator for UpsampleNearest {
    const NAME: &'static str = "upsample_nearest";
    const OPERANDS: (usize, usize) = (1, 1);
    const CLASS: Class = Class::Movement;
    const TOLERANCE: f64 = 0.0;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        let x = &operands[0];
        Violation::unless(x.rank() >= 3, "C1", x, "at least three axes")?;
        let found = format_args!("{} sizes for {x}", self.size.len());
        let sizes = self.size.len() == x.rank() - 2;
        Violation::unless(sizes, "C2", found, "a size per spatial axis")?;
        let mut pairs = x.shape[2..].iter().zip(&self.size);
        if let Some((_, size)) = pairs.find(|(extent, size)| extent.is(0) && !size.is(0)) {
            let found = format!("size {size} for an axis of 0");
            return Err(Violation::new("C3", found, "size 0"));
        }
        let shape = [&x.shape[..2], &self.size].concat();
        Ok(TensorType::new(x.dtype, shape))
    }

    fn eval(&self, operands: &[&Array], result: &Extents) -> Result<Values, Fault> {
        let shape = &operands[0].shape;
        let strides = strides(shape);
        let mut sources = Vec::with_capacity(result.elements());
        each_index(&result.shape, |index| {
            let source: Vec<usize> = (0..shape.len())
                .map(|axis| scaled(index[axis], shape[axis], result.shape[axis]))
                .collect();
            sources.push(Some((0, offset(&source, &strides))));
        });
        Ok(pick(operands, &sources))
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        at.unary(|at| {
            let shape = at.shape(at.operand(0));
            let dx = at.cotangent;
            let copies = at.shape(dx);
            let mut pairs = shape.iter().zip(&copies);
            if pairs.all(|(&extent, &size)| extent > 0 && size.is_multiple_of(extent)) {
                return whole_copies_summed(at, dx, &shape);
            }
            let axes = shape.iter().enumerate();
            let changed = axes.filter(|(axis, extent)| copies[*axis] != **extent);
            changed
                .map(|(axis, &extent)| (axis, extent))
                .try_fold(dx, |dx, (axis, extent)| {
                    copies_summed(at, dx, axis, extent, |place| {
                        scaled(place, extent, copies[axis])
                    })
                })
        })
    }
}

/// What the places that copy the same element hold, summed, where all have as many copies.
fn whole_copies_summed(
    at: &mut Reverse<'_>,
    copies: Value,
    shape: &[usize],
) -> Result<Value, RuleError> {
    let (mut split, mut axes) = (Vec::new(), Vec::new());
    for (&extent, size) in shape.iter().zip(at.shape(copies)) {
        split.push(extent);
        if size != extent {
            axes.push(split.len());
            split.push(size / extent);
        }
    }
    let split = at.reshape(copies, &split)?;
    at.sum(split, &axes, false)
}

/// `floor(index · extent / size)` without overflow; below `extent` as `index` is below `size`.
fn scaled(index: usize, extent: usize, size: usize) -> usize {
    let wide = index as u128 * extent as u128 / size as u128;
    usize::try_from(wide).expect("below the extent")
}
