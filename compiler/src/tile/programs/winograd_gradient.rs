//! `winograd_gradient`: gradients of 3×3 kernels at stride 1 with fewer products.
//!
//! Takes the gradient of such a weight, returns programs for results of 2×2 and 4×4 at a time:
//! tiles of the image and of the gradient of what the convolution gave are transformed as they are
//! copied, every point is a product of matrices whose depth are the tiles of all images, and one
//! transform of the sums gives the taps. It is `winograd` transposed, and rounds as much.
//!
//! Source: Lavin and Gray 2015 (arXiv 1509.09308), section 4; the gradient of their eq. 8.

use crate::ops::{ConvWeightGradient, Op};
use crate::region::{Bound, Index, Region};
use crate::target::{Blocking, Target};
use crate::tile::contraction::{bordered, by_image};
use crate::tile::outputs::{Domain, outputs};
use crate::tile::programs::winograd::{Products, RESULTS, TAPS, is_plain, planes};
use crate::tile::programs::{Candidate, Parameters, cost, even};
use crate::tile::region_ref::RegionRef;
use crate::tile::view::{Axes, View};
use crate::tile::{BlockProgram, Origin, Step, Tile, TileId, Transform};

/// Features of a block at most, as a multiple of a fragment's rows.
const ROWS: usize = 12;

/// Channels of a block at most, as multiples of a fragment's columns.
const COLUMNS: [usize; 3] = [1, 2, 4];

/// Points of a part of both factors at most: they stay near.
const POINTS: usize = 1 << 17;

/// Whether it rounds more than direct sums.
pub(super) const ROUNDS_MORE: bool = true;

/// See the card.
///
/// # Errors
/// With the reason, when the region is no such gradient, or the target transforms no tiles.
pub(super) fn candidates(region: RegionRef<'_>, target: &Target) -> Result<Vec<Candidate>, String> {
    let gradient = suited(&region)?;
    match target.compute.blocking {
        Blocking::Packed { .. } => {}
        Blocking::Staged { .. } => {
            return Err("accumulators that stay in registers hold no points".to_owned());
        }
    }
    let [height, width] = target.compute.fragment;
    let mut found = Vec::new();
    for results in RESULTS {
        let work = products(region, gradient, results)?.work;
        let rows = even(work.rows, ROWS * height, 1);
        for most in COLUMNS.map(|count| count * width) {
            let parameters = [results, rows, even(work.columns, most, width)];
            let block = [rows, parameters[2], depth(&work, parameters)];
            let seconds = cost::gradient(&work, block, target);
            found.push(Candidate::new(parameters, seconds));
        }
    }
    Ok(found)
}

/// Tiles of a part of the depth.
fn depth(work: &cost::Points, [_, rows, columns]: Parameters) -> usize {
    let most = POINTS / (work.planes * (rows + columns)).max(1);
    even(work.depth, most.clamp(8, 128), 1)
}

fn suited(region: &Region) -> Result<&ConvWeightGradient, String> {
    let Some(Op::ConvWeightGradient(gradient)) = region.anchor.op() else {
        return Err("the anchor is not a gradient of a weight".to_owned());
    };
    if gradient.kernel != [TAPS, TAPS] {
        return Err(format!("a kernel of {:?}, wanted 3×3", gradient.kernel));
    }
    if by_image(region) {
        return Err("side reductions of a weight".to_owned());
    }
    is_plain(&gradient.strides, &gradient.dilations, gradient.groups)?;
    Ok(gradient)
}

fn products(
    region: RegionRef<'_>,
    gradient: &ConvWeightGradient,
    results: usize,
) -> Result<Products, String> {
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
    let made = Axes {
        batch: Vec::new(),
        planes: vec![TAPS; 2],
        rows: vec![rows],
        columns: vec![columns],
    };
    let domain = Domain::new(made, Some(1), &index);
    Ok(Products {
        outputs: outputs(region, &domain, 1)?,
        left: view(&dr, &left, positions, [0; 2]),
        right: view(&x, &right, &x.shape[2..], before),
        work: cost::Points {
            planes: planes(results),
            batch: 1,
            rows,
            columns,
            depth: left.columns.iter().product(),
            results: results * results,
        },
    })
}

/// The program for these parameters.
///
/// # Errors
/// As [`candidates`].
pub(super) fn program(
    region: RegionRef<'_>,
    parameters: Parameters,
) -> Result<BlockProgram, String> {
    let [results, rows, columns] = parameters;
    let Products {
        left: changes,
        right: image,
        outputs,
        work,
    } = products(region, suited(&region)?, results)?;
    let depth = depth(&work, parameters);
    let tile = |tile: Tile| tile.with_planes(work.planes);
    let (left, right, acc) = (TileId(0), TileId(1), TileId(2));
    let copy = |tile, view, rows, transform| Step::Copy {
        tile,
        view,
        rows,
        columns: Origin::Depth,
        transform: Some(transform),
    };
    let body = vec![
        copy(left, 0, Origin::Rows, Transform::WinogradGradient(results)),
        copy(right, 1, Origin::Columns, Transform::WinogradInput(results)),
        Step::Mma { acc, left, right },
    ];
    Ok(BlockProgram {
        program: "winograd_gradient",
        region: region.id,
        batch: 1,
        rows: work.rows,
        columns: work.columns,
        block: [rows, columns],
        tiles: vec![
            tile(Tile::shared("y", rows, depth)),
            tile(Tile::shared("v", columns, depth)),
            tile(Tile::fragment("m", rows, columns)),
        ],
        views: vec![changes, image],
        outputs,
        body: vec![
            Step::Zero { tile: acc },
            Step::repeat(Origin::Depth, work.depth, depth, 1, body),
            Step::Store {
                tile: Some(acc),
                transform: Some(Transform::WinogradWeightGradient(results)),
            },
        ],
    })
}
