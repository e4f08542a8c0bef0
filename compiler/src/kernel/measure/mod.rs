//! How good a kernel is, in numbers, without running it.
//!
//! Takes a kernel that keeps the rules, gives how often each thing happens in a whole launch, and
//! how much of a multiprocessor is filled. Loops turn as often as for the first invocation of the
//! first workgroup, once where that is not known; every branch is taken, by as many invocations as
//! its condition on their number lets pass, where it is one. No cache is modelled:
//! bytes are those that invocations ask for. It runs nothing and decides nothing.

mod live;

use crate::kernel::{
    Binary, Builtin, CHUNK_BYTES, Expression, Kernel, Memory, Scalar, Statement, Unary, Value,
    compute,
};

/// What one multiprocessor holds at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Multiprocessor {
    /// Registers of 32 bits.
    pub registers: u32,
    /// Registers of one invocation at most; what needs more goes through memory.
    pub registers_max: u32,
    /// Invocations at most.
    pub invocations_max: u32,
    /// Workgroups at most.
    pub groups_max: u32,
    /// Bytes of shared memory.
    pub shared_bytes: u32,
}

impl Multiprocessor {
    /// A multiprocessor of compute capability 8.0 with 64 KiB of shared memory of its 164: table
    /// "Technical Specifications per Compute Capability" of the
    /// [CUDA C++ Programming Guide](https://docs.nvidia.com/cuda/cuda-c-programming-guide/). Other
    /// GPUs of today are alike enough to compare kernels.
    pub const MODEL: Multiprocessor = Multiprocessor {
        registers: 65_536,
        registers_max: 255,
        invocations_max: 2048,
        groups_max: 32,
        shared_bytes: 64 << 10,
    };
}

/// What a launch does; sums stop at the largest number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quality {
    /// Workgroups.
    pub groups: u64,
    /// Invocations of all workgroups.
    pub invocations: u64,
    /// Operations on lanes of f32; a multiply-add is two.
    pub flops: u64,
    /// Those of them that are products of matrices by whole warps.
    pub matrix_flops: u64,
    /// Operations on lanes of integers and truth values: addresses and conditions.
    pub integer_operations: u64,
    /// Bytes that are loaded from storage buffers.
    pub global_load_bytes: u64,
    /// Bytes that are stored to storage buffers.
    pub global_store_bytes: u64,
    /// Bytes that are loaded from and stored to shared memory.
    pub shared_moved_bytes: u64,
    /// Barriers that one invocation comes to.
    pub barriers: u64,
    /// Bytes of shared memory of one workgroup.
    pub shared_bytes: u32,
    /// Registers of 32 bits of one invocation: the most lanes that live at the same time. Numbers
    /// that are known take none.
    pub registers: u32,
    /// Invocations that are at the same time on a multiprocessor, of those that it can hold.
    pub occupancy: f64,
}

/// Measures a kernel, on a multiprocessor that it fills as far as it can.
pub fn measure(kernel: &Kernel, processor: &Multiprocessor) -> Quality {
    let mut state = State {
        kernel,
        words: vec![None; kernel.types.len()],
        passing: vec![None; kernel.types.len()],
        is_local: vec![false; kernel.types.len()],
        all: Counts::default(),
    };
    state.block(&kernel.body, u64::from(kernel.invocations));
    let groups = kernel.grid.iter().map(|&count| u64::from(count));
    let groups = groups.fold(1, u64::saturating_mul);
    let invocations = groups.saturating_mul(kernel.invocations.into());
    let all = |group: u64| group.saturating_mul(groups);
    let registers = live::registers(kernel);
    let Counts {
        flops,
        matrix_flops,
        integer_operations,
        load_bytes,
        store_bytes,
        shared_bytes,
        barriers,
    } = state.all;
    Quality {
        groups,
        invocations,
        flops: all(flops),
        matrix_flops: all(matrix_flops),
        integer_operations: all(integer_operations),
        global_load_bytes: all(load_bytes),
        global_store_bytes: all(store_bytes),
        shared_moved_bytes: all(shared_bytes),
        barriers: barriers / u64::from(kernel.invocations.max(1)),
        shared_bytes: kernel.shared_bytes(),
        registers,
        occupancy: occupancy(kernel, registers, processor),
    }
}

/// The part of the invocations that fit, whichever resource ends first.
fn occupancy(kernel: &Kernel, registers: u32, processor: &Multiprocessor) -> f64 {
    let registers = registers.clamp(1, processor.registers_max);
    let size = kernel.invocations.max(1);
    let fits = [
        processor.registers / registers.saturating_mul(size),
        processor.invocations_max / size,
        processor.groups_max,
        processor.shared_bytes / kernel.shared_bytes().max(1),
    ];
    let groups = fits.into_iter().fold(u32::MAX, u32::min);
    f64::from(groups * size) / f64::from(processor.invocations_max)
}

/// What the invocations of one workgroup do.
#[derive(Debug, Default)]
struct Counts {
    flops: u64,
    matrix_flops: u64,
    integer_operations: u64,
    load_bytes: u64,
    store_bytes: u64,
    shared_bytes: u64,
    barriers: u64,
}

struct State<'a> {
    kernel: &'a Kernel,
    /// By value of one lane: the word that it is for the first invocation, if that is known.
    words: Vec<Option<u32>>,
    /// By truth: of how many invocations it holds, where it bounds their number.
    passing: Vec<Option<u64>>,
    /// By value: whether it is the number of the invocation.
    is_local: Vec<bool>,
    all: Counts,
}

fn add(count: &mut u64, times: u64, each: impl Into<u64>) {
    *count = count.saturating_add(times.saturating_mul(each.into()));
}

impl State<'_> {
    fn word(&self, value: Value) -> Option<u32> {
        self.words[value.0 as usize]
    }

    fn block(&mut self, block: &[Statement], times: u64) {
        for statement in block {
            self.statement(statement, times);
        }
    }

    fn statement(&mut self, statement: &Statement, times: u64) {
        match statement {
            Statement::Let(value, expression) => self.define(*value, expression, times),
            Statement::Store { memory, .. } => {
                let bytes = self.kernel.element(*memory).bytes();
                match memory {
                    Memory::Buffer(_) => add(&mut self.all.store_bytes, times, bytes),
                    Memory::Shared(_) => add(&mut self.all.shared_bytes, times, bytes),
                }
            }
            Statement::Copy(_) => {
                add(&mut self.all.load_bytes, times, CHUNK_BYTES);
                add(&mut self.all.shared_bytes, times, CHUNK_BYTES);
            }
            Statement::Commit | Statement::Wait(_) => {}
            Statement::Barrier => add(&mut self.all.barriers, times, 1u32),
            Statement::If(branch) => {
                let size = u64::from(self.kernel.invocations.max(1));
                let passing = self.passing[branch.condition.0 as usize].unwrap_or(size);
                let times_passing = times.saturating_mul(passing.min(size)) / size;
                self.block(&branch.then, times_passing);
                for (value, yes, _) in &branch.results {
                    self.words[value.0 as usize] = self.word(*yes);
                }
            }
            Statement::For(repeat) => {
                let integer = |value| self.word(value).map(|word| i64::from(word.cast_signed()));
                let iterations = match (integer(repeat.start), integer(repeat.end)) {
                    (Some(start), Some(end)) => {
                        let way = u64::try_from(end - start).unwrap_or(0);
                        way.div_ceil(u64::from(repeat.step.unsigned_abs()).max(1))
                    }
                    (_, _) => 1,
                };
                self.words[repeat.counter.0 as usize] = self.word(repeat.start);
                self.block(&repeat.body, times.saturating_mul(iterations));
                // What is left after all iterations is not followed.
                for each in &repeat.carried {
                    self.words[each.result.0 as usize] = None;
                }
            }
        }
    }

    fn define(&mut self, value: Value, expression: &Expression, times: u64) {
        let ty = self.kernel.type_of(value);
        let operations = match expression {
            Expression::Constant(_)
            | Expression::Builtin(_)
            | Expression::Bits(..)
            | Expression::Splat(..)
            | Expression::Extract(..)
            | Expression::Compose(_)
            | Expression::Unary(Unary::Neg | Unary::Abs, _) => 0,
            Expression::Fma(..) => 2,
            // 16 · 8 multiply-adds of 32 invocations for each depth, by four lanes of the result.
            Expression::Mma(_, a, ..) => 8 * u64::from(self.kernel.type_of(*a).lanes),
            Expression::Shuffle(..) => 1,
            Expression::Unary(..)
            | Expression::Binary(..)
            | Expression::Select(..)
            | Expression::Convert(..)
            | Expression::ExtractAt(..)
            | Expression::Unpack(_)
            | Expression::Pack(_) => 1,
            Expression::LoadMatrix(_) => {
                add(&mut self.all.shared_bytes, times, ty.bytes());
                0
            }
            Expression::Load(memory, _) => {
                let bytes = ty.bytes();
                match memory {
                    Memory::Buffer(_) => add(&mut self.all.load_bytes, times, bytes),
                    Memory::Shared(_) => add(&mut self.all.shared_bytes, times, bytes),
                }
                0
            }
        };
        let operations = operations * u64::from(ty.lanes);
        if matches!(expression, Expression::Mma(..)) {
            add(&mut self.all.matrix_flops, times, operations);
        }
        match self.is_arithmetic(value, expression) {
            true => add(&mut self.all.flops, times, operations),
            false => add(&mut self.all.integer_operations, times, operations),
        }
        if let Expression::Binary(Binary::Less, a, b) = expression
            && self.is_local[a.0 as usize]
        {
            self.passing[value.0 as usize] = self.word(*b).map(u64::from);
        }
        self.is_local[value.0 as usize] = *expression == Expression::Builtin(Builtin::Local);
        let scalar = |value: Value| self.kernel.type_of(value).scalar;
        let known = compute::known(expression, scalar, |operand| self.word(operand));
        let first = matches!(expression, Expression::Builtin(_)).then_some(0);
        self.words[value.0 as usize] = first.or(known).filter(|_| ty.lanes == 1);
    }

    /// Whether it is a sum, a product or a function of f32.
    fn is_arithmetic(&self, value: Value, expression: &Expression) -> bool {
        let is_function = matches!(
            expression,
            Expression::Unary(..)
                | Expression::Binary(..)
                | Expression::Fma(..)
                | Expression::Mma(..)
        );
        is_function && self.kernel.type_of(value).scalar == Scalar::F32
    }
}

#[cfg(test)]
mod tests;
