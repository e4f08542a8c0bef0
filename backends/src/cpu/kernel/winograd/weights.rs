//! The transform of filters, once when weights are packed.

use super::{Four, Points, Scheme, Two};

/// `out[plane · plane_stride + c] = (G g Gᵀ)[plane]` for every channel `c` of the nine `taps` of a
/// filter, row by row; computed in f64.
///
/// # Panics
/// When taps differ in length or `out` is too short: callers computed them.
pub(crate) fn weights(points: Points, taps: [&[f32]; 9], out: &mut [f32], plane_stride: usize) {
    match points {
        Points::Two => transform::<Two>(taps, out, plane_stride),
        Points::Four => transform::<Four>(taps, out, plane_stride),
    }
}

fn transform<P: Scheme>(taps: [&[f32]; 9], out: &mut [f32], plane_stride: usize) {
    let channels = taps[0].len();
    assert!(
        taps.iter().all(|tap| tap.len() == channels),
        "taps differ in length"
    );
    for c in 0..channels {
        let g = taps.map(|tap| f64::from(tap[c]));
        let rows = [0, 3, 6].map(|row| P::filter([g[row], g[row + 1], g[row + 2]]));
        for column in 0..P::TILE {
            let lines = P::filter(rows.map(|row| row[column]));
            for (row, &value) in lines.iter().enumerate().take(P::TILE) {
                out[(row * P::TILE + column) * plane_stride + c] = value as f32;
            }
        }
    }
}
