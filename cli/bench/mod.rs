//! `splamc bench`: how fast one graph runs on this machine, kernel by kernel.
//!
//! Takes a model and sizes; runs the graph on inputs made from a fixed seed; prints times, rates
//! and the machine's own ceilings, as a table or as one JSON object. It checks no result.

mod inputs;
mod report;
mod train;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use compiler::program::pipeline::{Component, LatentSize, Task};
use compiler::value::tensor::Tensor;
use runtime::devices::{Ceilings, measure_ceilings};
use runtime::place::Place;
use runtime::profile::{KernelRow, kernels};
use runtime::session::Session;

use crate::error::{At, Failure};
use crate::loaded::Loaded;
use crate::model::Model;
use crate::options::{Execution, Precision};
use crate::{gradient, memory, options, progress, stdout, tensors};

use report::Report;
/// Measure how fast a graph runs, kernel by kernel.
///
/// Inputs are made from a fixed seed. Each kernel is compared with the most that the machine can
/// do: the rates of a matrix product and of a memory copy, measured before and after. A call is
/// measured whole, including what `sample` computes only once per prompt or timestep.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    splamc bench sd15/ --component unet --threads 2           # a table\n  \
    splamc bench sd15.splam --component vae_decoder --json    # one JSON object\n  \
    splamc bench sd15/ --train splad -b 2 -W 256 -H 256       # a training step")]
pub(crate) struct Arguments {
    /// The model: a diffusers or ONNX directory, one .onnx file, or a compiled .splam.
    model: PathBuf,
    /// The component to measure; needed where the model has several.
    #[arg(long, value_name = "NAME")]
    component: Option<String>,
    /// Width in pixels; the model's own size if not given. If no size is given for a .splam, its
    /// first program is measured.
    #[arg(short = 'W', long)]
    width: Option<usize>,
    /// Height in pixels; the model's own size if not given.
    #[arg(short = 'H', long)]
    height: Option<usize>,
    /// The number of pictures computed at once; 1 if not given.
    #[arg(short, long)]
    batch: Option<usize>,
    /// The type of weights and values; f32, or an exported graph's own types, if not given.
    #[arg(long, conflicts_with = "train")]
    dtype: Option<Precision>,
    /// Bind a symbolic size of a single graph, as NAME=SIZE.
    #[arg(long, value_name = "NAME=SIZE", value_parser = crate::options::binding)]
    bind: Vec<(String, usize)>,
    /// A safetensors file with the weights of a .splam that was compiled without them; random ones
    /// if not given.
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    #[command(flatten)]
    execution: Execution,
    /// Measure the mean squared error of the first output and all its gradients, as `splamc grad`
    /// computes them
    #[arg(long, group = "backward")]
    gradient: bool,
    /// Measure a whole training step with the model as its teacher: gradients, clipping, AdamW and
    /// EMA included
    #[arg(long, value_name = "METHOD", group = "backward",
          value_parser = crate::train::arguments::methods(),
          conflicts_with_all = ["component", "weights", "bind"])]
    train: Option<String>,
    /// With --train: a setting of the method, as NAME=VALUE; `splamc train --method METHOD --help`
    /// lists them
    #[arg(long, value_name = "NAME=VALUE", requires = "train", value_parser = setting)]
    set: Vec<(String, String)>,
    /// With --gradient or --train: use at most this much memory in all, such as 800MB or 16GiB
    #[arg(long, value_name = "SIZE", requires = "backward", value_parser = crate::options::bytes)]
    memory: Option<u64>,
    /// The number of timed runs, after one untimed run.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    runs: u64,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// One timed run.
struct Run {
    seconds: f64,
    rows: Vec<KernelRow>,
}

/// Measures and prints.
pub(crate) fn execute(arguments: &Arguments) -> Result<(), Failure> {
    let model = Model::open(&arguments.model)?;
    let component = match &arguments.train {
        Some(_) => model.pipeline().of_task(Task::Denoise)?,
        None => model.pick(arguments.component.as_deref())?,
    };
    let target = options::target(&model, arguments.execution.target)?;
    let at = arguments.execution.place(&model, true)?;
    let spinner = progress::spinner("ceilings");
    let before = ceilings(arguments)?;
    forget_peak();
    spinner.set_prefix("compile");
    let place = arguments.model.display().to_string();
    let (mut loaded, given) = prepare(arguments, &model, component, &at)?;
    let needs = memory::check(&place, &[&loaded.program], &at)?;
    spinner.suspend(|| progress::say(format!("{:>12} {needs}", component.name)));
    complete_weights(arguments, &mut loaded)?;
    let inputs = inputs::make(&loaded.program, given);
    let weights = std::mem::take(&mut loaded.weights);
    let session = Session::open(&loaded.program, weights, &at, model.tuning()).at(&place)?;
    spinner.finish_and_clear();
    let (runs, cpu_seconds) = timed(arguments, &session, &loaded, &inputs)?;
    let peak_resident_bytes = peak_resident_bytes();
    // The memory of the program is not there beside that of the next measurement.
    drop(session);
    let after = ceilings(arguments)?;
    let report = Report {
        target: target.name(),
        component: &component.name,
        program: &loaded.program,
        threads: arguments
            .execution
            .threads
            .unwrap_or_else(|| runtime::devices::cpu().threads),
        seconds: runs.iter().map(|run| run.seconds).collect(),
        cpu_seconds,
        rows: &runs[(runs.len() - 1) / 2].rows,
        before,
        after,
        peak_resident_bytes,
    };
    match arguments.json {
        true => stdout::print(format_args!("{:#}\n", report.json())),
        false => stdout::print(report.table()),
    }
}

/// The program to measure, and the inputs that may not be just anything.
fn prepare(
    arguments: &Arguments,
    model: &Model,
    component: &Component,
    at: &Place,
) -> Result<(Loaded, BTreeMap<String, Tensor>), Failure> {
    let place = arguments.model.display().to_string();
    let (mut loaded, given) = match &arguments.train {
        Some(method) => {
            let size = size(arguments, model)?;
            let training = train::load(model, method, &arguments.set, size)?;
            (training.loaded, training.inputs)
        }
        None => (load(arguments, model, component)?, BTreeMap::new()),
    };
    if arguments.gradient {
        loaded = gradient::of_squared_error(&place, loaded, arguments.memory, at)?;
    } else if let Some(bytes_max) = arguments.memory {
        loaded.program = gradient::within(&place, loaded.program, bytes_max, at)?;
    }
    Ok((loaded, given))
}

/// The program of the sizes asked for.
fn load(arguments: &Arguments, model: &Model, component: &Component) -> Result<Loaded, Failure> {
    let (batch, width, height) = (arguments.batch, arguments.width, arguments.height);
    if model.is_compiled() && (batch, width, height) == (None, None, None) {
        return model.load(component, &BTreeMap::new(), None);
    }
    let bindings = arguments.bind.iter().cloned().collect();
    let dtype = arguments.dtype.map(Into::into);
    model.sized(component, size(arguments, model)?, &bindings, dtype)
}

/// A setting of a method, as `NAME=VALUE`.
fn setting(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((pair.0.to_owned(), pair.1.to_owned()))
}

/// The size asked for.
fn size(arguments: &Arguments, model: &Model) -> Result<LatentSize, Failure> {
    let (latents, batch) = (&model.pipeline().latents, arguments.batch.unwrap_or(1));
    Ok(latents.of_pixels(batch, arguments.width, arguments.height)?)
}

/// Runs once for the caches, then as often as asked for; returns the timed runs, fastest first, and
/// the processor's seconds of one, where the system reports it.
fn timed(
    arguments: &Arguments,
    session: &Session,
    loaded: &Loaded,
    inputs: &BTreeMap<String, Tensor>,
) -> Result<(Vec<Run>, Option<f64>), Failure> {
    let bar = progress::bar("run", arguments.runs as usize + 1);
    let start = Instant::now();
    let clock = || start.elapsed().as_secs_f64();
    let run = || -> Result<Run, Failure> {
        let before = clock();
        let times = session
            .profile(inputs, &clock)
            .at(arguments.model.display())?;
        let seconds = clock() - before;
        bar.inc(1);
        let rows = kernels(&loaded.program, session.tiled(), &times);
        Ok(Run { seconds, rows })
    };
    run()?;
    let before = cpu_seconds();
    let runs: Result<Vec<Run>, Failure> = (0..arguments.runs).map(|_| run()).collect();
    let after = cpu_seconds();
    bar.finish_and_clear();
    let mut runs = runs?;
    runs.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    let spent = after.zip(before).map(|(after, before)| after - before);
    Ok((runs, spent.map(|spent| spent / arguments.runs as f64)))
}

/// Reads the weights that a program was compiled without, or makes them up and says so.
fn complete_weights(arguments: &Arguments, loaded: &mut Loaded) -> Result<(), Failure> {
    if let Some(path) = &arguments.weights {
        loaded.weights = tensors::read_weights(path)?;
    } else if loaded.weights.is_empty() && loaded.program.cost().parameters > 0 {
        progress::warn("the model was compiled without weights, and random ones take their place");
        loaded.weights = inputs::weights(&loaded.program);
    }
    Ok(())
}

fn ceilings(arguments: &Arguments) -> Result<Ceilings, Failure> {
    let start = Instant::now();
    measure_ceilings(arguments.execution.threads, &|| {
        start.elapsed().as_secs_f64()
    })
    .at("ceilings")
}

/// Sets the peak of resident memory back, so that the buffers of a measurement do not count.
fn forget_peak() {
    // Elsewhere than on Linux there is no such file, and no peak to read either.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// The largest resident memory of this process, where the system reports it.
fn peak_resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Seconds that all threads of this process spent on processors, where the system reports it.
fn cpu_seconds() -> Option<f64> {
    // proc(5): user and system time are fields 14 and 15, in ticks of 10 ms on every Linux; the
    // name, field 2, may hold anything but ends with the last parenthesis.
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: Option<Vec<u64>> = ticks.map(|field| field.parse().ok()).collect();
    Some(ticks?.iter().sum::<u64>() as f64 / 100.0)
}
