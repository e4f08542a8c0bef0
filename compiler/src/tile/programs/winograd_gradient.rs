//! `winograd_gradient`: gradients of 3×3 kernels at stride 1 with fewer products.
//!
//! Takes the gradient of such a weight, gives programs for results of 2×2 and 4×4 at a time: tiles of
//! the image and of the gradient of what the convolution gave are transformed as they are copied,
//! every point is a product of matrices whose depth are the tiles of all images, and one transform of
//! the sums gives the taps. It is `winograd` transposed, and rounds as much.
//!
//! Source: Lavin and Gray 2015 (arXiv 1509.09308), section 4; the gradient of their eq. 8.

use crate::ops::{ConvWeightGradient, Op};
use crate::region::{Anchor, Bound, Index, Region, RegionId, Regions};
use crate::target::Target;
use crate::tile::contraction::{bordered, by_image};
use crate::tile::outputs::{Domain, OutputViews, outputs};
use crate::tile::programs::gemm::even;
use crate::tile::programs::{Candidate, Parameters, cost};
use crate::tile::view::{Axes, View};
use crate::tile::{BlockProgram, Origin, Scope, Step, Tile, TileId, Transform};

/// Taps of a kernel along one axis.
const TAPS: usize = 3;

/// Results of a tile along one axis.
const RESULTS: [usize; 2] = [2, 4];

/// Features of a block at most, as a multiple of a fragment's rows.
const ROWS: usize = 12;

/// Channels of a block at most, as multiples of a fragment's columns.
const COLUMNS: [usize; 3] = [1, 2, 4];

/// Points of a part of both factors at most: they stay near.
const POINTS: usize = 1 << 17;

/// The gradient of a weight as products at the points of tiles.
struct Points {
    left: View,
    right: View,
    outputs: Vec<OutputViews>,
    rows: usize,
    columns: usize,
    depth: usize,
}

/// Whether it rounds more than direct sums.
pub(super) const ROUNDS_MORE: bool = true;

/// See the card.
///
/// # Errors
/// With the reason, when the region is no such gradient, or the target transforms no tiles.
pub(super) fn candidates(
    regions: &Regions,
    region: &Region,
    target: &Target,
) -> Result<Vec<Candidate>, String> {
    let gradient = suited(region)?;
    if target.blocks.registers.is_some() {
        return Err("accumulators that stay in registers hold no points".to_owned());
    }
    let mut found = Vec::new();
    for results in RESULTS {
        let points = points(regions, region, gradient, results)?;
        let rows = even(points.rows, ROWS * target.fragment[0], 1);
        for most in COLUMNS.map(|count| count * target.fragment[1]) {
            let columns = even(points.columns, most, target.fragment[1]);
            let work = cost::Points {
                planes: (results + TAPS - 1).pow(2),
                batch: 1,
                rows: points.rows,
                columns: points.columns,
                depth: points.depth,
                results: results * results,
            };
            let block = [rows, columns, depth(&points, [results, rows, columns])];
            found.push(Candidate {
                seconds: cost::gradient(&work, block, target),
                added_weight_bytes: 0,
                parameters: [results, rows, columns],
            });
        }
    }
    Ok(found)
}

/// Tiles of a part of the depth.
fn depth(points: &Points, [results, rows, columns]: Parameters) -> usize {
    let planes = (results + TAPS - 1).pow(2);
    let most = POINTS / (planes * (rows + columns)).max(1);
    even(points.depth, most.clamp(8, 128), 1)
}

fn suited(region: &Region) -> Result<&ConvWeightGradient, String> {
    let Anchor::Op {
        op: Op::ConvWeightGradient(gradient),
        ..
    } = &region.anchor
    else {
        return Err("the anchor is no gradient of a weight".to_owned());
    };
    if gradient.kernel != [TAPS, TAPS] {
        return Err(format!("a kernel of {:?}, wanted 3×3", gradient.kernel));
    }
    if by_image(region) {
        return Err("side reductions of a weight".to_owned());
    }
    let steps = [
        &gradient.strides[..],
        &gradient.dilations,
        &[gradient.groups],
    ]
    .concat();
    match steps.iter().all(|&step| step == 1) {
        true => Ok(gradient),
        false => Err("stride, dilation or groups are not 1".to_owned()),
    }
}

fn points(
    regions: &Regions,
    region: &Region,
    gradient: &ConvWeightGradient,
    results: usize,
) -> Result<Points, String> {
    let (x, dr) = (
        bordered(&region.operands[0])?,
        bordered(&region.operands[1])?,
    );
    let (columns, rows) = (x.shape[1], dr.shape[1]);
    let positions = &dr.shape[2..];
    if [columns, rows, dr.shape[0]].contains(&0) {
        return Err("the result or the sum is empty".to_owned());
    }
    let tiles = [0, 1].map(|axis| positions[axis].div_ceil(results));
    let axes = |points: usize, rows: usize| Axes {
        batch: Vec::new(),
        planes: vec![points; 2],
        rows: vec![rows],
        columns: [&dr.shape[..1], &tiles[..]].concat(),
    };
    // The view of one factor, whose border comes `before` the first tile.
    let view = |access, axes: &Axes, extents: &[usize], before: [usize; 2]| {
        let mut walk = vec![axes.index(3), axes.index(2)];
        let mut bounds = Vec::new();
        for axis in 0..2 {
            let tile = axes.index(4 + axis).times(results as i64);
            let place = tile.add(&axes.index(axis)).plus(-(before[axis] as i64));
            bounds.push(Bound::new(&place, 0, extents[axis] as i64));
            walk.push(place);
        }
        View::read(access, axes, walk, bounds)
    };
    let left = axes(results, rows);
    let right = axes(results + TAPS - 1, columns);
    let before = [0, 1].map(|axis| gradient.pads_before[axis]);
    let index = |axes: &Axes| {
        let index: Vec<Index> = [2, 3, 0, 1].map(|axis| axes.index(axis)).to_vec();
        (index, Vec::new())
    };
    let domain = Domain {
        axes: Axes {
            batch: Vec::new(),
            planes: vec![TAPS; 2],
            rows: vec![rows],
            columns: vec![columns],
        },
        column: Some(1),
        index: &index,
    };
    Ok(Points {
        outputs: outputs(regions, region, &domain, 1)?,
        left: view(&dr, &left, positions, [0; 2]),
        right: view(&x, &right, &x.shape[2..], before),
        rows,
        columns,
        depth: left.columns.iter().product(),
    })
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
    let [results, rows, columns] = parameters;
    let points = points(regions, region, suited(region)?, results)?;
    let depth = depth(&points, parameters);
    let planes = (results + TAPS - 1).pow(2);
    let tile = |name, scope, rows, columns| Tile {
        name,
        scope,
        planes,
        rows,
        columns,
    };
    let (left, right, acc) = (TileId(0), TileId(1), TileId(2));
    let copy = |tile, view, rows, transform| Step::Copy {
        tile,
        view,
        rows,
        columns: Origin::Depth,
        transform: Some(transform),
    };
    Ok(BlockProgram {
        program: "winograd_gradient",
        region: id,
        batch: 1,
        rows: points.rows,
        columns: points.columns,
        block: [rows, columns],
        tiles: vec![
            tile("y", Scope::Shared, rows, depth),
            tile("v", Scope::Shared, columns, depth),
            tile("m", Scope::Fragment, rows, columns),
        ],
        views: vec![points.left, points.right],
        outputs: points.outputs,
        body: vec![
            Step::Zero { tile: acc },
            Step::Loop {
                over: Origin::Depth,
                extent: points.depth,
                step: depth,
                stages: 1,
                body: vec![
                    copy(left, 0, Origin::Rows, Transform::WinogradGradient(results)),
                    copy(right, 1, Origin::Columns, Transform::WinogradInput(results)),
                    Step::Mma { acc, left, right },
                ],
            },
            Step::Store {
                tile: Some(acc),
                transform: Some(Transform::WinogradWeightGradient(results)),
            },
        ],
    })
}
