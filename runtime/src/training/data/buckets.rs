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

/// Pixels between the sides of buckets: every UNet halves their latents three times.
const STEP: usize = 64;

/// The sizes of about as many pixels as `size`, from portraits of 1:2 to landscapes of 2:1: sides
/// are multiples of 64, and of `pixels` per latent. `size` itself if there are none.
///
/// # Source
/// The buckets of NovelAI (blog.novelai.net, "Improvements on Stable Diffusion", 2022), whose
/// rule trainers of LoRA follow: for each side the longest other one within the area.
pub fn bucket_sizes(size: [usize; 2], pixels: usize) -> Vec<[usize; 2]> {
    let area = size[0].saturating_mul(size[1]);
    let is_short = |rows: &usize| rows.saturating_mul(*rows) / 2 <= area;
    let step = match STEP.is_multiple_of(pixels.max(1)) {
        true => STEP,
        false => pixels.saturating_mul(STEP),
    };
    let mut sizes = Vec::new();
    for rows in (step..).step_by(step).take_while(is_short) {
        let columns = area / rows / step * step;
        let is_within = columns > 0 && rows <= 2 * columns && columns <= 2 * rows;
        if is_within {
            sizes.extend([[rows, columns], [columns, rows]]);
        }
    }
    sizes.sort_unstable();
    sizes.dedup();
    match sizes.is_empty() {
        true => vec![size],
        false => sizes,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_about_as_many_pixels_and_take_the_nearest() {
        let sizes = bucket_sizes([1024, 1024], 8);
        // Sizes that SDXL was trained with (arXiv 2307.01952, appendix I).
        for size in [
            [1024, 1024],
            [832, 1216],
            [1216, 832],
            [768, 1344],
            [1344, 768],
        ] {
            assert!(sizes.contains(&size), "{size:?}");
        }
        assert!(
            sizes
                .iter()
                .all(|[rows, columns]| rows * columns <= 1 << 20)
        );
        for (picture, wanted) in [
            ([500, 500], [1024, 1024]),
            ([400, 600], [832, 1216]),
            ([3000, 1000], [1408, 704]),
            ([1000, 3000], [704, 1408]),
        ] {
            assert_eq!(sizes[nearest(picture, &sizes)], wanted, "{picture:?}");
        }
        assert_eq!(bucket_sizes([32, 32], 8), [[32, 32]]);
    }
}
