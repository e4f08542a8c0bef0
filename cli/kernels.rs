//! What `splamc inspect` shows of kernels for graphics processors: what each costs, and its text.
//!
//! Takes a program, gives lines on standard output.

use backends::webgpu::commands::Requirements;
use backends::webgpu::compile::{self, Compiled};
use compiler::program::Program;

use crate::error::{At, Failure};

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
        print_sum(&compiled);
    }
    Ok(())
}

fn print_sum(compiled: &Compiled) {
    let commands = compiled.commands.commands();
    println!(
        "// {}: {} launches of {} kernels, {} bytes of values, {} bytes of weights",
        commands.name,
        commands.launches.len(),
        commands.kernels.len(),
        commands.arena.iter().sum::<u64>(),
        commands.weights.iter().sum::<u64>(),
    );
    for (region, reason) in &compiled.hosted {
        println!("// {region} is computed by the host: {reason}");
    }
}
