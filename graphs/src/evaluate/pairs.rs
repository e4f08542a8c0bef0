//! Scores of pairs: the cosine of two embeddings, and how far the samples of a set are apart.
//!
//! Takes plain numbers, returns one in f64.

use super::{EvaluateError, Features};

/// The cosine of two vectors of one length, from -1 to 1; 0 if one of them is zero.
///
/// # Errors
/// When lengths differ.
///
/// # Source
/// Hessel et al. 2021 (arXiv 2104.08718), eq. 1, without its factor and without `max(0, ·)`; spec
/// 5.4.
pub fn cosine(a: &[f32], b: &[f32]) -> Result<f64, EvaluateError> {
    if a.len() != b.len() {
        return Err(EvaluateError::Width {
            found: a.len(),
            wanted: b.len(),
        });
    }
    let product = |a: &[f32], b: &[f32]| -> f64 {
        let pairs = a.iter().zip(b);
        pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    let norms = (product(a, a) * product(b, b)).sqrt();
    Ok(match norms > 0.0 {
        true => product(a, b) / norms,
        false => 0.0,
    })
}

/// The mean over all pairs of samples of the root of the mean squared difference of their features.
///
/// # Errors
/// When there are fewer than two samples.
///
/// # Source
/// PeRFlow (arXiv 2405.07510), section 4 on diversity: the mean pairwise distance of pictures of
/// one prompt.
pub fn mean_pairwise_distance(features: &Features) -> Result<f64, EvaluateError> {
    let count = features.count();
    if count < 2 {
        return Err(EvaluateError::Few {
            found: count,
            wanted: 2,
        });
    }
    let mut sum = 0.0;
    for first in 0..count {
        for second in 0..first {
            let pairs = features.row(first).iter().zip(features.row(second));
            let squares = pairs.map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2));
            sum += (squares.sum::<f64>() / features.width() as f64).sqrt();
        }
    }
    Ok(sum / (count * (count - 1) / 2) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosines_and_distances_are_those_of_the_formulae() {
        assert_eq!(cosine(&[3.0, 4.0], &[4.0, 3.0]), Ok(0.96));
        assert_eq!(cosine(&[0.0, 0.0], &[4.0, 3.0]), Ok(0.0));
        assert!(cosine(&[0.0], &[4.0, 3.0]).is_err());
        let mut features = Features::new(2);
        features.push(&[0.0, 0.0]).expect("a row");
        assert!(mean_pairwise_distance(&features).is_err());
        features.push(&[1.0, 1.0, 0.0, 2.0]).expect("rows");
        let wanted = (1.0 + 2.0_f64.sqrt() + 1.0) / 3.0;
        assert_eq!(mean_pairwise_distance(&features), Ok(wanted));
    }
}
