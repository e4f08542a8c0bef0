//! `splamc sample`: a prompt in, a picture out.
//!
//! Takes a model in any form, prompts and a seed; writes PNG files and, if asked for, the latents
//! of every step. It hands tables and noise over; it computes neither.

mod arguments;
mod guide;
mod not_finite;
mod pictures;
mod prompts;
mod schedule;
mod start;
mod tags;

use std::path::PathBuf;
use std::time::Instant;

use compiler::DType;
use compiler::program::Executable;
use compiler::program::pipeline::{
    Component, LatentSize, Pipeline, PipelineError, Task, TextEncoder,
};
use compiler::program::sampler::SamplerTable;
use compiler::value::dim::Bindings;
use compiler::value::tensor::Tensor;
use indicatif::ProgressBar;
use runtime::pipeline::{self, PictureSizes, SamplingError, Text};
use runtime::place::Place;
use runtime::sampling::{self, Conditioning, STAGES};
use runtime::session::{Session, SessionError};
use runtime::staged::{Staged, StagedSession};
use runtime::tiling::Tiling;

use crate::error::{At, Failure};
use crate::loaded::Loaded;
use crate::lora::Loras;
use crate::memory::Needs;
use crate::model::Model;
use crate::{memory, options, outputs, progress, stages, tensors, tiling};

pub(crate) use arguments::Arguments;
use guide::Guide;
use not_finite::explained;
use prompts::Prompts;
use schedule::Schedule;
use start::Start;
use tags::Texts;

/// Samples the pictures.
pub(crate) fn execute(arguments: &Arguments) -> Result<(), Failure> {
    let started = Instant::now();
    let model = Model::open(&arguments.model)?;
    model.expect_text_to_image()?;
    options::target(&model, arguments.execution.target)?;
    let described = model.pipeline();
    let networks = Networks::of(described).at(arguments.model.display());
    let networks = networks.map_err(|failure| {
        failure.hint("sampling needs a whole pipeline; splamc run takes one graph")
    })?;
    let start = Start::new(arguments, &described.latents)?;
    model.check_sizes(start.size)?;
    let paths = check_outputs(arguments, start.size.batch)?;
    let Schedule {
        config,
        table,
        steps,
    } = Schedule::new(arguments, described)?;
    let guide = Guide::new(arguments, &config, described)?;
    let prompts = Prompts::new(arguments, &model, start.size.batch)?;
    let written = Texts::new(arguments)?;
    let wanted = model.beside_own([&arguments.lora[..], &written.loras].concat());
    let threads = arguments.execution.threads;
    let modules = || model.modules(networks.denoiser, &networks.encoders);
    let loras = Loras::open(&wanted, modules, threads)?;
    let size = start.size;
    let sizes = sizes(arguments, described, size)?;
    let tiling = arguments.tiling.of_run(&model, size);
    let tiling = tiling.at(arguments.model.display())?;
    let at = arguments.execution.place(&model, false)?;
    let here = (&model, &at);
    if arguments.seed.is_random {
        progress::note(format!("seed {}", arguments.seed.number));
    }
    let decoder = decoder(arguments, here, networks.decoder, size, tiling)?;

    let dtype = arguments.dtype.map(Into::into);
    let (mut texts, mut negatives) = (Vec::new(), Vec::new());
    for (number, encoder) in described.prompts.encoders.iter().enumerate() {
        let component = networks.encoders[number];
        let spinner = progress::spinner("compile");
        let network = Network::new(arguments, here, component, size)?;
        let network = network.with(&loras, component)?;
        drop(spinner);
        let session = network.open(&model)?;
        let spinner = progress::spinner("text");
        let encoded = |texts: &[String]| {
            let text = pipeline::encode(&session, encoder, &prompts.ids(number, texts)?);
            explained(text, (&model, component), dtype)
        };
        let text = encoded(&written.prompts)?;
        let is_zero = described.prompts.absent_is_zero && arguments.negative.is_empty();
        match (guide.doubled, is_zero) {
            (false, _) => {}
            (true, true) => negatives.push(text.zeros()),
            (true, false) => negatives.push(encoded(&written.negatives)?),
        }
        texts.push(text);
        drop(spinner);
    }
    let conditions = |texts: &[Text], is_negative| {
        let guidance = guide.embedded.as_deref();
        let sizes = (&sizes, is_negative);
        pipeline::condition(described, networks.denoiser, texts, sizes, guidance).at("text")
    };
    let conditioning = Conditioning {
        prompt: conditions(&texts, false)?,
        negative: match guide.doubled {
            true => Some(conditions(&negatives, true)?),
            false => None,
        },
        guidance: guide.guidance,
    };
    let doubled = LatentSize {
        batch: size.batch * (1 + usize::from(guide.doubled)),
        ..size
    };
    let unet = open_unet(arguments, here, networks.denoiser, doubled, &loras)?;
    let is_traced = arguments.latents_out.is_some();
    let denoiser = (&model, networks.denoiser);
    let (latents, trajectory) =
        denoise(&unet, &table, &conditioning, start, is_traced, &|result| {
            explained(result, denoiser, dtype)
        })?;
    drop(unet);

    let decoder = decoder.open(&model)?;
    let scale = (
        described.latents.scaling_factor,
        described.latents.shift_factor,
    );
    let calls = size.batch * tiling.map_or(1, |own| own.count([size.height, size.width]));
    let bar = match tiling {
        Some(tiling) => {
            progress::say(format!("{:>12} {}", "", tiling::described(&tiling, size)));
            progress::bar("decode", calls)
        }
        None => progress::spinner("decode"),
    };
    let decoded = sampling::decode(&decoder, &latents, scale, tiling.as_ref(), &mut || {
        bar.inc(1)
    });
    drop(bar);
    let decoded = explained(decoded, (&model, networks.decoder), dtype)?;

    if let (Some(path), Some(trajectory)) = (&arguments.latents_out, trajectory) {
        let tensors = [
            ("latents".to_owned(), trajectory),
            ("final_latents".to_owned(), latents),
            ("decoded".to_owned(), decoded.clone()),
        ];
        tensors::write(path, &tensors)?;
    }
    pictures::write(arguments, &paths, &decoded, &config, steps, guide.scale)?;
    progress::say(format!("done in {:.1} s", started.elapsed().as_secs_f64()));
    Ok(())
}

/// The file of each picture, after a check that they and the latents can be written.
fn check_outputs(arguments: &Arguments, batch: usize) -> Result<Vec<PathBuf>, Failure> {
    let paths = pictures::paths(arguments, batch)?;
    let Some(latents) = &arguments.latents_out else {
        return Ok(paths);
    };
    outputs::check(latents)?;
    // A device takes both.
    let is_device = latents.exists() && !latents.is_file();
    if paths.contains(latents) && !is_device {
        let message = format!("-o and --latents-out both name {}", latents.display());
        return Err(Failure::usage(message).hint("choose another name for one of them"));
    }
    Ok(paths)
}

/// The networks of a run.
struct Networks<'a> {
    /// In the order of the pipeline's text encoders.
    encoders: Vec<&'a Component>,
    denoiser: &'a Component,
    decoder: &'a Component,
}

impl<'a> Networks<'a> {
    /// The networks of a whole pipeline.
    fn of(pipeline: &'a Pipeline) -> Result<Networks<'a>, PipelineError> {
        let first = pipeline.of_task(Task::EncodeText)?;
        let encoders = pipeline.prompts.encoders.iter();
        let encoder = |own: &TextEncoder| pipeline.component(&own.component).unwrap_or(first);
        Ok(Networks {
            encoders: encoders.map(encoder).collect(),
            denoiser: pipeline.of_task(Task::Denoise)?,
            decoder: pipeline.of_task(Task::Decode)?,
        })
    }
}

/// What the size conditioning of a model says; refuses its options for others.
fn sizes(
    arguments: &Arguments,
    pipeline: &Pipeline,
    size: LatentSize,
) -> Result<PictureSizes, Failure> {
    let (original, crop, target) = (
        arguments.original_size,
        arguments.crop,
        arguments.target_size,
    );
    if pipeline.prompts.size_ids.is_empty() && [original, crop, target].iter().any(Option::is_some)
    {
        let message =
            "--original-size, --crop and --target-size need a model with size conditioning";
        return Err(Failure::usage(message).hint("they are options of SDXL: leave them out"));
    }
    let own =
        [size.height, size.width].map(|extent| extent.saturating_mul(pipeline.latents.pixels));
    Ok(PictureSizes {
        original: original.unwrap_or(own),
        crop: crop.unwrap_or([0, 0]),
        target: target.unwrap_or(own),
    })
}

/// A component that is compiled but not loaded.
struct Network {
    name: String,
    place: String,
    loaded: Loaded,
    at: Place,
    /// What helps where it is too large.
    advice: Option<&'static str>,
}

impl Network {
    fn new(
        arguments: &Arguments,
        (model, at): (&Model, &Place),
        component: &Component,
        size: LatentSize,
    ) -> Result<Network, Failure> {
        let (name, dtype) = (component.name.clone(), arguments.dtype.map(Into::into));
        Ok(Network {
            place: format!("{}: {name}", arguments.model.display()),
            loaded: model.sized(component, size, &Bindings::new(), dtype)?,
            name,
            at: at.clone(),
            advice: None,
        })
    }

    /// The same component with what LoRA files add to its weights.
    fn with(self, loras: &Loras, component: &Component) -> Result<Network, Failure> {
        let weights = loras.applied(component, self.loaded.weights)?;
        Ok(Network {
            loaded: Loaded {
                weights,
                ..self.loaded
            },
            ..self
        })
    }

    /// Refuses parts of the component that do not fit in memory together; returns what they need.
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
        let name = &self.name;
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
    component: &Component,
    size: LatentSize,
    tiling: Option<Tiling>,
) -> Result<Network, Failure> {
    let spinner = progress::spinner("compile");
    let size = size.decoded(tiling.map(|tiling| tiling.tile()));
    let mut network = Network::new(arguments, (model, at), component, size)?;
    network.advice = Some(tiling::advice(tiling, model));
    network.check(&[&network.loaded.program])?;
    drop(spinner);
    Ok(network)
}

/// Compiles and loads the denoising network, stage by stage.
fn open_unet(
    arguments: &Arguments,
    here: (&Model, &Place),
    component: &Component,
    size: LatentSize,
    loras: &Loras,
) -> Result<StagedSession, Failure> {
    let spinner = progress::spinner("compile");
    let network = Network::new(arguments, here, component, size)?;
    let mut network = network.with(loras, component)?;
    let staged = match network.loaded.parts.take() {
        Some(parts) => parts,
        None => Staged::of(&network.loaded.program, &STAGES).at(&network.place)?,
    };
    let parts: Vec<&Executable> = staged.parts().map(|(_, program)| program).collect();
    network.announce(&parts, &spinner)?;
    let stages = stages::described(&staged);
    spinner.suspend(|| progress::say(format!("{:>12} {stages}", "")));
    let weights = network.loaded.weights;
    StagedSession::open(&staged, weights, &network.at, here.0.tuning()).at(&network.place)
}

/// How often each part ran: `text 1×, time 4×, step 4×`.
fn computed(unet: &StagedSession) -> String {
    let parts = unet.calls().into_iter().map(|(stage, calls)| {
        let name = stage.map_or("step", |stage| stage.name);
        format!("{name} {calls}×")
    });
    parts.collect::<Vec<_>>().join(", ")
}

/// Runs the table; returns the final latents and, if the run is traced, those after each step
/// `[steps, …]`.
fn denoise(
    unet: &StagedSession,
    table: &SamplerTable,
    conditioning: &Conditioning,
    start: Start,
    is_traced: bool,
    explained: &dyn Fn(Result<Tensor, SamplingError>) -> Result<Tensor, Failure>,
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
    let last = sampling::denoise(unet, table, conditioning, &latents, &mut draw, &mut on_step);
    let last = explained(last)?;
    bar.finish_with_message(computed(unet));
    let shape = [&[table.steps.len()], latents.shape()].concat();
    let steps = match is_traced {
        true => Some(Tensor::new(DType::F32, shape, trajectory.into()).at("latents")?),
        false => None,
    };
    Ok((last, steps))
}
