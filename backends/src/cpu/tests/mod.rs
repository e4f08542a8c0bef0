//! The CPU's executor: every tile program that could compute a region, and what it does with its
//! parameters.

mod parameters;
mod tuning;

use compiler::program::Program;
use compiler::tile::{Choice, LowerOptions, Tuning, candidates, lower};
use compiler::value::tensor::Tensor;

use super::kernel::machine::Machine;
use super::threads::Threads;
use super::{Executor, target};
use crate::tests::Named;

/// Results of a program whose regions are computed by their fastest candidate but some: region
/// by region, that of the number `variant` of all that there are.
pub(crate) fn run_variant(
    program: &Program,
    [inputs, weights]: [&Named; 2],
    exact: bool,
    threads: usize,
    variant: usize,
) -> Vec<(String, Tensor)> {
    let regions = program.regions();
    // The same choices whatever the number of threads.
    // Variants take turns on all vector instruction sets of this processor.
    let machines = Machine::available();
    let machine = machines[variant % machines.len()];
    let (target, options) = (target(machine, 2), LowerOptions { exact });
    let mut tiled = lower(regions, &target, options, &Tuning::default());
    for ((id, _), choice) in regions.iter().zip(&mut tiled.choices) {
        let mut found = candidates(regions, id, &target, options);
        if !found.is_empty() {
            let program = found.swap_remove(variant % found.len());
            program
                .verify()
                .unwrap_or_else(|error| panic!("{program}{error}"));
            *choice = Choice::Blocks(Box::new(program));
        }
    }
    let threads = Threads::new(Some(threads)).expect("threads");
    let executor =
        Executor::of(program, weights.clone(), threads, machine, tiled).expect("an executor");
    executor.run(inputs).expect("the executor runs")
}

/// The most candidates that a region of `program` has.
pub(crate) fn variants(program: &Program, exact: bool) -> usize {
    let target = target(Machine::detect(), 2);
    let regions = program.regions().iter();
    let count = |id| candidates(program.regions(), id, &target, LowerOptions { exact }).len();
    regions.map(|(id, _)| count(id)).max().unwrap_or(0)
}
