//! The denoising network of a model, as evaluations run it: any table, any conditions.
//!
//! Takes a model, a size and prompts; returns what the network makes of states.

use std::collections::BTreeMap;

use compiler::program::pipeline::{Component, InputRole, LatentSize, Task};
use compiler::program::sampler::{Guidance, SamplerTable};
use compiler::value::dim::Bindings;
use compiler::value::tensor::Tensor;
use graphs::distill::Teacher;
use graphs::guidance::guidance_embedding;
use runtime::pipeline::{self, PictureSizes, Text};
use runtime::place::Place;
use runtime::sampling::{self, Conditioning, STAGES};
use runtime::session::Session;
use runtime::staged::{Staged, StagedSession};

use crate::error::{At, Failure};
use crate::model::Model;
use crate::{memory, progress, teacher};

/// A denoising network that is loaded.
pub(super) struct Denoiser {
    unet: StagedSession,
    place: String,
    /// Its noise schedule and what its output means.
    pub(super) teacher: Teacher,
    /// The embedded guidance scale, by the input's name, of networks that take one.
    embedded: BTreeMap<String, Tensor>,
    /// The guidance scale in the standard form; 1 is none.
    scale: f64,
}

impl Denoiser {
    /// Loads the network of a model for `size`, guided by a scale: by two calls, or embedded where the
    /// network takes one.
    pub(super) fn open(
        model: &Model,
        at: &Place,
        size: LatentSize,
        guidance: f64,
    ) -> Result<Denoiser, Failure> {
        let component = model.pipeline().of_task(Task::Denoise)?;
        let place = format!("{}: {}", model.place(), component.name);
        let width = model.pipeline().guidance_width();
        let mut embedded = BTreeMap::new();
        if let (Some(width), Some(input)) = (width, component.input(InputRole::GuidanceScale)) {
            // Networks are fed the scale minus one (spec 0.4).
            let row = guidance_embedding(guidance - 1.0, width).repeat(size.batch);
            embedded.insert(
                input.name.clone(),
                Tensor::from_f32(&[size.batch, width], &row),
            );
        }
        let scale = if width.is_some() { 1.0 } else { guidance };
        let called = LatentSize {
            batch: size.batch * if scale == 1.0 { 1 } else { 2 },
            ..size
        };
        let spinner = progress::spinner("compile");
        let loaded = model.sized(component, called, &Bindings::new(), None)?;
        let staged = match loaded.parts {
            Some(parts) => parts,
            None => Staged::of(&loaded.program, &STAGES).at(&place)?,
        };
        let parts: Vec<_> = staged.parts().map(|(_, program)| program).collect();
        memory::check(&place, &parts, at)?;
        let unet = StagedSession::open(&staged, loaded.weights, at, model.tuning()).at(&place)?;
        drop(spinner);
        Ok(Denoiser {
            unet,
            place,
            teacher: teacher::of(model)?,
            embedded,
            scale,
        })
    }

    /// Runs a table from latents `[batch, channels, height, width]`; returns the state after each
    /// step.
    pub(super) fn run(
        &self,
        table: &SamplerTable,
        conditions: &Conditions,
        latents: &Tensor,
        on_call: &mut dyn FnMut(),
    ) -> Result<Vec<Tensor>, Failure> {
        let with = |own: &BTreeMap<String, Tensor>| {
            let mut all = own.clone();
            all.extend(self.embedded.clone());
            all
        };
        let conditioning = Conditioning {
            prompt: with(&conditions.prompt),
            negative: (self.scale != 1.0).then(|| with(&conditions.negative)),
            guidance: Guidance {
                scale: self.scale,
                rescale: 0.0,
            },
        };
        let mut states = Vec::new();
        let mut draw = |_| Vec::new();
        let run = sampling::denoise(
            &self.unet,
            table,
            &conditioning,
            latents,
            &mut draw,
            &mut |_, read| {
                states.push(read()?);
                on_call();
                Ok(())
            },
        );
        run.at(&self.place)?;
        Ok(states)
    }
}

impl Denoiser {
    /// The state after the last step of a table.
    pub(super) fn last(
        &self,
        table: &SamplerTable,
        conditions: &Conditions,
        latents: &Tensor,
        on_call: &mut dyn FnMut(),
    ) -> Result<Tensor, Failure> {
        let states = self.run(table, conditions, latents, on_call)?;
        // A table without steps keeps the state.
        Ok(states
            .into_iter()
            .next_back()
            .unwrap_or_else(|| latents.clone()))
    }
}

/// What the network is fed for captions, by its inputs' names; f32 `[batch, …]`.
pub(super) struct Conditions {
    /// For the captions.
    pub(super) prompt: BTreeMap<String, Tensor>,
    /// For none.
    pub(super) negative: BTreeMap<String, Tensor>,
}

impl Conditions {
    /// What the text encoders of a model make of prompts, for pictures of `size`.
    pub(super) fn of_prompts(
        model: &Model,
        at: &Place,
        prompts: &[String],
        size: LatentSize,
    ) -> Result<Conditions, Failure> {
        let described = model.pipeline();
        let denoiser = described.of_task(Task::Denoise)?;
        let own = [size.height, size.width].map(|extent| extent * described.latents.pixels);
        let sizes = PictureSizes {
            original: own,
            crop: [0, 0],
            target: own,
        };
        let (mut texts, mut without) = (Vec::new(), Vec::new());
        for encoder in &described.prompts.encoders {
            let component = described.component(&encoder.component);
            let missing = || {
                let message = format!("{}: there is no {}", model.place(), encoder.component);
                Failure::job(message)
            };
            let component = component.ok_or_else(missing)?;
            let session = session(model, at, component, size)?;
            let tokenizer = model.tokenizer(&encoder.tokenizer)?;
            let encoded = |prompts: &[String]| -> Result<Text, Failure> {
                let mut ids = Vec::new();
                for prompt in prompts {
                    ids.extend(tokenizer.encode(prompt).at("tokenizer")?.ids);
                }
                let ids = Tensor::from_i64(&[prompts.len(), ids.len() / prompts.len()], &ids);
                pipeline::encode(&session, encoder, &ids).at(model.place())
            };
            let text = encoded(prompts)?;
            without.push(match described.prompts.absent_is_zero {
                true => text.zeros(),
                false => encoded(&vec![String::new(); prompts.len()])?,
            });
            texts.push(text);
        }
        let conditions = |texts: &[Text], is_negative| {
            let sizes = (&sizes, is_negative);
            pipeline::condition(described, denoiser, texts, sizes, None).at("text")
        };
        Ok(Conditions {
            prompt: conditions(&texts, false)?,
            negative: conditions(&without, true)?,
        })
    }
}

fn session(
    model: &Model,
    at: &Place,
    component: &Component,
    size: LatentSize,
) -> Result<Session, Failure> {
    let spinner = progress::spinner("compile");
    let place = format!("{}: {}", model.place(), component.name);
    let loaded = model.sized(component, size, &Bindings::new(), None)?;
    memory::check(&place, &[&loaded.program], at)?;
    let session = Session::open(&loaded.program, loaded.weights, at, model.tuning()).at(place);
    drop(spinner);
    session
}
