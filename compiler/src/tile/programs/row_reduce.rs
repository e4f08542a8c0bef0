//! `row_reduce`: norms and softmax, which need rows whole, and the merge of moments.
//!
//! Takes a region whose anchor normalises rows by what it reduced, returns the program in which a
//! block has some rows whole. Rows that come to a few numbers are folded instead, part by part.

use crate::DType;
use crate::ops::Op;
use crate::region::{Access, Anchor, Index, Region};
use crate::target::{Blocking, Target};
use crate::tile::outputs::{Domain, is_on_elements, outputs};
use crate::tile::programs::{Candidate, Parameters, cost, even};
use crate::tile::region_ref::RegionRef;
use crate::tile::view::{Axes, View};
use crate::tile::{BlockProgram, Origin, Step, Tile, TileId};

/// Whether it rounds more than direct sums.
pub(super) const ROUNDS_MORE: bool = false;

/// See the card.
///
/// # Errors
/// With the reason, when the anchor reduces no rows or its epilogue is not element by element.
pub(super) fn candidates(region: RegionRef<'_>, target: &Target) -> Result<Vec<Candidate>, String> {
    let suited = suited(&region)?;
    if suited.to.share.is_some() && matches!(target.compute.blocking, Blocking::Packed { .. }) {
        return Err("whole groups are for blocks that stage their rows".to_owned());
    }
    let width: usize = suited.from.columns().iter().product();
    let count: usize = suited.to.axes.rows.iter().product();
    let share = count.div_ceil(target.compute.threads.max(1));
    let most = (target.compute.near_bytes / (4 * size_of::<f32>()) / width.max(1)).max(1);
    let block = even(count, most.min(share).max(1), 1);
    let seconds = cost::bytes(region, target);
    Ok(vec![Candidate::new([block, 1, 1], seconds)])
}

/// The program for these parameters.
///
/// # Errors
/// As [`candidates`].
pub(super) fn program(
    region: RegionRef<'_>,
    parameters: Parameters,
) -> Result<BlockProgram, String> {
    let Suited { from, to } = suited(&region)?;
    let [block, ..] = parameters;
    let index = |axes: &Axes| ((to.index)(axes), Vec::new());
    let domain = Domain {
        share: to.share,
        ..Domain::new(to.axes.clone(), None, &index)
    };
    let mut views = vec![from];
    for parameter in &region.operands[1..region.anchor_operands()] {
        let axes = Axes {
            columns: parameter.shape.clone(),
            ..Axes::default()
        };
        views.push(View::read(parameter, &axes, axes.walk(), Vec::new()));
    }
    let width: usize = views[0].columns().iter().product();
    let count: usize = to.axes.rows.iter().product();
    let columns: usize = to.axes.columns.iter().product();
    let (whole, made) = (TileId(0), TileId(1));
    Ok(BlockProgram {
        program: "row_reduce",
        region: region.id,
        batch: 1,
        rows: count,
        columns,
        block: [block, columns],
        tiles: vec![
            Tile::shared("x", block, width),
            Tile::shared("y", block, columns),
        ],
        outputs: outputs(region, &domain, 1)?,
        views,
        body: vec![
            Step::copy(whole, 0, Origin::Rows, Origin::Zero),
            Step::Rows {
                from: whole,
                to: made,
            },
            Step::store(made),
        ],
    })
}

/// The operand's rows and what they become.
struct Suited {
    from: View,
    to: Made,
}

fn suited(region: &Region) -> Result<Suited, String> {
    let x = region.operands.first().ok_or("no operand")?;
    if !x.dtype.is_float() || x.dtype == DType::F64 || x.shape.contains(&0) {
        return Err(format!("rows of {}, wanted f32, f16 or bf16", x.dtype));
    }
    let rank = x.shape.len();
    let (from, to) = match &region.anchor {
        Anchor::Op { op, .. } => match op {
            Op::LayerNorm(norm) => rows(x, (rank - norm.axes..rank).collect()),
            Op::Softmax(softmax) => rows(x, vec![softmax.axis]),
            other => return Err(format!("{} normalises no rows", other.name())),
        },
        Anchor::MergeMoments { groups, .. } => merged(x, x.shape[1] / groups),
        Anchor::Statistics { groups, .. } => whole(region, x, x.shape[1] / groups)?,
        Anchor::Pointwise => return Err("nothing is reduced".to_owned()),
    };
    Ok(Suited { from, to })
}

/// The index in an anchor's result, in the axes of a program.
type Place = Box<dyn Fn(&Axes) -> Vec<Index>>;

/// The axes of what the rows become, and the index in the anchor's result.
struct Made {
    axes: Axes,
    index: Place,
    /// See [`Domain::share`].
    share: Option<usize>,
}

/// Rows are what the columns leave; each gives as many columns as it has.
fn rows(x: &Access, columns: Vec<usize>) -> (View, Made) {
    let rank = x.shape.len();
    let kept: Vec<usize> = (0..rank).filter(|axis| !columns.contains(axis)).collect();
    let extents = |axes: &[usize]| axes.iter().map(|&axis| x.shape[axis]).collect::<Vec<_>>();
    let axes = Axes {
        rows: extents(&kept),
        columns: extents(&columns),
        ..Axes::default()
    };
    let order = [&kept[..], &columns].concat();
    let index = move |axes: &Axes| {
        let place = |axis: usize| order.iter().position(|&own| own == axis);
        let walk = (0..rank).map(|axis| place(axis).map(|place| axes.index(place)));
        let walk = walk.map(|index| index.unwrap_or(Index::constant(0)));
        walk.collect::<Vec<Index>>()
    };
    let view = View::read(x, &axes, index(&axes), Vec::new());
    let made = Made {
        axes,
        index: Box::new(index),
        share: None,
    };
    (view, made)
}

/// A row has the moments of one group of one image, means first; it gives mean and factor.
fn merged(x: &Access, share: usize) -> (View, Made) {
    let axes = grouped(x, share);
    let view = View::read(x, &axes, in_group(&axes, share), Vec::new());
    let made = Axes {
        columns: vec![2],
        ..axes
    };
    let index = |axes: &Axes| (0..3).map(|axis| axes.index(axis)).collect();
    let made = Made {
        axes: made,
        index: Box::new(index),
        share: None,
    };
    (view, made)
}

/// A row has one group of one image, and each element meets mean and factor of its group.
///
/// # Errors
/// With the reason, when the statistics themselves are wanted.
fn whole(region: &Region, x: &Access, share: usize) -> Result<(View, Made), String> {
    let mut outputs = region.outputs.iter();
    if !is_on_elements(region) || !outputs.all(|output| output.domain == x.shape) {
        return Err("statistics are folded".to_owned());
    }
    let axes = grouped(x, share);
    let view = View::read(x, &axes, in_group(&axes, share), Vec::new());
    let made = Made {
        axes,
        index: Box::new(move |axes| in_group(axes, share)),
        share: Some(share),
    };
    Ok((view, made))
}

/// Rows are groups of images; their elements channels last.
fn grouped(x: &Access, share: usize) -> Axes {
    Axes {
        rows: vec![x.shape[0], x.shape[1] / share.max(1)],
        columns: [&x.shape[2..], &[share]].concat(),
        ..Axes::default()
    }
}

/// The index of a group's element in the operand.
fn in_group(axes: &Axes, share: usize) -> Vec<Index> {
    let rest = axes.columns.len() - 1;
    let channel = axes.index(1).times(share as i64);
    let mut walk = vec![axes.index(0), channel.add(&axes.index(2 + rest))];
    walk.extend((0..rest).map(|axis| axes.index(2 + axis)));
    walk
}
