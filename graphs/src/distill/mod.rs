//! Distillation methods: each file writes one training step of one method up to its scalar loss.
//!
//! Takes the functions of a teacher and a student, a method's settings and sizes; gives a function
//! whose inputs are latents, noise, conditions and numbers per sample, and whose result is the
//! loss. The numbers per sample are computed in f64 on the host by a pure function of the noise
//! schedule and what was drawn, in the method's own file. Nothing here differentiates, updates a
//! parameter, draws a number, or loops over time.
//!
//! The parameters of the student, and those of its EMA, are one flat weight each
//! ([`crate::optimizer::STUDENT`], [`crate::optimizer::EMA`]), in the order of
//! [`crate::optimizer::Layout`]; the teacher's are weights with the prefix `teacher.`.
//! Embeddings of γ and of guidance scales are host data: their arguments reach 10,000 radians.

use compiler::graph::{Func, Module};
use compiler::passes::inline;

use crate::optimizer::LOSS;

pub mod denoise;
mod error;
pub mod fold;
pub mod lcm;
pub mod loss;
mod network;
mod roll_out;
mod row;
mod scene;
pub mod splad;

pub use error::DistillError;
pub use row::{Numbers, Point};
pub use scene::{Bodies, Sizes};
use scene::{STEP, Scene};

/// A method with its settings.
#[derive(Debug, Clone, PartialEq)]
pub enum Method {
    /// Predict what was added to noised latents: what a teacher is trained by.
    Denoise(denoise::Settings),
    /// Latent consistency distillation.
    Lcm(lcm::Settings),
    /// Sub-path linear approximation distillation.
    Splad(splad::Settings),
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
    method: &Method,
    bodies: Bodies<'_>,
    sizes: Sizes,
    observed: bool,
) -> Result<Func, DistillError> {
    let mut scene = Scene::new(bodies, sizes)?;
    let written = match method {
        Method::Denoise(settings) => denoise::write(&mut scene, settings)?,
        Method::Lcm(settings) => lcm::write(&mut scene, settings)?,
        Method::Splad(settings) => splad::write(&mut scene, settings)?,
    };
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
