//! Access maps: how an operand is read, so that moving elements needs no kernel.
//!
//! Takes reshape, transpose, slice, pad, concat, broadcast and nearest upsampling one after
//! another, gives one map from an index of the operand to an element of a buffer. It computes
//! nothing on elements.

use crate::graph::TensorType;
use crate::ops::shape::strides;
use crate::region::buffer::{Buffer, BufferData};
use crate::region::index::{Bound, Index, Scope};
use crate::value::dtype::DType;
use crate::value::tensor::Tensor;

/// No piece has more axes, divisions and bounds than this; models use about twenty.
const INDEX_PARTS_MAX: usize = 64;

/// How a tensor of `shape` is read: at each index from the piece whose bounds hold, of which
/// there is at most one, or else the number `fill`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Access {
    /// The element type.
    pub dtype: DType,
    /// The extents, outermost first.
    pub shape: Vec<usize>,
    /// The parts, in the order of the axis that was concatenated.
    pub pieces: Vec<Piece>,
    /// What is read outside of all pieces; `None` if they leave nothing out.
    pub fill: Option<Tensor>,
}

/// A part of an [`Access`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Piece {
    /// The buffer that is read.
    pub buffer: Buffer,
    /// Where the part lies: every bound holds.
    pub bounds: Vec<Bound>,
    /// The index on each axis of the buffer.
    pub index: Vec<Index>,
}

/// One movement: from an index of its result to one of its operand.
#[derive(Debug)]
pub(crate) struct Step {
    /// The extents of the result.
    pub(crate) shape: Vec<usize>,
    /// The index on each axis of the operand.
    pub(crate) index: Vec<Index>,
    /// Where the result shows the operand.
    pub(crate) bounds: Vec<Bound>,
}

impl Access {
    /// All of a buffer as it is.
    pub fn whole(buffer: Buffer, dtype: DType, shape: &[usize]) -> Access {
        let mut pieces = Vec::new();
        if !shape.contains(&0) {
            let bounds = Vec::new();
            pieces.push(Piece {
                buffer,
                bounds,
                index: Index::identity(shape),
            });
        }
        let shape = shape.to_vec();
        Access {
            dtype,
            shape,
            pieces,
            fill: None,
        }
    }

    /// The type of what is read.
    pub fn ty(&self) -> TensorType {
        TensorType::new(self.dtype, self.shape.iter().copied())
    }

    /// The piece that shows every element, if there is one and nothing else.
    pub fn single(&self) -> Option<&Piece> {
        match self.pieces.as_slice() {
            [piece] if piece.bounds.is_empty() => Some(piece),
            _ => None,
        }
    }

    /// The buffer of which this is all, as it is.
    pub fn as_whole(&self) -> Option<Buffer> {
        let piece = self.single()?;
        let whole = Access::whole(piece.buffer, self.dtype, &self.shape);
        (*self == whole).then_some(piece.buffer)
    }

    /// Why this is too much for a kernel to compute at each element, if it is, or for us to see
    /// that it stays within its buffers.
    pub(super) fn too_intricate(&self, buffers: &[BufferData]) -> Option<String> {
        let strays = self.pieces.iter().find(|piece| {
            let shape = &buffers[piece.buffer.0 as usize].extents.shape;
            !piece.stays_within(&self.shape, shape)
        });
        if let Some(piece) = strays {
            return Some(format!("an index that may lie outside of {}", piece.buffer));
        }
        let pieces = self.pieces.len();
        let walks = self.pieces.iter().flat_map(|piece| {
            let bounds = piece.bounds.iter().map(|bound| &bound.index);
            piece.index.iter().chain(bounds)
        });
        match walks.map(Index::size).sum::<usize>() {
            size if size > INDEX_PARTS_MAX * pieces.max(1) => Some(format!(
                "an index of {size} parts in {pieces} pieces, wanted at most {INDEX_PARTS_MAX} each"
            )),
            _ => None,
        }
    }

    /// The same elements, read through one more movement.
    pub(crate) fn through(&self, step: &Step) -> Access {
        let pieces = match step.shape.contains(&0) {
            true => Vec::new(),
            false => self.pieces.iter().filter_map(|p| p.through(step)).collect(),
        };
        Access {
            dtype: self.dtype,
            shape: step.shape.clone(),
            pieces,
            fill: self.fill.clone(),
        }
    }
}

impl Piece {
    /// Whether it has an index for each axis of a buffer of these extents, and the bounds keep
    /// it there.
    pub(super) fn stays_within(&self, domain: &[usize], extents: &[usize]) -> bool {
        let scope = Scope {
            extents: domain,
            bounds: &self.bounds,
        };
        within(&self.index, scope, extents)
    }

    /// `None` where nothing of the piece is left.
    fn through(&self, step: &Step) -> Option<Piece> {
        let mut bounds = Vec::new();
        let inherited = self.bounds.iter().map(|bound| {
            let scope = Scope {
                extents: &step.shape,
                bounds: &step.bounds,
            };
            let index = bound.index.substitute(&step.index, scope);
            Bound::new(&index, bound.start, bound.end)
        });
        for bound in step.bounds.iter().cloned().chain(inherited) {
            let scope = Scope {
                extents: &step.shape,
                bounds: &bounds,
            };
            let (least, most) = bound.index.range(scope);
            let (start, last) = (i128::from(bound.start), i128::from(bound.end) - 1);
            if most < start || least > last || start > last {
                return None;
            }
            if least < start || most > last {
                bounds.push(bound);
            }
        }
        let scope = Scope {
            extents: &step.shape,
            bounds: &bounds,
        };
        let index = self.index.iter();
        let index = index.map(|index| index.substitute(&step.index, scope));
        Some(Piece {
            buffer: self.buffer,
            index: index.collect(),
            bounds,
        })
    }
}

impl Step {
    /// Nothing but a walk to the indices of the operand.
    pub(crate) fn whole(shape: &[usize], index: Vec<Index>) -> Step {
        Step {
            shape: shape.to_vec(),
            index,
            bounds: Vec::new(),
        }
    }

    /// Elements in row-major order under another shape.
    pub(crate) fn reshape(operand: &[usize], shape: &[usize]) -> Step {
        if shape.contains(&0) {
            return Step::whole(shape, vec![Index::constant(0); operand.len()]);
        }
        let scope = Scope::of(shape);
        let flat = flat(shape);
        let own = strides(operand);
        let index = operand.iter().zip(own).map(|(&extent, stride)| {
            let whole = flat.div(stride as i64, scope);
            whole.modulo(extent as i64, scope)
        });
        Step::whole(shape, index.collect())
    }

    /// Axis `a` of the result is axis `permutation[a]` of the operand.
    pub(crate) fn transpose(permutation: &[usize], shape: &[usize]) -> Step {
        let mut index = vec![Index::constant(0); shape.len()];
        for (axis, &own) in permutation.iter().enumerate() {
            index[own] = Index::along(axis, shape[axis]);
        }
        Step::whole(shape, index)
    }

    /// NumPy's rule: axes are aligned at the last one, an extent of 1 is repeated.
    pub(crate) fn broadcast(operand: &[usize], shape: &[usize]) -> Step {
        let missing = shape.len() - operand.len();
        let index = operand
            .iter()
            .enumerate()
            .map(|(axis, &extent)| match extent {
                1 => Index::constant(0),
                _ => Index::along(axis + missing, shape[axis + missing]),
            });
        Step::whole(shape, index.collect())
    }

    /// `start + i · step` on one axis.
    pub(crate) fn slice(axis: usize, start: i64, step: i64, shape: &[usize]) -> Step {
        let mut index = Index::identity(shape);
        index[axis] = index[axis].clone().times(step).plus(start);
        Step::whole(shape, index)
    }

    /// The part of a longer axis that begins at `start` and has `length` elements.
    pub(crate) fn part(axis: usize, start: i64, length: usize, shape: &[usize]) -> Step {
        let mut index = Index::identity(shape);
        let bound = Bound::new(&index[axis], start, start.saturating_add(length as i64));
        index[axis] = index[axis].clone().plus(-start);
        Step {
            shape: shape.to_vec(),
            index,
            bounds: vec![bound],
        }
    }

    /// A border of `before[a]` elements before axis `a` of the operand, and as many after it as
    /// the shape says.
    pub(crate) fn pad(operand: &[usize], before: &[i64], shape: &[usize]) -> Step {
        let own = |axis: usize| Index::along(axis, shape[axis]).plus(-before[axis]);
        let index: Vec<Index> = (0..shape.len()).map(own).collect();
        let bounds = index.iter().zip(operand).filter_map(|(index, &extent)| {
            let grown = index.as_axis().is_none_or(|axis| shape[axis] != extent);
            grown.then(|| Bound::new(index, 0, extent as i64))
        });
        Step {
            shape: shape.to_vec(),
            bounds: bounds.collect(),
            index,
        }
    }

    /// From the channels of `shape` to `[batch, group, which]` for `share` channels a group.
    pub(crate) fn group(shape: &[usize], share: usize, which: i64) -> Step {
        let scope = Scope::of(shape);
        let group = Index::along(1, shape[1]).div(share as i64, scope);
        let index = vec![Index::along(0, shape[0]), group, Index::constant(which)];
        Step::whole(shape, index)
    }

    /// `i · extent / size`, rounded down, on the spatial axes.
    pub(crate) fn upsample(operand: &[usize], shape: &[usize]) -> Step {
        let scope = Scope::of(shape);
        let index = (0..shape.len()).map(|axis| match operand[axis] == shape[axis] {
            true => Index::along(axis, shape[axis]),
            false => {
                let scaled = Index::along(axis, shape[axis]).times(operand[axis] as i64);
                scaled.div(shape[axis].max(1) as i64, scope)
            }
        });
        Step::whole(shape, index.collect())
    }
}

/// Whether there is an index for each of these extents, whose range proves that it lies there.
pub(super) fn within(walk: &[Index], scope: Scope<'_>, extents: &[usize]) -> bool {
    let mut axes = walk.iter().zip(extents);
    walk.len() == extents.len()
        && axes.all(|(index, &extent)| {
            let (least, most) = index.range(scope);
            least >= 0 && most < extent as i128
        })
}

/// The position in row-major order.
fn flat(shape: &[usize]) -> Index {
    let terms = strides(shape).into_iter().enumerate();
    terms.fold(Index::constant(0), |sum, (axis, stride)| {
        sum.add(&Index::along(axis, shape[axis]).times(stride as i64))
    })
}

/// The walk back: from an index of `target` to the one of `domain` that `walk` takes there.
/// `None` unless `walk` reaches every element once by splitting, moving and joining axes.
pub(super) fn inverse(walk: &[Index], domain: &[usize], target: &[usize]) -> Option<Vec<Index>> {
    let scope = Scope::of(target);
    let mut found: Vec<Vec<(i64, i64, Index)>> = vec![Vec::new(); domain.len()];
    for (axis, index) in walk.iter().enumerate() {
        let mut digits = index.digits(domain)?;
        digits.sort_by_key(|digit| digit.coefficient);
        let mut reached = 1;
        for digit in digits {
            if digit.coefficient != reached {
                return None;
            }
            reached *= digit.modulus;
            let back = Index::along(axis, target[axis]).div(digit.coefficient, scope);
            let back = back.modulo(digit.modulus, scope);
            found[digit.axis].push((digit.divisor, digit.modulus, back));
        }
        if reached != target[axis] as i64 {
            return None;
        }
    }
    let axes = found.into_iter().zip(domain).map(|(mut digits, &extent)| {
        digits.sort_by_key(|&(divisor, ..)| divisor);
        let mut reached = 1;
        let mut sum = Index::constant(0);
        for (divisor, modulus, back) in digits {
            if divisor != reached {
                return None;
            }
            reached *= modulus;
            sum = sum.add(&back.times(divisor));
        }
        (reached == extent as i64).then_some(sum)
    });
    axes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::shape::each_index;

    /// Splits, moves and joins axes; gives the walk over the result's domain.
    fn walk(operand: &[usize], split: &[usize], permutation: &[usize], joined: &[usize]) -> Access {
        let moved: Vec<usize> = permutation.iter().map(|&axis| split[axis]).collect();
        Access::whole(Buffer(0), DType::F32, operand)
            .through(&Step::reshape(operand, split))
            .through(&Step::transpose(permutation, &moved))
            .through(&Step::reshape(&moved, joined))
    }

    #[test]
    fn a_walk_and_its_inverse_come_back() {
        type Case<'a> = (&'a [usize], &'a [usize], &'a [usize], &'a [usize]);
        let cases: [Case<'_>; 4] = [
            (&[2, 6, 4, 5], &[2, 6, 20], &[0, 2, 1], &[2, 20, 6]),
            (&[2, 20, 6], &[2, 4, 5, 6], &[0, 3, 1, 2], &[2, 6, 4, 5]),
            (&[2, 20, 6], &[2, 20, 3, 2], &[0, 2, 1, 3], &[6, 20, 2]),
            (&[1, 12], &[1, 3, 4], &[2, 0, 1], &[4, 3]),
        ];
        for (operand, split, permutation, joined) in cases {
            let access = walk(operand, split, permutation, joined);
            let piece = access.single().expect("nothing is cut");
            let back = inverse(&piece.index, joined, operand).expect("every element once");
            each_index(joined, |index| {
                let there: Vec<usize> = piece
                    .index
                    .iter()
                    .map(|axis| axis.at(index) as usize)
                    .collect();
                let here: Vec<usize> = back.iter().map(|axis| axis.at(&there) as usize).collect();
                assert_eq!(here, index, "{:?}", piece.index);
            });
        }
        let step = Step::slice(0, 1, 2, &[3]);
        assert_eq!(inverse(&step.index, &[3], &[6]), None);
    }
}
