//! `splamc sample`: a prompt in, a picture out.
//!
//! Takes a model in any form, prompts and a seed; gives PNG files and, if wanted, the latents of
//! every step. It hands tables and noise over; it computes neither.

mod guide;
mod pictures;
mod prompts;
mod schedule;
mod start;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use clap::ValueEnum;
use compiler::DType;
use compiler::program::Executable;
use compiler::program::sampler::SamplerTable;
use compiler::value::tensor::Tensor;
use graphs::samplers;
use indicatif::ProgressBar;
use runtime::place::Place;
use runtime::sampling::{self, Conditioning, STAGES, SamplingError};
use runtime::session::{Session, SessionError};
use runtime::staged::{Staged, StagedSession};
use runtime::tiling::Tiling;

use crate::error::{At, Failure};
use crate::facts::Sizes;
use crate::memory::Needs;
use crate::model::{Loaded, Model, Part};
use crate::options::{ComponentName, Execution, Precision};
use crate::tiling::TilingOptions;
use crate::{files, memory, progress, stages, tensors, tiling};

use guide::Guide;
use prompts::Prompts;
use schedule::Schedule;
use start::Start;

/// Sample pictures from a prompt.
///
/// The seed, sampler, steps, scale and noise mean what they mean in diffusers and A1111: the same
/// model and settings give the same picture.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    splamc sample sd15/ -p 'a lighthouse at dawn' --steps 20 -s 42\n  \
    splamc sample lcm.splam -p 'a fox' --sampler lcm --steps 4 -o fox.png\n  \
    splamc sample sd15/ -p 'a wide valley' -W 1536 -H 768 --vae-tiling\n  \
    splamc sample sd15/ -p 'a cat' -p 'a dog' -b 2 -o pets.png   # pets-0.png, pets-1.png")]
pub(crate) struct Arguments {
    /// The model: a diffusers or ONNX directory, or a compiled .splam.
    model: PathBuf,
    /// The prompt; once, or once per picture in order.
    #[arg(short, long, required = true)]
    prompt: Vec<String>,
    /// What the picture should not show; once, or once per picture in order.
    #[arg(short, long)]
    negative: Vec<String>,
    /// The PNG file to write; with -b N, out-0.png to out-{N-1}.png.
    #[arg(short, long, default_value = "out.png")]
    output: PathBuf,
    /// The sampler; the model's own configuration decides if none is given.
    #[arg(long, value_parser = sampler_names())]
    sampler: Option<String>,
    /// Steps; 4 for few-step samplers and 20 for others if not given.
    #[arg(long)]
    steps: Option<usize>,
    /// Guidance in the standard form: 1 is none. If not given: 7.5; 8.5 for models that embed the
    /// scale; 1 for samplers of distilled models.
    #[arg(long, allow_negative_numbers = true)]
    cfg_scale: Option<f64>,
    /// How timesteps are spaced; the sampler's own rule if not given.
    #[arg(long)]
    spacing: Option<SpacingName>,
    /// Use Karras noise levels (Euler, DPM++ and UniPC).
    #[arg(long)]
    karras: bool,
    /// Rescale guided outputs towards the deviation of the conditional ones, 0 to 1.
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    guidance_rescale: f64,
    /// The seed; picture i of a batch uses seed + i with philox.
    #[arg(short, long, default_value_t = 0)]
    seed: u64,
    /// What the seed means: philox as torch on CUDA and A1111's NV, torch-cpu as ComfyUI.
    #[arg(long, default_value = "philox")]
    rng: Rng,
    /// Pictures to sample at once.
    #[arg(short, long)]
    batch: Option<usize>,
    /// Width in pixels; the model's own size if not given.
    #[arg(short = 'W', long)]
    width: Option<usize>,
    /// Height in pixels; the model's own size if not given.
    #[arg(short = 'H', long)]
    height: Option<usize>,
    /// The type of weights and values.
    #[arg(long)]
    dtype: Option<Precision>,
    #[command(flatten)]
    execution: Execution,
    #[command(flatten)]
    tiling: TilingOptions,
    /// Read `init_latents` (and `step_noise`) from a safetensors file instead of the seed.
    #[arg(long)]
    latents_in: Option<PathBuf>,
    /// Write `latents` of every step, `final_latents` and `decoded` to a safetensors file.
    #[arg(long)]
    latents_out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum SpacingName {
    Leading,
    Trailing,
    Linspace,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Rng {
    Philox,
    TorchCpu,
}

fn sampler_names() -> clap::builder::PossibleValuesParser {
    clap::builder::PossibleValuesParser::new(samplers::names().collect::<Vec<_>>())
}

/// Samples the pictures.
pub(crate) fn execute(arguments: &Arguments) -> Result<(), Failure> {
    let started = Instant::now();
    let model = Model::open(&arguments.model)?;
    model.target(arguments.execution.target)?;
    for path in [Some(&arguments.output), arguments.latents_out.as_ref()] {
        path.map_or(Ok(()), |path| files::check_output(path))?;
    }
    check_parts(arguments, &model)?;
    let facts = model.facts()?;
    let start = Start::new(arguments, &facts)?;
    model.check_sizes(start.sizes, &facts)?;
    let Schedule {
        config,
        table,
        steps,
    } = Schedule::new(arguments, &facts)?;
    let guide = Guide::new(arguments, &config, &facts)?;
    let prompts = Prompts::new(arguments, &model, start.sizes.batch)?;
    let sizes = start.sizes;
    let tiling = arguments.tiling.of_run(&model, sizes);
    let tiling = tiling.at(arguments.model.display())?;
    let at = arguments.execution.place(&model, false)?;
    let here = (&model, &at);
    let decoder = decoder(arguments, here, sizes, tiling)?;

    let prompt_ids = prompts.ids(&arguments.prompt)?;
    let negative_ids = prompts.ids(&arguments.negative)?;
    let spinner = progress::spinner("compile");
    let encoder = Component::new(arguments, here, ComponentName::TextEncoder, sizes)?;
    drop(spinner);
    let encoder = encoder.open(&model)?;
    let spinner = progress::spinner("text");
    let prompt = sampling::embed(&encoder, &prompt_ids).at("text encoder")?;
    let negative = match guide.doubled {
        true => Some(sampling::embed(&encoder, &negative_ids).at("text encoder")?),
        false => None,
    };
    drop((encoder, spinner));

    let doubled = Sizes {
        batch: sizes.batch * (1 + usize::from(guide.doubled)),
        ..sizes
    };
    let unet = open_unet(arguments, here, doubled)?;
    let conditioning = Conditioning {
        prompt,
        negative,
        guidance: guide.guidance,
        timestep_cond: guide.embedded(sizes.batch),
    };
    let is_traced = arguments.latents_out.is_some();
    let (latents, trajectory) = denoise(&unet, &table, &conditioning, start, is_traced)?;
    drop(unet);

    let decoder = decoder.open(&model)?;
    let scale = (facts.scaling_factor, facts.shift_factor);
    let calls = sizes.batch * tiling.map_or(1, |own| own.count([sizes.height, sizes.width]));
    let bar = match tiling {
        Some(tiling) => {
            progress::say(format!("{:>12} {}", "", tiling::described(&tiling, sizes)));
            progress::bar("decode", calls)
        }
        None => progress::spinner("decode"),
    };
    let decoded = sampling::decode(&decoder, &latents, scale, tiling.as_ref(), &mut || {
        bar.inc(1)
    })
    .at("vae decoder")?;
    drop(bar);

    if let (Some(path), Some(trajectory)) = (&arguments.latents_out, trajectory) {
        let tensors = [
            ("latents".to_owned(), trajectory),
            ("final_latents".to_owned(), latents),
            ("decoded".to_owned(), decoded.clone()),
        ];
        tensors::write(path, &tensors)?;
    }
    pictures::write(arguments, &decoded, &config, steps, guide.scale)?;
    progress::say(format!("done in {:.1} s", started.elapsed().as_secs_f64()));
    Ok(())
}

/// Refuses a model that lacks a network of sampling, or wants more than sampling feeds it.
fn check_parts(arguments: &Arguments, model: &Model) -> Result<(), Failure> {
    let place = arguments.model.display();
    let parts = model.parts(None)?;
    let unet = Part::Component(ComponentName::Unet);
    if parts.contains(&unet) {
        let inputs = model.inputs(&unet, &BTreeMap::new())?;
        if inputs.iter().any(|(name, _)| name == "text_embeds") {
            let message =
                "found an SDXL pipeline, whose two text encoders are not sampled with yet";
            return Err(Failure::job(format!("{place}: {message}"))
                .hint("run a network of it alone: splamc run MODEL --component unet"));
        }
    }
    let wanted = [
        ComponentName::TextEncoder,
        ComponentName::Unet,
        ComponentName::VaeDecoder,
    ];
    match wanted
        .iter()
        .find(|&&name| !parts.contains(&Part::Component(name)))
    {
        None => Ok(()),
        Some(missing) => {
            let found: Vec<&str> = parts.iter().map(Part::name).collect();
            let message = format!("{place}: found {found:?}, wanted {:?} too", missing.name());
            Err(Failure::job(message)
                .hint("sampling needs a whole pipeline; splamc run takes one graph"))
        }
    }
}

/// Whether a sampler is one of distilled models.
fn few_step(sampler: &str) -> bool {
    ["splam", "lcm", "tcd", "perflow"].contains(&sampler)
}

/// A component that is compiled but not loaded.
struct Component {
    name: ComponentName,
    place: String,
    loaded: Loaded,
    at: Place,
    /// What helps where it is too large.
    advice: Option<&'static str>,
}

impl Component {
    fn new(
        arguments: &Arguments,
        (model, at): (&Model, &Place),
        name: ComponentName,
        sizes: Sizes,
    ) -> Result<Component, Failure> {
        Ok(Component {
            name,
            place: format!("{}: {}", arguments.model.display(), name.name()),
            loaded: model.component(name, sizes, arguments.dtype.map(Into::into))?,
            at: at.clone(),
            advice: None,
        })
    }

    /// Refuses parts of the component that do not fit in memory together; gives what they need.
    fn check(&self, parts: &[&Executable]) -> Result<Needs, Failure> {
        let needs = memory::check(&self.place, parts, &self.at);
        needs.map_err(|failure| self.advise(failure))
    }

    /// What helps against a failure of something too large.
    fn advise(&self, failure: Failure) -> Failure {
        match self.advice {
            Some(advice) => failure.hint(advice),
            None => failure,
        }
    }

    /// The same check; says what they need.
    fn announce(&self, parts: &[&Executable], spinner: &ProgressBar) -> Result<(), Failure> {
        let needs = self.check(parts)?;
        let gigaflops = self.loaded.program.cost().flops as f64 / 1e9;
        let name = self.name.name();
        spinner.suspend(|| progress::say(format!("{name:>12} {needs}, {gigaflops:.1} GFLOP")));
        Ok(())
    }

    /// Loads the component.
    fn open(mut self, model: &Model) -> Result<Session, Failure> {
        let spinner = progress::spinner("load");
        self.announce(&[&self.loaded.program], &spinner)?;
        let weights = std::mem::take(&mut self.loaded.weights);
        let session = Session::open(&self.loaded.program, weights, &self.at, model.tuning());
        let too_large = session.as_ref().is_err_and(SessionError::is_too_large);
        let session = session.at(&self.place);
        session.map_err(|failure| match too_large {
            true => self.advise(failure),
            false => failure,
        })
    }
}

/// Compiles the decoder for a picture or a tile, and refuses before anything runs what will not
/// fit in memory.
fn decoder(
    arguments: &Arguments,
    (model, at): (&Model, &Place),
    sizes: Sizes,
    tiling: Option<Tiling>,
) -> Result<Component, Failure> {
    let spinner = progress::spinner("compile");
    let sizes = match &tiling {
        Some(tiling) => sizes.tile(tiling),
        None => Sizes { batch: 1, ..sizes },
    };
    let decoder = ComponentName::VaeDecoder;
    let mut component = Component::new(arguments, (model, at), decoder, sizes)?;
    component.advice = Some(tiling::advice(tiling, model));
    component.check(&[&component.loaded.program])?;
    drop(spinner);
    Ok(component)
}

/// Compiles and loads the denoising network, stage by stage.
fn open_unet(
    arguments: &Arguments,
    here: (&Model, &Place),
    sizes: Sizes,
) -> Result<StagedSession, Failure> {
    let spinner = progress::spinner("compile");
    let component = Component::new(arguments, here, ComponentName::Unet, sizes)?;
    let staged = Staged::of(&component.loaded.program, &STAGES).at(&component.place)?;
    let parts: Vec<&Executable> = staged.parts().map(|(_, program)| program).collect();
    component.announce(&parts, &spinner)?;
    let stages = stages::described(&staged);
    spinner.suspend(|| progress::say(format!("{:>12} {stages}", "")));
    let weights = component.loaded.weights;
    StagedSession::open(&staged, weights, &component.at, here.0.tuning()).at(&component.place)
}

/// How often each part ran: `text 1×, time 4×, step 4×`.
fn computed(unet: &StagedSession) -> String {
    let parts = unet.calls().into_iter().map(|(stage, calls)| {
        let name = stage.map_or("step", |stage| stage.name);
        format!("{name} {calls}×")
    });
    parts.collect::<Vec<_>>().join(", ")
}

/// Runs the table; gives the final latents and, if the run is traced, those after each step
/// `[steps, …]`.
fn denoise(
    unet: &StagedSession,
    table: &SamplerTable,
    conditioning: &Conditioning,
    start: Start,
    is_traced: bool,
) -> Result<(Tensor, Option<Tensor>), Failure> {
    let Start {
        latents, mut draws, ..
    } = start;
    draws.check(table.draws, latents.shape())?;
    let bar = progress::bar("sample", table.steps.len());
    let mut trajectory = Vec::new();
    let mut on_step = |_: usize, read: &dyn Fn() -> Result<Tensor, SamplingError>| {
        if is_traced {
            trajectory.extend_from_slice(read()?.bytes());
        }
        bar.inc(1);
        Ok(())
    };
    let mut draw = |index: usize| draws.draw(index);
    let last = sampling::denoise(unet, table, conditioning, &latents, &mut draw, &mut on_step)
        .at("unet")?;
    bar.finish_with_message(computed(unet));
    let shape = [&[table.steps.len()], latents.shape()].concat();
    let steps = match is_traced {
        true => Some(Tensor::new(DType::F32, shape, trajectory.into()).at("latents")?),
        false => None,
    };
    Ok((last, steps))
}
