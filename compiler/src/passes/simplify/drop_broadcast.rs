//! A pointwise operator on a stretched operand → on the operand, where the others stretch it;
//! constants of equal elements become scalars.

use crate::graph::{TensorType, Value};
use crate::ops::Constant;
use crate::passes::editor::{Edit, Editor, Outcome, Site, Stop::NoMatch};
use crate::passes::matching::{node_as, splat};
use crate::value::tensor::Tensor;

pub(super) fn apply(site: &Site<'_>, editor: &mut Editor) -> Outcome {
    if !site.op.is_pointwise() || site.operands.len() < 2 {
        return Err(NoMatch);
    }
    for (position, &operand) in site.operands.iter().enumerate() {
        let stretched = node_as!(editor, operand, Broadcast).map(|(_, source)| source[0]);
        let scalar = editor.constant(operand).and_then(scalar);
        let smaller = match (&stretched, &scalar) {
            (Some(source), _) => editor.ty(*source).clone(),
            (None, Some(scalar)) => TensorType::of(scalar),
            (None, None) => continue,
        };
        let mut types: Vec<TensorType> = site.operands.iter().map(type_of(editor)).collect();
        types[position] = smaller;
        if site.op.infer(&types).as_ref() != Ok(site.ty) {
            continue;
        }
        let mut operands = site.operands.to_vec();
        operands[position] = match (stretched, scalar) {
            (Some(source), _) => source,
            (None, Some(tensor)) => editor.push(Constant { tensor }, &[])?,
            (None, None) => continue,
        };
        let result = editor.push(site.op.clone(), &operands)?;
        return Edit::of(result, format!("{operand} is stretched in any case"));
    }
    Err(NoMatch)
}

fn type_of(editor: &Editor) -> impl Fn(&Value) -> TensorType {
    |value| editor.ty(*value).clone()
}

/// The one element of a constant that has several axes or elements, all equal.
fn scalar(tensor: &Tensor) -> Option<Tensor> {
    splat(tensor)?;
    let (bytes, width) = (tensor.bytes(), tensor.dtype().bytes());
    match tensor.shape() {
        [] => None,
        [_, ..] => Tensor::new(tensor.dtype(), Vec::new(), bytes.slice(..width)).ok(),
    }
}
