//! What kernels need of a vector instruction set beyond [`pulp::Simd`].
//!
//! One implementation per machine: the register tile of matrix products, loads and stores at any
//! address, a multiply-add that is never a call, and a prefetch.
#![allow(
    unsafe_code,
    reason = "vector loads from pointers that kernels have checked"
)]

use pulp::{Scalar128b, Simd, f32x4};

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use super::transpose;
use super::transpose::LANES_MOST;

/// A vector instruction set with the shape of its register tile.
pub(super) trait Wide: Simd {
    /// Rows of the register tile.
    const ROWS: usize;

    /// Vectors in a row of the register tile.
    const VECTORS: usize;

    /// The vectors that transposes work on: their cost per element grows with the lanes.
    type Narrow: Wide;

    /// The same instructions on narrower vectors.
    fn narrow(self) -> Self::Narrow;

    /// `a · b + c`; rounded once where the machine has such an instruction.
    fn fma(self, a: Self::f32s, b: Self::f32s, c: Self::f32s) -> Self::f32s;

    /// `2^x` to 1.5 units in the last place for `x < 127.5`; what would be denormal may be 0. NaN
    /// stays.
    #[inline(always)]
    fn exp2(self, x: Self::f32s) -> Self::f32s {
        power_by_bits(self, x)
    }

    /// Asks for the line of the cache at `pointer`, which may be any address.
    #[inline(always)]
    fn prefetch(self, pointer: *const f32) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: every x86-64 processor has the instruction, and it never faults.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(pointer.cast()) }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = pointer;
    }

    /// The vector of every lane of the first `F32_LANES` rows, in order; what comes behind them is
    /// nothing that counts.
    fn transpose(self, rows: [Self::f32s; LANES_MOST]) -> [Self::f32s; LANES_MOST];

    /// Reads a vector.
    ///
    /// # Safety
    /// `pointer` is valid for a vector of f32; it need not be aligned to one.
    // SAFETY: the caller's promise is that of `read_unaligned`.
    #[inline(always)]
    unsafe fn load(self, pointer: *const f32) -> Self::f32s {
        unsafe { pointer.cast::<Self::f32s>().read_unaligned() }
    }

    /// Writes a vector.
    ///
    /// # Safety
    /// As [`Wide::load`], for writing.
    // SAFETY: the caller's promise is that of `write_unaligned`.
    #[inline(always)]
    unsafe fn store(self, pointer: *mut f32, vector: Self::f32s) {
        unsafe { pointer.cast::<Self::f32s>().write_unaligned(vector) }
    }
}

#[cfg(target_arch = "x86_64")]
impl Wide for pulp::x86::V4 {
    const ROWS: usize = 14;
    const VECTORS: usize = 2;

    type Narrow = pulp::x86::V3;

    #[inline(always)]
    fn narrow(self) -> pulp::x86::V3 {
        *self
    }

    #[inline(always)]
    fn fma(self, a: Self::f32s, b: Self::f32s, c: Self::f32s) -> Self::f32s {
        self.mul_add_f32s(a, b, c)
    }

    #[inline(always)]
    fn exp2(self, x: Self::f32s) -> Self::f32s {
        use std::arch::x86_64::{
            _MM_FROUND_NO_EXC, _MM_FROUND_TO_NEAREST_INT, _mm512_roundscale_ps, _mm512_scalef_ps,
        };
        // Low enough to give 0, high enough to be a number; the maximum is `x` if that is NaN.
        let x = self.max_f32s(self.splat_f32s(-160.0), x);
        // SAFETY: `self` exists on processors with these instructions alone.
        unsafe {
            let whole = _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(
                bytemuck::cast(x),
            );
            let r = self.sub_f32s(x, bytemuck::cast(whole));
            let fraction = bytemuck::cast(power_of_fraction(self, r));
            bytemuck::cast(_mm512_scalef_ps(fraction, whole))
        }
    }

    #[inline(always)]
    fn transpose(self, rows: [Self::f32s; LANES_MOST]) -> [Self::f32s; LANES_MOST] {
        // SAFETY: `self` exists on processors with these instructions alone.
        unsafe { bytemuck::cast(transpose::avx512(bytemuck::cast(rows))) }
    }
}

#[cfg(target_arch = "x86_64")]
impl Wide for pulp::x86::V3 {
    const ROWS: usize = 6;
    const VECTORS: usize = 2;

    type Narrow = pulp::x86::V3;

    #[inline(always)]
    fn narrow(self) -> pulp::x86::V3 {
        self
    }

    #[inline(always)]
    fn fma(self, a: Self::f32s, b: Self::f32s, c: Self::f32s) -> Self::f32s {
        self.mul_add_f32s(a, b, c)
    }

    #[inline(always)]
    fn transpose(self, rows: [Self::f32s; LANES_MOST]) -> [Self::f32s; LANES_MOST] {
        // SAFETY: `self` exists on processors with these instructions alone.
        unsafe { bytemuck::cast(transpose::avx2(bytemuck::cast(rows))) }
    }
}

#[cfg(target_arch = "aarch64")]
impl Wide for pulp::aarch64::Neon {
    const ROWS: usize = 6;
    const VECTORS: usize = 4;

    type Narrow = pulp::aarch64::Neon;

    #[inline(always)]
    fn narrow(self) -> pulp::aarch64::Neon {
        self
    }

    #[inline(always)]
    fn fma(self, a: Self::f32s, b: Self::f32s, c: Self::f32s) -> Self::f32s {
        self.mul_add_f32s(a, b, c)
    }

    #[inline(always)]
    fn transpose(self, rows: [Self::f32s; LANES_MOST]) -> [Self::f32s; LANES_MOST] {
        // SAFETY: `self` exists on processors with these instructions alone.
        unsafe { bytemuck::cast(transpose::neon(bytemuck::cast(rows))) }
    }
}

impl Wide for Scalar128b {
    const ROWS: usize = 4;
    const VECTORS: usize = 2;

    type Narrow = Scalar128b;

    #[inline(always)]
    fn narrow(self) -> Scalar128b {
        self
    }

    #[inline(always)]
    fn fma(self, a: Self::f32s, b: Self::f32s, c: Self::f32s) -> Self::f32s {
        self.add_f32s(self.mul_f32s(a, b), c)
    }

    #[inline(always)]
    fn transpose(self, rows: [Self::f32s; LANES_MOST]) -> [Self::f32s; LANES_MOST] {
        let [a, b, c, d] = [0, 1, 2, 3].map(|row| rows[row]);
        let mut columns = rows;
        columns[0] = f32x4(a.0, b.0, c.0, d.0);
        columns[1] = f32x4(a.1, b.1, c.1, d.1);
        columns[2] = f32x4(a.2, b.2, c.2, d.2);
        columns[3] = f32x4(a.3, b.3, c.3, d.3);
        columns
    }
}

/// Coefficients of `r^6` down to `r^1`: `2^x = 2^n · 2^r` with the integer `n` nearest to `x`, and
/// `2^r` a polynomial of degree 6 with the smallest relative error for `|r| ≤ 1/2` among those that
/// are 1 at 0, found by Lawson's method (1961) and rounded to f32: 1.6e-8 in exact arithmetic.
const COEFFICIENTS: [f32; 6] = [
    1.535_336_2e-4,
    1.339_887_4e-3,
    9.618_437e-3,
    5.550_332_4e-2,
    2.402_264_8e-1,
    6.931_472e-1,
];

/// Below, powers are denormal numbers; they become 0 where a machine cannot scale by exponents.
const NORMAL_LEAST: f32 = -126.0;

/// `2^r` for `|r| ≤ 1/2`.
#[inline(always)]
fn power_of_fraction<W: Wide>(wide: W, r: W::f32s) -> W::f32s {
    let mut p = wide.splat_f32s(COEFFICIENTS[0]);
    for coefficient in &COEFFICIENTS[1..] {
        p = wide.fma(p, r, wide.splat_f32s(*coefficient));
    }
    wide.fma(p, r, wide.splat_f32s(1.0))
}

/// `2^x` for `x < 127.5` or NaN, by the bits of floats; 0 below [`NORMAL_LEAST`].
#[inline(always)]
fn power_by_bits<W: Wide>(wide: W, x: W::f32s) -> W::f32s {
    // 1.5 · 2^23: adding it leaves an integer in the low bits of the mantissa, and its own are 0.
    const ROUND: f32 = 12_582_912.0;
    const EXPONENT_BIAS: u32 = 127;
    const MANTISSA_BITS: u32 = 23;
    let round = wide.splat_f32s(ROUND);
    let shifted = wide.add_f32s(x, round);
    let r = wide.sub_f32s(x, wide.sub_f32s(shifted, round));
    let exponent = wide.add_u32s(
        wide.transmute_u32s_f32s(shifted),
        wide.splat_u32s(EXPONENT_BIAS),
    );
    let bits = wide.wrapping_dyn_shl_u32s(exponent, wide.splat_u32s(MANTISSA_BITS));
    let power = wide.mul_f32s(power_of_fraction(wide, r), wide.transmute_f32s_u32s(bits));
    let tiny = wide.less_than_f32s(x, wide.splat_f32s(NORMAL_LEAST));
    wide.select_f32s(tiny, wide.splat_f32s(0.0), power)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::kernel::machine::{Kernel, Machine};

    struct Powers<'a>(&'a mut [f32]);

    impl Kernel for Powers<'_> {
        type Output = ();

        #[inline(always)]
        fn run<W: Wide>(self, wide: W) {
            for values in self.0.chunks_exact_mut(W::F32_LANES) {
                let x = wide.partial_load_f32s(values);
                wide.partial_store_f32s(values, wide.exp2(x));
            }
        }
    }

    #[test]
    fn powers_are_within_one_and_a_half_units_in_the_last_place() {
        for machine in Machine::available() {
            let x: Vec<f32> = (0..1_088_000).map(|i| 1.0 - i as f32 * 1.17e-4).collect();
            let mut found = x.clone();
            machine.run(Powers(&mut found));
            for (&x, &found) in x.iter().zip(&found) {
                let wanted = f64::from(x).exp2();
                let unit = f64::from((wanted as f32).next_up()) - f64::from(wanted as f32);
                let error = (f64::from(found) - wanted).abs() / unit;
                let denormal = x < NORMAL_LEAST && f64::from(found) < 1.2e-38;
                assert!(
                    error <= 1.5 || denormal,
                    "{}: {found} at {x}, {error}",
                    machine.name()
                );
            }
        }
    }

    #[test]
    fn powers_at_the_borders() {
        for machine in Machine::available() {
            let x = [
                0.0,
                -0.0,
                1.0,
                -1.0,
                f32::NEG_INFINITY,
                -1e30,
                -200.0,
                f32::NAN,
            ];
            let mut found = [x, x].concat();
            machine.run(Powers(&mut found));
            assert_eq!(
                found[..7],
                [1.0, 1.0, 2.0, 0.5, 0.0, 0.0, 0.0],
                "{}",
                machine.name()
            );
            assert!(found[7].is_nan(), "{}", machine.name());
        }
    }
}
