//! WGSL: a kernel as text.
//!
//! Takes a verified kernel and how each storage buffer is bound, gives its text. It decides
//! nothing: one statement is one line, and a value that is used once stands where it is used.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use compiler::kernel::{
    Binary, Branch, Builtin, Constant, Expression, Kernel, Loop, Memory, Scalar, Statement, Type,
    Unary, Value,
};

use crate::gpu::commands::{Binding, ENTRY_POINT};

/// Text of one value that still stands within another.
const INLINE_MAX: usize = 72;

/// The text of a kernel.
pub(crate) fn emit(kernel: &Kernel, bindings: &[Binding]) -> String {
    let mut printer = Printer {
        kernel,
        out: String::new(),
        uses: uses(kernel),
        names: BTreeMap::new(),
        depth: 1,
    };
    printer.header(bindings);
    printer.block(&kernel.body);
    printer.out.push_str("}\n");
    printer.out
}

struct Printer<'a> {
    kernel: &'a Kernel,
    out: String,
    /// How often each value is used in the block that defines it; `None` if elsewhere too.
    uses: Vec<Option<u32>>,
    /// What stands for a value.
    names: BTreeMap<Value, String>,
    depth: usize,
}

impl Printer<'_> {
    fn header(&mut self, bindings: &[Binding]) {
        let kernel = self.kernel;
        for line in &kernel.comment {
            let _ = writeln!(self.out, "// {line}");
        }
        let halves = kernel.buffers.iter();
        if halves.map(|b| b.element.scalar).any(|s| s == Scalar::F16) {
            self.out.push_str("enable f16;\n");
        }
        for (number, (buffer, binding)) in kernel.buffers.iter().zip(bindings).enumerate() {
            let access = match binding {
                Binding::Read => "read",
                Binding::ReadWrite => "read_write",
            };
            let ty = type_name(buffer.element);
            let _ = writeln!(
                self.out,
                "@group(0) @binding({number}) var<storage, {access}> {}: array<{ty}, {}>;",
                buffer.name, buffer.elements
            );
        }
        for shared in &kernel.shared {
            let ty = type_name(shared.element);
            let (name, elements) = (&shared.name, shared.elements);
            let _ = writeln!(self.out, "var<workgroup> {name}: array<{ty}, {elements}>;");
        }
        let _ = writeln!(
            self.out,
            "\n@compute @workgroup_size({})\nfn {ENTRY_POINT}(\n    \
             @builtin(local_invocation_index) local: u32,\n    \
             @builtin(workgroup_id) group: vec3<u32>,\n) {{",
            kernel.invocations
        );
    }

    fn line(&mut self, text: &str) {
        for _ in 0..self.depth {
            self.out.push_str("  ");
        }
        self.out.push_str(text);
        self.out.push('\n');
    }

    fn block(&mut self, statements: &[Statement]) {
        for statement in statements {
            self.statement(statement);
        }
    }

    fn nested(&mut self, statements: &[Statement]) {
        self.depth += 1;
        self.block(statements);
        self.depth -= 1;
    }

    fn name(&self, value: Value) -> String {
        match self.names.get(&value) {
            Some(name) => name.clone(),
            None => format!("v{}", value.0),
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
                let (memory, index) = (self.memory(*memory), self.name(*index));
                let line = format!("{memory}[{index}] = {};", self.name(*value));
                self.line(&line);
            }
            Statement::Barrier => self.line("workgroupBarrier();"),
            Statement::Copy(_) | Statement::Commit | Statement::Wait(_) => {
                unreachable!("K10: kernels for WebGPU have no asynchronous copies")
            }
            Statement::If(Branch {
                condition,
                then,
                otherwise,
                results,
            }) => {
                for (result, ..) in results {
                    let ty = type_name(self.kernel.type_of(*result));
                    self.line(&format!("var v{}: {ty};", result.0));
                }
                let line = format!("if {} {{", self.name(*condition));
                self.line(&line);
                self.nested(then);
                self.results(results.iter().map(|(result, yes, _)| (*result, *yes)));
                if !otherwise.is_empty() || !results.is_empty() {
                    self.line("} else {");
                    self.nested(otherwise);
                    self.results(results.iter().map(|(result, _, no)| (*result, *no)));
                }
                self.line("}");
            }
            Statement::For(Loop {
                counter,
                start,
                end,
                step,
                carried,
                body,
            }) => {
                for own in carried {
                    let ty = type_name(self.kernel.type_of(own.value));
                    let line = format!("var v{}: {ty} = {};", own.value.0, self.name(own.initial));
                    self.line(&line);
                }
                let (i, start, end) = (counter.0, self.name(*start), self.name(*end));
                let head =
                    format!("for (var v{i}: i32 = {start}; v{i} < {end}; v{i} += {step}) {{");
                self.line(&head);
                self.nested(body);
                self.depth += 1;
                // Values that change places go through others.
                let swapped = carried.iter().any(|own| {
                    carried
                        .iter()
                        .any(|other| own.next == other.value && own != other)
                });
                if swapped {
                    for own in carried {
                        let line = format!("let n{} = {};", own.value.0, self.name(own.next));
                        self.line(&line);
                    }
                }
                for own in carried {
                    let next = match swapped {
                        true => format!("n{}", own.value.0),
                        false => self.name(own.next),
                    };
                    self.line(&format!("v{} = {next};", own.value.0));
                }
                self.depth -= 1;
                self.line("}");
                for own in carried {
                    self.names.insert(own.result, format!("v{}", own.value.0));
                }
            }
        }
    }

    fn results(&mut self, results: impl Iterator<Item = (Value, Value)>) {
        self.depth += 1;
        for (result, value) in results {
            let line = format!("v{} = {};", result.0, self.name(value));
            self.line(&line);
        }
        self.depth -= 1;
    }

    fn define(&mut self, value: Value, expression: &Expression) {
        // WGSL has no literals of NaN and infinities, and refuses constant expressions of them:
        // their bits go through a variable.
        if let Expression::Constant(Constant::F32(number)) = expression
            && !number.is_finite()
        {
            let bits = format!("bits{}", value.0);
            self.line(&format!("var {bits}: u32 = 0x{:08x}u;", number.to_bits()));
            self.names.insert(value, format!("bitcast<f32>({bits})"));
            return;
        }
        let text = self.expression(expression);
        let is_constant = matches!(expression, Expression::Constant(_));
        // A load stays where it is: what is stored later must not be seen.
        let stays = matches!(expression, Expression::Load(..)) || text.len() > INLINE_MAX;
        if is_constant || !stays && self.uses[value.0 as usize] == Some(1) {
            self.names.insert(value, text);
        } else {
            self.line(&format!("let v{} = {text};", value.0));
        }
    }

    fn memory(&self, memory: Memory) -> String {
        match memory {
            Memory::Buffer(buffer) => self.kernel.buffers[buffer.0 as usize].name.clone(),
            Memory::Shared(shared) => self.kernel.shared[shared.0 as usize].name.clone(),
        }
    }

    fn expression(&self, expression: &Expression) -> String {
        let name = |value: &Value| self.name(*value);
        match expression {
            Expression::Constant(constant) => literal(*constant),
            Expression::Builtin(Builtin::Local) => "i32(local)".to_owned(),
            Expression::Builtin(Builtin::Group(axis)) => {
                format!("i32(group.{})", ["x", "y", "z"][usize::from(*axis)])
            }
            Expression::Unary(function, x) => unary(*function, &name(x)),
            Expression::Binary(function, a, b) => {
                binary(*function, &name(a), &name(b), self.kernel.type_of(*b))
            }
            Expression::Fma(a, b, c) => format!("({} * {} + {})", name(a), name(b), name(c)),
            Expression::Select(condition, yes, no) => {
                format!("select({}, {}, {})", name(no), name(yes), name(condition))
            }
            Expression::Convert(scalar, x) => {
                let ty = Type::lanes(*scalar, self.kernel.type_of(*x).lanes);
                format!("{}({})", type_name(ty), name(x))
            }
            Expression::Bits(scalar, x) => {
                let ty = Type::lanes(*scalar, self.kernel.type_of(*x).lanes);
                format!("bitcast<{}>({})", type_name(ty), name(x))
            }
            Expression::Splat(x, lanes) => {
                let ty = Type::lanes(self.kernel.type_of(*x).scalar, *lanes);
                format!("{}({})", type_name(ty), name(x))
            }
            Expression::Extract(x, lane) => {
                format!("{}.{}", name(x), ["x", "y", "z", "w"][usize::from(*lane)])
            }
            Expression::ExtractAt(x, lane) => format!("{}[{}]", name(x), name(lane)),
            Expression::Compose(lanes) => {
                let scalar = self.kernel.type_of(lanes[0]).scalar;
                let ty = type_name(Type::lanes(scalar, lanes.len() as u8));
                let lanes: Vec<String> = lanes.iter().map(name).collect();
                format!("{ty}({})", lanes.join(", "))
            }
            Expression::Unpack(x) => format!("unpack2x16float({})", name(x)),
            Expression::Pack(x) => format!("pack2x16float({})", name(x)),
            Expression::Mma(..) | Expression::Shuffle(..) | Expression::LoadMatrix(_) => {
                unreachable!("K9: kernels for WebGPU have no functions of warps")
            }
            Expression::Load(memory, index) => {
                format!("{}[{}]", self.memory(*memory), name(index))
            }
        }
    }
}

fn type_name(ty: Type) -> String {
    match ty.lanes {
        1 => ty.scalar.name().to_owned(),
        lanes => format!("vec{lanes}<{}>", ty.scalar.name()),
    }
}

fn literal(constant: Constant) -> String {
    match constant {
        Constant::Bool(truth) => truth.to_string(),
        Constant::I32(i32::MIN) => "i32(-2147483647 - 1)".to_owned(),
        Constant::I32(number) if number < 0 => format!("({number}i)"),
        Constant::I32(number) => format!("{number}i"),
        Constant::U32(number) => format!("{number}u"),
        Constant::F32(number) if number.is_sign_negative() => format!("(-{})", float(-number)),
        Constant::F32(number) => float(number),
    }
}

/// A number of 0 and above: in decimal form where every reader must find it so, else as an exact
/// hexadecimal float. The shortest decimal form of the largest f32 lies above it, which some
/// compilers refuse; others may round numbers below the normal ones.
fn float(number: f32) -> String {
    let decimal = format!("{number:?}");
    let read = decimal.parse().unwrap_or(f64::INFINITY);
    let is_plain = number == 0.0 || read >= f32::MIN_POSITIVE.into() && read <= f32::MAX.into();
    if is_plain && read as f32 == number {
        return decimal + "f";
    }
    // significand · 2^exponent
    let (significand, exponent) = match (number.to_bits() & 0x007F_FFFF, number.to_bits() >> 23) {
        (low, 0) => (low, -149),
        (low, exponent) => (1 << 23 | low, exponent.cast_signed() - 150),
    };
    format!("0x{significand:x}p{exponent:+}f")
}

fn unary(function: Unary, x: &str) -> String {
    match function {
        Unary::Neg => format!("(-{x})"),
        Unary::Not => format!("(!{x})"),
        Unary::Abs => format!("abs({x})"),
        Unary::Exp => format!("exp({x})"),
        Unary::Log => format!("log({x})"),
        Unary::Sqrt => format!("sqrt({x})"),
        Unary::InverseSqrt => format!("inverseSqrt({x})"),
        Unary::Sin => format!("sin({x})"),
        Unary::Cos => format!("cos({x})"),
        Unary::Floor => format!("floor({x})"),
        Unary::Ceil => format!("ceil({x})"),
        Unary::Round => format!("round({x})"),
        Unary::Trunc => format!("trunc({x})"),
    }
}

fn binary(function: Binary, a: &str, b: &str, ty: Type) -> String {
    let infix = |sign: &str| format!("({a} {sign} {b})");
    let shift = |sign: &str| match ty.scalar {
        Scalar::U32 => format!("({a} {sign} {b})"),
        Scalar::Bool | Scalar::I32 | Scalar::F16 | Scalar::F32 => {
            let unsigned = type_name(Type::lanes(Scalar::U32, ty.lanes));
            format!("({a} {sign} {unsigned}({b}))")
        }
    };
    match function {
        Binary::Add => infix("+"),
        Binary::Sub => infix("-"),
        Binary::Mul => infix("*"),
        Binary::Div => infix("/"),
        Binary::Rem => infix("%"),
        Binary::Min => format!("min({a}, {b})"),
        Binary::Max => format!("max({a}, {b})"),
        Binary::Pow => format!("pow({a}, {b})"),
        Binary::And => infix("&"),
        Binary::Or => infix("|"),
        Binary::Xor => infix("^"),
        Binary::ShiftLeft => shift("<<"),
        Binary::ShiftRight => shift(">>"),
        Binary::Less => infix("<"),
        Binary::LessEqual => infix("<="),
        Binary::Equal => infix("=="),
    }
}

/// How often each value is used, where that is in the block of its definition alone.
fn uses(kernel: &Kernel) -> Vec<Option<u32>> {
    let mut counter = Counter {
        uses: vec![Some(0); kernel.types.len()],
        block: vec![0; kernel.types.len()],
        blocks: 0,
    };
    counter.block(&kernel.body);
    counter.uses
}

struct Counter {
    uses: Vec<Option<u32>>,
    /// The block that defines each value.
    block: Vec<u32>,
    blocks: u32,
}

impl Counter {
    fn seen(&mut self, value: Value, block: u32) {
        let place = value.0 as usize;
        match self.block[place] == block {
            true => self.uses[place] = self.uses[place].map(|count| count + 1),
            false => self.uses[place] = None,
        }
    }

    fn block(&mut self, statements: &[Statement]) {
        self.blocks += 1;
        let block = self.blocks;
        for statement in statements {
            if let Statement::Let(value, _) = statement {
                self.block[value.0 as usize] = block;
            }
            statement.each_use(|value| self.seen(value, block));
            statement.blocks().for_each(|inner| self.block(inner));
            let mut elsewhere = |value: Value| self.uses[value.0 as usize] = None;
            match statement {
                Statement::Let(..)
                | Statement::Store { .. }
                | Statement::Barrier
                | Statement::Copy(_)
                | Statement::Commit
                | Statement::Wait(_) => {}
                // They end other blocks, behind what is assigned there.
                Statement::If(branch) => {
                    for (_, yes, no) in &branch.results {
                        [*yes, *no].into_iter().for_each(&mut elsewhere);
                    }
                }
                // The end is looked at in each iteration.
                Statement::For(repeat) => {
                    elsewhere(repeat.end);
                    repeat.carried.iter().for_each(|own| elsewhere(own.next));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_f32_are_read_as_they_are() {
        let bits = [
            0,
            1,
            2,
            0x007F_FFFF,
            0x0080_0000,
            0x0080_0001,
            0x3F80_0000,
            0x7F7F_FFFF,
        ];
        let spread = (0x0080_0000..0x7F80_0000).step_by(1_048_573);
        let numbers = bits.into_iter().chain(spread).map(f32::from_bits);
        for number in numbers.flat_map(|number| [number, -number]) {
            let text = literal(Constant::F32(number));
            let module = naga::front::wgsl::parse_str(&format!("const x: f32 = {text};"));
            let module = module.unwrap_or_else(|error| panic!("{text}: {error}"));
            let (_, constant) = module.constants.iter().next().expect("a constant");
            let found = &module.global_expressions[constant.init];
            let wanted = naga::Expression::Literal(naga::Literal::F32(number));
            assert_eq!(*found, wanted, "{text} for {number:?}");
            let decimal = text.trim_matches(['(', ')', 'f', '-']).parse::<f64>();
            let largest = f64::from(f32::MAX);
            assert!(
                decimal.is_ok_and(|x| x <= largest) || text.contains("0x"),
                "{text}"
            );
        }
        assert_eq!(literal(Constant::F32(f32::MIN)), "(-0xffffffp+104f)");
        assert_eq!(literal(Constant::F32(0.25)), "0.25f");
    }

    #[test]
    fn numbers_that_are_not_finite_go_through_their_bits() {
        let kernel = compiler::kernel::parse(
            "kernel k invocations 64 grid 1 1 1 {
  buffer $0 x: f32[64] written
  %0: i32 = local
  %1: f32 = inf
  %2: f32 = -inf
  %3: f32 = 0x7fc00000
  %4: f32 = load $0[%0]
  %5: f32 = max %4, %2
  %6: f32 = min %5, %1
  %7: f32 = add %6, %3
  store $0[%0] = %7
}
",
        );
        let text = emit(&kernel.expect("a kernel"), &[Binding::ReadWrite]);
        let read = crate::webgpu::text::read(&text, false);
        assert!(read.is_ok(), "{read:?}: {text}");
        for bits in ["0x7f800000u", "0xff800000u", "0x7fc00000u"] {
            assert!(text.contains(bits), "{bits}: {text}");
        }
    }
}
