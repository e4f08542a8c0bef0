//! Winograd convolutions with 3×3 filters and stride 1: fewer multiplications per pixel.
//!
//! Takes taps as runs over channels and gives operands of matrix products, one per point of the
//! transformed tile (a plane), and pixels from their results. For filters `g` and tiles `d` of the
//! image, `y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A` summed over channels: Lavin and Gray 2015
//! (arXiv 1509.09308), eq. 8. It pads nothing: taps outside of the image are none.

mod arithmetic;
pub(crate) mod input;
pub(crate) mod lanes;
pub(crate) mod output;
pub(crate) mod weights;

use super::wide::Wide;
use arithmetic::Arithmetic;

/// The most rows and columns of a transformed tile.
const TILE_MOST: usize = 6;

/// The most planes.
const PLANES_MOST: usize = TILE_MOST * TILE_MOST;

/// The pixels of the image that a tile reads, each a run over its channels, row by row; those
/// outside of the image are none. [`Points::Two`] uses the first 16.
pub(crate) type Taps<'a> = [Option<&'a [f32]>; PLANES_MOST];

/// How large tiles are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Points {
    /// F(2×2, 3×3): 4×4 pixels give 2×2, with 4 multiplications per pixel instead of 9.
    Two,
    /// F(4×4, 3×3): 6×6 pixels give 4×4, with 2.25 multiplications per pixel.
    Four,
}

impl Points {
    /// Rows and columns of pixels that a tile reads.
    pub(crate) fn tile(self) -> usize {
        match self {
            Points::Two => Two::TILE,
            Points::Four => Four::TILE,
        }
    }

    /// Rows and columns of pixels that a tile gives.
    pub(crate) fn pixels(self) -> usize {
        self.tile() - 2
    }

    /// Matrix products of a convolution: elements of a transformed tile.
    pub(crate) fn planes(self) -> usize {
        self.tile() * self.tile()
    }
}

/// The transforms of a line of a tile. Arrays are as long as the largest scheme needs.
trait Scheme {
    /// Elements of a line of the tile.
    const TILE: usize;

    /// The three taps of many filters: `G g`, of which the first `TILE` count.
    fn filters<N: Arithmetic>(numbers: N, taps: [N::Values; 3]) -> [N::Values; TILE_MOST];

    /// Pixels of the image: `Bᵀ d`.
    fn forward<W: Wide>(wide: W, d: [W::f32s; TILE_MOST]) -> [W::f32s; TILE_MOST];

    /// The gradient of pixels: `A y` of the first `TILE − 2`.
    fn spread<W: Wide>(wide: W, y: [W::f32s; TILE_MOST]) -> [W::f32s; TILE_MOST];

    /// Sums of products over tiles: `Gᵀ m`, of which the first three count.
    fn gather<W: Wide>(wide: W, m: [W::f32s; TILE_MOST]) -> [W::f32s; TILE_MOST];

    /// Sums of products: `Aᵀ m`, of which the first `TILE − 2` count.
    fn backward<W: Wide>(wide: W, m: [W::f32s; TILE_MOST]) -> [W::f32s; TILE_MOST];
}

/// The points 0, 1, −1 and infinity: Lavin and Gray 2015, eq. 9.
struct Two;

impl Scheme for Two {
    const TILE: usize = 4;

    #[inline(always)]
    fn filters<N: Arithmetic>(numbers: N, [g0, g1, g2]: [N::Values; 3]) -> [N::Values; TILE_MOST] {
        let even = numbers.scale(0.5, numbers.add(g0, g2));
        let odd = numbers.scale(0.5, g1);
        let (plus, minus) = (numbers.add(even, odd), numbers.sub(even, odd));
        [g0, plus, minus, g2, g2, g2]
    }

    #[inline(always)]
    fn forward<W: Wide>(wide: W, d: [W::f32s; TILE_MOST]) -> [W::f32s; TILE_MOST] {
        [
            wide.sub_f32s(d[0], d[2]),
            wide.add_f32s(d[1], d[2]),
            wide.sub_f32s(d[2], d[1]),
            wide.sub_f32s(d[1], d[3]),
            d[4],
            d[5],
        ]
    }

    #[inline(always)]
    fn spread<W: Wide>(wide: W, y: [W::f32s; TILE_MOST]) -> [W::f32s; TILE_MOST] {
        let (sum, difference) = (wide.add_f32s(y[0], y[1]), wide.sub_f32s(y[0], y[1]));
        let last = wide.sub_f32s(wide.splat_f32s(0.0), y[1]);
        [y[0], sum, difference, last, y[0], y[0]]
    }

    #[inline(always)]
    fn gather<W: Wide>(wide: W, m: [W::f32s; TILE_MOST]) -> [W::f32s; TILE_MOST] {
        let half = wide.splat_f32s(0.5);
        let even = wide.mul_f32s(half, wide.add_f32s(m[1], m[2]));
        let odd = wide.mul_f32s(half, wide.sub_f32s(m[1], m[2]));
        let (first, last) = (wide.add_f32s(m[0], even), wide.add_f32s(m[3], even));
        [first, odd, last, m[3], m[4], m[5]]
    }

    #[inline(always)]
    fn backward<W: Wide>(wide: W, m: [W::f32s; TILE_MOST]) -> [W::f32s; TILE_MOST] {
        let (sum, difference) = (wide.add_f32s(m[1], m[2]), wide.sub_f32s(m[1], m[2]));
        let first = wide.add_f32s(m[0], sum);
        let second = wide.sub_f32s(difference, m[3]);
        [first, second, m[2], m[3], m[4], m[5]]
    }
}

/// The points 0, ±a, ±b and infinity with [`A`] and [`B`], by the construction of Toom and Cook:
/// with `M(x) = x (x² − a²) (x² − b²)`, row `p` of `Bᵀ` holds the coefficients of `M(x) / (x − p)`,
/// row `p` of `G` is `(1, p, p²) / M'(p)`, and column `p` of `Aᵀ` is `(1, p, p², p³)`.
struct Four;

/// The inner points. With the points ±1 and ±2 of Lavin and Gray, errors are 2.4 times as large on
/// average and 5 times at most: all of 0.56..0.75 with 1.25..1.6 were measured, in steps of 1/16.
/// All constants are exact in f32.
const A: f64 = 0.6875;

/// The outer points.
const B: f64 = 1.5;

impl Scheme for Four {
    const TILE: usize = 6;

    #[inline(always)]
    fn filters<N: Arithmetic>(numbers: N, [g0, g1, g2]: [N::Values; 3]) -> [N::Values; TILE_MOST] {
        let (a2, b2) = (A * A, B * B);
        let (slope_a, slope_b) = (2.0 * a2 * (a2 - b2), 2.0 * b2 * (b2 - a2));
        let even_a = numbers.scale_add(a2 / slope_a, g2, numbers.scale(1.0 / slope_a, g0));
        let even_b = numbers.scale_add(b2 / slope_b, g2, numbers.scale(1.0 / slope_b, g0));
        let (odd_a, odd_b) = (
            numbers.scale(A / slope_a, g1),
            numbers.scale(B / slope_b, g1),
        );
        [
            numbers.scale(1.0 / (a2 * b2), g0),
            numbers.add(even_a, odd_a),
            numbers.sub(even_a, odd_a),
            numbers.add(even_b, odd_b),
            numbers.sub(even_b, odd_b),
            g2,
        ]
    }

    #[inline(always)]
    fn forward<W: Wide>(wide: W, d: [W::f32s; TILE_MOST]) -> [W::f32s; TILE_MOST] {
        let [a, b] = [wide.splat_f32s(A as f32), wide.splat_f32s(B as f32)];
        let less_a = wide.splat_f32s(-A as f32);
        let less_b = wide.splat_f32s(-B as f32);
        let less_a2 = wide.splat_f32s(-(A * A) as f32);
        let less_b2 = wide.splat_f32s(-(B * B) as f32);
        let product = wide.splat_f32s((A * A * B * B) as f32);
        let less_sum = wide.splat_f32s(-(A * A + B * B) as f32);
        let (even_a, odd_a) = (wide.fma(less_b2, d[2], d[4]), wide.fma(less_b2, d[1], d[3]));
        let (even_b, odd_b) = (wide.fma(less_a2, d[2], d[4]), wide.fma(less_a2, d[1], d[3]));
        [
            wide.fma(product, d[0], wide.fma(less_sum, d[2], d[4])),
            wide.fma(a, odd_a, even_a),
            wide.fma(less_a, odd_a, even_a),
            wide.fma(b, odd_b, even_b),
            wide.fma(less_b, odd_b, even_b),
            wide.fma(product, d[1], wide.fma(less_sum, d[3], d[5])),
        ]
    }

    #[inline(always)]
    fn spread<W: Wide>(wide: W, y: [W::f32s; TILE_MOST]) -> [W::f32s; TILE_MOST] {
        let a2 = wide.splat_f32s((A * A) as f32);
        let b2 = wide.splat_f32s((B * B) as f32);
        let odd_a = scaled(wide, A, wide.fma(a2, y[3], y[1]));
        let odd_b = scaled(wide, B, wide.fma(b2, y[3], y[1]));
        let [plus_a, minus_a] = pair(wide, wide.fma(a2, y[2], y[0]), odd_a);
        let [plus_b, minus_b] = pair(wide, wide.fma(b2, y[2], y[0]), odd_b);
        [y[0], plus_a, minus_a, plus_b, minus_b, y[3]]
    }

    #[inline(always)]
    fn gather<W: Wide>(wide: W, m: [W::f32s; TILE_MOST]) -> [W::f32s; TILE_MOST] {
        let (a2, b2) = (A * A, B * B);
        let (slope_a, slope_b) = (2.0 * a2 * (a2 - b2), 2.0 * b2 * (b2 - a2));
        let even_a = scaled(wide, 1.0 / slope_a, wide.add_f32s(m[1], m[2]));
        let odd_a = scaled(wide, A / slope_a, wide.sub_f32s(m[1], m[2]));
        let even_b = scaled(wide, 1.0 / slope_b, wide.add_f32s(m[3], m[4]));
        let odd_b = scaled(wide, B / slope_b, wide.sub_f32s(m[3], m[4]));
        let first = scaled(wide, 1.0 / (a2 * b2), m[0]);
        let last = wide.fma(wide.splat_f32s(b2 as f32), even_b, m[5]);
        [
            wide.add_f32s(first, wide.add_f32s(even_a, even_b)),
            wide.add_f32s(odd_a, odd_b),
            wide.fma(wide.splat_f32s(a2 as f32), even_a, last),
            m[3],
            m[4],
            m[5],
        ]
    }

    #[inline(always)]
    fn backward<W: Wide>(wide: W, m: [W::f32s; TILE_MOST]) -> [W::f32s; TILE_MOST] {
        let [a, b] = [wide.splat_f32s(A as f32), wide.splat_f32s(B as f32)];
        let [a2, b2] = [
            wide.splat_f32s((A * A) as f32),
            wide.splat_f32s((B * B) as f32),
        ];
        let a3 = wide.splat_f32s((A * A * A) as f32);
        let b3 = wide.splat_f32s((B * B * B) as f32);
        let (even_a, odd_a) = (wide.add_f32s(m[1], m[2]), wide.sub_f32s(m[1], m[2]));
        let (even_b, odd_b) = (wide.add_f32s(m[3], m[4]), wide.sub_f32s(m[3], m[4]));
        [
            wide.add_f32s(m[0], wide.add_f32s(even_a, even_b)),
            wide.fma(a, odd_a, wide.mul_f32s(b, odd_b)),
            wide.fma(a2, even_a, wide.mul_f32s(b2, even_b)),
            wide.fma(a3, odd_a, wide.fma(b3, odd_b, m[5])),
            m[4],
            m[5],
        ]
    }
}

/// A vector times a number.
#[inline(always)]
fn scaled<W: Wide>(wide: W, factor: f64, values: W::f32s) -> W::f32s {
    wide.mul_f32s(wide.splat_f32s(factor as f32), values)
}

/// The values at a point and at its negative, of their even and their odd part.
#[inline(always)]
fn pair<W: Wide>(wide: W, even: W::f32s, odd: W::f32s) -> [W::f32s; 2] {
    [wide.add_f32s(even, odd), wide.sub_f32s(even, odd)]
}

#[cfg(test)]
mod tests;
