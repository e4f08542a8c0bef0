//! The kernel distance of two sets of features, which KID is.
//!
//! Takes features and the subsets of them that are compared, returns the mean over the subsets and
//! how much they differ. It draws no subset itself.

use nalgebra::DMatrix;

use super::{EvaluateError, Features};

/// The distances of pairs of subsets.
#[derive(Debug, Clone, PartialEq)]
pub struct KernelDistance {
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation, with the number of subsets as divisor as torch-fidelity has it.
    pub deviation: f64,
    /// The distance of each pair.
    pub values: Vec<f64>,
}

/// The mean over subsets of the unbiased estimate of the squared maximum mean discrepancy with the
/// kernel `(x·y / width + 1)³`. A subset is a list of samples of `a` and one of `b`; `on_subset` is
/// called after each.
///
/// # Errors
/// When widths differ, there is no subset, or one has fewer than two samples of either set.
///
/// # Panics
/// When a subset names a sample that is not there: the caller drew it.
///
/// # Source
/// Bińkowski et al. 2018 (arXiv 1801.01401), section 4; Gretton et al. 2012, eq. 3; torch-fidelity
/// `metric_kid.py`.
pub fn kernel_distance(
    a: &Features,
    b: &Features,
    subsets: &[[Vec<usize>; 2]],
    on_subset: &mut dyn FnMut(),
) -> Result<KernelDistance, EvaluateError> {
    let (found, wanted) = (a.width(), b.width());
    if found != wanted {
        return Err(EvaluateError::Width { found, wanted });
    }
    let mut distances = Vec::new();
    for [of_a, of_b] in subsets {
        distances.push(discrepancy(&chosen(a, of_a), &chosen(b, of_b))?);
        on_subset();
    }
    if distances.is_empty() {
        return Err(EvaluateError::Few {
            found: 0,
            wanted: 1,
        });
    }
    let count = distances.len() as f64;
    let mean = distances.iter().sum::<f64>() / count;
    let squares = distances.iter().map(|x| (x - mean) * (x - mean));
    Ok(KernelDistance {
        mean,
        deviation: (squares.sum::<f64>() / count).sqrt(),
        values: distances,
    })
}

/// The samples of a subset, one a column.
fn chosen(features: &Features, samples: &[usize]) -> DMatrix<f64> {
    let rows = samples.iter().flat_map(|sample| features.row(*sample));
    let values = rows.map(|value| f64::from(*value));
    DMatrix::from_iterator(features.width(), samples.len(), values)
}

/// The unbiased estimate for the samples in the columns of `x` and `y`.
fn discrepancy(x: &DMatrix<f64>, y: &DMatrix<f64>) -> Result<f64, EvaluateError> {
    let found = x.ncols().min(y.ncols());
    if found < 2 {
        return Err(EvaluateError::Few { found, wanted: 2 });
    }
    let (m, n) = (x.ncols() as f64, y.ncols() as f64);
    let within = |x: &DMatrix<f64>, count: f64| {
        let kernel = kernel(x, x);
        (kernel.sum() - kernel.trace()) / (count * (count - 1.0))
    };
    Ok(within(x, m) + within(y, n) - 2.0 * kernel(x, y).sum() / (m * n))
}

fn kernel(x: &DMatrix<f64>, y: &DMatrix<f64>) -> DMatrix<f64> {
    let width = x.nrows() as f64;
    (x.transpose() * y).map(|product| (product / width + 1.0).powi(3))
}
