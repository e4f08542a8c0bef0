//! The operator [`Pad`].

use crate::graph::{TensorType, Value};
use crate::ops::attribute::{attributes, named_field};
use crate::ops::movement::{copies_summed, pick};
use crate::ops::reverse::{Gradients, Reverse, RuleError};
use crate::ops::shape::{each_index, rank, same_dtype, strides};
use crate::ops::{Class, Operator, Violation};
use crate::value::array::{Array, Fault};
use crate::value::dim::Dim;
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// What the border is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PadMode {
    /// The operand `value`, or zero.
    Constant,
    /// The nearest element of the operand.
    Edge,
    /// The operand mirrored at its first and last element, which are not repeated.
    Reflect,
    /// The operand repeated from its other end.
    Wrap,
}

named_field!(PadMode {
    Constant = "constant",
    Edge = "edge",
    Reflect = "reflect",
    Wrap = "wrap",
});

/// # Meaning
/// `result[i + before] = x[i]`; around it a border of `before` and `after` elements on each axis,
/// made as `mode` says.
///
/// # Operands
/// `x`: any shape; `value`, optional: a scalar, the border in constant mode, 0 without it.
///
/// # Result
/// The element type of `x`; each extent grows by `before + after`.
///
/// # Constraints
/// * C1: `before` and `after` have one entry for each axis of `x`, none negative.
/// * C2: `value` is a scalar of the element type of `x`, in constant mode only.
/// * C3: reflecting, a border is shorter than the extent, where known.
/// * C4: a border of edges or repeats has an extent of at least 1 to be made of, where known.
///
/// # Gradient
/// Constant: `dx` is `dr` without the border and `dvalue` the sum of the border of `dr`; other
/// modes also add the border of `dr` where its elements came from.
///
/// # Source
/// ONNX `Pad` with negative widths as slices and axes resolved by the importer; NumPy `pad`.
#[derive(Debug, Clone, PartialEq)]
pub struct Pad {
    /// Elements added before the first, for each axis.
    pub before: Vec<i64>,
    /// Elements added after the last, for each axis.
    pub after: Vec<i64>,
    /// What they are.
    pub mode: PadMode,
}

attributes!(Pad {
    before,
    after,
    mode
});

impl Pad {
    /// The gradient of a border that repeats the operand.
    fn border_gradient(&self, at: &mut Reverse<'_>) -> Result<Value, RuleError> {
        let shape = at.shape(at.operand(0));
        let mut dx = at.cotangent;
        for (axis, &extent) in shape.iter().enumerate() {
            if self.before[axis] == 0 && self.after[axis] == 0 {
                continue;
            }
            let source = |place: usize| {
                let source = self.source(place as i64 - self.before[axis], extent as i64);
                source.expect("a border of elements has a source")
            };
            dx = copies_summed(at, dx, axis, extent, source)?;
        }
        Ok(dx)
    }
}

impl Operator for Pad {
    const NAME: &'static str = "pad";
    const OPERANDS: (usize, usize) = (1, 2);
    const CLASS: Class = Class::Movement;
    const TOLERANCE: f64 = 0.0;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        let x = &operands[0];
        rank("C1", x, self.before.len())?;
        rank("C1", x, self.after.len())?;
        if let Some(width) = self.before.iter().chain(&self.after).find(|&&w| w < 0) {
            return Err(Violation::new("C1", format!("width {width}"), "at least 0"));
        }
        if let Some(value) = operands.get(1) {
            same_dtype("C2", operands)?;
            rank("C2", value, 0)?;
            let found = format_args!("{:?}", self.mode);
            let constant = self.mode == PadMode::Constant;
            Violation::unless(constant, "C2", found, "constant mode")?;
        }
        let mut shape = Vec::with_capacity(x.rank());
        for (axis, extent) in x.shape.iter().enumerate() {
            let (before, after) = (self.before[axis], self.after[axis]);
            self.check_axis(axis, extent, before.max(after))?;
            shape.push(extent.add(&Dim::from(before)).add(&Dim::from(after)));
        }
        Ok(TensorType::new(x.dtype, shape))
    }

    fn eval(&self, operands: &[&Array], result: &Extents) -> Result<Values, Fault> {
        let shape = &operands[0].shape;
        let strides = strides(shape);
        let border = (operands.len() > 1).then_some((1, 0));
        let mut sources = Vec::with_capacity(result.elements());
        each_index(&result.shape, |index| {
            let position = index
                .iter()
                .enumerate()
                .try_fold(0, |position, (axis, &i)| {
                    let source = self.source(i as i64 - self.before[axis], shape[axis] as i64)?;
                    Some(position + source * strides[axis])
                });
            sources.push(position.map_or(border, |position| Some((0, position))));
        });
        Ok(pick(operands, &sources))
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        let (x, dr) = (at.operand(0), at.cotangent);
        let shape = at.shape(x);
        let inner = |at: &mut Reverse<'_>| {
            let mut kept = dr;
            for (axis, &extent) in shape.iter().enumerate() {
                let before = usize::try_from(self.before[axis]).unwrap_or(0);
                kept = at.slice(kept, axis, before, extent)?;
            }
            Ok(kept)
        };
        let dx = at.when(0, |at| match self.mode {
            PadMode::Constant => inner(at),
            PadMode::Edge | PadMode::Reflect | PadMode::Wrap => self.border_gradient(at),
        })?;
        let mut gradients = vec![dx];
        if at.has_operand(1) {
            gradients.push(at.when(1, |at| {
                let kept = inner(at)?;
                let axes: Vec<usize> = (0..shape.len()).collect();
                let (whole, kept) = (at.sum(dr, &axes, false)?, at.sum(kept, &axes, false)?);
                at.sub(whole, kept)
            })?);
        }
        Ok(gradients)
    }
}

impl Pad {
    /// Checks that a border of `width` can be made of `extent` elements (C3, C4).
    fn check_axis(&self, axis: usize, extent: &Dim, width: i64) -> Result<(), Violation> {
        let (constraint, least) = match self.mode {
            PadMode::Constant => return Ok(()),
            PadMode::Reflect => ("C3", width.saturating_add(1)),
            PadMode::Edge | PadMode::Wrap => ("C4", 1),
        };
        let short = width > 0 && extent.known().is_some_and(|known| known < least);
        let found = format_args!("a border of {width} for extent {extent} of axis {axis}");
        let wanted = format_args!("an extent of at least {least}");
        Violation::unless(!short, constraint, found, wanted)
    }

    /// The index in an axis of `extent` elements that position `at` shows, which lies before or
    /// after the axis in a border; `None` for the constant.
    fn source(&self, at: i64, extent: i64) -> Option<usize> {
        let index = match self.mode {
            PadMode::Constant if (0..extent).contains(&at) => at,
            PadMode::Constant => return None,
            PadMode::Edge => at.clamp(0, extent - 1),
            PadMode::Reflect if at < 0 => -at,
            PadMode::Reflect if at >= extent => 2 * (extent - 1) - at,
            PadMode::Reflect => at,
            PadMode::Wrap => at.rem_euclid(extent),
        };
        Some(index as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::dtype::DType;

    #[test]
    fn borders() {
        let x = Array {
            shape: vec![3],
            values: Values::Int(vec![1, 2, 3]),
        };
        let nine = Array {
            shape: vec![],
            values: Values::Int(vec![9]),
        };
        let cases = [
            (PadMode::Constant, None, vec![0, 0, 1, 2, 3, 0]),
            (PadMode::Constant, Some(&nine), vec![9, 9, 1, 2, 3, 9]),
            (PadMode::Edge, None, vec![1, 1, 1, 2, 3, 3]),
            (PadMode::Reflect, None, vec![3, 2, 1, 2, 3, 2]),
            (PadMode::Wrap, None, vec![2, 3, 1, 2, 3, 1]),
        ];
        for (mode, value, wanted) in cases {
            let pad = Pad {
                before: vec![2],
                after: vec![1],
                mode,
            };
            let operands: Vec<&Array> = std::iter::once(&x).chain(value).collect();
            let result = Extents {
                dtype: DType::I32,
                shape: vec![6],
            };
            assert_eq!(
                pad.eval(&operands, &result),
                Ok(Values::Int(wanted)),
                "{mode:?}"
            );
        }
    }

    #[test]
    fn constraints() {
        let cases = [
            (vec![1], vec![1], PadMode::Reflect, 2, None),
            (vec![0], vec![2], PadMode::Reflect, 2, Some("C3")),
            (vec![i64::MAX], vec![0], PadMode::Reflect, 2, Some("C3")),
            (vec![i64::MAX], vec![i64::MAX], PadMode::Constant, 2, None),
            (vec![1], vec![0], PadMode::Wrap, 0, Some("C4")),
            (vec![0], vec![0], PadMode::Reflect, 0, None),
            (vec![-1], vec![0], PadMode::Edge, 2, Some("C1")),
            (vec![1], vec![], PadMode::Edge, 2, Some("C1")),
        ];
        for (before, after, mode, extent, wanted) in cases {
            let pad = Pad {
                before,
                after,
                mode,
            };
            let found = pad.infer(&[&TensorType::new(DType::F32, [extent])]);
            let found = found.err().map(|violation| violation.constraint);
            assert_eq!(found, wanted, "{pad:?}");
        }
    }
}
