//! Mean and covariance of features, in one pass over them.
//!
//! Takes rows of features as they come, returns a Gaussian. It keeps a block of rows and one square
//! matrix, however many samples there are.

use nalgebra::DMatrix;

use super::{EvaluateError, check_rows};

/// Samples that are added to the covariance at once: one product of matrices for all of them.
const BLOCK_SAMPLES: usize = 128;

/// A Gaussian over features.
#[derive(Debug, Clone, PartialEq)]
pub struct Gaussian {
    /// `[width]`.
    mean: Vec<f64>,
    /// `[width, width]`, symmetric.
    covariance: DMatrix<f64>,
}

impl Gaussian {
    /// The Gaussian of this mean `[width]` and covariance `[width, width]`, row by row.
    ///
    /// # Errors
    /// When the covariance has another size, holds what is not a number, or is not symmetric.
    pub fn new(mean: Vec<f64>, covariance: &[f64]) -> Result<Gaussian, EvaluateError> {
        /// Products that other programs add up in another order for the two halves.
        const ASYMMETRY_MAX: f64 = 1e-6;
        let width = mean.len();
        if width == 0 || covariance.len() != width * width {
            return Err(EvaluateError::Width {
                found: covariance.len() / width.max(1),
                wanted: width,
            });
        }
        if let Some(place) = covariance.iter().chain(&mean).position(|x| !x.is_finite()) {
            return Err(EvaluateError::NotFinite {
                what: "the statistics of feature",
                number: place % width,
            });
        }
        let covariance = DMatrix::from_row_slice(width, width, covariance);
        let largest = covariance.amax();
        let difference = (&covariance - covariance.transpose()).amax();
        if difference > ASYMMETRY_MAX * largest {
            let reason = format!("entries across the diagonal differ by {difference:e}");
            return Err(EvaluateError::Covariance { reason });
        }
        Ok(Gaussian { mean, covariance })
    }

    /// The mean `[width]`.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// The covariance `[width, width]`: the same row by row and column by column.
    pub fn covariance(&self) -> &[f64] {
        self.covariance.as_slice()
    }

    /// The covariance as a matrix.
    pub(super) fn matrix(&self) -> &DMatrix<f64> {
        &self.covariance
    }
}

/// Sums over samples that have been seen.
#[derive(Debug, Clone)]
pub struct Moments {
    width: usize,
    count: usize,
    /// The mean of the first block: sums are of differences from it, so that little cancels.
    origin: Vec<f64>,
    sum: Vec<f64>,
    /// Sums of products of two features.
    products: DMatrix<f64>,
    /// Rows that are not in the sums yet.
    block: Vec<f32>,
}

impl Moments {
    /// No sample yet, of `width` features each.
    pub fn new(width: usize) -> Moments {
        Moments {
            width,
            count: 0,
            origin: Vec::new(),
            sum: vec![0.0; width],
            products: DMatrix::zeros(width, width),
            block: Vec::new(),
        }
    }

    /// Adds samples: `values` holds whole rows of features.
    ///
    /// # Errors
    /// When the last row is cut, or a number is NaN or infinite.
    pub fn push(&mut self, values: &[f32]) -> Result<(), EvaluateError> {
        check_rows(values, self.width, self.count())?;
        for row in values.chunks_exact(self.width) {
            self.block.extend_from_slice(row);
            if self.block.len() == self.width * BLOCK_SAMPLES {
                self.add_block();
            }
        }
        Ok(())
    }

    /// The number of samples.
    pub fn count(&self) -> usize {
        self.count + self.block.len() / self.width.max(1)
    }

    fn add_block(&mut self) {
        let samples = self.block.len() / self.width;
        let columns = DMatrix::from_iterator(
            self.width,
            samples,
            self.block.iter().map(|value| f64::from(*value)),
        );
        if self.origin.is_empty() {
            self.origin = columns.column_mean().as_slice().to_vec();
        }
        let mut centered = columns;
        for mut sample in centered.column_iter_mut() {
            let shifts = self.origin.iter();
            sample
                .iter_mut()
                .zip(shifts)
                .for_each(|(x, shift)| *x -= shift);
        }
        for sample in centered.column_iter() {
            self.sum
                .iter_mut()
                .zip(&sample)
                .for_each(|(sum, x)| *sum += x);
        }
        self.products
            .gemm(1.0, &centered, &centered.transpose(), 1.0);
        self.count += samples;
        self.block.clear();
    }

    /// The mean and the covariance with divisor `count - 1`, as `numpy.cov` computes it.
    ///
    /// # Errors
    /// When there are fewer than two samples.
    pub fn gaussian(mut self) -> Result<Gaussian, EvaluateError> {
        if !self.block.is_empty() {
            self.add_block();
        }
        if self.count < 2 {
            return Err(EvaluateError::Few {
                found: self.count,
                wanted: 2,
            });
        }
        let count = self.count as f64;
        let offsets: Vec<f64> = self.sum.iter().map(|sum| sum / count).collect();
        let covariance = DMatrix::from_fn(self.width, self.width, |row, column| {
            // The mean of both halves is symmetric whatever order the products were added in.
            let product = (self.products[(row, column)] + self.products[(column, row)]) / 2.0;
            (product - count * offsets[row] * offsets[column]) / (count - 1.0)
        });
        let mean = self.origin.iter().zip(&offsets);
        Ok(Gaussian {
            mean: mean.map(|(origin, offset)| origin + offset).collect(),
            covariance,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_do_not_depend_on_blocks() {
        let value = |place: usize| 1e4 + ((place * 7919) % 1013) as f32 / 100.0;
        let values: Vec<f32> = (0..3 * 300).map(value).collect();
        let mut whole = Moments::new(3);
        whole.push(&values).expect("rows");
        let mut parts = Moments::new(3);
        for part in values.chunks(3 * 7) {
            parts.push(part).expect("rows");
        }
        assert_eq!((whole.count(), parts.count()), (300, 300));
        let (whole, parts) = (
            whole.gaussian().expect("300"),
            parts.gaussian().expect("300"),
        );
        assert_eq!(whole, parts);
        let column = |feature: usize| {
            values
                .iter()
                .skip(feature)
                .step_by(3)
                .map(|x| f64::from(*x))
        };
        let mean = |feature| column(feature).sum::<f64>() / 300.0;
        for row in 0..3 {
            assert!((whole.mean()[row] - mean(row)).abs() < 1e-9);
            for other in 0..3 {
                let pairs = column(row).zip(column(other));
                let products = pairs.map(|(a, b)| (a - mean(row)) * (b - mean(other)));
                let wanted = products.sum::<f64>() / 299.0;
                let found = whole.covariance()[3 * row + other];
                assert!((found - wanted).abs() < 1e-9, "{found} {wanted}");
            }
        }
    }

    #[test]
    fn what_is_no_sample_is_refused() {
        let mut moments = Moments::new(2);
        assert!(moments.push(&[1.0]).is_err());
        assert!(moments.push(&[1.0, f32::NAN]).is_err());
        assert_eq!(moments.push(&[1.0, 2.0]), Ok(()));
        assert!(moments.gaussian().is_err());
        assert!(Gaussian::new(vec![0.0; 2], &[1.0, 0.0, 0.5, 1.0]).is_err());
        assert!(Gaussian::new(vec![0.0; 2], &[1.0, 0.0, f64::NAN, 1.0]).is_err());
        assert!(Gaussian::new(vec![0.0; 2], &[1.0]).is_err());
    }
}
