//! A session: one program loaded on one device with its weights.
//!
//! Takes a program and weights, gives results for inputs, as often as wanted. It converts what a
//! caller gives into the type that the program declares only where nothing is lost.

use std::collections::BTreeMap;
use std::sync::Arc;

use backends::clock::{Clock, RegionTime};
use backends::device::{Device, ExecutionError, Loaded, Request, Resident};
use compiler::DType;
use compiler::graph::{Role, TensorType};
use compiler::program::Executable;
use compiler::tile::{Tiled, Tuning};
use compiler::value::tensor::Tensor;
use thiserror::Error;

use crate::artifact::ArtifactError;
use crate::place::Place;

/// A program with its weights, ready to run.
pub struct Session {
    program: Box<dyn Loaded>,
    device: Arc<dyn Device>,
    inputs: Vec<(String, TensorType)>,
    states: Vec<String>,
}

/// Why a session cannot be opened or run.
#[derive(Debug, Error)]
pub enum SessionError {
    /// The device refuses the program or its weights, fails, or data lie outside of an operator's
    /// domain.
    #[error(transparent)]
    Device(#[from] ExecutionError),
    /// An artifact has no commands for the program.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// An input is missing.
    #[error("input {name:?} of type {ty} is missing, found {found:?}")]
    MissingInput {
        /// The input.
        name: String,
        /// Its type.
        ty: TensorType,
        /// The names given.
        found: Vec<String>,
    },
    /// An input that the program does not have.
    #[error("input {name:?} is not one of the program's {wanted:?}")]
    UnknownInput {
        /// The input.
        name: String,
        /// The program's inputs.
        wanted: Vec<String>,
    },
    /// A state that the program does not have.
    #[error("state {name:?} is not one of the program's")]
    UnknownState {
        /// The state.
        name: String,
    },
    /// An input of another shape, or of a type that does not convert without loss.
    #[error("input {name:?} has type {found}, wanted {wanted}")]
    InputType {
        /// The input.
        name: String,
        /// The type given.
        found: TensorType,
        /// The program's type.
        wanted: TensorType,
    },
}

impl SessionError {
    /// Whether the program needs more than the limits or the memory of an adapter allow: a smaller
    /// one could do.
    pub fn is_too_large(&self) -> bool {
        match self {
            SessionError::Device(error) => error.is_too_large(),
            SessionError::Artifact(_) => false,
            SessionError::MissingInput { .. }
            | SessionError::UnknownInput { .. }
            | SessionError::UnknownState { .. }
            | SessionError::InputType { .. } => false,
        }
    }
}

impl Session {
    /// Loads `program` at a place. `weights` holds a tensor for each weight of the program, by
    /// name; they may be stored in another floating-point type. Each is dropped as soon as it is
    /// packed. What `tuning` holds of this machine decides between tile programs.
    ///
    /// # Errors
    /// When a weight is missing or has another shape, threads or memory cannot be had, or the
    /// program does not fit in the limits of the place.
    pub fn open(
        program: &Executable,
        weights: BTreeMap<String, Tensor>,
        place: &Place,
        tuning: &Tuning,
    ) -> Result<Session, SessionError> {
        let stored = place.artifact().map(|artifact| artifact.commands(program));
        let ahead = stored.transpose()?;
        let request = Request {
            program,
            weights,
            tuning,
            ahead,
        };
        Session::on(place.device(), request)
    }

    /// Loads a program on a device.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub(crate) fn on(
        device: Arc<dyn Device>,
        request: Request<'_>,
    ) -> Result<Session, SessionError> {
        let states = request.program.params(Role::State);
        Ok(Session {
            states: states.map(|(name, _)| name.to_owned()).collect(),
            inputs: request.program.inputs(),
            program: device.prepare(request)?,
            device,
        })
    }

    /// What the program was loaded on.
    pub(crate) fn device(&self) -> &Arc<dyn Device> {
        &self.device
    }

    /// The name and type of each input, in order.
    pub fn inputs(&self) -> &[(String, TensorType)] {
        &self.inputs
    }

    /// What computes each region.
    pub fn tiled(&self) -> &Tiled {
        self.program.tiled()
    }

    /// The program, if what it computes can stay on its device from run to run.
    pub(crate) fn resident(&self) -> Option<&dyn Resident> {
        self.program.resident()
    }

    /// The names of the states, in order.
    pub fn states(&self) -> &[String] {
        &self.states
    }

    /// What a state holds now; `None` if the program has none of that name.
    ///
    /// # Errors
    /// When the device fails.
    pub fn state(&self, name: &str) -> Result<Option<Tensor>, SessionError> {
        Ok(self.program.state(name)?)
    }

    /// Replaces what a state holds; the tensor may be of another floating-point type.
    ///
    /// # Errors
    /// When the program has no such state, or the tensor is of another type.
    pub fn set_state(&self, name: &str, tensor: &Tensor) -> Result<(), SessionError> {
        let found = self.program.set_state(name, tensor)?;
        let unknown = || SessionError::UnknownState {
            name: name.to_owned(),
        };
        found.then_some(()).ok_or_else(unknown)
    }

    /// Replaces the weights that `changed` names by those of `weights`, which holds all weights of
    /// the program. Names that the program does not read are ignored, and nothing is compiled.
    ///
    /// # Errors
    /// When a weight is missing, of another type or cannot be read, or the device fails: then some
    /// weights have been replaced and others not.
    pub fn set_weights(
        &self,
        changed: &[&str],
        weights: &BTreeMap<String, Tensor>,
    ) -> Result<(), SessionError> {
        Ok(self.program.set_weights(changed, weights)?)
    }

    /// Runs the program; gives its results in order, but for new states, which take the places of
    /// the old ones.
    ///
    /// # Errors
    /// When an input is missing, unknown or of a type that does not convert without loss, or the
    /// program meets data outside of an operator's domain.
    pub fn run(
        &self,
        inputs: &BTreeMap<String, Tensor>,
    ) -> Result<Vec<(String, Tensor)>, SessionError> {
        let inputs = converted(&self.inputs, inputs)?;
        Ok(self.program.run(&inputs)?)
    }

    /// As [`Session::run`]; gives the time that each region took instead of the results.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn profile(
        &self,
        inputs: &BTreeMap<String, Tensor>,
        clock: Clock<'_>,
    ) -> Result<Vec<RegionTime>, SessionError> {
        let inputs = converted(&self.inputs, inputs)?;
        Ok(self.program.profile(&inputs, clock)?)
    }
}

/// The inputs in the types that a program declares for them.
pub(crate) fn converted(
    declared: &[(String, TensorType)],
    inputs: &BTreeMap<String, Tensor>,
) -> Result<BTreeMap<String, Tensor>, SessionError> {
    let is_declared = |name: &str| declared.iter().any(|(own, _)| own == name);
    if let Some(name) = inputs.keys().find(|name| !is_declared(name)) {
        return Err(SessionError::UnknownInput {
            name: name.clone(),
            wanted: declared.iter().map(|(name, _)| name.clone()).collect(),
        });
    }
    let mut converted = BTreeMap::new();
    for (name, ty) in declared {
        let tensor = inputs.get(name).ok_or_else(|| SessionError::MissingInput {
            name: name.clone(),
            ty: ty.clone(),
            found: inputs.keys().cloned().collect(),
        })?;
        let tensor = convert(tensor, ty).ok_or_else(|| SessionError::InputType {
            name: name.clone(),
            found: TensorType::of(tensor),
            wanted: ty.clone(),
        })?;
        converted.insert(name.clone(), tensor);
    }
    Ok(converted)
}

/// `tensor` as type `ty`, if no value changes on the way: shapes are equal or both hold one
/// element, and a cast there and back gives the same bytes.
pub fn convert(tensor: &Tensor, ty: &TensorType) -> Option<Tensor> {
    let shape = ty.extents()?;
    let reshaped = match tensor.shape() == shape {
        true => tensor.clone(),
        false if tensor.elements() == 1 => tensor.reshaped(shape).ok()?,
        false => return None,
    };
    if reshaped.dtype() == ty.dtype {
        return Some(reshaped);
    }
    let truth = |dtype: DType| dtype == DType::Bool;
    if truth(reshaped.dtype()) || truth(ty.dtype) {
        return None;
    }
    let cast = reshaped.cast(ty.dtype);
    (cast.cast(reshaped.dtype()) == reshaped).then_some(cast)
}

#[cfg(test)]
mod tests {
    use compiler::value::tensor::Values;

    use super::*;

    #[test]
    fn only_lossless_conversions_are_made() {
        let float = |values: &[f64]| {
            Tensor::from_values(DType::F32, &[values.len()], &Values::Float(values.to_vec()))
        };
        let timestep = Tensor::from_i64(&[1], &[981]);
        let cases = [
            (&timestep, TensorType::scalar(DType::F32), true),
            (&timestep, TensorType::new(DType::F32, [2]), false),
            (&float(&[0.1]), TensorType::new(DType::F16, [1]), false),
            (&float(&[0.5]), TensorType::new(DType::F16, [1]), true),
            (&float(&[1.5]), TensorType::new(DType::I64, [1]), false),
            (&float(&[1.0]), TensorType::new(DType::Bool, [1]), false),
        ];
        for (tensor, ty, wanted) in cases {
            assert_eq!(convert(tensor, &ty).is_some(), wanted, "{tensor:?} as {ty}");
        }
    }
}
