//! Compiling ahead of a run: programs become commands that an artifact stores.
//!
//! Takes programs, gives for each distinct one what an adapter does, for the limits that every
//! adapter grants, with kernels that all of them share; and what a device must offer. Commands are
//! known by a hash of the regions that they compute: whoever forms the same regions of a program
//! has use for them. It needs no device.

use std::collections::BTreeMap;

use backends::gpu::commands::{Commands, Requirements};
use backends::gpu::compile::{self, CompileError, Compiled};
use backends::gpu::dialect::Dialect;
use backends::gpu::validate;
use compiler::program::Executable;

use crate::artifact::key;

/// What is compiled so far.
#[derive(Debug)]
pub struct Ahead {
    dialect: &'static Dialect,
    shader_f16: bool,
    /// The commands in the order in which they were made, with the hash of their regions.
    commands: Vec<(String, Commands)>,
    /// Names of kernels by their text without comments, and the text as it was found first.
    kernels: BTreeMap<String, (String, String)>,
}

/// Commands for an artifact.
#[derive(Debug)]
pub struct Finished {
    /// By the hash of the regions that they compute.
    pub commands: BTreeMap<String, Commands>,
    /// What they need.
    pub requirements: Requirements,
}

impl Ahead {
    /// Nothing so far. `shader_f16` lets kernels name 16-bit floats, which adapters with that
    /// feature have.
    pub fn new(dialect: &'static Dialect, shader_f16: bool) -> Ahead {
        Ahead {
            dialect,
            shader_f16,
            commands: Vec::new(),
            kernels: BTreeMap::new(),
        }
    }

    /// Compiles a program.
    ///
    /// # Errors
    /// When it does not fit in the limits that every adapter grants.
    pub fn add(&mut self, program: &Executable) -> Result<Compiled, CompileError> {
        let requirements = self.dialect.requirements(self.shader_f16);
        let compiled = compile::compile(program, &requirements, self.dialect)?;
        let key = key(&compiled.regions);
        if self.commands.iter().all(|(known, _)| *known != key) {
            let mut commands = compiled.commands.commands().clone();
            self.share(&mut commands);
            self.commands.push((key, commands));
        }
        Ok(compiled)
    }

    /// Gives kernels that differ in comments only one name and one text.
    fn share(&mut self, commands: &mut Commands) {
        for kernel in &mut commands.kernels {
            let family = match kernel.name.rsplit_once('_') {
                Some((family, _)) => family,
                None => &kernel.name,
            };
            let fresh = (
                format!("{family}_{}", self.kernels.len()),
                kernel.text.clone(),
            );
            let code = kernel.text.lines().filter(|line| !line.starts_with("//"));
            let code: Vec<&str> = code.collect();
            let (name, text) = self.kernels.entry(code.join("\n")).or_insert(fresh);
            kernel.name.clone_from(name);
            kernel.text.clone_from(text);
        }
    }

    /// All commands, and what a device must offer for them.
    ///
    /// # Errors
    /// When commands break a rule: a fault of ours.
    pub fn finish(self) -> Result<Finished, CompileError> {
        let mut requirements = Requirements::NONE;
        for (_, commands) in &self.commands {
            requirements = requirements.and(validate::requirements(commands, self.dialect)?);
        }
        Ok(Finished {
            commands: self.commands.into_iter().collect(),
            requirements,
        })
    }
}
