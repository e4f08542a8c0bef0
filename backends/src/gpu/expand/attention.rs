//! Attention in training: logarithms of sums and gradients, element by element.
//!
//! Takes a program of either, gives for one element of its result the loops that compute it from
//! the program's views: scores are summed anew for each, so this is right and slow.
//!
//! Source: Dao 2023 (arXiv 2307.08691), algorithm 2, one element at a time.

use compiler::kernel::{Binary, Builder, Unary, Value};
use compiler::ops::Op;
use compiler::region::{Anchor, Region};
use compiler::tile::{BlockProgram, Step};

use super::address::{self, Arguments, At, Width};

/// The least number: what no score is below.
const LEAST: f32 = f32::MIN;

/// The views of a program's operands that are read as numbers per query.
#[derive(Clone, Copy)]
struct Gradient {
    log_sum: usize,
    result: usize,
    gradient: usize,
}

/// What computes one element.
pub(super) struct Attention<'a> {
    program: &'a BlockProgram,
    scale: f32,
    causal: bool,
    mask: Option<usize>,
    gradient: Option<Gradient>,
}

/// A score, and whether its key is seen, if some are not.
struct Score {
    value: Value,
    seen: Option<Value>,
}

impl<'a> Attention<'a> {
    /// Of a program whose region has such an anchor.
    pub(super) fn of(region: &Region, program: &'a BlockProgram) -> Option<Attention<'a>> {
        let Anchor::Op { op, operands } = &region.anchor else {
            return None;
        };
        let (scale, causal, mask, gradient) = if let Op::AttentionLogSum(op) = op {
            (op.scale, op.causal, (*operands > 2).then_some(2), None)
        } else if let Op::AttentionGradient(op) = op {
            let (views, mask) = weighed(program)?;
            (op.scale, op.causal, mask, Some(views))
        } else {
            return None;
        };
        Some(Attention {
            program,
            scale: scale as f32,
            causal,
            mask,
            gradient,
        })
    }

    /// The elements of the result at a place, as many as a width has lanes.
    pub(super) fn elements(
        &self,
        b: &mut Builder,
        arguments: &Arguments<'_>,
        at: At,
        width: Width,
    ) -> Value {
        let lanes: Vec<Value> = (0..i32::from(width.lanes()))
            .map(|lane| {
                let column = b.plus(at.column, lane);
                let at = At { column, ..at };
                match self.gradient {
                    None => self.log_sum(b, arguments, at),
                    Some(gradient) => self.change(b, arguments, at, gradient),
                }
            })
            .collect();
        match lanes.as_slice() {
            [one] => *one,
            lanes => b.compose(lanes),
        }
    }

    /// The rows and columns of an operand's view.
    fn extents(&self, view: usize) -> [i32; 2] {
        let view = &self.program.views[view];
        [view.rows(), view.columns()].map(|axes| axes.iter().product::<usize>() as i32)
    }

    /// `Σ_column left[rows[0], column] · right[rows[1], column]` of two views.
    fn product(
        &self,
        b: &mut Builder,
        arguments: &Arguments<'_>,
        at: At,
        views: [usize; 2],
        rows: [Value; 2],
    ) -> Value {
        let (start, end) = (b.i32(0), b.i32(self.extents(views[0])[1]));
        let zero = b.f32(0.0);
        b.repeat([start, end], 1, &[zero], |b, column, sum| {
            let [left, right] = [0, 1].map(|side| {
                let at = At {
                    row: rows[side],
                    column,
                    ..at
                };
                let view = &self.program.views[views[side]];
                arguments.read(b, view, at, Width::One, None)
            });
            vec![b.fma(left, right, sum[0])]
        })[0]
    }

    /// The scaled score of a query with a key, with what a mask adds.
    fn score(
        &self,
        b: &mut Builder,
        arguments: &Arguments<'_>,
        at: At,
        [query, key]: [Value; 2],
    ) -> Score {
        let product = self.product(b, arguments, at, [0, 1], [query, key]);
        let scale = b.f32(self.scale);
        let mut value = b.mul(product, scale);
        let mut seen = self.causal.then(|| b.binary(Binary::LessEqual, key, query));
        if let Some(mask) = self.mask {
            let view = &self.program.views[mask];
            let at = At {
                row: query,
                column: key,
                ..at
            };
            let shown = arguments.read(b, view, at, Width::One, None);
            if view.access.dtype.is_float() {
                value = b.add(value, shown);
            } else {
                let truth = address::truth(b, shown);
                seen = Some(b.joined(Binary::And, seen, truth));
            }
        }
        Score { value, seen }
    }

    fn log_sum(&self, b: &mut Builder, arguments: &Arguments<'_>, at: At) -> Value {
        let (start, end) = (b.i32(0), b.i32(self.extents(1)[0]));
        let (least, zero) = (b.f32(LEAST), b.f32(0.0));
        let most = b.repeat([start, end], 1, &[least], |b, key, most| {
            let score = self.score(b, arguments, at, [at.row, key]);
            let value = hidden(b, &score, score.value, LEAST);
            vec![b.binary(Binary::Max, most[0], value)]
        })[0];
        let sum = b.repeat([start, end], 1, &[zero], |b, key, sum| {
            let score = self.score(b, arguments, at, [at.row, key]);
            let below = b.binary(Binary::Sub, score.value, most);
            let weight = b.unary(Unary::Exp, below);
            let weight = hidden(b, &score, weight, 0.0);
            vec![b.add(sum[0], weight)]
        })[0];
        let log = b.unary(Unary::Log, sum);
        b.add(most, log)
    }

    /// One element of the gradients: of a query, of a key, or of a value.
    fn change(&self, b: &mut Builder, arguments: &Arguments<'_>, at: At, views: Gradient) -> Value {
        let [queries, width] = self.extents(0);
        let [keys, result] = self.extents(2);
        let of_query = b.below(at.row, queries);
        let of_key = b.below(at.row, queries + keys);
        let [key, value] = [queries, queries + keys].map(|first| b.plus(at.row, -first));
        let own = b.select(of_key, key, value);
        let own = b.select(of_query, at.row, own);
        let [queries, keys] = [queries, keys].map(|count| b.i32(count));
        let (start, end) = (b.i32(0), b.select(of_query, keys, queries));
        let [narrow, wide] = [width, result].map(|width| b.below(at.column, width));
        let zero = b.f32(0.0);
        b.repeat([start, end], 1, &[zero], |b, other, sum| {
            let query = b.select(of_query, own, other);
            let key = b.select(of_query, other, own);
            let [weight, change] = self.weight(b, arguments, at, [query, key], views);
            let read = |b: &mut Builder, view: usize, row, valid| {
                let view = &self.program.views[view];
                arguments.read(b, view, At { row, ..at }, Width::One, Some(valid))
            };
            let k = read(b, 1, key, narrow);
            let q = read(b, 0, query, narrow);
            let dr = read(b, views.gradient, query, wide);
            let factor = b.select(of_key, change, weight);
            let of = b.select(of_key, q, dr);
            let of = b.select(of_query, k, of);
            vec![b.fma(factor, of, sum[0])]
        })[0]
    }

    /// The weight of a key for a query, and the gradient of their unscaled score.
    fn weight(
        &self,
        b: &mut Builder,
        arguments: &Arguments<'_>,
        at: At,
        [query, key]: [Value; 2],
        views: Gradient,
    ) -> [Value; 2] {
        let score = self.score(b, arguments, at, [query, key]);
        let column = b.i32(0);
        let of_query = At {
            row: query,
            column,
            ..at
        };
        let view = &self.program.views[views.log_sum];
        let log_sum = arguments.read(b, view, of_query, Width::One, None);
        let below = b.binary(Binary::Sub, score.value, log_sum);
        let weight = b.unary(Unary::Exp, below);
        let weight = hidden(b, &score, weight, 0.0);
        let results = [views.gradient, views.result];
        let sum = self.product(b, arguments, at, results, [query, query]);
        let product = self.product(b, arguments, at, [views.gradient, 2], [query, key]);
        let change = b.binary(Binary::Sub, product, sum);
        let scale = b.f32(self.scale);
        let change = b.mul(change, scale);
        let change = b.mul(change, weight);
        // A query without keys has no weights, whatever its result is.
        let (least, zero) = (b.f32(LEAST), b.f32(0.0));
        let exists = b.binary(Binary::Less, least, log_sum);
        [weight, change].map(|value| b.select(exists, value, zero))
    }
}

/// `value`, or another where a key is not seen.
fn hidden(b: &mut Builder, score: &Score, value: Value, otherwise: f32) -> Value {
    match score.seen {
        None => value,
        Some(seen) => {
            let otherwise = b.f32(otherwise);
            b.select(seen, value, otherwise)
        }
    }
}

/// What a program weighs with, and the view of its mask.
fn weighed(program: &BlockProgram) -> Option<(Gradient, Option<usize>)> {
    program.steps().find_map(|step| {
        let Step::Weigh {
            log_sum,
            results: [result, gradient],
            mask,
            ..
        } = step
        else {
            return None;
        };
        let views = Gradient {
            log_sum: *log_sum,
            result: *result,
            gradient: *gradient,
        };
        Some((views, *mask))
    })
}
