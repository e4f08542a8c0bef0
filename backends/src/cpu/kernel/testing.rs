//! What tests of kernels share: data and odd sizes.

use super::machine::Machine;

/// `count` values that are normal with variance 1, the same for the same `seed`: by Box and
/// Muller (1958) from a linear congruential sequence.
pub(super) fn normals(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
    let mut uniform = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((state >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    };
    let normal =
        |_| ((-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos()) as f32;
    (0..count).map(normal).collect()
}

/// Numbers of columns around those of a vector and of a panel.
pub(super) fn widths(machine: Machine) -> [usize; 6] {
    let (lanes, width) = (machine.lanes(), machine.columns());
    [1, lanes, lanes + 1, width, width + 1, 2 * width - 1]
}
