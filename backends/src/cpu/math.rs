//! Elementary functions that compilers turn into vector instructions, and what machines have.
//!
//! Takes and gives f32, branch-free: loops over these inside of [`vectorized`] run on the widest
//! vectors found at run time. Products and sums are never contracted, so that every machine gives
//! the same bits.

use pulp::{Arch, Simd, WithSimd};

/// Runs `work` compiled for the widest vectors of this machine. That holds for what the compiler
/// inlines: short loops; longer ones are types of their own, as in [`exponentials`].
#[inline]
pub(crate) fn vectorized<R>(work: impl FnOnce() -> R) -> R {
    Arch::new().dispatch(work)
}

/// The vector instruction sets that [`vectorized`] and the GEMM library choose from, widest last.
pub(crate) fn instruction_sets() -> Vec<&'static str> {
    let found = candidates().into_iter().filter(|(_, found)| *found);
    found.map(|(name, _)| name).collect()
}

#[cfg(target_arch = "x86_64")]
fn candidates() -> [(&'static str, bool); 4] {
    [
        ("SSE2", true),
        ("AVX2", std::arch::is_x86_feature_detected!("avx2")),
        ("FMA", std::arch::is_x86_feature_detected!("fma")),
        ("AVX-512", std::arch::is_x86_feature_detected!("avx512f")),
    ]
}

#[cfg(not(target_arch = "x86_64"))]
fn candidates() -> [(&'static str, bool); 2] {
    [
        ("NEON", cfg!(target_arch = "aarch64")),
        ("SIMD128", cfg!(target_feature = "simd128")),
    ]
}

/// `e^x` to 2 units in the last place: `2^n · e^r` with `|r| ≤ ln(2)/2`, by the polynomial of
/// Cephes `expf` (Moshier 1992).
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Adding it leaves an integer in the low bits of the mantissa.
    const ROUND: f32 = 12_582_912.0;
    // Beyond these the result is 0 or infinite; NaN passes.
    let x = x.clamp(-104.0, 89.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let power = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let r = x - n * (355.0 / 512.0) + n * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_2e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    p = p * r * r + r + 1.0;
    // Two factors: one alone would leave the range of exponents at both ends.
    let half = power >> 1;
    let scale = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
    p * scale(half) * scale(power.wrapping_sub(half))
}

/// The natural logarithm to 2 units in the last place, by the polynomial of Cephes `logf` (Moshier
/// 1992): `x = 2^n · m` with `m` from `√½` to `√2`.
#[inline(always)]
pub(crate) fn ln(x: f32) -> f32 {
    // Denormal numbers have no exponent of their own.
    let denormal = x < f32::MIN_POSITIVE;
    let scaled = if denormal { x * 33_554_432.0 } else { x };
    let offset = if denormal { 25.0 } else { 0.0 };
    let bits = scaled
        .to_bits()
        .wrapping_sub(std::f32::consts::FRAC_1_SQRT_2.to_bits());
    let n = ((bits as i32) >> 23) as f32 - offset;
    let mantissa = (bits & 0x007F_FFFF).wrapping_add(std::f32::consts::FRAC_1_SQRT_2.to_bits());
    let r = f32::from_bits(mantissa) - 1.0;
    let square = r * r;
    let mut p = 7.037_683_6e-2;
    p = p * r - 1.151_461e-1;
    p = p * r + 1.167_699_9e-1;
    p = p * r - 1.242_014_1e-1;
    p = p * r + 1.424_932_3e-1;
    p = p * r - 1.666_805_8e-1;
    p = p * r + 2.000_071_5e-1;
    p = p * r - 2.499_999_4e-1;
    p = p * r + 3.333_333e-1;
    let near = p * r * square - n * 2.121_944_4e-4 - square * 0.5;
    let finite = r + near + n * (355.0 / 512.0);
    let above = if x < f32::INFINITY { finite } else { x };
    let defined = if x > 0.0 { above } else { f32::NAN };
    if x == 0.0 { f32::NEG_INFINITY } else { defined }
}

/// `1 / (1 + e^−x)`.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `x · σ(x)`.
#[inline(always)]
pub(crate) fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// `1 − erf(z)` for `z` of 0 and above, to 1.5e-7: Abramowitz and Stegun, formula 7.1.26.
#[inline(always)]
fn erf_tail(z: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let mut p = 1.061_405_4;
    p = p * t - 1.453_152;
    p = p * t + 1.421_413_7;
    p = p * t - 0.284_496_74;
    p = p * t + 0.254_829_6;
    p * t * exp(-z * z)
}

/// `2/√π · ∫₀ˣ e^(−t²) dt`.
#[inline(always)]
pub(crate) fn erf(x: f32) -> f32 {
    let tail = erf_tail(x.abs());
    // Near 0 the difference would cancel: erf(x) = 2/√π · (x − x³/3 + x⁵/10).
    let square = x * x;
    let near = x * std::f32::consts::FRAC_2_SQRT_PI * (1.0 - square / 3.0 + square * square * 0.1);
    let far = if x < 0.0 { tail - 1.0 } else { 1.0 - tail };
    if square < 0.01 { near } else { far }
}

/// `x / 2 · (1 + erf(x / √2))`.
#[inline(always)]
pub(crate) fn gelu_erf(x: f32) -> f32 {
    let tail = erf_tail(x.abs() * std::f32::consts::FRAC_1_SQRT_2);
    // erf is odd: 1 + erf(z) = 2 − tail, 1 + erf(−z) = tail.
    x * 0.5 * if x < 0.0 { tail } else { 2.0 - tail }
}

/// `x · σ(2y)` with `y = √(2/π) · (x + 0.044715 · x³)`, which is `x / 2 · (1 + tanh(y))`.
#[inline(always)]
pub(crate) fn gelu_tanh(x: f32) -> f32 {
    const TWICE: f32 = 1.595_769;
    x * sigmoid(TWICE * (x + 0.044_715 * x * x * x))
}

/// `x · σ(1.702 · x)`.
#[inline(always)]
pub(crate) fn gelu_quick(x: f32) -> f32 {
    x * sigmoid(1.702 * x)
}

/// `f` of every element, in place.
pub(crate) fn map_in_place(row: &mut [f32], f: impl Fn(f32) -> f32) {
    struct Map<'a, F>(&'a mut [f32], F);

    impl<F: Fn(f32) -> f32> WithSimd for Map<'_, F> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) {
            for x in self.0 {
                *x = (self.1)(*x);
            }
        }
    }

    Arch::new().dispatch(Map(row, f));
}

/// `f` of every element of `x`, into `out`.
#[inline]
pub(crate) fn map_into(out: &mut [f32], x: &[f32], f: impl Fn(f32) -> f32) {
    struct Map<'a, F>(&'a mut [f32], &'a [f32], F);

    impl<F: Fn(f32) -> f32> WithSimd for Map<'_, F> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) {
            for (out, &x) in self.0.iter_mut().zip(self.1) {
                *out = (self.2)(x);
            }
        }
    }

    Arch::new().dispatch(Map(out, x, f));
}

/// `f` of every pair of elements, into `out`.
#[inline]
pub(crate) fn zip_into(out: &mut [f32], a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) {
    struct Zip<'a, F>(&'a mut [f32], &'a [f32], &'a [f32], F);

    impl<F: Fn(f32, f32) -> f32> WithSimd for Zip<'_, F> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) {
            for ((out, &a), &b) in self.0.iter_mut().zip(self.1).zip(self.2) {
                *out = (self.3)(a, b);
            }
        }
    }

    Arch::new().dispatch(Zip(out, a, b, f));
}

/// Replaces every element by the exponential of its distance to the largest; gives their sum.
pub(crate) fn exponentials(row: &mut [f32]) -> f32 {
    struct Exponentials<'a>(&'a mut [f32]);

    impl WithSimd for Exponentials<'_> {
        type Output = f32;

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> f32 {
            let most = largest(self.0);
            let mut sum = 0.0;
            // Short sums in the lanes of vectors, long ones in f64.
            for block in self.0.chunks_mut(512) {
                let mut lanes = [0.0f32; 16];
                let (parts, rest) = block.as_chunks_mut::<16>();
                for part in parts {
                    for (lane, x) in lanes.iter_mut().zip(part) {
                        *x = exp(*x - most);
                        *lane += *x;
                    }
                }
                for (lane, x) in lanes.iter_mut().zip(rest) {
                    *x = exp(*x - most);
                    *lane += *x;
                }
                sum += lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>();
            }
            sum as f32
        }
    }

    Arch::new().dispatch(Exponentials(row))
}

/// The larger of two, NaN if one is.
#[inline(always)]
pub(crate) fn max(a: f32, b: f32) -> f32 {
    if a > b || a.is_nan() { a } else { b }
}

/// The smaller of two, NaN if one is.
#[inline(always)]
pub(crate) fn min(a: f32, b: f32) -> f32 {
    if a < b || a.is_nan() { a } else { b }
}

/// The sum in f64 of `term` over a row, in lanes that vectors hold.
#[inline(always)]
pub(crate) fn sum(row: &[f32], term: impl Fn(f64) -> f64) -> f64 {
    let mut lanes = [0.0f64; 16];
    let (blocks, rest) = row.as_chunks::<16>();
    for block in blocks {
        for (lane, &x) in lanes.iter_mut().zip(block) {
            *lane += term(f64::from(x));
        }
    }
    let tail: f64 = rest.iter().map(|&x| term(f64::from(x))).sum();
    lanes.iter().sum::<f64>() + tail
}

/// The sum of `term` over a row: short sums in the lanes of vectors, long ones in f64.
#[inline(always)]
pub(crate) fn short_sums(row: &[f32], term: impl Fn(f32) -> f32) -> f64 {
    const LANES: usize = 64;
    let mut total = 0.0;
    for block in row.chunks(16 * LANES) {
        let mut lanes = [0.0f32; LANES];
        let (parts, rest) = block.as_chunks::<LANES>();
        for part in parts {
            for (lane, &x) in lanes.iter_mut().zip(part) {
                *lane += term(x);
            }
        }
        for (lane, &x) in lanes.iter_mut().zip(rest) {
            *lane += term(x);
        }
        total += lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>();
    }
    total
}

/// The largest element of a row, not counting NaN; minus infinity for none.
#[inline(always)]
pub(crate) fn largest(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let (blocks, rest) = row.as_chunks::<16>();
    for block in blocks {
        for (lane, &x) in lanes.iter_mut().zip(block) {
            *lane = if x > *lane { x } else { *lane };
        }
    }
    lanes
        .iter()
        .chain(rest)
        .copied()
        .fold(f32::NEG_INFINITY, f32::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_close_everywhere() {
        for i in -110_000..=90_000 {
            let x = i as f32 * 1e-3;
            let (found, wanted) = (f64::from(exp(x)), f64::from(x).exp());
            // The smallest normal number bounds what denormal results lose.
            let wanted = if wanted > f64::from(f32::MAX) {
                f64::INFINITY
            } else {
                wanted
            };
            let error = (found - wanted).abs() / (wanted + f64::from(f32::MIN_POSITIVE));
            assert!(found == wanted || error < 3e-7, "{x}: {found} for {wanted}");
        }
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        assert_eq!((exp(inf), exp(-inf), exp(nan).is_nan()), (inf, 0.0, true));
        assert_eq!(exp(0.0), 1.0);
    }
    #[test]
    fn logarithms_are_close_everywhere() {
        let near_one = (0..20_000).map(|i| 0.5 + i as f32 * 1e-4);
        let all = (1..0x7F80_0000u32).step_by(9_973).map(f32::from_bits);
        for x in near_one.chain(all) {
            let (found, wanted) = (f64::from(ln(x)), f64::from(x).ln());
            let error = (found - wanted).abs() / wanted.abs().max(1e-30);
            assert!(error < 3e-7, "{x}: {found} for {wanted}");
        }
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        assert_eq!(
            (ln(0.0), ln(-0.0), ln(inf), ln(1.0)),
            (-inf, -inf, inf, 0.0)
        );
        assert!([nan, -1.0, -inf, -1e-40].map(ln).iter().all(|x| x.is_nan()));
    }
}
