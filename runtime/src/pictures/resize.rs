//! Resizing: every pixel is a weighted sum of those around its place.
//!
//! Takes pixels of three channels side by side, returns those of another size: rounded to 8 bits
//! after each axis as Pillow's pictures of bytes, or as floats.

/// Channels of a pixel.
pub(super) const CHANNELS: usize = 3;

/// Bits after the point of Pillow's weights for 8-bit pixels (`Resample.c`, `PRECISION_BITS`).
const PRECISION_BITS: u32 = 32 - 8 - 2;

/// What weights are by distance: Pillow's filters, which widen where a picture gets smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// A triangle.
    Bilinear,
    /// Cubic pieces with a = -0.5 (Keys 1981).
    Bicubic,
    /// A windowed sinc of three lobes.
    Lanczos,
}

impl Filter {
    /// How far from the centre weights are not zero.
    fn support(self) -> f64 {
        match self {
            Filter::Bilinear => 1.0,
            Filter::Bicubic => 2.0,
            Filter::Lanczos => 3.0,
        }
    }

    /// The weight at a distance (Pillow `Resample.c`: `bilinear_filter`, `bicubic_filter`,
    /// `lanczos_filter`).
    fn weight(self, distance: f64) -> f64 {
        let x = distance.abs();
        match self {
            Filter::Bilinear => (1.0 - x).max(0.0),
            Filter::Bicubic if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
            Filter::Bicubic if x < 2.0 => ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0,
            Filter::Lanczos if x < 3.0 => sinc(x) * sinc(x / 3.0),
            Filter::Bicubic | Filter::Lanczos => 0.0,
        }
    }
}

fn sinc(x: f64) -> f64 {
    let angle = x * std::f64::consts::PI;
    match x == 0.0 {
        true => 1.0,
        false => libm::sin(angle) / angle,
    }
}

/// The pixels along one axis that make one pixel of a resized picture.
struct Window<W> {
    first: usize,
    weights: Vec<W>,
}

/// The window of each of `to` pixels that are made of `from`.
///
/// # Source
/// Pillow `Resample.c`: `precompute_coeffs`.
fn windows(filter: Filter, from: usize, to: usize) -> Vec<Window<f64>> {
    let scale = from as f64 / to as f64;
    let filter_scale = scale.max(1.0);
    let support = filter.support() * filter_scale;
    let window = |place: usize| {
        let center = (place as f64 + 0.5) * scale;
        // Both are cut towards zero.
        let first = (center - support + 0.5).max(0.0) as usize;
        let end = ((center + support + 0.5) as usize).min(from);
        let weight = |x: usize| filter.weight((x as f64 - center + 0.5) * (1.0 / filter_scale));
        let weights: Vec<f64> = (first..end).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        let weights = weights.into_iter().map(|weight| weight / sum).collect();
        Window { first, weights }
    };
    (0..to).map(window).collect()
}

/// The windows of bilinear interpolation between two pixels, however much smaller the picture gets
/// (torch `interpolate(mode="bilinear", align_corners=False)`).
fn neighbours(from: usize, to: usize) -> Vec<Window<f64>> {
    let scale = from as f32 / to as f32;
    let window = |place: usize| {
        let center = ((place as f32 + 0.5) * scale - 0.5).max(0.0);
        let first = (center as usize).min(from - 1);
        let share = f64::from(center - first as f32);
        let weights = match first + 1 < from {
            true => vec![1.0 - share, share],
            false => vec![1.0],
        };
        Window { first, weights }
    };
    (0..to).map(window).collect()
}

/// A pixel's number: what weights it is summed with, and what a sum becomes.
trait Number: Copy {
    /// A weight as sums take it.
    type Weight;

    /// A weight in that form.
    fn weight(weight: f64) -> Self::Weight;

    /// The weighted sum of numbers.
    fn sum<'a>(values: impl Iterator<Item = &'a Self>, weights: &[Self::Weight]) -> Self
    where
        Self: 'a;
}

/// # Source
/// Pillow `Resample.c`: `normalize_coeffs_8bpc` and `clip8`.
impl Number for u8 {
    /// In units of 2^−[`PRECISION_BITS`].
    type Weight = i32;

    fn weight(weight: f64) -> i32 {
        let scaled = weight * f64::from(1 << PRECISION_BITS);
        (scaled + 0.5_f64.copysign(scaled)) as i32
    }

    fn sum<'a>(values: impl Iterator<Item = &'a u8>, weights: &[i32]) -> u8 {
        let half = 1 << (PRECISION_BITS - 1);
        let terms = values.zip(weights);
        let sum = terms.fold(half, |sum, (value, weight)| {
            sum + i32::from(*value) * weight
        });
        (sum >> PRECISION_BITS).clamp(0, 255) as u8
    }
}

impl Number for f32 {
    type Weight = f64;

    fn weight(weight: f64) -> f64 {
        weight
    }

    fn sum<'a>(values: impl Iterator<Item = &'a f32>, weights: &[f64]) -> f32 {
        let terms = values.zip(weights);
        let products = terms.map(|(value, weight)| f64::from(*value) * weight);
        products.sum::<f64>() as f32
    }
}

/// The pixels of a picture at another size, rounded to 8 bits after each axis.
pub(super) fn rounded(pixels: &[u8], from: [usize; 2], filter: Filter, to: [usize; 2]) -> Vec<u8> {
    resized(pixels, from, to, |from, to| windows(filter, from, to))
}

/// The same in floats, by Pillow's filter.
pub(super) fn smooth(pixels: &[f32], from: [usize; 2], filter: Filter, to: [usize; 2]) -> Vec<f32> {
    resized(pixels, from, to, |from, to| windows(filter, from, to))
}

/// The same in floats, between neighbours only.
pub(super) fn interpolated(pixels: &[f32], from: [usize; 2], to: [usize; 2]) -> Vec<f32> {
    resized(pixels, from, to, neighbours)
}

/// Columns first, then rows; an axis that keeps its extent is left alone.
fn resized<T: Number>(
    pixels: &[T],
    from: [usize; 2],
    to: [usize; 2],
    windows: impl Fn(usize, usize) -> Vec<Window<f64>>,
) -> Vec<T> {
    let windows = |from, to| {
        let windows = windows(from, to).into_iter();
        let weighted = windows.map(|Window { first, weights }| Window {
            first,
            weights: weights.into_iter().map(T::weight).collect(),
        });
        weighted.collect::<Vec<_>>()
    };
    let across = match from[1] == to[1] {
        true => pixels.to_vec(),
        false => columns(pixels, from, &windows(from[1], to[1])),
    };
    match from[0] == to[0] {
        true => across,
        false => rows(&across, to[1], &windows(from[0], to[0])),
    }
}

fn columns<T: Number>(pixels: &[T], from: [usize; 2], windows: &[Window<T::Weight>]) -> Vec<T> {
    let mut resized = Vec::with_capacity(from[0] * windows.len() * CHANNELS);
    for row in pixels.chunks_exact(from[1] * CHANNELS) {
        for Window { first, weights } in windows {
            let seen = &row[first * CHANNELS..][..weights.len() * CHANNELS];
            for channel in 0..CHANNELS {
                let values = seen.iter().skip(channel).step_by(CHANNELS);
                resized.push(T::sum(values, weights));
            }
        }
    }
    resized
}

fn rows<T: Number>(pixels: &[T], columns: usize, windows: &[Window<T::Weight>]) -> Vec<T> {
    let stride = columns * CHANNELS;
    let mut resized = Vec::with_capacity(windows.len() * stride);
    for Window { first, weights } in windows {
        let seen = &pixels[first * stride..][..weights.len() * stride];
        for column in 0..stride {
            let values = seen.iter().skip(column).step_by(stride);
            resized.push(T::sum(values, weights));
        }
    }
    resized
}
