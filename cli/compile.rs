//! `splamc compile`: a model in, an artifact out.
//!
//! Takes a model and sizes; gives a `.splam` directory with the programs of a sampling run, or of
//! one graph.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Instant;

use backends::gpu::commands::Commands;
use backends::gpu::dialect::Dialect;
use clap::{Parser, ValueEnum};
use compiler::DType;
use compiler::graph::{Role, TensorType};
use compiler::plan::Plan;
use compiler::program::Program;
use compiler::program::pipeline::{Component, LatentSize, Task, TextEncoder};
use compiler::value::stored::ReadError;
use compiler::value::tensor::Tensor;
use runtime::artifact::{
    About, ArtifactContents, ArtifactPart, ArtifactProgram, Kind, Port, Requirements,
};
use runtime::place::Options;
use runtime::sampling::STAGES;
use runtime::staged::Staged;
use runtime::tiling::Tiling;

use crate::ahead::Adapters;
use crate::error::{At, Failure, said};
use crate::kernels::Shown;
use crate::loaded::Loaded;
use crate::model::Model;
use crate::options::{Precision, Target, targets};
use crate::tiling::TilingOptions;
use crate::{ahead, artifact_folder, compiled, kernels, outputs, progress, stdout, tiling, tuning};

/// Compile a model to a `.splam` directory for fixed sizes and one target.
///
/// The directory holds everything that sampling needs: programs for the text encoder, the
/// denoising step with and without guidance and the decoder, the weights, the tokenizer and the
/// scheduler's configuration. A static web host can serve it.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    splamc compile sd15/ --target cpu -o sd15.splam -W 512 -H 512\n  \
    splamc compile sd15/ --target cpu -o wide.splam -W 1536 -H 768 --vae-tiling\n  \
    splamc compile sd15/ --target wgsl --dtype f16 -o sd15-gpu.splam   # any WebGPU adapter\n  \
    splamc compile sd15/ --target cuda --dtype f16 -o sd15-cuda.splam  # kernels as PTX\n  \
    splamc compile unet.onnx --target cpu --bind batch=2 --bind height=64 --bind width=64")]
pub(crate) struct Arguments {
    /// The model: a diffusers or ONNX directory, or one .onnx file.
    model: PathBuf,
    /// The machine to compile for.
    #[arg(long, value_parser = targets())]
    target: Target,
    /// The directory to write; MODEL's name with .splam if not given.
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// The type of weights and values; f32, or an exported graph's own types, if not given.
    #[arg(long)]
    dtype: Option<Precision>,
    /// Width in pixels; the model's own size if not given.
    #[arg(short = 'W', long)]
    width: Option<usize>,
    /// Height in pixels; the model's own size if not given.
    #[arg(short = 'H', long)]
    height: Option<usize>,
    /// The number of pictures computed at once.
    #[arg(short, long, default_value_t = 1)]
    batch: usize,
    /// Compile only this component.
    #[arg(long, value_name = "NAME")]
    component: Option<String>,
    #[command(flatten)]
    tiling: TilingOptions,
    /// Leave the weights out; `run` then takes them with --weights.
    #[arg(long)]
    no_weights: bool,
    /// Use direct convolutions only, in all later runs: those by Winograd's method are faster but
    /// round a little more.
    #[arg(long)]
    exact: bool,
    /// With --target wgsl: use the 16-bit float type in kernels; only adapters with the feature
    /// shader-f16 run them.
    #[arg(long)]
    shader_f16: bool,
    /// Bind a symbolic size of a single graph, as NAME=SIZE.
    #[arg(long, value_name = "NAME=SIZE", value_parser = crate::options::binding)]
    bind: Vec<(String, usize)>,
    /// Measure the most promising kernels on this machine, and store the times beside the artifact
    /// in OUTPUT.tune.json; runs of the artifact on this machine then choose by them.
    #[arg(long)]
    tune: Option<Tune>,
    /// Threads to tune for; all cores if not given.
    #[arg(long, requires = "tune", value_parser = crate::options::threads)]
    threads: Option<usize>,
    /// Print a stage (graph, kernel or code) to standard output, or write it to a directory.
    #[arg(long, value_name = "STAGE[=DIR]", value_parser = dump)]
    dump: Option<Dump>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Stage {
    /// The programs after all passes, as text.
    Graph,
    /// The kernels of a graphics processor, as typed instructions of one invocation.
    Kernel,
    /// The same in the target's language: WGSL or PTX.
    Code,
}

impl Stage {
    /// What names of files end in, with the language of kernels.
    fn extension(self, dialect: Option<&Dialect>) -> &'static str {
        match self {
            Stage::Graph => "graph",
            Stage::Kernel => "kernel",
            Stage::Code => dialect.map_or("txt", |dialect| dialect.extension),
        }
    }
}

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Tune {
    /// A minute at most.
    Quick,
}

#[derive(Debug, Clone)]
struct Dump {
    stage: Stage,
    folder: Option<PathBuf>,
}

fn dump(text: &str) -> Result<Dump, String> {
    let (stage, folder) = match text.split_once('=') {
        Some((stage, folder)) => (stage, Some(PathBuf::from(folder))),
        None => (text, None),
    };
    Ok(Dump {
        stage: Stage::from_str(stage, false)
            .map_err(|_| format!("{stage:?} is not a stage; expected graph, kernel or code"))?,
        folder,
    })
}

impl Arguments {
    /// The options of a model for browsers: what is not asked for is as without options.
    ///
    /// # Errors
    /// When this program has no such target.
    pub(crate) fn for_web(
        model: &Path,
        output: &Path,
        dtype: Option<Precision>,
        (width, height): (Option<usize>, Option<usize>),
    ) -> Result<Arguments, Failure> {
        /// A command line of which only the options of this command are read.
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            arguments: Arguments,
        }
        let line = [
            "compile".as_ref(),
            model.as_os_str(),
            "--target".as_ref(),
            "wgsl".as_ref(),
        ];
        let read = Line::try_parse_from(line).map_err(|error| Failure::usage(error.to_string()))?;
        Ok(Arguments {
            output: Some(output.to_owned()),
            dtype,
            width,
            height,
            ..read.arguments
        })
    }
}

/// Compiles and writes the artifact.
pub(crate) fn execute(arguments: &Arguments) -> Result<(), Failure> {
    let started = Instant::now();
    check_options(arguments)?;
    let model = Model::open(&arguments.model)?;
    if arguments.component.is_none() {
        model.expect_text_to_image()?;
    }
    let output = output_path(arguments)?;
    artifact_folder::check(&output)?;
    let latents = &model.pipeline().latents;
    let size = latents.of_pixels(arguments.batch, arguments.width, arguments.height)?;
    let tiling = arguments.tiling.tiling(size);
    let spinner = progress::spinner("compile");
    let programs = programs(arguments, &model, size, tiling)?;
    for program in &programs {
        dump_program(arguments, program)?;
    }
    let tuned: Vec<Program> = match arguments.tune {
        Some(Tune::Quick) => programs
            .iter()
            .map(|own| own.loaded.program.clone())
            .collect(),
        None => Vec::new(),
    };
    let code = code(arguments, &programs)?;
    let contents = contents(arguments, &model, (size, tiling), (programs, code))?;
    spinner.set_prefix("write");
    let written = artifact_folder::write(&output, &contents)?;
    drop(spinner);
    progress::say(format!(
        "wrote {} ({} files, {} MB) in {:.1} s",
        output.display(),
        written.files.len(),
        written.bytes / 1_000_000,
        started.elapsed().as_secs_f64(),
    ));
    match arguments.tune {
        Some(Tune::Quick) => {
            let execution = Options {
                threads: arguments.threads,
                exact: arguments.exact,
            };
            tuning::quick(&output, &tuned, execution)
        }
        None => Ok(()),
    }
}

/// Refuses options of another target.
fn check_options(arguments: &Arguments) -> Result<(), Failure> {
    let stage = arguments.dump.as_ref().map(|dump| dump.stage);
    match (arguments.target.dialect, stage, arguments.tune) {
        (None, Some(Stage::Kernel | Stage::Code), _) => {
            let message = "--dump kernel and --dump code need the target of a graphics processor";
            Err(Failure::usage(message)
                .hint("programs for cpu have no kernels as text; --dump graph shows them"))
        }
        (Some(_), _, Some(Tune::Quick)) => Err(Failure::usage("--tune needs --target cpu")
            .hint("only the kernels of this machine's processor can be measured")),
        (_, _, _) => Ok(()),
    }
}

/// One program of the artifact with its weights.
struct Named {
    name: &'static str,
    component: String,
    task: Task,
    loaded: Loaded,
}

/// The programs: every component's, and the denoising step with and without guidance; the encoder
/// of pictures only when it is asked for. The decoder's is for one tile where there are tiles.
fn programs(
    arguments: &Arguments,
    model: &Model,
    size: LatentSize,
    tiling: Option<Tiling>,
) -> Result<Vec<Named>, Failure> {
    let bindings: BTreeMap<String, usize> = arguments.bind.iter().cloned().collect();
    let components = model.components(arguments.component.as_deref())?;
    if tiling.is_some() && components.iter().all(|own| own.task != Task::Decode) {
        let found: Vec<&str> = components.iter().map(|own| own.name.as_str()).collect();
        let message = format!("--vae-tiling needs a decoder, but the components are {found:?}");
        return Err(Failure::usage(message).hint("only the decoder works in tiles"));
    }
    let is_wanted = |own: &&Component| own.task.is_sampled() || arguments.component.is_some();
    let tile = tiling.map(|tiling| tiling.tile());
    let mut programs = Vec::new();
    for component in components.into_iter().filter(is_wanted) {
        for (name, size) in component.task.calls(size, tile) {
            let dtype = arguments.dtype.map(Into::into);
            programs.push(Named {
                name,
                component: component.name.clone(),
                task: component.task,
                loaded: model.sized(component, size, &bindings, dtype)?,
            });
        }
    }
    Ok(programs)
}

/// Prints the text of a program, or writes it to a file called after it.
fn dump_program(arguments: &Arguments, program: &Named) -> Result<(), Failure> {
    match &arguments.dump {
        Some(dump) if dump.stage == Stage::Graph => {
            let name = format!("{}-{}", program.component, program.name);
            dump_text(dump, None, &name, program.loaded.program.text())
        }
        Some(_) | None => Ok(()),
    }
}

/// Prints the kernels of a program and of each part of it, or writes them to files.
fn dump_kernels(
    dump: &Dump,
    dialect: &Dialect,
    program: &Named,
    parts: &[ahead::Part],
) -> Result<(), Failure> {
    let shown = match dump.stage {
        Stage::Graph => return Ok(()),
        Stage::Kernel => Shown::Kernel,
        Stage::Code => Shown::Code,
    };
    for part in parts {
        let stage = part
            .stage
            .map_or(String::new(), |stage| format!("-{stage}"));
        let name = format!("{}-{}{stage}", program.component, program.name);
        let text = kernels::of_compiled(&part.compiled, dialect, shown, None)?;
        dump_text(dump, Some(dialect), &name, text)?;
    }
    Ok(())
}

fn dump_text(
    dump: &Dump,
    dialect: Option<&Dialect>,
    name: &str,
    text: String,
) -> Result<(), Failure> {
    let Some(folder) = &dump.folder else {
        return stdout::print(text);
    };
    std::fs::create_dir_all(folder)
        .map_err(said)
        .at(folder.display())?;
    let path = folder.join(format!("{name}.{}", dump.stage.extension(dialect)));
    outputs::write(&path, &[text.into()])
}

/// What the target adds to programs.
#[derive(Default)]
struct Code {
    /// Bytes that each program needs at once.
    peak_bytes: Vec<u64>,
    commands: BTreeMap<String, Commands>,
    limits: BTreeMap<String, u64>,
    features: BTreeSet<String>,
}

/// Compiles programs for a target that has a language of kernels; others take them as they are.
fn code(arguments: &Arguments, programs: &[Named]) -> Result<Code, Failure> {
    let Some(dialect) = arguments.target.dialect else {
        let plans = programs.iter().map(|own| own.loaded.program.plan());
        return Ok(Code {
            peak_bytes: plans.map(Plan::peak_bytes).collect(),
            ..Code::default()
        });
    };
    let mut adapters = Adapters::new(dialect, arguments.shader_f16);
    let mut peak_bytes = Vec::with_capacity(programs.len());
    for own in programs {
        let parts = adapters.add((&own.component, own.task), &own.loaded.program)?;
        if let Some(dump) = &arguments.dump {
            dump_kernels(dump, dialect, own, &parts)?;
        }
        ahead::announce(&own.component, own.name, &parts);
        peak_bytes.push(ahead::peak_bytes(&parts));
    }
    let finished = adapters.finish()?;
    let limits = finished.requirements.limits().into_iter();
    let limits = limits.filter(|&(_, needed)| needed > 0);
    let features = finished.requirements.features().into_iter();
    Ok(Code {
        peak_bytes,
        commands: finished.commands,
        limits: limits
            .map(|(name, needed)| (name.to_owned(), needed))
            .collect(),
        features: features.map(ToOwned::to_owned).collect(),
    })
}

fn contents(
    arguments: &Arguments,
    model: &Model,
    (size, tiling): (LatentSize, Option<Tiling>),
    (programs, code): (Vec<Named>, Code),
) -> Result<ArtifactContents, Failure> {
    let pipeline = arguments.component.is_none() && programs.len() > 1;
    let (mut types, mut weights) = (BTreeMap::new(), BTreeMap::new());
    let mut stored = Vec::new();
    let peak_bytes = code.peak_bytes.iter().copied().max().unwrap_or(0);
    for (own, needed) in programs.into_iter().zip(code.peak_bytes) {
        let Named {
            name,
            component,
            task,
            loaded,
        } = own;
        stored.push(ArtifactProgram {
            name: name.to_owned(),
            component: component.clone(),
            peak_bytes: needed,
            inputs: loaded.program.inputs().iter().map(port).collect(),
            outputs: loaded.program.outputs().iter().map(port).collect(),
            text: loaded.program.text(),
            whole: ArtifactPart::whole(&loaded.program),
            parts: parts((&component, task), &loaded.program)?,
        });
        for (name, ty) in loaded.program.params(Role::Weight) {
            let elements = ty
                .extents()
                .map_or(0, |shape| shape.iter().product::<usize>());
            let bytes = elements.saturating_mul(ty.dtype.bytes());
            types.insert(format!("{component}/{name}"), (ty.dtype, bytes));
        }
        if !arguments.no_weights {
            let typed = typed(loaded.weights, &loaded.program).at(&component)?;
            let named = typed.into_iter();
            weights.extend(named.map(|(name, tensor)| (format!("{component}/{name}"), tensor)));
        }
    }
    let names: Vec<&str> = stored.iter().map(|own| own.component.as_str()).collect();
    let mut described = model.pipeline().part(&names);
    described.latents.size = [size.height, size.width];
    let mut tokenizers = BTreeMap::new();
    if pipeline {
        for TextEncoder { tokenizer, .. } in &described.prompts.encoders {
            tokenizers.insert(tokenizer.clone(), model.tokenizer_files(tokenizer)?);
        }
    }
    // The type that most bytes are in, which for imported graphs is their own.
    let of_weights = |dtype: &DType| {
        let own = types.values().filter(|(own, _)| own == dtype);
        own.fold(0usize, |sum, (_, bytes)| sum.saturating_add(*bytes))
    };
    let floats = [DType::F32, DType::F16, DType::BF16, DType::F64];
    let dtype = floats
        .into_iter()
        .max_by_key(of_weights)
        .filter(|dtype| of_weights(dtype) > 0);
    let dtype = dtype.unwrap_or(DType::F32);
    Ok(ArtifactContents {
        about: About {
            kind: if pipeline {
                Kind::Pipeline
            } else {
                Kind::Graph
            },
            producer: format!("splamc {}", env!("CARGO_PKG_VERSION")),
            target: arguments.target.name().to_owned(),
            dtype: dtype.name().to_owned(),
            exact: arguments.exact,
            picture: pipeline.then(|| compiled::picture(&described, size)),
            vae_tiling: tiling.as_ref().map(tiling::stored),
            requirements: Requirements {
                peak_bytes,
                limits: code.limits,
                features: code.features,
            },
            pipeline: described,
        },
        programs: stored,
        commands: code.commands,
        tokenizers,
        weights: (!arguments.no_weights).then_some(weights),
    })
}

/// Weights in the types that a program declares.
fn typed(
    mut weights: BTreeMap<String, Tensor>,
    program: &Program,
) -> Result<BTreeMap<String, Tensor>, ReadError> {
    for (name, ty) in program.params(Role::Weight) {
        if let Some(tensor) = weights.get_mut(name)
            && tensor.dtype() != ty.dtype
        {
            *tensor = tensor.fetched()?.cast(ty.dtype);
        }
    }
    Ok(weights)
}

/// The parts in which sampling runs a program; none where it runs whole.
fn parts((component, task): (&str, Task), program: &Program) -> Result<Vec<ArtifactPart>, Failure> {
    if task != Task::Denoise {
        return Ok(Vec::new());
    }
    let staged = Staged::of(program, &STAGES).at(component)?;
    let parts = staged.parts();
    let parts = parts.map(|(stage, part)| (stage.map(|stage| stage.name), part));
    Ok(ArtifactPart::parts(program, parts))
}

/// An input or output of a program, whose sizes are known.
fn port((name, ty): &(String, TensorType)) -> Port {
    let shape = ty.extents().expect("a program has known sizes");
    Port {
        name: name.clone(),
        dtype: ty.dtype,
        shape: shape.into_iter().map(|extent| extent as u64).collect(),
    }
}

/// The directory to write.
fn output_path(arguments: &Arguments) -> Result<PathBuf, Failure> {
    if let Some(output) = &arguments.output {
        return Ok(output.clone());
    }
    let model = std::fs::canonicalize(&arguments.model);
    let model = model.map_err(said).at(arguments.model.display())?;
    Ok(PathBuf::from(model.file_stem().unwrap_or_default()).with_extension("splam"))
}
