//! Regions as data: anchors, epilogues, what is stored, and the functions that they cover.
//!
//! Takes operators, accesses and buffers, returns the types of what a region computes. Nothing here
//! forms, verifies or prints one.

use std::fmt;

use crate::graph::{Param, TensorType};
use crate::ops::{Class, Op, Violation};
use crate::region::{Access, Buffer, BufferData, Content, Index};
use crate::value::dtype::DType;
use crate::value::tensor::Tensor;

/// A region of one function; prints as in the text form, `r7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegionId(pub u32);

impl fmt::Display for RegionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.0)
    }
}

/// What a region does before its epilogue.
#[derive(Debug, Clone, PartialEq)]
pub enum Anchor {
    /// Nothing: the epilogue reads operands only.
    Pointwise,
    /// An operator of the graph on the first operands of the region; biases are in the epilogue.
    Op {
        /// The operator.
        op: Op,
        /// How many operands it has.
        operands: usize,
    },
    /// Mean and `1 / sqrt(variance + epsilon)` `[batch, groups, 2]` of one operand
    /// `[batch, channels, …]`, for each image and group of neighbouring channels.
    Statistics {
        /// Groups of neighbouring channels.
        groups: usize,
        /// Added to the variance.
        epsilon: f64,
    },
    /// The same from the moments `[batch, channels, 2]` that side reductions stored.
    MergeMoments {
        /// Groups of neighbouring channels.
        groups: usize,
        /// Added to the variance.
        epsilon: f64,
        /// Elements in each pair of moments.
        count: usize,
    },
}

impl Anchor {
    /// The class of a region with this anchor.
    pub fn class(&self) -> Class {
        match self {
            Anchor::Pointwise => Class::Pointwise,
            Anchor::Op { op, .. } => op.class(),
            Anchor::Statistics { .. } | Anchor::MergeMoments { .. } => Class::Row,
        }
    }

    /// The operator that it applies, if it is one.
    pub fn op(&self) -> Option<&Op> {
        match self {
            Anchor::Op { op, .. } => Some(op),
            Anchor::Pointwise | Anchor::Statistics { .. } | Anchor::MergeMoments { .. } => None,
        }
    }
}

/// A node of an epilogue: a tensor over the domain of its output.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// The anchor's result, read at these indices.
    Anchor(Vec<Index>),
    /// The operand of that number, which has the extents of the domain.
    Read(usize),
    /// One number everywhere.
    Scalar(Tensor),
    /// A pointwise operator on nodes that come before.
    Apply(Op, Vec<usize>),
}

/// What a region stores.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// Where it is stored.
    pub buffer: Buffer,
    /// The extents over which the epilogue is computed.
    pub domain: Vec<usize>,
    /// The epilogue; the last node is stored.
    pub nodes: Vec<Node>,
    /// Where in the buffer an element of the domain is stored, one index per axis: every element
    /// of the buffer has one of the domain.
    pub store: Vec<Index>,
    /// Mean and sum of squared differences from it, `[batch, channels, 2]`, for each
    /// image and channel of what is stored, `[batch, channels, …]`. A program that stores rows
    /// in tiles keeps both for each tile; whoever reads them merges the tiles in their order.
    ///
    /// # Source
    /// Chan, Golub and LeVeque 1983, "Algorithms for computing the sample variance", eq. 2.1.
    pub moments: Option<Buffer>,
}

impl Output {
    /// All of a buffer of extents `domain`, each element at its own place.
    pub fn whole(buffer: Buffer, domain: Vec<usize>, nodes: Vec<Node>) -> Output {
        Output {
            buffer,
            store: Index::identity(&domain),
            domain,
            nodes,
            moments: None,
        }
    }
}

/// What one kernel computes.
#[derive(Debug, Clone, PartialEq)]
pub struct Region {
    /// What is computed first.
    pub anchor: Anchor,
    /// What is read: first the operands of the anchor, then those of epilogues.
    pub operands: Vec<Access>,
    /// What is stored, one or more.
    pub outputs: Vec<Output>,
    /// The place in the source model, that of the anchor; may be empty.
    pub origin: String,
}

impl Region {
    /// How many operands the anchor reads.
    pub fn anchor_operands(&self) -> usize {
        match &self.anchor {
            Anchor::Pointwise => 0,
            Anchor::Statistics { .. } | Anchor::MergeMoments { .. } => 1,
            Anchor::Op { operands, .. } => *operands,
        }
    }

    /// The type of what the anchor computes; `None` if it computes nothing.
    pub fn anchor_type(&self) -> Option<TensorType> {
        let inferred = self.infer_anchor();
        inferred.expect("what lowering took was well typed")
    }

    /// The same of a region that may break rules: its anchor has its operands, but may not take
    /// them.
    ///
    /// # Errors
    /// When the operator does not take the types of its operands.
    pub(crate) fn infer_anchor(&self) -> Result<Option<TensorType>, Violation> {
        let operands = self.operands[..self.anchor_operands()].iter();
        let types: Vec<TensorType> = operands.map(Access::ty).collect();
        Ok(match &self.anchor {
            Anchor::Pointwise => None,
            Anchor::Op { op, .. } => Some(op.infer(&types)?),
            Anchor::Statistics { groups, .. } | Anchor::MergeMoments { groups, .. } => {
                let batch = self.operands[0].shape.first().copied().unwrap_or(1);
                let dtype = types[0].dtype.accumulator();
                Some(TensorType::new(dtype, [batch, *groups, 2]))
            }
        })
    }

    /// The buffers it reads, each once, in the order of the operands.
    pub fn reads(&self) -> Vec<Buffer> {
        let mut buffers = Vec::new();
        for piece in self.operands.iter().flat_map(|operand| &operand.pieces) {
            if !buffers.contains(&piece.buffer) {
                buffers.push(piece.buffer);
            }
        }
        buffers
    }

    /// The buffers it stores, in order.
    pub fn stores(&self) -> Vec<Buffer> {
        let stored = |output: &Output| [Some(output.buffer), output.moments];
        self.outputs.iter().flat_map(stored).flatten().collect()
    }
}

/// A buffer whose elements are those of its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The buffer `[elements]`, which no region stores.
    pub whole: Buffer,
    /// Its parts `[part elements]` in their order, each stored by a region and part of nothing
    /// else.
    pub parts: Vec<Buffer>,
}

/// A function as regions, in an order in which buffers are stored before they are read.
#[derive(Debug, Clone, PartialEq)]
pub struct Regions {
    /// The function's name.
    pub name: String,
    /// The buffers; a [`Buffer`] is a position in this list.
    pub buffers: Vec<BufferData>,
    /// The regions; a [`RegionId`] is a position in this list.
    pub regions: Vec<Region>,
    /// Buffers that are made of others, which lie in them.
    pub joined: Vec<Joined>,
    /// The results with their names, in order.
    pub results: Vec<(String, Buffer)>,
}

impl Regions {
    /// What is known of a buffer.
    ///
    /// # Panics
    /// When it is of another function.
    pub fn buffer(&self, buffer: Buffer) -> &BufferData {
        &self.buffers[buffer.0 as usize]
    }

    /// The buffers of parameters, in order.
    pub fn params(&self) -> impl Iterator<Item = (Buffer, &Param)> {
        let buffers = self.buffers.iter().enumerate();
        buffers.filter_map(|(number, data)| match &data.content {
            Content::Param(param) => Some((Buffer(number as u32), param)),
            Content::Constant(_) | Content::Computed => None,
        })
    }

    /// The elements of constant buffers, in the order of the buffers: what the text leaves out.
    pub fn constants(&self) -> Vec<&Tensor> {
        let buffers = self.buffers.iter();
        let constants = buffers.filter_map(|data| match &data.content {
            Content::Constant(tensor) => Some(tensor),
            Content::Param(_) | Content::Computed => None,
        });
        constants.collect()
    }

    /// The regions with their ids, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (RegionId, &Region)> {
        let regions = self.regions.iter().enumerate();
        regions.map(|(index, region)| (RegionId(index as u32), region))
    }

    /// The element types of an output's nodes, in order.
    pub fn node_types(&self, region: &Region, output: &Output) -> Vec<DType> {
        let mut types: Vec<DType> = Vec::with_capacity(output.nodes.len());
        for node in &output.nodes {
            types.push(match node {
                Node::Anchor(_) => {
                    let ty = region.anchor_type();
                    ty.expect("an epilogue reads an anchor that computes").dtype
                }
                Node::Read(operand) => region.operands[*operand].dtype,
                Node::Scalar(tensor) => tensor.dtype(),
                Node::Apply(op, operands) => {
                    let shape = || output.domain.iter().copied();
                    let operands = operands.iter().map(|&operand| types[operand]);
                    let operands = operands.map(|dtype| TensorType::new(dtype, shape()));
                    let ty = op.infer(&operands.collect::<Vec<_>>());
                    ty.expect("what lowering took was well typed").dtype
                }
            });
        }
        types
    }
}
