//! Numbers turned into the vectors that a network is conditioned on.
//!
//! Takes a timestep or a guidance scale, gives a vector of sines and cosines. Arguments reach
//! 10,000 radians, so everything is double precision until the end. It never touches a graph.

/// Layout of [`timestep_embedding`], named as in UNet configurations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TimestepEmbedding {
    /// Length of the vector; an odd one ends in a zero.
    pub dim: usize,
    /// Whether cosines come first (`flip_sin_to_cos`).
    pub flip_sin_to_cos: bool,
    /// Subtracted from the number of frequencies in the divisor (`freq_shift`).
    pub freq_shift: f64,
}

/// The sinusoid of a timestep, `[dim]`: frequencies 10000^(−j/(dim/2 − shift))
/// (spec 1.4; diffusers `embeddings.get_timestep_embedding`).
pub fn timestep_embedding(timestep: f64, layout: TimestepEmbedding) -> Vec<f32> {
    let phases = phases(timestep, layout.dim, layout.freq_shift);
    let (sines, cosines) = (sines(&phases), cosines(&phases));
    let halves = if layout.flip_sin_to_cos {
        [cosines, sines]
    } else {
        [sines, cosines]
    };
    padded(halves, layout.dim)
}

/// The vector for `time_cond_proj`, `[dim]`, of a guidance scale in the embedded form (the standard
/// scale less one) or of SPLAM's 10 − 10γ (spec 0.4 and 1.4): sines, then cosines, of 1000 times
/// the number.
pub fn guidance_embedding(scale: f64, dim: usize) -> Vec<f32> {
    let phases = phases(1000.0 * scale, dim, 1.0);
    padded([sines(&phases), cosines(&phases)], dim)
}

fn phases(number: f64, dim: usize, freq_shift: f64) -> Vec<f64> {
    /// Longest period over 2π.
    const PERIOD_MAX: f64 = 10_000.0;
    let half = dim / 2;
    let divisor = half as f64 - freq_shift;
    (0..half)
        .map(|j| number * (-PERIOD_MAX.ln() * j as f64 / divisor).exp())
        .collect()
}

fn sines(phases: &[f64]) -> Vec<f32> {
    phases.iter().map(|phase| phase.sin() as f32).collect()
}

fn cosines(phases: &[f64]) -> Vec<f32> {
    phases.iter().map(|phase| phase.cos() as f32).collect()
}

fn padded(halves: [Vec<f32>; 2], dim: usize) -> Vec<f32> {
    let mut vector = halves.concat();
    vector.resize(dim, 0.0);
    vector
}
