//! An operator on constants → its result, unless that is large, dear, or a fault.

use crate::graph::{TensorType, Value};
use crate::ops::{Constant, Op};
use crate::passes::editor::{Edit, Editor, Outcome, Site, Stop::NoMatch};
use crate::passes::matching::node_as;
use crate::value::array::Array;
use crate::value::extents::Extents;
use crate::value::tensor::Tensor;

/// Results of more elements must be no larger than the constants that they come from.
const GROWN_ELEMENTS_MAX: usize = 1 << 16;

/// Results of more elements are left to the machine that runs the graph.
const ELEMENTS_MAX: usize = 1 << 24;

/// More work than this is left to the machine that runs the graph.
const FLOPS_MAX: i64 = 1 << 26;

pub(super) fn apply(site: &Site<'_>, editor: &mut Editor) -> Outcome {
    // A stretched constant is smaller than its result; operators read through it below.
    if matches!(site.op, Op::Constant(_) | Op::Broadcast(_)) {
        return Err(NoMatch);
    }
    match fold(site, editor) {
        Some(tensor) => {
            let result = editor.push(Constant { tensor }, &[])?;
            Edit::of(result, "its operands are constants")
        }
        None => Err(NoMatch),
    }
}

fn fold(site: &Site<'_>, editor: &Editor) -> Option<Tensor> {
    let extents = Extents {
        dtype: site.ty.dtype,
        shape: site.ty.extents()?,
    };
    let operands = site.operands.iter();
    let source_bytes = operands.clone().filter_map(|&v| editor.constant(v));
    let source_bytes: usize = source_bytes.map(|tensor| tensor.bytes().len()).sum();
    let elements = site.ty.elements().extent()?;
    let grown = elements * extents.dtype.bytes() > source_bytes && elements > GROWN_ELEMENTS_MAX;
    let types: Vec<TensorType> = operands.clone().map(|&v| editor.ty(v).clone()).collect();
    let flops = site.op.flops(&types, site.ty).known()?;
    if grown || elements > ELEMENTS_MAX || flops > FLOPS_MAX {
        return None;
    }
    if let Op::Reshape(_) = site.op {
        let tensor = editor.constant(site.operands[0])?;
        return tensor.reshaped(extents.shape).ok();
    }
    let arrays: Option<Vec<Array>> = operands.map(|&v| array(editor, v)).collect();
    let arrays = arrays?;
    let values = site.op.eval(&arrays.iter().collect::<Vec<_>>(), &extents);
    let values = values.ok()?;
    Some(Tensor::from_values(extents.dtype, &extents.shape, &values))
}

/// The elements of a constant, or of one that is stretched to not too many.
fn array(editor: &Editor, value: Value) -> Option<Array> {
    if let Some(tensor) = editor.constant(value) {
        return (tensor.elements() <= ELEMENTS_MAX).then(|| Array::from(tensor));
    }
    let (broadcast, sources) = node_as!(editor, value, Broadcast)?;
    let source = Array::from(editor.constant(sources[0])?);
    let ty = editor.ty(value);
    let extents = Extents {
        dtype: ty.dtype,
        shape: ty.extents()?,
    };
    if ty.elements().extent()? > GROWN_ELEMENTS_MAX {
        return None;
    }
    let values = Op::from(broadcast.clone())
        .eval(&[&source], &extents)
        .ok()?;
    Some(Array {
        shape: extents.shape,
        values,
    })
}
