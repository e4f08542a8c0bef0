//! `winograd`: convolutions of 3×3 at stride 1 with fewer products.
//!
//! Takes such a convolution, returns programs for results of 2×2 (16 products instead of 36) and
//! 4×4 (36 instead of 144) at a time: input tiles are transformed as they are copied, every point
//! is a product of matrices, and the transform back runs before the epilogue. It rounds more than
//! a direct sum, by the error that the transforms' constants amplify, and its weights are larger.
//!
//! Source: Lavin and Gray 2015 (arXiv 1509.09308).

use crate::ops::{Conv, Op};
use crate::region::{Bound, Index, Region};
use crate::target::{Blocking, Target};
use crate::tile::contraction::{bordered, by_image};
use crate::tile::outputs::{Domain, OutputViews, outputs};
use crate::tile::programs::{Candidate, Parameters, cost, even};
use crate::tile::region_ref::RegionRef;
use crate::tile::view::{Axes, View};
use crate::tile::{BlockProgram, Origin, Step, Tile, TileId, Transform};

/// Taps of a kernel along one axis.
pub(super) const TAPS: usize = 3;

/// Results of a tile along one axis.
pub(super) const RESULTS: [usize; 2] = [2, 4];

/// Input tiles of a block at most, as multiples of a fragment's rows: many, since every block
/// reads all weights.
const ROWS: [usize; 5] = [2, 4, 8, 12, 20];

/// Columns of an accumulator at most, as multiples of a fragment: many, since every part reads
/// all transformed tiles.
const COLUMNS: usize = 10;

/// Products at the points of tiles.
pub(super) struct Products {
    pub(super) left: View,
    pub(super) right: View,
    pub(super) outputs: Vec<OutputViews>,
    pub(super) work: cost::Points,
}

/// Points of a tile that gives `results` along each axis.
pub(super) fn planes(results: usize) -> usize {
    (results + TAPS - 1).pow(2)
}

/// Whether it rounds more than direct sums.
pub(super) const ROUNDS_MORE: bool = true;

/// See the card.
///
/// # Errors
/// With the reason, when the region is no such convolution.
pub(super) fn candidates(region: RegionRef<'_>, target: &Target) -> Result<Vec<Candidate>, String> {
    let conv = suited(&region)?;
    let kept = kept(region);
    match target.compute.blocking {
        Blocking::Staged { .. } if !kept => return Err("the kernel is not a weight".to_owned()),
        Blocking::Staged { .. } | Blocking::Packed { .. } => {}
    }
    let stored = region.operands[1].shape.iter().product::<usize>();
    let stored = stored * region.operands[1].dtype.bytes();
    let [height, width] = target.compute.fragment;
    let mut found = Vec::new();
    for results in RESULTS {
        let work = products(region, conv, results)?.work;
        let filters = work.planes * work.columns * work.depth;
        let (added, ahead) = match kept {
            true => ((filters * size_of::<f32>()).saturating_sub(stored), 0.0),
            false => (0, cost::filters(filters, target)),
        };
        for most in ROWS.map(|count| count * height) {
            let block = [
                even(work.rows, most, 1),
                even(work.columns, COLUMNS * width, width),
            ];
            found.push(Candidate {
                seconds: cost::winograd(&work, block, target) + ahead,
                added_weight_bytes: added as u64,
                parameters: [results, block[0], block[1]],
            });
        }
    }
    Ok(found)
}

/// Whether kernels are transformed once: those that are computed, or given with each run, are
/// transformed for each launch, where right factors are packed ahead.
fn kept(region: RegionRef<'_>) -> bool {
    let mut pieces = region.operands[1].pieces.iter();
    pieces.all(|piece| region.regions.buffer(piece.buffer).is_fixed())
}

fn suited(region: &Region) -> Result<&Conv, String> {
    let Some(Op::Conv(conv)) = region.anchor.op() else {
        return Err("the anchor is not a convolution".to_owned());
    };
    let kernel = &region.operands[1].shape[2..];
    if kernel != [TAPS, TAPS] {
        return Err(format!("a kernel of {kernel:?}, wanted 3×3"));
    }
    is_plain(&conv.strides, &conv.dilations, conv.groups)?;
    Ok(conv)
}

/// Returns an error unless stride, dilation and groups are 1.
pub(super) fn is_plain(
    strides: &[usize],
    dilations: &[usize],
    groups: usize,
) -> Result<(), String> {
    let steps = [strides, dilations, &[groups]].concat();
    match steps.iter().all(|&step| step == 1) {
        true => Ok(()),
        false => Err("stride, dilation or groups are not 1".to_owned()),
    }
}

fn products(region: RegionRef<'_>, conv: &Conv, results: usize) -> Result<Products, String> {
    let (x, w) = (bordered(&region.operands[0])?, &region.operands[1]);
    let result = region.result()?;
    let (columns, depth) = (w.shape[0], w.shape[1]);
    if result.contains(&0) || depth == 0 {
        return Err("the result is empty".to_owned());
    }
    let images = usize::from(by_image(&region));
    let tiles = [2, 3].map(|axis| result[axis].div_ceil(results));
    let axes = |points: usize, columns: usize| Axes {
        batch: result[..images].to_vec(),
        planes: vec![points; 2],
        rows: [&result[images..1], &tiles[..]].concat(),
        columns: vec![columns],
    };
    let image = |axes: &Axes| match images {
        1 => axes.index(0),
        _ => axes.index(axes.first_row()),
    };
    // The place of a point on one of the two spatial axes.
    let place = |axes: &Axes, axis: usize| {
        let tile = axes.index(axes.first_column() - 2 + axis);
        let point = axes.index(axes.first_plane() + axis);
        tile.times(results as i64).add(&point)
    };
    let left = axes(results + TAPS - 1, depth);
    let mut walk = vec![image(&left), left.index(left.first_column())];
    let mut bounds = Vec::new();
    for axis in 0..2 {
        let place = place(&left, axis).plus(-(conv.pads_before[axis] as i64));
        bounds.push(Bound::new(&place, 0, x.shape[2 + axis] as i64));
        walk.push(place);
    }
    let right = Axes {
        batch: Vec::new(),
        planes: vec![TAPS; 2],
        rows: vec![columns],
        columns: vec![depth],
    };
    let taps = [2, 3, 0, 1].map(|axis| right.index(axis)).to_vec();
    let index = |axes: &Axes| {
        let places = [0, 1].map(|axis| place(axes, axis));
        let inside = places.iter().zip(&result[2..]);
        let inside = inside.map(|(place, &extent)| Bound::new(place, 0, extent as i64));
        let bounds: Vec<Bound> = inside.collect();
        let mut index: Vec<Index> = vec![image(axes), axes.index(axes.first_column())];
        index.extend(places);
        (index, bounds)
    };
    let domain = Domain::new(axes(results, columns), Some(1), &index);
    Ok(Products {
        outputs: outputs(region, &domain, 1)?,
        left: View::read(&x, &left, walk, bounds),
        right: View::read(w, &right, taps, Vec::new()),
        work: cost::Points {
            planes: planes(results),
            batch: left.batch.iter().product(),
            rows: left.rows.iter().product(),
            columns,
            depth,
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
        left: tiles,
        right: filters,
        outputs,
        work,
    } = products(region, suited(&region)?, results)?;
    let (left, right, acc) = (TileId(0), TileId(1), TileId(2));
    Ok(BlockProgram {
        program: "winograd",
        region: region.id,
        batch: work.batch,
        rows: work.rows,
        columns: work.columns,
        // A block has all columns, so that its input is transformed once.
        block: [rows, work.columns],
        tiles: vec![
            Tile::shared("v", rows, work.depth).with_planes(work.planes),
            Tile::shared("u", columns, work.depth).with_planes(work.planes),
            Tile::fragment("m", rows, columns).with_planes(work.planes),
        ],
        views: vec![tiles, filters],
        outputs,
        body: vec![
            Step::Copy {
                tile: left,
                view: 0,
                rows: Origin::Rows,
                columns: Origin::Zero,
                transform: Some(Transform::WinogradInput(results)),
            },
            Step::Loop {
                over: Origin::Columns,
                extent: work.columns,
                step: columns,
                stages: 1,
                body: vec![
                    Step::Copy {
                        tile: right,
                        view: 1,
                        rows: Origin::Columns,
                        columns: Origin::Zero,
                        transform: Some(Transform::WinogradWeight(results)),
                    },
                    Step::Zero { tile: acc },
                    Step::Mma { acc, left, right },
                    Step::Store {
                        tile: Some(acc),
                        transform: Some(Transform::WinogradOutput(results)),
                    },
                ],
            },
        ],
    })
}
