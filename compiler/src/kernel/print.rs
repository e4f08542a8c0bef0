//! The text form of kernels: complete, so that printing, parsing and printing again is identity.
//!
//! Takes a kernel, gives text; it decides nothing but spaces. [`super::parse`] reads it.
//!
//! ```text
//! kernel    = "kernel" name "invocations" N "grid" N N N {"about" string} "{" memory* statement* "}"
//! memory    = "buffer" "$"N name ":" type "[" N "]" ["written"]
//!           | "shared" "@"N name ":" type "[" N "]" ["over" "@"N]
//! type      = ("bool" | "i32" | "u32" | "f16" | "f32") ["x2" | "x4"]
//! statement = value ":" type "=" expression
//!           | "store" access "=" value
//!           | "barrier" | "commit" | "wait" N
//!           | "copy" "@"N "[" value "]" "=" "$"N "[" value "]" "where" value
//!           | "if" value block ["else" block] ["gives" value ":" type "=" value "else" value, …]
//!           | "for" value "=" value "to" value "step" N ["carry" carried, …] block
//! carried   = value ":" type "=" value "next" value "left" value
//! block     = "{" statement* "}"
//! expression = number | "true" | "false" | "local" | "group" N | function value, …
//!           | "extract" value "," N | "shuffle" value "," N
//!           | "mma" ("f16" | "bf16") value "," value "," value | "load" access
//!           | "load_matrix" ["transposed"] "@"N "[" value "]"
//! access    = ("$"N | "@"N) "[" value "]"
//! ```
//! A value is `%N`; its type is written where it is defined, that of what is left of a carried
//! value where the loop begins. The type of a number, what `convert`, `bits` and `splat` make, and
//! how many matrices are loaded, is what is written before `=`.

use std::fmt::{self, Write};

use crate::kernel::{
    BufferId, Builtin, Carried, Constant, Expression, Kernel, Loop, Memory, SharedId, Statement,
    Type, Value,
};
use crate::value::words::write_quoted;

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "%{}", self.0)
    }
}

impl fmt::Display for BufferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${}", self.0)
    }
}

impl fmt::Display for SharedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}", self.0)
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Memory::Buffer(buffer) => buffer.fmt(f),
            Memory::Shared(shared) => shared.fmt(f),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.scalar.name())?;
        match self.lanes {
            1 => Ok(()),
            lanes => write!(f, "x{lanes}"),
        }
    }
}

impl fmt::Display for Constant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Constant::Bool(truth) => truth.fmt(f),
            Constant::I32(number) => number.fmt(f),
            Constant::U32(number) => number.fmt(f),
            Constant::F32(number) if number.is_nan() => write!(f, "0x{:x}", number.to_bits()),
            Constant::F32(number) => write!(f, "{number:?}"),
        }
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expression::Constant(constant) => constant.fmt(f),
            Expression::Builtin(Builtin::Local) => f.write_str(Builtin::Local.name()),
            Expression::Builtin(group @ Builtin::Group(axis)) => {
                write!(f, "{} {axis}", group.name())
            }
            Expression::Unary(function, x) => write!(f, "{} {x}", function.name()),
            Expression::Binary(function, a, b) => write!(f, "{} {a}, {b}", function.name()),
            Expression::Fma(a, b, c) => write!(f, "fma {a}, {b}, {c}"),
            Expression::Select(condition, yes, no) => write!(f, "select {condition}, {yes}, {no}"),
            Expression::Convert(_, x) => write!(f, "convert {x}"),
            Expression::Bits(_, x) => write!(f, "bits {x}"),
            Expression::Splat(x, _) => write!(f, "splat {x}"),
            Expression::Extract(x, lane) => write!(f, "extract {x}, {lane}"),
            Expression::ExtractAt(x, lane) => write!(f, "extract_at {x}, {lane}"),
            Expression::Compose(lanes) => {
                f.write_str("compose")?;
                for (number, lane) in lanes.iter().enumerate() {
                    let separator = if number > 0 { ", " } else { " " };
                    write!(f, "{separator}{lane}")?;
                }
                Ok(())
            }
            Expression::Unpack(x) => write!(f, "unpack {x}"),
            Expression::Pack(x) => write!(f, "pack {x}"),
            Expression::Mma(half, a, b, c) => write!(f, "mma {} {a}, {b}, {c}", half.name()),
            Expression::Shuffle(x, bits) => write!(f, "shuffle {x}, {bits}"),
            Expression::LoadMatrix(load) => {
                let transposed = if load.transposed { " transposed" } else { "" };
                write!(f, "load_matrix{transposed} {}[{}]", load.shared, load.row)
            }
            Expression::Load(memory, index) => write!(f, "load {memory}[{index}]"),
        }
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [x, y, z] = self.grid;
        write!(
            f,
            "kernel {} invocations {} grid {x} {y} {z}",
            self.name, self.invocations
        )?;
        for line in &self.comment {
            f.write_str("\n  about ")?;
            write_quoted(f, line, '"')?;
        }
        f.write_str(if self.comment.is_empty() {
            " {\n"
        } else {
            "\n{\n"
        })?;
        for (number, buffer) in self.buffers.iter().enumerate() {
            let written = if buffer.written { " written" } else { "" };
            let (name, element) = (&buffer.name, buffer.element);
            let elements = buffer.elements;
            writeln!(
                f,
                "  buffer ${number} {name}: {element}[{elements}]{written}"
            )?;
        }
        for (number, shared) in self.shared.iter().enumerate() {
            let (name, element) = (&shared.name, shared.element);
            write!(
                f,
                "  shared @{number} {name}: {element}[{}]",
                shared.elements
            )?;
            match shared.over {
                Some(owner) => writeln!(f, " over {owner}")?,
                None => writeln!(f)?,
            }
        }
        self.block(f, &self.body, 1)?;
        f.write_str("}\n")
    }
}

impl Kernel {
    /// The text of a statement, without those in it.
    pub fn line(&self, statement: &Statement) -> String {
        let mut line = String::new();
        let _ = self.head(&mut line, statement);
        line
    }

    fn block(&self, f: &mut impl Write, block: &[Statement], depth: usize) -> fmt::Result {
        for statement in block {
            write!(f, "{:width$}", "", width = 2 * depth)?;
            self.head(f, statement)?;
            self.tail(f, statement, depth)?;
            f.write_char('\n')?;
        }
        Ok(())
    }

    /// The type, `?` where there is none.
    fn typed(&self, value: Value) -> String {
        let ty = self.types.get(value.0 as usize);
        ty.map_or_else(|| format!("{value}: ?"), |ty| format!("{value}: {ty}"))
    }

    fn head(&self, f: &mut impl Write, statement: &Statement) -> fmt::Result {
        match statement {
            Statement::Let(value, expression) => {
                write!(f, "{} = {expression}", self.typed(*value))
            }
            Statement::Store {
                memory,
                index,
                value,
            } => write!(f, "store {memory}[{index}] = {value}"),
            Statement::Barrier => f.write_str("barrier"),
            Statement::Copy(copy) => {
                let (shared, place) = (copy.shared, copy.place);
                let (buffer, index, holds) = (copy.buffer, copy.index, copy.holds);
                write!(
                    f,
                    "copy {shared}[{place}] = {buffer}[{index}] where {holds}"
                )
            }
            Statement::Commit => f.write_str("commit"),
            Statement::Wait(latest) => write!(f, "wait {latest}"),
            Statement::If(branch) => write!(f, "if {}", branch.condition),
            Statement::For(repeat) => {
                let Loop {
                    counter,
                    start,
                    end,
                    step,
                    ..
                } = repeat;
                write!(f, "for {counter} = {start} to {end} step {step}")?;
                for (number, each) in repeat.carried.iter().enumerate() {
                    let Carried {
                        initial,
                        value,
                        next,
                        result,
                    } = each;
                    let separator = if number > 0 { ", " } else { " carry " };
                    let value = self.typed(*value);
                    write!(
                        f,
                        "{separator}{value} = {initial} next {next} left {result}"
                    )?;
                }
                Ok(())
            }
        }
    }

    fn tail(&self, f: &mut impl Write, statement: &Statement, depth: usize) -> fmt::Result {
        let width = 2 * depth;
        match statement {
            Statement::Let(..)
            | Statement::Store { .. }
            | Statement::Barrier
            | Statement::Copy(_)
            | Statement::Commit
            | Statement::Wait(_) => Ok(()),
            Statement::If(branch) => {
                f.write_str(" {\n")?;
                self.block(f, &branch.then, depth + 1)?;
                write!(f, "{:width$}}}", "")?;
                if !branch.otherwise.is_empty() {
                    f.write_str(" else {\n")?;
                    self.block(f, &branch.otherwise, depth + 1)?;
                    write!(f, "{:width$}}}", "")?;
                }
                for (number, (value, yes, no)) in branch.results.iter().enumerate() {
                    let separator = if number > 0 { ", " } else { " gives " };
                    let value = self.typed(*value);
                    write!(f, "{separator}{value} = {yes} else {no}")?;
                }
                Ok(())
            }
            Statement::For(repeat) => {
                f.write_str(" {\n")?;
                self.block(f, &repeat.body, depth + 1)?;
                write!(f, "{:width$}}}", "")
            }
        }
    }
}
