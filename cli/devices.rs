//! `splamc devices`: what can execute programs here.
//!
//! Takes nothing, gives a table on standard output; a target that is not usable says why.

use crate::error::Failure;

/// List the targets usable on this machine, with what they offer; say why others are not.
#[derive(clap::Args)]
pub(crate) struct Arguments {}

/// Prints the table.
pub(crate) fn execute(_arguments: &Arguments) -> Result<(), Failure> {
    let cpu = runtime::devices::cpu();
    let sets = cpu.instruction_sets.join(" ");
    println!(
        "cpu   {} with {sets}, {} threads, f32 f16 bf16",
        cpu.architecture, cpu.threads
    );
    println!("wgsl  not usable: this version emits no WGSL");
    println!("cuda  not usable: this version emits no PTX");
    Ok(())
}
