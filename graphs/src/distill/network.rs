//! Networks as a step calls them: one body, a bundle of weights.
//!
//! Takes a bound function of a denoising network and values for its weights; gives its result on a
//! state. It decides nothing about a method.

use std::collections::BTreeMap;

use compiler::graph::{Builder, Func, Role, TensorType, Value};
use compiler::ops::Call;
use compiler::value::dim::Dim;

use super::error::DistillError;

/// The inputs that every call is given anew.
const STATE: [&str; 3] = ["sample", "timestep", "timestep_cond"];

/// A network with its weights in the function under construction.
pub(super) struct Network {
    name: &'static str,
    body: Func,
    weights: Vec<Value>,
}

/// What a network is called with beside its conditions.
pub(super) struct At {
    /// `[batch, channels, height, width]`.
    pub(super) sample: Value,
    /// `[batch]`.
    pub(super) timestep: Value,
    /// The embedding of γ or of a guidance scale, `[batch, features]`, where the network has one.
    pub(super) timestep_cond: Option<Value>,
}

impl Network {
    /// The network `body` with `weights` in the order of its parameters.
    pub(super) fn new(
        name: &'static str,
        body: Func,
        weights: Vec<Value>,
    ) -> Result<Network, DistillError> {
        let timestep = input(&body, "timestep")?;
        let sample = input(&body, "sample")?;
        if timestep.shape[..] != sample.shape[..1] {
            return Err(DistillError::Interface {
                func: body.name().to_owned(),
                found: format!("a timestep of type {timestep}"),
                wanted: "a timestep per sample",
            });
        }
        Ok(Network {
            name,
            body,
            weights,
        })
    }

    /// Features of its embedding of γ or of a guidance scale, if it takes one.
    pub(super) fn condition_features(&self) -> Option<usize> {
        let ty = input(&self.body, "timestep_cond").ok()?;
        ty.shape.last().and_then(Dim::extent)
    }

    /// Its first result, `[batch, channels, height, width]`: a call of the body.
    ///
    /// # Errors
    /// When an input of the body is not given.
    pub(super) fn call(
        &self,
        builder: &mut Builder,
        at: &At,
        conditions: &BTreeMap<String, Value>,
    ) -> Result<Value, DistillError> {
        let mut operands = Vec::new();
        for (_, name, _) in self.body.params(Role::Input) {
            operands.push(self.argument(name, at, conditions)?);
        }
        operands.extend(&self.weights);
        let call = Call::of(&self.body, 0).ok_or_else(|| DistillError::Interface {
            func: self.body.name().to_owned(),
            found: "no result".to_owned(),
            wanted: "the interface of a denoising network",
        })?;
        builder.at(self.name);
        let result = builder.push(call, &operands)?;
        builder.at("");
        Ok(result)
    }

    fn argument(
        &self,
        name: &str,
        at: &At,
        conditions: &BTreeMap<String, Value>,
    ) -> Result<Value, DistillError> {
        let given = match name {
            "sample" => Some(at.sample),
            "timestep" => Some(at.timestep),
            "timestep_cond" => at.timestep_cond,
            condition => conditions.get(condition).copied(),
        };
        given.ok_or_else(|| DistillError::Interface {
            func: self.body.name().to_owned(),
            found: format!("an input {name:?}"),
            wanted: "inputs that the step has a value for",
        })
    }
}

/// The type of the input `name`.
pub(super) fn input(body: &Func, name: &'static str) -> Result<TensorType, DistillError> {
    let mut inputs = body.params(Role::Input);
    let found = inputs.find(|(_, input, _)| *input == name);
    found
        .map(|(_, _, ty)| ty.clone())
        .ok_or_else(|| DistillError::Interface {
            func: body.name().to_owned(),
            found: format!("no input {name:?}"),
            wanted: "the interface of a denoising network",
        })
}

/// The names and types of what `body` is conditioned on: text, and what SDXL adds.
pub(super) fn conditions(body: &Func) -> Vec<(String, TensorType)> {
    let inputs = body.params(Role::Input);
    let conditions = inputs.filter(|(_, name, _)| !STATE.contains(name));
    conditions
        .map(|(_, name, ty)| (name.to_owned(), ty.clone()))
        .collect()
}
