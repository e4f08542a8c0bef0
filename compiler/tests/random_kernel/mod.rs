//! Random kernels that have no fault: indices are clamped, invocations store to elements of their
//! own, and barriers stand where all come.

use compiler::kernel::{
    Binary, BufferContents, Builder, Builtin, Constant, Kernel, Memory, Scalar, Type, Unary, Value,
};

/// What is built next: which kind, and which of the values that there are.
pub(crate) type Instruction = [u8; 4];

/// Invocations of a workgroup, and of both.
const SIZE: i32 = 8;
const BOTH: i32 = 16;

/// Elements of the buffers that are only read.
const READ: i32 = 32;

/// Elements that each invocation stores to, of each written buffer.
const OWN: i32 = 4;

/// Loops in loops.
const DEPTH_MAX: usize = 3;

struct Scope {
    ints: Vec<Value>,
    floats: Vec<Value>,
    truths: Vec<Value>,
}

struct State {
    numbers: Memory,
    integers: Memory,
    floats: Memory,
    counts: Memory,
    shared: Memory,
    /// The place of the invocation among all.
    place: Value,
    local: Value,
}

/// The kernel of these instructions.
pub(crate) fn build(instructions: &[Instruction]) -> Kernel {
    let mut b = Builder::new("random", vec![], SIZE as u32, [2, 1, 1]);
    let (f32, i32) = (Type::one(Scalar::F32), Type::one(Scalar::I32));
    let own = (BOTH * OWN) as u32;
    let numbers = Memory::Buffer(b.buffer("numbers", f32, READ as u32, false));
    let integers = Memory::Buffer(b.buffer("integers", i32, READ as u32, false));
    let floats = Memory::Buffer(b.buffer("floats", f32, own, true));
    let counts = Memory::Buffer(b.buffer("counts", i32, own, true));
    let shared = Memory::Shared(b.shared("exchange", f32, SIZE as u32));
    let local = b.builtin(Builtin::Local);
    let group = b.builtin(Builtin::Group(0));
    let first = b.times(group, SIZE);
    let place = b.add(first, local);
    let state = State {
        numbers,
        integers,
        floats,
        counts,
        shared,
        place,
        local,
    };
    let (zero, half) = (b.i32(0), b.f32(0.5));
    let truth = b.below(local, 3);
    let mut scope = Scope {
        ints: vec![local, group, place, zero],
        floats: vec![half],
        truths: vec![truth],
    };
    state.fill(&mut b, &mut scope, instructions, 0, true);
    for number in 0..OWN {
        let (float, int) = (scope.float(number as u8 * 3), scope.int(number as u8 * 5));
        let index = state.own(&mut b, number);
        b.store(floats, index, float);
        b.store(counts, index, int);
    }
    b.finish()
}

/// What the kernel is given.
pub(crate) fn contents() -> Vec<BufferContents> {
    let numbers: Vec<f32> = (0..READ).map(|at| (at % 7) as f32 * 0.75 - 2.0).collect();
    let integers = (0..READ).map(|at| (at * 13 % 29 - 9).cast_unsigned());
    let own = vec![2.5; (BOTH * OWN) as usize];
    vec![
        BufferContents::from_f32(&numbers),
        BufferContents::from_words(integers.collect()),
        BufferContents::from_f32(&own),
        BufferContents::from_words(vec![3; own.len()]),
    ]
}

fn one_of(values: &[Value], choice: u8) -> Value {
    // The newest first: so chains become long.
    values[values.len() - 1 - usize::from(choice) % values.len()]
}

impl Scope {
    fn int(&self, choice: u8) -> Value {
        one_of(&self.ints, choice)
    }

    fn float(&self, choice: u8) -> Value {
        one_of(&self.floats, choice)
    }

    fn truth(&self, choice: u8) -> Value {
        one_of(&self.truths, choice)
    }

    fn inner(&self) -> Scope {
        Scope {
            ints: self.ints.clone(),
            floats: self.floats.clone(),
            truths: self.truths.clone(),
        }
    }
}

fn clamp(b: &mut Builder, x: Value, max: i32) -> Value {
    let (low, high) = (b.i32(0), b.i32(max));
    let x = b.binary(Binary::Max, x, low);
    b.binary(Binary::Min, x, high)
}

impl State {
    fn own(&self, b: &mut Builder, number: i32) -> Value {
        b.plus(self.place, number % OWN * BOTH)
    }

    fn fill(
        &self,
        b: &mut Builder,
        scope: &mut Scope,
        instructions: &[Instruction],
        depth: usize,
        together: bool,
    ) {
        let mut rest = instructions;
        while let Some((&[kind, x, y, z], tail)) = rest.split_first() {
            rest = tail;
            match kind % 16 {
                0..=2 => self.integer(b, scope, [x, y, z]),
                3 => self.quotient(b, scope, [x, y, z]),
                4..=6 => self.float(b, scope, [x, y, z]),
                7 => self.vector(b, scope, [x, y, z]),
                8 => {
                    let truth = match x % 4 {
                        0 => {
                            let (low, high) = (scope.float(y), scope.float(z));
                            b.binary(Binary::LessEqual, low, high)
                        }
                        1 => {
                            let (low, high) = (scope.truth(y), scope.truth(z));
                            b.binary(Binary::Or, low, high)
                        }
                        2 => {
                            let (low, high) = (scope.int(y), scope.int(z));
                            b.binary(Binary::Less, low, high)
                        }
                        _ => {
                            let int = scope.int(y);
                            b.below(int, z.into())
                        }
                    };
                    scope.truths.push(truth);
                }
                9 => {
                    let (truth, yes, no) = (scope.truth(x), scope.int(y), scope.int(z));
                    scope.ints.push(b.select(truth, yes, no));
                    let (yes, no) = (scope.float(y), scope.float(z));
                    scope.floats.push(b.select(truth, yes, no));
                }
                10 | 11 => self.load(b, scope, [x, y]),
                12 => {
                    let index = self.own(b, x.into());
                    let (float, int) = (scope.float(y), scope.int(z));
                    b.store(self.floats, index, float);
                    b.store(self.counts, index, int);
                }
                13 if together => {
                    let value = scope.float(x);
                    b.store(self.shared, self.local, value);
                    b.barrier();
                    let other = b.plus(self.local, y.into());
                    let other = b.rem(other, SIZE);
                    scope.floats.push(b.load(self.shared, other));
                    b.barrier();
                }
                14 if depth < DEPTH_MAX => {
                    let inner = &rest[..rest.len().min(usize::from(z % 8) + 1)];
                    rest = &rest[inner.len()..];
                    self.branch(b, scope, [x, y], inner, depth);
                }
                15 if depth < DEPTH_MAX => {
                    let inner = &rest[..rest.len().min(usize::from(z % 8) + 2)];
                    rest = &rest[inner.len()..];
                    self.repeat(b, scope, [x, y, z], inner, (depth, together));
                }
                _ => scope.floats.push(b.f32(f32::from(x) / 8.0 - 9.0)),
            }
        }
    }

    fn integer(&self, b: &mut Builder, scope: &mut Scope, [x, y, z]: [u8; 3]) {
        const FUNCTIONS: [Binary; 9] = [
            Binary::Add,
            Binary::Mul,
            Binary::Add,
            Binary::Sub,
            Binary::Min,
            Binary::Max,
            Binary::And,
            Binary::Or,
            Binary::Xor,
        ];
        let left = scope.int(y);
        let right = match z % 3 {
            0 => scope.int(z / 3),
            1 => b.i32(1 << (z / 3 % 8)),
            _ => b.i32(i32::from(z / 3) - 20),
        };
        let function = FUNCTIONS[usize::from(x) % FUNCTIONS.len()];
        let (left, right) = match x % 2 {
            0 => (left, right),
            _ => (right, left),
        };
        scope.ints.push(b.binary(function, left, right));
    }

    fn quotient(&self, b: &mut Builder, scope: &mut Scope, [x, y, z]: [u8; 3]) {
        let dividend = scope.int(y);
        let made = match x % 4 {
            0 => b.div(dividend, i32::from(z % 20) + 1),
            1 => b.rem(dividend, 1 << (z % 6)),
            2 => b.div(dividend, 1 << (z % 6)),
            _ => {
                let by = b.i32(i32::from(z % 31));
                b.binary(Binary::ShiftRight, dividend, by)
            }
        };
        scope.ints.push(made);
    }

    fn float(&self, b: &mut Builder, scope: &mut Scope, [x, y, z]: [u8; 3]) {
        const FUNCTIONS: [Binary; 5] = [
            Binary::Add,
            Binary::Sub,
            Binary::Mul,
            Binary::Min,
            Binary::Max,
        ];
        let (left, right) = (scope.float(y), scope.float(z));
        let made = match x % 8 {
            choice @ 0..5 => b.binary(FUNCTIONS[usize::from(choice)], left, right),
            5 => b.fma(left, right, left),
            6 => {
                let int = scope.int(y);
                b.convert(Scalar::F32, int)
            }
            _ => b.unary(Unary::Neg, left),
        };
        scope.floats.push(made);
    }

    fn vector(&self, b: &mut Builder, scope: &mut Scope, [x, y, z]: [u8; 3]) {
        let lanes = [x, y, z, x].map(|choice| scope.float(choice));
        let vector = b.compose(&lanes);
        let doubled = b.binary(Binary::Add, vector, vector);
        let int = scope.int(y);
        let lane = clamp(b, int, 3);
        let at = b.extract_at(doubled, lane);
        scope.floats.push(at);
        scope.floats.push(b.extract(doubled, z % 4));
        let word = b.bits(Scalar::U32, at);
        let three = b.constant(Constant::U32(3));
        let word = b.binary(Binary::And, word, three);
        scope.ints.push(b.convert(Scalar::I32, word));
    }

    fn load(&self, b: &mut Builder, scope: &mut Scope, [x, y]: [u8; 2]) {
        let int = scope.int(y);
        match x % 4 {
            0 => {
                let index = self.own(b, y.into());
                scope.floats.push(b.load(self.floats, index));
                scope.ints.push(b.load(self.counts, index));
            }
            1 => {
                let index = clamp(b, int, READ - 1);
                scope.ints.push(b.load(self.integers, index));
            }
            _ => {
                let index = clamp(b, int, READ - 1);
                scope.floats.push(b.load(self.numbers, index));
            }
        }
    }

    fn branch(
        &self,
        b: &mut Builder,
        scope: &mut Scope,
        [x, y]: [u8; 2],
        instructions: &[Instruction],
        depth: usize,
    ) {
        let (then, otherwise) = instructions.split_at(usize::from(y) % (instructions.len() + 1));
        let condition = scope.truth(x);
        let block = |instructions| {
            let mut inner = scope.inner();
            move |b: &mut Builder| {
                self.fill(b, &mut inner, instructions, depth + 1, false);
                vec![inner.int(0), inner.float(0)]
            }
        };
        let made = b.branch(condition, block(then), block(otherwise));
        scope.ints.push(made[0]);
        scope.floats.push(made[1]);
    }

    fn repeat(
        &self,
        b: &mut Builder,
        scope: &mut Scope,
        [x, y, z]: [u8; 3],
        instructions: &[Instruction],
        (depth, together): (usize, bool),
    ) {
        let known = x % 3 > 0;
        let start = b.i32(i32::from(y % 3));
        let end = match known {
            true => b.i32(i32::from(y % 5)),
            false => {
                let int = scope.int(y);
                clamp(b, int, 4)
            }
        };
        let initial = [scope.int(z), scope.float(z)];
        let step = i32::from(x / 3 % 2) + 1;
        let made = b.repeat([start, end], step, &initial, |b, counter, seen| {
            let mut inner = scope.inner();
            inner.ints.extend([seen[0], counter]);
            inner.floats.push(seen[1]);
            self.fill(b, &mut inner, instructions, depth + 1, together && known);
            vec![inner.int(0), inner.float(0)]
        });
        scope.ints.push(made[0]);
        scope.floats.push(made[1]);
    }
}
