//! Operators that move elements, as access maps.
//!
//! Takes how operands are read, returns how the result is, or why that takes a kernel.

use super::State;
use crate::graph::Value;
use crate::ops::{Op, PadMode};
use crate::region::access::Step;
use crate::region::{Access, Anchor, Content, Joined, Node, Output};
use crate::value::extents::Extents;
use crate::value::tensor::{Tensor, Values};

/// An operand of more pieces is copied together first: a kernel tests the bounds of each.
const PIECES_MAX: usize = 4;

impl State<'_> {
    /// How the result of a movement is read, or why that takes a kernel.
    pub(super) fn moved(
        &mut self,
        value: Value,
        op: &Op,
        operands: &[Value],
    ) -> Result<Access, String> {
        let access = self.movement(value, op, operands)?;
        match access.too_intricate(&self.regions.buffers) {
            None => Ok(access),
            Some(reason) => Err(reason),
        }
    }

    fn movement(&mut self, value: Value, op: &Op, operands: &[Value]) -> Result<Access, String> {
        let shape = self.extents(value).shape.clone();
        let x = self.view(operands[0]);
        let step = match op {
            Op::StopGradient(_) => Step::reshape(&x.shape, &shape),
            Op::Reshape(_) => Step::reshape(&x.shape, &shape),
            Op::Transpose(transpose) => Step::transpose(&transpose.permutation, &shape),
            Op::Broadcast(_) => Step::broadcast(&x.shape, &shape),
            Op::Slice(slice) => {
                let start = slice.start.known().unwrap_or(0);
                Step::slice(slice.axis, start, slice.step, &shape)
            }
            Op::UpsampleNearest(_) => {
                // The products of i · extent / size must be numbers of 64 bits.
                let mut pairs = x.shape.iter().zip(&shape);
                let fits = |(&extent, &size): (&usize, &usize)| {
                    i64::try_from(extent as u128 * size as u128).is_ok()
                };
                if !pairs.all(fits) {
                    return Err(format!("sizes {:?} and {shape:?} are absurd", x.shape));
                }
                Step::upsample(&x.shape, &shape)
            }
            Op::Pad(pad) if pad.mode != PadMode::Constant => {
                return Err("the border repeats the operand".to_owned());
            }
            Op::Pad(pad) => return self.pad(&x, &pad.before, operands.get(1), &shape),
            Op::Concat(concat) => return self.concat(concat.axis, operands, &shape),
            other => return Err(format!("{} does not move elements", other.name())),
        };
        Ok(x.through(&step))
    }

    fn pad(
        &mut self,
        x: &Access,
        before: &[i64],
        border: Option<&Value>,
        shape: &[usize],
    ) -> Result<Access, String> {
        let fill = match border {
            None => Tensor::from_values(x.dtype, &[], &Values::zeros(x.dtype, 1)),
            Some(&border) => match self.func.constant(border) {
                Some(tensor) => tensor.clone(),
                None => return Err("the border is not a constant".to_owned()),
            },
        };
        let padded = x.through(&Step::pad(&x.shape, before, shape));
        filled(padded, Some(fill))
    }

    fn concat(
        &mut self,
        axis: usize,
        operands: &[Value],
        shape: &[usize],
    ) -> Result<Access, String> {
        let (mut pieces, mut fill, mut start) = (Vec::new(), None, 0);
        for &operand in operands {
            let x = self.view(operand);
            let length = x.shape[axis];
            let part = x.through(&Step::part(axis, start as i64, length, shape));
            let part = filled(part, fill.take())?;
            fill = part.fill;
            pieces.extend(part.pieces);
            start += length;
        }
        match pieces.len() {
            found if found > PIECES_MAX && shape.len() == 1 => Ok(self.join(operands, shape)),
            0..=PIECES_MAX => Ok(Access {
                dtype: self.extents(operands[0]).dtype,
                shape: shape.to_vec(),
                pieces,
                fill,
            }),
            found => Err(format!("{found} pieces, wanted at most {PIECES_MAX}")),
        }
    }

    /// Many vectors as one: each is stored in its place, at first by a region that copies it.
    fn join(&mut self, operands: &[Value], shape: &[usize]) -> Access {
        let dtype = self.extents(operands[0]).dtype;
        let extents = |shape: &[usize]| Extents {
            dtype,
            shape: shape.to_vec(),
        };
        let whole = self.buffer(extents(shape), Content::Computed);
        let mut parts = Vec::with_capacity(operands.len());
        for &operand in operands {
            let view = self.view(operand);
            if view.shape == [0] {
                continue;
            }
            let domain = view.shape.clone();
            let buffer = self.buffer(extents(&domain), Content::Computed);
            let output = Output::whole(buffer, domain, vec![Node::Read(0)]);
            self.store(operand, Anchor::Pointwise, vec![view], output);
            parts.push(buffer);
        }
        self.regions.joined.push(Joined { whole, parts });
        Access::whole(whole, dtype, shape)
    }
}

/// An access with one more number outside of its pieces, which must be the one it has.
fn filled(mut access: Access, fill: Option<Tensor>) -> Result<Access, String> {
    match (&access.fill, fill) {
        (Some(a), Some(b)) if *a != b => Err("two borders of different numbers".to_owned()),
        (_, None) => Ok(access),
        (_, fill) => {
            access.fill = fill;
            Ok(access)
        }
    }
}
