//! How a picture of one aspect becomes one of another: sizes that cover, and middles.
//!
//! Takes and returns extents in pixels.

/// The smallest size with the aspect of `from` that covers `size`: one axis is equal, the other
/// is rounded down (torchvision `_compute_resized_output_size`).
pub(crate) fn covering(from: [usize; 2], size: [usize; 2]) -> [usize; 2] {
    let [rows, columns] = from.map(|extent| extent as u128);
    let [height, width] = size.map(|extent| extent as u128);
    let scaled = match columns * height >= width * rows {
        true => [height, height * columns / rows],
        false => [width * rows / columns, width],
    };
    scaled.map(|extent| usize::try_from(extent).unwrap_or(usize::MAX))
}

/// Half of the spare pixels, a half rounded to even (torchvision `center_crop`).
pub(crate) fn middle(spare: usize) -> usize {
    match spare % 4 {
        3 => spare / 2 + 1,
        _ => spare / 2,
    }
}
