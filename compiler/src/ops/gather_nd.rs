//! The operator [`GatherNd`].

use crate::graph::TensorType;
use crate::ops::attribute::attributes;
use crate::ops::movement::{pick, wrap_index};
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::shape::{index_type, strides};
use crate::ops::{Class, Concat, Iota, Operator, ScatterNd, ScatterReduction, Violation};
use crate::value::array::{Array, Fault};
use crate::value::dim::Dim;
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// # Meaning
/// `result[b…, i…, :] = data[b…, indices[b…, i…, 0], …, indices[b…, i…, k − 1], :]`: each row of
/// `k` indices names a slice of `data` below the batch axes; negative indices count from the end.
///
/// # Operands
/// `data`: one axis or more; `indices` `[b…, i…, k]`, i32 or i64.
///
/// # Result
/// The element type of `data`; the shape of `indices` without its last axis, then the axes of
/// `data` after the first `batch_axes + k`.
///
/// # Constraints
/// * C1: `indices` are i32 or i64.
/// * C2: both operands have more than `batch_axes` axes.
/// * C3: the batch axes have equal extents.
/// * C4: the last extent `k` of `indices` is known, at least 1, and at most the axes of `data`
///   below the batch axes.
///
/// # Gradient
/// `ddata` is zero, plus `dr` added to the slices that were read.
///
/// # Source
/// ONNX `GatherND`.
#[derive(Debug, Clone, PartialEq)]
pub struct GatherNd {
    /// The leading axes that both operands share.
    pub batch_axes: usize,
}

attributes!(GatherNd { batch_axes });

impl Operator for GatherNd {
    const NAME: &'static str = "gather_nd";
    const OPERANDS: (usize, usize) = (2, 2);
    const CLASS: Class = Class::Gather;
    const TOLERANCE: f64 = 0.0;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        let (data, indices) = (operands[0], operands[1]);
        index_type("C1", indices)?;
        let found = format_args!("{data} and {indices}");
        let wanted = format_args!("more axes than the {} of the batch", self.batch_axes);
        let more = self.batch_axes < data.rank().min(indices.rank());
        Violation::unless(more, "C2", found, wanted)?;
        let [own, named] = [data, indices].map(|ty| &ty.shape[..self.batch_axes]);
        Violation::unless(own == named, "C3", found, "equal batch extents")?;
        let below = data.rank() - self.batch_axes;
        let depth = index_depth("C4", indices, 1, below)?;
        let (_, rows) = indices.shape.split_last().expect("C2 wants an axis");
        let shape = [rows, &data.shape[self.batch_axes + depth..]].concat();
        Ok(TensorType::new(data.dtype, shape))
    }

    fn eval(&self, operands: &[&Array], result: &Extents) -> Result<Values, Fault> {
        let (data, indices) = (&operands[0].shape, &operands[1].shape);
        let depth = indices[indices.len() - 1];
        let batches: usize = data[..self.batch_axes].iter().product();
        let rows: usize = indices[self.batch_axes..indices.len() - 1].iter().product();
        let batch: usize = data[self.batch_axes..].iter().product();
        let inner: usize = data[self.batch_axes + depth..].iter().product();
        let mut sources = Vec::with_capacity(result.elements());
        for row in 0..batches * rows {
            let index = &operands[1].ints()[row * depth..][..depth];
            let within = row_offset(index, &data[self.batch_axes..])?;
            let first = row / rows * batch + within;
            sources.extend((first..first + inner).map(|position| Some((0, position))));
        }
        Ok(pick(operands, &sources))
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        let ddata = at.when(0, |at| {
            let (data, mut indices) = (at.operand(0), at.operand(1));
            let named = at.shape(indices);
            for axis in (0..self.batch_axes).rev() {
                // The position on a batch axis becomes one more index.
                let (length, dtype) = (Dim::from(named[axis]), at.ty(indices).dtype);
                let own = at.push(Iota { length, dtype }, &[])?;
                let mut shape = vec![1; named.len()];
                shape[axis] = named[axis];
                let own = at.reshape(own, &shape)?;
                let last = named.len() - 1;
                let whole = [&named[..last], &[1]].concat();
                let own = at.broadcast(own, &whole)?;
                indices = at.push(Concat { axis: last }, &[own, indices])?;
            }
            let zeros = at.zeros(data)?;
            let reduction = ScatterReduction::Add;
            at.push(ScatterNd { reduction }, &[zeros, indices, at.cotangent])
        })?;
        Ok(vec![ddata, None])
    }
}

/// The number of indices in a row: the last extent of `indices`, from `least` to `most`.
pub(crate) fn index_depth(
    constraint: &'static str,
    indices: &TensorType,
    least: usize,
    most: usize,
) -> Result<usize, Violation> {
    let depth = indices.shape.last().and_then(Dim::extent);
    match depth.filter(|depth| (least..=most).contains(depth)) {
        Some(depth) => Ok(depth),
        None => {
            let wanted = format!("a last extent known to be {least} to {most}");
            Err(Violation::new(constraint, indices, wanted))
        }
    }
}

/// The offset in an array of `shape` of the slice that a row of indices names.
pub(crate) fn row_offset(row: &[i64], shape: &[usize]) -> Result<usize, Fault> {
    let strides = strides(shape);
    let terms = row.iter().zip(shape).zip(strides);
    terms
        .map(|((&index, &extent), stride)| Ok(wrap_index(index, extent)? * stride))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Op;
    use crate::value::dtype::DType;

    #[test]
    fn rows_of_indices_name_slices() {
        let data = Array {
            shape: vec![2, 2, 2],
            values: Values::Int((0..8).collect()),
        };
        type Case = (usize, &'static [usize], &'static [i64], &'static [i64]);
        let cases: &[Case] = &[
            (0, &[2, 2], &[0, 1, 1, 0], &[2, 3, 4, 5]),
            (0, &[1, 3], &[-1, 0, 1], &[5]),
            (1, &[2, 1], &[1, 0], &[2, 3, 4, 5]),
            (1, &[2, 1, 2], &[1, 0, 0, -1], &[2, 5]),
        ];
        for (batch_axes, shape, indices, wanted) in cases {
            let op = GatherNd {
                batch_axes: *batch_axes,
            };
            let types = [
                TensorType::new(DType::I64, [2, 2, 2]),
                TensorType::new(DType::I32, shape.iter().copied()),
            ];
            let extents = Op::from(op.clone())
                .infer(&types)
                .ok()
                .and_then(|ty| ty.extents());
            let result = Extents {
                dtype: DType::I64,
                shape: extents.unwrap_or_default(),
            };
            let indices = Array {
                shape: shape.to_vec(),
                values: Values::Int(indices.to_vec()),
            };
            let found = op.eval(&[&data, &indices], &result);
            assert_eq!(found, Ok(Values::Int(wanted.to_vec())), "{shape:?}");
            assert_eq!(result.elements(), wanted.len(), "{shape:?}");
        }
    }

    #[test]
    fn constraints() {
        let h = Dim::symbol("h");
        let cases = [
            (0, vec![Dim::from(3)], None),
            (0, vec![Dim::from(4)], Some("C4")),
            (0, vec![Dim::from(0)], Some("C4")),
            (0, vec![h], Some("C4")),
            (0, vec![], Some("C2")),
            (usize::MAX, vec![Dim::from(1)], Some("C2")),
            (1, vec![Dim::from(3), Dim::from(1)], Some("C3")),
            (1, vec![Dim::from(2), Dim::from(3)], Some("C4")),
        ];
        for (batch_axes, indices, wanted) in cases {
            let data = TensorType::new(DType::F32, [2, 3, 4]);
            let indices = TensorType::new(DType::I64, indices);
            let found = Op::from(GatherNd { batch_axes }).infer(&[data, indices.clone()]);
            let found = found.err().map(|violation| violation.constraint);
            assert_eq!(found, wanted, "{indices}");
        }
    }
}
