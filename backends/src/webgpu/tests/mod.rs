//! Small kernels written by hand: what rules refuse, and what a device makes of the rest.

#[cfg(feature = "webgpu")]
mod device;
pub(crate) mod programs;
mod rules;

use compiler::DType;
use compiler::region::{Buffer, RegionId};
use compiler::value::extents::Extents;

use crate::gpu::commands::{
    Argument, Binding, Commands, Kernel, Launch, Pool, Port, Requirements, Source, StoredAs, Upload,
};

/// `out[i] = in[i] + 1` on f32.
const INCREMENT: &str = "\
@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
    if at.x < arrayLength(&x) {
        y[at.x] = x[at.x] + 1.0;
    }
}
";

/// `out[i] = in[i] * weight[i]` on f32, two packed halves a word in the weight.
const SCALE: &str = "\
@group(0) @binding(0) var<storage, read> weight: array<u32>;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
    if at.x < arrayLength(&x) {
        y[at.x] = x[at.x] * unpack2x16float(weight[at.x / 2u])[at.x % 2u];
    }
}
";

fn kernel(name: &str, wgsl: &str, bindings: &[Binding]) -> Kernel {
    Kernel {
        name: name.to_owned(),
        text: wgsl.to_owned(),
        bindings: bindings.to_vec(),
        origin: format!("the test's {name}"),
    }
}

fn arena(offset: u64, bytes: u64) -> Argument {
    Argument {
        pool: Pool::Arena,
        buffer: 0,
        offset,
        bytes,
    }
}

fn page(offset: u64, bytes: u64) -> Argument {
    Argument {
        pool: Pool::Weights,
        ..arena(offset, bytes)
    }
}

fn floats(elements: usize) -> Extents {
    Extents {
        dtype: DType::F32,
        shape: vec![elements],
    }
}

fn port(name: &str, extents: Extents, offset: u64) -> Port {
    let stored = StoredAs::of(extents.dtype).expect("a type that devices have");
    Port {
        name: name.to_owned(),
        window: arena(
            offset,
            stored.bytes(extents.elements()).expect("a small port"),
        ),
        extents,
        stored,
    }
}

/// `y = (x + 1) * scale` on six numbers, in two launches over one slab.
fn commands() -> Commands {
    Commands {
        name: "test".to_owned(),
        kernels: vec![
            kernel(
                "increment",
                INCREMENT,
                &[Binding::ReadWrite, Binding::ReadWrite],
            ),
            kernel(
                "scale",
                SCALE,
                &[Binding::Read, Binding::ReadWrite, Binding::ReadWrite],
            ),
        ],
        hosted: Vec::new(),
        launches: vec![
            Launch {
                kernel: 0,
                arguments: vec![arena(0, 24), arena(256, 24)],
                grid: [1, 1, 1],
                region: RegionId(0),
                flops: 6,
            },
            Launch {
                kernel: 1,
                arguments: vec![page(256, 12), arena(256, 24), arena(512, 24)],
                grid: [1, 1, 1],
                region: RegionId(1),
                flops: 6,
            },
        ],
        arena: vec![768],
        weights: vec![512],
        states: Vec::new(),
        copies: Vec::new(),
        uploads: vec![Upload {
            source: Source::Weight("scale".to_owned()),
            extents: Extents {
                dtype: DType::F16,
                shape: vec![2, 3],
            },
            order: vec![1, 0],
            window: page(256, 12),
            stored: StoredAs::F16,
        }],
        inputs: vec![port("x", floats(6), 0)],
        outputs: vec![port("y", floats(6), 512)],
        requirements: Requirements::DEFAULT,
    }
}

/// A constant of the program.
fn constant(number: u32) -> Source {
    Source::Constant(Buffer(number))
}
