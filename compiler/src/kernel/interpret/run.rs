//! Statements of the interpreter.
//!
//! Takes a kernel that keeps the rules and its memories, executes the workgroups in order. A value
//! is one word for each lane and invocation, lane by lane; expressions are computed for all
//! invocations, also those that a condition keeps away: nobody sees their values.

use crate::kernel::compute;
use crate::kernel::interpret::copies::Copies;
use crate::kernel::interpret::fault::{Fault, FaultKind};
use crate::kernel::interpret::memory::{Bank, BufferContents, View, Wrong};
use crate::kernel::interpret::traffic::Counter;
use crate::kernel::{
    Builtin, Carried, Expression, Kernel, Loop, Memory, SharedId, Statement, Value,
};

/// What is wrong, and which invocation did it.
pub(super) type Done = Result<(), (u32, Wrong)>;

/// A kernel that is executed.
pub(super) struct Machine<'a> {
    pub(super) kernel: &'a Kernel,
    groups: Option<&'a [[u32; 3]]>,
    pub(super) buffers: Vec<Bank>,
    /// By number; empty for a memory over another one, whose bank has the words.
    pub(super) shared: Vec<Bank>,
    pub(super) copies: Copies,
    /// What accesses need, if that is wanted.
    pub(super) counter: Option<Counter>,
    /// Loops around the statement at hand.
    pub(super) loops: u32,
    /// By value; empty until it is defined.
    pub(super) words: Vec<Vec<u32>>,
    /// The workgroup, as it is counted in the order of execution.
    pub(super) turn: u32,
}

impl<'a> Machine<'a> {
    pub(super) fn new(
        kernel: &'a Kernel,
        buffers: Vec<Bank>,
        groups: Option<&'a [[u32; 3]]>,
        counter: Option<Counter>,
    ) -> Machine<'a> {
        let shared = kernel.shared.iter().zip(0..).map(|(data, number)| {
            let own = SharedId(number);
            let lanes = match data.over {
                Some(_) => 0,
                None => usize::from(data.element.lanes) * data.elements as usize,
            };
            let views = kernel.shared.iter().filter(|view| view.over == Some(own));
            let unit = views.map(|view| view.element.lanes).min();
            let unit = unit.map_or(data.element.lanes, |lanes| lanes.min(data.element.lanes));
            Bank::new(unit, true, BufferContents::undefined(lanes))
        });
        Machine {
            kernel,
            groups,
            buffers,
            shared: shared.collect(),
            copies: Copies::default(),
            counter,
            loops: 0,
            words: vec![Vec::new(); kernel.types.len()],
            turn: 0,
        }
    }

    /// The buffers, with what was stored, and what was counted.
    pub(super) fn into_parts(self) -> (Vec<Bank>, Option<Counter>) {
        (self.buffers, self.counter)
    }

    /// Executes all workgroups.
    pub(super) fn run(&mut self) -> Result<(), Fault> {
        let [x, y, z] = self.kernel.grid;
        let turns = match self.groups {
            Some(groups) => groups.len() as u32,
            None => x * y * z,
        };
        let all: Vec<u32> = (0..self.kernel.invocations).collect();
        for turn in 0..turns {
            self.turn = turn;
            self.shared.iter_mut().for_each(Bank::clear);
            self.copies.clear();
            self.block(&self.kernel.body, &all)?;
        }
        Ok(())
    }

    /// The workgroup that comes in that turn.
    fn group(&self, turn: u32) -> [u32; 3] {
        let [x, y, _] = self.kernel.grid;
        match self.groups {
            Some(groups) => groups[turn as usize],
            None => [turn % x, turn / x % y, turn / x / y],
        }
    }

    fn block(&mut self, block: &'a [Statement], active: &[u32]) -> Result<(), Fault> {
        for statement in block {
            match statement {
                Statement::Let(value, expression) => {
                    self.count_expression(statement, expression, active);
                    let done = self.define(*value, expression, active);
                    self.faulted(statement, done)?;
                }
                Statement::Store {
                    memory,
                    index,
                    value,
                } => {
                    self.count(statement, *memory, *index, active);
                    let done = self.store(*memory, [*index, *value], active);
                    self.faulted(statement, done)?;
                }
                Statement::Copy(copy) => {
                    self.count_copy(statement, copy, active);
                    let done = self.copy_chunks(copy, active);
                    self.faulted(statement, done)?;
                }
                Statement::Commit => active.iter().for_each(|&who| self.copies.commit(who)),
                Statement::Wait(latest) => {
                    let done = self.wait(*latest, active);
                    self.faulted(statement, done)?;
                }
                Statement::Barrier => {
                    let done = self.barrier(active);
                    self.faulted(statement, done)?;
                }
                Statement::If(branch) => {
                    let words = &self.words[branch.condition.0 as usize];
                    let holds = |&at: &u32| words[at as usize] != 0;
                    let (yes, no): (Vec<u32>, Vec<u32>) = active.iter().partition(|at| holds(at));
                    for (block, active) in [(&branch.then, &yes), (&branch.otherwise, &no)] {
                        if !active.is_empty() {
                            self.block(block, active)?;
                        }
                    }
                    for (value, from_then, from_otherwise) in &branch.results {
                        self.copy(*from_then, *value, &yes);
                        self.copy(*from_otherwise, *value, &no);
                    }
                }
                Statement::For(repeat) => self.repeat(repeat, active)?,
            }
        }
        Ok(())
    }

    fn faulted(&self, statement: &Statement, done: Done) -> Result<(), Fault> {
        let Err((invocation, wrong)) = done else {
            return Ok(());
        };
        let kind = match wrong {
            Wrong::Plain(kind) => kind,
            Wrong::Race(conflict) => {
                let memory = match statement {
                    Statement::Let(_, Expression::Load(memory, _))
                    | Statement::Store { memory, .. } => *memory,
                    Statement::Let(_, Expression::LoadMatrix(load)) => Memory::Shared(load.shared),
                    Statement::Copy(copy) => Memory::Shared(copy.shared),
                    _ => unreachable!("only accesses race"),
                };
                let (group, other) = match (memory, conflict.other()) {
                    (Memory::Shared(_), other) => (self.group(self.turn), other),
                    (Memory::Buffer(_), Some(other)) => {
                        let size = self.kernel.invocations;
                        (self.group(other / size), Some(other % size))
                    }
                    (Memory::Buffer(_), None) => (self.group(self.turn), None),
                };
                FaultKind::Race {
                    memory: self.view(memory).name.to_owned(),
                    element: conflict.element,
                    access: conflict.access,
                    group,
                    invocation: other,
                    other: conflict.other,
                }
            }
        };
        Err(Fault::Invocation {
            kernel: self.kernel.name.clone(),
            statement: self.kernel.line(statement),
            group: self.group(self.turn),
            invocation,
            kind,
        })
    }

    /// How the elements of a memory are counted.
    pub(super) fn view(&self, memory: Memory) -> View<'a> {
        match memory {
            Memory::Buffer(id) => {
                let data = &self.kernel.buffers[id.0 as usize];
                View {
                    name: &data.name,
                    element: data.element,
                    elements: data.elements,
                }
            }
            Memory::Shared(id) => {
                let data = &self.kernel.shared[id.0 as usize];
                View {
                    name: &data.name,
                    element: data.element,
                    elements: data.elements,
                }
            }
        }
    }

    pub(super) fn size(&self) -> usize {
        self.kernel.invocations as usize
    }

    /// The words of a value that is about to be defined.
    pub(super) fn fresh(&mut self, value: Value) -> Vec<u32> {
        let lanes = usize::from(self.kernel.type_of(value).lanes);
        let mut words = std::mem::take(&mut self.words[value.0 as usize]);
        words.resize(lanes * self.size(), 0);
        words
    }

    /// One value becomes what another one is, for these invocations.
    fn copy(&mut self, from: Value, to: Value, active: &[u32]) {
        if from == to || active.is_empty() {
            return;
        }
        let mut words = self.fresh(to);
        let (size, source) = (self.size(), &self.words[from.0 as usize]);
        match active.len() == size {
            true => words.copy_from_slice(source),
            false => {
                for lane in (0..words.len()).step_by(size) {
                    for at in active.iter().map(|&at| lane + at as usize) {
                        words[at] = source[at];
                    }
                }
            }
        }
        self.words[to.0 as usize] = words;
    }

    fn expect_all(&self, active: &[u32]) -> Done {
        let invocations = self.kernel.invocations;
        let arrived = active.len() as u32;
        if arrived != invocations {
            let kind = FaultKind::Barrier {
                arrived,
                invocations,
            };
            return Err((active[0], Wrong::Plain(kind)));
        }
        Ok(())
    }

    fn barrier(&mut self, active: &[u32]) -> Done {
        self.expect_all(active)?;
        self.shared.iter_mut().for_each(Bank::order);
        Ok(())
    }

    fn repeat(&mut self, repeat: &'a Loop, active: &[u32]) -> Result<(), Fault> {
        let Loop {
            counter,
            start,
            end,
            step,
            carried,
            body,
        } = repeat;
        let numbers = |value: Value, words: &[Vec<u32>]| -> Vec<i64> {
            let words = &words[value.0 as usize];
            words.iter().map(|word| word.cast_signed().into()).collect()
        };
        let (mut at, end) = (numbers(*start, &self.words), numbers(*end, &self.words));
        for each in carried {
            self.copy(each.initial, each.value, active);
        }
        let is_carried = |value: Value| carried.iter().any(|each| each.value == value);
        let crossed = carried.iter().any(|each| is_carried(each.next));
        let mut left = active.to_vec();
        loop {
            left.retain(|&who| at[who as usize] < end[who as usize]);
            if left.is_empty() {
                break;
            }
            let mut words = self.fresh(*counter);
            for (word, at) in words.iter_mut().zip(&at) {
                *word = *at as u32;
            }
            self.words[counter.0 as usize] = words;
            self.loops += 1;
            self.block(body, &left)?;
            self.loops -= 1;
            if crossed {
                let next = |each: &Carried| self.words[each.next.0 as usize].clone();
                let nexts: Vec<Vec<u32>> = carried.iter().map(next).collect();
                for (each, next) in carried.iter().zip(nexts) {
                    // The result is not yet defined: it holds the next value for a moment.
                    self.words[each.result.0 as usize] = next;
                    self.copy(each.result, each.value, &left);
                }
            } else {
                for each in carried {
                    self.copy(each.next, each.value, &left);
                }
            }
            for &who in &left {
                at[who as usize] += i64::from(*step);
            }
        }
        for each in carried {
            self.copy(each.value, each.result, active);
        }
        Ok(())
    }

    fn define(&mut self, value: Value, expression: &Expression, active: &[u32]) -> Done {
        self.check(expression, active)?;
        // K9 lets none of them stand where some invocations are missing.
        if expression.is_of_warps() {
            self.expect_all(active)?;
        }
        if let Expression::Load(memory, index) = expression {
            return self.load(value, *memory, *index, active);
        }
        if let Expression::LoadMatrix(load) = expression {
            return self.load_matrix(value, load);
        }
        let mut to = self.fresh(value);
        let size = self.size();
        let of = |value: &Value| self.words[value.0 as usize].as_slice();
        let scalar = |value: &Value| self.kernel.type_of(*value).scalar;
        match expression {
            Expression::Constant(constant) => to.fill(compute::word(*constant)),
            Expression::Builtin(Builtin::Local) => {
                for (number, to) in to.iter_mut().enumerate() {
                    *to = number as u32;
                }
            }
            Expression::Builtin(Builtin::Group(axis)) => {
                to.fill(self.group(self.turn)[usize::from(*axis)]);
            }
            Expression::Unary(function, x) => {
                compute::unary(&mut to, *function, scalar(x), of(x));
            }
            Expression::Binary(function, a, b) => {
                compute::binary(&mut to, *function, scalar(a), [a, b].map(of));
            }
            Expression::Fma(a, b, c) => compute::fma(&mut to, [a, b, c].map(of)),
            Expression::Select(condition, yes, no) => {
                compute::select(&mut to, [condition, yes, no].map(of));
            }
            Expression::Convert(into, x) => compute::convert(&mut to, *into, scalar(x), of(x)),
            Expression::Bits(_, x) => to.copy_from_slice(of(x)),
            Expression::Splat(x, _) => {
                to.chunks_exact_mut(size)
                    .for_each(|lane| lane.copy_from_slice(of(x)));
            }
            Expression::Extract(x, lane) => {
                let first = usize::from(*lane) * size;
                to.copy_from_slice(&of(x)[first..first + size]);
            }
            Expression::ExtractAt(x, lane) => {
                let lanes = usize::from(self.kernel.type_of(*x).lanes);
                for (at, (to, lane)) in to.iter_mut().zip(of(lane)).enumerate() {
                    *to = of(x)[(*lane as usize % lanes) * size + at];
                }
            }
            Expression::Compose(lanes) => {
                for (to, lane) in to.chunks_exact_mut(size).zip(lanes) {
                    to.copy_from_slice(of(lane));
                }
            }
            Expression::Unpack(x) => compute::unpack(&mut to, of(x)),
            Expression::Pack(x) => compute::pack(&mut to, of(x)),
            Expression::Mma(half, a, b, c) => compute::mma(&mut to, *half, [a, b, c].map(of)),
            Expression::Shuffle(x, bits) => compute::shuffle(&mut to, of(x), *bits, size),
            Expression::Load(..) | Expression::LoadMatrix(_) => {
                unreachable!("loads were done above")
            }
        }
        self.words[value.0 as usize] = to;
        Ok(())
    }

    /// Refuses what has no value.
    fn check(&self, expression: &Expression, active: &[u32]) -> Done {
        let find = |value: &Value, wrong: &dyn Fn(u32) -> Option<FaultKind>| {
            let words = &self.words[value.0 as usize];
            let lanes = words.chunks_exact(self.size());
            let mut all =
                lanes.flat_map(|lane| active.iter().map(|&who| (who, lane[who as usize])));
            match all.find_map(|(who, word)| Some((who, wrong(word)?))) {
                Some((who, kind)) => Err((who, Wrong::Plain(kind))),
                None => Ok(()),
            }
        };
        if let Expression::Binary(function, _, b) = expression {
            let scalar = self.kernel.type_of(*b).scalar;
            if function.has_value(scalar, None) {
                return Ok(());
            }
            return find(b, &|by| match function.has_value(scalar, Some(by)) {
                true => None,
                false if by == 0 => Some(FaultKind::DivisionByZero),
                false => Some(FaultKind::Shift { by }),
            });
        }
        let Expression::ExtractAt(x, lane) = expression else {
            return Ok(());
        };
        let lanes = self.kernel.type_of(*x).lanes;
        find(lane, &|word| {
            let lane = word.cast_signed();
            (word >= lanes.into()).then_some(FaultKind::Lane { lane, lanes })
        })
    }
}
