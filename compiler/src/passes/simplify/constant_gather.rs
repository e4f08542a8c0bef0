//! `gather` at constant places that are equally far apart → a slice, which is not a kernel.

use crate::ops::{Reshape, Slice};
use crate::passes::editor::{Edit, Editor, Outcome, Site, Stop::NoMatch};
use crate::passes::matching::site_as;
use crate::value::dim::Dim;
use crate::value::tensor::Values;

pub(super) fn apply(site: &Site<'_>, editor: &mut Editor) -> Outcome {
    let (gather, operands) = site_as!(site, Gather).ok_or(NoMatch)?;
    let axis = gather.axis;
    let extent = editor.ty(operands[0]).shape[axis].known();
    let indices = editor.constant(operands[1]).ok_or(NoMatch)?;
    let (Some(extent), Values::Int(indices)) = (extent, indices.values()) else {
        return Err(NoMatch);
    };
    let (start, step) = progression(&indices, extent).ok_or(NoMatch)?;
    let slice = Slice {
        axis,
        start: Dim::from(start),
        length: Dim::from(indices.len()),
        step,
    };
    let sliced = editor.push(slice, &operands[..1])?;
    let shape = site.ty.shape.clone();
    let result = editor.push(Reshape { shape }, &[sliced])?;
    Edit::of(result, format!("the places are {start} + {step}·i"))
}

/// Start and step of indices into an axis of `extent`, all within; negative ones count from the
/// end.
fn progression(indices: &[i64], extent: i64) -> Option<(i64, i64)> {
    let place = |&index: &i64| if index < 0 { index + extent } else { index };
    let places: Vec<i64> = indices.iter().map(place).collect();
    if !places.iter().all(|place| (0..extent).contains(place)) {
        return None;
    }
    let start = *places.first()?;
    let step = places.get(1).map_or(1, |second| second - start);
    let even = places.windows(2).all(|pair| pair[1] - pair[0] == step);
    (even && step != 0).then_some((start, step))
}
