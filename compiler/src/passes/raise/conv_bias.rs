//! `conv(x, w) + bias` with one bias for each channel → `conv(x, w, bias)`.

use crate::ops::Reshape;
use crate::passes::editor::{Edit, Editor, Outcome, Site, Stop::NoMatch};
use crate::passes::matching::{either_way, node_as, site_as, without_leading_ones};

pub(super) fn apply(site: &Site<'_>, editor: &mut Editor) -> Outcome {
    let (_, operands) = site_as!(site, Add).ok_or(NoMatch)?;
    for (conv, bias) in either_way(operands) {
        let Some((op, [x, w])) = node_as!(editor, conv, Conv) else {
            continue;
        };
        let (op, x, w) = (op.clone(), *x, *w);
        let mut wanted = site.ty.shape.clone();
        wanted[0] = 1.into();
        wanted[2..].fill(1.into());
        let fits = without_leading_ones(&editor.ty(bias).shape) == without_leading_ones(&wanted);
        if !fits || *editor.ty(conv) != *site.ty || !editor.used_once(conv) {
            continue;
        }
        let shape = vec![site.ty.shape[1].clone()];
        let vector = editor.push(Reshape { shape }, &[bias])?;
        let result = editor.push(op, &[x, w, vector])?;
        return Edit::of(result, format!("{bias} is added to {conv}"));
    }
    Err(NoMatch)
}
