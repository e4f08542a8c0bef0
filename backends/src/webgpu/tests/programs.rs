//! Whole programs, in the interpreter and on a device.

use std::collections::BTreeMap;

use compiler::program::Program;
use compiler::region::{Content, Regions};
use compiler::value::tensor::Tensor;

use super::super::WGSL;
#[cfg(feature = "webgpu")]
use super::super::device::Loaded;
use crate::gpu::commands::{Requirements, Source};
use crate::gpu::compile::{Compiled, compile};
use crate::gpu::dialect::Dialect;
use crate::gpu::emulator::Emulator;
use crate::gpu::executor::{Executor, Machine};

type Named = BTreeMap<String, Tensor>;

/// The tensor of a source.
fn source(regions: &Regions, weights: &Named, source: &Source) -> Option<Tensor> {
    match source {
        Source::Weight(name) => weights.get(name).cloned(),
        Source::Constant(buffer) => match &regions.buffer(*buffer).content {
            Content::Constant(tensor) => Some(tensor.clone()),
            Content::Param(_) | Content::Computed => None,
        },
    }
}

/// A program in the interpreter, compiled for a dialect, with 16-bit floats or without.
fn in_interpreter(
    program: &Program,
    given: &Named,
    dialect: &Dialect,
    shader_f16: bool,
) -> Executor<Emulator> {
    let requirements = dialect.requirements(shader_f16);
    let compiled = compile(program, &requirements, dialect).expect("the program compiles");
    let Compiled {
        commands,
        regions,
        kernels,
        ..
    } = compiled;
    let mut weights = |wanted: &Source| source(&regions, given, wanted);
    let emulator = Emulator::new(commands.commands(), kernels, &mut weights).expect("weights");
    Executor::new(emulator, commands, regions, given).expect("weights")
}

/// A program with its weights and first states in the interpreter.
pub(crate) fn on_interpreter(program: &Program, given: &Named) -> Executor<Emulator> {
    in_interpreter(program, given, &WGSL, false)
}

/// Results of a program in the interpreter, compiled for a dialect, with 16-bit floats or without.
pub(crate) fn interpreted(
    program: &Program,
    [inputs, weights]: [&Named; 2],
    dialect: &Dialect,
    shader_f16: bool,
) -> Vec<(String, Tensor)> {
    run(
        in_interpreter(program, weights, dialect, shader_f16),
        inputs,
    )
}

fn run<M: Machine>(executor: Executor<M>, inputs: &Named) -> Vec<(String, Tensor)> {
    let results = executor.run(inputs);
    results.unwrap_or_else(|error| panic!("{error}"))
}

/// A program with its weights and first states on a device; `None` where there is no adapter.
#[cfg(feature = "webgpu")]
pub(crate) fn on_device(program: &Program, given: &Named) -> Option<Executor<Loaded>> {
    use std::sync::OnceLock;

    use super::super::device::{Choice, Device, Options};

    static DEVICE: OnceLock<Option<Device>> = OnceLock::new();
    let device = DEVICE.get_or_init(|| {
        let options = Options {
            adapter: Choice::Best,
            profile: false,
        };
        Device::open(&options, &Requirements::DEFAULT).ok()
    });
    let compiled = compile(program, &Requirements::DEFAULT, &WGSL).expect("the program compiles");
    let regions = compiled.regions;
    let mut weights = |wanted: &Source| source(&regions, given, wanted);
    let loaded = device
        .as_ref()?
        .load(compiled.commands.clone(), &mut weights);
    let loaded = loaded.unwrap_or_else(|error| panic!("{error}"));
    Some(Executor::new(loaded, compiled.commands, regions, given).expect("weights"))
}

/// Results of a program on a device; `None` where there is no adapter.
#[cfg(feature = "webgpu")]
pub(crate) fn computed(
    program: &Program,
    [inputs, weights]: [&Named; 2],
) -> Option<Vec<(String, Tensor)>> {
    Some(run(on_device(program, weights)?, inputs))
}
