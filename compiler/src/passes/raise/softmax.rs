//! `e / Σe` with `e = exp(x − max x)` or `exp(x)` → `softmax(x)`.

use crate::ops::Softmax;
use crate::passes::editor::{Edit, Editor, Outcome, Site, Stop::NoMatch};
use crate::passes::matching::{node_as, site_as};

pub(super) fn apply(site: &Site<'_>, editor: &mut Editor) -> Outcome {
    let (_, operands) = site_as!(site, Div).ok_or(NoMatch)?;
    let (exp, axis) = node_as!(editor, operands[1], ReduceSum)
        .and_then(|(sum, inner)| {
            let one_axis = <[usize; 1]>::try_from(sum.axes.as_slice()).ok()?;
            (sum.keep && inner[0] == operands[0]).then_some((inner[0], one_axis[0]))
        })
        .ok_or(NoMatch)?;
    let (_, inner) = node_as!(editor, exp, Exp).ok_or(NoMatch)?;
    let shifted = node_as!(editor, inner[0], Sub).and_then(|(_, difference)| {
        let (max, of) = node_as!(editor, difference[1], ReduceMax)?;
        (max.keep && max.axes == [axis] && of[0] == difference[0]).then_some(difference[0])
    });
    let x = shifted.unwrap_or(inner[0]);
    let result = editor.push(Softmax { axis }, &[x])?;
    Edit::of(result, format!("exponentials of {x} over their sum"))
}
