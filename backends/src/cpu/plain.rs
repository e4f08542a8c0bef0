//! Plain loops: regions that no tile program computes.
//!
//! Takes a region and the buffers of a run, stores what the oracle of regions gives. Such regions
//! work on integers, truth values and 64-bit floats, or are rare; all are small in a model.

use std::collections::BTreeMap;

use compiler::value::array::{Array, Precision};

use compiler::graph::eval::EvalError;
use compiler::region::{Buffer, Region, Regions, eval_region};
use compiler::value::tensor::Tensor;

use super::arena::Cells;

/// Computes one region.
///
/// # Errors
/// When the data lies outside of an operator's domain.
pub(crate) fn run(regions: &Regions, region: &Region, cells: &[Cells]) -> Result<(), EvalError> {
    let read = region.reads().into_iter();
    let read = read.map(|buffer| (buffer, array(regions, buffer, cells)));
    let arrays: BTreeMap<Buffer, Array> = read.collect();
    let stored = eval_region(
        regions,
        region,
        &|buffer| &arrays[&buffer],
        Precision::Typed,
    )?;
    for (buffer, array) in stored {
        let data = regions.buffer(buffer);
        let values = Tensor::from_values(data.extents.dtype, &array.shape, &array.values);
        let own = values.permuted(&data.order);
        cells[buffer.0 as usize].fill(own.bytes());
    }
    Ok(())
}

/// A buffer in row-major order.
fn array(regions: &Regions, buffer: Buffer, cells: &[Cells]) -> Array {
    let data = regions.buffer(buffer);
    let shape = &data.extents.shape;
    let bytes = cells[buffer.0 as usize].to_bytes();
    let stored: Vec<usize> = data.order.iter().map(|&axis| shape[axis]).collect();
    let tensor = Tensor::new(data.extents.dtype, stored, bytes.into());
    let tensor = tensor.expect("a buffer has the bytes of its extents");
    // Axis `a` lies at the place that the order names.
    let back: Vec<usize> = (0..shape.len())
        .map(|axis| {
            data.order
                .iter()
                .position(|&own| own == axis)
                .unwrap_or(axis)
        })
        .collect();
    Array::from(&tensor.permuted(&back))
}
