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

pub use attribute::{Attribute, AttributeError, Attributes, Field};
pub use class::Class;
pub use elementary::Pointwise;
pub use formula::{Application, Term};
pub use gelu::GeluForm;
pub use movement::wrap_index;
pub use operator::{Operator, Violation};
pub use pad::PadMode;
pub use reverse::{Gradients, Reverse, RuleError};
pub use scatter_nd::ScatterReduction;

operators! {
    abs::Abs,
    add::Add,
    and::And,
    argmax::Argmax,
    attention::Attention,
    attention_gradient::AttentionGradient,
    attention_log_sum::AttentionLogSum,
    average_pool::AveragePool,
    broadcast::Broadcast,
    call::Call,
    cast::Cast,
    ceil::Ceil,
    concat::Concat,
    constant::Constant,
    conv::Conv,
    conv_transpose::ConvTranspose,
    conv_weight_gradient::ConvWeightGradient,
    cos::Cos,
    cumsum::Cumsum,
    div::Div,
    dot::Dot,
    equal::Equal,
    erf::Erf,
    exp::Exp,
    floor::Floor,
    gather::Gather,
    gather_nd::GatherNd,
    geglu::Geglu,
    gelu::Gelu,
    group_norm::GroupNorm,
    group_statistics::GroupStatistics,
    iota::Iota,
    is_nan::IsNan,
    layer_norm::LayerNorm,
    less::Less,
    less_equal::LessEqual,
    linear::Linear,
    log::Log,
    matmul::Matmul,
    max::Max,
    min::Min,
    mul::Mul,
    neg::Neg,
    not::Not,
    or::Or,
    pad::Pad,
    pow::Pow,
    reciprocal::Reciprocal,
    reduce_max::ReduceMax,
    reduce_mean::ReduceMean,
    reduce_sum::ReduceSum,
    relu::Relu,
    reshape::Reshape,
    round::Round,
    scatter_nd::ScatterNd,
    select::Select,
    sigmoid::Sigmoid,
    silu::Silu,
    sin::Sin,
    slice::Slice,
    softmax::Softmax,
    sqrt::Sqrt,
    stop_gradient::StopGradient,
    sub::Sub,
    tanh::Tanh,
    transpose::Transpose,
    trilu::Trilu,
    upsample_nearest::UpsampleNearest,
}

/// Exports the operators, sorted by name, and declares [`Op`] over them.
macro_rules! operators {
    ($($file:ident::$op:ident),* $(,)?) => {
        $(pub use $file::$op;)*

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
                let found = format_args!("{} operands", operands.len());
                let holds = (least..=most).contains(&operands.len());
                Violation::unless(holds, "C0", found, format_args!("{least} to {most}"))?;
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
