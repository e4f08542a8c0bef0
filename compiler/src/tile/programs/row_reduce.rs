//! `row_reduce`: norms, softmax and reductions of whole rows.
//!
//! Takes a region whose anchor reduces rows, or normalises them by what it reduced, gives the
//! program in which a block has some rows whole. The merge of moments is one of them.

use crate::DType;
use crate::ops::Op;
use crate::region::{Access, Anchor, Index, Region, RegionId, Regions};
use crate::target::Target;
use crate::tile::outputs::{Domain, outputs};
use crate::tile::programs::gemm::even;
use crate::tile::programs::{Candidate, Parameters, cost};
use crate::tile::view::{Axes, View};
use crate::tile::{BlockProgram, Origin, Scope, Step, Tile, TileId};

/// Which axes of the operand make a row.
struct Reduced {
    /// Axes of the operand that are columns, in the order of the view.
    columns: Vec<usize>,
    /// Channels of the second axis that share a row, for statistics of groups.
    share: Option<usize>,
    /// Whether a row gives as many columns as it has.
    kept: bool,
}

/// Whether it rounds more than direct sums.
pub(super) const ROUNDS_MORE: bool = false;

/// See the card.
///
/// # Errors
/// With the reason, when the anchor reduces no rows or its epilogue is not element by element.
pub(super) fn candidates(
    regions: &Regions,
    region: &Region,
    target: &Target,
) -> Result<Vec<Candidate>, String> {
    let suited = suited(region)?;
    let width: usize = suited.from.columns().iter().product();
    let count: usize = suited.to.axes.rows.iter().product();
    let share = count.div_ceil(target.threads.max(1));
    let most = (target.shared_bytes / (4 * size_of::<f32>()) / width.max(1)).max(1);
    let block = even(count, most.min(share).max(1), 1);
    Ok(vec![Candidate {
        seconds: cost::bytes(regions, region, target),
        added_weight_bytes: 0,
        parameters: [block, 1, 1],
    }])
}

/// The program for these parameters.
///
/// # Errors
/// As [`candidates`].
pub(super) fn program(
    regions: &Regions,
    id: RegionId,
    region: &Region,
    parameters: Parameters,
) -> Result<BlockProgram, String> {
    let Suited { from, to } = suited(region)?;
    let [block, ..] = parameters;
    let index = |axes: &Axes| ((to.index)(axes), Vec::new());
    let domain = Domain {
        axes: to.axes.clone(),
        column: None,
        index: &index,
    };
    let mut views = vec![from];
    for parameter in &region.operands[1..region.anchor_operands()] {
        let axes = Axes {
            columns: parameter.shape.clone(),
            ..Axes::default()
        };
        let index = (0..parameter.shape.len()).map(|axis| axes.index(axis));
        views.push(View::read(parameter, &axes, index.collect(), Vec::new()));
    }
    let width: usize = views[0].columns().iter().product();
    let count: usize = to.axes.rows.iter().product();
    let columns: usize = to.axes.columns.iter().product();
    let tile = |name, columns| Tile {
        name,
        scope: Scope::Shared,
        planes: 1,
        rows: block,
        columns,
    };
    let (whole, made) = (TileId(0), TileId(1));
    Ok(BlockProgram {
        program: "row_reduce",
        region: id,
        batch: 1,
        rows: count,
        columns,
        block: [block, columns],
        tiles: vec![tile("x", width), tile("y", columns)],
        outputs: outputs(regions, region, &domain, 1)?,
        views,
        body: vec![
            Step::Copy {
                tile: whole,
                view: 0,
                rows: Origin::Rows,
                columns: Origin::Zero,
                transform: None,
            },
            Step::Rows {
                from: whole,
                to: made,
            },
            Step::Store {
                tile: Some(made),
                transform: None,
            },
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
    let reduced = reduced(region, x)?;
    let result = region.anchor_type().and_then(|ty| ty.extents());
    let result = result.ok_or("the anchor has no result")?;
    let (from, to) = match reduced.share {
        Some(share) => groups(x, share),
        None => rows(x, &reduced, &result),
    };
    Ok(Suited { from, to })
}

fn reduced(region: &Region, x: &Access) -> Result<Reduced, String> {
    let rank = x.shape.len();
    let plain = |columns: Vec<usize>, kept| Reduced {
        columns,
        share: None,
        kept,
    };
    match &region.anchor {
        Anchor::Op { op, .. } => match op {
            Op::LayerNorm(norm) => Ok(plain((rank - norm.axes..rank).collect(), true)),
            Op::Softmax(softmax) => Ok(plain(vec![softmax.axis], true)),
            Op::ReduceMax(reduce) => Ok(plain(reduce.axes.clone(), false)),
            Op::ReduceMean(reduce) => Ok(plain(reduce.axes.clone(), false)),
            Op::ReduceSum(reduce) => Ok(plain(reduce.axes.clone(), false)),
            other => Err(format!("{} reduces no rows", other.name())),
        },
        Anchor::Statistics { groups, .. } => Ok(Reduced {
            columns: (2..rank).collect(),
            share: Some(x.shape[1] / groups),
            kept: false,
        }),
        Anchor::MergeMoments { groups, .. } => Ok(Reduced {
            columns: Vec::new(),
            share: Some(x.shape[1] / groups),
            kept: false,
        }),
        Anchor::Pointwise => Err("nothing is reduced".to_owned()),
    }
}

/// The index in an anchor's result, in the axes of a program.
type Place = Box<dyn Fn(&Axes) -> Vec<Index>>;

/// The axes of what the rows become, and the index in the anchor's result.
struct Made {
    axes: Axes,
    index: Place,
}

/// Rows are what the columns leave.
fn rows(x: &Access, reduced: &Reduced, result: &[usize]) -> (View, Made) {
    let rank = x.shape.len();
    let kept: Vec<usize> = (0..rank).filter(|a| !reduced.columns.contains(a)).collect();
    let extents = |axes: &[usize]| axes.iter().map(|&axis| x.shape[axis]).collect::<Vec<_>>();
    let axes = Axes {
        rows: extents(&kept),
        columns: extents(&reduced.columns),
        ..Axes::default()
    };
    let order = [&kept[..], &reduced.columns].concat();
    let place = move |axis: usize| order.iter().position(|&own| own == axis);
    let walk = (0..rank).map(|axis| place(axis).map_or(Index::constant(0), |a| axes.index(a)));
    let view = View::read(x, &axes, walk.collect(), Vec::new());
    let made = match reduced.kept {
        true => {
            let index = move |axes: &Axes| {
                let walk = (0..rank).map(|axis| place(axis).map(|a| axes.index(a)));
                walk.map(|index| index.unwrap_or(Index::constant(0)))
                    .collect()
            };
            let index: Place = Box::new(index);
            Made { axes, index }
        }
        false => {
            // The result lacks the reduced axes, or has them with one element.
            let removed = result.len() < rank;
            let columns = reduced.columns.clone();
            let index = move |axes: &Axes| {
                let left = (0..rank).filter(|axis| !(removed && columns.contains(axis)));
                let walk = left.map(|axis| kept.iter().position(|&own| own == axis));
                let walk = walk.map(|place| place.map_or(Index::constant(0), |a| axes.index(a)));
                walk.collect()
            };
            let axes = Axes {
                columns: vec![1],
                ..axes
            };
            let index: Place = Box::new(index);
            Made { axes, index }
        }
    };
    (view, made)
}

/// A row has the channels of one group of one image, and gives mean and factor.
fn groups(x: &Access, share: usize) -> (View, Made) {
    let count = x.shape[1] / share.max(1);
    let rest = &x.shape[2..];
    let axes = Axes {
        rows: vec![x.shape[0], count],
        columns: [rest, &[share]].concat(),
        ..Axes::default()
    };
    let channel = axes.index(1).times(share as i64);
    let mut walk = vec![axes.index(0), channel.add(&axes.index(2 + rest.len()))];
    walk.extend((0..rest.len()).map(|axis| axes.index(2 + axis)));
    let view = View::read(x, &axes, walk, Vec::new());
    let made = Axes {
        columns: vec![2],
        ..axes
    };
    let index = |axes: &Axes| (0..3).map(|axis| axes.index(axis)).collect();
    let made = Made {
        axes: made,
        index: Box::new(index),
    };
    (view, made)
}
