//! What the text of a kernel says of itself, read line by line.
//!
//! Takes PTX of the form that [`super::emit`] prints, gives the size of its block, its shared
//! memory and its buffers. Anything else is refused, with the line: other directives, calls,
//! instructions that no kernel of ours has. It proves nothing of addresses; verified kernels keep
//! their bounds, and a stored text is protected by its hash.

use thiserror::Error;

use super::emit::{PARAMETER, PREAMBLE};
use crate::gpu::commands::{Binding, ENTRY_POINT};
use crate::gpu::dialect::Text;

/// The instructions that kernels have, without their types, in alphabetical order.
const INSTRUCTIONS: [&str; 37] = [
    "abs", "add", "and", "bar", "bra", "cos", "cp", "cvt", "cvta", "div", "ex2", "fma", "ld",
    "ldmatrix", "lg2", "mad", "max", "min", "mma", "mov", "mul", "neg", "not", "or", "rem", "ret",
    "rsqrt", "selp", "setp", "shfl", "shl", "shr", "sin", "sqrt", "st", "sub", "xor",
];

/// Why a text is not a kernel.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum TextError {
    /// A line is not what it should be.
    #[error("line {line} is `{found}`; expected {wanted}")]
    Line {
        /// The number of the line, from 1.
        line: usize,
        /// The line, without the blanks around it.
        found: String,
        /// What should be there.
        wanted: &'static str,
    },
    /// The text ends too early.
    #[error("the text ends; expected {wanted}")]
    Ends {
        /// What should come.
        wanted: &'static str,
    },
}

/// The lines of a text that are neither empty nor comments.
struct Lines<'a> {
    rest: Box<dyn Iterator<Item = (usize, &'a str)> + 'a>,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Lines<'a> {
        let lines = text.lines().map(str::trim).enumerate();
        let lines = lines.map(|(place, line)| (place + 1, line));
        let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with("//"));
        Lines {
            rest: Box::new(lines),
        }
    }

    fn next(&mut self, wanted: &'static str) -> Result<(usize, &'a str), TextError> {
        self.rest.next().ok_or(TextError::Ends { wanted })
    }

    /// What `read` makes of the next line.
    fn read<T>(
        &mut self,
        wanted: &'static str,
        read: impl Fn(&'a str) -> Option<T>,
    ) -> Result<T, TextError> {
        let (line, found) = self.next(wanted)?;
        read(found).ok_or_else(|| unexpected(line, found, wanted))
    }
}

fn unexpected(line: usize, found: &str, wanted: &'static str) -> TextError {
    TextError::Line {
        line,
        found: found.to_owned(),
        wanted,
    }
}

/// Reads a kernel.
///
/// # Errors
/// When a line is not one of a kernel.
pub(super) fn read(text: &str) -> Result<Text, TextError> {
    let mut lines = Lines::of(text);
    for wanted in PREAMBLE {
        lines.read(wanted, |line| (line == wanted).then_some(()))?;
    }
    let entry = format!(".visible .entry {ENTRY_POINT}(");
    lines.read("the entry point", |line| (line == entry).then_some(()))?;
    let mut bindings = Vec::new();
    let parameters = "a parameter or `)`";
    while let Some(bound) = lines.read(parameters, |line| match line {
        ")" => Some(None),
        line => parameter(line).map(Some),
    })? {
        bindings.push(bound);
    }
    let invocations = lines.read("the size of a block", |line| {
        let size = line.strip_prefix(".reqntid ")?.strip_suffix(" */")?;
        let (size, grid) = size.split_once(", 1, 1 /* grid ")?;
        let is_grid = grid.split(' ').all(|side| side.parse::<u32>().is_ok());
        size.parse().ok().filter(|_| is_grid)
    })?;
    lines.read("`{`", |line| (line == "{").then_some(()))?;
    let mut workgroup_bytes = 0u32;
    loop {
        let (line, found) = lines.next("an instruction or `}`")?;
        if found == "}" {
            break;
        }
        if let Some(shared) = found.strip_prefix(".shared ") {
            let bytes = shared_bytes(shared);
            let bytes = bytes.ok_or_else(|| unexpected(line, found, "shared memory"))?;
            let whole = bytes.checked_next_multiple_of(16).unwrap_or(u32::MAX);
            workgroup_bytes = workgroup_bytes.saturating_add(whole);
        } else if !(is_registers(found) || is_label(found) || is_instruction(found)) {
            return Err(unexpected(line, found, "an instruction of a kernel"));
        }
    }
    match lines.rest.next() {
        Some((line, found)) => Err(unexpected(line, found, "the end")),
        None => Ok(Text {
            invocations,
            workgroup_bytes,
            bindings,
            // Every processor has them.
            shader_f16: false,
        }),
    }
}

/// A buffer with the bytes that the text declares.
fn parameter(line: &str) -> Option<(Binding, u64)> {
    let (name, about) = line.strip_prefix(PARAMETER)?.split_once(" /* ")?;
    let name = name.strip_prefix(' ')?;
    let (bytes, access) = about.strip_suffix(" */")?.split_once(" bytes, ")?;
    let (_, bytes) = bytes.split_once(", ")?;
    let binding = match access {
        "read" => Binding::Read,
        "read_write" => Binding::ReadWrite,
        _ => return None,
    };
    is_word(name.strip_suffix(',').unwrap_or(name)).then_some(())?;
    Some((binding, bytes.parse().ok()?))
}

fn shared_bytes(declaration: &str) -> Option<u32> {
    let array = declaration.strip_prefix(".align 16 .b8 ")?;
    let (name, bytes) = array.strip_suffix("];")?.split_once('[')?;
    is_word(name).then_some(())?;
    bytes.parse().ok()
}

fn is_word(text: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !text.is_empty() && text.chars().all(is_letter)
}

fn is_registers(line: &str) -> bool {
    let family = line.strip_prefix(".reg .");
    let family = family.and_then(|line| line.strip_suffix(">;"));
    family.is_some_and(has_operands)
}

fn is_label(line: &str) -> bool {
    let name = line
        .strip_prefix('$')
        .and_then(|line| line.strip_suffix(':'));
    name.is_some_and(is_word)
}

/// Whether a line is one instruction of the list, with a guard or without.
fn is_instruction(line: &str) -> bool {
    let unguarded = match line.strip_prefix('@') {
        Some(guarded) => guarded.split_once(' ').map_or("", |(_, rest)| rest),
        None => line,
    };
    let Some(instruction) = unguarded.strip_suffix(';') else {
        return false;
    };
    let (name, _) = instruction
        .split_once([' ', '.'])
        .unwrap_or((instruction, ""));
    INSTRUCTIONS.contains(&name) && has_operands(instruction)
}

/// Whether a text has registers, numbers, labels and addresses alone.
fn has_operands(text: &str) -> bool {
    let others = " %$,.[]{}<>-_";
    text.chars()
        .all(|c| c.is_ascii_alphanumeric() || others.contains(c))
}
