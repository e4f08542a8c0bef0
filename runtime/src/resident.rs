//! The sampling loop of a device that keeps the latents: between steps nothing is read back.
//!
//! Takes a network in stages on an adapter and a sampler's table; gives the final latents. The host
//! writes timesteps, coefficients and noise, and reads latents where it is asked for them; all else
//! is copied from program to program on the device. Where a part of the network needs the host for
//! more than inputs, or a step thresholds by a quantile, there is no such loop: the loop of
//! `sampling`, which it agrees with up to roundings of f32, takes its place.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use backends::device::{Request, Resident as OnDevice};
use compiler::graph::TensorType;
use compiler::program::sampler::{Guidance, SamplerStep, SamplerTable};
use compiler::tile::Tuning;
use compiler::value::tensor::Tensor;

use crate::pipeline::error::{self, OnStep, SamplingError, finite};
use crate::pipeline::ports::timestep;
use crate::sampler_program::{
    COEFFICIENTS, LATENTS, NOISE, OUTPUT, SAMPLE, SamplerProgram, Shape, slot_name,
};
use crate::sampler_step::{SamplerState, SamplerStepError};
use crate::session::{Session, SessionError, converted};
use crate::staged::{StagedSession, all_same};

/// Tensors by name.
type Named = BTreeMap<String, Tensor>;

/// The network's input that steps compute, the one that they name, and its answer.
const UNET_SAMPLE: &str = "sample";
const UNET_TIMESTEP: &str = "timestep";
const UNET_OUTPUT: &str = "out_sample";

/// A network and a sampler's step on one device.
pub(crate) struct Resident<'a> {
    unet: &'a StagedSession,
    table: &'a SamplerTable,
    prologues: Vec<Part<'a>>,
    body: Part<'a>,
    sampler: SamplerProgram,
    step: Session,
    /// Extents of the latents.
    shape: Vec<usize>,
}

/// A part of the network, and where its inputs come from.
struct Part<'a> {
    executor: &'a dyn OnDevice,
    calls: &'a AtomicU64,
    /// What the host gives.
    given: Vec<String>,
    /// What earlier parts, by number, have computed.
    taken: Vec<(usize, String)>,
}

impl<'a> Resident<'a> {
    /// The loop for latents of this shape, `[batch, channels, height, width]`. `fixed` names the
    /// network's inputs that stay; both halves of its answer are guided, if there is guidance.
    /// `None` where the host has more to do.
    ///
    /// # Errors
    /// When the device fails.
    pub(crate) fn of(
        unet: &'a StagedSession,
        table: &'a SamplerTable,
        guidance: Option<Guidance>,
        fixed: &Named,
        shape: &[usize],
    ) -> Result<Option<Resident<'a>>, SamplingError> {
        let Some((prologues, body)) = parts(unet, fixed) else {
            return Ok(None);
        };
        let Some(sampler) = sampler(body.executor, table, guidance, shape) else {
            return Ok(None);
        };
        // A table is known when a run begins: no artifact has a program for it.
        let request = Request {
            program: &sampler.program,
            weights: Named::new(),
            tuning: &Tuning::default(),
            ahead: None,
        };
        let step = Session::on(Arc::clone(unet.device()), request)?;
        let resident = Resident {
            unet,
            table,
            prologues,
            body,
            sampler,
            step,
            shape: shape.to_vec(),
        };
        Ok(resident.stays().then_some(resident))
    }

    /// Whether steps and network hand over all they have on the device.
    fn stays(&self) -> bool {
        let Some(step) = self.step.resident() else {
            return false;
        };
        let body = self.body.executor;
        step.starts_with(&[COEFFICIENTS, NOISE])
            && body.hands_over(UNET_OUTPUT, step, OUTPUT)
            && step.hands_over(SAMPLE, body, UNET_SAMPLE)
            && self
                .kept()
                .iter()
                .all(|name| step.hands_over(name, step, name))
    }

    /// The state of a step that the next one reads.
    fn kept(&self) -> Vec<String> {
        let slots = (0..self.table.history_slots).map(slot_name);
        [LATENTS.to_owned()].into_iter().chain(slots).collect()
    }

    /// Runs every step from `state`; `inputs` holds all inputs of the network for the first one.
    /// Gives the final latents.
    ///
    /// # Errors
    /// When the device fails, noise does not fit, or what is read is not a number.
    pub(crate) fn run(
        &self,
        state: &SamplerState,
        inputs: &Named,
        draw: &mut dyn FnMut(usize) -> Vec<f32>,
        on_step: &mut OnStep<'_>,
    ) -> Result<Tensor, SamplingError> {
        let mut values = converted(self.unet.inputs(), inputs)?;
        let mut known: Vec<Option<Named>> = vec![None; self.prologues.len()];
        for (call, step) in self.table.steps.iter().enumerate() {
            if let Some(told) = values.get_mut(UNET_TIMESTEP) {
                *told = timestep(step.timestep, &TensorType::of(told));
            }
            self.prepare(&values, &mut known)?;
            self.call(values.remove(UNET_SAMPLE), &values)?;
            self.step(call, step, state, draw)?;
            let read = || self.latents(call);
            on_step(call, &read)?;
        }
        match self.table.steps.len() {
            0 => Ok(Tensor::from_f32(&self.shape, &state.x)),
            calls => self.latents(calls - 1),
        }
    }

    /// Runs the stages whose inputs have changed since `known`.
    fn prepare(&self, values: &Named, known: &mut [Option<Named>]) -> Result<(), SamplingError> {
        let mut is_new = vec![false; self.prologues.len()];
        for (number, part) in self.prologues.iter().enumerate() {
            let given = part.given(values);
            let known = &mut known[number];
            let same = known.as_ref().is_some_and(|known| all_same(known, &given));
            if same && !part.taken.iter().any(|(from, _)| is_new[*from]) {
                continue;
            }
            self.take(part)?;
            part.start(&given)?;
            is_new[number] = true;
            *known = Some(given);
        }
        Ok(())
    }

    /// Calls the network's body on what the last step computed, or on the first sample.
    fn call(&self, first: Option<Tensor>, values: &Named) -> Result<(), SamplingError> {
        self.take(&self.body)?;
        let mut given = self.body.given(values);
        match first {
            Some(sample) => {
                given.insert(UNET_SAMPLE.to_owned(), sample);
            }
            None => {
                let names = [(SAMPLE, UNET_SAMPLE)];
                let copied = self.executor().copy(&names, self.body.executor);
                copied.map_err(SessionError::from)?;
            }
        }
        self.body.start(&given)
    }

    /// Copies what a part takes over from earlier ones.
    fn take(&self, part: &Part) -> Result<(), SamplingError> {
        for (number, earlier) in self.prologues.iter().enumerate() {
            let names = part.taken.iter().filter(|(from, _)| *from == number);
            let names: Vec<(&str, &str)> = names
                .map(|(_, name)| (name.as_str(), name.as_str()))
                .collect();
            if !names.is_empty() {
                let copied = earlier.executor.copy(&names, part.executor);
                copied.map_err(SessionError::from)?;
            }
        }
        Ok(())
    }

    /// Takes a step of the sampler.
    fn step(
        &self,
        call: usize,
        step: &SamplerStep,
        state: &SamplerState,
        draw: &mut dyn FnMut(usize) -> Vec<f32>,
    ) -> Result<(), SamplingError> {
        let elements = state.x.len();
        // What is not drawn is multiplied by zero: it must be a number.
        let noise = step.draw.map_or_else(|| vec![0.0; elements], draw);
        if noise.len() != elements {
            return Err(SamplingError::Step(SamplerStepError::Length {
                what: "the noise",
                found: noise.len(),
                wanted: elements,
            }));
        }
        let next = self.table.steps.get(call + 1);
        let mut given = Named::from([
            (
                COEFFICIENTS.to_owned(),
                self.sampler.coefficients(step, next),
            ),
            (NOISE.to_owned(), Tensor::from_f32(&self.shape, &noise)),
        ]);
        let executor = self.executor();
        let kept = self.kept();
        if call == 0 {
            let zero = Tensor::from_f32(&self.shape, &vec![0.0; elements]);
            given.extend(kept.into_iter().map(|name| (name, zero.clone())));
            let x = Tensor::from_f32(&self.shape, &state.x);
            given.insert(LATENTS.to_owned(), x);
        } else {
            let is_read = |name: &&String| executor.input(name).is_some();
            let names = kept.iter().filter(is_read);
            let names: Vec<(&str, &str)> =
                names.map(|name| (name.as_str(), name.as_str())).collect();
            executor
                .copy(&names, executor)
                .map_err(SessionError::from)?;
        }
        // Inputs may take the place of results: this comes after those were taken.
        let body = self.body.executor;
        let copied = body.copy(&[(UNET_OUTPUT, OUTPUT)], executor);
        copied.map_err(SessionError::from)?;
        Ok(executor.start(&given).map_err(SessionError::from)?)
    }

    /// The latents after the last step, which was number `call`.
    fn latents(&self, call: usize) -> Result<Tensor, SamplingError> {
        let latents = self.executor().read(LATENTS);
        let latents = latents.map_err(SessionError::from)?;
        finite(latents, error::LATENTS, Some(call))
    }

    fn executor(&self) -> &dyn OnDevice {
        let executor = self.step.resident();
        executor.expect("what does not stay on the device is not resident")
    }
}

impl Part<'_> {
    fn given(&self, values: &Named) -> Named {
        let names = self.given.iter();
        names
            .filter_map(|name| Some((name.clone(), values.get(name)?.clone())))
            .collect()
    }

    fn start(&self, given: &Named) -> Result<(), SamplingError> {
        self.executor.start(given).map_err(SessionError::from)?;
        self.calls.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// The stages and the body of a network, if the host has nothing to do but give inputs.
fn parts<'a>(unet: &'a StagedSession, fixed: &Named) -> Option<(Vec<Part<'a>>, Part<'a>)> {
    let mut parts: Vec<Part> = Vec::new();
    for (session, calls) in unet.parts() {
        let executor = session.resident()?;
        let (mut given, mut taken) = (Vec::new(), Vec::new());
        for (name, _) in session.inputs() {
            if fixed.contains_key(name) || name == UNET_TIMESTEP {
                given.push(name.clone());
            } else if name != UNET_SAMPLE {
                let has = |part: &Part| part.executor.output(name).is_some();
                let from = parts.iter().position(has)?;
                if !parts[from].executor.hands_over(name, executor, name) {
                    return None;
                }
                if executor.input(name).is_some() {
                    taken.push((from, name.clone()));
                }
            }
        }
        let names: Vec<&str> = given.iter().map(String::as_str).collect();
        if !executor.starts_with(&names) {
            return None;
        }
        parts.push(Part {
            executor,
            calls,
            given,
            taken,
        });
    }
    let body = parts.pop()?;
    Some((parts, body))
}

/// The program of a table's steps for the network's body.
fn sampler(
    body: &dyn OnDevice,
    table: &SamplerTable,
    guidance: Option<Guidance>,
    shape: &[usize],
) -> Option<SamplerProgram> {
    let shape = Shape {
        latents: shape,
        sample: &body.input(UNET_SAMPLE)?,
        output: &body.output(UNET_OUTPUT)?,
        guidance,
    };
    // What does not fit is told of by the loop of the host.
    SamplerProgram::of(table, shape).ok()?
}
