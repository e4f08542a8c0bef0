//! The operator [`Gather`].

use crate::graph::TensorType;
use crate::ops::attribute::attributes;
use crate::ops::movement::{around, pick, wrap_index};
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::shape::{axis, index_type};
use crate::ops::{Class, Operator, ScatterNd, ScatterReduction, Violation};
use crate::value::array::{Array, Fault};
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// # Meaning
/// `result[a…, i…, b…] = data[a…, indices[i…], b…]`: whole slices of `data` along `axis`, as
/// `indices` names them; negative indices count from the end.
///
/// # Operands
/// `data`: one axis or more; `indices`: any shape, i32 or i64.
///
/// # Result
/// The element type of `data`; its shape with `axis` replaced by the shape of `indices`.
///
/// # Constraints
/// * C1: `axis` is an axis of `data`.
/// * C2: `indices` are i32 or i64.
///
/// # Gradient
/// `ddata` is zero, plus `dr` added to the slices that were read.
///
/// # Source
/// ONNX `Gather`; PyTorch `index_select`, `embedding`.
#[derive(Debug, Clone, PartialEq)]
pub struct Gather {
    /// The axis of `data` that indices run over.
    pub axis: usize,
}

attributes!(Gather { axis });

impl Operator for Gather {
    const NAME: &'static str = "gather";
    const OPERANDS: (usize, usize) = (2, 2);
    const CLASS: Class = Class::Gather;
    const TOLERANCE: f64 = 0.0;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        let (data, indices) = (operands[0], operands[1]);
        axis("C1", data, self.axis)?;
        index_type("C2", indices)?;
        let shape = [
            &data.shape[..self.axis],
            &indices.shape,
            &data.shape[self.axis + 1..],
        ]
        .concat();
        Ok(TensorType::new(data.dtype, shape))
    }

    fn eval(&self, operands: &[&Array], result: &Extents) -> Result<Values, Fault> {
        let extent = operands[0].shape[self.axis];
        let indices = operands[1].ints().iter();
        let indices: Vec<usize> = indices
            .map(|&index| wrap_index(index, extent))
            .collect::<Result<_, _>>()?;
        let (outer, inner) = around(&operands[0].shape, self.axis);
        let mut sources = Vec::with_capacity(result.elements());
        for block in 0..outer {
            for index in &indices {
                let first = (block * extent + index) * inner;
                sources.extend((first..first + inner).map(|position| Some((0, position))));
            }
        }
        Ok(pick(operands, &sources))
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        let ddata = at.when(0, |at| {
            let (data, indices) = (at.operand(0), at.operand(1));
            // Rows are added where they were read; other axes than the first come first.
            let rank = at.ty(data).rank();
            let named = at.shape(indices);
            let mut order: Vec<usize> = (self.axis..self.axis + named.len()).collect();
            order.extend(
                (0..rank - 1 + named.len())
                    .filter(|axis| !(self.axis..self.axis + named.len()).contains(axis)),
            );
            let updates = at.transpose(at.cotangent, &order)?;
            let mut first: Vec<usize> = (0..rank).filter(|&axis| axis != self.axis).collect();
            first.insert(0, self.axis);
            let shape: Vec<usize> = first.iter().map(|&axis| at.shape(data)[axis]).collect();
            let zero = at.number(0.0, data)?;
            let zeros = at.broadcast(zero, &shape)?;
            let rows = at.reshape(indices, &[&named[..], &[1]].concat())?;
            let reduction = ScatterReduction::Add;
            let added = at.push(ScatterNd { reduction }, &[zeros, rows, updates])?;
            let mut back = vec![0; rank];
            first
                .iter()
                .enumerate()
                .for_each(|(place, &axis)| back[axis] = place);
            at.transpose(added, &back)
        })?;
        Ok(vec![ddata, None])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::dtype::DType;

    #[test]
    fn indices_count_from_both_ends() {
        let data = Array {
            shape: vec![3, 2],
            values: Values::Int((0..6).collect()),
        };
        let cases = [
            (vec![0, -1], Ok(Values::Int(vec![0, 1, 4, 5]))),
            (vec![], Ok(Values::Int(vec![]))),
            (
                vec![3],
                Err(Fault::Index {
                    index: 3,
                    extent: 3,
                }),
            ),
            (
                vec![i64::MIN],
                Err(Fault::Index {
                    index: i64::MIN,
                    extent: 3,
                }),
            ),
            (
                vec![i64::MAX],
                Err(Fault::Index {
                    index: i64::MAX,
                    extent: 3,
                }),
            ),
        ];
        for (indices, wanted) in cases {
            let shape = vec![indices.len(), 2];
            let indices = Array {
                shape: vec![indices.len()],
                values: Values::Int(indices),
            };
            let result = Extents {
                dtype: DType::I64,
                shape,
            };
            assert_eq!(Gather { axis: 0 }.eval(&[&data, &indices], &result), wanted);
        }
    }
}
