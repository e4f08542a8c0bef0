//! Whether two functions compute the same, on made-up data.
//!
//! Takes functions of known sizes with equal parameters, gives the first difference.

use std::collections::BTreeMap;

use compiler::DType;
use compiler::graph::eval::{EvalError, eval};
use compiler::graph::{Func, Role, TensorType};
use compiler::passes::Hoisted;
use compiler::value::array::{Array, Precision};
use compiler::value::tensor::{Tensor, Values};

/// Tensors by their names.
pub(crate) type Named = BTreeMap<String, Tensor>;

/// Compares the results of both functions; `tolerance` is relative to the largest magnitude, or to
/// 1 where all is smaller: differences cancel to mere rounding errors. Data outside of the domain
/// of `before` excuses everything.
pub(crate) fn difference(
    before: &Func,
    after: &Func,
    precision: Precision,
    tolerance: f64,
) -> Option<String> {
    let compute = |inputs: &Named, weights: &Named| eval(after, inputs, weights, precision);
    difference_of(before, compute, precision, tolerance)
}

/// The same for anything that computes results of the parameters of `before`.
pub(crate) fn difference_of(
    before: &Func,
    after: impl Fn(&Named, &Named) -> Result<Vec<(String, Array)>, EvalError>,
    precision: Precision,
    tolerance: f64,
) -> Option<String> {
    let (inputs, weights) = (data(before, Role::Input), data(before, Role::Weight));
    let wanted = eval(before, &inputs, &weights, precision).ok()?;
    let found = match after(&inputs, &weights) {
        Ok(found) => found,
        Err(error) => return Some(error.to_string()),
    };
    for ((name, wanted), (other, found)) in wanted.iter().zip(&found) {
        let equal = name == other
            && wanted.shape == found.shape
            && near(&wanted.values, &found.values, tolerance);
        if !equal {
            return Some(format!("{name:?}: found {found:?}, wanted {wanted:?}"));
        }
    }
    (wanted.len() != found.len()).then(|| "another number of results".to_owned())
}

/// The first difference between a function and what was hoisted out of it, the rest fed with that.
pub(crate) fn hoisted_difference(
    before: &Func,
    after: &Hoisted,
    precision: Precision,
) -> Option<String> {
    let compute = |inputs: &Named, weights: &Named| {
        let mut inputs = inputs.clone();
        let (prologue, body) = (&after.prologue, &after.body);
        let hoisted = eval(prologue, &inputs, weights, precision)?;
        for ((name, array), (_, value)) in hoisted.into_iter().zip(prologue.results()) {
            let dtype = prologue.ty(*value).dtype;
            let tensor = Tensor::from_values(dtype, &array.shape, &array.values);
            inputs.insert(name, tensor);
        }
        eval(body, &inputs, weights, precision)
    };
    difference_of(before, compute, precision, 0.0)
}

/// Made-up values for all parameters of a role.
fn data(func: &Func, role: Role) -> BTreeMap<String, Tensor> {
    let params = func.params(role);
    params
        .map(|(value, name, ty)| (name.to_owned(), made_up(ty, u64::from(value.0))))
        .collect()
}

fn made_up(ty: &TensorType, seed: u64) -> Tensor {
    let shape = ty.extents().expect("known sizes");
    let count = shape.iter().product::<usize>() as u64;
    let draw = |index: u64| {
        let mixed = (index + 1 + (seed << 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40
    };
    let draws = (0..count).map(draw);
    let values = match ty.dtype {
        DType::Bool => Values::Bool(draws.map(|d| d % 2 == 1).collect()),
        DType::U8 | DType::I8 | DType::I32 | DType::I64 => {
            Values::Int(draws.map(|d| (d % 3) as i64).collect())
        }
        DType::F16 | DType::BF16 | DType::F32 | DType::F64 => {
            let unit = f64::from(1u32 << 24);
            Values::Float(draws.map(|d| d as f64 / unit * 4.0 - 2.0).collect())
        }
    };
    Tensor::from_values(ty.dtype, &shape, &values)
}

fn near(wanted: &Values, found: &Values, tolerance: f64) -> bool {
    let (Values::Float(wanted), Values::Float(found)) = (wanted, found) else {
        return wanted == found;
    };
    let finite = wanted.iter().filter(|value| value.is_finite());
    let largest = finite.fold(1.0, |largest: f64, value| largest.max(value.abs()));
    let near = |(a, b): (&f64, &f64)| {
        let exact = a == b || (a.is_nan() && b.is_nan());
        exact || (a - b).abs() <= tolerance * largest
    };
    wanted.len() == found.len() && wanted.iter().zip(found).all(near)
}
