//! Runs weight programs: parameters that are made of stored tensors when they are read.
//!
//! Takes the programs of a component and strengths, gives a tensor for each parameter. Nothing is
//! computed before a device reads a tensor to pack it, one at a time, so that weights are never
//! held twice. Functions of one kind are compiled once, whatever the strengths.

use std::collections::BTreeMap;
use std::fmt::{self, Debug, Display};
use std::sync::{Arc, Mutex, PoisonError};

use backends::cpu::Executor;
use bytes::Bytes;
use compiler::graph::Func;
use compiler::graph::text::print_func;
use compiler::program::weight_program::WeightProgram;
use compiler::program::{CompileError, Executable, compile};
use compiler::tile::Tuning;
use compiler::value::dim::Bindings;
use compiler::value::stored::{ReadError, Stored};
use compiler::value::tensor::Tensor;

use crate::place::Options;

/// The weight programs of a component, run on this machine's processor.
#[derive(Debug)]
pub struct WeightPrograms {
    programs: BTreeMap<String, Arc<WeightProgram>>,
    compiled: Arc<Compiled>,
    options: Options,
}

/// Functions that were compiled, by their text.
#[derive(Default)]
struct Compiled(Mutex<BTreeMap<String, Arc<Executable>>>);

/// A parameter that is computed when it is read.
struct Made {
    name: String,
    program: Arc<WeightProgram>,
    strengths: Arc<[f64]>,
    compiled: Arc<Compiled>,
    options: Options,
}

impl WeightPrograms {
    /// The programs of parameters by name.
    pub fn new(programs: BTreeMap<String, WeightProgram>, options: Options) -> WeightPrograms {
        let programs = programs.into_iter();
        WeightPrograms {
            programs: programs
                .map(|(name, program)| (name, Arc::new(program)))
                .collect(),
            compiled: Arc::default(),
            options,
        }
    }

    /// The parameters that the programs make at these strengths, by name. They are computed when
    /// they are read.
    pub fn parameters(&self, strengths: &[f64]) -> BTreeMap<String, Tensor> {
        let strengths: Arc<[f64]> = strengths.into();
        let made = |(name, program): (&String, &Arc<WeightProgram>)| {
            let like = program.stored.get(program.like)?;
            let made = Made {
                name: name.clone(),
                program: Arc::clone(program),
                strengths: Arc::clone(&strengths),
                compiled: Arc::clone(&self.compiled),
                options: self.options,
            };
            Some((name.clone(), like.clone().stored(Arc::new(made))))
        };
        self.programs.iter().filter_map(made).collect()
    }

    /// How many functions were compiled until now.
    pub fn compiled(&self) -> usize {
        self.compiled.lock().len()
    }
}

impl Compiled {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<Executable>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The program of a function.
    fn get(&self, func: &Func) -> Result<Arc<Executable>, CompileError> {
        let mut all = self.lock();
        let text = print_func(func);
        if let Some(known) = all.get(&text) {
            return Ok(Arc::clone(known));
        }
        let program = compile(func, &Bindings::new())?.program;
        let executable = Arc::new(program.into_executable());
        all.insert(text, Arc::clone(&executable));
        Ok(executable)
    }
}

impl Debug for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} functions", self.lock().len())
    }
}

impl Debug for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {:?}", self.name, self.strengths)
    }
}

impl Made {
    fn failed(&self, reason: impl Display) -> ReadError {
        ReadError {
            file: self.name.clone(),
            reason: reason.to_string(),
        }
    }

    /// The inputs of the program.
    fn inputs(&self) -> Result<BTreeMap<String, Tensor>, ReadError> {
        let mut inputs = BTreeMap::new();
        for (name, tensor) in &self.program.stored {
            inputs.insert(name.clone(), tensor.fetched()?);
        }
        for scale in &self.program.scales {
            let strength = self.strengths.get(scale.strength);
            let strength = strength.ok_or_else(|| {
                let (found, wanted) = (self.strengths.len(), scale.strength + 1);
                self.failed(format!(
                    "found {found} strengths, expected at least {wanted}"
                ))
            })?;
            let value = (strength * scale.factor) as f32;
            inputs.insert(scale.input.clone(), Tensor::from_f32(&[], &[value]));
        }
        Ok(inputs)
    }
}

impl Stored for Made {
    fn read(&self) -> Result<Bytes, ReadError> {
        let inputs = self.inputs()?;
        let executable = self.compiled.get(&self.program.func);
        let executable = executable.map_err(|error| self.failed(error))?;
        let (none, tuning) = (BTreeMap::new(), Tuning::default());
        let executor = Executor::new(&executable, none, self.options, &tuning);
        let results = executor.and_then(|executor| executor.run(&inputs));
        let results = results.map_err(|error| self.failed(error))?;
        let bytes = results
            .into_iter()
            .next()
            .map(|(_, made)| made.bytes().clone());
        let wanted = self.program.stored.get(self.program.like);
        let wanted = wanted.map(|like| like.bytes().len());
        match (bytes, wanted) {
            (Some(bytes), Some(wanted)) if bytes.len() == wanted => Ok(bytes),
            (_, _) => Err(self.failed("its program makes a tensor of another type")),
        }
    }
}
