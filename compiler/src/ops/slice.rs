//! The operator [`Slice`].

use crate::graph::TensorType;
use crate::ops::attribute::attributes;
use crate::ops::movement::{around, pick};
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::shape::axis;
use crate::ops::{Class, Operator, Violation};
use crate::value::array::{Array, Fault};
use crate::value::dim::Dim;
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// # Meaning
/// `result[…, i, …] = x[…, start + i · step, …]` on one axis.
///
/// # Operands
/// `x`: any shape.
///
/// # Result
/// The type of `x` with `length` as the extent of `axis`.
///
/// # Constraints
/// * C1: `axis` is an axis of `x`.
/// * C2: `step` is not zero.
/// * C3: `length` is not negative where known.
/// * C4: the first and the last element lie in `x`, where start, length and extent are known;
///   an empty slice may start anywhere.
///
/// # Gradient
/// `dx` is zero but for the elements of the slice, which are `dr`.
///
/// # Source
/// ONNX `Slice` on one axis, with negative and clamped bounds resolved by the importer.
#[derive(Debug, Clone, PartialEq)]
pub struct Slice {
    /// The axis that is cut.
    pub axis: usize,
    /// The index of the first element.
    pub start: Dim,
    /// The number of elements.
    pub length: Dim,
    /// The distance from one element to the next; negative walks backwards.
    pub step: i64,
}

impl Slice {
    /// `length` neighbouring elements.
    pub fn new(axis: usize, start: impl Into<Dim>, length: impl Into<Dim>) -> Slice {
        Slice {
            axis,
            start: start.into(),
            length: length.into(),
            step: 1,
        }
    }
}

attributes!(Slice {
    axis,
    start,
    length,
    step
});

impl Operator for Slice {
    const NAME: &'static str = "slice";
    const OPERANDS: (usize, usize) = (1, 1);
    const CLASS: Class = Class::Movement;
    const TOLERANCE: f64 = 0.0;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        let x = operands[0];
        axis("C1", x, self.axis)?;
        Violation::unless(self.step != 0, "C2", "step 0", "a step other than 0")?;
        let negative = self.length.known().is_some_and(|length| length < 0);
        let found = format_args!("length {}", self.length);
        Violation::unless(!negative, "C3", found, "at least 0")?;
        let extent = &x.shape[self.axis];
        if let (Some(start), Some(length), Some(extent)) =
            (self.start.known(), self.length.known(), extent.known())
        {
            let last = i128::from(start) + (i128::from(length) - 1) * i128::from(self.step);
            let inside = |index: i128| (0..i128::from(extent)).contains(&index);
            let found = format_args!("elements {start} to {last} of axis {} of {x}", self.axis);
            let holds = length == 0 || inside(i128::from(start)) && inside(last);
            Violation::unless(holds, "C4", found, "elements of the axis")?;
        }
        let mut ty = x.clone();
        ty.shape[self.axis] = self.length.clone();
        Ok(ty)
    }

    fn eval(&self, operands: &[&Array], result: &Extents) -> Result<Values, Fault> {
        let extent = operands[0].shape[self.axis];
        let length = result.shape[self.axis];
        let start = match self.start.known() {
            Some(start) => start,
            None if length == 0 => 0,
            None => {
                return Err(Fault::Unbound {
                    dim: self.start.to_string(),
                });
            }
        };
        let (outer, inner) = around(&result.shape, self.axis);
        let mut sources = Vec::with_capacity(result.elements());
        for block in 0..outer {
            for i in 0..length {
                // C4 keeps the sum inside of the axis.
                let index = (start + i as i64 * self.step) as usize;
                let first = (block * extent + index) * inner;
                sources.extend((first..first + inner).map(|position| Some((0, position))));
            }
        }
        Ok(pick(operands, &sources))
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        at.unary(|at| {
            let shape = at.shape(at.operand(0));
            let count = at.shape(at.cotangent)[self.axis];
            if count == 0 {
                return at.zeros(at.operand(0));
            }
            let start = self.start.known().unwrap_or(0);
            let step = self.step.unsigned_abs() as usize;
            // From front to back, each element with the zeros that follow it up to the next.
            let (first, dr) = match self.step < 0 {
                false => (start, at.cotangent),
                true => {
                    let back = Slice {
                        axis: self.axis,
                        start: Dim::from(count - 1),
                        length: Dim::from(count),
                        step: -1,
                    };
                    let first = start + (count as i64 - 1) * self.step;
                    (first, at.push(back, &[at.cotangent])?)
                }
            };
            let axis = self.axis;
            let spread = match step {
                1 => dr,
                _ => {
                    let own = at.shape(dr);
                    let split = [&own[..=axis], &[1], &own[axis + 1..]].concat();
                    let split = at.reshape(dr, &split)?;
                    let mut after = vec![0; own.len() + 1];
                    after[axis + 1] = step as i64 - 1;
                    let wide = at.pad(split, vec![0; own.len() + 1], after)?;
                    let mut joined = own.clone();
                    joined[axis] = count * step;
                    let joined = at.reshape(wide, &joined)?;
                    at.slice(joined, axis, 0, (count - 1) * step + 1)?
                }
            };
            let mut before = vec![0; shape.len()];
            let mut after = before.clone();
            before[axis] = first;
            after[axis] = shape[axis] as i64 - first - at.shape(spread)[axis] as i64;
            at.pad(spread, before, after)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::dtype::DType;

    #[test]
    fn bounds_are_checked_where_known() {
        let h = Dim::symbol("h");
        let known = |d: i64| Dim::from(d);
        let cases = [
            (0, known(2), known(3), 1, None),
            (0, known(4), known(5), -1, None),
            (0, known(4), known(2), i64::MIN, Some("C4")),
            (0, known(0), known(1), i64::MIN, None),
            (0, known(9), known(0), i64::MAX, None),
            (0, known(3), known(3), 1, Some("C4")),
            (0, known(-1), known(1), 1, Some("C4")),
            (0, known(i64::MAX), known(i64::MAX), i64::MAX, Some("C4")),
            (0, known(0), known(-1), 1, Some("C3")),
            (0, known(0), known(5), 0, Some("C2")),
            (1, known(0), known(1), 1, Some("C1")),
            (0, h.clone(), h, 1, None),
        ];
        for (axis, start, length, step, wanted) in cases {
            let slice = Slice {
                axis,
                start,
                length,
                step,
            };
            let found = slice.infer(&[&TensorType::new(DType::F32, [5])]);
            let found = found.err().map(|violation| violation.constraint);
            assert_eq!(found, wanted, "{slice:?}");
        }
    }

    #[test]
    fn steps_walk_both_ways() {
        let x = Array {
            shape: vec![2, 5],
            values: Values::Int((0..10).collect()),
        };
        let cases = [
            (0, 3, 2, vec![0, 2, 4, 5, 7, 9]),
            (4, 5, -1, vec![4, 3, 2, 1, 0, 9, 8, 7, 6, 5]),
            (1, 1, i64::MIN, vec![1, 6]),
        ];
        for (start, length, step, wanted) in cases {
            let slice = Slice {
                axis: 1,
                start: Dim::from(start),
                length: Dim::from(length),
                step,
            };
            let result = Extents {
                dtype: DType::I64,
                shape: vec![2, length as usize],
            };
            assert_eq!(slice.eval(&[&x], &result), Ok(Values::Int(wanted)));
        }
    }
}
