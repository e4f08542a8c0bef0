//! What pointwise operators share: types by broadcasting, plain loops.
//!
//! Takes a function of one or two elements, gives inference and evaluation; the operators keep
//! their formulas in their own files.

use crate::graph::TensorType;
use crate::ops::elementary::{Arithmetic, Elementary};
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::shape::{
    broadcast, broadcast_strides, each_index, float, numeric, offset, same_dtype, truth,
};
use crate::ops::{Equal, Less, Pointwise, Select, Violation};
use crate::value::array::{Array, Fault};
use crate::value::dtype::DType;
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// What a pointwise operator without attributes computes from each element, or each pair.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Function {
    /// A function of a float (C1).
    Float(Elementary),
    /// A function of a number (C1), given for floats and for integers.
    Number(Elementary, fn(i64) -> i64),
    /// A function of two numbers (C3), given for floats and for integers.
    Arithmetic(Arithmetic, fn(i64, i64) -> Result<i64, Fault>),
    /// A comparison of two numbers (C3), given for floats and for integers.
    Comparison(fn(f64, f64) -> bool, fn(i64, i64) -> bool),
    /// A function of two truth values (C3).
    Logic(fn(bool, bool) -> bool),
}

impl Function {
    /// The number of operands.
    pub(crate) const fn operands(self) -> usize {
        match self {
            Function::Float(_) | Function::Number(_, _) => 1,
            Function::Arithmetic(_, _) | Function::Comparison(_, _) | Function::Logic(_) => 2,
        }
    }

    pub(crate) fn infer(self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        let mut ty = match self.operands() {
            1 => operands[0].clone(),
            _ => infer_binary(operands)?,
        };
        match self {
            Function::Float(_) => float("C1", &ty)?,
            Function::Number(_, _) => numeric("C1", &ty)?,
            Function::Arithmetic(_, _) => numeric("C3", &ty)?,
            Function::Comparison(_, _) => {
                numeric("C3", &ty)?;
                ty.dtype = DType::Bool;
            }
            Function::Logic(_) => truth("C3", &ty)?,
        }
        Ok(ty)
    }

    pub(crate) fn eval(self, operands: &[&Array], result: &Extents) -> Result<Values, Fault> {
        match self {
            Function::Float(float) => Ok(map_floats(operands[0], float.exact())),
            Function::Number(float, int) => Ok(map_numbers(operands[0], float.exact(), int)),
            Function::Arithmetic(float, int) => arithmetic(operands, result, float.exact(), int),
            Function::Comparison(float, int) => compare(operands, result, float, int),
            Function::Logic(function) => {
                let (a, b) = (operands[0].truths(), operands[1].truths());
                zip(operands, result, |i, j| Ok(function(a[i], b[j]))).map(Values::Bool)
            }
        }
    }

    /// What a machine computes for it, as [`Operator::pointwise`](crate::ops::Operator::pointwise)
    /// says.
    pub(crate) fn pointwise(self) -> Option<Pointwise> {
        match self {
            Function::Float(float) | Function::Number(float, _) => Some(Pointwise::Unary(float)),
            Function::Arithmetic(float, _) => Some(Pointwise::Binary(float)),
            Function::Comparison(_, _) | Function::Logic(_) => None,
        }
    }
}

/// Implements [`Operator`](crate::ops::Operator) for a pointwise operator without attributes: from
/// its name, its tolerance, its [`Function`] and its gradient rule.
macro_rules! pointwise_operator {
    ($op:ident, $name:literal, $tolerance:literal, $function:expr, $gradient:expr $(,)?) => {
        $crate::ops::attribute::attributes!($op {});

        impl $op {
            const FUNCTION: $crate::ops::pointwise::Function = $function;
        }

        impl $crate::ops::Operator for $op {
            const NAME: &'static str = $name;
            const OPERANDS: (usize, usize) = {
                let count = $op::FUNCTION.operands();
                (count, count)
            };
            const CLASS: $crate::ops::Class = $crate::ops::Class::Pointwise;
            const TOLERANCE: f64 = $tolerance;

            fn infer(
                &self,
                operands: &[&$crate::graph::TensorType],
            ) -> Result<$crate::graph::TensorType, $crate::ops::Violation> {
                $op::FUNCTION.infer(operands)
            }

            fn eval(
                &self,
                operands: &[&$crate::value::array::Array],
                result: &$crate::value::extents::Extents,
            ) -> Result<$crate::value::tensor::Values, $crate::value::array::Fault> {
                $op::FUNCTION.eval(operands, result)
            }

            fn pointwise(&self) -> Option<$crate::ops::Pointwise> {
                $op::FUNCTION.pointwise()
            }

            fn gradient(
                &self,
                at: &mut $crate::ops::reverse::Reverse<'_>,
            ) -> $crate::ops::reverse::Gradients {
                let rule: fn(
                    &mut $crate::ops::reverse::Reverse<'_>,
                ) -> $crate::ops::reverse::Gradients = $gradient;
                rule(at)
            }
        }
    };
}
pub(crate) use pointwise_operator;

/// [`pointwise_operator`] for the elementary function of the operator's name.
macro_rules! float_function {
    ($op:ident, $name:literal, $tolerance:literal, $gradient:expr $(,)?) => {
        $crate::ops::pointwise::pointwise_operator!(
            $op,
            $name,
            $tolerance,
            $crate::ops::pointwise::Function::Float($crate::ops::elementary::Elementary::$op),
            $gradient
        );
    };
}
pub(crate) use float_function;

/// [`pointwise_operator`] for the arithmetic function of the operator's name, which `$integers`
/// computes for integers.
macro_rules! arithmetic_function {
    ($op:ident, $name:literal, $tolerance:literal, $integers:expr, $gradient:expr $(,)?) => {
        $crate::ops::pointwise::pointwise_operator!(
            $op,
            $name,
            $tolerance,
            $crate::ops::pointwise::Function::Arithmetic(
                $crate::ops::elementary::Arithmetic::$op,
                $integers
            ),
            $gradient
        );
    };
}
pub(crate) use arithmetic_function;

/// Applies `function` to every float.
pub(crate) fn map_floats(operand: &Array, function: impl Fn(f64) -> f64) -> Values {
    Values::Float(operand.floats().iter().map(|&x| function(x)).collect())
}

/// Applies a function to every float or every integer, as the type says.
///
/// # Panics
/// When the operand holds truth values: the operators' constraints exclude them.
pub(crate) fn map_numbers(
    operand: &Array,
    float: impl Fn(f64) -> f64,
    int: impl Fn(i64) -> i64,
) -> Values {
    match &operand.values {
        Values::Float(values) => Values::Float(values.iter().map(|&x| float(x)).collect()),
        Values::Int(values) => Values::Int(values.iter().map(|&x| int(x)).collect()),
        Values::Bool(_) => panic!("inferred as a numeric operand"),
    }
}

/// The type of an operator on two operands of one element type that broadcast (C1, C2).
pub(crate) fn infer_binary(operands: &[&TensorType]) -> Result<TensorType, Violation> {
    let dtype = same_dtype("C1", operands)?;
    let shape = broadcast("C2", &operands[0].shape, &operands[1].shape)?;
    Ok(TensorType { dtype, shape })
}

/// Applies a function of the elements' positions in both operands to every element of the
/// broadcast result.
pub(crate) fn zip<T>(
    operands: &[&Array],
    result: &Extents,
    mut function: impl FnMut(usize, usize) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let left = broadcast_strides(&operands[0].shape, &result.shape);
    let right = broadcast_strides(&operands[1].shape, &result.shape);
    let mut values = Vec::with_capacity(result.elements());
    let mut failed = None;
    each_index(&result.shape, |index| {
        match function(offset(index, &left), offset(index, &right)) {
            Ok(value) => values.push(value),
            Err(fault) => failed = Some(fault),
        }
    });
    match failed {
        Some(fault) => Err(fault),
        None => Ok(values),
    }
}

/// Applies arithmetic to floats, or to integers with wrapping or a fault, as the type says.
///
/// # Panics
/// When the operands are truth values: the operators' constraints exclude them.
fn arithmetic(
    operands: &[&Array],
    result: &Extents,
    float: impl Fn(f64, f64) -> f64,
    int: impl Fn(i64, i64) -> Result<i64, Fault>,
) -> Result<Values, Fault> {
    match (&operands[0].values, &operands[1].values) {
        (Values::Float(a), Values::Float(b)) => {
            zip(operands, result, |i, j| Ok(float(a[i], b[j]))).map(Values::Float)
        }
        (Values::Int(a), Values::Int(b)) => {
            zip(operands, result, |i, j| int(a[i], b[j])).map(Values::Int)
        }
        (_, _) => panic!("inferred as two operands of one numeric type"),
    }
}

/// Compares floats or integers, as the type says.
///
/// # Panics
/// When the operands are truth values: the operators' constraints exclude them.
pub(crate) fn compare(
    operands: &[&Array],
    result: &Extents,
    float: impl Fn(f64, f64) -> bool,
    int: impl Fn(i64, i64) -> bool,
) -> Result<Values, Fault> {
    match (&operands[0].values, &operands[1].values) {
        (Values::Float(a), Values::Float(b)) => {
            zip(operands, result, |i, j| Ok(float(a[i], b[j]))).map(Values::Bool)
        }
        (Values::Int(a), Values::Int(b)) => {
            zip(operands, result, |i, j| Ok(int(a[i], b[j]))).map(Values::Bool)
        }
        (_, _) => panic!("inferred as two operands of one numeric type"),
    }
}

/// The rule of the larger, or the smaller, of two operands: where they are equal, each gets half.
pub(crate) fn extreme_gradient(at: &mut Reverse<'_>, larger: bool) -> Gradients {
    let (a, b) = (at.operand(0), at.operand(1));
    let mut gradients = Vec::with_capacity(2);
    for (number, own, other) in [(0, a, b), (1, b, a)] {
        gradients.push(at.when(number, |at| {
            let order = if larger { [other, own] } else { [own, other] };
            let wins = at.push(Less, &order)?;
            let ties = at.push(Equal, &[own, other])?;
            let [zero, half, one] = [0.0, 0.5, 1.0].map(|number| at.number(number, own));
            let share = at.push(Select, &[ties, half?, zero?])?;
            let share = at.push(Select, &[wins, one?, share])?;
            at.product_to(at.cotangent, share, own)
        })?);
    }
    Ok(gradients)
}
