//! Computes what is known, and takes the cheaper of two ways.
//!
//! Takes a kernel; goes through it once, with the number or the range of every integer at hand, and
//! with what branches know of them. Branches whose condition is known and loops that surely turn
//! once or never dissolve, those that may do either are branches. No f32 is rounded in another way;
//! NaN is left to the machine, since its bits differ between machines.

use crate::kernel::{
    Binary, Branch, Builtin, Carried, Constant, Expression, Kernel, Loop, Scalar, Statement, Type,
    Unary, Value, compute,
};

mod range;
mod rules;

use range::Range;

/// The pass.
pub(super) fn fold(mut kernel: Kernel) -> Kernel {
    let body = std::mem::take(&mut kernel.body);
    let count = kernel.types.len();
    let mut state = State {
        types: std::mem::take(&mut kernel.types),
        instead: (0..count as u32).map(Value).collect(),
        made: vec![None; count],
        ranges: vec![Range::ALL; count],
        assumed: vec![None; count],
        invocations: kernel.invocations,
        grid: kernel.grid,
    };
    let mut out = Vec::with_capacity(body.len());
    state.block(body, &mut out);
    kernel.body = out;
    kernel.types = state.types;
    kernel
}

struct State {
    types: Vec<Type>,
    /// By value: the one that stands for it.
    instead: Vec<Value>,
    /// By value: its expression.
    made: Vec<Option<Expression>>,
    /// By value: where it lies, of I32 of one lane.
    ranges: Vec<Range>,
    /// By value: the truth that holds in the branch at hand.
    assumed: Vec<Option<bool>>,
    invocations: u32,
    grid: [u32; 3],
}

/// Conditions within conditions that are looked through.
const DEPTH_MAX: usize = 16;

/// What holds in a branch, and held before for that value.
struct Before {
    value: Value,
    range: Range,
    assumed: Option<bool>,
}

/// What an expression becomes.
enum Change {
    /// Another value.
    To(Value),
    /// A number.
    Known(Constant),
    /// Another expression.
    Is(Expression),
    /// A function of a value and a known I32.
    With(Binary, Value, i32),
    /// The first, and the second shifted down.
    Apart(Value, Value, i32),
}

impl State {
    fn of(&self, value: Value) -> Value {
        self.instead[value.0 as usize]
    }

    fn ty(&self, value: Value) -> Type {
        self.types[value.0 as usize]
    }

    fn range(&self, value: Value) -> Range {
        self.ranges[value.0 as usize]
    }

    fn made(&self, value: Value) -> Option<&Expression> {
        self.made[value.0 as usize].as_ref()
    }

    fn known(&self, value: Value) -> Option<Constant> {
        match self.made(value) {
            Some(Expression::Constant(constant)) => Some(*constant),
            Some(_) | None => None,
        }
    }

    fn integer(&self, value: Value) -> Option<i32> {
        self.known(value).and_then(Constant::as_i32)
    }

    fn truth(&self, value: Value) -> Option<bool> {
        self.known(value).and_then(Constant::as_bool)
    }

    fn emit(&mut self, value: Value, expression: Expression, out: &mut Vec<Statement>) {
        let number = value.0 as usize;
        self.ranges[number] = match self.ty(value) == Type::one(Scalar::I32) {
            true => self.range_of(&expression),
            false => Range::ALL,
        };
        self.made[number] = Some(expression.clone());
        out.push(Statement::Let(value, expression));
    }

    fn fresh(&mut self, ty: Type) -> Value {
        let value = Value(self.types.len() as u32);
        self.types.push(ty);
        self.instead.push(value);
        self.made.push(None);
        self.ranges.push(Range::ALL);
        self.assumed.push(None);
        value
    }

    fn constant(&mut self, constant: Constant, out: &mut Vec<Statement>) -> Value {
        let value = self.fresh(Type::one(constant.scalar()));
        self.emit(value, Expression::Constant(constant), out);
        value
    }

    /// A new value, as simple as it gets.
    fn simple(&mut self, ty: Type, expression: &Expression, out: &mut Vec<Statement>) -> Value {
        let value = self.fresh(ty);
        self.define(value, expression, out);
        self.of(value)
    }

    fn block(&mut self, block: Vec<Statement>, out: &mut Vec<Statement>) {
        for statement in block {
            self.statement(statement, out);
        }
    }

    fn statement(&mut self, statement: Statement, out: &mut Vec<Statement>) {
        match statement {
            Statement::Let(value, expression) => self.define(value, &expression, out),
            Statement::Store { .. }
            | Statement::Barrier
            | Statement::Copy(_)
            | Statement::Commit
            | Statement::Wait(_) => {
                out.push(statement.with_uses(|value| self.of(value)));
            }
            Statement::If(branch) => self.branch(branch, out),
            Statement::For(repeat) => self.repeat(repeat, out),
        }
    }

    fn define(&mut self, value: Value, expression: &Expression, out: &mut Vec<Statement>) {
        let ty = self.ty(value);
        let mut expression = expression.with_operands(|operand| self.of(operand));
        // Each change makes it simpler, or brings its number to the right: a few are all.
        for _ in 0..8 {
            match self.change(&expression, ty) {
                None => break,
                Some(Change::To(other)) => {
                    self.instead[value.0 as usize] = other;
                    return;
                }
                Some(Change::Known(constant)) => {
                    expression = Expression::Constant(constant);
                    break;
                }
                Some(Change::Is(other)) => expression = other,
                Some(Change::With(function, x, number)) => {
                    let number = self.constant(Constant::I32(number), out);
                    expression = Expression::Binary(function, x, number);
                }
                Some(Change::Apart(x, rest, number)) => {
                    let number = self.constant(Constant::I32(number), out);
                    let shifted = Expression::Binary(Binary::ShiftRight, rest, number);
                    let shifted = self.simple(ty, &shifted, out);
                    expression = Expression::Binary(Binary::Add, x, shifted);
                }
            }
        }
        self.emit(value, expression, out);
    }

    fn branch(&mut self, branch: Branch, out: &mut Vec<Statement>) {
        let Branch {
            condition,
            then,
            otherwise,
            results,
        } = branch;
        let condition = self.of(condition);
        if let Some(holds) = self.holds(condition, DEPTH_MAX) {
            self.block(if holds { then } else { otherwise }, out);
            for (value, yes, no) in results {
                self.instead[value.0 as usize] = self.of(if holds { yes } else { no });
            }
            return;
        }
        let mut blocks = [Vec::new(), Vec::new()];
        for ((block, out), holds) in [then, otherwise]
            .into_iter()
            .zip(&mut blocks)
            .zip([true, false])
        {
            let mut before = Vec::new();
            self.assume(condition, holds, DEPTH_MAX, &mut before);
            self.block(block, out);
            for each in before.into_iter().rev() {
                self.ranges[each.value.0 as usize] = each.range;
                self.assumed[each.value.0 as usize] = each.assumed;
            }
        }
        let [then, otherwise] = blocks;
        let mut rest = Vec::with_capacity(results.len());
        for (value, yes, no) in results {
            let (yes, no) = (self.of(yes), self.of(no));
            if yes == no {
                self.instead[value.0 as usize] = yes;
                continue;
            }
            self.ranges[value.0 as usize] = self.range(yes).or(self.range(no));
            rest.push((value, yes, no));
        }
        out.push(Statement::If(Branch {
            condition,
            then,
            otherwise,
            results: rest,
        }));
    }

    /// Whether a condition holds here, if that is known.
    fn holds(&self, condition: Value, depth: usize) -> Option<bool> {
        let known = self.truth(condition);
        let known = known.or(self.assumed[condition.0 as usize]);
        if known.is_some() || depth == 0 {
            return known;
        }
        let made = self.made(condition)?;
        if let Expression::Unary(Unary::Not, x) = made {
            return self.holds(*x, depth - 1).map(|holds| !holds);
        }
        let Expression::Binary(function, a, b) = made else {
            return None;
        };
        if self.ty(*a) == Type::one(Scalar::I32) {
            return Range::compare(*function, self.range(*a), self.range(*b));
        }
        if !matches!(function, Binary::And | Binary::Or) {
            return None;
        }
        // One that decides is enough.
        let decides = *function == Binary::Or;
        match (self.holds(*a, depth - 1), self.holds(*b, depth - 1)) {
            (Some(a), _) if a == decides => Some(decides),
            (_, Some(b)) if b == decides => Some(decides),
            (Some(_), Some(_)) => Some(!decides),
            (_, _) => None,
        }
    }

    fn narrow(&mut self, value: Value, range: Range, assumed: Option<bool>, out: &mut Vec<Before>) {
        let number = value.0 as usize;
        out.push(Before {
            value,
            range: self.ranges[number],
            assumed: self.assumed[number],
        });
        self.ranges[number] = range;
        self.assumed[number] = assumed;
    }

    /// Takes a condition as given; `before` gets what holds elsewhere.
    fn assume(&mut self, condition: Value, holds: bool, depth: usize, before: &mut Vec<Before>) {
        self.narrow(condition, Range::ALL, Some(holds), before);
        if depth == 0 {
            return;
        }
        match self.made(condition).cloned() {
            Some(Expression::Binary(function @ (Binary::And | Binary::Or), a, b))
                if holds == (function == Binary::And) =>
            {
                self.assume(a, holds, depth - 1, before);
                self.assume(b, holds, depth - 1, before);
            }
            Some(Expression::Unary(Unary::Not, a)) => self.assume(a, !holds, depth - 1, before),
            Some(Expression::Binary(function @ (Binary::Less | Binary::LessEqual), a, b))
                if self.ty(a) == Type::one(Scalar::I32) =>
            {
                // Where it does not hold, `b <= a` or `b < a` does.
                let (low, high) = if holds { (a, b) } else { (b, a) };
                let apart = i64::from((function == Binary::Less) == holds);
                let (below, above) = (self.range(low), self.range(high));
                let narrowed = below.and(below.low, above.high - apart);
                self.narrow(low, narrowed, None, before);
                let narrowed = above.and(below.low + apart, above.high);
                self.narrow(high, narrowed, None, before);
            }
            Some(_) | None => {}
        }
    }

    fn repeat(&mut self, repeat: Loop, out: &mut Vec<Statement>) {
        let Loop {
            counter,
            start,
            end,
            step,
            carried,
            body,
        } = repeat;
        let (start, end) = (self.of(start), self.of(end));
        let [first, last] = [start, end].map(|bound| self.range(bound));
        let never = first.low >= last.high;
        let once = first.high < last.low && first.low + i64::from(step) >= last.high;
        if never || once {
            self.instead[counter.0 as usize] = start;
            for each in &carried {
                self.instead[each.value.0 as usize] = self.of(each.initial);
            }
            if once {
                self.block(body, out);
            }
            for each in &carried {
                let left = if once { each.next } else { each.initial };
                self.instead[each.result.0 as usize] = self.of(left);
            }
            return;
        }
        if first.low + i64::from(step) >= last.high {
            // One iteration or none is a branch.
            self.instead[counter.0 as usize] = start;
            for each in &carried {
                self.instead[each.value.0 as usize] = self.of(each.initial);
            }
            let results = carried.iter();
            let results = results.map(|each| (each.result, each.next, each.initial));
            let results = results.collect();
            let runs = Expression::Binary(Binary::Less, start, end);
            let branch = Branch {
                condition: self.simple(Type::one(Scalar::Bool), &runs, out),
                then: body,
                otherwise: Vec::new(),
                results,
            };
            return self.branch(branch, out);
        }
        self.ranges[counter.0 as usize] = Range::new(first.low, last.high - 1);
        let (still, changing): (Vec<Carried>, Vec<Carried>) = carried
            .into_iter()
            .partition(|each| each.next == each.value);
        for each in still {
            let initial = self.of(each.initial);
            self.instead[each.value.0 as usize] = initial;
            self.instead[each.result.0 as usize] = initial;
        }
        let mut inner = Vec::with_capacity(body.len());
        self.block(body, &mut inner);
        let carried = changing.into_iter().map(|each| Carried {
            initial: self.of(each.initial),
            next: self.of(each.next),
            ..each
        });
        out.push(Statement::For(Loop {
            counter,
            start,
            end,
            step,
            carried: carried.collect(),
            body: inner,
        }));
    }

    /// Where an I32 of one lane lies.
    fn range_of(&self, expression: &Expression) -> Range {
        let last = |count: u32| Range::new(0, i64::from(count) - 1);
        match expression {
            Expression::Constant(Constant::I32(number)) => Range::one(*number),
            Expression::Builtin(Builtin::Local) => last(self.invocations),
            Expression::Builtin(Builtin::Group(axis)) => last(self.grid[usize::from(*axis)]),
            Expression::Binary(function, a, b) => {
                Range::binary(*function, self.range(*a), self.range(*b))
            }
            Expression::Unary(Unary::Neg, x) => {
                Range::binary(Binary::Sub, Range::one(0), self.range(*x))
            }
            Expression::Select(_, yes, no) => self.range(*yes).or(self.range(*no)),
            Expression::Convert(_, x) if self.ty(*x).scalar == Scalar::Bool => Range::new(0, 1),
            Expression::Constant(_)
            | Expression::Unary(..)
            | Expression::Fma(..)
            | Expression::Convert(..)
            | Expression::Bits(..)
            | Expression::Splat(..)
            | Expression::Extract(..)
            | Expression::ExtractAt(..)
            | Expression::Compose(_)
            | Expression::Unpack(_)
            | Expression::Pack(_)
            | Expression::Mma(..)
            | Expression::Shuffle(..)
            | Expression::LoadMatrix(_)
            | Expression::Load(..) => Range::ALL,
        }
    }

    /// What functions of known numbers give.
    fn computed(&self, expression: &Expression, ty: Type) -> Option<Constant> {
        if matches!(expression, Expression::Constant(_)) {
            return None;
        }
        let scalar = |value: Value| self.ty(value).scalar;
        let operand = |value: Value| self.known(value).map(compute::word);
        let word = compute::known(expression, scalar, operand)?;
        let is_nan = |constant: &Constant| matches!(constant, Constant::F32(x) if x.is_nan());
        compute::constant(ty.scalar, word).filter(|constant| !is_nan(constant))
    }
}
