//! A step under construction: networks, sizes, inputs and conditions, as every method finds them.
//!
//! Takes the networks of a step and its sizes, returns calls of them within one function. It knows
//! no method.

use std::collections::BTreeMap;

use compiler::graph::{Builder, Func, Role, TensorType, Value};
use compiler::ops::{Concat, StopGradient};
use compiler::program::training::Layout;
use compiler::program::training::names::{LATENTS, NOISE, STUDENT_SEES, UNCONDITIONAL};
use compiler::value::dim::Bindings;
use compiler::value::dtype::DType;

use super::adapter::Adapter;
use super::error::DistillError;
use super::network::{self, At, Network};
use super::row;
use crate::optimizer::{layout_of, split};

/// The networks of a step: functions of two names as [`crate::models::unet::build`] makes them,
/// with a timestep per sample.
#[derive(Debug, Clone, Copy)]
pub struct Bodies<'a> {
    /// The teacher, for methods that have one, and for adapters the network that is adapted.
    pub teacher: Option<&'a Func>,
    /// The student, and so its EMA.
    pub student: &'a Func,
    /// The form of the matrices that are trained; `None` trains the student's own weights.
    pub adapter: Option<Adapter>,
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
    pub(super) fn bindings(self, batches: usize) -> Bindings {
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
pub(super) fn stop_gradient(scene: &mut Scene<'_>, value: Value) -> Result<Value, DistillError> {
    Ok(scene.builder.push(StopGradient, &[value])?)
}

/// What a method wrote.
pub struct Written {
    pub(super) loss: Value,
    /// The values on the way, by the names that the results of an observed step bear.
    pub(super) named: Vec<(&'static str, Value)>,
}

/// The name of the function that is written.
pub(super) const STEP: &str = "step";

/// A step under construction: what every method finds there.
pub struct Scene<'a> {
    pub(super) builder: Builder,
    pub(super) bodies: Bodies<'a>,
    /// The bodies that are called.
    pub(super) called: Vec<Func>,
    pub(super) sizes: Sizes,
    pub(super) layout: Layout,
    pub(super) latents: Value,
    pub(super) noise: Value,
    pub(super) conditions: BTreeMap<String, Value>,
    /// The weights of the teacher, once it is called or adapted.
    teacher_weights: Vec<Value>,
}

impl<'a> Scene<'a> {
    pub(super) fn new(bodies: Bodies<'a>, sizes: Sizes) -> Result<Scene<'a>, DistillError> {
        let mut builder = Builder::new(STEP);
        let bound = bodies.student.bind(&sizes.bindings(1))?;
        let image = network::input(&bound, "sample")?;
        let latents = builder.input(LATENTS, image.clone())?;
        let noise = builder.input(NOISE, image)?;
        let mut conditions = BTreeMap::new();
        for (name, ty) in network::conditions(&bound) {
            let input = builder.input(&name, ty)?;
            conditions.insert(name, input);
        }
        let layout = match bodies.adapter {
            Some(adapter) => adapter.layout(&bound)?,
            None => layout_of(&bound)?,
        };
        Ok(Scene {
            builder,
            layout,
            bodies,
            called: vec![bound],
            sizes,
            latents,
            noise,
            conditions,
            teacher_weights: Vec::new(),
        })
    }

    /// The student, or a network of its form, with the flat parameters `name`.
    pub(super) fn flat_network(&mut self, name: &'static str) -> Result<Network, DistillError> {
        let flat = TensorType::new(DType::F32, [self.layout.total()]);
        let flat = self.builder.weight(name, flat)?;
        let body = self.called[0].clone();
        let weights = match self.bodies.adapter {
            None => split(&self.layout, &mut self.builder, flat, &body)?,
            Some(adapter) => {
                let base = self.teacher_weights(&body)?;
                adapter.weights(&mut self.builder, &body, &base, flat, &self.layout)?
            }
        };
        Network::new(name, body, weights)
    }

    /// The teacher, that takes as many batches at once.
    pub(super) fn teacher(
        &mut self,
        method: &'static str,
        batches: usize,
    ) -> Result<Network, DistillError> {
        let Some(body) = self.bodies.teacher else {
            return Err(DistillError::NoTeacher { method });
        };
        let body = body.bind(&self.sizes.bindings(batches))?;
        let weights = self.teacher_weights(&body)?;
        self.called.push(body.clone());
        Network::new("teacher", body, weights)
    }

    /// The teacher's weights under the names and with the types that `body` has for them.
    fn teacher_weights(&mut self, body: &Func) -> Result<Vec<Value>, DistillError> {
        if self.teacher_weights.is_empty() {
            for (_, name, ty) in body.params(Role::Weight) {
                let name = format!("teacher.{name}");
                let weight = self.builder.weight(&name, ty.clone())?;
                self.teacher_weights.push(weight);
            }
        }
        Ok(self.teacher_weights.clone())
    }

    /// The conditions of the student where it does not see every caption that the teacher sees.
    pub(super) fn student_conditions(&mut self) -> Result<BTreeMap<String, Value>, DistillError> {
        let mut own = BTreeMap::new();
        for (name, &teachers) in &self.conditions {
            let ty = self.builder.ty(teachers).clone();
            let input = self.builder.input(&format!("{STUDENT_SEES}{name}"), ty)?;
            own.insert(name.clone(), input);
        }
        Ok(own)
    }

    /// The conditions of the teacher's two batches: without a caption, then with.
    pub(super) fn doubled_conditions(&mut self) -> Result<BTreeMap<String, Value>, DistillError> {
        let mut doubled = BTreeMap::new();
        for (name, &with) in &self.conditions {
            let ty = self.builder.ty(with).clone();
            let without = self.builder.input(&format!("{UNCONDITIONAL}{name}"), ty)?;
            let both = self.builder.push(Concat { axis: 0 }, &[without, with])?;
            doubled.insert(name.clone(), both);
        }
        Ok(doubled)
    }

    /// What `network` says at `at`, and the consistency function of it: `<who>.state·x +
    /// <who>.output·o` for the state x, which may be fed scaled.
    pub(super) fn consistent(
        &mut self,
        network: &Network,
        who: &str,
        at: &At,
        state: Value,
    ) -> Result<(Value, Value), DistillError> {
        let row = [
            self.numbers(&format!("{who}.state"))?,
            self.numbers(&format!("{who}.output"))?,
        ];
        let output = network.call(&mut self.builder, at, &self.conditions)?;
        let estimate = row::combine(&mut self.builder, row, [state, output])?;
        Ok((output, estimate))
    }

    /// An input of one number per sample: f32 `[batch]`.
    pub(super) fn numbers(&mut self, name: &str) -> Result<Value, DistillError> {
        let ty = TensorType::new(DType::F32, [self.sizes.batch]);
        Ok(self.builder.input(name, ty)?)
    }
}
