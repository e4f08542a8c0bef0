//! A dialect: the language in which the kernels of one kind of GPU are written.
//!
//! Holds what everything shared by GPUs needs of a dialect, as functions, so that nothing here
//! depends on one: its target, its printer, and its reader, which checks a text anew.

use compiler::kernel;
use compiler::target::Target;

use super::commands::{Binding, Requirements};

/// A language of kernels.
#[derive(Debug)]
pub struct Dialect {
    /// The name of the language.
    pub name: &'static str,
    /// What the names of its files end in, behind a dot.
    pub extension: &'static str,
    /// What the compiler knows of the machines that understand it.
    pub target: &'static Target,
    /// Prints a verified kernel whose storage buffers are bound so.
    pub emit: fn(&kernel::Kernel, &[Binding]) -> String,
    /// Reads a kernel; 16-bit floats are refused unless granted. `Err` is a message that says why
    /// the text is not a kernel.
    pub read: fn(text: &str, shader_f16: bool) -> Result<Text, String>,
}

impl Dialect {
    /// What programs compiled ahead may need; `shader_f16` lets kernels name 16-bit floats where
    /// not every machine has them.
    pub fn requirements(&self, shader_f16: bool) -> Requirements {
        Requirements {
            limits: self.target.limits,
            shader_f16,
        }
    }
}

/// What a kernel's text says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// Invocations of a workgroup.
    pub invocations: u32,
    /// Bytes of memory of a workgroup, counted as the specification counts them.
    pub workgroup_bytes: u32,
    /// The storage buffers in the order of their numbers, with the fewest bytes that hold what the
    /// text declares.
    pub bindings: Vec<(Binding, u64)>,
    /// Whether it names 16-bit floats.
    pub shader_f16: bool,
}
