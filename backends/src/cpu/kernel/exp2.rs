//! Powers of two in vectors, the only transcendental function of a softmax.
//!
//! Takes and gives vectors. `2^x = 2^n · 2^r` with the integer `n` nearest to `x`; `2^r` is a
//! polynomial of degree 6 with the smallest relative error for `|r| ≤ 1/2` among those that are 1
//! at 0, found by Lawson's method (1961) and rounded to f32: 1.6e-8 in exact arithmetic.

use super::wide::Wide;

/// Coefficients of `r^6` down to `r^1`.
const COEFFICIENTS: [f32; 6] = [
    1.535_336_2e-4,
    1.339_887_4e-3,
    9.618_437e-3,
    5.550_332_4e-2,
    2.402_264_8e-1,
    6.931_472e-1,
];

/// Below, powers are denormal numbers; they become 0 where a machine cannot scale by exponents.
pub(super) const NORMAL_LEAST: f32 = -126.0;

/// `2^r` for `|r| ≤ 1/2`.
#[inline(always)]
pub(super) fn fraction<W: Wide>(wide: W, r: W::f32s) -> W::f32s {
    let mut p = wide.splat_f32s(COEFFICIENTS[0]);
    for coefficient in &COEFFICIENTS[1..] {
        p = wide.fma(p, r, wide.splat_f32s(*coefficient));
    }
    wide.fma(p, r, wide.splat_f32s(1.0))
}

/// `2^x` for `x < 127.5` or NaN, by the bits of floats; 0 below [`NORMAL_LEAST`].
#[inline(always)]
pub(super) fn by_bits<W: Wide>(wide: W, x: W::f32s) -> W::f32s {
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
    let power = wide.mul_f32s(fraction(wide, r), wide.transmute_f32s_u32s(bits));
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
