//! Scale and bias beside a layer or group normalisation → its operands.

use crate::graph::Value;
use crate::ops::{Constant, Op};
use crate::passes::editor::{Edit, Editor, Outcome, Site, Stop::NoMatch};
use crate::passes::matching::{either_way, number, site_as, without_leading_ones};
use crate::value::dim::Dim;
use crate::value::dtype::DType;
use crate::value::tensor::{Tensor, Values};

/// `norm(x) · scale` → `norm(x, scale)`.
pub(super) fn scale(site: &Site<'_>, editor: &mut Editor) -> Outcome {
    let (_, operands) = site_as!(site, Mul).ok_or(NoMatch)?;
    for (norm, factor) in either_way(operands) {
        let Some(found) = Norm::of(editor, norm, factor).filter(|found| found.operands.len() == 1)
        else {
            continue;
        };
        let scale = editor.reshaped(factor, &found.shape)?;
        let result = editor.push(found.op, &[found.operands[0], scale])?;
        return Edit::of(result, format!("{factor} scales {norm}"));
    }
    Err(NoMatch)
}

/// `norm(x, scale) + bias` → `norm(x, scale, bias)`; without a scale, ones are one.
pub(super) fn bias(site: &Site<'_>, editor: &mut Editor) -> Outcome {
    let (_, operands) = site_as!(site, Add).ok_or(NoMatch)?;
    for (norm, term) in either_way(operands) {
        let Some(found) = Norm::of(editor, norm, term).filter(|found| found.operands.len() < 3)
        else {
            continue;
        };
        let scale = match (found.operands.get(1), found.ones(site.ty.dtype)) {
            (Some(&scale), _) => scale,
            (None, Some(tensor)) => editor.push(Constant { tensor }, &[])?,
            (None, None) => continue,
        };
        let bias = editor.reshaped(term, &found.shape)?;
        let result = editor.push(found.op, &[found.operands[0], scale, bias])?;
        return Edit::of(result, format!("{term} is added to {norm}"));
    }
    Err(NoMatch)
}

/// `norm(x, 1, 0)` → `norm(x)`, `norm(x, scale, 0)` → `norm(x, scale)`.
pub(super) fn drop_unit(site: &Site<'_>, editor: &mut Editor) -> Outcome {
    let mut operands = match site.op {
        Op::LayerNorm(_) | Op::GroupNorm(_) => site.operands.to_vec(),
        _ => return Err(NoMatch),
    };
    if operands.len() == 3 && number(editor, operands[2]) == Some(0.0) {
        operands.pop();
    }
    if operands.len() == 2 && number(editor, operands[1]) == Some(1.0) {
        operands.pop();
    }
    if operands.len() == site.operands.len() {
        return Err(NoMatch);
    }
    let result = editor.push(site.op.clone(), &operands)?;
    Edit::of(result, "its scale is one, or its bias zero")
}

/// A normalisation that only one node reads, beside a parameter of the right shape.
struct Norm {
    op: Op,
    operands: Vec<Value>,
    shape: Vec<Dim>,
}

impl Norm {
    fn of(editor: &Editor, norm: Value, parameter: Value) -> Option<Norm> {
        let node = editor.node(norm).filter(|_| editor.used_once(norm))?;
        let whole = &editor.ty(norm).shape;
        let found = &editor.ty(parameter).shape;
        if found.len() > whole.len() {
            return None;
        }
        let shape = match &node.op {
            Op::LayerNorm(norm) => {
                let shape = &whole[whole.len() - norm.axes..];
                (without_leading_ones(found) == without_leading_ones(shape)).then_some(shape)
            }
            Op::GroupNorm(_) => {
                let spatial = whole.len() - 2;
                let (channels, rest) = found.split_at(found.len().checked_sub(spatial)?);
                let alone = rest.iter().all(|dim| dim.is(1));
                let shape = &whole[1..2];
                (alone && without_leading_ones(channels) == without_leading_ones(shape))
                    .then_some(shape)
            }
            _ => None,
        };
        Some(Norm {
            op: node.op.clone(),
            operands: node.operands.clone(),
            shape: shape?.to_vec(),
        })
    }

    fn ones(&self, dtype: DType) -> Option<Tensor> {
        let shape: Vec<usize> = self.shape.iter().map(Dim::extent).collect::<Option<_>>()?;
        let ones = Values::Float(vec![1.0; shape.iter().product()]);
        Some(Tensor::from_values(dtype, &shape, &ones))
    }
}
