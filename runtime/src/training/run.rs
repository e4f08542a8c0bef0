//! The loop over updates.
//!
//! Takes a training step on a device, batches, and whoever computes numbers; returns a report of
//! each update. What happens between updates (checkpoints, pictures, stopping) is the caller's.

use std::error::Error;

use backends::clock::Clock;
use compiler::program::training::names::{GRAD_NORM, LOSS, UPDATED};
use compiler::program::training::{Drawn, probe_words};
use compiler::value::tensor::{Tensor, Values};
use thiserror::Error;

use super::feed::{Batch, Feed, FeedError, Named, Place};
use super::sessions::Sessions;
use crate::session::{Session, SessionError};

/// What a method and an optimiser say about the numbers of a micro-batch.
pub trait Recipe {
    /// The numbers of the method for what was drawn: inputs of the step.
    ///
    /// # Errors
    /// When a number cannot have been drawn.
    fn numbers(&self, drawn: &Drawn) -> Result<Named, Box<dyn Error>>;

    /// The numbers of the optimiser: inputs of the step. `updated` counts the updates that
    /// happened before; `last` tells whether this micro-batch completes one.
    fn scalars(&self, step: u64, updated: u64, last: bool) -> Named;
}

/// Where batches come from.
pub trait Batches {
    /// The batch at a place; places are asked for in order.
    ///
    /// # Errors
    /// When there is none.
    fn batch(&mut self, place: Place) -> Result<Batch, Box<dyn Error>>;
}

/// Why an update did not happen.
#[derive(Debug, Error)]
pub enum TrainingError {
    /// No batch can be had.
    #[error("{0}")]
    Batch(Box<dyn Error>),
    /// The method has no numbers for what was drawn.
    #[error("{0}")]
    Numbers(Box<dyn Error>),
    /// An input of the step is missing or of another size.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// The device fails.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The step has other results than a training step.
    #[error("the training step returns no {name}")]
    Result {
        /// The result that is missing.
        name: &'static str,
    },
    /// A number that cannot be learnt from.
    #[error(
        "update {step}: the loss is {loss}; the first value that is not finite is {}",
        first.as_deref().unwrap_or(match loss.is_finite() {
            true => "one of the gradient",
            false => "one inside the networks",
        })
    )]
    NotFinite {
        /// The update.
        step: u64,
        /// Its loss.
        loss: f64,
        /// What is not finite first, in words; `None` where that is not known without a replay
        /// of the update with probes.
        first: Option<String>,
    },
}

/// What an update did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Report {
    /// The update, from 1.
    pub step: u64,
    /// The mean loss of its micro-batches.
    pub loss: f64,
    /// The norm of the gradient before it was clipped.
    pub grad_norm: f64,
    /// Whether parameters changed: they do not where gradients of scaled losses overflow.
    pub updated: bool,
    /// What its runs of the step took, in seconds.
    pub run_seconds: f64,
}

/// A training step on a device with all that it is fed.
pub struct Trainer<'a> {
    /// The programs with their states.
    pub sessions: &'a Sessions,
    /// What is drawn.
    pub feed: Feed,
    /// Micro-batches of an update, at least 1.
    pub accumulate: u32,
    /// Whether the step scales its loss, so that gradients may overflow now and then.
    pub scaled: bool,
    /// The numbers.
    pub recipe: &'a dyn Recipe,
    /// What times the runs of the step.
    pub clock: Clock<'a>,
}

impl Trainer<'_> {
    /// Makes update `step`, counted from 0, after `updated` ones that changed parameters.
    ///
    /// # Errors
    /// When a batch cannot be had, the device fails, or a value is not finite.
    pub fn update(
        &self,
        step: u64,
        updated: u64,
        batches: &mut dyn Batches,
    ) -> Result<Report, TrainingError> {
        let mut loss = 0.0;
        let mut last = (0.0, false);
        let mut run_seconds = 0.0;
        for micro in 0..self.accumulate {
            let place = Place { step, micro };
            let batch = batches.batch(place).map_err(TrainingError::Batch)?;
            let is_last = micro + 1 == self.accumulate;
            let session = self.sessions.of(batch.latents.as_ref())?;
            let inputs = self.inputs(session, place, (&batch, updated, is_last))?;
            let began = (self.clock)();
            let results = session.run(&inputs)?;
            run_seconds += (self.clock)() - began;
            let own = number(&results, LOSS)?;
            if !own.is_finite() {
                return Err(not_finite(step, own, &inputs, &results));
            }
            loss += own / f64::from(self.accumulate);
            last = (
                number(&results, GRAD_NORM)?,
                number(&results, UPDATED)? != 0.0,
            );
            if is_last && !last.1 && !self.scaled {
                return Err(not_finite(step, own, &inputs, &results));
            }
        }
        Ok(Report {
            step: step + 1,
            loss,
            grad_norm: last.0,
            updated: last.1,
            run_seconds,
        })
    }

    /// All inputs of a micro-batch.
    fn inputs(
        &self,
        session: &Session,
        place: Place,
        (batch, updated, last): (&Batch, u64, bool),
    ) -> Result<Named, TrainingError> {
        let declared = session.inputs();
        let mut inputs = self.feed.inputs(place, batch, declared)?;
        let drawn = self.feed.drawn(place, &batch.drawn)?;
        let numbers = self.recipe.numbers(&drawn);
        inputs.extend(numbers.map_err(TrainingError::Numbers)?);
        inputs.extend(self.recipe.scalars(place.step, updated, last));
        // Constants of a step that does not read them are no inputs of its program.
        inputs.retain(|name, _| declared.iter().any(|(own, _)| own == name));
        Ok(inputs)
    }
}

/// The error for a loss or a gradient that is not finite: names the input that is not, or what the
/// first probe found, if the step has probes. States tell nothing any more: the update has spoilt
/// them.
fn not_finite(step: u64, loss: f64, inputs: &Named, results: &[(String, Tensor)]) -> TrainingError {
    let mut inputs = inputs.iter();
    let input = inputs.find(|(_, tensor)| !is_finite(tensor));
    let input = input.map(|(name, _)| format!("the input {name:?}"));
    let mut probes = results
        .iter()
        .filter_map(|(name, tensor)| Some((probe_words(name)?, tensor)));
    let probe = probes.find(|(_, tensor)| !is_finite(tensor));
    TrainingError::NotFinite {
        step: step + 1,
        loss,
        first: input.or_else(|| probe.map(|(words, _)| words.to_owned())),
    }
}

fn is_finite(tensor: &Tensor) -> bool {
    match tensor.values() {
        Values::Float(values) => values.iter().all(|value| value.is_finite()),
        Values::Int(_) | Values::Bool(_) => true,
    }
}

fn number(results: &[(String, Tensor)], name: &'static str) -> Result<f64, TrainingError> {
    let found = results.iter().find(|(own, _)| own == name);
    match found.map(|(_, tensor)| tensor.values()) {
        Some(Values::Float(values)) if values.len() == 1 => Ok(values[0]),
        Some(_) | None => Err(TrainingError::Result { name }),
    }
}
