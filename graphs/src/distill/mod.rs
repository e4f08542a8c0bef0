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

use std::collections::BTreeMap;

use compiler::graph::{Builder, Func, GraphError, Module, Role, TensorType, Value};
use compiler::ops::{Concat, StopGradient};
use compiler::passes::{InlineError, inline};
use compiler::value::dim::Bindings;
use compiler::value::dtype::DType;
use compiler::value::tensor::Tensor;
use thiserror::Error;

use crate::optimizer::{LOSS, Layout, OptimizerError};

pub mod denoise;
pub mod fold;
pub mod lcm;
pub mod loss;
mod network;
mod roll_out;
mod row;
pub mod splad;

use network::{At, Network};
pub use row::Point;

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

/// The networks of a step: functions of two names as [`crate::models::unet::build`] makes them,
/// with a timestep per sample.
#[derive(Debug, Clone, Copy)]
pub struct Bodies<'a> {
    /// The teacher; [`Method::Denoise`] has none.
    pub teacher: Option<&'a Func>,
    /// The student, and so its EMA.
    pub student: &'a Func,
}

/// The sizes of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Samples in one step.
    pub batch: usize,
    /// Rows of the latents.
    pub height: usize,
    /// Columns of the latents.
    pub width: usize,
    /// Tokens of the text.
    pub tokens: usize,
}

impl Sizes {
    /// What the symbols of a network stand for when `batches` batches go through it together.
    fn bindings(self, batches: usize) -> Bindings {
        let sizes = [
            ("batch", self.batch.saturating_mul(batches)),
            ("height", self.height),
            ("width", self.width),
            ("tokens", self.tokens),
        ];
        let known = |(name, size): (&str, usize)| (name.to_owned(), size);
        sizes.into_iter().map(known).collect()
    }
}

/// A copy of `value` that nothing is learnt through.
fn stop_gradient(scene: &mut Scene<'_>, value: Value) -> Result<Value, DistillError> {
    Ok(scene.builder.push(StopGradient, &[value])?)
}

/// Why there is no step, or no numbers for one.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum DistillError {
    /// The numbers of networks and sizes do not fit each other.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The bodies do not fit their calls, or have one name.
    #[error(transparent)]
    Inline(#[from] InlineError),
    /// The student's weights have no layout.
    #[error(transparent)]
    Layout(#[from] OptimizerError),
    /// A method needs a network that was not given.
    #[error("found no teacher, which {method} wants")]
    NoTeacher {
        /// The method.
        method: &'static str,
    },
    /// A network is not one that a step can call.
    #[error("network {func:?} has {found}, wanted {wanted}")]
    Interface {
        /// The function.
        func: String,
        /// What is there.
        found: String,
        /// What the step needs.
        wanted: &'static str,
    },
    /// A setting that has no meaning.
    #[error("{name} is {found}, wanted {wanted}")]
    Setting {
        /// The option.
        name: &'static str,
        /// Its value.
        found: String,
        /// What would do.
        wanted: String,
    },
    /// A number that no draw may give.
    #[error("sample {sample} has {name} {found}, wanted {wanted}")]
    Sample {
        /// Its place in the batch.
        sample: usize,
        /// What was drawn.
        name: &'static str,
        /// Its value.
        found: f64,
        /// What would do.
        wanted: String,
    },
}

/// What a method wrote.
struct Written {
    loss: Value,
    /// The values on the way, by the names that the results of an observed step bear.
    named: Vec<(&'static str, Value)>,
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

/// The name of the function that is written.
const STEP: &str = "step";

/// A step under construction: what every method finds there.
struct Scene<'a> {
    builder: Builder,
    bodies: Bodies<'a>,
    /// The bodies that are called.
    called: Vec<Func>,
    sizes: Sizes,
    layout: Layout,
    latents: Value,
    noise: Value,
    conditions: BTreeMap<String, Value>,
}

impl<'a> Scene<'a> {
    fn new(bodies: Bodies<'a>, sizes: Sizes) -> Result<Scene<'a>, DistillError> {
        let mut builder = Builder::new(STEP);
        let bound = bodies.student.bind(&sizes.bindings(1))?;
        let image = network::input(&bound, "sample")?;
        let latents = builder.input("latents", image.clone())?;
        let noise = builder.input("noise", image)?;
        let mut conditions = BTreeMap::new();
        for (name, ty) in network::conditions(&bound) {
            let input = builder.input(&name, ty)?;
            conditions.insert(name, input);
        }
        Ok(Scene {
            builder,
            layout: Layout::of(&bound)?,
            bodies,
            called: vec![bound],
            sizes,
            latents,
            noise,
            conditions,
        })
    }

    /// The student, or a network of its form, with the flat parameters `name`.
    fn flat_network(&mut self, name: &'static str) -> Result<Network, DistillError> {
        let flat = TensorType::new(DType::F32, [self.layout.total()]);
        let flat = self.builder.weight(name, flat)?;
        let body = self.called[0].clone();
        let weights = self.layout.split(&mut self.builder, flat, &body)?;
        Network::new(name, body, weights)
    }

    /// The teacher, that takes two batches at once.
    fn teacher(&mut self, method: &'static str) -> Result<Network, DistillError> {
        let Some(body) = self.bodies.teacher else {
            return Err(DistillError::NoTeacher { method });
        };
        let body = body.bind(&self.sizes.bindings(2))?;
        let mut weights = Vec::new();
        for (_, name, ty) in body.params(Role::Weight) {
            let name = format!("teacher.{name}");
            weights.push(self.builder.weight(&name, ty.clone())?);
        }
        self.called.push(body.clone());
        Network::new("teacher", body, weights)
    }

    /// The conditions of the teacher's two batches: without a caption, then with.
    fn doubled_conditions(&mut self) -> Result<BTreeMap<String, Value>, DistillError> {
        let mut doubled = BTreeMap::new();
        for (name, &with) in &self.conditions {
            let ty = self.builder.ty(with).clone();
            let without = self.builder.input(&format!("uncond.{name}"), ty)?;
            let both = self.builder.push(Concat { axis: 0 }, &[without, with])?;
            doubled.insert(name.clone(), both);
        }
        Ok(doubled)
    }

    /// What `network` says at `at`, and the consistency function of it: `<who>.state·x +
    /// <who>.output·o`.
    fn consistent(
        &mut self,
        network: &Network,
        who: &str,
        at: &At,
    ) -> Result<(Value, Value), DistillError> {
        let row = [
            self.numbers(&format!("{who}.state"))?,
            self.numbers(&format!("{who}.output"))?,
        ];
        let output = network.call(&mut self.builder, at, &self.conditions)?;
        let estimate = row::combine(&mut self.builder, row, [at.sample, output])?;
        Ok((output, estimate))
    }

    /// An input of one number per sample: f32 `[batch]`.
    fn numbers(&mut self, name: &str) -> Result<Value, DistillError> {
        let ty = TensorType::new(DType::F32, [self.sizes.batch]);
        Ok(self.builder.input(name, ty)?)
    }
}

/// Numbers for the inputs of a step, by name.
pub type Numbers = BTreeMap<String, Tensor>;

/// `numbers` as the input `[batch]` of a step.
fn vector(numbers: &[f64]) -> Tensor {
    let narrow: Vec<f32> = numbers.iter().map(|&number| number as f32).collect();
    Tensor::from_f32(&[narrow.len()], &narrow)
}
