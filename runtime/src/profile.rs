//! Profiles: the time of each value of a run, summed by kernel, beside what the kernel has to do.
//!
//! Takes a program and measured times, gives rows with FLOPs, bytes and a prediction. It reads no
//! clock.

use std::collections::BTreeMap;

use backends::cpu::{Ceilings, ValueTime};
use compiler::graph::{Definition, Func, Node, TensorType};
use compiler::ops::Op;
use compiler::program::Program;

/// All calls of one operator on operands of the same types.
#[derive(Debug, Clone, PartialEq)]
pub struct KernelRow {
    /// The operator.
    pub operator: &'static str,
    /// The types of its operands.
    pub operands: Vec<TensorType>,
    /// The type of its result.
    pub result: TensorType,
    /// The number of calls.
    pub calls: u64,
    /// Seconds of all calls.
    pub seconds: f64,
    /// Floating-point operations of all calls, a multiply-add counted as two.
    pub flops: u64,
    /// Bytes that all calls read and write at least: operands and result, each once.
    pub bytes: u64,
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

/// Where the time of one run went, longest first. What parameters and constants took is in no
/// row.
pub fn kernels(program: &Program, times: &[ValueTime]) -> Vec<KernelRow> {
    let func = program.func();
    let mut rows: BTreeMap<(&'static str, String), KernelRow> = BTreeMap::new();
    for ValueTime { value, seconds } in times {
        let data = func.value(*value);
        let Definition::Node(node) = &data.definition else {
            continue;
        };
        if node.operands.is_empty() {
            continue;
        }
        let operands = operand_types(func, node);
        let empty = KernelRow {
            operator: node.op.name(),
            operands: operands.clone(),
            result: data.ty.clone(),
            calls: 0,
            seconds: 0.0,
            flops: 0,
            bytes: 0,
        };
        let key = (node.op.name(), format!("{operands:?} {:?}", data.ty));
        let row = rows.entry(key).or_insert(empty);
        row.calls += 1;
        row.seconds += seconds;
        row.flops += extent(node.op.flops(&operands, &data.ty).extent());
        row.bytes += traffic(&node.op, &operands, &data.ty);
    }
    let mut rows: Vec<KernelRow> = rows.into_values().collect();
    rows.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    rows
}

fn operand_types(func: &Func, node: &Node) -> Vec<TensorType> {
    let operands = node.operands.iter();
    operands.map(|&operand| func.ty(operand).clone()).collect()
}

/// Bytes that an operator reads and writes at least.
fn traffic(op: &Op, operands: &[TensorType], result: &TensorType) -> u64 {
    let bytes = |ty: &TensorType| extent(ty.elements().extent()) * ty.dtype.bytes() as u64;
    if let Op::Reshape(_) = op {
        return 0;
    }
    // These read of their operand what they give, however large it is.
    if let Op::Gather(_) | Op::GatherNd(_) | Op::Slice(_) = op {
        return 2 * bytes(result);
    }
    operands.iter().map(bytes).sum::<u64>() + bytes(result)
}

/// A count that is known because every size of a program is.
fn extent(count: Option<usize>) -> u64 {
    count.unwrap_or(0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_one_shape_share_a_row() {
        let text = r#"func f {
  %0 = input "x" : f32[2, 8]
  %1 = weight "w" : f32[8, 8]
  %2 = linear(%0, %1)
  %3 = linear(%2, %1)
  %4 = silu(%3)
  return "y" %4
}
"#;
        let program = Program::parse(text).expect("the text is a program");
        let times = program.func().values().map(|(value, _)| ValueTime {
            value,
            seconds: f64::from(value.0),
        });
        let rows = kernels(&program, &times.collect::<Vec<_>>());
        let facts = |row: &KernelRow| (row.operator, row.calls, row.seconds, row.flops, row.bytes);
        let found: Vec<_> = rows.iter().map(facts).collect();
        let (linear_bytes, silu_bytes) = (2 * 4 * (16 + 64 + 16), 4 * 32);
        assert_eq!(found[0], ("linear", 2, 5.0, 2 * 2 * 16 * 8, linear_bytes));
        assert_eq!(
            (found[1].0, found[1].2, found[1].4),
            ("silu", 4.0, silu_bytes)
        );
        let ceilings = Ceilings {
            gemm_flops_per_second: 512.0,
            copy_bytes_per_second: 1.0,
        };
        assert_eq!(rows[0].predicted_seconds(ceilings), linear_bytes as f64);
    }
}
