//! Building kernels: every value gets its type as it is made, numbers that are known are computed.
//!
//! Takes expressions and statements in the order in which they happen, gives a [`Kernel`]. An
//! ill-typed kernel cannot be built: that is a mistake of the caller's, and panics.

use std::collections::BTreeMap;

use crate::kernel::compute;
use crate::kernel::typing::{self, Misfit};
use crate::kernel::{
    Binary, Branch, Buffer, BufferId, Builtin, Carried, ChunkCopy, Constant, Expression, Half,
    Kernel, Loop, MatrixLoad, Memory, Scalar, Shared, SharedId, Statement, Type, Unary, Value,
};

/// A kernel that is being written.
#[derive(Debug)]
pub struct Builder {
    kernel: Kernel,
    /// The blocks that are open, the innermost last.
    blocks: Vec<Vec<Statement>>,
    /// Known numbers, by value.
    known: BTreeMap<Value, Constant>,
}

impl Builder {
    /// An empty kernel of so many invocations in a workgroup.
    pub fn new(name: &str, comment: Vec<String>, invocations: u32, grid: [u32; 3]) -> Builder {
        Builder {
            kernel: Kernel {
                name: name.to_owned(),
                comment,
                invocations,
                grid,
                buffers: Vec::new(),
                shared: Vec::new(),
                body: Vec::new(),
                types: Vec::new(),
            },
            blocks: vec![Vec::new()],
            known: BTreeMap::new(),
        }
    }

    /// The kernel.
    ///
    /// # Panics
    /// When a block is still open.
    pub fn finish(mut self) -> Kernel {
        self.kernel.body = self.blocks.pop().expect("the body is a block");
        assert!(self.blocks.is_empty(), "a block is still open");
        self.kernel
    }

    /// One more storage buffer.
    pub fn buffer(&mut self, name: &str, element: Type, elements: u32, written: bool) -> BufferId {
        self.kernel.buffers.push(Buffer {
            name: name.to_owned(),
            element,
            elements,
            written,
        });
        BufferId(self.kernel.buffers.len() as u32 - 1)
    }

    /// One more memory of the workgroup.
    pub fn shared(&mut self, name: &str, element: Type, elements: u32) -> SharedId {
        self.shared_memory(name, element, elements, None)
    }

    /// The bytes of a shared memory as elements of another type.
    ///
    /// # Panics
    /// When the memory is over another one itself.
    pub fn over(&mut self, owner: SharedId, name: &str, element: Type) -> SharedId {
        let bytes = self.kernel.shared[owner.0 as usize].bytes();
        assert_eq!(self.kernel.owner(owner), owner, "over a memory of its own");
        self.shared_memory(name, element, bytes / element.bytes(), Some(owner))
    }

    fn shared_memory(
        &mut self,
        name: &str,
        element: Type,
        elements: u32,
        over: Option<SharedId>,
    ) -> SharedId {
        self.kernel.shared.push(Shared {
            name: name.to_owned(),
            element,
            elements,
            over,
        });
        SharedId(self.kernel.shared.len() as u32 - 1)
    }

    /// How many storage buffers there are.
    pub fn buffers(&self) -> usize {
        self.kernel.buffers.len()
    }

    /// The type of a value.
    pub fn type_of(&self, value: Value) -> Type {
        self.kernel.type_of(value)
    }

    /// The number that a value is, if it is known.
    pub fn constant_of(&self, value: Value) -> Option<Constant> {
        self.known.get(&value).copied()
    }

    fn fresh(&mut self, ty: Type) -> Value {
        self.kernel.types.push(ty);
        Value(self.kernel.types.len() as u32 - 1)
    }

    fn push(&mut self, statement: Statement) {
        let block = self.blocks.last_mut().expect("a block is open");
        block.push(statement);
    }

    /// The value of an expression.
    ///
    /// # Panics
    /// When its operands have other types than it takes.
    fn define(&mut self, expression: Expression) -> Value {
        let ty = match typing::infer(&self.kernel, &expression) {
            Ok(ty) => ty,
            Err(Misfit { found, wanted }) => {
                panic!("{expression}: found {found}, wanted {wanted}")
            }
        };
        let value = self.fresh(ty);
        self.push(Statement::Let(value, expression));
        value
    }

    /// A number.
    pub fn constant(&mut self, constant: Constant) -> Value {
        let value = self.define(Expression::Constant(constant));
        self.known.insert(value, constant);
        value
    }

    /// An I32.
    pub fn i32(&mut self, number: i32) -> Value {
        self.constant(Constant::I32(number))
    }

    /// An F32.
    pub fn f32(&mut self, number: f32) -> Value {
        self.constant(Constant::F32(number))
    }

    /// Where the invocation is.
    pub fn builtin(&mut self, builtin: Builtin) -> Value {
        self.define(Expression::Builtin(builtin))
    }

    /// A function of one operand.
    pub fn unary(&mut self, function: Unary, x: Value) -> Value {
        self.define(Expression::Unary(function, x))
    }

    /// A function of two operands of one type.
    pub fn binary(&mut self, function: Binary, a: Value, b: Value) -> Value {
        assert_eq!(self.type_of(a), self.type_of(b), "{function:?}");
        let folded = self.folded(function, a, b);
        folded.unwrap_or_else(|| self.define(Expression::Binary(function, a, b)))
    }

    /// Index arithmetic on numbers that are known, and what leaves an operand as it is.
    fn folded(&mut self, function: Binary, a: Value, b: Value) -> Option<Value> {
        let known = |value: Value| self.constant_of(value).and_then(Constant::as_i32);
        let truth = |value: Value| self.constant_of(value).and_then(Constant::as_bool);
        if let (Binary::And, Some(truth), other) | (Binary::And, other, Some(truth)) =
            (function, truth(a), truth(b))
            && self.type_of(a).scalar == Scalar::Bool
        {
            return Some(match (truth, other, self.constant_of(a).is_some()) {
                (false, _, true) | (true, _, false) => a,
                (false, _, false) | (true, _, true) => b,
            });
        }
        if let (Some(left), Some(right)) = (known(a), known(b)) {
            let words = [left, right].map(i32::cast_unsigned);
            let word = compute::known(
                &Expression::Binary(function, a, b),
                |_| Scalar::I32,
                |value| Some(words[usize::from(value != a)]),
            );
            let scalar = if function.compares() {
                Scalar::Bool
            } else {
                Scalar::I32
            };
            let constant = compute::constant(scalar, word?)?;
            return Some(self.constant(constant));
        }
        match (function, known(a), known(b)) {
            (Binary::Add, Some(0), _) | (Binary::Mul, Some(1), _) => Some(b),
            (Binary::Add | Binary::Sub, _, Some(0)) | (Binary::Mul | Binary::Div, _, Some(1)) => {
                Some(a)
            }
            (Binary::Mul, Some(0), _) | (Binary::Mul, _, Some(0)) | (Binary::Rem, _, Some(1)) => {
                Some(self.i32(0))
            }
            (_, _, _) => None,
        }
    }

    /// `function` of what there was before and `x`; `x` alone where there was nothing.
    pub fn joined(&mut self, function: Binary, before: Option<Value>, x: Value) -> Value {
        match before {
            Some(before) => self.binary(function, before, x),
            None => x,
        }
    }

    /// `a + b`.
    pub fn add(&mut self, a: Value, b: Value) -> Value {
        self.binary(Binary::Add, a, b)
    }

    /// `a · b`.
    pub fn mul(&mut self, a: Value, b: Value) -> Value {
        self.binary(Binary::Mul, a, b)
    }

    /// `x + number` of an I32.
    pub fn plus(&mut self, x: Value, number: i32) -> Value {
        let number = self.i32(number);
        self.add(x, number)
    }

    /// `x · number` of an I32.
    pub fn times(&mut self, x: Value, number: i32) -> Value {
        let number = self.i32(number);
        self.mul(x, number)
    }

    /// `x / number` of an I32 that is not negative.
    pub fn div(&mut self, x: Value, number: i32) -> Value {
        let number = self.i32(number);
        self.binary(Binary::Div, x, number)
    }

    /// `x mod number` of an I32 that is not negative.
    pub fn rem(&mut self, x: Value, number: i32) -> Value {
        let number = self.i32(number);
        self.binary(Binary::Rem, x, number)
    }

    /// `x < number` of an I32.
    pub fn below(&mut self, x: Value, number: i32) -> Value {
        let number = self.i32(number);
        self.binary(Binary::Less, x, number)
    }

    /// Both truths.
    pub fn and(&mut self, a: Value, b: Value) -> Value {
        self.binary(Binary::And, a, b)
    }

    /// `a · b + c` of F32.
    pub fn fma(&mut self, a: Value, b: Value, c: Value) -> Value {
        self.define(Expression::Fma(a, b, c))
    }

    /// `yes` where the condition holds, else `no`.
    pub fn select(&mut self, condition: Value, yes: Value, no: Value) -> Value {
        if let Some(Constant::Bool(holds)) = self.constant_of(condition) {
            return if holds { yes } else { no };
        }
        self.define(Expression::Select(condition, yes, no))
    }

    /// The number in another type.
    pub fn convert(&mut self, scalar: Scalar, x: Value) -> Value {
        match self.type_of(x).scalar == scalar {
            true => x,
            false => self.define(Expression::Convert(scalar, x)),
        }
    }

    /// The same bits in another type of 32 bits.
    pub fn bits(&mut self, scalar: Scalar, x: Value) -> Value {
        self.define(Expression::Bits(scalar, x))
    }

    /// One number in so many lanes.
    pub fn splat(&mut self, x: Value, lanes: u8) -> Value {
        match lanes {
            1 => x,
            _ => self.define(Expression::Splat(x, lanes)),
        }
    }

    /// One lane.
    pub fn extract(&mut self, x: Value, lane: u8) -> Value {
        match (self.type_of(x).lanes, lane) {
            (1, 0) => x,
            (_, _) => self.define(Expression::Extract(x, lane)),
        }
    }

    /// The lane of a number that is not known.
    pub fn extract_at(&mut self, x: Value, lane: Value) -> Value {
        match (self.type_of(x).lanes, self.constant_of(lane)) {
            (1, _) => x,
            (_, Some(Constant::I32(lane))) => self.extract(x, lane as u8),
            (_, _) => self.define(Expression::ExtractAt(x, lane)),
        }
    }

    /// One value with a lane for each number.
    pub fn compose(&mut self, lanes: &[Value]) -> Value {
        match lanes {
            [x] => *x,
            _ => self.define(Expression::Compose(lanes.to_vec())),
        }
    }

    /// The two F16 in a U32 as F32.
    pub fn unpack(&mut self, x: Value) -> Value {
        self.define(Expression::Unpack(x))
    }

    /// Two lanes of F32 as F16 in a U32.
    pub fn pack(&mut self, x: Value) -> Value {
        self.define(Expression::Pack(x))
    }

    /// The products of a warp, see [`Expression::Mma`].
    pub fn mma(&mut self, half: Half, [a, b, c]: [Value; 3]) -> Value {
        self.define(Expression::Mma(half, a, b, c))
    }

    /// What the invocation of the same warp has whose number differs in these bits.
    pub fn shuffle(&mut self, x: Value, bits: u8) -> Value {
        self.define(Expression::Shuffle(x, bits))
    }

    /// An element of a memory.
    pub fn load(&mut self, memory: Memory, index: Value) -> Value {
        self.define(Expression::Load(memory, index))
    }

    /// An element becomes `value`.
    pub fn store(&mut self, memory: Memory, index: Value, value: Value) {
        assert_eq!(self.type_of(index), Type::one(Scalar::I32), "an index");
        assert_eq!(self.type_of(value), self.kernel.element(memory), "stored");
        self.push(Statement::Store {
            memory,
            index,
            value,
        });
    }

    /// Matrices that a warp loads, see [`Expression::LoadMatrix`].
    pub fn load_matrix(&mut self, load: MatrixLoad) -> Value {
        self.define(Expression::LoadMatrix(load))
    }

    /// 16 bytes are copied asynchronously, see [`Statement::Copy`].
    pub fn copy(&mut self, copy: ChunkCopy) {
        for index in [copy.place, copy.index] {
            assert_eq!(self.type_of(index), Type::one(Scalar::I32), "an index");
        }
        assert_eq!(self.type_of(copy.holds), Type::one(Scalar::Bool));
        self.push(Statement::Copy(copy));
    }

    /// The copies since the last one become a group.
    pub fn commit(&mut self) {
        self.push(Statement::Commit);
    }

    /// Waits for all groups of copies except the `latest` most recent.
    pub fn wait(&mut self, latest: u8) {
        self.push(Statement::Wait(latest));
    }

    /// All invocations meet.
    pub fn barrier(&mut self) {
        self.push(Statement::Barrier);
    }

    /// `then` where the condition holds, else `otherwise`: both give values of the same types.
    pub fn branch(
        &mut self,
        condition: Value,
        then: impl FnOnce(&mut Builder) -> Vec<Value>,
        otherwise: impl FnOnce(&mut Builder) -> Vec<Value>,
    ) -> Vec<Value> {
        assert_eq!(self.type_of(condition), Type::one(Scalar::Bool));
        if let Some(Constant::Bool(holds)) = self.constant_of(condition) {
            return match holds {
                true => then(self),
                false => otherwise(self),
            };
        }
        let (then, yes) = self.block(then);
        let (otherwise, no) = self.block(otherwise);
        assert_eq!(yes.len(), no.len(), "what branches give");
        let pairs = yes.into_iter().zip(no);
        let results: Vec<(Value, Value, Value)> = pairs
            .map(|(yes, no)| {
                assert_eq!(self.type_of(yes), self.type_of(no), "what branches give");
                (self.fresh(self.type_of(yes)), yes, no)
            })
            .collect();
        let values = results.iter().map(|&(value, ..)| value).collect();
        self.push(Statement::If(Branch {
            condition,
            then,
            otherwise,
            results,
        }));
        values
    }

    /// `then` where the condition holds.
    pub fn when(&mut self, condition: Value, then: impl FnOnce(&mut Builder)) {
        let then = |b: &mut Builder| {
            then(b);
            Vec::new()
        };
        self.branch(condition, then, |_| Vec::new());
    }

    /// Runs `then` where `condition` holds; everywhere, without one.
    pub fn guarded(&mut self, condition: Option<Value>, then: impl FnOnce(&mut Builder)) {
        match condition {
            Some(condition) => self.when(condition, then),
            None => then(self),
        }
    }

    /// The body for `start, start + step, …` below `end`: it gets the counter and the carried
    /// values, and gives what the next turn gets. What is left after the last turn is returned.
    pub fn repeat(
        &mut self,
        [start, end]: [Value; 2],
        step: i32,
        initial: &[Value],
        body: impl FnOnce(&mut Builder, Value, &[Value]) -> Vec<Value>,
    ) -> Vec<Value> {
        assert!(step > 0, "a step of {step}");
        let counter = self.fresh(Type::one(Scalar::I32));
        let types: Vec<Type> = initial.iter().map(|&value| self.type_of(value)).collect();
        let seen: Vec<Value> = types.iter().map(|&ty| self.fresh(ty)).collect();
        let (body, next) = self.block(|b| body(b, counter, &seen));
        assert_eq!(next.len(), initial.len(), "what a turn gives");
        let carried: Vec<Carried> = (0..initial.len())
            .map(|number| {
                assert_eq!(
                    self.type_of(next[number]),
                    types[number],
                    "what a turn gives"
                );
                Carried {
                    initial: initial[number],
                    value: seen[number],
                    next: next[number],
                    result: self.fresh(types[number]),
                }
            })
            .collect();
        let results = carried.iter().map(|carried| carried.result).collect();
        self.push(Statement::For(Loop {
            counter,
            start,
            end,
            step,
            carried,
            body,
        }));
        results
    }

    fn block<T>(&mut self, fill: impl FnOnce(&mut Builder) -> T) -> (Vec<Statement>, T) {
        self.blocks.push(Vec::new());
        let made = fill(self);
        (self.blocks.pop().expect("the block was opened"), made)
    }
}
