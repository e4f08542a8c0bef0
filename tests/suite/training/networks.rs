//! The networks of the golden steps, and what executes steps.

use std::collections::BTreeMap;
use std::fs;
use std::sync::OnceLock;

use backends::webgpu::WGSL;
use compiler::DType;
use compiler::graph::eval::eval;
use compiler::graph::{Func, Role};
use compiler::program::compile;
use compiler::tile::Tuning;
use compiler::value::array::{Array, Precision};
use compiler::value::dim::Bindings;
use compiler::value::tensor::{Tensor, Values};
use graphs::models::{Options, Timestep, unet};
use graphs::noise_schedule::{BetaSchedule, NoiseSchedule, NoiseScheduleSpec};
use graphs::optimizer::layout_of;
use runtime::place::{self, Place};
use runtime::session::Session;

use crate::executors::{adapter, graphics_processor};
use crate::support::{golden, tensors};

pub(crate) type Named = BTreeMap<String, Tensor>;

/// The function `name` of the network whose configuration is the golden file `config`.
pub(crate) fn network(name: &str, config: &str, dtype: DType) -> Func {
    let text = fs::read(golden(config)).expect("a golden file is there");
    let config = unet::Config::parse(config, &text).expect("the configuration is supported");
    let options = Options {
        dtype,
        timestep: Timestep::PerSample,
        hidden_states: false,
    };
    unet::build(name, &config, &options).expect("the network can be built")
}

/// The schedule of all golden steps.
pub(crate) fn schedule() -> NoiseSchedule {
    NoiseSchedule::new(&NoiseScheduleSpec {
        num_train_timesteps: 1000,
        beta_start: 0.00085,
        beta_end: 0.012,
        beta_schedule: BetaSchedule::ScaledLinear,
        trained_betas: None,
        zero_terminal_snr: false,
    })
    .expect("the schedule is that of latent diffusion")
}

/// The weights in a golden file as one flat tensor.
pub(crate) fn flat(body: &Func, file: &str) -> Tensor {
    let layout = layout_of(body).expect("the weights have known sizes");
    layout.join(&tensors(file)).expect("the file has them all")
}

/// The weights in a golden file under the names that a step gives the teacher's.
pub(crate) fn teacher_weights(teacher: &Func, file: &str) -> Named {
    let mut stored = tensors(file);
    let names = teacher.params(Role::Weight);
    names
        .map(|(_, name, _)| {
            let tensor = stored.remove(name).expect("the file has it");
            (format!("teacher.{name}"), tensor)
        })
        .collect()
}

/// The results of `func` by the oracle, in f64.
pub(crate) fn exact(func: &Func, inputs: &Named, weights: &Named) -> BTreeMap<String, Array> {
    let results = eval(func, inputs, weights, Precision::Exact);
    results
        .expect("the oracle evaluates the step")
        .into_iter()
        .collect()
}

/// What executes steps in f32, by name: the CPU, the interpreter of kernels, and the adapter that
/// this machine prefers, if it has one.
pub(crate) fn places() -> &'static [(&'static str, Place)] {
    static PLACES: OnceLock<Vec<(&str, Place)>> = OnceLock::new();
    PLACES.get_or_init(|| {
        let mut places = vec![
            ("the CPU", cpu()),
            ("the interpreter", Place::interpreter(&WGSL)),
        ];
        if let Some(adapter) = adapter() {
            places.push(("an adapter", adapter.clone()));
        }
        if let Some(processor) = graphics_processor() {
            places.push(("a graphics processor", processor.clone()));
        }
        places
    })
}

/// The processor, by direct sums.
pub(crate) fn cpu() -> Place {
    Place::cpu(place::Options {
        threads: None,
        exact: true,
    })
}

/// A step with its weights and first states at a place.
pub(crate) fn opened(func: &Func, weights: &Named, place: &Place) -> Session {
    let program = compile(func, &Bindings::new());
    let program = program.expect("the step compiles").program;
    let session = Session::open(&program, weights.clone(), place, &Tuning::default());
    session.unwrap_or_else(|error| panic!("{error}"))
}

/// The results of a step at a place, new states among them.
pub(crate) fn executed(session: &Session, func: &Func, inputs: &Named) -> Named {
    let results = session.run(inputs);
    let results = results.unwrap_or_else(|error| panic!("{error}"));
    let mut results: Named = results.into_iter().collect();
    for (_, name, _) in func.params(Role::State) {
        let state = session.state(name).expect("the device is there");
        results.insert(name.to_owned(), state.expect("the program has the state"));
    }
    results
}

/// The results of `func` at a place, in f32, new states among them.
pub(crate) fn on(place: &Place, func: &Func, inputs: &Named, weights: &Named) -> Named {
    executed(&opened(func, weights, place), func, inputs)
}

/// The numbers of an i64 or f32 vector.
pub(crate) fn numbers(tensor: &Tensor) -> Vec<f64> {
    match tensor.values() {
        Values::Float(values) => values,
        Values::Int(values) => values.iter().map(|&value| value as f64).collect(),
        Values::Bool(_) => panic!("numbers are stored"),
    }
}
