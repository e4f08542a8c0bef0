//! Programs as kernels on a machine: a GPU, or the interpreter in its place.

use std::any::Any;
use std::sync::OnceLock;

use compiler::graph::TensorType;
use compiler::region::{Content, Regions};
use compiler::tile::Tiled;
use compiler::value::stored::ReadError;
use compiler::value::tensor::Tensor;

use super::error::ExecutionError;
use super::loaded::{Device, Loaded, Named, Request, Resident};
use crate::clock::{Clock, RegionTime};
use crate::gpu::commands::{Port, Source, StoredAs};
use crate::gpu::compile::{compile, tiled};
use crate::gpu::dialect::Dialect;
use crate::gpu::emulator::Emulator;
use crate::gpu::error::DeviceError;
use crate::gpu::executor::{ExecuteError, Executor, Machine, host_tensors};
use crate::gpu::validate::Valid;

/// The interpreter of kernels: what a GPU would run, instruction by instruction, with races and
/// bounds checked. For finding faults; it is some thousand times slower.
#[derive(Debug, Clone, Copy)]
pub struct Interpreter(pub &'static Dialect);

impl Device for Interpreter {
    fn prepare(&self, request: Request<'_>) -> Result<Box<dyn Loaded>, ExecutionError> {
        let compiled = compile(request.program, &self.0.requirements(false), self.0)?;
        let (commands, kernels) = (compiled.commands, compiled.kernels);
        let load =
            |commands: &Valid, given: Given<'_>| Emulator::new(commands.commands(), kernels, given);
        loaded(commands, compiled.regions, request.weights, self.0, load)
    }
}

/// Hands a machine what it uploads.
pub(crate) type Given<'a> = &'a mut dyn FnMut(&Source) -> Option<Tensor>;

/// Loads commands on a machine, each weight being dropped as soon as it lies there.
pub(crate) fn loaded<M: Machine + 'static>(
    commands: Valid,
    regions: Regions,
    mut weights: Named,
    dialect: &'static Dialect,
    load: impl FnOnce(&Valid, Given<'_>) -> Result<M, DeviceError>,
) -> Result<Box<dyn Loaded>, ExecutionError> {
    let names = host_tensors(commands.commands(), &regions).into_iter();
    let kept = names.filter_map(|name| {
        let fetched = weights.get(&name)?.fetched();
        Some(fetched.map(|tensor| (name, tensor)))
    });
    let kept: Named = kept.collect::<Result<_, ReadError>>()?;
    let mut unread = None;
    let mut given = |source: &Source| match source {
        Source::Weight(name) => {
            let fetched = weights.remove(name)?.fetched();
            fetched.map_err(|error| unread = Some(error)).ok()
        }
        Source::Constant(buffer) => match &regions.buffer(*buffer).content {
            Content::Constant(tensor) => Some(tensor.clone()),
            Content::Param(_) | Content::Computed => None,
        },
    };
    let machine = load(&commands, &mut given);
    if let Some(error) = unread {
        return Err(error.into());
    }
    Ok(Box::new(Kernels {
        executor: Executor::new(machine?, commands, regions, &kept)?,
        dialect,
        tiled: OnceLock::new(),
    }))
}

/// A program as kernels on a machine.
struct Kernels<M> {
    executor: Executor<M>,
    dialect: &'static Dialect,
    /// Once somebody asked.
    tiled: OnceLock<Tiled>,
}

impl<M: Machine + 'static> Loaded for Kernels<M> {
    fn run(&self, inputs: &Named) -> Result<Vec<(String, Tensor)>, ExecutionError> {
        Ok(self.executor.run(inputs)?)
    }

    fn profile(&self, inputs: &Named, clock: Clock<'_>) -> Result<Vec<RegionTime>, ExecutionError> {
        // What launches read is what this run left.
        self.executor.run(inputs)?;
        Ok(self.executor.machine().profile(clock)?)
    }

    fn state(&self, name: &str) -> Result<Option<Tensor>, ExecutionError> {
        Ok(self.executor.state(name)?)
    }

    fn set_state(&self, name: &str, tensor: &Tensor) -> Result<bool, ExecutionError> {
        Ok(self.executor.set_state(name, tensor)?)
    }

    fn set_weights(&self, changed: &[&str], weights: &Named) -> Result<(), ExecutionError> {
        for name in changed {
            if !self.executor.has_weight(name) {
                continue;
            }
            let missing = || ExecuteError::Missing {
                name: (*name).to_owned(),
            };
            let tensor = weights.get(*name).ok_or_else(missing)?.fetched()?;
            self.executor.set_weight(name, &tensor)?;
        }
        Ok(())
    }

    fn tiled(&self) -> &Tiled {
        let tiled = || tiled(self.executor.regions(), self.dialect);
        self.tiled.get_or_init(tiled)
    }

    fn resident(&self) -> Option<&dyn Resident> {
        Some(self)
    }
}

impl<M> Kernels<M> {
    /// The same kind of program behind the trait.
    fn of(program: &dyn Resident) -> Option<&Kernels<M>>
    where
        M: 'static,
    {
        program.as_any().downcast_ref()
    }
}

fn find<'a>(ports: &'a [Port], name: &str) -> Option<&'a Port> {
    ports.iter().find(|port| port.name == name)
}

impl<M: Machine + 'static> Resident for Kernels<M> {
    fn starts_with(&self, given: &[&str]) -> bool {
        self.executor.starts_with(given)
    }

    fn start(&self, given: &Named) -> Result<(), ExecutionError> {
        Ok(self.executor.start(given)?)
    }

    fn read(&self, result: &str) -> Result<Tensor, ExecutionError> {
        Ok(self.executor.read(result)?)
    }

    fn input(&self, name: &str) -> Option<TensorType> {
        let port = find(&self.executor.commands().inputs, name)?;
        Some(TensorType::from(&port.extents))
    }

    fn output(&self, name: &str) -> Option<TensorType> {
        let port = find(&self.executor.commands().outputs, name)?;
        // Results may take more bits than their type has.
        let stored = match port.stored {
            StoredAs::I32 => port.extents.dtype,
            stored @ (StoredAs::F32 | StoredAs::F16 | StoredAs::Bf16) => stored.dtype(),
        };
        Some(TensorType::new(stored, port.extents.shape.iter().copied()))
    }

    fn hands_over(&self, result: &str, to: &dyn Resident, input: &str) -> bool {
        let Some(to) = Kernels::<M>::of(to) else {
            return false;
        };
        let from = find(&self.executor.commands().outputs, result);
        match (from, find(&to.executor.commands().inputs, input)) {
            (_, None) => true,
            (Some(from), Some(to)) => from.lies_as(to),
            (None, Some(_)) => false,
        }
    }

    fn copy(&self, names: &[(&str, &str)], to: &dyn Resident) -> Result<(), ExecutionError> {
        let mut copies = Vec::with_capacity(names.len());
        let target = Kernels::<M>::of(to);
        for &(result, input) in names {
            let from = find(&self.executor.commands().outputs, result);
            let to = target.and_then(|to| find(&to.executor.commands().inputs, input));
            match (from, to) {
                (Some(from), Some(to)) if from.lies_as(to) => {
                    copies.push((from.window, to.window));
                }
                _ => {
                    let (output, input) = (result.to_owned(), input.to_owned());
                    return Err(DeviceError::Copy { output, input }.into());
                }
            }
        }
        match target {
            Some(to) => Ok(self
                .executor
                .machine()
                .copy(&copies, to.executor.machine())?),
            None => Ok(()),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
