//! Widening of 16-bit floats to f32, for operands that are stored narrow.
//!
//! Takes the bits of f16 or bf16 values, gives f32 values, exactly.

use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};

use super::machine::{Kernel, Machine};
use super::wide::Wide;

/// A 16-bit float type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Narrow {
    /// IEEE 754 binary16.
    F16,
    /// The upper half of an f32.
    Bf16,
}

/// `out[i]` becomes the value with the bits `bits[i]`.
///
/// # Panics
/// When the lengths differ.
pub(crate) fn widen(machine: Machine, out: &mut [f32], bits: &[u16], kind: Narrow) {
    assert_eq!(
        out.len(),
        bits.len(),
        "values and their bits differ in number"
    );
    match kind {
        // The library finds its instructions itself.
        Narrow::F16 => bits.reinterpret_cast::<f16>().convert_to_f32_slice(out),
        Narrow::Bf16 => machine.run(Shift { out, bits }),
    }
}

struct Shift<'a> {
    out: &'a mut [f32],
    bits: &'a [u16],
}

impl Kernel for Shift<'_> {
    type Output = ();

    #[inline(always)]
    fn run<W: Wide>(self, _: W) {
        for (out, &bits) in self.out.iter_mut().zip(self.bits) {
            *out = f32::from_bits(u32::from(bits) << 16);
        }
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;

    #[test]
    fn all_values_are_exact() {
        // An odd number, so that vectors leave a rest.
        let bits: Vec<u16> = (0..u16::MAX).collect();
        let mut out = vec![0.0; bits.len()];
        for machine in Machine::available() {
            for (kind, value) in [
                (
                    Narrow::F16,
                    (|bits| f16::from_bits(bits).to_f32()) as fn(u16) -> f32,
                ),
                (Narrow::Bf16, |bits| bf16::from_bits(bits).to_f32()),
            ] {
                widen(machine, &mut out, &bits, kind);
                for (&found, &bits) in out.iter().zip(&bits) {
                    let wanted = value(bits);
                    let same = found == wanted || found.is_nan() && wanted.is_nan();
                    assert!(same, "{} {kind:?} {bits:#x}: {found}", machine.name());
                }
            }
        }
    }
}
