//! What executes functions: every case of operators and gradients runs through each of these.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use backends::cuda::PTX;
use backends::lookup;
use backends::webgpu::WGSL;
use compiler::graph::eval::eval;
use compiler::program::Program;
use compiler::tile::Tuning;
use compiler::value::array::{Array, Precision};
use compiler::value::tensor::Tensor;
use runtime::place::{Options, Place, Wanted};
use runtime::session::Session;

/// Tensors by name.
pub(crate) type Named = BTreeMap<String, Tensor>;

/// Results in order, or what went wrong in words.
pub(crate) type Results = Result<Vec<(String, Tensor)>, String>;

/// What executes programs without weights.
pub(crate) struct Executor {
    pub(crate) name: &'static str,
    /// How many times as far as the oracle it may be from what is exact: sums in another order, and
    /// functions that are off by some units in the last place.
    pub(crate) slack: f64,
    /// Whether it promises anything where values are NaN or infinite.
    pub(crate) not_finite: bool,
    run: fn(&Program, &Named) -> Results,
}

impl Executor {
    /// Runs `program` on inputs by name.
    pub(crate) fn run(&self, program: &Program, inputs: &Named) -> Results {
        (self.run)(program, inputs)
    }
}

/// Every executor of this machine: the oracle, the CPU with direct sums and with any program, the
/// interpreter of kernels, and an adapter and a processor of NVIDIA's where there is one.
pub(crate) fn executors() -> Vec<Executor> {
    let executor = |name, slack, not_finite, run| Executor {
        name,
        slack,
        not_finite,
        run,
    };
    let mut executors = vec![
        executor("oracle", 1.0, true, oracle),
        executor("cpu", 1.0, true, |program, inputs| {
            at(program, inputs, &cpu(true))
        }),
        executor("cpu by any program", 10.0, true, |program, inputs| {
            at(program, inputs, &cpu(false))
        }),
        executor("interpreter", 2.0, false, |program, inputs| {
            at(program, inputs, &Place::interpreter(&WGSL))
        }),
        executor(
            "interpreter of CUDA kernels",
            2.0,
            false,
            |program, inputs| at(program, inputs, &Place::interpreter(&PTX)),
        ),
    ];
    if adapter().is_some() {
        executors.push(executor("adapter", 10.0, false, |program, inputs| {
            at(program, inputs, adapter().expect("it was found"))
        }));
    }
    if graphics_processor().is_some() {
        executors.push(executor("cuda", 10.0, false, |program, inputs| {
            at(program, inputs, graphics_processor().expect("it was found"))
        }));
    }
    executors
}

fn cpu(exact: bool) -> Place {
    Place::cpu(Options {
        threads: Some(2),
        exact,
    })
}

/// The adapter of this machine, opened once.
pub(crate) fn adapter() -> Option<&'static Place> {
    static ADAPTER: OnceLock<Option<Place>> = OnceLock::new();
    let open = || Place::open(lookup("wgsl")?, &Wanted::ANY).ok();
    ADAPTER.get_or_init(open).as_ref()
}

/// The graphics processor of NVIDIA's that this machine has, opened once.
pub(crate) fn graphics_processor() -> Option<&'static Place> {
    static PROCESSOR: OnceLock<Option<Place>> = OnceLock::new();
    let open = || Place::open(lookup("cuda")?, &Wanted::ANY).ok();
    PROCESSOR.get_or_init(open).as_ref()
}

fn oracle(program: &Program, inputs: &Named) -> Results {
    let func = program.func();
    let results = eval(func, inputs, &Named::new(), Precision::Typed);
    let results = results.map_err(|error| error.to_string())?;
    let types = func
        .results()
        .iter()
        .map(|(_, value)| func.ty(*value).dtype);
    let tensor = |((name, array), dtype): ((String, Array), _)| {
        (
            name,
            Tensor::from_values(dtype, &array.shape, &array.values),
        )
    };
    Ok(results.into_iter().zip(types).map(tensor).collect())
}

fn at(program: &Program, inputs: &Named, place: &Place) -> Results {
    let session = Session::open(program, Named::new(), place, &Tuning::default());
    let session = session.map_err(|error| error.to_string())?;
    session.run(inputs).map_err(|error| error.to_string())
}
