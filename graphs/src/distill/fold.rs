//! Folding: the condition on γ becomes part of a bias, so that a distilled network is an ordinary
//! one.
//!
//! Takes the weights of a student, gives those of a network without `time_embedding.cond_proj` that
//! is equal to it at γ = 1, in f64 and rounded once. It runs no network.

use std::collections::BTreeMap;

use compiler::value::tensor::{Tensor, Values};

use super::error::DistillError;
use super::gamma::{GammaEmbed, gamma_embedding};

/// What is folded away: `[channels, features]`.
const CONDITION: &str = "time_embedding.cond_proj.weight";

/// `weights` without the condition: `b' = b + W₁·(W_c·e(1))` takes the place of the bias of
/// `time_embedding.linear_1` (spec 1.4).
///
/// # Errors
/// When a weight is missing or has a shape that does not fit the others.
pub fn fold(
    form: GammaEmbed,
    mut weights: BTreeMap<String, Tensor>,
) -> Result<BTreeMap<String, Tensor>, DistillError> {
    const BIAS: &str = "time_embedding.linear_1.bias";
    let condition = matrix(&weights, CONDITION)?;
    let first = matrix(&weights, "time_embedding.linear_1.weight")?;
    let bias = weights.get(BIAS).ok_or_else(|| missing(BIAS))?;
    let one = gamma_embedding(form, 1.0, condition.columns);
    let one: Vec<f64> = one.into_iter().map(f64::from).collect();
    let projected = condition.times(&one);
    if projected.len() != first.columns || bias.shape() != [first.values.len() / first.columns] {
        return Err(missing("time_embedding.linear_1 that fits its condition"));
    }
    let Values::Float(mut folded) = bias.values() else {
        return Err(missing(BIAS));
    };
    let added = first.times(&projected);
    folded
        .iter_mut()
        .zip(added)
        .for_each(|(b, added)| *b += added);
    let folded = Tensor::from_values(bias.dtype(), bias.shape(), &Values::Float(folded));
    weights.insert(BIAS.to_owned(), folded);
    weights.remove(CONDITION);
    Ok(weights)
}

/// A matrix, row by row.
struct Matrix {
    values: Vec<f64>,
    columns: usize,
}

impl Matrix {
    fn times(&self, vector: &[f64]) -> Vec<f64> {
        let rows = self.values.chunks_exact(self.columns);
        rows.map(|row| row.iter().zip(vector).map(|(a, b)| a * b).sum())
            .collect()
    }
}

fn matrix(weights: &BTreeMap<String, Tensor>, name: &'static str) -> Result<Matrix, DistillError> {
    let tensor = weights.get(name).ok_or_else(|| missing(name))?;
    match (tensor.shape(), tensor.values()) {
        (&[_, columns], Values::Float(values)) if columns > 0 => Ok(Matrix { values, columns }),
        (_, _) => Err(missing(name)),
    }
}

fn missing(name: &str) -> DistillError {
    DistillError::Interface {
        func: "student".to_owned(),
        found: format!("no matching {name}"),
        wanted: "the weights of a network with a condition",
    }
}
