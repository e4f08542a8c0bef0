//! Distillation methods: each file writes one training step of one method up to its scalar loss.
//!
//! Takes the functions of a teacher and a student, a method's settings and sizes; gives a function
//! whose inputs are latents, noise, conditions and numbers per sample, and whose result is the
//! loss. The numbers per sample are computed in f64 on the host by a pure function of the noise
//! schedule and what was drawn, in the method's own file. Nothing here differentiates, updates a
//! parameter, draws a number, or loops over time.
//!
//! The parameters of the student, and those of its EMA, are one flat weight each
//! ([`STUDENT`](compiler::program::training::names::STUDENT) and
//! [`EMA`](compiler::program::training::names::EMA)), in the order of
//! [`compiler::program::training::Layout`]; the teacher's are weights with the prefix `teacher.`.
//! Embeddings of γ and of guidance scales are host data: their arguments reach 10,000 radians.

use std::collections::BTreeMap;

use compiler::graph::{Func, Module};
use compiler::passes::inline;
use compiler::program::training::names::LOSS;

mod adapter;
pub mod denoise;
mod error;
pub mod fold;
pub mod gamma;
pub mod lcm;
pub mod loss;
mod method;
mod network;
pub mod perflow;
pub mod presets;
mod roll_out;
pub(crate) mod row;
mod scene;
pub mod settings;
pub mod splad;

pub use adapter::Adapter;
pub use error::DistillError;
pub use method::{Entry, Folding, Method, Outcome, Student, Teacher};
pub use roll_out::Solver;
pub use row::{Numbers, Point};
pub use scene::{Bodies, Sizes};
use scene::{STEP, Scene};
use settings::Values;

/// Every method.
const METHODS: &[&Entry] = &[
    &denoise::METHOD,
    &lcm::METHOD,
    &lcm::LORA,
    &perflow::METHOD,
    &splad::METHOD,
];

/// Every method, in the order of their names.
pub fn methods() -> impl Iterator<Item = &'static Entry> {
    METHODS.iter().copied()
}

/// The method `name`.
///
/// # Errors
/// When there is none.
pub fn method(name: &str) -> Result<&'static Entry, DistillError> {
    let found = methods().find(|entry| entry.name == name);
    found.ok_or_else(|| DistillError::Method {
        name: name.to_owned(),
        known: methods().map(|entry| entry.name).collect(),
    })
}

impl Entry {
    /// The method for values of its settings, as text by name, and a teacher; what is not given has
    /// its default. Other names in `given` are left to whoever they belong to.
    ///
    /// # Errors
    /// When a value has no meaning.
    pub fn set(
        &self,
        given: &BTreeMap<String, String>,
        teacher: &Teacher,
    ) -> Result<Box<dyn Method>, DistillError> {
        (self.set)(&Values::of(self.settings.iter().copied(), given)?, teacher)
    }
}

/// Writes one training step of `method` up to its loss.
///
/// Inputs, all f32: `latents` and `noise` `[batch, channels, height, width]`; what the networks
/// are conditioned on under their own names, with a teacher once more as `uncond.<name>` for
/// its unconditional half; and the method's numbers per sample. The result is [`LOSS`]; an
/// `observed` step also gives every named value on the way.
///
/// # Errors
/// When a network is missing or has another interface, a setting has no meaning, or sizes do not
/// fit.
pub fn step(
    method: &dyn Method,
    bodies: Bodies<'_>,
    sizes: Sizes,
    observed: bool,
) -> Result<Func, DistillError> {
    let mut scene = Scene::new(bodies, sizes)?;
    let written = method.write(&mut scene)?;
    scene.builder.result(LOSS, written.loss)?;
    for (name, value) in written.named {
        if observed {
            scene.builder.result(name, value)?;
        }
    }
    let mut module = Module {
        funcs: scene.called,
    };
    module.funcs.push(scene.builder.finish());
    Ok(inline(&module, STEP)?)
}
