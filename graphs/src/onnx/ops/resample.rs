//! The arithmetic of `Resize` along one axis, in f64: coordinates, nearest indices, weights.
//!
//! Takes extents, a scale and the modes, gives for each position of the result the elements it is
//! made of. Formulas: ONNX `Resize` (opset 19, attributes `coordinate_transformation_mode`,
//! `nearest_mode`, `cubic_coeff_a`, `antialias`, `exclude_outside`) and its reference
//! implementation; cubic kernel: Keys 1981, eq. 4.

/// Where a position of the result lies in the operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coordinates {
    HalfPixel,
    HalfPixelSymmetric,
    PytorchHalfPixel,
    AlignCorners,
    Asymmetric,
    CropAndResize,
}

/// Which neighbour is nearest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nearest {
    RoundPreferFloor,
    RoundPreferCeil,
    Floor,
    Ceil,
}

/// How neighbours are weighted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Filter {
    Linear,
    Cubic { a: f64 },
}

/// One axis that changes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Axis {
    pub(crate) coordinates: Coordinates,
    pub(crate) input: usize,
    pub(crate) output: usize,
    /// Positions of the result per position of the operand.
    pub(crate) scale: f64,
    /// The part of the operand that is looked at, for cropping.
    pub(crate) region: (f64, f64),
}

impl Axis {
    /// The place in the operand of position `index` of the result.
    fn place(&self, index: usize) -> f64 {
        let (x, input) = (index as f64, self.input as f64);
        let width = self.scale * input;
        match self.coordinates {
            Coordinates::AlignCorners if width == 1.0 => 0.0,
            Coordinates::AlignCorners => x * (input - 1.0) / (width - 1.0),
            Coordinates::Asymmetric => x / self.scale,
            Coordinates::PytorchHalfPixel if width == 1.0 => -0.5,
            Coordinates::HalfPixel | Coordinates::PytorchHalfPixel => (x + 0.5) / self.scale - 0.5,
            Coordinates::HalfPixelSymmetric => {
                let offset = input / 2.0 * (1.0 - self.output as f64 / width);
                offset + (x + 0.5) / self.scale - 0.5
            }
            Coordinates::CropAndResize => {
                let (start, end) = self.region;
                let within = match width == 1.0 {
                    true => (end - start) * (input - 1.0) / 2.0,
                    false => x * (end - start) * (input - 1.0) / (width - 1.0),
                };
                within + start * (input - 1.0)
            }
        }
    }

    /// For each position whether it lies outside of the operand, where cropping extrapolates.
    pub(crate) fn outside(&self) -> Vec<bool> {
        let outside = |index| {
            let place = self.place(index);
            place < 0.0 || place > self.input as f64 - 1.0
        };
        let crops = self.coordinates == Coordinates::CropAndResize;
        (0..self.output)
            .map(|index| crops && outside(index))
            .collect()
    }

    fn clamped(&self, index: f64) -> usize {
        // Saturates; the operand is not empty.
        (index.max(0.0) as usize).min(self.input - 1)
    }

    /// For each position the nearest element.
    pub(crate) fn nearest(&self, nearest: Nearest) -> Vec<usize> {
        let index = |index| {
            let place = self.place(index);
            self.clamped(match nearest {
                Nearest::RoundPreferFloor => (place - 0.5).ceil(),
                Nearest::RoundPreferCeil => (place + 0.5).floor(),
                Nearest::Floor => place.floor(),
                Nearest::Ceil => place.ceil(),
            })
        };
        (0..self.output).map(index).collect()
    }

    /// The matrix `[output, input]`, row-major, that resamples the axis.
    pub(crate) fn matrix(
        &self,
        filter: Filter,
        antialias: bool,
        exclude_outside: bool,
    ) -> Vec<f64> {
        let mut matrix = vec![0.0; self.output * self.input];
        for (index, row) in matrix.chunks_exact_mut(self.input).enumerate() {
            let place = self.place(index);
            let base = place.ceil() - 1.0;
            let mut weights = filter.weights(place - base, antialias.then_some(self.scale));
            let first = base - (weights.len() / 2) as f64 + 1.0;
            let at = |tap: usize| first + tap as f64;
            if exclude_outside {
                for (tap, weight) in weights.iter_mut().enumerate() {
                    if at(tap) < 0.0 || at(tap) >= self.input as f64 {
                        *weight = 0.0;
                    }
                }
                normalise(&mut weights);
            }
            for (tap, weight) in weights.iter().enumerate() {
                row[self.clamped(at(tap))] += weight;
            }
        }
        matrix
    }
}

impl Filter {
    /// The weights of an even number of neighbours of a place that lies `ratio` (in `(0, 1]`)
    /// behind the left one of the middle two. With `scale`, the filter widens when shrinking.
    fn weights(self, ratio: f64, scale: Option<f64>) -> Vec<f64> {
        let support = match self {
            Filter::Linear => 1.0,
            Filter::Cubic { .. } => 2.0,
        };
        let scale = scale.map_or(1.0, |scale| scale.min(1.0));
        let first = (-support / scale).floor() + 1.0;
        let taps = (2.0 - 2.0 * first) as usize;
        let weight = |tap: usize| self.kernel(scale * (first + tap as f64 - ratio));
        let mut weights: Vec<f64> = (0..taps).map(weight).collect();
        if scale < 1.0 {
            normalise(&mut weights);
        }
        weights
    }

    fn kernel(self, x: f64) -> f64 {
        let x = x.abs();
        match self {
            Filter::Linear => (1.0 - x).max(0.0),
            Filter::Cubic { a } if x <= 1.0 => ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0,
            Filter::Cubic { a } if x < 2.0 => ((x - 5.0) * x + 8.0) * x * a - 4.0 * a,
            Filter::Cubic { .. } => 0.0,
        }
    }
}

fn normalise(weights: &mut [f64]) {
    let sum: f64 = weights.iter().sum();
    if sum != 0.0 {
        weights.iter_mut().for_each(|weight| *weight /= sum);
    }
}
