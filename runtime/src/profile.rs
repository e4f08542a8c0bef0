//! Profiles: the time of each region of a run, summed by kernel, beside what the kernel has to do.
//!
//! Takes a program and measured times, gives rows with FLOPs, bytes and predictions. It reads no
//! clock.

use std::collections::BTreeMap;

use backends::clock::RegionTime;
use backends::cpu::Ceilings;
use compiler::graph::TensorType;
use compiler::program::Executable;
use compiler::region::{Anchor, Key, Region};
use compiler::tile::{Choice, Tiled};

/// All regions of one key: one kernel.
#[derive(Debug, Clone, PartialEq)]
pub struct KernelRow {
    /// The operator of the anchor, or what else the region does.
    pub operator: &'static str,
    /// The tile program; `plain` without one.
    pub program: &'static str,
    /// Rows and columns of a block.
    pub block: [usize; 2],
    /// The types of the anchor's operands, or of all operands without an anchor.
    pub operands: Vec<TensorType>,
    /// The type of what is stored first.
    pub result: TensorType,
    /// The number of calls.
    pub calls: u64,
    /// Seconds of all calls.
    pub seconds: f64,
    /// Floating-point operations of all calls, a multiply-add counted as two.
    pub flops: u64,
    /// Those of products as they are executed: fewer through Winograd's transforms; 0 without any.
    pub product_flops: u64,
    /// Bytes that all calls read and write at least: each buffer once.
    pub bytes: u64,
    /// Seconds of all calls, as the compiler's cost model predicts them.
    pub modelled_seconds: f64,
}

impl KernelRow {
    /// Seconds at the machine's ceilings: the longer of computing and moving (the roofline model;
    /// Williams, Waterman and Patterson 2009).
    pub fn predicted_seconds(&self, ceilings: Ceilings) -> f64 {
        let computing = self.flops as f64 / ceilings.gemm_flops_per_second;
        let moving = self.bytes as f64 / ceilings.copy_bytes_per_second;
        computing.max(moving)
    }
}

/// Where the time of one run went, longest first.
pub fn kernels(program: &Executable, tiled: &Tiled, times: &[RegionTime]) -> Vec<KernelRow> {
    let regions = program.regions();
    let mut rows: BTreeMap<Key, KernelRow> = BTreeMap::new();
    for RegionTime {
        region: id,
        seconds,
    } in times
    {
        let number = id.0 as usize;
        let region = &regions.regions[number];
        let row = rows.entry(regions.key(region)).or_insert_with(|| {
            let extents = &regions.buffer(region.outputs[0].buffer).extents;
            let (program, block) = match &tiled.choices[number] {
                Choice::Blocks(program) => (program.program, program.block),
                Choice::Plain(_) => ("plain", [0, 0]),
            };
            KernelRow {
                operator: operator(region),
                program,
                block,
                operands: operand_types(region),
                result: TensorType::new(extents.dtype, extents.shape.iter().copied()),
                calls: 0,
                seconds: 0.0,
                flops: 0,
                product_flops: 0,
                bytes: 0,
                modelled_seconds: 0.0,
            }
        });
        row.calls += 1;
        row.seconds += seconds;
        row.flops += regions.flops(region);
        row.product_flops += match &tiled.choices[number] {
            Choice::Blocks(program) => program.product_flops(),
            Choice::Plain(_) => 0,
        };
        row.bytes += regions.bytes(region);
        row.modelled_seconds += tiled.seconds[number];
    }
    let mut rows: Vec<KernelRow> = rows.into_values().collect();
    rows.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    rows
}

fn operator(region: &Region) -> &'static str {
    match &region.anchor {
        Anchor::Pointwise => "pointwise",
        Anchor::Op { op, .. } => op.name(),
        Anchor::Statistics { .. } => "statistics",
        Anchor::MergeMoments { .. } => "merge_moments",
    }
}

fn operand_types(region: &Region) -> Vec<TensorType> {
    let count = match region.anchor_operands() {
        0 => region.operands.len(),
        count => count,
    };
    let operands = region.operands[..count].iter();
    let ty = operands.map(|x| TensorType::new(x.dtype, x.shape.iter().copied()));
    ty.collect()
}

#[cfg(test)]
mod tests {
    use compiler::program::Program;

    use compiler::target::Target;
    use compiler::tile::{LowerOptions, Tuning, lower};

    use super::*;

    #[test]
    fn winograd_executes_fewer_products() {
        let text = r#"func f {
  %0 = input "x" : f32[1, 64, 32, 32]
  %1 = weight "w" : f32[64, 64, 3, 3]
  %2 = conv(%0, %1) {strides=[1, 1], pads_before=[1, 1], pads_after=[1, 1], dilations=[1, 1], groups=1}
  return "y" %2
}
"#;
        let program = Program::parse(text).expect("the text is a program");
        let direct = 2 * 32 * 32 * 64 * 64 * 9;
        // 16 products in place of 36 for 2×2 results.
        for (exact, wanted) in [(true, direct), (false, direct * 16 / 36)] {
            let tiled = lower(
                program.regions(),
                &Target::CPU,
                LowerOptions { exact },
                &Tuning::default(),
            );
            let regions = program.regions().iter();
            let times = regions.map(|(region, _)| RegionTime {
                region,
                seconds: 1.0,
            });
            let rows = kernels(&program, &tiled, &times.collect::<Vec<_>>());
            assert_eq!((rows[0].flops, rows[0].product_flops), (direct, wanted));
        }
    }

    #[test]
    fn calls_of_one_shape_share_a_row() {
        let text = r#"func f {
  %0 = input "x" : f32[2, 8]
  %1 = weight "w" : f32[8, 8]
  %2 = linear(%0, %1)
  %3 = linear(%2, %1)
  %4 = linear(%3, %1)
  %5 = silu(%4)
  return "y" %5
}
"#;
        let program = Program::parse(text).expect("the text is a program");
        let tiled = lower(
            program.regions(),
            &Target::CPU,
            LowerOptions { exact: false },
            &Tuning::default(),
        );
        let times = program.regions().iter().map(|(region, _)| RegionTime {
            region,
            seconds: f64::from(region.0 + 1),
        });
        let rows = kernels(&program, &tiled, &times.collect::<Vec<_>>());
        let facts = |row: &KernelRow| (row.operator, row.calls, row.flops, row.bytes);
        let found: Vec<_> = rows.iter().map(facts).collect();
        let bytes = 4 * (16 + 64 + 16);
        // The last layer has an epilogue, which makes it another kernel.
        assert_eq!(
            found,
            [
                ("linear", 2, 2 * 2 * 16 * 8, 2 * bytes),
                ("linear", 1, 2 * 16 * 8 + 64, bytes),
            ]
        );
        let ceilings = Ceilings {
            gemm_flops_per_second: 512.0,
            copy_bytes_per_second: 1.0,
        };
        assert_eq!(rows[0].predicted_seconds(ceilings), (2 * bytes) as f64);
    }
}
