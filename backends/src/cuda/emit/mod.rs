//! PTX: a kernel as text.
//!
//! Takes a verified kernel and how each storage buffer is bound, gives its text: a module with one
//! entry. It decides nothing: an expression is the instruction of that name for each lane, a
//! statement of control flow is its labels and branches.

mod functions;
mod registers;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use compiler::kernel::{
    Branch, Builtin, CHUNK_BYTES, ChunkCopy, Constant, Expression, Kernel, Loop, Memory, Scalar,
    Statement, Type, Value,
};

use crate::gpu::commands::{Binding, ENTRY_POINT};
use registers::{Class, Registers};

/// What every text begins with: the language as CUDA 11.0 introduced it, so that every driver since
/// then reads it.
pub(super) const PREAMBLE: [&str; 3] = [".version 7.0", ".target sm_80", ".address_size 64"];

/// What stands before the name of a parameter: windows start at multiples of 256 bytes.
pub(super) const PARAMETER: &str = ".param .u64 .ptr .global .align 256";

/// The text of a kernel.
pub(crate) fn emit(kernel: &Kernel, bindings: &[Binding]) -> String {
    let mut printer = Printer {
        kernel,
        bindings,
        out: String::new(),
        registers: Registers::default(),
        bases: BTreeMap::new(),
        values: vec![Vec::new(); kernel.types.len()],
        labels: 0,
    };
    printer.addresses();
    printer.block(&kernel.body);
    let mut text = String::new();
    for line in &kernel.comment {
        let _ = writeln!(text, "// {line}");
    }
    for line in PREAMBLE {
        let _ = writeln!(text, "{line}");
    }
    let _ = writeln!(text, "\n.visible .entry {ENTRY_POINT}(");
    for (number, (buffer, binding)) in kernel.buffers.iter().zip(bindings).enumerate() {
        let access = match binding {
            Binding::Read => "read",
            Binding::ReadWrite => "read_write",
        };
        let comma = if number + 1 < kernel.buffers.len() {
            ","
        } else {
            ""
        };
        let (name, element, elements) = (&buffer.name, buffer.element, buffer.elements);
        let bytes = u64::from(element.bytes()) * u64::from(elements);
        let about = format!("{element}[{elements}], {bytes} bytes, {access}");
        let _ = writeln!(text, "  {PARAMETER} {name}_{number}{comma} /* {about} */");
    }
    let ([x, y, z], invocations) = (kernel.grid, kernel.invocations);
    let _ = writeln!(
        text,
        ")\n.reqntid {invocations}, 1, 1 /* grid {x} {y} {z} */\n{{"
    );
    for (number, shared) in kernel.shared.iter().enumerate() {
        if shared.over.is_some() {
            continue;
        }
        let (name, bytes) = (&shared.name, shared.bytes());
        let _ = writeln!(
            text,
            "  .shared .align 16 .b8 {name}_shared{number}[{bytes}];"
        );
    }
    text.push_str(&printer.registers.declarations());
    text.push_str(&printer.out);
    text.push_str("  ret;\n}\n");
    text
}

struct Printer<'a> {
    kernel: &'a Kernel,
    bindings: &'a [Binding],
    out: String,
    registers: Registers,
    /// The register that holds where each memory begins.
    bases: BTreeMap<Memory, String>,
    /// A register or a number for each lane of each value that is known so far.
    values: Vec<Vec<String>>,
    labels: usize,
}

impl Printer<'_> {
    fn line(&mut self, text: &str) {
        let _ = writeln!(self.out, "  {text}");
    }

    fn label(&mut self, name: &str) {
        let _ = writeln!(self.out, "{name}:");
    }

    fn next_label(&mut self) -> usize {
        self.labels += 1;
        self.labels
    }

    fn operand(&self, value: Value) -> &str {
        &self.values[value.0 as usize][0]
    }

    fn lanes(&self, value: Value) -> Vec<String> {
        self.values[value.0 as usize].clone()
    }

    /// Where each memory begins.
    fn addresses(&mut self) {
        for (number, buffer) in self.kernel.buffers.iter().enumerate() {
            let (given, global) = (
                self.registers.fresh(Class::B64),
                self.registers.fresh(Class::B64),
            );
            self.line(&format!(
                "ld.param.u64 {given}, [{}_{number}];",
                buffer.name
            ));
            self.line(&format!("cvta.to.global.u64 {global}, {given};"));
            let id = compiler::kernel::BufferId(number as u32);
            self.bases.insert(Memory::Buffer(id), global);
        }
        for (number, shared) in self.kernel.shared.iter().enumerate() {
            let base = match shared.over {
                Some(owner) => self.bases[&Memory::Shared(owner)].clone(),
                None => {
                    let base = self.registers.fresh(Class::B32);
                    self.line(&format!("mov.u32 {base}, {}_shared{number};", shared.name));
                    base
                }
            };
            let id = compiler::kernel::SharedId(number as u32);
            self.bases.insert(Memory::Shared(id), base);
        }
    }

    fn block(&mut self, statements: &[Statement]) {
        for statement in statements {
            self.statement(statement);
        }
    }

    fn statement(&mut self, statement: &Statement) {
        match statement {
            Statement::Let(value, expression) => self.define(*value, expression),
            Statement::Store {
                memory,
                index,
                value,
            } => {
                let address = self.address(*memory, *index);
                let space = match memory {
                    Memory::Buffer(_) => "global",
                    Memory::Shared(_) => "shared",
                };
                let vector = vector(self.kernel.type_of(*value));
                let value = joined(&self.lanes(*value));
                self.line(&format!("st.{space}{vector} [{address}], {value};"));
            }
            Statement::Barrier => self.line("bar.sync 0;"),
            Statement::Copy(copy) => self.copy(copy),
            Statement::Commit => self.line("cp.async.commit_group;"),
            Statement::Wait(latest) => self.line(&format!("cp.async.wait_group {latest};")),
            Statement::If(branch) => self.branch(branch),
            Statement::For(repeat) => self.repeat(repeat),
        }
    }

    /// Of what does not hold no byte is read: all 16 become 0.
    fn copy(&mut self, copy: &ChunkCopy) {
        let to = self.address(Memory::Shared(copy.shared), copy.place);
        let from = self.address(Memory::Buffer(copy.buffer), copy.index);
        let bytes = self.registers.fresh(Class::B32);
        let holds = self.operand(copy.holds).to_owned();
        self.line(&format!("selp.b32 {bytes}, {CHUNK_BYTES}, 0, {holds};"));
        self.line(&format!(
            "cp.async.cg.shared.global [{to}], [{from}], {CHUNK_BYTES}, {bytes};"
        ));
    }

    fn branch(&mut self, branch: &Branch) {
        let Branch {
            condition,
            then,
            otherwise,
            results,
        } = branch;
        let number = self.next_label();
        let (no, end) = (format!("$else_{number}"), format!("$end_{number}"));
        let condition = self.operand(*condition).to_owned();
        let targets: Vec<Vec<String>> = results
            .iter()
            .map(|(result, ..)| self.registers.lanes(self.kernel.type_of(*result)))
            .collect();
        self.line(&format!("@!{condition} bra {no};"));
        self.block(then);
        for ((_, yes, _), to) in results.iter().zip(&targets) {
            self.assign(to, *yes);
        }
        self.line(&format!("bra {end};"));
        self.label(&no);
        self.block(otherwise);
        for ((.., no), to) in results.iter().zip(&targets) {
            self.assign(to, *no);
        }
        self.label(&end);
        for ((result, ..), to) in results.iter().zip(targets) {
            self.values[result.0 as usize] = to;
        }
    }

    fn repeat(&mut self, repeat: &Loop) {
        let Loop {
            counter,
            start,
            end,
            step,
            carried,
            body,
        } = repeat;
        let number = self.next_label();
        let (head, done) = (format!("$loop_{number}"), format!("$done_{number}"));
        let own = self.registers.fresh(Class::B32);
        self.line(&format!("mov.b32 {own}, {};", self.operand(*start)));
        for own in carried {
            let to = self.registers.lanes(self.kernel.type_of(own.value));
            self.assign(&to, own.initial);
            self.values[own.value.0 as usize] = to;
        }
        self.values[counter.0 as usize] = vec![own.clone()];
        let ends = self.registers.fresh(Class::Pred);
        self.label(&head);
        self.line(&format!(
            "setp.ge.s32 {ends}, {own}, {};",
            self.operand(*end)
        ));
        self.line(&format!("@{ends} bra {done};"));
        self.block(body);
        // Values that change places go through others; the assembler removes what is not needed.
        let through: Vec<Vec<String>> = carried
            .iter()
            .map(|own| {
                let to = self.registers.lanes(self.kernel.type_of(own.next));
                self.assign(&to, own.next);
                to
            })
            .collect();
        for (own, from) in carried.iter().zip(through) {
            let class = Class::of(self.kernel.type_of(own.value).scalar);
            for (to, from) in self.lanes(own.value).iter().zip(from) {
                self.line(&format!("mov.{} {to}, {from};", class.moved()));
            }
        }
        self.line(&format!("add.s32 {own}, {own}, {step};"));
        self.line(&format!("bra {head};"));
        self.label(&done);
        for own in carried {
            self.values[own.result.0 as usize] = self.lanes(own.value);
        }
    }

    /// Copies a value to registers.
    fn assign(&mut self, to: &[String], value: Value) {
        let class = Class::of(self.kernel.type_of(value).scalar);
        for (to, from) in to.iter().zip(self.lanes(value)) {
            self.line(&format!("mov.{} {to}, {from};", class.moved()));
        }
    }

    /// The register that holds the address of an element.
    fn address(&mut self, memory: Memory, index: Value) -> String {
        let bytes = self.kernel.element(memory).bytes();
        let (base, index) = (self.bases[&memory].clone(), self.operand(index).to_owned());
        let (class, instruction) = match memory {
            Memory::Buffer(_) => (Class::B64, "mad.wide.s32"),
            Memory::Shared(_) => (Class::B32, "mad.lo.s32"),
        };
        let address = self.registers.fresh(class);
        self.line(&format!(
            "{instruction} {address}, {index}, {bytes}, {base};"
        ));
        address
    }

    /// A value as one vector of registers, for an instruction that takes no numbers.
    fn in_registers(&mut self, value: Value) -> String {
        let class = Class::of(self.kernel.type_of(value).scalar);
        let lanes = self.lanes(value).into_iter().map(|lane| {
            if lane.starts_with('%') {
                return lane;
            }
            let register = self.registers.fresh(class);
            let line = format!("mov.{} {register}, {lane};", class.moved());
            self.line(&line);
            register
        });
        let lanes: Vec<String> = lanes.collect();
        format!("{{{}}}", lanes.join(", "))
    }

    fn define(&mut self, value: Value, expression: &Expression) {
        let lanes = self.expression(value, expression);
        self.values[value.0 as usize] = lanes;
    }

    /// The lanes of an expression: registers that its instructions were printed for, or those of
    /// its operands where nothing is computed.
    fn expression(&mut self, value: Value, expression: &Expression) -> Vec<String> {
        let ty = self.kernel.type_of(value);
        match expression {
            Expression::Constant(constant) => self.constant(*constant),
            Expression::Builtin(builtin) => {
                let to = self.registers.lanes(ty);
                let special = match builtin {
                    Builtin::Local => "%tid.x",
                    Builtin::Group(0) => "%ctaid.x",
                    Builtin::Group(1) => "%ctaid.y",
                    Builtin::Group(_) => "%ctaid.z",
                };
                self.line(&format!("mov.u32 {}, {special};", to[0]));
                to
            }
            Expression::Unary(function, x) => self.each(ty, &[*x], |registers, to, x| {
                functions::unary(registers, *function, ty.scalar, to, &x[0])
            }),
            Expression::Binary(function, a, b) => {
                let scalar = self.kernel.type_of(*a).scalar;
                self.each(ty, &[*a, *b], |registers, to, x| {
                    functions::binary(registers, *function, scalar, to, [&x[0], &x[1]])
                })
            }
            Expression::Fma(a, b, c) => self.each(ty, &[*a, *b, *c], |_, to, x| {
                vec![format!("fma.rn.f32 {to}, {}, {}, {};", x[0], x[1], x[2])]
            }),
            Expression::Select(condition, yes, no) => {
                let condition = self.operand(*condition).to_owned();
                self.each(ty, &[*yes, *no], |registers, to, x| {
                    select(registers, ty.scalar, to, &condition, [&x[0], &x[1]])
                })
            }
            Expression::Convert(_, x) => {
                let from = self.kernel.type_of(*x).scalar;
                self.each(ty, &[*x], |registers, to, x| {
                    functions::convert(registers, [from, ty.scalar], to, &x[0])
                })
            }
            Expression::Bits(_, x) => self.each(ty, &[*x], |_, to, x| {
                vec![format!("mov.b32 {to}, {};", x[0])]
            }),
            Expression::Splat(x, lanes) => {
                vec![self.operand(*x).to_owned(); usize::from(*lanes)]
            }
            Expression::Extract(x, lane) => vec![self.lanes(*x)[usize::from(*lane)].clone()],
            Expression::ExtractAt(x, lane) => self.extract_at(ty, *x, *lane),
            Expression::Compose(lanes) => {
                let lanes = lanes.iter().map(|lane| self.operand(*lane).to_owned());
                lanes.collect()
            }
            Expression::Unpack(x) => {
                let halves = [(); 2].map(|()| self.registers.fresh(Class::B16));
                let x = self.operand(*x).to_owned();
                self.line(&format!("mov.b32 {{{}, {}}}, {x};", halves[0], halves[1]));
                let to = self.registers.lanes(ty);
                for (to, half) in to.iter().zip(halves) {
                    self.line(&format!("cvt.f32.f16 {to}, {half};"));
                }
                to
            }
            Expression::Pack(x) => {
                // The first source becomes the upper half.
                let (x, to) = (self.lanes(*x), self.registers.lanes(ty));
                self.line(&format!("cvt.rn.f16x2.f32 {}, {}, {};", to[0], x[1], x[0]));
                to
            }
            Expression::Mma(half, a, b, c) => {
                let depth = 4 * self.kernel.type_of(*a).lanes;
                let [a, b, c] = [*a, *b, *c].map(|value| self.in_registers(value));
                let to = self.registers.lanes(ty);
                let (name, to_text) = (half.name(), joined(&to));
                self.line(&format!(
                    "mma.sync.aligned.m16n8k{depth}.row.col.f32.{name}.{name}.f32 {to_text}, {a}, \
                     {b}, {c};"
                ));
                to
            }
            Expression::Shuffle(x, bits) => {
                let bits = *bits;
                self.each(ty, &[*x], |_, to, x| {
                    // All 32 invocations take part, each as the last of its segment may be.
                    vec![format!(
                        "shfl.sync.bfly.b32 {to}, {}, {bits}, 31, -1;",
                        x[0]
                    )]
                })
            }
            Expression::LoadMatrix(load) => {
                let address = self.address(Memory::Shared(load.shared), load.row);
                let to = self.registers.lanes(ty);
                let (count, lanes) = (load.count, to.join(", "));
                let trans = if load.transposed { ".trans" } else { "" };
                self.line(&format!(
                    "ldmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16 {{{lanes}}}, \
                     [{address}];"
                ));
                to
            }
            Expression::Load(memory, index) => {
                let address = self.address(*memory, *index);
                let space = match memory {
                    Memory::Shared(_) => "shared",
                    Memory::Buffer(buffer) => match self.bindings[buffer.0 as usize] {
                        Binding::Read => "global.nc",
                        Binding::ReadWrite => "global",
                    },
                };
                let to = self.registers.lanes(ty);
                let line = format!("ld.{space}{} {}, [{address}];", vector(ty), joined(&to));
                self.line(&line);
                to
            }
        }
    }

    /// Lane by lane, the lines that `lines` returns for a register and the operands' lanes.
    fn each(
        &mut self,
        ty: Type,
        operands: &[Value],
        lines: impl Fn(&mut Registers, &str, &[String]) -> Vec<String>,
    ) -> Vec<String> {
        let to = self.registers.lanes(ty);
        for (lane, to) in to.iter().enumerate() {
            let operands = operands
                .iter()
                .map(|value| self.lanes(*value)[lane].clone());
            let operands: Vec<String> = operands.collect();
            for line in lines(&mut self.registers, to, &operands) {
                self.line(&line);
            }
        }
        to
    }

    /// A number stands where it is used; truth values have registers alone.
    fn constant(&mut self, constant: Constant) -> Vec<String> {
        let text = match constant {
            Constant::I32(number) => number.to_string(),
            Constant::U32(number) => number.to_string(),
            Constant::F32(number) => format!("0f{:08X}", number.to_bits()),
            Constant::Bool(truth) => {
                let (register, zero) = (
                    self.registers.fresh(Class::Pred),
                    self.registers.fresh(Class::B32),
                );
                self.line(&format!("mov.b32 {zero}, 0;"));
                let is = if truth { "eq" } else { "ne" };
                self.line(&format!("setp.{is}.s32 {register}, {zero}, 0;"));
                register
            }
        };
        vec![text]
    }

    /// The lane of a number that is not known: of two or four, one after the other is chosen.
    fn extract_at(&mut self, ty: Type, x: Value, lane: Value) -> Vec<String> {
        let (lanes, lane) = (self.lanes(x), self.operand(lane).to_owned());
        let mut found = lanes[0].clone();
        for (number, other) in lanes.iter().enumerate().skip(1) {
            let (is_it, next) = (
                self.registers.fresh(Class::Pred),
                self.registers.fresh(Class::of(ty.scalar)),
            );
            self.line(&format!("setp.eq.s32 {is_it}, {lane}, {number};"));
            let operands = [other.as_str(), found.as_str()];
            for line in select(&mut self.registers, ty.scalar, &next, &is_it, operands) {
                self.line(&line);
            }
            found = next;
        }
        vec![found]
    }
}

/// The lines that choose one of two.
fn select(
    registers: &mut Registers,
    scalar: Scalar,
    to: &str,
    condition: &str,
    [yes, no]: [&str; 2],
) -> Vec<String> {
    let class = Class::of(scalar);
    if class != Class::Pred {
        return vec![format!(
            "selp.{} {to}, {yes}, {no}, {condition};",
            class.moved()
        )];
    }
    let mut next = || registers.fresh(Class::Pred);
    let (first, not, second) = (next(), next(), next());
    vec![
        format!("and.pred {first}, {condition}, {yes};"),
        format!("not.pred {not}, {condition};"),
        format!("and.pred {second}, {not}, {no};"),
        format!("or.pred {to}, {first}, {second};"),
    ]
}

/// The vector and type of an access, such as `.v4.f32`.
fn vector(ty: Type) -> String {
    let element = Class::of(ty.scalar).moved();
    match ty.lanes {
        1 => format!(".{element}"),
        lanes => format!(".v{lanes}.{element}"),
    }
}

/// Lanes as one operand.
fn joined(lanes: &[String]) -> String {
    match lanes {
        [one] => one.clone(),
        lanes => format!("{{{}}}", lanes.join(", ")),
    }
}
