//! What pointwise operators share: types by broadcasting, plain loops.
//!
//! Takes a function of one or two elements, gives inference and evaluation; the operators keep
//! their formulas in their own files.

use crate::graph::TensorType;
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::shape::{broadcast, broadcast_strides, each_index, offset, same_dtype};
use crate::ops::{Equal, Less, Select, Violation};
use crate::value::array::{Array, Fault};
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// Implements [`Operator`](crate::ops::Operator) for the elementary function of its name, of
/// floats (C1): from the operator's name, its tolerance and its gradient rule.
macro_rules! float_function {
    ($op:ident, $name:literal, $tolerance:literal, $gradient:expr $(,)?) => {
        $crate::ops::attribute::attributes!($op {});

        impl $crate::ops::Operator for $op {
            const NAME: &'static str = $name;
            const OPERANDS: (usize, usize) = (1, 1);
            const CLASS: $crate::ops::Class = $crate::ops::Class::Pointwise;
            const TOLERANCE: f64 = $tolerance;

            fn infer(
                &self,
                operands: &[&$crate::graph::TensorType],
            ) -> Result<$crate::graph::TensorType, $crate::ops::Violation> {
                $crate::ops::shape::float("C1", operands[0])?;
                Ok(operands[0].clone())
            }

            fn eval(
                &self,
                operands: &[&$crate::value::array::Array],
                _result: &$crate::value::extents::Extents,
            ) -> Result<$crate::value::tensor::Values, $crate::value::array::Fault> {
                let exact = $crate::ops::elementary::Elementary::$op.exact();
                Ok($crate::ops::pointwise::map_floats(operands[0], exact))
            }

            fn pointwise(&self) -> Option<$crate::ops::Pointwise> {
                let function = $crate::ops::elementary::Elementary::$op;
                Some($crate::ops::Pointwise::Unary(function))
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
pub(crate) use float_function;

/// Implements [`Operator`](crate::ops::Operator) for the arithmetic function of its name, of two
/// operands of one type (C1) that broadcast (C2) and are numeric (C3): from the operator's name,
/// its tolerance, its meaning for integers and its gradient rule.
macro_rules! arithmetic_function {
    ($op:ident, $name:literal, $tolerance:literal, $integers:expr, $gradient:expr $(,)?) => {
        $crate::ops::attribute::attributes!($op {});

        impl $crate::ops::Operator for $op {
            const NAME: &'static str = $name;
            const OPERANDS: (usize, usize) = (2, 2);
            const CLASS: $crate::ops::Class = $crate::ops::Class::Pointwise;
            const TOLERANCE: f64 = $tolerance;

            fn infer(
                &self,
                operands: &[&$crate::graph::TensorType],
            ) -> Result<$crate::graph::TensorType, $crate::ops::Violation> {
                let ty = $crate::ops::pointwise::infer_binary(operands)?;
                $crate::ops::shape::numeric("C3", &ty)?;
                Ok(ty)
            }

            fn eval(
                &self,
                operands: &[&$crate::value::array::Array],
                result: &$crate::value::extents::Extents,
            ) -> Result<$crate::value::tensor::Values, $crate::value::array::Fault> {
                let exact = $crate::ops::elementary::Arithmetic::$op.exact();
                $crate::ops::pointwise::arithmetic(operands, result, exact, $integers)
            }

            fn pointwise(&self) -> Option<$crate::ops::Pointwise> {
                let function = $crate::ops::elementary::Arithmetic::$op;
                Some($crate::ops::Pointwise::Binary(function))
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
pub(crate) fn arithmetic(
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
