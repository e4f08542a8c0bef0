//! What a distillation method is: settings, draws, numbers, a step up to its loss, and what becomes
//! of its student.
//!
//! Takes a table of methods and values for settings; returns a method that is set. Each method is
//! one file with one [`Entry`]. Nothing here knows a method.

use std::collections::BTreeMap;

use compiler::program::pipeline::Distilled;
use compiler::program::training::{Draw, Drawn};
use compiler::value::tensor::Tensor;
use serde_json::{Map, Value};

use super::adapter::Adapter;
use super::error::DistillError;
use super::gamma::GammaEmbed;
use super::row::Numbers;
use super::scene::{Scene, Written};
use super::settings::{Setting, Values};
use crate::noise_schedule::NoiseSchedule;
use crate::samplers::PredictionType;

/// A method as the table has it.
pub struct Entry {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it does: one sentence without a full stop.
    pub about: &'static str,
    /// Its settings.
    pub settings: &'static [Setting],
    /// Settings of every training whose defaults are others here: names and values as text.
    pub defaults: &'static [(&'static str, &'static str)],
    /// The method for values of its settings.
    pub(super) set: Set,
}

/// Makes a method of values of its settings.
pub(super) type Set = fn(&Values, &Teacher) -> Result<Box<dyn Method>, DistillError>;

/// What a method must know of its teacher.
#[derive(Debug, Clone, PartialEq)]
pub struct Teacher {
    /// What its output means.
    pub prediction: PredictionType,
    /// The signal and noise at each of its timesteps.
    pub schedule: NoiseSchedule,
}

/// A method whose settings have values.
pub trait Method {
    /// What is drawn for each sample beside its noise.
    ///
    /// # Errors
    /// When the schedule is too short for the settings.
    fn draws(&self, schedule: &NoiseSchedule) -> Result<Vec<Draw>, DistillError>;

    /// The numbers of a step for what was drawn: an input of the step each. `features` is the
    /// length of the student's condition, if it has one.
    ///
    /// # Errors
    /// When a number was not drawn, or cannot have been.
    fn numbers(
        &self,
        schedule: &NoiseSchedule,
        features: Option<usize>,
        drawn: &Drawn,
    ) -> Result<Numbers, DistillError>;

    /// Writes the step up to its loss.
    ///
    /// # Errors
    /// When a network is missing or has another interface.
    fn write(&self, scene: &mut Scene<'_>) -> Result<Written, DistillError>;

    /// How the student differs from the teacher.
    fn student(&self) -> Student {
        Student::default()
    }

    /// What becomes of a trained student: an ordinary network, and the sampler that it is made for.
    fn result(&self) -> Outcome;
}

/// How a student differs from its teacher.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Student {
    /// Features of the condition that it takes beside the timestep.
    pub condition: Option<usize>,
    /// The matrices that are trained in place of the network's own.
    pub adapter: Option<Adapter>,
}

/// What becomes of a trained student.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The class of its sampler in diffusers and options of it; `None` for the teacher's own.
    pub sampler: Option<(&'static str, Map<String, Value>)>,
    /// How it was distilled, and how it wants to be sampled; nothing for ordinary training.
    pub distilled: Option<Distilled>,
    /// Turns its weights into those of an ordinary network.
    pub condition: Folding,
}

/// What happens to the condition of a student when it is done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Folding {
    /// There is none, or it stays.
    Keep,
    /// It becomes part of a bias (spec 1.4).
    Fold(GammaEmbed),
}

impl Folding {
    /// The weights of the ordinary network, by name.
    ///
    /// # Errors
    /// When the weights lack what is to be folded.
    pub fn apply(
        self,
        weights: BTreeMap<String, Tensor>,
    ) -> Result<BTreeMap<String, Tensor>, DistillError> {
        match self {
            Folding::Keep => Ok(weights),
            Folding::Fold(form) => super::fold::fold(form, weights),
        }
    }
}

/// The numbers of the draw `name`.
pub(super) fn drawn<'a>(drawn: &'a Drawn, name: &'static str) -> Result<&'a [f64], DistillError> {
    let found = drawn.get(name).map(Vec::as_slice);
    found.ok_or(DistillError::NotDrawn { name })
}

/// Timesteps of the draw `name`: whole numbers.
pub(super) fn drawn_timesteps(of: &Drawn) -> Result<Vec<usize>, DistillError> {
    let name = "timesteps";
    let timestep = |(sample, &found): (usize, &f64)| match found.fract() == 0.0 && found >= 0.0 {
        true => Ok(found as usize),
        false => Err(DistillError::Sample {
            sample,
            name,
            found,
            wanted: "a whole number, 0 or above".to_owned(),
        }),
    };
    let numbers = drawn(of, name)?.iter().enumerate();
    numbers.map(timestep).collect()
}
