//! What a kernel is: types, values, expressions, statements.
//!
//! Data only: no function here decides anything, and nothing here knows how kernels are made,
//! checked or executed.

use crate::kernel::names::{Binary, Half, Scalar, Unary};

/// The type of a value: one number, or two or four side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Type {
    /// The type of each lane.
    pub scalar: Scalar,
    /// 1, 2 or 4.
    pub lanes: u8,
}

/// A value; prints as `%7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value(pub u32);

/// A number that is known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Constant {
    /// A truth value.
    Bool(bool),
    /// Of [`Scalar::I32`].
    I32(i32),
    /// Of [`Scalar::U32`].
    U32(u32),
    /// Of [`Scalar::F32`].
    F32(f32),
}

/// Where an invocation is; all are [`Scalar::I32`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Builtin {
    /// The invocation in its workgroup.
    Local,
    /// The workgroup in the grid, along one of its three axes.
    Group(u8),
}

/// A storage buffer of one kernel; prints as `$2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufferId(pub u32);

/// A shared memory of one kernel; prints as `@2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SharedId(pub u32);

/// A memory that a kernel reads or stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Memory {
    /// A storage buffer: an argument of the kernel.
    Buffer(BufferId),
    /// Memory of the workgroup.
    Shared(SharedId),
}

/// How one value comes from others.
#[derive(Debug, Clone, PartialEq)]
pub enum Expression {
    /// A number.
    Constant(Constant),
    /// Where the invocation is.
    Builtin(Builtin),
    /// See [`Unary`].
    Unary(Unary, Value),
    /// See [`Binary`].
    Binary(Binary, Value, Value),
    /// `a · b + c` of F32, rounded once or twice.
    Fma(Value, Value, Value),
    /// The second where the first, a Bool of one lane, holds; else the third.
    Select(Value, Value, Value),
    /// The number in another type, lane by lane: to integers towards 0, to Bool whether it is not
    /// 0.
    Convert(Scalar, Value),
    /// The same bits in another type of 32 bits.
    Bits(Scalar, Value),
    /// One number in each of N lanes.
    Splat(Value, u8),
    /// One lane.
    Extract(Value, u8),
    /// The lane of that number, an I32.
    ExtractAt(Value, Value),
    /// Lanes from numbers of one type: two or four.
    Compose(Vec<Value>),
    /// The two F16 in a U32, the lower half first, as two lanes of F32.
    Unpack(Value),
    /// Two lanes of F32 as F16 in a U32, rounded to the nearest, ties to even.
    Pack(Value),
    /// `A · B + C` of the 32 invocations of a warp: 16 rows, 8 columns, a depth of 16 or 8. An
    /// invocation holds of A four words (U32x4), of B two (U32x2), each of two numbers that are
    /// neighbours along the depth, and of C and of the result four F32. With `g` a quarter of its
    /// number in the warp and `t` the rest: A holds rows `g, g + 8, g, g + 8` at depths `2t, 2t,
    /// 2t + 8, 2t + 8`; B column `g` at depths `2t, 2t + 8`; C row `g` at columns `2t, 2t + 1`,
    /// then row `g + 8` at the same ones. For a depth of 8, A and B have the first half of their
    /// words (U32x2 and U32).
    ///
    /// # Source
    /// PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type", and the same for
    /// `mma.m16n8k8`.
    Mma(Half, Value, Value, Value),
    /// The value of the invocation of the same warp whose number differs in these bits, below 32.
    Shuffle(Value, u8),
    /// One, two or four matrices of 8 rows of eight numbers of 16 bits, a word of each (U32, U32x2,
    /// U32x4) for every invocation of a warp. A row is one element of 16 bytes of the memory: the
    /// rows of matrix `m` are where invocations `8m` to `8m + 7` of the warp say. An invocation gets
    /// of row `g` the numbers `2t` and `2t + 1`, with `g` and `t` as for [`Expression::Mma`];
    /// where the matrix is transposed, number `g` of rows `2t` and `2t + 1`.
    ///
    /// # Source
    /// PTX ISA, "Warp-level matrix load instruction: ldmatrix".
    LoadMatrix(MatrixLoad),
    /// An element of a memory.
    Load(Memory, Value),
}

/// Invocations of a warp.
pub const WARP: u32 = 32;

/// Bytes of an asynchronous copy, and of a row of a matrix that a warp loads.
pub const CHUNK_BYTES: u32 = 16;

/// What a warp loads of matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MatrixLoad {
    /// How many: 1, 2 or 4.
    pub count: u8,
    /// Whether an invocation gets two rows of one column, not two columns of one row.
    pub transposed: bool,
    /// The memory; its elements have 16 bytes.
    pub shared: SharedId,
    /// The element that is a row, an I32.
    pub row: Value,
}

/// 16 bytes that go from a storage buffer to shared memory while the invocation goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkCopy {
    /// The memory that gets them; its elements have 16 bytes.
    pub shared: SharedId,
    /// Which element, an I32.
    pub place: Value,
    /// The buffer that has them.
    pub buffer: BufferId,
    /// The first of its elements, an I32: 16 bytes of them begin at a multiple of 16 bytes.
    pub index: Value,
    /// A Bool: where it does not hold nothing is read, and all bytes are 0.
    pub holds: Value,
}

/// One value that changes from one iteration of a loop to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carried {
    /// What it is in the first iteration.
    pub initial: Value,
    /// What the body sees.
    pub value: Value,
    /// What the next iteration sees.
    pub next: Value,
    /// What is left after the last iteration.
    pub result: Value,
}

/// What an invocation does.
#[derive(Debug, Clone, PartialEq)]
pub enum Statement {
    /// A value.
    Let(Value, Expression),
    /// An element becomes a value.
    Store {
        /// Of which memory.
        memory: Memory,
        /// Which element, an I32.
        index: Value,
        /// What it becomes.
        value: Value,
    },
    /// All invocations of the workgroup have come here, and see what the others stored in shared
    /// memory.
    Barrier,
    /// 16 bytes are copied asynchronously: until the invocation has waited for them nobody may load
    /// or store them, and others not before a barrier after that.
    Copy(ChunkCopy),
    /// The copies of the invocation since the last one become a group.
    Commit,
    /// All groups of copies of the invocation have arrived, except this many most recent ones.
    Wait(u8),
    /// One of two blocks.
    If(Branch),
    /// One block again and again.
    For(Loop),
}

/// One of two blocks is executed.
#[derive(Debug, Clone, PartialEq)]
pub struct Branch {
    /// A Bool.
    pub condition: Value,
    /// What is done where it holds.
    pub then: Vec<Statement>,
    /// What is done where it does not.
    pub otherwise: Vec<Statement>,
    /// Values with what they are after each of the two blocks.
    pub results: Vec<(Value, Value, Value)>,
}

/// The body for `counter = start, start + step, …` below `end`.
#[derive(Debug, Clone, PartialEq)]
pub struct Loop {
    /// An I32 that the body sees.
    pub counter: Value,
    /// The first.
    pub start: Value,
    /// The counter stays below it.
    pub end: Value,
    /// Above 0.
    pub step: i32,
    /// What changes from one iteration to the next.
    pub carried: Vec<Carried>,
    /// What is done.
    pub body: Vec<Statement>,
}

/// A storage buffer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Buffer {
    /// What it is: a word that may stand in a program text.
    pub name: String,
    /// What an index counts.
    pub element: Type,
    /// Elements in it.
    pub elements: u32,
    /// Whether the kernel stores to it.
    pub written: bool,
}

/// Memory of one workgroup.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Shared {
    /// What it is: a word that may stand in a program text.
    pub name: String,
    /// What an index counts.
    pub element: Type,
    /// Elements in it.
    pub elements: u32,
    /// The earlier memory whose first bytes these are, in another type; `None` where it has bytes
    /// of its own.
    pub over: Option<SharedId>,
}

/// A kernel.
#[derive(Debug, Clone, PartialEq)]
pub struct Kernel {
    /// The name: a word that may stand in a program text.
    pub name: String,
    /// What it computes, for readers: lines without control characters.
    pub comment: Vec<String>,
    /// Invocations of a workgroup, numbered along one axis.
    pub invocations: u32,
    /// Workgroups along three axes.
    pub grid: [u32; 3],
    /// The storage buffers, in the order of the arguments.
    pub buffers: Vec<Buffer>,
    /// Memory of each workgroup; its content is undefined at first.
    pub shared: Vec<Shared>,
    /// What each invocation does.
    pub body: Vec<Statement>,
    /// The types of all values.
    pub types: Vec<Type>,
}

impl Type {
    /// The type of that word: `f32`, `f32x4`.
    pub(super) fn from_name(name: &str) -> Option<Type> {
        let (scalar, lanes) = match name.strip_suffix("x2") {
            Some(scalar) => (scalar, 2),
            None => name
                .strip_suffix("x4")
                .map_or((name, 1), |scalar| (scalar, 4)),
        };
        let scalar = Scalar::from_name(scalar)?;
        Some(Type::lanes(scalar, lanes))
    }
}

impl Builtin {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Builtin::Local => "local",
            Builtin::Group(_) => "group",
        }
    }
}

impl Type {
    /// One lane.
    pub const fn one(scalar: Scalar) -> Type {
        Type { scalar, lanes: 1 }
    }

    /// So many lanes.
    pub const fn lanes(scalar: Scalar, lanes: u8) -> Type {
        Type { scalar, lanes }
    }

    /// Bytes in memory.
    pub fn bytes(self) -> u32 {
        let lane = match self.scalar {
            Scalar::F16 => 2,
            Scalar::Bool | Scalar::I32 | Scalar::U32 | Scalar::F32 => 4,
        };
        lane * u32::from(self.lanes)
    }
}

impl Shared {
    /// Bytes in it.
    pub fn bytes(&self) -> u32 {
        self.element.bytes().saturating_mul(self.elements)
    }
}

impl Constant {
    /// The number, of [`Scalar::I32`].
    pub(super) fn as_i32(self) -> Option<i32> {
        match self {
            Constant::I32(number) => Some(number),
            Constant::Bool(_) | Constant::U32(_) | Constant::F32(_) => None,
        }
    }

    /// The truth value.
    pub(super) fn as_bool(self) -> Option<bool> {
        match self {
            Constant::Bool(truth) => Some(truth),
            Constant::I32(_) | Constant::U32(_) | Constant::F32(_) => None,
        }
    }

    /// Its type.
    pub fn scalar(self) -> Scalar {
        match self {
            Constant::Bool(_) => Scalar::Bool,
            Constant::I32(_) => Scalar::I32,
            Constant::U32(_) => Scalar::U32,
            Constant::F32(_) => Scalar::F32,
        }
    }
}

impl Expression {
    /// Whether whole warps compute it together.
    pub(super) fn is_of_warps(&self) -> bool {
        use Expression::{LoadMatrix, Mma, Shuffle};
        matches!(self, Mma(..) | Shuffle(..) | LoadMatrix(_))
    }
}

impl Binary {
    /// Whether it returns a Bool.
    pub fn compares(self) -> bool {
        matches!(self, Binary::Less | Binary::LessEqual | Binary::Equal)
    }

    /// Whether the operands may change places.
    pub(super) fn commutes(self) -> bool {
        let minimum = matches!(self, Binary::Min | Binary::Max);
        let bits = matches!(self, Binary::And | Binary::Or | Binary::Xor);
        minimum || bits || matches!(self, Binary::Add | Binary::Mul | Binary::Equal)
    }

    /// Whether it has a value for this word of the right operand, or for every word where that is
    /// not known: integers are not divided by 0, and bits move by less than 32.
    pub(super) fn has_value(self, scalar: Scalar, right: Option<u32>) -> bool {
        let divides = matches!(self, Binary::Div | Binary::Rem) && scalar != Scalar::F32;
        let shifts = matches!(self, Binary::ShiftLeft | Binary::ShiftRight);
        match right {
            Some(right) => !(divides && right == 0 || shifts && right >= 32),
            None => !divides && !shifts,
        }
    }
}

impl Kernel {
    /// The type of a value.
    ///
    /// # Panics
    /// When it is of another kernel.
    pub fn type_of(&self, value: Value) -> Type {
        self.types[value.0 as usize]
    }

    /// What an index of a memory counts.
    ///
    /// # Panics
    /// When the memory is of another kernel.
    pub fn element(&self, memory: Memory) -> Type {
        match memory {
            Memory::Buffer(buffer) => self.buffers[buffer.0 as usize].element,
            Memory::Shared(shared) => self.shared[shared.0 as usize].element,
        }
    }

    /// Whether elements of a memory may change while the kernel is executed.
    ///
    /// # Panics
    /// When the memory is of another kernel.
    pub(super) fn changes(&self, memory: Memory) -> bool {
        match memory {
            Memory::Buffer(buffer) => self.buffers[buffer.0 as usize].written,
            Memory::Shared(_) => true,
        }
    }

    /// Whether an expression has a value whatever its operands are, but for those whose words are
    /// `known`.
    pub(super) fn is_total(
        &self,
        expression: &Expression,
        known: impl Fn(Value) -> Option<u32>,
    ) -> bool {
        match expression {
            Expression::Binary(function, _, b) => {
                function.has_value(self.type_of(*b).scalar, known(*b))
            }
            other => {
                use Expression::{ExtractAt, Load, LoadMatrix};
                !matches!(other, ExtractAt(..) | Load(..) | LoadMatrix(_))
            }
        }
    }

    /// Bytes of shared memory of one workgroup.
    pub fn shared_bytes(&self) -> u32 {
        let own = self.shared.iter().filter(|shared| shared.over.is_none());
        own.map(Shared::bytes).fold(0, u32::saturating_add)
    }

    /// The memory that has the bytes of a shared memory: itself, or the one that it is over.
    ///
    /// # Panics
    /// When the memory is of another kernel.
    pub fn owner(&self, shared: SharedId) -> SharedId {
        self.shared[shared.0 as usize].over.unwrap_or(shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_name_one_type() {
        for scalar in ["bool", "i32", "u32", "f16", "f32"] {
            for lanes in ["", "x2", "x4"] {
                let word = format!("{scalar}{lanes}");
                let ty = Type::from_name(&word).expect("a type");
                assert_eq!(ty.to_string(), word);
            }
        }
        for word in ["f64", "f32x3", "f32x1", "x4", "", "f32x2x2"] {
            assert_eq!(Type::from_name(word), None, "{word}");
        }
    }
}
