//! Group normalisation as statistics, and their pointwise application.

use super::State;
use crate::graph::Value;
use crate::ops::{Add, Cast, GroupNorm, GroupStatistics, Mul, Op, Sub};
use crate::region::access::Step;
use crate::region::{Access, Anchor, Content, Index, Node, Output};
use crate::value::extents::Extents;

impl State<'_> {
    /// `x · (factor · scale) + (bias − mean · (factor · scale))`, mean and factor read from a
    /// region of statistics.
    pub(super) fn group_norm(&mut self, value: Value, norm: &GroupNorm, operands: &[Value]) {
        let Extents { dtype, shape } = self.extents(value).clone();
        if shape.contains(&0) {
            return self.anchor(value, &norm.clone().into(), operands);
        }
        let x = self.view(operands[0]);
        let computed = dtype.accumulator();
        let statistics = self.statistics(value, operands[0], norm.groups, norm.epsilon);
        let share = shape[1] / norm.groups;
        let mut reads = vec![x];
        for which in 0..2 {
            let step = Step::group(&shape, share, which);
            reads.push(statistics.through(&step));
        }
        for &vector in &operands[1..] {
            reads.push(self.along(vector, 1, &shape));
        }
        let mut nodes: Vec<Node> = (0..reads.len()).map(Node::Read).collect();
        let mut widened: Vec<usize> = (0..nodes.len()).collect();
        if computed != dtype {
            for (place, operand) in widened.iter_mut().enumerate() {
                if !(1..3).contains(&place) {
                    nodes.push(Node::Apply(Cast { dtype: computed }.into(), vec![*operand]));
                    *operand = nodes.len() - 1;
                }
            }
        }
        // What does not change from pixel to pixel comes first: a kernel computes it once.
        let mut apply = |op: Op, operands: [usize; 2]| {
            nodes.push(Node::Apply(op, operands.to_vec()));
            nodes.len() - 1
        };
        let factor = match widened.get(3) {
            Some(&scale) => apply(Mul.into(), [widened[2], scale]),
            None => widened[2],
        };
        let shift = apply(Mul.into(), [widened[1], factor]);
        let last = match widened.get(4) {
            Some(&bias) => {
                let shift = apply(Sub.into(), [bias, shift]);
                let scaled = apply(Mul.into(), [widened[0], factor]);
                apply(Add.into(), [scaled, shift])
            }
            None => {
                let scaled = apply(Mul.into(), [widened[0], factor]);
                apply(Sub.into(), [scaled, shift])
            }
        };
        if computed != dtype {
            nodes.push(Node::Apply(Cast { dtype }.into(), vec![last]));
        }
        self.region(value, Anchor::Pointwise, reads, nodes);
    }

    pub(super) fn group_statistics(&mut self, value: Value, op: &GroupStatistics, x: Value) {
        if self.extents(x).shape.contains(&0) {
            return self.anchor(value, &op.clone().into(), &[x]);
        }
        let access = self.statistics(value, x, op.groups, op.epsilon);
        self.views.insert(value, access);
    }

    /// How mean and factor of each group of `x` are read; a region computes them for its first
    /// reader, `value`.
    fn statistics(&mut self, value: Value, x: Value, groups: usize, epsilon: f64) -> Access {
        let key = (x, groups, epsilon.to_bits());
        if let Some(access) = self.statistics.get(&key) {
            return access.clone();
        }
        let x = self.view(x);
        let domain = vec![x.shape[0], groups, 2];
        let dtype = x.dtype.accumulator();
        let extents = Extents {
            dtype,
            shape: domain.clone(),
        };
        let buffer = self.buffer(extents, Content::Computed);
        let access = Access::whole(buffer, dtype, &domain);
        let nodes = vec![Node::Anchor(Index::identity(&domain))];
        let anchor = Anchor::Statistics { groups, epsilon };
        self.store(value, anchor, vec![x], Output::whole(buffer, domain, nodes));
        self.statistics.insert(key, access.clone());
        access
    }
}
