//! Losses on the results of a network, with all their gradients.
//!
//! Takes a function of known sizes, gives one that computes a loss and what it changes by with
//! each input and each weight. It steps nowhere: optimisers do.

use compiler::graph::autodiff::{GradientError, backward};
use compiler::graph::{Builder, Func, GraphError, Role, Value};
use compiler::ops::{Cast, Dot, Mul, Sub};
use compiler::value::tensor::{Tensor, Values};
use thiserror::Error;

/// The name of the input that a loss compares with.
pub const TARGET: &str = "target";

/// Why a function has no loss.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum LossError {
    /// Its first result cannot be compared with anything.
    #[error("{func:?} gives {found}, wanted a floating-point tensor of known sizes first")]
    Result {
        /// The function.
        func: String,
        /// Its first result.
        found: String,
    },
    /// It cannot be differentiated.
    #[error(transparent)]
    Gradient(#[from] GradientError),
    /// It cannot be built.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

/// The mean of the squares of `first result − target`, and its gradients.
///
/// The function takes what `func` takes and an input [`TARGET`] of the type of the first result
/// of `func`; it gives `loss`, a scalar, then `grad.<name>` for every floating-point input and
/// every floating-point weight, of their types.
///
/// # Errors
/// When sizes of `func` are symbols, it has an input [`TARGET`] already, or one of its operators
/// has no gradient.
pub fn mean_squared_error(func: &Func) -> Result<Func, LossError> {
    let mut func = func.clone();
    let results = func.take_results();
    let first = results.first().map(|(_, value)| func.ty(*value).clone());
    let ty = match &first {
        Some(ty) if ty.dtype.is_float() && ty.extents().is_some() => ty.clone(),
        _ => {
            let found = first.map_or("nothing".to_owned(), |ty| ty.to_string());
            let func = func.name().to_owned();
            return Err(LossError::Result { func, found });
        }
    };
    let params = [Role::Input, Role::Weight].map(|role| differentiable(&func, role));
    let wanted: Vec<(Value, String)> = params.concat();
    let elements = ty.elements().known().unwrap_or(0);
    let rank = ty.rank();
    let mut builder = Builder::resume(func);
    builder.at("loss");
    let target = builder.input(TARGET, ty.clone())?;
    let off = builder.push(Sub, &[results[0].1, target])?;
    let dtype = ty.dtype.accumulator();
    let off = match dtype == ty.dtype {
        true => off,
        false => builder.push(Cast { dtype }, &[off])?,
    };
    let (axes, keep) = ((0..rank).collect(), false);
    let sum = builder.push(Dot { axes, keep }, &[off, off])?;
    let share = Values::Float(vec![1.0 / elements as f64]);
    let share = builder.constant(Tensor::from_values(dtype, &[], &share))?;
    let loss = builder.push(Mul, &[sum, share])?;
    builder.result("loss", loss)?;
    let values: Vec<Value> = wanted.iter().map(|(value, _)| *value).collect();
    let gradients = backward(&mut builder, loss, &values)?;
    for ((_, name), gradient) in wanted.iter().zip(gradients) {
        builder.result(&format!("grad.{name}"), gradient)?;
    }
    Ok(builder.finish())
}

/// The floating-point parameters of a role, with their names.
fn differentiable(func: &Func, role: Role) -> Vec<(Value, String)> {
    let params = func.params(role);
    let floats = params.filter(|(.., ty)| ty.dtype.is_float());
    floats
        .map(|(value, name, _)| (value, name.to_owned()))
        .collect()
}
