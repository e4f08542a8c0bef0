//! What the text of a kernel says of itself, read and checked by naga.
//!
//! Takes WGSL, gives the size of its workgroup, its memory and its bindings, or the line that naga
//! refuses. It allows what WebGPU allows without features, and 16-bit floats where they are
//! granted.

use naga::front::wgsl::{Frontend, Options};
use naga::valid::{Capabilities, ValidationFlags, Validator};
use naga::{AddressSpace, Module, ScalarKind, ShaderStage, StorageAccess, TypeInner};
use thiserror::Error;

use crate::gpu::commands::{Binding, ENTRY_POINT};
use crate::gpu::dialect::Text;

/// Why a text is not a kernel.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TextError {
    /// naga does not accept it.
    #[error("naga refuses line {line} `{text}`: {reason}")]
    Refused {
        /// The number of the line, from 1.
        line: u32,
        /// The line, without the blanks around it.
        text: String,
        /// What naga says.
        reason: String,
    },
    /// It has not the one entry point.
    #[error("found entry points {found:?}, wanted one compute shader {ENTRY_POINT:?}")]
    EntryPoints {
        /// Their names.
        found: Vec<String>,
    },
    /// Its workgroup has more than one axis, or no size before it is run.
    #[error("found a workgroup of {found:?}, wanted a known size along the first axis alone")]
    Workgroup {
        /// Its size.
        found: [u32; 3],
    },
    /// A variable lies where none is provided.
    #[error("the variable {name:?} is not a storage buffer of group 0 or workgroup memory")]
    Variable {
        /// Its name.
        name: String,
    },
    /// Storage buffers are not numbered one after the other.
    #[error("found bindings {found:?}, wanted one of each number from 0")]
    Numbers {
        /// Their numbers.
        found: Vec<u32>,
    },
}

/// Reads a kernel; 16-bit floats are refused unless `shader_f16` grants them.
///
/// # Errors
/// When naga refuses the text, or it asks for what [`crate::gpu::commands`] cannot say.
pub fn read(wgsl: &str, shader_f16: bool) -> Result<Text, TextError> {
    let module = accept(wgsl, shader_f16)?;
    let [entry] = &module.entry_points[..] else {
        return Err(entry_points(&module));
    };
    if entry.stage != ShaderStage::Compute || entry.name != ENTRY_POINT {
        return Err(entry_points(&module));
    }
    let size = entry.workgroup_size;
    if entry.workgroup_size_overrides.is_some() || size[1..] != [1, 1] {
        return Err(TextError::Workgroup { found: size });
    }
    let (workgroup_bytes, bindings) = variables(&module)?;
    let half = |inner: &TypeInner| {
        let scalar = inner.scalar();
        scalar.is_some_and(|scalar| scalar.kind == ScalarKind::Float && scalar.width == 2)
    };
    Ok(Text {
        invocations: size[0],
        workgroup_bytes,
        bindings,
        shader_f16: module
            .types
            .iter()
            .any(|(_, declared)| half(&declared.inner)),
    })
}

fn entry_points(module: &Module) -> TextError {
    let names = module.entry_points.iter().map(|entry| entry.name.clone());
    TextError::EntryPoints {
        found: names.collect(),
    }
}

/// Parses and validates.
fn accept(wgsl: &str, shader_f16: bool) -> Result<Module, TextError> {
    // Packed halves are part of WebGPU; naga counts them as a capability for old hardware's sake.
    let mut capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    capabilities.set(Capabilities::SHADER_FLOAT16, shader_f16);
    let refused = |line: Option<u32>, reason: String| {
        let line = line.unwrap_or(1);
        let text = wgsl.lines().nth(line.saturating_sub(1) as usize);
        TextError::Refused {
            line,
            text: text.unwrap_or_default().trim().to_owned(),
            reason,
        }
    };
    let mut frontend = Frontend::new_with_options(Options {
        parse_doc_comments: false,
        capabilities,
    });
    let module = frontend.parse(wgsl).map_err(|error| {
        let line = error.location(wgsl).map(|at| at.line_number);
        refused(line, error.message().to_owned())
    })?;
    let mut validator = Validator::new(ValidationFlags::all(), capabilities);
    validator.validate(&module).map_err(|error| {
        let line = error.location(wgsl).map(|at| at.line_number);
        refused(line, chain(error.as_inner()))
    })?;
    Ok(module)
}

/// An error with what caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Bytes of memory of a workgroup, and storage buffers with their least bytes.
fn variables(module: &Module) -> Result<(u32, Vec<(Binding, u64)>), TextError> {
    let mut workgroup_bytes = 0u32;
    let mut buffers = Vec::new();
    for (_, variable) in module.global_variables.iter() {
        let bytes = module.types[variable.ty].inner.size(module.to_ctx());
        match (variable.space, &variable.binding) {
            (AddressSpace::WorkGroup, None) => {
                // https://www.w3.org/TR/webgpu/#dom-supported-limits-maxcomputeworkgroupstoragesize:
                // each variable counts in whole 16 bytes.
                let whole = bytes.checked_next_multiple_of(16).unwrap_or(u32::MAX);
                workgroup_bytes = workgroup_bytes.saturating_add(whole);
            }
            (AddressSpace::Storage { access }, Some(at)) if at.group == 0 => {
                let binding = match access.contains(StorageAccess::STORE) {
                    true => Binding::ReadWrite,
                    false => Binding::Read,
                };
                buffers.push((at.binding, (binding, u64::from(bytes))));
            }
            (AddressSpace::Private, None) => {}
            _ => {
                let name = variable.name.clone().unwrap_or_default();
                return Err(TextError::Variable { name });
            }
        }
    }
    buffers.sort_by_key(|(number, _)| *number);
    let in_order = |(place, (number, _)): (usize, &(u32, _))| place == *number as usize;
    if !buffers.iter().enumerate().all(in_order) {
        let found = buffers.iter().map(|(number, _)| *number).collect();
        return Err(TextError::Numbers { found });
    }
    let buffers = buffers.into_iter().map(|(_, buffer)| buffer).collect();
    Ok((workgroup_bytes, buffers))
}
