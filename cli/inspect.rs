//! `splamc inspect`: what a model is, stage by stage.
//!
//! Takes a model in any form; gives a summary, its graph, or the plan of its program, on standard
//! output.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use clap::ValueEnum;
use compiler::graph::{Definition, Func, TensorType};
use compiler::passes;
use compiler::plan::END;
use compiler::program::Program;
use compiler::region::{self, Formed};
use compiler::tensor::Tensor;
use compiler::text;

use crate::error::{At, Failure};
use crate::facts::Sizes;
use crate::model::{Loaded, Model};
use crate::options::ComponentName;

/// Show a model's interface, parameters, cost, graph or plan.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    splamc inspect sd15/                                       # every component in brief\n  \
    splamc inspect sd15/ --component unet --stage graph | less # its graph as text\n  \
    splamc inspect sd15/ --component unet --stage region       # kernels, and why not fewer\n  \
    splamc inspect sd15/ --component unet --stage plan         # operators, FLOPs and bytes")]
pub(crate) struct Arguments {
    /// The model: a diffusers or ONNX directory, one .onnx file, or a compiled .splam.
    model: PathBuf,
    /// Only this component.
    #[arg(long)]
    component: Option<ComponentName>,
    /// What to show in full, instead of the summary.
    #[arg(long)]
    stage: Option<Stage>,
    /// Width in pixels.
    #[arg(short = 'W', long)]
    width: Option<usize>,
    /// Height in pixels.
    #[arg(short = 'H', long)]
    height: Option<usize>,
    /// Pictures at once.
    #[arg(short, long, default_value_t = 1)]
    batch: usize,
    /// Bind a symbolic size of a single graph, as NAME=SIZE.
    #[arg(long, value_name = "NAME=SIZE", value_parser = crate::options::binding)]
    bind: Vec<(String, usize)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Stage {
    /// The imported graph with symbolic sizes; with bound ones where it holds for some sizes only.
    Graph,
    /// What one kernel each computes, why not more, and how many kernels there are.
    Region,
    /// The program after all passes, operator by operator, with its peak of memory.
    Plan,
}

/// Prints what was asked for.
pub(crate) fn execute(arguments: &Arguments) -> Result<(), Failure> {
    let model = Model::open(&arguments.model)?;
    let sizes = Sizes::of(
        &model.facts()?,
        arguments.batch,
        arguments.width,
        arguments.height,
    )?;
    let bindings: BTreeMap<String, usize> = arguments.bind.iter().cloned().collect();
    for part in model.parts(arguments.component)? {
        match arguments.stage {
            Some(Stage::Graph) => {
                let func = match model.graph(&part) {
                    Ok(imported) => imported.func,
                    // Exports may hold for some sizes only; those that were asked for may fit.
                    Err(_) => model
                        .sized(&part, sizes, &bindings, None)?
                        .program
                        .func()
                        .clone(),
                };
                print!("{}", text::print_func(&func));
            }
            Some(Stage::Region) => {
                let loaded = model.sized(&part, sizes, &bindings, None)?;
                let formed = region::form(loaded.program.func()).at(part.name())?;
                print_regions(&formed);
            }
            Some(Stage::Plan) => {
                let loaded = model.sized(&part, sizes, &bindings, None)?;
                print_plan(&loaded.program);
            }
            None => {
                let loaded = model.sized(&part, sizes, &bindings, None)?;
                print_summary(part.name(), &loaded);
            }
        }
    }
    Ok(())
}

fn print_summary(name: &str, loaded: &Loaded) {
    let Loaded {
        program,
        weights,
        patches,
    } = loaded;
    let (plan, cost) = (program.plan(), program.cost());
    let func = program.func();
    println!("{name}");
    for (input, ty) in program.inputs() {
        println!("  input       {input}: {ty}");
    }
    for (output, value) in func.results() {
        println!("  output      {output}: {}", func.ty(*value));
    }
    println!(
        "  parameters  {} in {} tensors",
        grouped(cost.parameters),
        weights.len()
    );
    println!("  weights     {} bytes", grouped(cost.weight_bytes));
    println!(
        "  peak        {} bytes of values, at least {}",
        grouped(plan.peak_bytes()),
        grouped(plan.lower_bound_bytes)
    );
    println!("  FLOPs       {}", grouped(cost.flops));
    println!("  operators   {}", histogram(func));
    if !patches.is_empty() {
        println!("  passes      {}", ranked(passes::counts(patches)));
    }
    for (tensor, count) in not_finite(weights) {
        println!("  warning     weight {tensor:?} holds {count} values that are NaN or infinite");
    }
}

/// Every region with its cost and key; below it, why a rule refused it.
fn print_regions(formed: &Formed) {
    let regions = &formed.regions;
    let mut classes: BTreeMap<&'static str, usize> = BTreeMap::new();
    let mut keys = BTreeSet::new();
    let (mut flops, mut bytes) = (0u64, 0u64);
    let mut refusals = formed.refusals.iter().peekable();
    for (id, region) in regions.iter() {
        let key = regions.key(region);
        let cost = (regions.flops(region), regions.bytes(region));
        print!("{}", regions.print(id, region));
        println!(
            "    # {} FLOPs, {} bytes, key {key}",
            grouped(cost.0),
            grouped(cost.1)
        );
        while let Some(refusal) = refusals.next_if(|refusal| refusal.region == id) {
            println!("    # not {}: {}", refusal.rule, refusal.reason);
        }
        *classes.entry(region.anchor.class().name()).or_default() += 1;
        keys.insert(key);
        flops = flops.saturating_add(cost.0);
        bytes = bytes.saturating_add(cost.1);
    }
    println!(
        "{}: {} kernels of {} kinds ({}), {} FLOPs, {} bytes",
        regions.name,
        regions.regions.len(),
        keys.len(),
        ranked(classes),
        grouped(flops),
        grouped(bytes),
    );
    println!("fused by {}", ranked(formed.counts.clone()));
}

/// A row for each value that has memory: its cost, where it lies, from when to when it lives, and
/// the bytes of all values alive when it is computed.
fn print_plan(program: &Program) {
    let (func, plan, cost) = (program.func(), program.plan(), program.cost());
    println!(
        "{:>6}  {:<17} {:>15} {:>13} {:>13}  {:<8} {:>11} {:>13}  {:<28} origin",
        "value", "operator", "FLOPs", "bytes", "offset", "shares", "lives", "alive", "type"
    );
    let alive = plan.live_bytes();
    for place in &plan.places {
        let data = func.value(place.value);
        let (operator, flops) = match &data.definition {
            Definition::Param(_) => ("input", 0),
            Definition::Node(node) => {
                let operands = node.operands.iter();
                let types: Vec<TensorType> = operands.map(|&v| func.ty(v).clone()).collect();
                let flops = node.op.flops(&types, &data.ty).extent().unwrap_or(0);
                (node.op.name(), flops)
            }
        };
        let shares = place.shares.map(|value| value.to_string());
        let death = match place.death {
            END => "end".to_owned(),
            death => death.to_string(),
        };
        println!(
            "{:>6}  {:<17} {:>15} {:>13} {:>13}  {:<8} {:>11} {:>13}  {:<28} {}",
            place.value.to_string(),
            operator,
            grouped(flops as u64),
            grouped(place.bytes),
            grouped(plan.storages[place.storage].offset),
            shares.unwrap_or_default(),
            format!("{}-{death}", place.birth),
            grouped(alive.get(place.birth as usize).copied().unwrap_or(0)),
            data.ty.to_string(),
            data.origin,
        );
    }
    println!(
        "{}: {} operators, {} FLOPs, {} bytes of weights",
        func.name(),
        cost.nodes,
        grouped(cost.flops),
        grouped(cost.weight_bytes),
    );
    println!(
        "{}: peak {} bytes of values in {} of memory, at least {}, {:.1} % lost between values",
        func.name(),
        grouped(plan.peak_bytes()),
        counted(plan.slabs.len(), "slab"),
        grouped(plan.lower_bound_bytes),
        plan.fragmentation() * 100.0,
    );
}

/// A number with its noun.
fn counted(number: usize, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{ending}")
}

/// Operators by how often they occur, most frequent first.
fn histogram(func: &Func) -> String {
    let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
    for (_, data) in func.values() {
        match &data.definition {
            Definition::Node(node) if !node.operands.is_empty() => {
                *counts.entry(node.op.name()).or_default() += 1;
            }
            Definition::Node(_) | Definition::Param(_) => {}
        }
    }
    ranked(counts)
}

/// Names with their counts, most frequent first.
fn ranked(counts: BTreeMap<&'static str, usize>) -> String {
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|&(name, count)| (std::cmp::Reverse(count), name));
    let words: Vec<String> = counts
        .iter()
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    words.join(", ")
}

/// The weights that hold NaN or infinity, with how many.
fn not_finite(weights: &BTreeMap<String, Tensor>) -> Vec<(&str, usize)> {
    let counted = weights
        .iter()
        .map(|(name, tensor)| (name.as_str(), tensor.not_finite()));
    counted.filter(|&(_, count)| count > 0).collect()
}

/// A number with its digits in groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn digits_come_in_groups_of_three() {
        for (number, wanted) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (859520964, "859,520,964"),
        ] {
            assert_eq!(grouped(number), wanted);
        }
    }
}
