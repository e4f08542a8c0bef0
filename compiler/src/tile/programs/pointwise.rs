//! `pointwise`: everything that is element by element, and copies that change an order.
//!
//! Takes a region without an anchor, returns the program whose columns are the elements that lie
//! next to each other where they are stored.

use crate::region::{Anchor, Index, Output, Region, Regions};
use crate::target::Target;
use crate::tile::outputs::{Domain, outputs};
use crate::tile::programs::{Candidate, Parameters, cost, even};
use crate::tile::region_ref::RegionRef;
use crate::tile::view::Axes;
use crate::tile::{BlockProgram, Step};

/// Whether it rounds more than direct sums.
pub(super) const ROUNDS_MORE: bool = false;

/// See the card.
///
/// # Errors
/// With the reason, when the region has an anchor or other types than f32, f16 and bf16.
pub(super) fn candidates(region: RegionRef<'_>, target: &Target) -> Result<Vec<Candidate>, String> {
    let (rows, columns) = extents(region.regions, suited(&region)?);
    let share = rows.div_ceil(target.compute.threads.max(1));
    let most = (target.compute.blocks.elements / columns.max(1))
        .max(1)
        .min(share);
    // A row that is too long for a block, such as all parameters of a network, is cut too.
    let wide = even(
        columns,
        target.compute.blocks.elements,
        target.compute.fragment[1],
    )
    .min(columns);
    let seconds = cost::bytes(region, target);
    Ok(vec![Candidate::new(
        [even(rows, most, 1), wide, 1],
        seconds,
    )])
}

/// The program for these parameters.
///
/// # Errors
/// As [`candidates`].
pub(super) fn program(
    region: RegionRef<'_>,
    parameters: Parameters,
) -> Result<BlockProgram, String> {
    let output = suited(&region)?;
    let order = order(region.regions, output);
    let (rows, columns) = extents(region.regions, output);
    let axes = match order.split_last() {
        Some((&column, rows)) => Axes {
            rows: rows.iter().map(|&axis| output.domain[axis]).collect(),
            columns: vec![output.domain[column]],
            ..Axes::default()
        },
        None => Axes::default(),
    };
    let index = |axes: &Axes| {
        let mut index = vec![Index::constant(0); order.len()];
        for (place, &own) in order.iter().enumerate() {
            index[own] = axes.index(place);
        }
        (index, Vec::new())
    };
    let domain = Domain::new(axes, None, &index);
    Ok(BlockProgram {
        program: "pointwise",
        region: region.id,
        batch: 1,
        rows,
        columns,
        block: [parameters[0], parameters[1]],
        tiles: Vec::new(),
        views: Vec::new(),
        outputs: outputs(region, &domain, 1)?,
        body: vec![Step::Store {
            tile: None,
            transform: None,
        }],
    })
}

fn suited(region: &Region) -> Result<&Output, String> {
    let output = &region.outputs[0];
    match region.anchor == Anchor::Pointwise {
        false => Err("there is an anchor".to_owned()),
        true if output.domain.contains(&0) => Err("the result is empty".to_owned()),
        true => Ok(output),
    }
}

/// Rows and columns of the domain.
fn extents(regions: &Regions, output: &Output) -> (usize, usize) {
    let order = order(regions, output);
    let columns = order.last().map_or(1, |&axis| output.domain[axis]);
    (output.domain.iter().product::<usize>() / columns, columns)
}

/// The axes of the domain as they are stored, outermost first.
fn order(regions: &Regions, output: &Output) -> Vec<usize> {
    let strides = regions.buffer(output.buffer).strides();
    let zero = vec![0; output.domain.len()];
    let mut axes: Vec<(i64, usize)> = (0..output.domain.len())
        .map(|axis| {
            // How far the second element of the axis is from the first.
            let mut second = zero.clone();
            second[axis] = usize::from(output.domain[axis] > 1);
            let place = |at: &[usize]| {
                let walk = output.store.iter().zip(&strides);
                walk.map(|(index, &stride)| index.at(at) * stride as i64)
                    .sum::<i64>()
            };
            let distance = match output.domain[axis] {
                1 => i64::MAX,
                _ => (place(&second) - place(&zero)).abs(),
            };
            (-distance, axis)
        })
        .collect();
    axes.sort_unstable();
    axes.into_iter().map(|(_, axis)| axis).collect()
}
