//! The operator [`ScatterNd`].

use crate::graph::TensorType;
use crate::ops::attribute::{attributes, named_field};
use crate::ops::gather_nd::{index_depth, row_offset};
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::shape::{exact_shape, index_type, numeric, same_dtype};
use crate::ops::{Class, GatherNd, Operator, Violation};
use crate::value::array::{Array, Fault};
use crate::value::dim::Dim;
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// What an update does to the element it meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScatterReduction {
    /// Takes its place; the last of several updates stays.
    Replace,
    /// Is added; integers wrap.
    Add,
    /// Multiplies; integers wrap.
    Mul,
    /// Leaves the larger; NaN wins.
    Max,
    /// Leaves the smaller; NaN wins.
    Min,
}

named_field!(ScatterReduction {
    Replace = "replace",
    Add = "add",
    Mul = "mul",
    Max = "max",
    Min = "min",
});

/// # Meaning
/// `result = data`, then for each row in order
/// `result[indices[i…, 0], …, indices[i…, k − 1], :]` is combined with `updates[i…, :]` as
/// `reduction` says; negative indices count from the end.
///
/// # Operands
/// `data`: one axis or more; `indices` `[i…, k]`, i32 or i64; `updates`.
///
/// # Result
/// The type of `data`.
///
/// # Constraints
/// * C1: `indices` are i32 or i64.
/// * C2: the last extent `k` of `indices` is known and at most the axes of `data`, which has one
///   axis or more.
/// * C3: `updates` has the element type of `data`; numeric unless it replaces.
/// * C4: the shape of `updates` is that of `indices` without its last axis, then the axes of
///   `data` after the first `k`.
///
/// # Gradient
/// Replacing, distinct rows: `dupdates` is what a gather reads of `dr`, `ddata` is `dr` with
/// those slices zero. Adding: `dupdates` likewise, `ddata = dr`.
///
/// # Source
/// ONNX `ScatterND`.
#[derive(Debug, Clone, PartialEq)]
pub struct ScatterNd {
    /// What an update does to the element it meets.
    pub reduction: ScatterReduction,
}

attributes!(ScatterNd { reduction });

impl Operator for ScatterNd {
    const NAME: &'static str = "scatter_nd";
    const OPERANDS: (usize, usize) = (3, 3);
    const CLASS: Class = Class::Gather;
    const TOLERANCE: f64 = 1e-6;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        let (data, indices, updates) = (operands[0], operands[1], operands[2]);
        index_type("C1", indices)?;
        Violation::unless(data.rank() > 0, "C2", data, "at least one axis")?;
        let depth = index_depth("C2", indices, 0, data.rank())?;
        same_dtype("C3", &[data, updates])?;
        if self.reduction != ScatterReduction::Replace {
            numeric("C3", data)?;
        }
        let (_, rows) = indices.shape.split_last().expect("C2 wants an axis");
        let shape = [rows, &data.shape[depth..]].concat();
        exact_shape("C4", updates, &shape)?;
        Ok(data.clone())
    }

    fn eval(&self, operands: &[&Array], _result: &Extents) -> Result<Values, Fault> {
        let target = Target::new(operands);
        match (&operands[0].values, &operands[2].values) {
            (Values::Float(data), Values::Float(updates)) => target
                .scatter(data, updates, |a, b| self.float(a, b))
                .map(Values::Float),
            (Values::Int(data), Values::Int(updates)) => target
                .scatter(data, updates, |a, b| self.int(a, b))
                .map(Values::Int),
            (Values::Bool(data), Values::Bool(updates)) => {
                target.scatter(data, updates, |_, b| b).map(Values::Bool)
            }
            (_, _) => panic!("inferred as operands of one element type"),
        }
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        let (indices, updates, dr) = (at.operand(1), at.operand(2), at.cotangent);
        match self.reduction {
            ScatterReduction::Replace | ScatterReduction::Add => {}
            ScatterReduction::Mul | ScatterReduction::Max | ScatterReduction::Min => {
                return at.unsupported("only replacing and adding updates are differentiated");
            }
        }
        let replaces = self.reduction == ScatterReduction::Replace;
        let ddata = at.when(0, |at| match replaces {
            true => {
                let zeros = at.zeros(updates)?;
                at.push(self.clone(), &[dr, indices, zeros])
            }
            false => Ok(dr),
        })?;
        let dupdates = at.when(2, |at| at.push(GatherNd { batch_axes: 0 }, &[dr, indices]))?;
        Ok(vec![ddata, None, dupdates])
    }

    fn flops(&self, operands: &[TensorType], _result: &TensorType) -> Dim {
        match self.reduction {
            ScatterReduction::Replace => Dim::from(0),
            ScatterReduction::Add
            | ScatterReduction::Mul
            | ScatterReduction::Max
            | ScatterReduction::Min => operands[2].elements(),
        }
    }
}

impl ScatterNd {
    fn float(&self, a: f64, b: f64) -> f64 {
        match self.reduction {
            ScatterReduction::Replace => b,
            ScatterReduction::Add => a + b,
            ScatterReduction::Mul => a * b,
            ScatterReduction::Max | ScatterReduction::Min if a.is_nan() || b.is_nan() => f64::NAN,
            ScatterReduction::Max => a.max(b),
            ScatterReduction::Min => a.min(b),
        }
    }

    fn int(&self, a: i64, b: i64) -> i64 {
        match self.reduction {
            ScatterReduction::Replace => b,
            ScatterReduction::Add => a.wrapping_add(b),
            ScatterReduction::Mul => a.wrapping_mul(b),
            ScatterReduction::Max => a.max(b),
            ScatterReduction::Min => a.min(b),
        }
    }
}

/// Where updates go.
struct Target<'a> {
    shape: &'a [usize],
    indices: &'a [i64],
    depth: usize,
    rows: usize,
    inner: usize,
}

impl<'a> Target<'a> {
    fn new(operands: &[&'a Array]) -> Target<'a> {
        let (shape, indices) = (&operands[0].shape, &operands[1].shape);
        let depth = indices[indices.len() - 1];
        Target {
            shape,
            indices: operands[1].ints(),
            depth,
            rows: indices[..indices.len() - 1].iter().product(),
            inner: shape[depth..].iter().product(),
        }
    }

    fn scatter<T: Copy>(
        &self,
        data: &[T],
        updates: &[T],
        combine: impl Fn(T, T) -> T,
    ) -> Result<Vec<T>, Fault> {
        let mut result = data.to_vec();
        for row in 0..self.rows {
            let index = &self.indices[row * self.depth..][..self.depth];
            let first = row_offset(index, self.shape)?;
            let slice = &mut result[first..first + self.inner];
            let updates = &updates[row * self.inner..][..self.inner];
            for (element, &update) in slice.iter_mut().zip(updates) {
                *element = combine(*element, update);
            }
        }
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;
    use crate::ops::Op;

    #[test]
    fn updates_meet_elements_in_order() {
        let data = Array {
            shape: vec![4],
            values: Values::Int(vec![1, 2, 3, 4]),
        };
        let indices = Array {
            shape: vec![3, 1],
            values: Values::Int(vec![1, -1, 1]),
        };
        let updates = Array {
            shape: vec![3],
            values: Values::Int(vec![5, 0, 7]),
        };
        let result = Extents {
            dtype: DType::I64,
            shape: vec![4],
        };
        let cases = [
            (ScatterReduction::Replace, vec![1, 7, 3, 0]),
            (ScatterReduction::Add, vec![1, 14, 3, 4]),
            (ScatterReduction::Mul, vec![1, 70, 3, 0]),
            (ScatterReduction::Max, vec![1, 7, 3, 4]),
            (ScatterReduction::Min, vec![1, 2, 3, 0]),
        ];
        for (reduction, wanted) in cases {
            let found = ScatterNd { reduction }.eval(&[&data, &indices, &updates], &result);
            assert_eq!(found, Ok(Values::Int(wanted)), "{reduction:?}");
        }
        let far = Array {
            shape: vec![1, 1],
            values: Values::Int(vec![4]),
        };
        let fault = ScatterNd {
            reduction: ScatterReduction::Add,
        }
        .eval(&[&data, &far, &updates], &result);
        assert_eq!(
            fault,
            Err(Fault::Index {
                index: 4,
                extent: 4
            })
        );
    }

    #[test]
    fn constraints() {
        let cases: &[(&[i64], &[i64], Option<&str>)] = &[
            (&[5, 1], &[5, 3], None),
            (&[5, 2], &[5], None),
            (&[5, 0], &[5, 2, 3], None),
            (&[5, 3], &[5], Some("C2")),
            (&[], &[2, 3], Some("C2")),
            (&[5, 1], &[5, 2], Some("C4")),
        ];
        for (indices, updates, wanted) in cases {
            let operands = [
                TensorType::new(DType::F32, [2, 3]),
                TensorType::new(DType::I64, indices.iter().copied()),
                TensorType::new(DType::F32, updates.iter().copied()),
            ];
            let reduction = ScatterReduction::Replace;
            let found = Op::from(ScatterNd { reduction }).infer(&operands);
            let found = found.err().map(|violation| violation.constraint);
            assert_eq!(found, *wanted, "{indices:?} {updates:?}");
        }
    }
}
