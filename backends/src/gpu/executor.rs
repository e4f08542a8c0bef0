//! An executor: commands on a machine, and on the host what has no kernel.
//!
//! Takes what was compiled and a machine that holds it, gives results for inputs, as often as
//! wanted. What a machine is it does not know: an adapter, or the interpreter of kernels.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use compiler::value::array::{Array, Precision};

use compiler::graph::Role;
use compiler::graph::eval::EvalError;
use compiler::region::{Buffer, Content, Regions, eval_region};
use compiler::value::extents::Extents;
use compiler::value::tensor::Tensor;
use thiserror::Error;

use super::commands::{Argument, Commands, Port, Source, Upload};
use super::elements::{self, ElementsError, Layout};
use super::error::DeviceError;
use super::validate::Valid;
use crate::clock::{Clock, RegionTime};

/// What obeys commands that it was loaded with.
pub trait Machine {
    /// Writes bytes at the beginning of a window, or further by some.
    ///
    /// # Errors
    /// When the machine fails.
    fn write(&self, window: &Argument, offset: u64, bytes: &[u8]) -> Result<(), DeviceError>;

    /// The bytes of a window, once all that was launched is done.
    ///
    /// # Errors
    /// When the machine fails.
    fn read(&self, window: &Argument) -> Result<Vec<u8>, DeviceError>;

    /// Starts some of the launches, in order.
    ///
    /// # Errors
    /// When the machine fails.
    fn launch(&self, launches: Range<usize>) -> Result<(), DeviceError>;

    /// Copies windows to those of another program of the same device, or of this one, once all
    /// that was launched is done; all are read before the first is written.
    ///
    /// # Errors
    /// When the machine fails.
    fn copy(&self, copies: &[(Argument, Argument)], to: &Self) -> Result<(), DeviceError>;

    /// Starts all launches and returns how long each took; what the host computes between them
    /// stays as it was. Nothing where that tells nothing.
    ///
    /// # Errors
    /// When the machine fails.
    fn profile(&self, clock: Clock<'_>) -> Result<Vec<RegionTime>, DeviceError>;
}

/// Why a run fails.
#[derive(Debug, Error)]
pub enum ExecuteError {
    /// The machine fails.
    #[error(transparent)]
    Machine(#[from] DeviceError),
    /// A tensor does not lie on the machine.
    #[error("{name:?}: {error}")]
    Elements {
        /// The input or result.
        name: String,
        /// Why.
        error: ElementsError,
    },
    /// Data outside of an operator's domain.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// A tensor that was not given.
    #[error("{name:?} is missing")]
    Missing {
        /// The input or weight.
        name: String,
    },
}

/// A program on a machine.
pub struct Executor<M> {
    machine: M,
    commands: Valid,
    regions: Regions,
    /// Weights and constants that the host reads.
    fixed: RefCell<BTreeMap<Buffer, Array>>,
}

/// The names of tensors that an executor is given: weights that the host reads, and states.
pub fn host_tensors(commands: &Commands, regions: &Regions) -> Vec<String> {
    let hosted = commands.hosted.iter();
    let read = hosted.flat_map(|hosted| regions.regions[hosted.region.0 as usize].reads());
    let results = regions.results.iter().map(|(_, buffer)| *buffer);
    let mut names: Vec<String> = read
        .chain(results)
        .filter_map(|buffer| match &regions.buffer(buffer).content {
            Content::Param(param) if param.role == Role::Weight => Some(param.name.clone()),
            Content::Param(_) | Content::Constant(_) | Content::Computed => None,
        })
        .collect();
    names.extend(commands.states.iter().map(|port| port.name.clone()));
    names.sort_unstable();
    names.dedup();
    names
}

impl<M: Machine> Executor<M> {
    /// An executor on a machine that holds all weights; `kept` holds those that the host reads, and
    /// the first states.
    ///
    /// # Errors
    /// When one of them is missing, or a state is of another type.
    pub fn new(
        machine: M,
        commands: Valid,
        regions: Regions,
        kept: &BTreeMap<String, Tensor>,
    ) -> Result<Executor<M>, ExecuteError> {
        let mut fixed = BTreeMap::new();
        let names = host_tensors(commands.commands(), &regions);
        for (number, data) in regions.buffers.iter().enumerate() {
            let buffer = Buffer(number as u32);
            match &data.content {
                Content::Constant(tensor) => {
                    fixed.insert(buffer, Array::from(tensor));
                }
                Content::Param(param)
                    if param.role == Role::Weight && names.contains(&param.name) =>
                {
                    let tensor = kept.get(&param.name).ok_or_else(|| ExecuteError::Missing {
                        name: param.name.clone(),
                    })?;
                    let typed = tensor.cast(data.extents.dtype);
                    fixed.insert(buffer, Array::from(&typed));
                }
                Content::Param(_) | Content::Computed => {}
            }
        }
        let executor = Executor {
            machine,
            commands,
            regions,
            fixed: RefCell::new(fixed),
        };
        for Port { name, .. } in &executor.commands().states {
            let missing = || ExecuteError::Missing { name: name.clone() };
            executor.set_state(name, kept.get(name).ok_or_else(missing)?)?;
        }
        Ok(executor)
    }

    /// The machine.
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// What is computed, with the order in which weights lie on the machine.
    pub fn regions(&self) -> &Regions {
        &self.regions
    }

    /// What the machine is told.
    pub fn commands(&self) -> &Commands {
        self.commands.commands()
    }

    /// Runs the program on inputs by name, in the types that it declares; gives its results in
    /// order.
    ///
    /// # Errors
    /// When an input is missing or does not lie on the machine, the machine fails, or data lies
    /// outside of an operator's domain.
    pub fn run(
        &self,
        inputs: &BTreeMap<String, Tensor>,
    ) -> Result<Vec<(String, Tensor)>, ExecuteError> {
        let mut wanted = self.inputs();
        if let Some((_, name)) = wanted.find(|(_, name)| !inputs.contains_key(*name)) {
            let name = name.to_owned();
            return Err(ExecuteError::Missing { name });
        }
        let known = self.obey(inputs)?;
        let commands = self.commands.commands();
        let fixed = self.fixed.borrow();
        let is_state = |name: &str| self.port(name).is_some();
        let results = self.regions.results.iter();
        let results = results.filter(|(name, _)| !is_state(name));
        let results = results.map(|(name, buffer)| {
            let port = commands.outputs.iter().find(|port| port.name == *name);
            let dtype = self.regions.buffer(*buffer).extents.dtype;
            let tensor = match (port, known.get(buffer).or_else(|| fixed.get(buffer))) {
                (_, Some(array)) => Tensor::from_values(dtype, &array.shape, &array.values),
                (Some(port), None) => self.fetch(port)?,
                (None, None) => return Err(ExecuteError::Missing { name: name.clone() }),
            };
            Ok((name.clone(), tensor))
        });
        results.collect()
    }

    /// Whether [`Executor::start`] can do with these inputs: the host computes nothing from others,
    /// and every result lies on the machine.
    pub fn starts_with(&self, given: &[&str]) -> bool {
        let commands = self.commands.commands();
        let mut known: BTreeSet<Buffer> = self.fixed.borrow().keys().copied().collect();
        let inputs = self.inputs();
        let given = inputs.filter(|(_, name)| given.contains(name));
        known.extend(given.map(|(buffer, _)| buffer));
        for hosted in &commands.hosted {
            let region = &self.regions.regions[hosted.region.0 as usize];
            if !region.reads().iter().all(|buffer| known.contains(buffer)) {
                return false;
            }
            known.extend(region.stores());
        }
        let has_port = |name: &String| commands.outputs.iter().any(|port| port.name == *name);
        self.regions.results.iter().all(|(name, _)| has_port(name))
    }

    /// Runs the program and waits for nothing: inputs that are not given lie on the machine
    /// already, and results stay there.
    ///
    /// # Errors
    /// When an input does not lie on the machine, the machine fails, or data lies outside of an
    /// operator's domain.
    ///
    /// # Panics
    /// When it cannot do with the inputs given, see [`Executor::starts_with`].
    pub fn start(&self, given: &BTreeMap<String, Tensor>) -> Result<(), ExecuteError> {
        self.obey(given).map(drop)
    }

    /// What a state holds now; `None` if the program has none of that name.
    ///
    /// # Errors
    /// When the machine fails.
    pub fn state(&self, name: &str) -> Result<Option<Tensor>, ExecuteError> {
        self.port(name).map(|port| self.fetch(port)).transpose()
    }

    /// Replaces what a state holds; the tensor may be of another float type. Returns whether the
    /// program has a state of that name.
    ///
    /// # Errors
    /// When the tensor is of another type, or the machine fails.
    pub fn set_state(&self, name: &str, tensor: &Tensor) -> Result<bool, ExecuteError> {
        let Some(port) = self.port(name) else {
            return Ok(false);
        };
        let order: Vec<usize> = (0..port.extents.shape.len()).collect();
        self.write(port, &port.extents, tensor, &order)?;
        Ok(true)
    }

    /// Whether the program reads a weight.
    pub fn has_weight(&self, name: &str) -> bool {
        let mut params = self.regions.params();
        params.any(|(_, own)| own.role == Role::Weight && own.name == name)
    }

    /// Replaces a weight, where it lies on the machine and where the host reads it; the tensor may
    /// be of another float type.
    ///
    /// # Errors
    /// When the tensor is of another type, or the machine fails.
    pub fn set_weight(&self, name: &str, tensor: &Tensor) -> Result<(), ExecuteError> {
        let is_own = |upload: &&Upload| match &upload.source {
            Source::Weight(own) => own == name,
            Source::Constant(_) => false,
        };
        for upload in self.commands().uploads.iter().filter(is_own) {
            let layout = Layout {
                extents: &upload.extents,
                order: &upload.order,
                stored: upload.stored,
            };
            self.encode(name, &upload.window, layout, tensor)?;
        }
        let mut fixed = self.fixed.borrow_mut();
        for (buffer, own) in self.regions.params() {
            if let (true, Some(array)) = (own.name == name, fixed.get_mut(&buffer)) {
                let typed = tensor.cast(self.regions.buffer(buffer).extents.dtype);
                *array = Array::from(&typed);
            }
        }
        Ok(())
    }

    /// Where a state lies.
    fn port(&self, name: &str) -> Option<&Port> {
        let mut states = self.commands().states.iter();
        states.find(|port| port.name == name)
    }

    /// The names of all inputs.
    fn inputs(&self) -> impl Iterator<Item = (Buffer, &str)> {
        let params = self.regions.params();
        let inputs = params.filter(|(_, own)| own.role == Role::Input);
        inputs.map(|(buffer, own)| (buffer, own.name.as_str()))
    }

    /// Writes the inputs given, launches and computes everything; gives what the host knows.
    fn obey(
        &self,
        given: &BTreeMap<String, Tensor>,
    ) -> Result<BTreeMap<Buffer, Array>, ExecuteError> {
        let commands = self.commands.commands();
        let mut known: BTreeMap<Buffer, Array> = BTreeMap::new();
        for (buffer, name) in self.inputs() {
            if let Some(tensor) = given.get(name) {
                known.insert(buffer, Array::from(tensor));
            }
        }
        for port in &commands.inputs {
            if let Some(tensor) = given.get(&port.name) {
                let order: Vec<usize> = (0..tensor.shape().len()).collect();
                self.write(port, &port.extents, tensor, &order)?;
            }
        }
        let fixed = self.fixed.borrow();
        let mut done = 0;
        for hosted in &commands.hosted {
            self.launch(done..hosted.before)?;
            done = done.max(hosted.before);
            let region = &self.regions.regions[hosted.region.0 as usize];
            for (buffer, port) in &hosted.reads {
                if !known.contains_key(buffer) {
                    let array = self.array(*buffer, port)?;
                    known.insert(*buffer, array);
                }
            }
            let read = |buffer: Buffer| match known.get(&buffer) {
                Some(array) => array,
                None => &fixed[&buffer],
            };
            let stored = eval_region(&self.regions, region, &read, Precision::Typed)?;
            for (buffer, array) in stored {
                if let Some((_, port)) = hosted.stores.iter().find(|(own, _)| *own == buffer) {
                    let data = self.regions.buffer(buffer);
                    let dtype = data.extents.dtype;
                    let tensor = Tensor::from_values(dtype, &array.shape, &array.values);
                    self.write(port, &data.extents, &tensor, &data.order)?;
                }
                known.insert(buffer, array);
            }
        }
        self.launch(done..commands.launches.len())?;
        if !commands.copies.is_empty() {
            self.machine.copy(&commands.copies, &self.machine)?;
        }
        Ok(known)
    }

    fn launch(&self, launches: Range<usize>) -> Result<(), ExecuteError> {
        match launches.is_empty() {
            true => Ok(()),
            false => Ok(self.machine.launch(launches)?),
        }
    }

    /// Writes a tensor with its axes in some order.
    fn write(
        &self,
        port: &Port,
        extents: &Extents,
        tensor: &Tensor,
        order: &[usize],
    ) -> Result<(), ExecuteError> {
        let layout = Layout {
            extents,
            order,
            stored: port.stored,
        };
        self.encode(&port.name, &port.window, layout, tensor)
    }

    /// Writes a tensor to a window as it lies there.
    fn encode(
        &self,
        name: &str,
        window: &Argument,
        layout: Layout<'_>,
        tensor: &Tensor,
    ) -> Result<(), ExecuteError> {
        let give = |offset: u64, bytes: &[u8]| Ok(self.machine.write(window, offset, bytes)?);
        elements::encode(tensor, layout, give).map_err(|fault: WriteError| match fault {
            WriteError::Machine(error) => ExecuteError::Machine(error),
            WriteError::Elements(error) => ExecuteError::Elements {
                name: name.to_owned(),
                error,
            },
        })
    }

    /// Reads a result of the last run, waiting for it.
    ///
    /// # Errors
    /// When there is no such result on the machine, or the machine fails.
    pub fn read(&self, result: &str) -> Result<Tensor, ExecuteError> {
        let port = self
            .commands()
            .outputs
            .iter()
            .find(|port| port.name == result);
        let missing = || ExecuteError::Missing {
            name: result.to_owned(),
        };
        self.fetch(port.ok_or_else(missing)?)
    }

    /// The tensor in a port, as it lies there.
    fn fetch(&self, port: &Port) -> Result<Tensor, ExecuteError> {
        let bytes = self.machine.read(&port.window)?;
        elements::decode(&bytes, &port.extents, port.stored).map_err(|error| {
            ExecuteError::Elements {
                name: port.name.clone(),
                error,
            }
        })
    }

    /// A buffer in row-major order.
    fn array(&self, buffer: Buffer, port: &Port) -> Result<Array, ExecuteError> {
        let lies = self.fetch(port)?;
        let order = &self.regions.buffer(buffer).order;
        // Axis `a` lies at the place that the order names.
        let mut back = vec![0; order.len()];
        for (place, &axis) in order.iter().enumerate() {
            back[axis] = place;
        }
        Ok(Array::from(&lies.permuted(&back)))
    }
}

/// Why a tensor is not written.
#[derive(Debug, Error)]
enum WriteError {
    #[error(transparent)]
    Machine(#[from] DeviceError),
    #[error(transparent)]
    Elements(#[from] ElementsError),
}
