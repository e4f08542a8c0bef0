//! What `splamc inspect` shows of kernels for graphics processors: what each costs, and its text.
//!
//! Takes a program, gives lines on standard output.

use std::cmp::Reverse;

use backends::webgpu::commands::Requirements;
use backends::webgpu::compile::{self, Compiled};
use backends::webgpu::validate::requirements;
use compiler::kernel::{Multiprocessor, measure};
use compiler::program::Program;

use crate::error::{At, Failure};

/// Kernels that are told of.
const HEAVIEST: usize = 20;

/// What is shown of each kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// The kernel IR.
    Kernel,
    /// WGSL.
    Code,
}

/// Prints the kernels of a program, or the one called `name`.
pub(crate) fn print(program: &Program, shown: Shown, name: Option<&str>) -> Result<(), Failure> {
    let compiled = compile::compile(program, &Requirements::DEFAULT).at("--target wgsl")?;
    let commands = compiled.commands.commands();
    if let Some(name) = name
        && !commands.kernels.iter().any(|kernel| kernel.name == name)
    {
        return Err(
            Failure::usage(format!("{} has no kernel {name:?}", program.func().name()))
                .hint("inspect --stage code without --kernel prints all, each with its name"),
        );
    }
    let mark = match shown {
        Shown::Kernel => "#",
        Shown::Code => "//",
    };
    let all = commands.kernels.iter().zip(&compiled.kernels);
    for (text, kernel) in all {
        if name.is_some_and(|name| name != text.name) {
            continue;
        }
        match shown {
            Shown::Kernel => print!("{kernel}"),
            Shown::Code => println!("// {}\n{}", text.name, text.wgsl),
        }
    }
    if name.is_none() {
        print_sum(&compiled, mark);
    }
    Ok(())
}

/// The kernels that take most operations, what the program needs of a device, and what is left to
/// the host.
fn print_sum(compiled: &Compiled, mark: &str) {
    let commands = compiled.commands.commands();
    let mut launches = vec![0u64; commands.kernels.len()];
    for launch in &commands.launches {
        launches[launch.kernel] += 1;
    }
    let qualities = compiled.kernels.iter();
    let qualities = qualities.map(|kernel| measure(kernel, &Multiprocessor::MODEL));
    let rows = commands.kernels.iter().zip(launches).zip(qualities);
    let mut rows: Vec<_> = rows
        .map(|((k, calls), q)| (k.name.as_str(), calls, q))
        .collect();
    rows.sort_by_key(|(_, calls, quality)| Reverse(quality.flops.saturating_mul(*calls)));
    println!(
        "{mark} {:<24} {:>5} {:>9} {:>11} {:>11} {:>9} {:>9}",
        "kernel", "calls", "GFLOP", "FLOP/B", "FLOP/B near", "registers", "occupancy"
    );
    for (name, calls, quality) in rows.iter().take(HEAVIEST) {
        let moved = quality.global_load_bytes + quality.global_store_bytes;
        println!(
            "{mark} {name:<24} {calls:>5} {:>9.3} {:>11.1} {:>11.2} {:>9} {:>8.0}%",
            quality.flops.saturating_mul(*calls) as f64 / 1e9,
            quality.flops as f64 / moved.max(1) as f64,
            quality.flops as f64 / quality.shared_moved_bytes.max(1) as f64,
            quality.registers,
            100.0 * quality.occupancy,
        );
    }
    println!(
        "{mark} FLOP/B: operations for each byte that invocations ask of storage buffers; near: of \
         workgroup memory"
    );
    println!(
        "{mark} {}: {} launches of {} kernels, {} bytes of values in {}, {} bytes of weights in {}",
        commands.name,
        commands.launches.len(),
        commands.kernels.len(),
        commands.arena.iter().sum::<u64>(),
        counted(commands.arena.len(), "slab"),
        commands.weights.iter().sum::<u64>(),
        counted(commands.weights.len(), "page"),
    );
    if let Ok(needs) = requirements(commands) {
        let limits = commands.requirements;
        println!(
            "{mark} needs bindings of {} bytes of {}, buffers of {} of {}, {} storage buffers of {}, \
             {} bytes of workgroup memory of {}, {} invocations of {}, {} workgroups along an \
             axis of {}",
            needs.binding_bytes_max,
            limits.binding_bytes_max,
            needs.buffer_bytes_max,
            limits.buffer_bytes_max,
            needs.storage_buffers_max,
            limits.storage_buffers_max,
            needs.workgroup_bytes,
            limits.workgroup_bytes,
            needs.invocations_max,
            limits.invocations_max,
            needs.workgroups_per_dimension_max,
            limits.workgroups_per_dimension_max,
        );
    }
    for (region, reason) in &compiled.hosted {
        println!("{mark} {region} is computed by the host: {reason}");
    }
}

/// A number with its noun.
fn counted(number: usize, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{ending}")
}
