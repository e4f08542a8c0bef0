//! The operators of the graph IR: one file each, one line in the list below.
//!
//! A file holds all that an operator is: its meaning as a formula, operands, result type,
//! numbered constraints, gradient, cost, the oracle's plain loops and the tolerance that f32
//! implementations must meet. Nothing here knows a file format, a model or a machine.

use std::borrow::Borrow;

use crate::graph::TensorType;
use crate::value::array::{Array, Fault};
use crate::value::dim::{Bindings, Dim};
use crate::value::extents::Extents;
use crate::value::tensor::Values;

pub mod abs;
pub mod add;
pub mod and;
pub mod argmax;
pub mod attention;
pub mod attention_gradient;
pub mod attention_log_sum;
pub(crate) mod attention_scores;
pub(crate) mod attribute;
pub mod average_pool;
pub mod broadcast;
pub mod call;
pub mod cast;
pub mod ceil;
pub mod class;
pub mod concat;
pub mod constant;
pub mod conv;
pub mod conv_transpose;
pub mod conv_weight_gradient;
pub mod cos;
pub mod cumsum;
pub mod div;
pub mod dot;
pub mod elementary;
pub mod equal;
pub mod erf;
pub mod exp;
pub mod floor;
pub mod formula;
pub mod gather;
pub mod gather_nd;
pub mod geglu;
pub mod gelu;
pub mod group_norm;
pub mod group_statistics;
pub mod iota;
pub mod is_nan;
pub mod layer_norm;
pub mod less;
pub mod less_equal;
pub mod linear;
pub mod log;
pub mod matmul;
pub mod max;
pub mod min;
pub(crate) mod movement;
pub mod mul;
pub mod neg;
pub(crate) mod normalize;
pub mod not;
pub(crate) mod operator;
pub mod or;
pub mod pad;
pub(crate) mod pointwise;
pub mod pow;
pub mod reciprocal;
pub mod reduce_max;
pub mod reduce_mean;
pub mod reduce_sum;
pub(crate) mod reduction;
pub mod relu;
pub mod reshape;
pub mod reverse;
pub mod round;
pub mod scatter_nd;
pub mod select;
pub(crate) mod shape;
pub mod sigmoid;
pub mod silu;
pub mod sin;
pub mod slice;
pub mod softmax;
pub mod sqrt;
pub mod stop_gradient;
pub mod sub;
pub mod tanh;
pub mod transpose;
pub mod trilu;
pub mod upsample_nearest;
pub(crate) mod window;

pub use abs::Abs;
pub use add::Add;
pub use and::And;
pub use argmax::Argmax;
pub use attention::Attention;
pub use attention_gradient::AttentionGradient;
pub use attention_log_sum::AttentionLogSum;
pub use attribute::{Attribute, AttributeError, Attributes, Field};
pub use average_pool::AveragePool;
pub use broadcast::Broadcast;
pub use call::Call;
pub use cast::Cast;
pub use ceil::Ceil;
pub use class::Class;
pub use concat::Concat;
pub use constant::Constant;
pub use conv::Conv;
pub use conv_transpose::ConvTranspose;
pub use conv_weight_gradient::ConvWeightGradient;
pub use cos::Cos;
pub use cumsum::Cumsum;
pub use div::Div;
pub use dot::Dot;
pub use elementary::Pointwise;
pub use equal::Equal;
pub use erf::Erf;
pub use exp::Exp;
pub use floor::Floor;
pub use formula::{Application, Term};
pub use gather::Gather;
pub use gather_nd::GatherNd;
pub use geglu::Geglu;
pub use gelu::{Gelu, GeluForm};
pub use group_norm::GroupNorm;
pub use group_statistics::GroupStatistics;
pub use iota::Iota;
pub use is_nan::IsNan;
pub use layer_norm::LayerNorm;
pub use less::Less;
pub use less_equal::LessEqual;
pub use linear::Linear;
pub use log::Log;
pub use matmul::Matmul;
pub use max::Max;
pub use min::Min;
pub use movement::wrap_index;
pub use mul::Mul;
pub use neg::Neg;
pub use not::Not;
pub use operator::{Operator, Violation};
pub use or::Or;
pub use pad::{Pad, PadMode};
pub use pow::Pow;
pub use reciprocal::Reciprocal;
pub use reduce_max::ReduceMax;
pub use reduce_mean::ReduceMean;
pub use reduce_sum::ReduceSum;
pub use relu::Relu;
pub use reshape::Reshape;
pub use reverse::{Gradients, Reverse, RuleError};
pub use round::Round;
pub use scatter_nd::{ScatterNd, ScatterReduction};
pub use select::Select;
pub use sigmoid::Sigmoid;
pub use silu::Silu;
pub use sin::Sin;
pub use slice::Slice;
pub use softmax::Softmax;
pub use sqrt::Sqrt;
pub use stop_gradient::StopGradient;
pub use sub::Sub;
pub use tanh::Tanh;
pub use transpose::Transpose;
pub use trilu::Trilu;
pub use upsample_nearest::UpsampleNearest;

operators! {
    Abs,
    Add,
    And,
    Argmax,
    Attention,
    AttentionGradient,
    AttentionLogSum,
    AveragePool,
    Broadcast,
    Call,
    Cast,
    Ceil,
    Concat,
    Constant,
    Conv,
    ConvTranspose,
    ConvWeightGradient,
    Cos,
    Cumsum,
    Div,
    Dot,
    Equal,
    Erf,
    Exp,
    Floor,
    Gather,
    GatherNd,
    Geglu,
    Gelu,
    GroupNorm,
    GroupStatistics,
    Iota,
    IsNan,
    LayerNorm,
    Less,
    LessEqual,
    Linear,
    Log,
    Matmul,
    Max,
    Min,
    Mul,
    Neg,
    Not,
    Or,
    Pad,
    Pow,
    Reciprocal,
    ReduceMax,
    ReduceMean,
    ReduceSum,
    Relu,
    Reshape,
    Round,
    ScatterNd,
    Select,
    Sigmoid,
    Silu,
    Sin,
    Slice,
    Softmax,
    Sqrt,
    StopGradient,
    Sub,
    Tanh,
    Transpose,
    Trilu,
    UpsampleNearest,
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

            /// See [`Operator::CLASS`].
            pub fn class(&self) -> Class {
                match self { $(Op::$op(_) => <$op as Operator>::CLASS),* }
            }

            /// Whether it is of class [`Class::Pointwise`].
            pub fn is_pointwise(&self) -> bool {
                self.class() == Class::Pointwise
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
            pub fn infer(
                &self,
                operands: &[impl Borrow<TensorType>],
            ) -> Result<TensorType, Violation> {
                let (least, most) = self.operands();
                if operands.len() < least || operands.len() > most {
                    let found = format!("{} operands", operands.len());
                    return Err(Violation::new("C0", found, format!("{least} to {most}")));
                }
                let operands: Vec<&TensorType> = operands.iter().map(Borrow::borrow).collect();
                match self { $(Op::$op(op) => op.infer(&operands)),* }
            }

            /// See [`Operator::eval`].
            ///
            /// # Errors
            /// When the data lies outside of the operator's domain.
            pub fn eval(&self, operands: &[&Array], result: &Extents) -> Result<Values, Fault> {
                match self { $(Op::$op(op) => op.eval(operands, result)),* }
            }

            /// See [`Operator::pointwise`].
            pub fn pointwise(&self) -> Option<Pointwise> {
                match self { $(Op::$op(op) => op.pointwise()),* }
            }

            /// See [`Operator::formula`].
            pub fn formula(&self) -> Vec<Application> {
                match self { $(Op::$op(op) => op.formula()),* }
            }

            /// See [`Operator::gradient`].
            ///
            /// # Errors
            /// When the operator has no gradient with these attributes.
            pub(crate) fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
                match self { $(Op::$op(op) => op.gradient(at)),* }
            }

            /// See [`Operator::flops`].
            pub fn flops(&self, operands: &[TensorType], result: &TensorType) -> Dim {
                match self { $(Op::$op(op) => op.flops(operands, result)),* }
            }
        }
    };
}
use operators;
