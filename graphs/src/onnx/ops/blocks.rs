//! `DepthToSpace` and `SpaceToDepth`: blocks of pixels as channels.
//!
//! Takes images `[batch, channels, height, width]`, returns reshapes and transpositions.

use compiler::value::dim::Dim;

use crate::onnx::context::{Context, Result, Wire};
use crate::onnx::error::Problem;
use crate::onnx::node::Node;

/// `[b, c·s², h, w]` becomes `[b, c, h·s, w·s]`.
pub(crate) fn depth_to_space(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let (x, [batch, channels, height, width], size) = operand(context, node)?;
    let depth = divided(context, x, &channels, &size.mul(&size))?;
    let mode = node.text_or("mode", "DCR")?;
    let (split, permutation) = match mode.as_str() {
        "DCR" => ([&size, &size, &depth], vec![0, 3, 4, 1, 5, 2]),
        "CRD" => ([&depth, &size, &size], vec![0, 1, 4, 2, 5, 3]),
        _ => return Err(node.refuse("mode", mode, "DCR or CRD")),
    };
    let [a, b, c] = split.map(Dim::clone);
    let blocks = vec![batch.clone(), a, b, c, height.clone(), width.clone()];
    let blocks = context.reshape(x, blocks)?;
    let blocks = context.transpose(blocks, permutation)?;
    let shape = vec![batch, depth, height.mul(&size), width.mul(&size)];
    Ok(vec![context.reshape(blocks, shape)?])
}

/// `[b, c, h·s, w·s]` becomes `[b, c·s², h, w]`.
pub(crate) fn space_to_depth(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let (x, [batch, channels, height, width], size) = operand(context, node)?;
    let (rows, columns) = (
        divided(context, x, &height, &size)?,
        divided(context, x, &width, &size)?,
    );
    let (h, w, s) = (rows.clone(), columns.clone(), size.clone());
    let blocks = vec![batch.clone(), channels.clone(), h, s.clone(), w, s];
    let blocks = context.reshape(x, blocks)?;
    let mode = node.text_or("mode", "DCR")?;
    let permutation = match mode.as_str() {
        "DCR" => vec![0, 3, 5, 1, 2, 4],
        "CRD" => vec![0, 1, 3, 5, 2, 4],
        _ => return Err(node.refuse("mode", mode, "DCR or CRD")),
    };
    let blocks = context.transpose(blocks, permutation)?;
    let depth = channels.mul(&size).mul(&size);
    Ok(vec![
        context.reshape(blocks, vec![batch, depth, rows, columns])?,
    ])
}

/// The image, its extents and the side of a block.
fn operand(context: &Context, node: &Node<'_>) -> Result<(Wire, [Dim; 4], Dim)> {
    let x = node.input(0, "input")?;
    let shape = context.shape(x).try_into().map_err(|_| Problem::Operand {
        name: "input",
        found: context.ty(x).to_string(),
        wanted: "batch, channels, height and width".to_owned(),
    })?;
    let size = node.int_or("blocksize", 0)?;
    // The square of a larger one exceeds every number of channels.
    match (1..=1 << 16).contains(&size) {
        true => Ok((x, shape, Dim::from(size))),
        false => Err(node.refuse("blocksize", size, "a side of at least 1")),
    }
}

fn divided(context: &Context, x: Wire, extent: &Dim, divisor: &Dim) -> Result<Dim> {
    extent.exact_div(divisor).ok_or_else(|| Problem::Operand {
        name: "input",
        found: context.ty(x).to_string(),
        wanted: format!("a multiple of {divisor} where it has {extent}"),
    })
}
