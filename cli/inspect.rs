//! `splamc inspect`: what a model is, stage by stage.
//!
//! Takes a model in any form; prints a summary, its graph, its regions, its block programs, or the
//! plan of its program, on standard output.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::PathBuf;

use clap::ValueEnum;
use compiler::graph::text;
use compiler::graph::{Definition, Func, Role};
use compiler::passes;
use compiler::plan::{self, END};
use compiler::program::Program;
use compiler::program::pipeline::{Component, Task};
use compiler::region::Content;
use compiler::target::Target;
use compiler::tile::Choice;
use compiler::value::dim::Bindings;
use graphs::Imported;
use runtime::place::{Options, Place};
use runtime::sampling::STAGES;
use runtime::staged::Staged;

use crate::error::{At, Failure};
use crate::kernels::{self, Shown, counted};
use crate::loaded::{Loaded, not_finite};
use crate::memory::{self, Needs};
use crate::model::Model;
use crate::options::{self, Precision};
use crate::{gradient, stages, stdout};

/// Show a model's interface, parameters, cost, graph or plan.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    splamc inspect sd15/                                       # every component in brief\n  \
    splamc inspect sd15/ --component unet --stage graph | less # its graph as text\n  \
    splamc inspect sd15/ --component unet --stage region       # kernels, and why not fewer\n  \
    splamc inspect sd15/ --component unet --stage tile         # how blocks compute each kernel\n  \
    splamc inspect sd15/ --component unet --stage plan         # where kernels store, and the peak\n  \
    splamc inspect sd15/ --component unet --stage plan --gradient --memory 16GiB # backwards too")]
pub(crate) struct Arguments {
    /// The model: a diffusers or ONNX directory, one .onnx file, or a compiled .splam.
    model: PathBuf,
    /// Show only this component.
    #[arg(long, value_name = "NAME")]
    component: Option<String>,
    /// What to show in full, instead of the summary.
    #[arg(long)]
    stage: Option<Stage>,
    /// With --stage kernel or code: the graphics processor; what a .splam was compiled for, or wgsl,
    /// if not given
    #[arg(long, value_parser = options::targets())]
    target: Option<options::Target>,
    /// With --stage kernel or code: show only the kernel of this name.
    #[arg(long, value_name = "NAME")]
    kernel: Option<String>,
    /// The type of weights and values; f32, or an exported graph's own types, if not given.
    #[arg(long)]
    dtype: Option<Precision>,
    /// Width in pixels.
    #[arg(short = 'W', long)]
    width: Option<usize>,
    /// Height in pixels.
    #[arg(short = 'H', long)]
    height: Option<usize>,
    /// The number of pictures computed at once.
    #[arg(short, long, default_value_t = 1)]
    batch: usize,
    /// Show the graph that `splamc grad` runs: the mean squared error of the first output and all
    /// its gradients
    #[arg(long)]
    gradient: bool,
    /// With --gradient: use at most this much memory in all, such as 800MB or 16GiB
    #[arg(long, value_name = "SIZE", requires = "gradient", value_parser = options::bytes)]
    memory: Option<u64>,
    /// Bind a symbolic size of a single graph, as NAME=SIZE.
    #[arg(long, value_name = "NAME=SIZE", value_parser = crate::options::binding)]
    bind: Vec<(String, usize)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Stage {
    /// The imported graph with symbolic sizes; with bound ones where it holds for some sizes only.
    Graph,
    /// What each kernel computes, why not more, and how many kernels there are.
    Region,
    /// The block program of each kernel on a processor, or why it has none.
    Tile,
    /// The kernels of a graphics processor, as typed instructions of one invocation.
    Kernel,
    /// The same in the target's language: WGSL or PTX.
    Code,
    /// The kernels with their FLOPs and bytes, where each stores its result, and the memory peak.
    Plan,
}

/// Prints what was asked for.
pub(crate) fn execute(arguments: &Arguments) -> Result<(), Failure> {
    let model = Model::open(&arguments.model)?;
    let latents = &model.pipeline().latents;
    let size = latents.of_pixels(arguments.batch, arguments.width, arguments.height)?;
    let dtype = arguments.dtype.map(Into::into);
    let bindings: Bindings = arguments.bind.iter().cloned().collect();
    let sized = |component: &Component| -> Result<Loaded, Failure> {
        let loaded = model.sized(component, size, &bindings, dtype)?;
        if !arguments.gradient {
            return Ok(loaded);
        }
        let at = Place::cpu(Options {
            threads: Some(Target::CPU.compute.threads),
            exact: model.is_exact(),
        });
        let place = arguments.model.display().to_string();
        gradient::of_squared_error(&place, loaded, arguments.memory, &at)
    };
    for component in model.components(arguments.component.as_deref())? {
        match arguments.stage {
            Some(Stage::Graph) if arguments.gradient => {
                stdout::print(text::print_func(sized(component)?.program.func()))?;
            }
            Some(Stage::Graph) => {
                let func = match model.graph(component) {
                    Ok(imported) => imported.func,
                    // Exports may hold for some sizes only; those that were asked for may fit.
                    Err(_) => model
                        .sized(component, size, &bindings, None)?
                        .program
                        .func()
                        .clone(),
                };
                stdout::print(text::print_func(&func))?;
            }
            Some(Stage::Region) => {
                let loaded = sized(component)?;
                stdout::write(|out| print_regions(out, &loaded.program))?;
            }
            Some(Stage::Tile) => {
                let loaded = sized(component)?;
                stdout::write(|out| print_tiles(out, &loaded.program, model.is_exact()))?;
            }
            Some(Stage::Kernel | Stage::Code) => {
                let shown = match arguments.stage {
                    Some(Stage::Code) => Shown::Code,
                    _ => Shown::Kernel,
                };
                let loaded = sized(component)?;
                let name = arguments.kernel.as_deref();
                stdout::print(kernel_text(&model, arguments.target, &loaded, shown, name)?)?;
            }
            Some(Stage::Plan) => {
                let loaded = sized(component)?;
                stdout::write(|out| print_plan(out, &loaded.program, model.is_exact()))?;
            }
            None if !arguments.gradient && !open_sizes(&model, component, &bindings).is_empty() => {
                let bind = |failure: Failure| failure.hint("bind sizes with --bind NAME=SIZE");
                let graph = model.graph(component).map_err(bind)?;
                let open = open_sizes(&model, component, &bindings);
                stdout::write(|out| print_interface(out, &component.name, &graph, &open))?;
            }
            None => {
                let loaded = sized(component)?;
                let unsound = not_finite(&loaded.weights).at(&component.name)?;
                stdout::write(|out| print_summary(out, &component.name, &loaded, &unsound))?;
                if component.task == Task::Denoise && !arguments.gradient {
                    let staged = Staged::of(&loaded.program, &STAGES).at(&component.name)?;
                    let stages = stages::described(&staged);
                    stdout::print(format_args!("  sampling    {stages}\n"))?;
                }
            }
        }
    }
    Ok(())
}

/// The kernels of a program; those of an artifact for graphics processors are shown as they are
/// stored.
fn kernel_text(
    model: &Model,
    wanted: Option<options::Target>,
    loaded: &Loaded,
    shown: Shown,
    name: Option<&str>,
) -> Result<String, Failure> {
    let stored = model.artifact();
    let stored = stored.filter(|artifact| artifact.dialect().is_some());
    let target = match stored {
        Some(_) => options::target(model, wanted)?,
        None => wanted.unwrap_or(options::kernel_target()),
    };
    let Some(dialect) = target.dialect else {
        let message = format!("programs for {} have no kernels as text", target.name());
        return Err(Failure::usage(message).hint("--stage tile shows how blocks compute them"));
    };
    let Some(stored) = stored else {
        return kernels::of_program(&loaded.program, dialect, shown, name);
    };
    if shown == Shown::Kernel {
        let message = format!(
            "--stage kernel: the artifact holds kernels as {}",
            dialect.name
        );
        return Err(Failure::usage(message)
            .hint("--stage code shows them; the model that was compiled shows both"));
    }
    let (commands, _) = stored.commands(&loaded.program).at("--stage code")?;
    kernels::of_commands(commands.commands(), dialect, name)
}

/// The sizes of a single graph's inputs that neither the graph nor `bindings` says.
fn open_sizes(model: &Model, component: &Component, bindings: &Bindings) -> BTreeSet<String> {
    let mut open = BTreeSet::new();
    let inputs = match component.task {
        Task::Graph => model
            .inputs(component, &BTreeMap::new())
            .unwrap_or_default(),
        // Their sizes are those of pictures.
        Task::EncodeText | Task::Denoise | Task::Decode | Task::EncodePicture => Vec::new(),
    };
    for dim in inputs.iter().flat_map(|(_, ty)| &ty.shape) {
        dim.bind(bindings).symbols(&mut open);
    }
    open
}

/// The interface of a graph whose sizes are not all known.
fn print_interface(
    out: &mut dyn Write,
    name: &str,
    graph: &Imported,
    open: &BTreeSet<String>,
) -> io::Result<()> {
    let func = &graph.func;
    writeln!(out, "{name}")?;
    for (_, input, ty) in func.params(Role::Input) {
        writeln!(out, "  input       {input}: {ty}")?;
    }
    for (output, value) in func.results() {
        writeln!(out, "  output      {output}: {}", func.ty(*value))?;
    }
    let elements = graph.weights.values().map(|own| own.elements() as u64);
    writeln!(
        out,
        "  parameters  {} in {} tensors",
        grouped(elements.sum()),
        graph.weights.len()
    )?;
    writeln!(out, "  operators   {}", histogram(func))?;
    let open: Vec<&str> = open.iter().map(String::as_str).collect();
    writeln!(
        out,
        "  sizes       {} not bound; bind them with --bind NAME=SIZE to see memory and FLOPs",
        open.join(", ")
    )
}

fn print_summary(
    out: &mut dyn Write,
    name: &str,
    loaded: &Loaded,
    unsound: &[(&str, usize)],
) -> io::Result<()> {
    let Loaded {
        program,
        weights,
        patches,
        ..
    } = loaded;
    let (plan, cost) = (program.plan(), program.cost());
    let func = program.func();
    writeln!(out, "{name}")?;
    for (input, ty) in program.inputs() {
        writeln!(out, "  input       {input}: {ty}")?;
    }
    for (output, value) in func.results() {
        writeln!(out, "  output      {output}: {}", func.ty(*value))?;
    }
    writeln!(
        out,
        "  parameters  {} in {} tensors",
        grouped(cost.parameters),
        weights.len()
    )?;
    writeln!(out, "  weights     {} bytes", grouped(cost.weight_bytes))?;
    writeln!(
        out,
        "  peak        {} bytes of values, at least {}",
        grouped(plan.peak_bytes()),
        grouped(plan.lower_bound_bytes)
    )?;
    writeln!(out, "  FLOPs       {}", grouped(cost.flops))?;
    writeln!(out, "  operators   {}", histogram(func))?;
    if !patches.is_empty() {
        writeln!(out, "  passes      {}", ranked(passes::counts(patches)))?;
    }
    for (tensor, count) in unsound {
        writeln!(
            out,
            "  warning     weight {tensor:?} holds {count} values that are NaN or infinite"
        )?;
    }
    Ok(())
}

/// Every region with its cost and key; below it, why a rule refused it.
fn print_regions(out: &mut dyn Write, program: &Program) -> io::Result<()> {
    let regions = program.regions();
    let mut classes: BTreeMap<&'static str, usize> = BTreeMap::new();
    let mut keys = BTreeSet::new();
    let (mut flops, mut bytes) = (0u64, 0u64);
    let mut refusals = program.refusals().iter().peekable();
    for (id, region) in regions.iter() {
        let key = regions.key(region);
        let cost = (regions.flops(region), regions.bytes(region));
        write!(out, "{}", regions.print(id, region))?;
        writeln!(
            out,
            "    # {} FLOPs, {} bytes, key {key}",
            grouped(cost.0),
            grouped(cost.1)
        )?;
        while let Some(refusal) = refusals.next_if(|refusal| refusal.region == id) {
            writeln!(out, "    # not {}: {}", refusal.rule, refusal.reason)?;
        }
        *classes.entry(region.anchor.class().name()).or_default() += 1;
        keys.insert(key);
        flops = flops.saturating_add(cost.0);
        bytes = bytes.saturating_add(cost.1);
    }
    writeln!(
        out,
        "{}: {} kernels of {} kinds ({}), {} FLOPs, {} bytes",
        regions.name,
        regions.regions.len(),
        keys.len(),
        ranked(classes),
        grouped(flops),
        grouped(bytes),
    )?;
    writeln!(out, "fused by {}", ranked(program.fusions().clone()))?;
    Ok(())
}

/// Every block program, as text that reads back; as comments the time predicted for it and, for
/// kernels without one, why each program refused.
fn print_tiles(out: &mut dyn Write, program: &Program, exact: bool) -> io::Result<()> {
    let regions = program.regions();
    let threads = Target::CPU.compute.threads;
    let tiled = memory::tiled(program, threads, exact);
    let mut programs: BTreeMap<&'static str, usize> = BTreeMap::new();
    let choices = tiled.choices.iter().zip(&tiled.seconds);
    for ((id, _), (choice, seconds)) in regions.iter().zip(choices) {
        let name = match choice {
            Choice::Blocks(program) => {
                write!(out, "{program}")?;
                program.program
            }
            Choice::Plain(reasons) => {
                writeln!(out, "# {id} plain")?;
                for (name, reason) in reasons {
                    writeln!(out, "  # not {name}: {reason}")?;
                }
                "plain"
            }
        };
        writeln!(out, "  # {:.3} µs predicted", seconds * 1e6)?;
        *programs.entry(name).or_default() += 1;
    }
    writeln!(
        out,
        "# {}: {}, {:.3} ms predicted on {threads} threads of a current processor",
        regions.name,
        ranked(programs),
        tiled.seconds.iter().sum::<f64>() * 1e3,
    )?;
    Ok(())
}

/// Every kernel with its region and cost, and below it where what it stores lies: slab and first
/// byte, what it overwrites, and the time at which it is read last; time 1 is that of `r0`.
fn print_plan(out: &mut dyn Write, program: &Program, exact: bool) -> io::Result<()> {
    let (regions, plan, cost) = (program.regions(), program.plan(), program.cost());
    for place in plan.places.iter().filter(|place| place.birth == 0) {
        print_place(out, program, "input", place)?;
    }
    let alive = plan.live_bytes();
    let (mut flops, mut bytes) = (0u64, 0u64);
    for (id, region) in regions.iter() {
        let time = id.0 as usize + 1;
        let own = (regions.flops(region), regions.bytes(region));
        write!(out, "{}", regions.print(id, region))?;
        writeln!(
            out,
            "    # {} FLOPs, {} bytes, {} bytes alive",
            grouped(own.0),
            grouped(own.1),
            grouped(alive.get(time).copied().unwrap_or(0)),
        )?;
        for place in region.stores().iter().filter_map(|&b| plan.place(b)) {
            print_place(out, program, "stores", place)?;
        }
        flops = flops.saturating_add(own.0);
        bytes = bytes.saturating_add(own.1);
    }
    writeln!(
        out,
        "{}: {}, {} FLOPs, {} bytes read and stored, {} bytes of weights",
        regions.name,
        counted(regions.regions.len(), "kernel"),
        grouped(flops),
        grouped(bytes),
        grouped(cost.weight_bytes),
    )?;
    writeln!(
        out,
        "{}: peak {} bytes in {} of memory, at least {}, {:.1} % lost between buffers",
        regions.name,
        grouped(plan.peak_bytes()),
        counted(plan.slabs.len(), "slab"),
        grouped(plan.lower_bound_bytes),
        plan.fragmentation() * 100.0,
    )?;
    let threads = Target::CPU.compute.threads;
    let needs = Needs::of(program, &memory::tiled(program, threads, exact), threads);
    writeln!(
        out,
        "{}: {} bytes in all: {} of weights, {} that transformed ones add, {} of values and {} of \
         the tiles of {threads} threads",
        regions.name,
        grouped(needs.total()),
        grouped(needs.weights),
        grouped(needs.added),
        grouped(needs.values),
        grouped(needs.tiles),
    )?;
    Ok(())
}

fn print_place(
    out: &mut dyn Write,
    program: &Program,
    verb: &str,
    place: &plan::Place,
) -> io::Result<()> {
    let (slab, offset) = program.plan().address(place);
    let name = match &program.regions().buffer(place.buffer).content {
        Content::Param(param) => format!(" {:?}", param.name),
        Content::Constant(_) | Content::Computed => String::new(),
    };
    let shares = place.shares.map(|buffer| format!(" over {buffer}"));
    let death = match place.death {
        END => "the end".to_owned(),
        death => format!("time {death}"),
    };
    writeln!(
        out,
        "    # {verb} {}{name} at {slab}:{}, {} bytes{}, until {death}",
        place.buffer,
        grouped(offset),
        grouped(place.bytes),
        shares.unwrap_or_default(),
    )?;
    Ok(())
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
