//! A session: one program loaded on one device with its weights.
//!
//! Takes a program and weights, gives results for inputs, as often as wanted. It converts what a
//! caller gives into the type that the program declares only where nothing is lost.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use backends::clock::{Clock, RegionTime};
use backends::cpu;
use backends::gpu;
use backends::gpu::emulator::{Emulator, EmulatorError};
use backends::gpu::executor::Machine;
use backends::webgpu;
use compiler::DType;
use compiler::graph::TensorType;
use compiler::program::Executable;
use compiler::region::{Content, Regions};
use compiler::tile::{Tiled, Tuning};
use compiler::value::tensor::Tensor;
use thiserror::Error;

#[cfg(feature = "webgpu")]
use crate::artifact::ArtifactError;
use crate::place::Place;
#[cfg(feature = "webgpu")]
use crate::place::{DeviceError, WebGpu};

/// A program with its weights, ready to run.
pub struct Session {
    engine: Engine,
    inputs: Vec<(String, TensorType)>,
}

/// What runs the program.
enum Engine {
    Cpu(Box<cpu::Executor>),
    #[cfg(feature = "webgpu")]
    WebGpu(Box<Kernels<webgpu::device::Loaded>>),
    Interpreter(Box<Kernels<Emulator>>),
}

/// A program as kernels on a WebGPU adapter, or what takes the place of one.
struct Kernels<M> {
    executor: gpu::executor::Executor<M>,
    /// Once somebody asked.
    tiled: OnceLock<Tiled>,
}

impl<M: Machine> Kernels<M> {
    fn new(executor: gpu::executor::Executor<M>) -> Box<Kernels<M>> {
        let tiled = OnceLock::new();
        Box::new(Kernels { executor, tiled })
    }

    fn tiled(&self) -> &Tiled {
        let tiled = || gpu::compile::tiled(self.executor.regions(), &webgpu::WGSL);
        self.tiled.get_or_init(tiled)
    }
}

/// Why a session cannot be opened or run.
#[derive(Debug, Error)]
pub enum SessionError {
    /// The processor refuses the program or its weights, or data lie outside of an operator's
    /// domain.
    #[error(transparent)]
    Execute(#[from] cpu::ExecuteError),
    /// The program cannot be compiled for adapters.
    #[error(transparent)]
    Compile(#[from] gpu::compile::CompileError),
    /// The adapter refuses the program or its weights, or fails while it runs.
    #[cfg(feature = "webgpu")]
    #[error(transparent)]
    WebGpu(#[from] gpu::executor::ExecuteError<DeviceError>),
    /// The interpreter of kernels finds a fault in one, or data lie outside of an operator's domain.
    #[error(transparent)]
    Interpreter(#[from] gpu::executor::ExecuteError<EmulatorError>),
    /// An artifact has no commands for the program.
    #[cfg(feature = "webgpu")]
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
            SessionError::Compile(error) => {
                matches!(error, gpu::compile::CompileError::Plan(_))
            }
            #[cfg(feature = "webgpu")]
            SessionError::WebGpu(error) => matches!(
                error,
                gpu::executor::ExecuteError::Machine(DeviceError::Memory { .. })
            ),
            #[cfg(feature = "webgpu")]
            SessionError::Artifact(_) => false,
            SessionError::Execute(_)
            | SessionError::Interpreter(_)
            | SessionError::MissingInput { .. }
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
        let engine = match place {
            Place::Cpu(options) => {
                let executor = cpu::Executor::new(program, weights, *options, tuning)?;
                Engine::Cpu(Box::new(executor))
            }
            #[cfg(feature = "webgpu")]
            Place::WebGpu(place) => on_adapter(program, weights, place)?,
            Place::Interpreter => interpreted(program, weights)?,
        };
        Ok(Session {
            engine,
            inputs: program.inputs(),
        })
    }

    /// The name and type of each input, in order.
    pub fn inputs(&self) -> &[(String, TensorType)] {
        &self.inputs
    }

    /// What computes each region.
    pub fn tiled(&self) -> &Tiled {
        match &self.engine {
            Engine::Cpu(executor) => executor.tiled(),
            #[cfg(feature = "webgpu")]
            Engine::WebGpu(kernels) => kernels.tiled(),
            Engine::Interpreter(kernels) => kernels.tiled(),
        }
    }

    /// What runs the program, if an adapter does.
    #[cfg(feature = "webgpu")]
    pub(crate) fn on_adapter(&self) -> Option<&gpu::executor::Executor<webgpu::device::Loaded>> {
        match &self.engine {
            Engine::Cpu(_) | Engine::Interpreter(_) => None,
            Engine::WebGpu(on_adapter) => Some(&on_adapter.executor),
        }
    }

    /// What a state holds now; `None` if the program has none of that name.
    pub fn state(&self, name: &str) -> Option<Tensor> {
        match &self.engine {
            Engine::Cpu(executor) => executor.state(name),
            #[cfg(feature = "webgpu")]
            Engine::WebGpu(kernels) => kernels.executor.state(name).ok().flatten(),
            Engine::Interpreter(kernels) => kernels.executor.state(name).ok().flatten(),
        }
    }

    /// Replaces what a state holds; the tensor may be of another floating-point type.
    ///
    /// # Errors
    /// When the program has no such state, or the tensor is of another type.
    pub fn set_state(&self, name: &str, tensor: &Tensor) -> Result<(), SessionError> {
        let found = match &self.engine {
            Engine::Cpu(executor) => executor.set_state(name, tensor)?,
            #[cfg(feature = "webgpu")]
            Engine::WebGpu(kernels) => kernels.executor.set_state(name, tensor)?,
            Engine::Interpreter(kernels) => kernels.executor.set_state(name, tensor)?,
        };
        let unknown = || SessionError::UnknownState {
            name: name.to_owned(),
        };
        found.then_some(()).ok_or_else(unknown)
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
        Ok(match &self.engine {
            Engine::Cpu(executor) => executor.run(&inputs)?,
            #[cfg(feature = "webgpu")]
            Engine::WebGpu(kernels) => kernels.executor.run(&inputs)?,
            Engine::Interpreter(kernels) => kernels.executor.run(&inputs)?,
        })
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
        match &self.engine {
            Engine::Cpu(executor) => Ok(executor.profile(&inputs, clock)?),
            #[cfg(feature = "webgpu")]
            Engine::WebGpu(kernels) => {
                let executor = &kernels.executor;
                // What launches read is what this run left.
                executor.run(&inputs)?;
                let times = executor.machine().profile(clock);
                let times = times.map_err(gpu::executor::ExecuteError::Machine)?;
                let of_launch = |time: webgpu::device::LaunchTime| RegionTime {
                    region: time.region,
                    seconds: time.seconds,
                };
                Ok(times.into_iter().map(of_launch).collect())
            }
            // How long an interpreter takes tells nothing of its kernels.
            Engine::Interpreter(kernels) => {
                kernels.executor.run(&inputs)?;
                Ok(Vec::new())
            }
        }
    }
}

/// Loads a program on an adapter: the commands that an artifact has for it, or new ones.
#[cfg(feature = "webgpu")]
fn on_adapter(
    program: &Executable,
    mut weights: BTreeMap<String, Tensor>,
    place: &WebGpu,
) -> Result<Engine, SessionError> {
    use gpu::commands::Source;
    use gpu::executor::{ExecuteError, Executor, host_tensors};

    let (commands, regions) = match &place.artifact {
        Some(artifact) => artifact.commands(program)?,
        None => {
            let compiled = gpu::compile::compile(program, &place.requirements, &webgpu::WGSL)?;
            (compiled.commands, compiled.regions)
        }
    };
    let kept = kept(&host_tensors(commands.commands(), &regions), &weights);
    let mut given = |source: &Source| given(&regions, &mut weights, source);
    let loaded = place.device.load(commands.clone(), &mut given);
    let loaded = loaded.map_err(ExecuteError::Machine)?;
    let executor = Executor::new(loaded, commands, regions, &kept)?;
    Ok(Engine::WebGpu(Kernels::new(executor)))
}

/// Compiles a program for adapters, for the interpreter of kernels.
fn interpreted(
    program: &Executable,
    mut weights: BTreeMap<String, Tensor>,
) -> Result<Engine, SessionError> {
    use gpu::commands::{Requirements, Source};
    use gpu::executor::{ExecuteError, Executor, host_tensors};

    let compiled = gpu::compile::compile(program, &Requirements::DEFAULT, &webgpu::WGSL)?;
    let (commands, regions) = (compiled.commands, compiled.regions);
    let kept = kept(&host_tensors(commands.commands(), &regions), &weights);
    let mut given = |source: &Source| given(&regions, &mut weights, source);
    let emulator = Emulator::new(commands.commands(), compiled.kernels, &mut given);
    let emulator = emulator.map_err(ExecuteError::Machine)?;
    let executor = Executor::new(emulator, commands, regions, &kept)?;
    Ok(Engine::Interpreter(Kernels::new(executor)))
}

/// The weights that the host reads, and first states.
fn kept(names: &[String], weights: &BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
    let kept = names.iter();
    kept.filter_map(|name| Some((name.clone(), weights.get(name)?.clone())))
        .collect()
}

/// The tensor that is uploaded; a weight is taken out.
fn given(
    regions: &Regions,
    weights: &mut BTreeMap<String, Tensor>,
    source: &gpu::commands::Source,
) -> Option<Tensor> {
    match source {
        gpu::commands::Source::Weight(name) => weights.remove(name),
        gpu::commands::Source::Constant(buffer) => match &regions.buffer(*buffer).content {
            Content::Constant(tensor) => Some(tensor.clone()),
            Content::Param(_) | Content::Computed => None,
        },
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
