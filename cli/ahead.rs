//! Compiling the programs of an artifact for graphics processors.
//!
//! Takes programs by component and name, returns the commands that the artifact stores and what
//! they need. Each program is compiled whole, for `run` and `bench`, and the denoising step also in
//! the parts in which `sample` runs it.

use backends::gpu::compile::{CompileError, Compiled};
use backends::gpu::dialect::Dialect;
use compiler::program::pipeline::Task;
use compiler::program::{Executable, Program};
use runtime::ahead::{Ahead, Finished};
use runtime::sampling::STAGES;
use runtime::staged::Staged;

use crate::error::{At, Failure};
use crate::progress;

/// What was compiled so far.
pub(crate) struct Adapters {
    ahead: Ahead,
    target: &'static str,
}

/// A program or a part of one, as an adapter runs it.
pub(crate) struct Part {
    /// The name of the part; none for a whole program.
    pub(crate) stage: Option<&'static str>,
    /// What was compiled.
    pub(crate) compiled: Compiled,
}

impl Adapters {
    /// Nothing so far; `shader_f16` lets kernels name 16-bit floats.
    pub(crate) fn new(dialect: &'static Dialect, shader_f16: bool) -> Adapters {
        Adapters {
            ahead: Ahead::new(dialect, shader_f16),
            target: dialect.target.name,
        }
    }

    /// Compiles a program whole and, where sampling does so, in parts; the whole comes first.
    pub(crate) fn add(
        &mut self,
        (component, task): (&str, Task),
        program: &Program,
    ) -> Result<Vec<Part>, Failure> {
        let mut parts = vec![self.part(component, None, program)?];
        if task == Task::Denoise {
            let staged = Staged::of(program, &STAGES).at(component)?;
            for (stage, program) in staged.parts() {
                let name = stage.map_or("step", |stage| stage.name);
                parts.push(self.part(component, Some(name), program)?);
            }
        }
        Ok(parts)
    }

    fn part(
        &mut self,
        component: &str,
        stage: Option<&'static str>,
        program: &Executable,
    ) -> Result<Part, Failure> {
        let compiled = self.ahead.add(program);
        let compiled = compiled.map_err(|error| refused(component, &error))?;
        Ok(Part { stage, compiled })
    }

    /// What the artifact stores.
    pub(crate) fn finish(self) -> Result<Finished, Failure> {
        self.ahead
            .finish()
            .at(format_args!("--target {}", self.target))
    }
}

/// A program that does not fit in what every adapter grants, with what helps.
fn refused(component: &str, error: &CompileError) -> Failure {
    let failure = Failure::job(format!("{component}: {error}"));
    match error {
        CompileError::Plan(_) => failure.hint(
            "choose a smaller picture (-W, -H) or fewer at once (-b), --dtype f16, or for the \
             decoder smaller tiles (--vae-tile-size 256)",
        ),
        CompileError::Kernel { .. } | CompileError::Invalid(_) => failure,
        CompileError::State { .. } => failure.hint("--target cpu keeps states"),
    }
}

/// Bytes that a program needs on an adapter at once, whole or in parts.
pub(crate) fn peak_bytes(parts: &[Part]) -> u64 {
    let bytes = |part: &Part| part.compiled.commands.commands().bytes();
    let (whole, staged): (Vec<&Part>, Vec<&Part>) =
        parts.iter().partition(|part| part.stage.is_none());
    let sum = |parts: &[&Part]| {
        let all = parts.iter().map(|part| bytes(part));
        all.fold(0, u64::saturating_add)
    };
    sum(&whole).max(sum(&staged))
}

/// Says what a program takes.
pub(crate) fn announce(component: &str, name: &str, parts: &[Part]) {
    let commands = parts.iter().map(|part| part.compiled.commands.commands());
    let Some(whole) = commands.into_iter().next() else {
        return;
    };
    progress::say(format!(
        "{component:>12} {name}: {} launches of {} kernels, {} MB at the peak",
        whole.launches.len(),
        whole.kernels.len(),
        peak_bytes(parts) / 1_000_000,
    ));
}
