//! Aspect buckets: which pictures are trained at which size.
//!
//! Takes sizes of about equal area and pictures, returns the pictures of each size: a picture is of
//! the size with the nearest aspect. A batch holds pictures of one bucket.

/// Samples whose pictures are trained at one size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Rows and columns, in pixels.
    pub size: [usize; 2],
    /// The samples, by their numbers in the data set.
    pub samples: Vec<u32>,
}

/// The place of the size whose aspect is nearest to that of a picture, by the ratio of both; the
/// first of several.
pub(super) fn nearest(picture: [usize; 2], sizes: &[[usize; 2]]) -> usize {
    let aspect = |[rows, columns]: [usize; 2]| libm::log(columns as f64 / rows as f64);
    let distance = |size: &[usize; 2]| (aspect(*size) - aspect(picture)).abs();
    let places = sizes.iter().map(distance).enumerate();
    let nearest = places.min_by(|(_, first), (_, second)| first.total_cmp(second));
    nearest.map_or(0, |(place, _)| place)
}
