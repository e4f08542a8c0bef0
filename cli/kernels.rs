//! What `inspect` and `compile --dump` show of kernels for graphics processors: their texts, and
//! what each costs.
//!
//! Takes a program, or the commands of one that was compiled before, returns text.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use backends::gpu::commands::{Commands, Kernel};
use backends::gpu::compile::{self, Compiled};
use backends::gpu::dialect::Dialect;
use backends::gpu::validate::requirements;
use compiler::kernel::{Bound, Multiprocessor, Processor, Quality, measure, predict};
use compiler::program::Program;

use crate::error::{At, Failure};

/// Kernels that are listed.
const HEAVIEST: usize = 20;

/// What is shown of each kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// The kernel IR.
    Kernel,
    /// Its text in a language of kernels.
    Code,
}

/// The kernels of a program, or the one called `name`.
pub(crate) fn of_program(
    program: &Program,
    dialect: &Dialect,
    shown: Shown,
    name: Option<&str>,
) -> Result<String, Failure> {
    let compiled = compile::compile(program, &dialect.requirements(false), dialect);
    let compiled = compiled.at(format_args!("--target {}", dialect.target.name))?;
    of_compiled(&compiled, dialect, shown, name)
}

/// The kernels of a compiled program, or the one called `name`.
pub(crate) fn of_compiled(
    compiled: &Compiled,
    dialect: &Dialect,
    shown: Shown,
    name: Option<&str>,
) -> Result<String, Failure> {
    let commands = compiled.commands.commands();
    let (mark, kernels) = match shown {
        Shown::Kernel => {
            let kernels = compiled.kernels.iter().map(ToString::to_string);
            ("#", kernels.collect())
        }
        Shown::Code => ("//", codes(commands)),
    };
    if name.is_some() {
        return chosen(commands, kernels, name);
    }
    let mut text = kernels.concat();
    add_heaviest(&mut text, compiled, mark);
    if dialect.target.limits.warp > 0 {
        add_predictions(&mut text, compiled, &Processor::A100, mark);
    }
    add_needs(&mut text, commands, dialect, mark);
    for (region, reason) in &compiled.hosted {
        let _ = writeln!(text, "{mark} {region} is computed by the host: {reason}");
    }
    Ok(text)
}

/// The texts of stored kernels, or that of the one called `name`.
pub(crate) fn of_commands(
    commands: &Commands,
    dialect: &Dialect,
    name: Option<&str>,
) -> Result<String, Failure> {
    let mut text = chosen(commands, codes(commands), name)?;
    if name.is_none() {
        add_needs(&mut text, commands, dialect, "//");
        for hosted in &commands.hosted {
            let _ = writeln!(text, "// {} is computed by the host", hosted.region);
        }
    }
    Ok(text)
}

/// The text of each kernel below its name.
fn codes(commands: &Commands) -> Vec<String> {
    let kernels = commands.kernels.iter();
    let code = |kernel: &Kernel| format!("// {}\n{}\n", kernel.name, kernel.text);
    kernels.map(code).collect()
}

/// The texts of all kernels, or of the one called `name`.
fn chosen(
    commands: &Commands,
    kernels: Vec<String>,
    name: Option<&str>,
) -> Result<String, Failure> {
    let Some(name) = name else {
        return Ok(kernels.concat());
    };
    let mut named = commands.kernels.iter().zip(kernels);
    let found = named.find(|(kernel, _)| kernel.name == name);
    found.map(|(_, text)| text).ok_or_else(|| {
        Failure::usage(format!("{} has no kernel {name:?}", commands.name))
            .hint("inspect --stage code without --kernel prints all, each with its name")
    })
}

/// The kernels that take most operations.
fn add_heaviest(text: &mut String, compiled: &Compiled, mark: &str) {
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
    let _ = writeln!(
        text,
        "{mark} {:<24} {:>5} {:>9} {:>11} {:>11} {:>9} {:>9}",
        "kernel", "calls", "GFLOP", "FLOP/B", "FLOP/B near", "registers", "occupancy"
    );
    for (name, calls, quality) in rows.iter().take(HEAVIEST) {
        let moved = quality.global_load_bytes + quality.global_store_bytes;
        let _ = writeln!(
            text,
            "{mark} {name:<24} {calls:>5} {:>9.3} {:>11.1} {:>11.2} {:>9} {:>8.0}%",
            quality.flops.saturating_mul(*calls) as f64 / 1e9,
            quality.flops as f64 / moved.max(1) as f64,
            quality.flops as f64 / quality.shared_moved_bytes.max(1) as f64,
            quality.registers,
            100.0 * quality.occupancy,
        );
    }
    let _ = writeln!(
        text,
        "{mark} FLOP/B: operations for each byte that invocations ask of storage buffers; near: of \
         workgroup memory"
    );
}

/// How long the kernels take at least on a processor, those that take longest first, and what the
/// time of all is bound by.
fn add_predictions(text: &mut String, compiled: &Compiled, processor: &Processor, mark: &str) {
    let commands = compiled.commands.commands();
    let mut rows: Vec<Predicted> = Vec::with_capacity(compiled.kernels.len());
    for (number, kernel) in compiled.kernels.iter().enumerate() {
        let quality = measure(kernel, &Multiprocessor::MODEL);
        let (seconds, bound) = predict(kernel, &quality, processor);
        let calls = commands.launches.iter().filter(|own| own.kernel == number);
        rows.push(Predicted {
            name: &commands.kernels[number].name,
            calls: calls.count() as f64,
            quality,
            seconds,
            bound,
        });
    }
    rows.sort_by(|a, b| b.all_seconds().total_cmp(&a.all_seconds()));
    let _ = writeln!(
        text,
        "{mark} {:<24} {:>5} {:>11} {:<10} {:>11}",
        "kernel", "calls", "µs at least", "bound", "matrix rate"
    );
    for row in rows.iter().take(HEAVIEST) {
        let rate = row.quality.matrix_flops as f64 / row.seconds / processor.matrix_flops;
        let _ = writeln!(
            text,
            "{mark} {:<24} {:>5} {:>11.1} {:<10} {:>10.0}%",
            row.name,
            row.calls,
            row.seconds * 1e6,
            row.bound.name(),
            100.0 * rate,
        );
    }
    let seconds: f64 = rows.iter().map(Predicted::all_seconds).sum();
    let mut shares: BTreeMap<Bound, f64> = BTreeMap::new();
    for row in &rows {
        *shares.entry(row.bound).or_insert(0.0) += row.all_seconds() / seconds;
    }
    let shares: Vec<String> = shares
        .iter()
        .map(|(bound, share)| format!("{} {:.0}%", bound.name(), 100.0 * share))
        .collect();
    let products = || rows.iter().filter(|row| row.quality.matrix_flops > 0);
    let flops: f64 = products()
        .map(|row| row.calls * row.quality.matrix_flops as f64)
        .sum();
    let product_seconds: f64 = products().map(Predicted::all_seconds).sum();
    let _ = writeln!(
        text,
        "{mark} {}: at least {:.3} ms on an {}, bound by {}",
        commands.name,
        seconds * 1e3,
        processor.name,
        shares.join(", ")
    );
    if product_seconds > 0.0 {
        let _ = writeln!(
            text,
            "{mark} products of matrices: at least {:.3} ms, {:.0}% of its matrix rate",
            product_seconds * 1e3,
            100.0 * flops / product_seconds / processor.matrix_flops,
        );
    }
}

/// A kernel with its time.
struct Predicted<'a> {
    name: &'a str,
    calls: f64,
    quality: Quality,
    /// Of one launch.
    seconds: f64,
    bound: Bound,
}

impl Predicted<'_> {
    fn all_seconds(&self) -> f64 {
        self.calls * self.seconds
    }
}

/// What a program needs of a device.
fn add_needs(text: &mut String, commands: &Commands, dialect: &Dialect, mark: &str) {
    let _ = writeln!(
        text,
        "{mark} {}: {} launches of {} kernels, {} bytes of values in {}, {} bytes of weights in {}",
        commands.name,
        commands.launches.len(),
        commands.kernels.len(),
        commands.arena.iter().sum::<u64>(),
        counted(commands.arena.len(), "slab"),
        commands.weights.iter().sum::<u64>(),
        counted(commands.weights.len(), "page"),
    );
    if let Ok(needs) = requirements(commands, dialect) {
        let (needs, limits) = (needs.limits, commands.requirements.limits);
        let _ = writeln!(
            text,
            "{mark} needs bindings of {} bytes of {}, buffers of {} of {}, {} storage buffers of {}, \
             {} bytes of workgroup memory of {}, {} invocations of {}, {} workgroups along an \
             axis of {}",
            needs.binding_bytes_max,
            limits.binding_bytes_max,
            needs.buffer_bytes_max,
            limits.buffer_bytes_max,
            needs.buffers_max,
            limits.buffers_max,
            needs.shared_bytes_max,
            limits.shared_bytes_max,
            needs.invocations_max,
            limits.invocations_max,
            needs.groups_max,
            limits.groups_max,
        );
    }
}

/// A number with its noun.
pub(crate) fn counted(number: usize, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{ending}")
}
