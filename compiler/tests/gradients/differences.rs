//! Gradients beside central differences of the oracle.
//!
//! Takes a node as text, or a function; gives the first gradient that is not what differences of
//! a loss say, with how far it is off.

use std::collections::BTreeMap;

use compiler::graph::autodiff::backward;
use compiler::graph::eval::eval;
use compiler::graph::text::parse;
use compiler::graph::verify::verify;
use compiler::graph::{Builder, Func, Module, Role, TensorType, Value};
use compiler::ops::{Add, Dot};
use compiler::value::array::{Array, Precision};
use compiler::value::tensor::{Tensor, Values};

/// Half the distance of the two points whose difference is taken: its square, the error of a
/// central difference, is far below the tolerance, and far above rounding.
const STEP: f64 = 1e-4;

/// Largest error, relative to the norm of the gradient or to 1.
const TOLERANCE: f64 = 1e-6;

/// Tensors by name.
pub(crate) type Named = BTreeMap<String, Tensor>;

/// Floating-point results by name.
pub(crate) type Floats = BTreeMap<String, Vec<f64>>;

/// Compares the gradients of one node.
pub(crate) fn check(node: &str, operands: &[&str]) -> Result<(), String> {
    let mut text = "func f {\n".to_owned();
    let mut inputs = Named::new();
    for (number, operand) in operands.iter().enumerate() {
        let ty = operand.trim_start_matches(['+', '0']);
        text += &format!("%{number} = input \"x{number}\" : {ty}\n");
    }
    text += &format!(
        "%{} = {node}\nreturn \"r\" %{}\n}}",
        operands.len(),
        operands.len()
    );
    let named = |error: &dyn std::fmt::Display| format!("{node} of {operands:?}: {error}");
    let module = parse(&text).map_err(|error| named(&error))?;
    let func = &module.funcs[0];
    for (value, name, ty) in func.params(Role::Input) {
        let operand = operands[value.0 as usize];
        let tensor = made_up(ty, value.0, operand.starts_with('+'));
        let tensor = match operand.starts_with('0') {
            true => with_zero(&tensor),
            false => tensor,
        };
        inputs.insert(name.to_owned(), tensor);
    }
    let whole = differentiated(func).map_err(|error| named(&error))?;
    let loss = |inputs: &Named| evaluate(&whole, inputs, &Named::new());
    let found = loss(&inputs).map_err(|error| named(&error))?;
    compare(func, &loss, &found, &inputs).map_err(|error| named(&error))
}

/// `func` with a loss, the sum of all its float results with made-up weights, and the gradients of
/// the loss with respect to every float input.
pub(crate) fn differentiated(func: &Func) -> Result<Func, String> {
    let mut builder = Builder::resume(func.clone());
    let mut built = || {
        let results: Vec<Value> = func.results().iter().map(|(_, value)| *value).collect();
        let mut loss = None;
        for value in results.into_iter().filter(|&v| func.ty(v).dtype.is_float()) {
            let ty = builder.ty(value).clone();
            let weights = builder.constant(made_up(&ty, 97 + value.0, false))?;
            let axes = (0..ty.rank()).collect();
            let term = builder.push(Dot { axes, keep: false }, &[value, weights])?;
            loss = Some(match loss {
                Some(loss) => builder.push(Add, &[loss, term])?,
                None => term,
            });
        }
        Ok::<_, compiler::graph::GraphError>(loss)
    };
    let Some(loss) = built().map_err(|error| error.to_string())? else {
        return Err("it has no floating-point result".to_owned());
    };
    builder
        .result("loss", loss)
        .map_err(|error| error.to_string())?;
    let params = func.params(Role::Input);
    let wanted: Vec<(Value, &str)> = params
        .filter(|(.., ty)| ty.dtype.is_float())
        .map(|(value, name, _)| (value, name))
        .collect();
    let values: Vec<Value> = wanted.iter().map(|(value, _)| *value).collect();
    let gradients = backward(&mut builder, loss, &values).map_err(|error| error.to_string())?;
    for ((_, name), gradient) in wanted.iter().zip(gradients) {
        let named = builder.result(&format!("grad.{name}"), gradient);
        named.map_err(|error| error.to_string())?;
    }
    let func = builder.finish();
    let funcs = vec![func.clone()];
    verify(Module { funcs }).map_err(|error| error.to_string())?;
    Ok(func)
}

/// Compares the results `grad.…` among `found` with differences of the result `loss`, which it
/// computes anew for moved inputs.
pub(crate) fn compare(
    func: &Func,
    loss: &dyn Fn(&Named) -> Result<Floats, String>,
    found: &Floats,
    inputs: &Named,
) -> Result<(), String> {
    for (_, name, ty) in func.params(Role::Input) {
        if !ty.dtype.is_float() {
            continue;
        }
        let found = &found[&format!("grad.{name}")];
        let wanted = differences(loss, inputs, name)?;
        let norm = wanted.iter().map(|x| x * x).sum::<f64>().sqrt().max(1.0);
        let off = found.iter().zip(&wanted).map(|(a, b)| (a - b) * (a - b));
        let error = off.sum::<f64>().sqrt() / norm;
        // Not a number is no small error.
        if error.is_nan() || error > TOLERANCE {
            return Err(format!(
                "the gradient of {name:?} is off by {error:.1e}: found {found:?}, wanted {wanted:?}"
            ));
        }
    }
    Ok(())
}

/// `(loss(x + step) − loss(x − step)) / (2 · step)` for every element of one input.
fn differences(
    loss: &dyn Fn(&Named) -> Result<Floats, String>,
    inputs: &Named,
    name: &str,
) -> Result<Vec<f64>, String> {
    let tensor = &inputs[name];
    let Values::Float(values) = tensor.values() else {
        return Err(format!("{name:?} is not floating-point"));
    };
    let at = |place: usize, step: f64| {
        let mut moved = values.clone();
        moved[place] += step;
        let moved = Tensor::from_values(tensor.dtype(), tensor.shape(), &Values::Float(moved));
        let mut inputs = inputs.clone();
        inputs.insert(name.to_owned(), moved);
        loss(&inputs).map(|results| results["loss"][0])
    };
    let difference = |place| Ok((at(place, STEP)? - at(place, -STEP)?) / (2.0 * STEP));
    (0..values.len()).map(difference).collect()
}

/// The floating-point results of a function, by name.
pub(crate) fn evaluate(func: &Func, inputs: &Named, weights: &Named) -> Result<Floats, String> {
    let results = eval(func, inputs, weights, Precision::Exact);
    Ok(floats(results.map_err(|error| error.to_string())?))
}

/// Those results that are floating-point.
pub(crate) fn floats(results: Vec<(String, Array)>) -> Floats {
    let floats = results.into_iter();
    let floats = floats.filter_map(|(name, array)| match array.values {
        Values::Float(values) => Some((name, values)),
        Values::Int(_) | Values::Bool(_) => None,
    });
    floats.collect()
}

/// Numbers from −1.5 to 1.5, or from 0.5 to 2, of which no two are near each other; small distinct
/// indices; truth values.
pub(crate) fn made_up(ty: &TensorType, seed: u32, positive: bool) -> Tensor {
    let shape = ty.extents().expect("a type of known sizes");
    let count: usize = shape.iter().product();
    let number = |place: usize| {
        // Multiples of the golden ratio modulo 1 keep apart (Weyl's sequence).
        let turn = (place as f64 + 1.0) * 0.618_033_988_749_895 + f64::from(seed) * 0.137;
        let part = turn - turn.floor();
        if positive {
            0.5 + 1.5 * part
        } else {
            3.0 * part - 1.5
        }
    };
    let values = if ty.dtype.is_float() {
        Values::Float((0..count).map(number).collect())
    } else if ty.dtype.is_int() {
        Values::Int(
            (0..count as i64)
                .map(|place| place * 3 % 4 - place % 2 * 4)
                .collect(),
        )
    } else {
        Values::Bool((0..count).map(|place| place % 3 != 1).collect())
    };
    Tensor::from_values(ty.dtype, &shape, &values)
}

/// The same with 0 in the first place.
fn with_zero(tensor: &Tensor) -> Tensor {
    match tensor.values() {
        Values::Float(mut values) => {
            values[0] = 0.0;
            Tensor::from_values(tensor.dtype(), tensor.shape(), &Values::Float(values))
        }
        Values::Int(_) | Values::Bool(_) => tensor.clone(),
    }
}
