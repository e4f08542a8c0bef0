//! Row operators: norms, softmax, folds.
//!
//! Takes a program of rows, gives the kernel whose workgroup reduces one row: the row is read
//! again for each pass, since it may be longer than what is near. Means come first and squares
//! are of differences from them, so that large means cost no digits.

use compiler::kernel::{Binary, Builder, Builtin, Memory, Scalar, SharedId, Type, Unary, Value};
use compiler::ops::Op;
use compiler::region::Anchor;
use compiler::tile::{BlockProgram, Step, View};

use super::address::{Arguments, At, Width};
use super::epilogue::{self, Epilogue};
use super::quads::Along;
use crate::gpu::expand::expansion::{Expansion, Refusal};
use crate::gpu::expand::functions;

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
    /// Whether elements of rows are stored, not what rows come to.
    keeps_rows: bool,
}

/// What is known of a row after it was reduced.
enum Reduced {
    /// `(x − mean) · factor`, then the parameters.
    Normal { mean: Value, factor: Value },
    /// `e^(x − largest) · factor`.
    Softmax { largest: Value, factor: Value },
    /// One number for each column.
    Numbers(Vec<Value>),
    /// Numbers that every element meets, each a plane.
    Planes([Value; 2]),
}

/// Expands a program of rows.
///
/// # Errors
/// When there are more rows than a grid has workgroups, or the region has no row operator.
pub(crate) fn expand(x: &mut Expansion<'_>, program: &BlockProgram) -> Result<(), Refusal> {
    let region = x.region;
    let view = &program.views[0];
    let width: usize = view.columns().iter().product();
    let most = x.limits.invocations_max as usize;
    let invocations = (width / 4).next_power_of_two().clamp(32, most);
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
        keeps_rows: program
            .body
            .iter()
            .any(|step| matches!(step, Step::Rows { .. })),
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
                    let mut anchor = |b: &mut Builder, plane: usize| {
                        whole.element(b, &reduced, (program, epilogue), (plane, at))
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
                match self.keeps_rows {
                    true => Reduced::Planes([mean, factor]),
                    false => Reduced::Numbers(vec![mean, factor]),
                }
            }
            Anchor::Op { op, .. } => match op {
                Op::LayerNorm(norm) => {
                    let (mean, factor) = self.normal(b, width, norm.epsilon as f32);
                    Reduced::Normal { mean, factor }
                }
                Op::Softmax(_) => {
                    let largest = self.total(b, width, Binary::Max, &mut |_, x| x);
                    let sum = self.total(b, width, Binary::Add, &mut |b, x| {
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
                    let largest = self.total(b, width, Binary::Max, &mut |_, x| x);
                    Reduced::Numbers(vec![largest])
                }
                Op::ReduceMean(_) => {
                    let sum = self.total(b, width, Binary::Add, &mut |_, x| x);
                    let count = b.f32(count);
                    Reduced::Numbers(vec![b.binary(Binary::Div, sum, count)])
                }
                Op::ReduceSum(_) | Op::Dot(_) => {
                    let sum = self.total(b, width, Binary::Add, &mut |_, x| x);
                    Reduced::Numbers(vec![sum])
                }
                other => {
                    return Err(Refusal::Operator { name: other.name() });
                }
            },
            Anchor::Pointwise | Anchor::MergeMoments { .. } => return Err(Refusal::Steps),
        })
    }

    /// The mean of a row and `1 / sqrt(variance + epsilon)`.
    fn normal(&self, b: &mut Builder, width: usize, epsilon: f32) -> (Value, Value) {
        let sum = self.total(b, width, Binary::Add, &mut |_, x| x);
        let count = b.f32(width as f32);
        let mean = b.binary(Binary::Div, sum, count);
        let squares = self.squares(b, width, mean);
        let variance = b.binary(Binary::Div, squares, count);
        (mean, factor(b, variance, epsilon))
    }

    /// The sum of squared differences from a mean.
    fn squares(&self, b: &mut Builder, count: usize, mean: Value) -> Value {
        self.total(b, count, Binary::Add, &mut |b, x| {
            let lanes = b.type_of(x).lanes;
            let mean = b.splat(mean, lanes);
            let difference = b.binary(Binary::Sub, x, mean);
            b.mul(difference, difference)
        })
    }

    /// A reduction over `count` columns of what `map` makes of each.
    fn total(
        &self,
        b: &mut Builder,
        count: usize,
        function: Binary,
        map: &mut dyn FnMut(&mut Builder, Value) -> Value,
    ) -> Value {
        let quads = count.is_multiple_of(4)
            && [Some(self.view), self.with]
                .iter()
                .flatten()
                .all(|view| self.arguments.shows_quads(view, Along::Columns));
        let (lanes, width) = match quads {
            true => (4, Width::Quad(Along::Columns)),
            false => (1, Width::One),
        };
        let start = b.times(self.local, lanes);
        let end = b.i32(count as i32);
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
        (plane, at): (usize, At),
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
            Reduced::Planes(numbers) => b.splat(numbers[plane], lanes),
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
