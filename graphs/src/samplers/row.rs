//! Rows of a sampler's table, put together from other rows.
//!
//! Takes coefficients and rows, gives rows; the numbers of a step are found by writing its formula
//! with the operands below. It never touches a tensor.

use compiler::program::sampler::{HISTORY_SLOTS, Limit, Row};

/// The state before the step.
pub(super) const X: Row = Row { x: 1.0, ..ZERO };
/// The guided network output.
pub(super) const OUTPUT: Row = Row {
    output: 1.0,
    ..ZERO
};
/// The step's normal draw.
pub(super) const NOISE: Row = Row { noise: 1.0, ..ZERO };
/// Nothing.
pub(super) const ZERO: Row = Row {
    x: 0.0,
    output: 0.0,
    x0: 0.0,
    noise: 0.0,
    history: [0.0; HISTORY_SLOTS],
};

/// The content of one history slot before the step.
pub(super) fn slot(index: usize) -> Row {
    let mut row = ZERO;
    row.history[index] = 1.0;
    row
}

/// Σ coefficient · row. A row without finite numbers shows in the sum even at coefficient zero.
pub(super) fn sum(terms: &[(f64, Row)]) -> Row {
    let mut total = ZERO;
    for (factor, row) in terms {
        total.x += factor * row.x;
        total.output += factor * row.output;
        total.x0 += factor * row.x0;
        total.noise += factor * row.noise;
        for (sum, term) in total.history.iter_mut().zip(row.history) {
            *sum += factor * term;
        }
    }
    total
}

/// What later rows of the step read as the clean estimate: the estimate's own formula while it is
/// linear, the limited value otherwise.
pub(super) fn limited(estimate: Row, limit: Limit) -> Row {
    match limit {
        Limit::None => estimate,
        Limit::Clip { .. } | Limit::Threshold { .. } => Row { x0: 1.0, ..ZERO },
    }
}

/// Whether every coefficient is a number.
pub(super) fn is_finite(row: &Row) -> bool {
    let Row {
        x,
        output,
        x0,
        noise,
        history,
    } = row;
    [x, output, x0, noise]
        .into_iter()
        .chain(history)
        .all(|c| c.is_finite())
}
