//! The operators of the graph IR: one file each, one line in the list below.
//!
//! A file holds all that an operator is: its meaning as a formula, operands, result type,
//! numbered constraints, gradient, cost, the oracle's plain loops and the tolerance that f32
//! implementations must meet. Nothing here knows a file format, a model or a machine.

use thiserror::Error;

use crate::dim::{Bindings, Dim};
use crate::eval::{Array, Fault};
use crate::graph::TensorType;
use crate::tensor::Values;

pub mod add;
pub mod argmax;
pub(crate) mod attribute;
pub mod broadcast;
pub mod concat;
pub mod constant;
pub mod cumsum;
pub mod gather;
pub mod gather_nd;
pub mod iota;
pub mod matmul;
pub(crate) mod movement;
pub mod pad;
pub(crate) mod pointwise;
pub mod reduce_max;
pub mod reduce_mean;
pub mod reduce_sum;
pub(crate) mod reduction;
pub mod reshape;
pub mod scatter_nd;
pub(crate) mod shape;
pub mod silu;
pub mod slice;
pub mod transpose;
pub mod trilu;

pub use add::Add;
pub use argmax::Argmax;
pub use attribute::{Attribute, AttributeError, Attributes, Field};
pub use broadcast::Broadcast;
pub use concat::Concat;
pub use constant::Constant;
pub use cumsum::Cumsum;
pub use gather::Gather;
pub use gather_nd::GatherNd;
pub use iota::Iota;
pub use matmul::Matmul;
pub use pad::{Pad, PadMode};
pub use reduce_max::ReduceMax;
pub use reduce_mean::ReduceMean;
pub use reduce_sum::ReduceSum;
pub use reshape::Reshape;
pub use scatter_nd::{ScatterNd, ScatterReduction};
pub use silu::Silu;
pub use slice::Slice;
pub use transpose::Transpose;
pub use trilu::Trilu;

operators! { Add, Argmax, Broadcast, Concat, Constant, Cumsum, Gather, GatherNd, Iota, Matmul, Pad, ReduceMax, ReduceMean, ReduceSum, Reshape, ScatterNd, Silu, Slice, Transpose, Trilu }

/// What an operator answers about itself. Its gradient rule and its lowering become members
/// here, so that a file that lacks one does not compile.
pub trait Operator: Attributes {
    /// The name in the text form: the name of its file.
    const NAME: &'static str;

    /// The fewest and the most operands; optional ones are left out at the end.
    const OPERANDS: (usize, usize);

    /// The largest error of an f32 implementation, relative to the largest magnitude of the
    /// result. A value above 1e-5 needs its reason beside it.
    const TOLERANCE: f64;

    /// The type of the result.
    ///
    /// # Errors
    /// The first constraint that does not hold.
    fn infer(&self, operands: &[TensorType]) -> Result<TensorType, Violation>;

    /// The oracle: the operator's meaning in plain loops and 64-bit arithmetic. Operands and
    /// result are row-major; their types hold what [`Operator::infer`] accepted.
    ///
    /// # Errors
    /// When the data (an index, a divisor) lies outside of the operator's domain.
    fn eval(&self, operands: &[&Array], result: &Extents) -> Result<Values, Fault>;

    /// Floating-point operations, counting a multiply-add as two.
    fn flops(&self, operands: &[TensorType], result: &TensorType) -> Dim {
        let _ = operands;
        result.elements()
    }
}

/// The concrete extents and element type of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extents {
    /// The element type.
    pub dtype: crate::DType,
    /// The extents, outermost first.
    pub shape: Vec<usize>,
}

impl Extents {
    /// The number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// A constraint of an operator that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("found {found}, wanted {wanted} ({constraint})")]
pub struct Violation {
    /// The constraint's number in the operator's documentation; `C0` is the operand count.
    pub constraint: &'static str,
    /// What was found.
    pub found: String,
    /// What was wanted.
    pub wanted: String,
}

impl Violation {
    /// A constraint that does not hold.
    pub fn new(constraint: &'static str, found: impl ToString, wanted: impl ToString) -> Violation {
        Violation {
            constraint,
            found: found.to_string(),
            wanted: wanted.to_string(),
        }
    }
}

/// Declares [`Op`] over the operators, sorted by name.
macro_rules! operators {
    ($($op:ident),* $(,)?) => {
        /// Any operator, with its attributes.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Op {
            $(#[doc = concat!("See [`struct@", stringify!($op), "`].")] $op($op)),*
        }

        $(impl From<$op> for Op {
            fn from(op: $op) -> Op {
                Op::$op(op)
            }
        })*

        /// The names of all operators, sorted.
        pub const NAMES: &[&str] = &[$(<$op as Operator>::NAME),*];

        impl Op {
            /// The operator of that name with these attributes; `None` for an unknown name.
            pub fn parse(
                name: &str,
                attributes: &[(String, Attribute)],
            ) -> Option<Result<Op, AttributeError>> {
                $(if name == <$op as Operator>::NAME {
                    return Some($op::from_attributes(attributes).map(Op::$op));
                })*
                None
            }

            /// The operator's name.
            pub fn name(&self) -> &'static str {
                match self { $(Op::$op(_) => <$op as Operator>::NAME),* }
            }

            /// See [`Operator::OPERANDS`].
            pub fn operands(&self) -> (usize, usize) {
                match self { $(Op::$op(_) => <$op as Operator>::OPERANDS),* }
            }

            /// See [`Operator::TOLERANCE`].
            pub fn tolerance(&self) -> f64 {
                match self { $(Op::$op(_) => <$op as Operator>::TOLERANCE),* }
            }

            /// The operator's attributes, in the order of their declaration.
            pub fn attributes(&self) -> Vec<(&'static str, Attribute)> {
                match self { $(Op::$op(op) => op.attributes()),* }
            }

            /// The operator with bound symbols replaced in its attributes.
            pub fn bind(&self, bindings: &Bindings) -> Op {
                let bound: Vec<_> = self
                    .attributes()
                    .into_iter()
                    .map(|(name, attribute)| (name.to_owned(), attribute.bind(bindings)))
                    .collect();
                match self {
                    $(Op::$op(_) => Op::$op(
                        $op::from_attributes(&bound).expect("binding keeps names and kinds"),
                    )),*
                }
            }

            /// See [`Operator::infer`]; also checks the number of operands (C0).
            ///
            /// # Errors
            /// The first constraint that does not hold.
            pub fn infer(&self, operands: &[TensorType]) -> Result<TensorType, Violation> {
                let (least, most) = self.operands();
                if operands.len() < least || operands.len() > most {
                    let found = format!("{} operands", operands.len());
                    return Err(Violation::new("C0", found, format!("{least} to {most}")));
                }
                match self { $(Op::$op(op) => op.infer(operands)),* }
            }

            /// See [`Operator::eval`].
            ///
            /// # Errors
            /// When the data lies outside of the operator's domain.
            pub fn eval(&self, operands: &[&Array], result: &Extents) -> Result<Values, Fault> {
                match self { $(Op::$op(op) => op.eval(operands, result)),* }
            }

            /// See [`Operator::flops`].
            pub fn flops(&self, operands: &[TensorType], result: &TensorType) -> Dim {
                match self { $(Op::$op(op) => op.flops(operands, result)),* }
            }
        }
    };
}
use operators;
