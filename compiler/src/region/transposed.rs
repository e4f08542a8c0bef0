//! Transposed convolutions of stride 1 as convolutions: of the same operand, with a wider border,
//! by the kernel turned around.
//!
//! Takes the operator and how its operands are read, gives a convolution and how its are. It moves
//! no element: the kernel is turned by an access map.

use crate::ops::{Conv, ConvTranspose, Operator};
use crate::region::Access;
use crate::region::access::Step;
use crate::region::index::{Index, Scope};

/// `result[s] = Σ_t x[s + before − t·dilation] · w[t]` is with `t = kernel − 1 − u` a convolution
/// whose border before is `(kernel − 1) · dilation − before`. `None` for other strides, and where
/// that is negative or the result has no element.
///
/// # Source
/// Dumoulin and Visin 2016 (arXiv 1603.07285), relationship 8.
pub(super) fn convolution(
    transpose: &ConvTranspose,
    [x, w]: [&Access; 2],
    result: &[usize],
) -> Option<(Conv, Access)> {
    if transpose.strides.iter().any(|&stride| stride != 1) || result.contains(&0) {
        return None;
    }
    let kernel = &w.shape[2..];
    let turned = |pads: &[usize]| -> Option<Vec<usize>> {
        let axes = kernel.iter().zip(&transpose.dilations).zip(pads);
        let border = axes.map(|((kernel, dilation), pad)| {
            let reach = (kernel - 1).checked_mul(*dilation)?;
            reach.checked_sub(*pad)
        });
        border.collect()
    };
    let conv = Conv {
        strides: transpose.strides.clone(),
        pads_before: turned(&transpose.pads_before)?,
        pads_after: turned(&transpose.pads_after)?,
        dilations: transpose.dilations.clone(),
        groups: transpose.groups,
    };
    let w = w.through(&turn(&w.shape, transpose.groups));
    let found = conv.infer(&[&x.ty(), &w.ty()]).ok()?.extents();
    (found.as_deref() == Some(result)).then_some((conv, w))
}

/// From `[groups · depth, features / groups, kernel…]` to `[features, depth, kernel…]`, the
/// kernel's elements in reverse.
fn turn(w: &[usize], groups: usize) -> Step {
    let (depth, share) = (w[1], w[0] / groups);
    let shape = [&[groups * depth, share][..], &w[2..]].concat();
    let scope = Scope::of(&shape);
    let identity = Index::identity(&shape);
    let group = identity[0].div(depth.max(1) as i64, scope);
    let feature = group.times(share as i64).add(&identity[1]);
    let mut index = vec![feature, identity[0].modulo(depth.max(1) as i64, scope)];
    let taps = identity[2..].iter().zip(&w[2..]);
    index.extend(taps.map(|(tap, &extent)| tap.clone().times(-1).plus(extent as i64 - 1)));
    Step {
        index,
        shape,
        bounds: Vec::new(),
    }
}
