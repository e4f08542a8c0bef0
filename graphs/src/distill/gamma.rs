//! How a student is told γ, the place on a sub-path.
//!
//! Takes a form and a number, returns the vector of a condition. It knows no step.

use crate::guidance::guidance_embedding;

/// The vector that stands for γ (spec 1.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GammaEmbed {
    /// `e(γ) − e(1)`: exactly zero at γ = 1, so that the condition can be dropped.
    ZeroAtOne,
    /// `e(γ)`, as the released script has it.
    Official,
    /// Not at all: the student is called at the timestep whose noise is that of the state, which is
    /// scaled to the schedule's variance. At γ = 1 it is LCM's student.
    Matched,
}

/// The vector `[features]` that tells a student `gamma`.
pub fn gamma_embedding(form: GammaEmbed, gamma: f64, features: usize) -> Vec<f32> {
    let scalar = |gamma: f64| 10.0 - 10.0 * gamma;
    let mut vector = guidance_embedding(scalar(gamma), features);
    if form == GammaEmbed::ZeroAtOne {
        let one = guidance_embedding(scalar(1.0), features);
        vector.iter_mut().zip(one).for_each(|(x, one)| *x -= one);
    }
    vector
}
