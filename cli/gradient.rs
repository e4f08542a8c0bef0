//! The loss of a network and its gradients in place of the network, within a budget of memory.
//!
//! Takes a loaded program, returns the program that is differentiated, and says what is computed
//! twice to save memory.

use compiler::Bindings;
use compiler::plan::Recomputation;
use compiler::program::{Program, compile};
use compiler::target::Target;
use graphs::loss::mean_squared_error;
use runtime::place::Place;

use crate::error::{At, Failure};
use crate::loaded::Loaded;
use crate::memory::{Needs, megabytes};
use crate::{memory, progress};

/// The program of the mean squared error of the first output and of all its gradients, which keeps
/// to `bytes_max` bytes in all: weights, values and tiles.
pub(crate) fn of_squared_error(
    place: &str,
    loaded: Loaded,
    bytes_max: Option<u64>,
    at: &Place,
) -> Result<Loaded, Failure> {
    let func = mean_squared_error(loaded.program.func()).at(place)?;
    let compiled = compile(&func, &Bindings::new()).at(place)?;
    let program = match bytes_max {
        None => compiled.program,
        Some(bytes_max) => within(place, compiled.program, bytes_max, at)?,
    };
    Ok(Loaded {
        program,
        parts: None,
        weights: loaded.weights,
        patches: compiled.patches,
    })
}

/// The program in at most `bytes_max` bytes in all; says what that costs.
///
/// # Errors
/// When it cannot be that small.
pub(crate) fn within(
    place: &str,
    program: Program,
    bytes_max: u64,
    at: &Place,
) -> Result<Program, Failure> {
    let needs = memory::needs(&program, at);
    let others = needs.total() - needs.values;
    let flops = program.cost().flops;
    let values = bytes_max.saturating_sub(others);
    let target = Target::CPU.with_threads(memory::threads(at));
    let (program, chosen) = program.within(values, &target).at(place)?;
    let after = memory::needs(&program, at);
    if after.total() > bytes_max {
        let [wanted, found] = [bytes_max, after.total()].map(megabytes);
        return Err(Failure::job(format!(
            "{place}: --memory allows {wanted} MB, but at least {found} MB are needed: {after}"
        ))
        .hint("choose fewer pictures at once, a smaller size, or more memory"));
    }
    progress::say(described(&chosen, needs, after, flops));
    Ok(program)
}

/// What is computed twice, in a line.
fn described(chosen: &[Recomputation], before: Needs, after: Needs, flops: u64) -> String {
    let [values, kept] = [before, after].map(|needs| megabytes(needs.values));
    if chosen.is_empty() {
        return format!("{kept} MB of values fit: nothing is computed twice");
    }
    let again: u64 = chosen.iter().map(|again| again.flops).sum();
    let share = 100.0 * again as f64 / flops.max(1) as f64;
    format!(
        "{values} MB of values become {kept} MB: {} kernels are computed twice, {share:.1} % more \
         operations",
        chosen.len()
    )
}
