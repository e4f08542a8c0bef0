//! What gradient rules see and may do: one node of a function, and the builder that goes on
//! after it.
//!
//! Takes the operands of a node, its result and the gradient of a loss with respect to that
//! result; the operator's rule gives the gradients with respect to the operands, built of other
//! operators. Every size is known. It decides nothing: which nodes are visited is
//! [`autodiff`](crate::graph::autodiff)'s business.

use thiserror::Error;

use crate::graph::{Builder, GraphError, Node, TensorType, Value};
use crate::ops::{
    Add, Broadcast, Cast, Div, Dot, Mul, Neg, Op, Pad, PadMode, ReduceSum, Reshape, Slice, Sub,
    Transpose,
};
use crate::value::dim::Dim;
use crate::value::dtype::DType;
use crate::value::tensor::{Tensor, Values};

/// A gradient for each operand; `None` where none flows or none was wanted.
pub type Gradients = Result<Vec<Option<Value>>, RuleError>;

/// Why an operator's rule gives no gradient.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum RuleError {
    /// The rule built an ill-typed node: always our fault.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// There is no rule for this case.
    #[error("it has no gradient: {reason}")]
    Unsupported {
        /// Why not.
        reason: &'static str,
    },
}

/// A node that is differentiated.
#[derive(Debug)]
pub struct Reverse<'a> {
    pub(crate) builder: &'a mut Builder,
    /// The node.
    pub(crate) node: &'a Node,
    /// What the node defines.
    pub(crate) result: Value,
    /// The gradient with respect to the result.
    pub(crate) cotangent: Value,
    /// Whether the gradient with respect to each operand is wanted.
    pub(crate) wanted: &'a [bool],
}

impl Reverse<'_> {
    /// The operand of that number.
    pub(crate) fn operand(&self, number: usize) -> Value {
        self.node.operands[number]
    }

    /// How many operands the node has.
    pub(crate) fn operands(&self) -> usize {
        self.node.operands.len()
    }

    pub(crate) fn has_operand(&self, number: usize) -> bool {
        number < self.node.operands.len()
    }

    pub(crate) fn wants(&self, number: usize) -> bool {
        self.wanted.get(number) == Some(&true)
    }

    pub(crate) fn ty(&self, value: Value) -> &TensorType {
        self.builder.ty(value)
    }

    /// The extents of a value.
    pub(crate) fn shape(&self, value: Value) -> Vec<usize> {
        let extents = self.ty(value).extents();
        extents.expect("only functions of known sizes are differentiated")
    }

    pub(crate) fn push(
        &mut self,
        op: impl Into<Op>,
        operands: &[Value],
    ) -> Result<Value, RuleError> {
        Ok(self.builder.push(op, operands)?)
    }

    /// No operand has a gradient.
    pub(crate) fn none(&self) -> Gradients {
        Ok(vec![None; self.node.operands.len()])
    }

    /// The rule does not cover this.
    pub(crate) fn unsupported<T>(&self, reason: &'static str) -> Result<T, RuleError> {
        Err(RuleError::Unsupported { reason })
    }

    /// The gradient of operand `number`, computed if it is wanted.
    pub(crate) fn when(
        &mut self,
        number: usize,
        rule: impl FnOnce(&mut Self) -> Result<Value, RuleError>,
    ) -> Result<Option<Value>, RuleError> {
        match self.wants(number) {
            true => rule(self).map(Some),
            false => Ok(None),
        }
    }

    /// The rule of an operator with one operand.
    pub(crate) fn unary(
        &mut self,
        rule: impl FnOnce(&mut Self) -> Result<Value, RuleError>,
    ) -> Gradients {
        Ok(vec![self.when(0, rule)?])
    }

    pub(crate) fn add(&mut self, a: Value, b: Value) -> Result<Value, RuleError> {
        self.push(Add, &[a, b])
    }

    pub(crate) fn sub(&mut self, a: Value, b: Value) -> Result<Value, RuleError> {
        self.push(Sub, &[a, b])
    }

    pub(crate) fn mul(&mut self, a: Value, b: Value) -> Result<Value, RuleError> {
        self.push(Mul, &[a, b])
    }

    pub(crate) fn div(&mut self, a: Value, b: Value) -> Result<Value, RuleError> {
        self.push(Div, &[a, b])
    }

    pub(crate) fn neg(&mut self, a: Value) -> Result<Value, RuleError> {
        self.push(Neg, &[a])
    }

    /// A number in the element type of `like`.
    pub(crate) fn number(&mut self, number: f64, like: Value) -> Result<Value, RuleError> {
        self.tensor(self.ty(like).dtype, &[], vec![number])
    }

    /// A constant of floats.
    pub(crate) fn tensor(
        &mut self,
        dtype: DType,
        shape: &[usize],
        values: Vec<f64>,
    ) -> Result<Value, RuleError> {
        let tensor = Tensor::from_values(dtype, shape, &Values::Float(values));
        Ok(self.builder.constant(tensor)?)
    }

    pub(crate) fn scaled(&mut self, a: Value, factor: f64) -> Result<Value, RuleError> {
        if factor == 1.0 {
            return Ok(a);
        }
        let factor = self.number(factor, a)?;
        self.mul(a, factor)
    }

    /// `number − a`.
    pub(crate) fn number_minus(&mut self, number: f64, a: Value) -> Result<Value, RuleError> {
        let number = self.number(number, a)?;
        self.sub(number, a)
    }

    pub(crate) fn cast(&mut self, a: Value, dtype: DType) -> Result<Value, RuleError> {
        match self.ty(a).dtype == dtype {
            true => Ok(a),
            false => self.push(Cast { dtype }, &[a]),
        }
    }

    pub(crate) fn reshape(&mut self, a: Value, shape: &[usize]) -> Result<Value, RuleError> {
        if self.shape(a) == shape {
            return Ok(a);
        }
        let shape = dims(shape);
        self.push(Reshape { shape }, &[a])
    }

    pub(crate) fn broadcast(&mut self, a: Value, shape: &[usize]) -> Result<Value, RuleError> {
        if self.shape(a) == shape {
            return Ok(a);
        }
        let shape = dims(shape);
        self.push(Broadcast { shape }, &[a])
    }

    pub(crate) fn transpose(
        &mut self,
        a: Value,
        permutation: &[usize],
    ) -> Result<Value, RuleError> {
        let permutation = permutation.to_vec();
        self.push(Transpose { permutation }, &[a])
    }

    /// The last two axes exchanged.
    pub(crate) fn transposed(&mut self, a: Value) -> Result<Value, RuleError> {
        let rank = self.ty(a).rank();
        let mut permutation: Vec<usize> = (0..rank).collect();
        permutation.swap(rank - 2, rank - 1);
        self.transpose(a, &permutation)
    }

    /// `length` elements from `start` on, along `axis`.
    pub(crate) fn slice(
        &mut self,
        a: Value,
        axis: usize,
        start: usize,
        length: usize,
    ) -> Result<Value, RuleError> {
        if self.shape(a)[axis] == length {
            return Ok(a);
        }
        let (start, length) = (Dim::from(start), Dim::from(length));
        let step = 1;
        self.push(
            Slice {
                axis,
                start,
                length,
                step,
            },
            &[a],
        )
    }

    /// Zeros around `a`: `before` and `after` elements on each axis.
    pub(crate) fn pad(
        &mut self,
        a: Value,
        before: Vec<i64>,
        after: Vec<i64>,
    ) -> Result<Value, RuleError> {
        if before.iter().chain(&after).all(|&width| width == 0) {
            return Ok(a);
        }
        let mode = PadMode::Constant;
        self.push(
            Pad {
                before,
                after,
                mode,
            },
            &[a],
        )
    }

    pub(crate) fn zeros(&mut self, like: Value) -> Result<Value, RuleError> {
        let zero = self.number(0.0, like)?;
        let shape = self.shape(like);
        self.broadcast(zero, &shape)
    }

    pub(crate) fn sum(&mut self, a: Value, axes: &[usize], keep: bool) -> Result<Value, RuleError> {
        let axes = axes.to_vec();
        self.push(ReduceSum { axes, keep }, &[a])
    }

    /// `Σ a · b` over `axes`.
    pub(crate) fn dot(
        &mut self,
        a: Value,
        b: Value,
        axes: &[usize],
        keep: bool,
    ) -> Result<Value, RuleError> {
        let axes = axes.to_vec();
        self.push(Dot { axes, keep }, &[a, b])
    }

    /// The gradient of something that was stretched from the shape of `operand` to that of `a`:
    /// the sum over what repeats it.
    pub(crate) fn sum_to(&mut self, a: Value, operand: Value) -> Result<Value, RuleError> {
        let (from, to) = (self.shape(a), self.shape(operand));
        let axes = stretched(&to, &from);
        let summed = match axes.is_empty() {
            true => a,
            false => self.sum(a, &axes, false)?,
        };
        self.reshape(summed, &to)
    }

    /// `a · b`, both stretched to the result's shape, summed to the shape of `operand`.
    pub(crate) fn product_to(
        &mut self,
        a: Value,
        b: Value,
        operand: Value,
    ) -> Result<Value, RuleError> {
        let (whole, to) = (self.shape(self.result), self.shape(operand));
        let axes = stretched(&to, &whole);
        if axes.is_empty() {
            let product = self.mul(a, b)?;
            return self.reshape(product, &to);
        }
        let (a, b) = (self.broadcast(a, &whole)?, self.broadcast(b, &whole)?);
        let summed = self.dot(a, b, &axes, false)?;
        self.reshape(summed, &to)
    }
}

/// The axes of `to` along which NumPy's rule repeats a tensor of shape `from`.
fn stretched(from: &[usize], to: &[usize]) -> Vec<usize> {
    let missing = to.len() - from.len();
    let repeats = |&axis: &usize| match axis.checked_sub(missing) {
        Some(own) => from[own] == 1 && to[axis] != 1,
        None => to[axis] != 1,
    };
    (0..to.len()).filter(repeats).collect()
}

/// Known extents.
pub(crate) fn dims(shape: &[usize]) -> Vec<Dim> {
    shape.iter().map(|&extent| Dim::from(extent)).collect()
}
