//! The traits of devices and of the programs that they have loaded.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;

use compiler::graph::TensorType;
use compiler::program::Executable;
use compiler::region::Regions;
use compiler::tile::{Tiled, Tuning};
use compiler::value::tensor::Tensor;

use super::error::ExecutionError;
use crate::clock::{Clock, RegionTime};
use crate::gpu::validate::Valid;

/// Tensors by name.
pub type Named = BTreeMap<String, Tensor>;

/// What runs programs.
pub trait Device: fmt::Debug + Send + Sync {
    /// Compiles a program, unless that was done ahead, and loads it with its weights.
    ///
    /// # Errors
    /// When a weight or a state is missing or of another type, the program does not fit in the
    /// limits or the memory of the device, or the device fails.
    fn prepare(&self, request: Request<'_>) -> Result<Box<dyn Loaded>, ExecutionError>;
}

/// A program that is to be loaded.
pub struct Request<'a> {
    /// What is computed.
    pub program: &'a Executable,
    /// A tensor for each weight and each first state, by name, of the declared float type or
    /// another one. Each is dropped as soon as the device holds it.
    pub weights: Named,
    /// What was measured on this machine, to decide between tile programs.
    pub tuning: &'a Tuning,
    /// What a GPU does, compiled ahead, and the regions that it computes.
    pub ahead: Option<(Valid, Regions)>,
}

/// A program on a device, with its weights and states.
pub trait Loaded {
    /// Runs the program on inputs by name, in the types that it declares; returns its results in
    /// order, but for new states, which take the places of the old ones.
    ///
    /// # Errors
    /// When an input is missing or of another type, the device fails, or data lie outside of an
    /// operator's domain.
    fn run(&self, inputs: &Named) -> Result<Vec<(String, Tensor)>, ExecutionError>;

    /// As [`Loaded::run`]; returns the time that each region took instead of the results, nothing
    /// where that tells nothing.
    ///
    /// # Errors
    /// As [`Loaded::run`].
    fn profile(&self, inputs: &Named, clock: Clock<'_>) -> Result<Vec<RegionTime>, ExecutionError>;

    /// What a state holds now; `None` if the program has none of that name.
    ///
    /// # Errors
    /// When the device fails.
    fn state(&self, name: &str) -> Result<Option<Tensor>, ExecutionError>;

    /// Replaces what a state holds; the tensor may be of another float type. Returns whether the
    /// program has a state of that name.
    ///
    /// # Errors
    /// When the tensor is of another type, or the device fails.
    fn set_state(&self, name: &str, tensor: &Tensor) -> Result<bool, ExecutionError>;

    /// Replaces the weights that `changed` names by those of `weights`, which holds all weights of
    /// the program: what is packed together is packed anew. Names that the program does not read
    /// are ignored. Nothing is compiled.
    ///
    /// # Errors
    /// When a weight is missing, of another type or cannot be read, or the device fails: then some
    /// weights have been replaced and others not.
    fn set_weights(&self, changed: &[&str], weights: &Named) -> Result<(), ExecutionError>;

    /// What computes each region.
    fn tiled(&self) -> &Tiled;

    /// The same program, if what it computes can stay on the device from run to run.
    fn resident(&self) -> Option<&dyn Resident>;
}

/// A program whose inputs and results lie on a device, where other programs can take them over.
pub trait Resident {
    /// Whether [`Resident::start`] can do with these inputs: the host computes nothing from others,
    /// and every result lies on the device.
    fn starts_with(&self, given: &[&str]) -> bool;

    /// Runs the program and waits for nothing: inputs that are not given lie on the device already,
    /// and results stay there.
    ///
    /// # Errors
    /// When an input is of another type, the device fails, or data lie outside of an operator's
    /// domain.
    fn start(&self, given: &Named) -> Result<(), ExecutionError>;

    /// Reads a result of the last run, waiting for it.
    ///
    /// # Errors
    /// When there is no such result on the device, or the device fails.
    fn read(&self, result: &str) -> Result<Tensor, ExecutionError>;

    /// The type of an input as it lies on the device; `None` if nothing there reads it.
    fn input(&self, name: &str) -> Option<TensorType>;

    /// The type of a result as it lies on the device, with the bits that are stored; `None` if it
    /// does not lie there.
    fn output(&self, name: &str) -> Option<TensorType>;

    /// Whether a result can be copied to an input of another program, or need not be.
    fn hands_over(&self, result: &str, to: &dyn Resident, input: &str) -> bool;

    /// Makes results the inputs of another program of the same device, or of this one: all are read
    /// before the first is written.
    ///
    /// # Errors
    /// When there is no such result or input, they do not lie alike, or the device fails.
    fn copy(&self, names: &[(&str, &str)], to: &dyn Resident) -> Result<(), ExecutionError>;

    /// For implementations, which find their own kind again.
    fn as_any(&self) -> &dyn Any;
}
