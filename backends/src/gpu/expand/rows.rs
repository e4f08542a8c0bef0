//! Row operators: norms, softmax, folds, the merge of moments; and moments themselves.
//!
//! Takes a program of rows, gives the kernel whose workgroup reduces one row: the row is read
//! again for each pass, since it may be longer than what is near. Means come first and squares
//! are of differences from them, so that large means cost no digits.

use compiler::kernel::{Binary, Builder, Builtin, Memory, Scalar, SharedId, Type, Unary, Value};
use compiler::ops::Op;
use compiler::region::{Anchor, Output};
use compiler::tile::{BlockProgram, OutputViews, Step, View};

use super::address::{Arguments, At, Width};
use super::epilogue::{self, Epilogue};
use super::quads::Along;
use crate::gpu::expand::expansion::{Expansion, Refusal, moments_columns};
use crate::gpu::expand::functions;

/// Invocations of a workgroup at most.
const INVOCATIONS: usize = 256;

/// One row, as an invocation sees it.
struct Row<'a> {
    view: &'a View,
    /// What elements are multiplied with.
    with: Option<&'a View>,
    arguments: &'a Arguments<'a>,
    at: At,
    local: Value,
    invocations: usize,
    near: SharedId,
}

/// What is known of a row after it was reduced.
enum Reduced {
    /// `(x − mean) · factor`, then the parameters.
    Normal { mean: Value, factor: Value },
    /// `e^(x − largest) · factor`.
    Softmax { largest: Value, factor: Value },
    /// One number for each column.
    Numbers(Vec<Value>),
}

/// Expands a program of rows.
///
/// # Errors
/// When there are more rows than a grid has workgroups, or the region has no row operator.
pub(crate) fn expand(x: &mut Expansion<'_>, program: &BlockProgram) -> Result<(), Refusal> {
    let region = x.region;
    let view = &program.views[0];
    let width: usize = view.columns().iter().product();
    let invocations = (width / 4).next_power_of_two().clamp(32, INVOCATIONS);
    x.begin_list(program, invocations as u32, program.rows * invocations)?;
    let epilogues = epilogue::all(region, &program.outputs, &x.arguments);
    let b = &mut x.b;
    let near = b.shared("near", Type::one(Scalar::F32), invocations as u32);
    let [first, line, local] =
        [Builtin::Group(0), Builtin::Group(1), Builtin::Local].map(|place| b.builtin(place));
    let line = b.times(line, x.groups[0] as i32);
    let row = b.add(line, first);
    let zero = b.i32(0);
    let at = At {
        batch: zero,
        plane: zero,
        row,
        column: zero,
    };
    // The last line of the grid may be longer than what is left: such rows are the last one, and
    // are not stored.
    let last = b.i32(program.rows as i32 - 1);
    let overhang = x.groups[0] as usize * x.groups[1] as usize > program.rows;
    let exists = overhang.then(|| b.below(row, program.rows as i32));
    let clamped = b.binary(Binary::Min, row, last);
    let at = match overhang {
        true => At { row: clamped, ..at },
        false => at,
    };
    let whole = Row {
        view,
        with: match program.body.iter().any(is_product) {
            true => program.views.get(1),
            false => None,
        },
        arguments: &x.arguments,
        at,
        local,
        invocations,
        near,
    };
    let reduced = whole.reduce(b, &region.anchor, width)?;
    for epilogue in &epilogues {
        let width = i32::from(epilogue.width.lanes());
        let end = b.i32(program.columns as i32);
        let start = b.times(local, width);
        let body = |b: &mut Builder| {
            b.repeat(
                [start, end],
                width * invocations as i32,
                &[],
                |b, column, _| {
                    let at = At { column, ..at };
                    let mut anchor = |b: &mut Builder, _: usize| {
                        whole.element(b, &reduced, (program, epilogue), at)
                    };
                    let none = vec![None; epilogue.output.nodes.len()];
                    let value = epilogue.compute(b, &x.arguments, at, &none, &mut anchor);
                    epilogue.store(b, &x.arguments, at, value);
                    Vec::new()
                },
            );
        };
        b.guarded(exists, body);
    }
    Ok(())
}

/// Whether a step folds products of two rows.
fn is_product(step: &Step) -> bool {
    let folds = |step: &Step| matches!(step, Step::Fold { with: Some(_), .. });
    matches!(step, Step::Loop { body, .. } if body.iter().any(folds))
}

impl Row<'_> {
    fn reduce(&self, b: &mut Builder, anchor: &Anchor, width: usize) -> Result<Reduced, Refusal> {
        let count = width as f32;
        Ok(match anchor {
            Anchor::Statistics { epsilon, .. } => {
                let (mean, factor) = self.normal(b, width, *epsilon as f32);
                Reduced::Numbers(vec![mean, factor])
            }
            Anchor::MergeMoments { epsilon, count, .. } => {
                self.merge(b, width / 2, *count as f32, *epsilon as f32)
            }
            Anchor::Op { op, .. } => match op {
                Op::LayerNorm(norm) => {
                    let (mean, factor) = self.normal(b, width, norm.epsilon as f32);
                    Reduced::Normal { mean, factor }
                }
                Op::Softmax(_) => {
                    let largest = self.total(b, (0, width), Binary::Max, &mut |_, x| x);
                    let sum = self.total(b, (0, width), Binary::Add, &mut |b, x| {
                        let lanes = b.type_of(x).lanes;
                        let largest = b.splat(largest, lanes);
                        let below = b.binary(Binary::Sub, x, largest);
                        b.unary(Unary::Exp, below)
                    });
                    let one = b.f32(1.0);
                    let factor = b.binary(Binary::Div, one, sum);
                    Reduced::Softmax { largest, factor }
                }
                Op::ReduceMax(_) => {
                    let largest = self.total(b, (0, width), Binary::Max, &mut |_, x| x);
                    Reduced::Numbers(vec![largest])
                }
                Op::ReduceMean(_) => {
                    let sum = self.total(b, (0, width), Binary::Add, &mut |_, x| x);
                    let count = b.f32(count);
                    Reduced::Numbers(vec![b.binary(Binary::Div, sum, count)])
                }
                Op::ReduceSum(_) | Op::Dot(_) => {
                    let sum = self.total(b, (0, width), Binary::Add, &mut |_, x| x);
                    Reduced::Numbers(vec![sum])
                }
                other => {
                    return Err(Refusal::Operator { name: other.name() });
                }
            },
            Anchor::Pointwise => return Err(Refusal::Steps),
        })
    }

    /// The mean of a row and `1 / sqrt(variance + epsilon)`.
    fn normal(&self, b: &mut Builder, width: usize, epsilon: f32) -> (Value, Value) {
        let sum = self.total(b, (0, width), Binary::Add, &mut |_, x| x);
        let count = b.f32(width as f32);
        let mean = b.binary(Binary::Div, sum, count);
        let squares = self.squares(b, (0, width), mean);
        let variance = b.binary(Binary::Div, squares, count);
        (mean, factor(b, variance, epsilon))
    }

    /// The sum of squared differences from a mean.
    fn squares(&self, b: &mut Builder, range: (usize, usize), mean: Value) -> Value {
        self.total(b, range, Binary::Add, &mut |b, x| {
            let lanes = b.type_of(x).lanes;
            let mean = b.splat(mean, lanes);
            let difference = b.binary(Binary::Sub, x, mean);
            b.mul(difference, difference)
        })
    }

    /// The moments of parts of equal size: first their means, then their sums of squares.
    ///
    /// # Source
    /// Chan, Golub and LeVeque 1983, "Algorithms for computing the sample variance", eq. 2.1.
    fn merge(&self, b: &mut Builder, parts: usize, count: f32, epsilon: f32) -> Reduced {
        let sum = self.total(b, (0, parts), Binary::Add, &mut |_, x| x);
        let number = b.f32(parts as f32);
        let mean = b.binary(Binary::Div, sum, number);
        let between = self.squares(b, (0, parts), mean);
        let within = self.total(b, (parts, parts), Binary::Add, &mut |_, x| x);
        let count_value = b.f32(count);
        let squares = b.fma(between, count_value, within);
        let all = b.f32(parts as f32 * count);
        let variance = b.binary(Binary::Div, squares, all);
        Reduced::Numbers(vec![mean, factor(b, variance, epsilon)])
    }

    /// A reduction over `count` columns from `first` on, of what `map` makes of each.
    fn total(
        &self,
        b: &mut Builder,
        (first, count): (usize, usize),
        function: Binary,
        map: &mut dyn FnMut(&mut Builder, Value) -> Value,
    ) -> Value {
        let quads = first.is_multiple_of(4)
            && count.is_multiple_of(4)
            && [Some(self.view), self.with]
                .iter()
                .flatten()
                .all(|view| self.arguments.shows_quads(view, Along::Columns));
        let (lanes, width) = match quads {
            true => (4, Width::Quad(Along::Columns)),
            false => (1, Width::One),
        };
        let start = b.times(self.local, lanes);
        let start = b.plus(start, first as i32);
        let end = b.i32((first + count) as i32);
        let neutral = match function {
            Binary::Max => f32::MIN,
            _ => 0.0,
        };
        let neutral = functions::number(b, neutral, lanes as u8);
        let step = lanes * self.invocations as i32;
        let own = b.repeat([start, end], step, &[neutral], |b, column, seen| {
            let at = At { column, ..self.at };
            let mut x = self.arguments.read(b, self.view, at, width, None);
            if let Some(with) = self.with {
                let with = self.arguments.read(b, with, at, width, None);
                x = b.mul(x, with);
            }
            let x = map(b, x);
            vec![b.binary(function, seen[0], x)]
        })[0];
        let own = match quads {
            true => functions::across(b, function, own),
            false => own,
        };
        together(b, (self.near, self.local, self.invocations), function, own)
    }

    /// The anchor's elements at a place: as many as the epilogue computes at a time.
    fn element(
        &self,
        b: &mut Builder,
        reduced: &Reduced,
        (program, epilogue): (&BlockProgram, &Epilogue<'_>),
        at: At,
    ) -> Value {
        let lanes = epilogue.width.lanes();
        match reduced {
            Reduced::Numbers(numbers) => match numbers.as_slice() {
                [number] => b.splat(*number, lanes),
                [first, second, ..] if lanes == 1 => {
                    let zero = b.i32(0);
                    let is_first = b.binary(Binary::Equal, at.column, zero);
                    b.select(is_first, *first, *second)
                }
                numbers => b.compose(numbers),
            },
            Reduced::Softmax { largest, factor } => {
                let x = self.arguments.read_lanes(b, self.view, at, epilogue.width);
                let largest = b.splat(*largest, lanes);
                let below = b.binary(Binary::Sub, x, largest);
                let weight = b.unary(Unary::Exp, below);
                let factor = b.splat(*factor, lanes);
                b.mul(weight, factor)
            }
            Reduced::Normal { mean, factor } => {
                let x = self.arguments.read_lanes(b, self.view, at, epilogue.width);
                let mean = b.splat(*mean, lanes);
                let difference = b.binary(Binary::Sub, x, mean);
                let factor = b.splat(*factor, lanes);
                let mut value = b.mul(difference, factor);
                for (number, view) in program.views[1..].iter().enumerate() {
                    let zero = b.i32(0);
                    let at = At { row: zero, ..at };
                    let parameter = self.arguments.read_lanes(b, view, at, epilogue.width);
                    value = match number {
                        0 => b.mul(value, parameter),
                        _ => b.add(value, parameter),
                    };
                }
                value
            }
        }
    }
}

fn factor(b: &mut Builder, variance: Value, epsilon: f32) -> Value {
    let epsilon = b.f32(epsilon);
    let sum = b.add(variance, epsilon);
    let root = b.unary(Unary::Sqrt, sum);
    let one = b.f32(1.0);
    b.binary(Binary::Div, one, root)
}

/// One number of all invocations, each of which has one; their number is a power of two.
fn together(
    b: &mut Builder,
    (near, local, invocations): (SharedId, Value, usize),
    function: Binary,
    own: Value,
) -> Value {
    let memory = Memory::Shared(near);
    b.store(memory, local, own);
    b.barrier();
    let mut half = invocations / 2;
    while half > 0 {
        let lower = b.below(local, half as i32);
        b.when(lower, |b| {
            let mine = b.load(memory, local);
            let place = b.plus(local, half as i32);
            let other = b.load(memory, place);
            let both = b.binary(function, mine, other);
            b.store(memory, local, both);
        });
        b.barrier();
        half /= 2;
    }
    let zero = b.i32(0);
    let all = b.load(memory, zero);
    b.barrier();
    all
}

/// Expands the moments of what an output stored, `[batch, channels, 2]`: a workgroup has some
/// neighbouring columns of one image, and reads their rows twice.
///
/// # Errors
/// When there are more columns than a grid has workgroups.
pub(crate) fn expand_moments(
    x: &mut Expansion<'_>,
    program: &BlockProgram,
    (output, views): (&Output, &OutputViews),
) -> Result<(), Refusal> {
    let stored = &views.store;
    let quads = x.begin_moments(program, (output, views), INVOCATIONS as u32)?;
    let (lanes, width) = match quads {
        true => (4, Width::Quad(Along::Columns)),
        false => (1, Width::One),
    };
    let across = moments_columns(views.columns / lanes);
    let lines = INVOCATIONS / across;
    let b = &mut x.b;
    let ty = Type::lanes(Scalar::F32, lanes as u8);
    let near = b.shared("near", ty, INVOCATIONS as u32);
    let [group, batch, local] =
        [Builtin::Group(0), Builtin::Group(1), Builtin::Local].map(|place| b.builtin(place));
    let zero = b.i32(0);
    let column = b.rem(local, across as i32);
    let line = b.div(local, across as i32);
    let first = b.times(group, across as i32);
    let column = b.add(first, column);
    let exists = b.below(column, (views.columns / lanes) as i32);
    let column = b.times(column, lanes as i32);
    // Columns that are not there are those of the last place: nobody stores them.
    let last = b.i32((views.columns - lanes) as i32);
    let column = b.binary(Binary::Min, column, last);
    let at = At {
        batch,
        plane: zero,
        row: zero,
        column,
    };
    let arguments = &x.arguments;
    let end = b.i32(program.rows as i32);
    let memory = Memory::Shared(near);
    let total = |b: &mut Builder, map: &mut dyn FnMut(&mut Builder, Value) -> Value| {
        let none = functions::number(b, 0.0, lanes as u8);
        let own = b.repeat([line, end], lines as i32, &[none], |b, row, seen| {
            let x = arguments.read(b, stored, At { row, ..at }, width, None);
            let x = map(b, x);
            vec![b.add(seen[0], x)]
        })[0];
        b.store(memory, local, own);
        b.barrier();
        let mut half = lines / 2;
        while half > 0 {
            let lower = b.below(line, half as i32);
            b.when(lower, |b| {
                let mine = b.load(memory, local);
                let place = b.plus(local, (half * across) as i32);
                let other = b.load(memory, place);
                let both = b.add(mine, other);
                b.store(memory, local, both);
            });
            b.barrier();
            half /= 2;
        }
        let place = b.rem(local, across as i32);
        let all = b.load(memory, place);
        b.barrier();
        all
    };
    let sum = total(b, &mut |_, x| x);
    let count = functions::number(b, program.rows as f32, lanes as u8);
    let mean = b.binary(Binary::Div, sum, count);
    let squares = total(b, &mut |b, x| {
        let difference = b.binary(Binary::Sub, x, mean);
        b.mul(difference, difference)
    });
    let first_line = b.binary(Binary::Equal, line, zero);
    let mine = b.and(first_line, exists);
    let moments = output.moments.expect("there are moments to expand");
    b.when(mine, |b| {
        let place = arguments.channel(b, stored, at, x.regions);
        for lane in 0..lanes {
            let place = b.plus(place, lane as i32);
            let place = b.times(place, 2);
            for (part, value) in [mean, squares].into_iter().enumerate() {
                let place = b.plus(place, part as i32);
                let value = b.extract(value, lane as u8);
                arguments.store_element(b, moments, place, value);
            }
        }
    });
    Ok(())
}
