//! From the graph to regions: one per operator that computes, none for those that move elements.
//!
//! Takes a function of known sizes, gives regions that mean the same; nothing is fused but what
//! access maps swallow. Group normalisation becomes statistics and their pointwise application,
//! GEGLU a pointwise product of two halves; biases leave their anchors.

use std::collections::{BTreeMap, BTreeSet};

use crate::graph::eval::last_uses;
use crate::graph::{self, Definition, Func, Value};
use crate::ops::{Add, Application, Class, ConvTranspose, Gelu, GeluForm, Linear, Mul, Op, Term};
use crate::region::access::Step;
use crate::region::index::Index;
use crate::region::transposed::convolution;
use crate::region::{
    Access, Anchor, Buffer, BufferData, Content, FormError, Node, Output, Refusal, Region,
    RegionId, Regions,
};
use crate::value::extents::Extents;
use crate::value::tensor::{Tensor, Values};

mod movements;
mod norms;

/// The name under which movements are refused.
pub(super) const ACCESS: &str = "access_map";

/// A function before anything is fused.
#[derive(Debug)]
pub(super) struct Lowered {
    pub(super) regions: Regions,
    /// Movements that no kernel makes.
    pub(super) movements: usize,
    /// Why others take one.
    pub(super) refusals: Vec<Refusal>,
}

/// See the card.
pub(super) fn lower(func: &Func) -> Result<Lowered, FormError> {
    let mut state = State {
        func,
        views: BTreeMap::new(),
        extents: Vec::with_capacity(func.values().len()),
        statistics: BTreeMap::new(),
        regions: Regions {
            name: func.name().to_owned(),
            buffers: Vec::new(),
            regions: Vec::new(),
            joined: Vec::new(),
            results: Vec::new(),
        },
        movements: 0,
        refusals: Vec::new(),
    };
    let last = last_uses(func);
    for (value, data) in func.values() {
        let shape = data.ty.extents().ok_or_else(|| FormError::Unbound {
            origin: data.origin.clone(),
            ty: data.ty.clone(),
        })?;
        let dtype = data.ty.dtype;
        state.extents.push(Extents { dtype, shape });
        match &data.definition {
            Definition::Param(param) => {
                let content = Content::Param(param.clone());
                let buffer = state.buffer(state.extents[value.0 as usize].clone(), content);
                state.see(value, buffer);
            }
            // Nobody uses it.
            Definition::Node(_) if last[value.0 as usize] == value.0 => {}
            Definition::Node(node) => state.node(value, node),
        }
    }
    state.results();
    state.hasten();
    Ok(Lowered {
        regions: state.regions,
        movements: state.movements,
        refusals: state.refusals,
    })
}

struct State<'a> {
    func: &'a Func,
    views: BTreeMap<Value, Access>,
    extents: Vec<Extents>,
    /// Statistics of groups of a value: backward passes read those of the forward pass.
    statistics: BTreeMap<(Value, usize, u64), Access>,
    regions: Regions,
    movements: usize,
    refusals: Vec<Refusal>,
}

impl State<'_> {
    fn extents(&self, value: Value) -> &Extents {
        &self.extents[value.0 as usize]
    }

    fn buffer(&mut self, extents: Extents, content: Content) -> Buffer {
        let buffer = Buffer(self.regions.buffers.len() as u32);
        self.regions.buffers.push(BufferData::new(extents, content));
        buffer
    }

    /// Lets `value` be read as all of `buffer`.
    fn see(&mut self, value: Value, buffer: Buffer) {
        let Extents { dtype, shape } = self.extents(value);
        let access = Access::whole(buffer, *dtype, shape);
        self.views.insert(value, access);
    }

    /// How `value` is read; constants get their buffers with their first reader.
    fn view(&mut self, value: Value) -> Access {
        if let Some(tensor) = self.func.constant(value)
            && !self.views.contains_key(&value)
        {
            let content = Content::Constant(tensor.clone());
            let buffer = self.buffer(self.extents(value).clone(), content);
            self.see(value, buffer);
        }
        self.views[&value].clone()
    }

    fn node(&mut self, value: Value, node: &graph::Node) {
        match (&node.op, node.op.class()) {
            (Op::Constant(_), _) => {}
            (Op::Geglu(_), _) => self.geglu(value, node.operands[0]),
            (Op::GroupNorm(norm), _) => self.group_norm(value, norm, &node.operands),
            (Op::GroupStatistics(statistics), _) => {
                self.group_statistics(value, statistics, node.operands[0]);
            }
            (Op::Conv(conv), _) => {
                let conv = conv.clone();
                self.contraction(value, conv, &node.operands, 1);
            }
            (Op::ConvTranspose(transpose), _) => {
                self.conv_transpose(value, transpose, &node.operands);
            }
            (Op::Linear(_), _) => {
                let axis = self.extents(value).shape.len() - 1;
                self.contraction(value, Linear, &node.operands, axis);
            }
            (op, Class::Pointwise) => self.pointwise(value, op, &node.operands),
            (op, Class::Movement) => match self.moved(value, op, &node.operands) {
                Ok(access) => {
                    self.movements += 1;
                    self.views.insert(value, access);
                }
                Err(reason) => {
                    self.refuse(value, reason);
                    self.anchor(value, op, &node.operands);
                }
            },
            (
                op,
                Class::Gemm
                | Class::Conv
                | Class::Attention
                | Class::Row
                | Class::Gather
                | Class::Plain,
            ) => self.anchor(value, op, &node.operands),
        }
    }

    fn refuse(&mut self, value: Value, reason: String) {
        self.refusals.push(Refusal {
            rule: ACCESS,
            region: RegionId(self.regions.regions.len() as u32),
            origin: self.func.value(value).origin.clone(),
            reason,
        });
    }

    /// Adds a region that stores all of `value`.
    fn region(
        &mut self,
        value: Value,
        anchor: Anchor,
        operands: Vec<Access>,
        nodes: Vec<Node>,
    ) -> Buffer {
        let extents = self.extents(value).clone();
        let domain = extents.shape.clone();
        let buffer = self.buffer(extents, Content::Computed);
        self.see(value, buffer);
        self.store(
            value,
            anchor,
            operands,
            Output::whole(buffer, domain, nodes),
        );
        buffer
    }

    /// Adds a region with one output, whose origin is that of `value`.
    fn store(&mut self, value: Value, anchor: Anchor, operands: Vec<Access>, output: Output) {
        self.regions.regions.push(Region {
            anchor,
            operands,
            outputs: vec![output],
            origin: self.func.value(value).origin.clone(),
        });
    }

    fn anchor(&mut self, value: Value, op: &Op, operands: &[Value]) {
        let anchor = Anchor::Op {
            op: op.clone(),
            operands: operands.len(),
        };
        let shape = &self.extents(value).shape;
        let nodes = vec![Node::Anchor(Index::identity(shape))];
        let operands = operands.iter().map(|&operand| self.view(operand)).collect();
        self.region(value, anchor, operands, nodes);
    }

    /// A convolution or a linear layer, its bias added along `axis` by the epilogue.
    fn contraction(&mut self, value: Value, op: impl Into<Op>, operands: &[Value], axis: usize) {
        let Some(&bias) = operands.get(2) else {
            return self.anchor(value, &op.into(), operands);
        };
        let shape = self.extents(value).shape.clone();
        let anchor = Anchor::Op {
            op: op.into(),
            operands: 2,
        };
        let mut reads: Vec<Access> = operands[..2].iter().map(|&v| self.view(v)).collect();
        reads.push(self.along(bias, axis, &shape));
        let nodes = vec![
            Node::Anchor(Index::identity(&shape)),
            Node::Read(2),
            Node::Apply(Add.into(), vec![0, 1]),
        ];
        self.region(value, anchor, reads, nodes);
    }

    /// A transposed convolution: as a convolution where it is one, so that its programs serve both.
    fn conv_transpose(&mut self, value: Value, transpose: &ConvTranspose, operands: &[Value]) {
        let [x, w] = [0, 1].map(|operand| self.view(operands[operand]));
        let found = convolution(transpose, [&x, &w], &self.extents(value).shape);
        match found.filter(|(_, w)| w.too_intricate(&self.regions.buffers).is_none()) {
            Some((conv, w)) => {
                let nodes = vec![Node::Anchor(Index::identity(&self.extents(value).shape))];
                let op = conv.into();
                let anchor = Anchor::Op { op, operands: 2 };
                self.region(value, anchor, vec![x, w], nodes);
            }
            None => self.anchor(value, &transpose.clone().into(), operands),
        }
    }

    /// A vector along `axis` of `shape`, the same at all other indices.
    fn along(&mut self, vector: Value, axis: usize, shape: &[usize]) -> Access {
        let view = self.view(vector);
        let mut unit = vec![1; shape.len()];
        unit[axis] = shape[axis];
        let stretched = view.through(&Step::reshape(&view.shape, &unit));
        stretched.through(&Step::broadcast(&unit, shape))
    }

    /// The operand stretched to `shape`; a constant of one element is in the text of the region.
    fn stretched(&mut self, operand: Value, shape: &[usize], reads: &mut Vec<Access>) -> Node {
        if let Some(tensor) = self.func.constant(operand)
            && tensor.elements() == 1
        {
            let scalar = tensor.reshaped(Vec::new());
            return Node::Scalar(scalar.expect("it has one element"));
        }
        let view = self.view(operand);
        reads.push(view.through(&Step::broadcast(&view.shape, shape)));
        Node::Read(reads.len() - 1)
    }

    /// A pointwise operator, or the others that make it up.
    fn pointwise(&mut self, value: Value, op: &Op, operands: &[Value]) {
        let shape = self.extents(value).shape.clone();
        let mut reads = Vec::new();
        let mut nodes: Vec<Node> = operands
            .iter()
            .map(|&operand| self.stretched(operand, &shape, &mut reads))
            .collect();
        let dtype = self.extents(operands[0]).dtype;
        let formula = op.formula();
        let mut made = Vec::with_capacity(formula.len());
        for Application { op, operands } in &formula {
            let operands = operands.iter().map(|term| match *term {
                Term::Operand(number) => number,
                Term::Made(number) => made[number],
                Term::Number(number) => {
                    let values = Values::Float(vec![number]);
                    nodes.push(Node::Scalar(Tensor::from_values(dtype, &[], &values)));
                    nodes.len() - 1
                }
            });
            let operands = operands.collect();
            nodes.push(Node::Apply(op.clone(), operands));
            made.push(nodes.len() - 1);
        }
        if formula.is_empty() {
            nodes.push(Node::Apply(op.clone(), (0..operands.len()).collect()));
        }
        self.region(value, Anchor::Pointwise, reads, nodes);
    }

    fn geglu(&mut self, value: Value, x: Value) {
        let shape = self.extents(value).shape.clone();
        let axis = shape.len() - 1;
        let view = self.view(x);
        let half = |start: usize| view.through(&Step::slice(axis, start as i64, 1, &shape));
        let reads = vec![half(0), half(shape[axis])];
        let form = GeluForm::Erf;
        let nodes = vec![
            Node::Read(0),
            Node::Read(1),
            Node::Apply(Gelu { form }.into(), vec![1]),
            Node::Apply(Mul.into(), vec![0, 2]),
        ];
        self.region(value, Anchor::Pointwise, reads, nodes);
    }

    /// Moves regions that copy parts of joined buffers behind those that store what they read, so
    /// that nothing waits until all parts are there.
    fn hasten(&mut self) {
        let regions = &mut self.regions;
        let mut producers = vec![None; regions.buffers.len()];
        for (number, region) in regions.regions.iter().enumerate() {
            for buffer in region.stores() {
                producers[buffer.0 as usize] = Some(number);
            }
        }
        let parts: BTreeSet<Buffer> = regions
            .joined
            .iter()
            .flat_map(|j| &j.parts)
            .copied()
            .collect();
        let wholes: BTreeSet<Buffer> = regions.joined.iter().map(|joined| joined.whole).collect();
        let place = |(number, region): (usize, &Region)| {
            let reads = region.reads();
            let waits = reads.iter().any(|buffer| wholes.contains(buffer));
            let is_part = parts.contains(&region.outputs[0].buffer);
            let stored = reads.iter().map(|buffer| producers[buffer.0 as usize]);
            match stored.max().flatten() {
                Some(last) if is_part && !waits => (last, number),
                Some(_) | None => (number, 0),
            }
        };
        let places: Vec<(usize, usize)> = regions.regions.iter().enumerate().map(place).collect();
        let mut order: Vec<usize> = (0..places.len()).collect();
        order.sort_by_key(|&number| places[number]);
        let mut renamed = vec![0; order.len()];
        for (place, &number) in order.iter().enumerate() {
            renamed[number] = place;
        }
        let mut moved: Vec<(usize, Region)> = renamed
            .iter()
            .copied()
            .zip(regions.regions.drain(..))
            .collect();
        moved.sort_by_key(|(place, _)| *place);
        regions.regions = moved.into_iter().map(|(_, region)| region).collect();
        for refusal in &mut self.refusals {
            let number = refusal.region.0 as usize;
            refusal.region = RegionId(renamed[number] as u32);
        }
    }

    /// Names the results; what is only a view is copied.
    fn results(&mut self) {
        for (name, value) in self.func.results() {
            let view = self.view(*value);
            let buffer = match view.as_whole() {
                Some(buffer) if *self.extents(*value) == self.regions.buffer(buffer).extents => {
                    buffer
                }
                Some(_) | None => {
                    let nodes = vec![Node::Read(0)];
                    self.region(*value, Anchor::Pointwise, vec![view], nodes)
                }
            };
            self.regions.results.push((name.clone(), buffer));
        }
    }
}
