//! What trainings show of pictures: grids, and the distance of paired ones.
//!
//! Takes decoded pictures in [-1, 1], f32 `[pictures, channels, height, width]`; returns a grid, or
//! an error.

use compiler::value::tensor::{Tensor, Values};
use thiserror::Error;

/// Why pictures cannot be compared or shown together.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PicturesError {
    /// They differ in number or size, or are none.
    #[error("found pictures of shapes {found:?}, expected one shape of four extents")]
    Shapes {
        /// The shapes.
        found: Vec<Vec<usize>>,
    },
}

/// The root of the mean of squared differences of pictures clamped to [-1, 1], pair by pair.
///
/// # Errors
/// When the shapes differ.
pub fn paired_error(a: &Tensor, b: &Tensor) -> Result<f64, PicturesError> {
    distance(a, b, |x| x.clamp(-1.0, 1.0))
}

/// The root of the mean of squared differences, of latents too.
///
/// # Errors
/// When the shapes differ.
pub fn root_mean_square(a: &Tensor, b: &Tensor) -> Result<f64, PicturesError> {
    distance(a, b, |x| x)
}

fn distance(a: &Tensor, b: &Tensor, seen: fn(f64) -> f64) -> Result<f64, PicturesError> {
    let [a_values, b_values] = values([a, b])?;
    let pairs = a_values.iter().zip(&b_values);
    let squares: f64 = pairs.map(|(a, b)| (seen(*a) - seen(*b)).powi(2)).sum();
    Ok((squares / a_values.len().max(1) as f64).sqrt())
}

/// One picture `[1, channels, pictures·height, columns·width]`: a column for each of `columns`, a
/// row for each of their pictures.
///
/// # Errors
/// When the shapes differ, or there is no column.
pub fn grid(columns: &[Tensor]) -> Result<Tensor, PicturesError> {
    let shapes = || PicturesError::Shapes {
        found: columns
            .iter()
            .map(|tensor| tensor.shape().to_vec())
            .collect(),
    };
    let first = columns.first().ok_or_else(shapes)?;
    let &[pictures, channels, height, width] = first.shape() else {
        return Err(shapes());
    };
    let (rows, wide) = (pictures * height, columns.len() * width);
    let mut picture = vec![0.0_f32; channels * rows * wide];
    for (column, tensor) in columns.iter().enumerate() {
        let [values] = values([tensor])?;
        if tensor.shape() != first.shape() {
            return Err(shapes());
        }
        for (line, pixels) in values.chunks_exact(width.max(1)).enumerate() {
            let (row, plane) = (line % height, line / height);
            let (channel, number) = (plane % channels, plane / channels);
            let start = (channel * rows + number * height + row) * wide + column * width;
            let target = &mut picture[start..start + width];
            target
                .iter_mut()
                .zip(pixels)
                .for_each(|(target, x)| *target = *x as f32);
        }
    }
    Ok(Tensor::from_f32(&[1, channels, rows, wide], &picture))
}

/// The numbers of tensors of one shape of four extents.
fn values<const N: usize>(tensors: [&Tensor; N]) -> Result<[Vec<f64>; N], PicturesError> {
    let shapes = || PicturesError::Shapes {
        found: tensors
            .iter()
            .map(|tensor| tensor.shape().to_vec())
            .collect(),
    };
    let same = tensors
        .iter()
        .all(|tensor| tensor.shape().len() == 4 && tensor.shape() == tensors[0].shape());
    if !same {
        return Err(shapes());
    }
    Ok(tensors.map(|tensor| match tensor.values() {
        Values::Float(values) => values,
        Values::Int(_) | Values::Bool(_) => Vec::new(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_has_a_column_for_each_and_a_row_per_picture() {
        let column = |x: f32| Tensor::from_f32(&[2, 1, 1, 2], &[x, x + 0.1, x + 0.2, x + 0.3]);
        let found = grid(&[column(0.0), column(1.0)]).expect("the shapes are one");
        let wanted = [0.0, 0.1, 1.0, 1.1, 0.2, 0.3, 1.2, 1.3];
        assert_eq!(found, Tensor::from_f32(&[1, 1, 2, 4], &wanted));
    }

    #[test]
    fn errors_are_those_of_clamped_pictures() {
        let picture = |x: [f32; 2]| Tensor::from_f32(&[1, 1, 1, 2], &x);
        let error = paired_error(&picture([3.0, 0.5]), &picture([1.0, 0.0]));
        assert_eq!(error, Ok((0.25_f64 / 2.0).sqrt()));
        let other = Tensor::from_f32(&[1, 1, 2, 1], &[0.0, 0.0]);
        assert!(paired_error(&picture([0.0, 0.0]), &other).is_err());
    }
}
