//! A sampler as a table of numbers: what `graphs` computes once and `runtime` obeys at each step.
//!
//! Takes nothing and computes nothing: plain data. Every sampler (DDIM, Euler, DPM-Solver, LCM, …)
//! becomes one [`SamplerTable`], whose steps differ in numbers alone, so that one fused kernel
//! serves all of them. It never holds a sampler's name, a noise schedule or a branch.
//!
//! # What a step does
//! Let `x` be the state, `h[k]` the history slots, all of shape `[batch, channels, height, width]`.
//! 1. The network sees `input_scale · x` at `timestep` and answers; [`Guidance`] turns its one or
//!    two answers into `output`.
//! 2. `z` is the standard normal draw number `draw`, if the step has one.
//! 3. `x0 = limit(estimate(x, output, z, h))`.
//! 4. `x' = next(x, output, x0, z, h)`; for each store, `h'[slot] = row(x, output, x0, z, h)`.
//!
//! All rows of a step read the old `x` and `h`: stores do not see one another, nor `x'`.
//! Before step 0, `x` is `init_noise_sigma` times standard normal noise and `h` is zero.

/// History slots that a table may use; a row has one coefficient for each.
pub const HISTORY_SLOTS: usize = 5;

/// A whole sampling run: its scale at the start and one row of numbers for each network call.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplerTable {
    /// Standard deviation of the initial latents, in the sampler's own scale.
    pub init_noise_sigma: f64,
    /// Standard normal tensors that the run draws after the initial one, in order.
    pub draws: usize,
    /// History slots in use, at most [`HISTORY_SLOTS`]; rows are zero beyond them.
    pub history_slots: usize,
    /// One entry for each network call, in order.
    pub steps: Vec<SamplerStep>,
}

/// One network call and the linear update that follows it; the module card gives the order.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplerStep {
    /// What the network is told, 0..1000 for most samplers; fractional for some.
    pub timestep: f64,
    /// Factor from the state to the network's input.
    pub input_scale: f64,
    /// Which of the run's draws this step adds, if any; draws are numbered in order.
    pub draw: Option<usize>,
    /// The sampler's estimate of the clean latents before `limit`; its `x0` coefficient is zero.
    /// (PeRFlow estimates the end of the current time window instead.)
    pub estimate: Row,
    /// How the estimate is bounded before the other rows read it as `x0`.
    pub limit: Limit,
    /// The state after this step.
    pub next: Row,
    /// History slots written by this step, each slot at most once.
    pub stores: Vec<Store>,
}

/// Coefficients of one linear combination of what a step can read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Row {
    /// Of the state before the step.
    pub x: f64,
    /// Of the guided network output.
    pub output: f64,
    /// Of the limited estimate; zero unless the step has a limit.
    pub x0: f64,
    /// Of the step's standard normal draw; zero unless the step has one.
    pub noise: f64,
    /// Of each history slot.
    pub history: [f64; HISTORY_SLOTS],
}

/// One history slot and the row that gives its new content.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Store {
    /// Slot to write, below [`SamplerTable::history_slots`].
    pub slot: usize,
    /// New content of the slot.
    pub row: Row,
}

/// How an estimate of the clean latents is bounded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// Not at all.
    None,
    /// Each element is clamped to `[-bound, bound]`.
    Clip {
        /// Largest magnitude left.
        bound: f64,
    },
    /// Dynamic thresholding (arXiv 2205.11487, section 2.3): with `s` the quantile of the
    /// magnitudes of one image, brought into `[1, bound_max]`, clamp to `[-s, s]` and divide by
    /// `s`.
    Threshold {
        /// Quantile in 0..1, linearly interpolated between order statistics.
        quantile: f64,
        /// Largest `s`; below 1 it wins over the lower bound.
        bound_max: f64,
    },
}

/// Classifier-free guidance on network outputs, in the standard form.
///
/// `guided = uncond + scale · (cond − uncond)`; with `rescale` r > 0 then
/// `r · guided · std(cond) / std(guided) + (1 − r) · guided`, the deviations taken over each image
/// (arXiv 2305.08891, section 3.4).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guidance {
    /// 1 is no guidance: the unconditional answer is then not needed.
    pub scale: f64,
    /// 0 leaves the guided output as it is, 1 gives it the conditional output's deviation.
    pub rescale: f64,
}
