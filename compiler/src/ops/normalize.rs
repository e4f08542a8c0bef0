//! What the normalising operators share.
//!
//! Takes rows of floats, gives them with mean 0 and variance 1, and the gradient of that; it knows
//! no scale and no bias.

use crate::graph::{TensorType, Value};
use crate::ops::Violation;
use crate::ops::reverse::{Reverse, RuleError};
use crate::value::dim::Dim;
use crate::value::dtype::DType;

/// Checks that `epsilon` can be added to a variance.
pub(crate) fn check_epsilon(constraint: &'static str, epsilon: f64) -> Result<(), Violation> {
    let holds = epsilon.is_finite() && epsilon >= 0.0;
    let found = format_args!("epsilon {epsilon}");
    Violation::unless(holds, constraint, found, "a finite epsilon of at least 0")
}

/// Checks that the channels of `x`, its second axis, form `groups` groups of equal size (C2, C3).
pub(crate) fn check_groups(x: &TensorType, groups: usize) -> Result<(), Violation> {
    Violation::unless(x.rank() >= 2, "C2", x, "at least two axes")?;
    let even = groups > 0 && x.shape[1].exact_div(&Dim::from(groups)).is_some();
    let found = format_args!("{groups} groups of {} channels", x.shape[1]);
    Violation::unless(even, "C3", found, "groups of equal size")
}

/// Every `extent` neighbours of `x` with their mean removed and divided by
/// `sqrt(variance + epsilon)`; the variance is the biased one.
pub(crate) fn normalize_rows(x: &[f64], extent: usize, epsilon: f64) -> Vec<f64> {
    let mut values = Vec::with_capacity(x.len());
    // No elements have no rows, whatever the extent.
    for row in x.chunks_exact(extent.max(1)) {
        let count = extent as f64;
        let mean = row.iter().sum::<f64>() / count;
        let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count;
        let factor = 1.0 / (variance + epsilon).sqrt();
        values.extend(row.iter().map(|x| (x - mean) * factor));
    }
    values
}

/// `factor · (dn − mean − n · slope)`, with `n` the normalised operand, `dn` the gradient with
/// respect to it, `mean` the mean of `dn` and `slope` that of `dn · n` over what was normalised
/// together: the gradient with respect to the operand, in `dtype`.
pub(crate) fn norm_gradient(
    at: &mut Reverse<'_>,
    [dn, n]: [Value; 2],
    [mean, slope, factor]: [Value; 3],
    dtype: DType,
) -> Result<Value, RuleError> {
    let bent = at.mul(n, slope)?;
    let above = at.sub(dn, mean)?;
    let above = at.sub(above, bent)?;
    let dx = at.mul(factor, above)?;
    at.cast(dx, dtype)
}
