//! The Fréchet distance of two Gaussians, which FID is of features.
//!
//! Takes two Gaussians, returns one number. The root of the product of covariances is never formed:
//! its trace is all that is needed, and is a sum over the eigenvalues of a symmetric matrix.

use nalgebra::DMatrix;

use super::{EvaluateError, Gaussian};

/// Pivots below this share of the largest variance are rounding: a covariance of fewer samples than
/// features is singular.
const PIVOT_MIN: f64 = 1e-15;

/// Pivots further below zero than this share of the largest variance are errors, not rounding.
const NEGATIVE_MAX: f64 = 1e-6;

/// The squared Fréchet distance `|μ₁ − μ₂|² + Tr(Σ₁ + Σ₂ − 2·(Σ₁Σ₂)^½)`.
///
/// With `Σ₁ = L·Lᵀ` the eigenvalues of `Σ₁Σ₂` are those of `Lᵀ·Σ₂·L`, which is symmetric and not
/// negative, so that `Tr (Σ₁Σ₂)^½` is the sum of their roots. `L` comes of a Cholesky
/// decomposition with pivots, which ends where a singular covariance does.
///
/// # Errors
/// When the Gaussians have different numbers of features, or a covariance is not positive.
///
/// # Source
/// Heusel et al. 2017 (arXiv 1706.08500), eq. 6; spec 5.2. Higham, "Analysis of the Cholesky
/// decomposition of a semi-definite matrix", 1990.
pub fn frechet_distance(a: &Gaussian, b: &Gaussian) -> Result<f64, EvaluateError> {
    let (found, wanted) = (a.mean().len(), b.mean().len());
    if found != wanted {
        return Err(EvaluateError::Width { found, wanted });
    }
    let means = a.mean().iter().zip(b.mean());
    let shift: f64 = means.map(|(a, b)| (a - b) * (a - b)).sum();
    // Through the covariance of the smaller rank fewer eigenvalues are rounding of zeros.
    let (of_a, of_b) = (factor(a.matrix())?, factor(b.matrix())?);
    let (factor, other) = match of_a.ncols() <= of_b.ncols() {
        true => (of_a, b.matrix()),
        false => (of_b, a.matrix()),
    };
    Ok(shift + a.matrix().trace() + b.matrix().trace() - 2.0 * root_trace(&factor, other))
}

/// `Tr (L·Lᵀ·Σ)^½`.
fn root_trace(factor: &DMatrix<f64>, covariance: &DMatrix<f64>) -> f64 {
    // Samples without any spread: there are no eigenvalues.
    if factor.ncols() == 0 {
        return 0.0;
    }
    let between = factor.transpose() * covariance * factor;
    let between = (&between + between.transpose()) * 0.5;
    // Rounding leaves eigenvalues of singular matrices a little below zero.
    let eigenvalues = between.symmetric_eigenvalues();
    eigenvalues.iter().map(|x| x.max(0.0).sqrt()).sum()
}

/// `L` `[width, rank]` with `L·Lᵀ` equal to a covariance.
fn factor(covariance: &DMatrix<f64>) -> Result<DMatrix<f64>, EvaluateError> {
    let width = covariance.nrows();
    let mut rest: Vec<f64> = covariance.diagonal().as_slice().to_vec();
    let largest = rest.iter().fold(0.0, |most: f64, x| most.max(*x));
    let mut columns: Vec<Vec<f64>> = Vec::new();
    while columns.len() < width {
        let by_size = |a: &usize, b: &usize| rest[*a].total_cmp(&rest[*b]);
        let Some(pivot) = (0..width).max_by(by_size) else {
            break;
        };
        if rest[pivot] <= PIVOT_MIN * largest {
            break;
        }
        let mut column: Vec<f64> = covariance.column(pivot).as_slice().to_vec();
        for earlier in &columns {
            let share = earlier[pivot];
            let pairs = column.iter_mut().zip(earlier);
            pairs.for_each(|(x, y)| *x -= share * y);
        }
        let root = rest[pivot].sqrt();
        for (x, rest) in column.iter_mut().zip(&mut rest) {
            *x /= root;
            *rest -= *x * *x;
        }
        // Earlier pivots are done with; rounding must not bring them back.
        rest[pivot] = 0.0;
        columns.push(column);
    }
    if let Some(feature) = rest.iter().position(|rest| *rest < -NEGATIVE_MAX * largest) {
        let reason = format!("feature {feature} has more in common with others than with itself");
        return Err(EvaluateError::Covariance { reason });
    }
    Ok(DMatrix::from_fn(width, columns.len(), |row, column| {
        columns[column][row]
    }))
}
