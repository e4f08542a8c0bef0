//! What a region costs: arithmetic and bytes moved.
//!
//! Takes regions, gives counts that hold for every schedule: each buffer is read and stored
//! once. It knows no machine, so it gives no time.

use std::collections::BTreeMap;

use crate::graph::TensorType;
use crate::region::{Access, Anchor, Buffer, Node, Output, Region, Regions};
use crate::value::extents::Extents;

/// Operations per element for the moments of what is stored: two for the mean and three for the
/// sum of squared differences.
const MOMENTS_FLOPS: u64 = 5;

impl Regions {
    /// Floating-point operations, a multiply-add counted as two.
    pub fn flops(&self, region: &Region) -> u64 {
        let operands = &region.operands[..region.anchor_operands()];
        let read: u64 = operands.iter().map(|x| elements(&x.shape)).sum();
        let anchor = match (&region.anchor, region.anchor_type()) {
            (Anchor::Op { op, .. }, Some(result)) => {
                let types: Vec<TensorType> = operands.iter().map(Access::ty).collect();
                op.flops(&types, &result).counted()
            }
            (Anchor::Op { .. } | Anchor::Pointwise, _) => 0,
            (Anchor::Statistics { .. } | Anchor::MergeMoments { .. }, _) => read * MOMENTS_FLOPS,
        };
        let outputs = region.outputs.iter();
        anchor
            + outputs
                .map(|output| self.epilogue_flops(region, output))
                .sum::<u64>()
    }

    fn epilogue_flops(&self, region: &Region, output: &Output) -> u64 {
        let types = self.node_types(region, output);
        let shape = || output.domain.iter().copied();
        let flops = output
            .nodes
            .iter()
            .zip(&types)
            .map(|(node, &dtype)| match node {
                Node::Apply(op, operands) => {
                    let operands = operands.iter().map(|&n| TensorType::new(types[n], shape()));
                    let result = TensorType::new(dtype, shape());
                    op.flops(&operands.collect::<Vec<_>>(), &result).counted()
                }
                Node::Anchor(_) | Node::Read(_) | Node::Scalar(_) => 0,
            });
        let moments = output
            .moments
            .map_or(0, |_| elements(&output.domain) * MOMENTS_FLOPS);
        flops.sum::<u64>() + moments
    }

    /// Bytes read and stored; of a buffer that is read in part, that part.
    pub fn bytes(&self, region: &Region) -> u64 {
        let mut read: BTreeMap<Buffer, u64> = BTreeMap::new();
        for access in &region.operands {
            for piece in &access.pieces {
                // An axis that a piece does not read repeats the same elements.
                let axes = access.shape.iter().enumerate();
                let used = axes.filter(|(axis, _)| piece.index.iter().any(|i| i.uses(*axis)));
                let count = used.fold(1u64, |count, (_, &extent)| {
                    count.saturating_mul(extent as u64)
                });
                let count = count.saturating_mul(access.dtype.bytes() as u64);
                let sum = read.entry(piece.buffer).or_insert(0);
                *sum = sum.saturating_add(count);
            }
        }
        let read = read
            .into_iter()
            .map(|(buffer, count)| count.min(self.buffer_bytes(buffer)));
        let stored = region
            .stores()
            .into_iter()
            .map(|buffer| self.buffer_bytes(buffer));
        read.chain(stored).fold(0, u64::saturating_add)
    }

    /// Bytes of a buffer.
    pub fn buffer_bytes(&self, buffer: Buffer) -> u64 {
        let Extents { dtype, shape } = &self.buffer(buffer).extents;
        elements(shape).saturating_mul(dtype.bytes() as u64)
    }
}

fn elements(shape: &[usize]) -> u64 {
    shape.iter().map(|&extent| extent as u64).product()
}
