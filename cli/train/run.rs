//! A training: what it is made of, and its loop over updates.
//!
//! Takes the options, returns a training that is ready; runs its updates, and writes checkpoints,
//! metrics, students and pictures between them.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use compiler::program::training::names::{EMA, STUDENT};
use graphs::distill::{self, Adapter};
use graphs::lora::Format;
use runtime::place::Place;
use runtime::session::Session;
use runtime::training::checkpoint::{self, State};
use runtime::training::draws::Draws as RandomNumbers;
use runtime::training::feed::Feed;
use runtime::training::run::{Batches, Report, Trainer, TrainingError};
use runtime::training::sessions::Sessions;
use serde_json::json;

use crate::error::{At, Failure};
use crate::model::Model;
use crate::{gradient, memory, progress, teacher, tensors, tuning};

use super::arguments::{Arguments, LoraFormat};
use super::export::Export;
use super::folder::{METRICS, TrainingFolder, VALIDATION};
use super::pictures::{self, Samples};
use super::settings::{self, Chosen, Sources};
use super::source::Source;
use super::step::{self, Start, Step};

/// Whether Ctrl-C was pressed.
static STOPPED: AtomicBool = AtomicBool::new(false);

/// A training that is ready to run, and its batches.
pub(super) fn prepared(
    arguments: &Arguments,
    resume: bool,
    probed: bool,
) -> Result<(Run<'_>, Box<dyn Batches>), Failure> {
    let folder = TrainingFolder::at(&arguments.out);
    let resumed = last_checkpoint(arguments, resume, &folder)?;
    let chosen = arguments.given.complete(&Sources {
        method: arguments.method.as_deref(),
        preset: arguments.preset.as_deref(),
        config: arguments.config.as_deref(),
        resumed: resumed
            .as_ref()
            .map(|state| (state.method.as_str(), &state.settings)),
    })?;
    let model = Model::open(&arguments.teacher)?;
    let teacher = teacher::of(&model)?;
    let method = chosen
        .method
        .set(&chosen.all, &teacher)
        .map_err(Failure::usage)?;
    let at = arguments.execution.place(&model, false)?;
    let source = Source::open(arguments, &chosen, &model, &at)?;
    let mut step = step::build(
        &Start {
            model: &model,
            student: arguments.student.as_deref(),
            ema: arguments
                .ema_weights
                .as_deref()
                .map(tensors::read)
                .transpose()?,
            sizes: source.sizes.clone(),
            dtype: source.dtype,
            seed: chosen.general.count("seed") as u64,
            probed,
        },
        method,
        teacher,
        &chosen.general,
    )?;
    if let Some(state) = &resumed {
        expect_same(state, &step.model, &source.fingerprint)?;
        let states = checkpoint::read(&folder, state, &step.layout).at(arguments.out.display())?;
        for loaded in &mut step.loaded {
            loaded.weights.extend(states.clone());
        }
    }
    folder.prepare()?;
    let sessions = opened(arguments, &model, &mut step, &at)?;
    let run = Run {
        arguments,
        folder,
        data: source.fingerprint.clone(),
        batch: source.sizes[0].batch,
        caption_dropout: source.caption_dropout,
        pixels: [source.sizes[0].height, source.sizes[0].width]
            .map(|extent| extent * model.pipeline().latents.pixels),
        available: source.steps,
        chosen,
        model,
        step,
        sessions,
        at,
        resumed,
    };
    let batches = source.start(&run.chosen, &run.model, run.from())?;
    Ok((run, batches))
}

/// The programs of a step, loaded within the memory that may be used, of which people are told.
fn opened(
    arguments: &Arguments,
    model: &Model,
    step: &mut Step,
    at: &Place,
) -> Result<Sessions, Failure> {
    if let Some(bytes_max) = arguments.memory {
        for loaded in &mut step.loaded {
            let program = loaded.program.clone();
            loaded.program = gradient::within(&model.place(), program, bytes_max, at)?;
        }
    }
    let programs = step.loaded.iter().map(|loaded| loaded.program.executable());
    let needs = memory::check(&model.place(), &programs.collect::<Vec<_>>(), at)?;
    progress::say(format!("{:>12} {needs}", "memory"));
    let spinner = progress::spinner("load");
    let mut sessions = Vec::new();
    for loaded in &mut step.loaded {
        let weights = std::mem::take(&mut loaded.weights);
        let session = Session::open(&loaded.program, weights, at, model.tuning());
        sessions.push(session.at(model.place())?);
    }
    drop(spinner);
    Ok(Sessions::new(sessions))
}

/// The description of the last checkpoint, for a training that goes on; refuses a folder that holds
/// another training.
fn last_checkpoint(
    arguments: &Arguments,
    resume: bool,
    folder: &TrainingFolder,
) -> Result<Option<State>, Failure> {
    let place = arguments.out.display();
    let last = checkpoint::list(folder).at(&place)?.last().copied();
    match (resume, last) {
        (true, Some(step)) => {
            let state = checkpoint::read_state(folder, step).at(&place)?;
            Ok(Some(state))
        }
        (true, None) => {
            progress::note(format!(
                "{place}: there is no checkpoint yet: the training begins"
            ));
            Ok(None)
        }
        (false, Some(_)) => {
            let failure = Failure::job(format!("{place}: the folder holds a training"));
            Err(failure.hint("go on with --resume, or choose another --out"))
        }
        (false, None) => Ok(None),
    }
}

/// Refuses to resume with another teacher or other data.
fn expect_same(state: &State, model: &str, data: &str) -> Result<(), Failure> {
    let facts = [
        ("another teacher", model, &state.model),
        ("other data", data, &state.data),
    ];
    for (what, found, wanted) in facts {
        if found != wanted {
            let message = format!("the training to resume began with {what}");
            return Err(Failure::job(message).hint("pass the same, or choose another --out"));
        }
    }
    Ok(())
}

/// A training that is ready to run.
pub(super) struct Run<'a> {
    arguments: &'a Arguments,
    pub(super) folder: TrainingFolder,
    chosen: Chosen,
    model: Model,
    step: Step,
    sessions: Sessions,
    at: Place,
    data: String,
    /// Samples of a micro-batch.
    batch: usize,
    /// How often a caption is dropped.
    caption_dropout: f64,
    /// Rows and columns of pictures, in pixels.
    pixels: [usize; 2],
    /// Updates that there are batches for, if they end.
    available: Option<u64>,
    /// The checkpoint that it goes on from.
    pub(super) resumed: Option<State>,
}

/// Why a training ended before its last update.
pub(super) enum Ended {
    /// Something cannot be read, written or computed.
    Failed(Failure),
    /// A number that cannot be learnt from.
    NotFinite(Fault),
}

/// An update that is not finite.
pub(super) struct Fault {
    pub(super) error: TrainingError,
    /// The last checkpoint, 0 for none.
    pub(super) saved: u64,
    /// The update, counted from 0.
    pub(super) step: u64,
    /// What the update before it took, in seconds.
    pub(super) seconds: f64,
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Ended {
        Ended::Failed(failure)
    }
}

impl Run<'_> {
    /// Updates made before.
    pub(super) fn from(&self) -> u64 {
        self.resumed.as_ref().map_or(0, |state| state.step)
    }

    /// The step with all that it is fed.
    pub(super) fn trainer(&self) -> Result<Trainer<'_>, Failure> {
        let general = &self.chosen.general;
        let numbers = &self.step.numbers;
        Ok(Trainer {
            sessions: &self.sessions,
            feed: Feed {
                draws: RandomNumbers::new(general.count("seed") as u64),
                method: numbers
                    .method
                    .draws(&numbers.teacher.schedule)
                    .map_err(Failure::usage)?,
                batch: self.batch,
                caption_dropout: self.caption_dropout,
            },
            accumulate: numbers.optimizer.accumulate as u32,
            scaled: numbers.optimizer.loss_scale.is_some(),
            recipe: numbers,
            clock: &clock,
        })
    }

    /// Runs the updates that are left.
    pub(super) fn train(&self, mut batches: Box<dyn Batches>) -> Result<(), Ended> {
        let general = &self.chosen.general;
        let asked = general.count("steps") as u64;
        let steps = self.available.map_or(asked, |steps| steps.min(asked));
        let trainer = self.trainer()?;
        self.describe(steps);
        listen();
        let mut done = self.resumed.clone().unwrap_or_else(|| self.beginning());
        self.expect_same_sums(&mut done);
        let every = |name| general.count(name) as u64;
        let (save_every, sample_every) = (every("save-every"), every("sample-every"));
        let validate = every("validate");
        let samples = match sample_every + validate {
            0 => None,
            _ => Some(self.samples(validate > 0)?),
        };
        let bar = progress::bar("train", steps as usize);
        bar.set_position(done.step);
        let mut saved = done.step;
        let mut seconds = 0.0;
        let mut began = Instant::now();
        while done.step < steps {
            let report = trainer.update(done.step, done.updated, batches.as_mut());
            let report = match report {
                Ok(report) => report,
                Err(error @ TrainingError::NotFinite { .. }) => {
                    let step = done.step;
                    bar.finish_and_clear();
                    return Err(Ended::NotFinite(Fault {
                        error,
                        saved,
                        step,
                        seconds,
                    }));
                }
                Err(error) => return Err(self.stopped_by(&error, saved).into()),
            };
            done.step = report.step;
            done.updated += u64::from(report.updated);
            seconds = began.elapsed().as_secs_f64();
            began = Instant::now();
            let pictures = (self.batch * trainer.accumulate as usize) as f64;
            self.log(&report, seconds, pictures)?;
            bar.set_position(done.step);
            let rate = pictures / seconds;
            bar.set_message(format!("loss {:.5}  {rate:.2} images/s", report.loss));
            let stops = STOPPED.load(Ordering::Relaxed);
            let is_due = |every: u64| every > 0 && done.step.is_multiple_of(every);
            let is_last = done.step == steps;
            let (samples_now, validates_now) = (is_due(sample_every), is_due(validate));
            if is_due(save_every) || samples_now || validates_now || stops || is_last {
                bar.set_message("saving");
                self.save(&done)
                    .map_err(|failure| unsaved(failure, saved))?;
                saved = done.step;
            }
            if let Some(samples) = samples.as_ref().filter(|_| samples_now || validates_now) {
                bar.suspend(|| self.sample(samples, done.step, validates_now))?;
            }
            if saved == done.step {
                // The time of checkpoints and pictures does not count as an update's.
                began = Instant::now();
            }
            if stops && done.step < steps {
                bar.finish_and_clear();
                return Err(self.interrupted(done.step).into());
            }
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// A training before its first update.
    fn beginning(&self) -> State {
        State {
            format: checkpoint::FORMAT,
            step: 0,
            updated: 0,
            settings: self.chosen.all.clone(),
            method: self.chosen.method.name.to_owned(),
            model: self.step.model.clone(),
            data: self.data.clone(),
            place: self.place(),
            sums: self.sums(),
            scalars: Default::default(),
        }
    }

    /// Says where a training that goes on will differ from an unbroken one: sums have another order
    /// on another target, processor or number of threads, or in another version.
    fn expect_same_sums(&self, done: &mut State) {
        let (place, sums) = (self.place(), self.sums());
        let differ = "results will differ in their last bits from those of an unbroken training";
        if done.place != place {
            progress::note(format!("{place} instead of {}: {differ}", done.place));
        } else if done.sums != sums {
            progress::note(format!(
                "sums are in another order than at the checkpoint: {differ}"
            ));
        }
        (done.place, done.sums) = (place, sums);
    }

    /// Where the training runs, in words.
    fn place(&self) -> String {
        format!("{} of {}", self.at, tuning::machine())
    }

    /// What tells from others in which order numbers are added up: the tile programs, which depend on
    /// the processor, the threads and the target.
    fn sums(&self) -> String {
        let choices = &self.sessions.current().tiled().choices;
        checkpoint::fingerprint([format!("{choices:?}")])
    }

    /// Says what is trained, with every setting.
    fn describe(&self, steps: u64) {
        let method = self.chosen.method;
        let of_method = method.settings.iter().map(|setting| setting.name);
        let names = of_method.chain(settings::GENERAL.iter().map(|setting| setting.name));
        let pairs = names.map(|name| format!("{name} {}", self.chosen.all[name]));
        let pairs: Vec<String> = pairs.collect();
        progress::note(format!("{}: {}", method.name, pairs.join(", ")));
        let parameters = self.step.layout.total();
        progress::note(format!("{parameters} parameters, {steps} updates"));
    }

    /// Appends an update to the metrics.
    fn log(&self, report: &Report, seconds: f64, pictures: f64) -> Result<(), Failure> {
        let line = json!({
            "step": report.step,
            "loss": report.loss,
            "grad_norm": report.grad_norm,
            "lr": self.step.numbers.rate.at(report.step - 1),
            "updated": report.updated,
            "seconds": seconds,
            "host_seconds": (seconds - report.run_seconds).max(0.0),
            "images_per_second": pictures / seconds,
        });
        self.folder.log(METRICS, &line.to_string())
    }

    /// Writes a checkpoint and the students.
    fn save(&self, done: &State) -> Result<(), Failure> {
        let place = self.arguments.out.display();
        let session = self.sessions.current();
        let keep = self
            .chosen
            .general
            .positive("keep")
            .map_err(Failure::usage)?;
        let state = State {
            settings: self.chosen.all.clone(),
            ..done.clone()
        };
        checkpoint::write(&self.folder, session, &self.step.layout, state, keep).at(&place)?;
        let outcome = self.step.numbers.method.result();
        let keeps = outcome.condition == distill::Folding::Keep;
        let export = Export {
            teacher: &self.model,
            student: self.arguments.student.as_deref(),
            outcome,
            condition: self.step.student.condition_width.filter(|_| keeps),
            adapter: self.adapter(),
            copy: self.arguments.copy,
        };
        for (folder, state) in [("student", STUDENT), ("ema", EMA)] {
            let flat = session.state(state).at(&place)?;
            let Some(flat) = flat else { continue };
            let parameters = self.step.layout.cut(&flat).at(&place)?;
            export.write(&self.folder.path().join(folder), parameters)?;
        }
        Ok(())
    }

    /// The matrices that are trained in place of the network's weights, and how files of them are
    /// spelled.
    fn adapter(&self) -> Option<(Adapter, Format)> {
        let adapter = self.step.numbers.method.student().adapter?;
        let format = match self.arguments.lora_format {
            LoraFormat::Diffusers => Format::Diffusers,
            LoraFormat::Kohya => Format::Kohya,
        };
        Some((adapter, format))
    }

    /// What pictures are sampled, and whether they are compared with the teacher's.
    fn samples(&self, validates: bool) -> Result<Samples<'_>, Failure> {
        let distilled = self.step.numbers.method.result().distilled;
        let guidance = distilled.and_then(|own| own.distilled_guidance?.parse().ok());
        Samples::new(
            &self.model,
            validates,
            self.folder.path(),
            self.arguments.prompts.as_deref(),
            guidance,
            self.arguments.execution.words(),
            self.pixels,
        )
    }

    /// Draws a grid of the average's pictures, and where asked for writes how far they are from the
    /// teacher's own.
    fn sample(&self, samples: &Samples<'_>, step: u64, validates: bool) -> Result<(), Failure> {
        let average = self.folder.path().join("ema");
        let errors = samples.draw(&average, step)?;
        if validates {
            pictures::say(step, &errors);
            let line = json!({ "step": step, "paired_error": errors });
            self.folder.log(VALIDATION, &line.to_string())?;
        }
        Ok(())
    }

    /// The failure of an update, with the last checkpoint.
    fn stopped_by(&self, error: &TrainingError, saved: u64) -> Failure {
        let failure = Failure::of(error);
        match (&failure.hint, saved) {
            (Some(_), _) | (None, 0) => failure,
            (None, step) => failure.hint(format!("go on from update {step} with --resume")),
        }
    }

    fn interrupted(&self, step: u64) -> Failure {
        let failure = Failure::job(format!("stopped after update {step}, which is saved"));
        let (teacher, out) = (
            self.arguments.teacher.display(),
            self.arguments.out.display(),
        );
        failure.hint(format!(
            "go on with: splamc train {teacher} --out {out} --resume …"
        ))
    }
}

/// Seconds since the first call.
fn clock() -> f64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed().as_secs_f64()
}

/// The failure to save, with what is left.
fn unsaved(failure: Failure, saved: u64) -> Failure {
    match (&failure.hint, saved) {
        (Some(_), _) => failure,
        (None, 0) => failure.hint("start again when it can be written"),
        (None, step) => failure.hint(format!(
            "checkpoint-{step} is whole: go on with --resume when it can be written"
        )),
    }
}

/// Lets Ctrl-C end the training after the current update; a second one ends it at once.
fn listen() {
    // A second handler is refused; there is one.
    let _ = ctrlc::set_handler(|| match STOPPED.swap(true, Ordering::Relaxed) {
        false => progress::note("stopping after this update; press Ctrl-C again to stop at once"),
        // What shells report of a program that the signal SIGINT, number 2, ended.
        true => std::process::exit(128 + 2),
    });
}
