//! Noise levels of the samplers that step along σ (Euler, DPM-Solver, UniPC).
//!
//! Takes the training schedule's σ = √((1 − ᾱ)/ᾱ) and gives the σ of each step, with the timestep
//! that the network is told for it. Rounds to single precision exactly where diffusers does,
//! because timesteps found back from σ are compared bit by bit. It never steps.

use super::error::SamplerError;
use super::options::Options;
use super::spacing::linspace;
use crate::noise_schedule::NoiseSchedule;

/// Which curve replaces the schedule's own σ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Curve {
    /// None: σ of the timesteps.
    Schedule,
    /// Evenly spaced σ^(1/7) (arXiv 2206.00364, eq. 5).
    Karras,
    /// Evenly spaced log σ.
    Exponential,
    /// Quantiles of the Beta(0.6, 0.6) distribution (arXiv 2407.12173).
    Beta,
    /// Evenly spaced λ over the whole schedule (arXiv 2206.00927, with ρ = 1).
    Lu,
}

impl Curve {
    /// Reads the four switches; at most one may be on.
    pub(super) fn read(
        options: &Options,
        switches: &[(&'static str, Curve)],
    ) -> Result<Curve, SamplerError> {
        let mut chosen: Option<(&'static str, Curve)> = None;
        for &(option, curve) in switches {
            if !options.flag(option, false)? {
                continue;
            }
            if let Some((first, _)) = chosen {
                return Err(SamplerError::Conflict {
                    first,
                    second: option,
                });
            }
            chosen = Some((option, curve));
        }
        if let Some((second, _)) = chosen {
            let by_hand = ["timesteps", "sigmas"].into_iter();
            let mut by_hand = by_hand.filter(|list| options.sampler.reads(list));
            if let Some(first) = by_hand.find(|list| options.is_given(list)) {
                return Err(SamplerError::Conflict { first, second });
            }
        }
        Ok(chosen.map_or(Curve::Schedule, |(_, curve)| curve))
    }
}

/// The training schedule's σ, least noisy first, and their logarithms, in single precision.
pub(super) struct TrainSigmas {
    pub(super) sigmas: Vec<f32>,
    pub(super) logs: Vec<f32>,
}

impl TrainSigmas {
    /// With `zero_terminal_snr` the last ᾱ is taken as 2⁻²⁴, so that its σ is finite (spec 4.10).
    pub(super) fn new(schedule: &NoiseSchedule, zero_terminal_snr: bool) -> TrainSigmas {
        let mut bars = schedule.alphas_cumprod().to_vec();
        if zero_terminal_snr && let Some(last) = bars.last_mut() {
            *last = (-24.0_f32).exp2();
        }
        let sigmas: Vec<f32> = bars.iter().map(|bar| ((1.0 - bar) / bar).sqrt()).collect();
        let logs = sigmas
            .iter()
            .map(|sigma| f64::from(*sigma).ln() as f32)
            .collect();
        TrainSigmas { sigmas, logs }
    }

    /// The largest and the smallest σ.
    pub(super) fn ends(&self) -> (f64, f64) {
        let end = |sigma: Option<&f32>| sigma.map_or(f64::NAN, |sigma| f64::from(*sigma));
        (end(self.sigmas.last()), end(self.sigmas.first()))
    }

    /// σ at a fractional timestep, linearly between neighbours, constant beyond the ends.
    pub(super) fn at(&self, timestep: f64) -> f64 {
        let last = self.sigmas.len() - 1;
        let low = timestep.clamp(0.0, last as f64).floor() as usize;
        let (from, to) = (
            f64::from(self.sigmas[low]),
            f64::from(self.sigmas[(low + 1).min(last)]),
        );
        (to - from) * (timestep.clamp(0.0, last as f64) - low as f64) + from
    }

    /// The fractional timestep whose log σ this is, by linear interpolation.
    pub(super) fn timestep_of(&self, sigma: f64) -> f64 {
        let wanted = sigma.max(1e-10).ln();
        let last = self.logs.len() - 1;
        if last == 0 {
            return 0.0;
        }
        let reached = self
            .logs
            .iter()
            .rposition(|log| wanted >= f64::from(*log))
            .unwrap_or(0);
        let low = reached.min(last - 1);
        let span = f64::from(self.logs[low] - self.logs[low + 1]);
        let weight = ((f64::from(self.logs[low]) - wanted) / span).clamp(0.0, 1.0);
        (1.0 - weight) * low as f64 + weight * (low + 1) as f64
    }
}

/// `steps` noise levels from `sigma_max` down to `sigma_min` along `curve`, none where the schedule
/// itself is followed. The Lu curve spans the training schedule, whatever the two ends.
pub(super) fn along(
    curve: Curve,
    train: &TrainSigmas,
    (sigma_max, sigma_min): (f64, f64),
    steps: usize,
) -> Option<Vec<f64>> {
    /// ρ of arXiv 2206.00364.
    const RHO: f64 = 7.0;
    match curve {
        Curve::Schedule => None,
        Curve::Karras => {
            let (high, low) = (sigma_max.powf(1.0 / RHO), sigma_min.powf(1.0 / RHO));
            let ramp = linspace(0.0, 1.0, steps, true);
            Some(
                ramp.iter()
                    .map(|t| (high + t * (low - high)).powf(RHO))
                    .collect(),
            )
        }
        Curve::Lu => {
            let (high, low) = (
                f64::from(*train.logs.last()?),
                f64::from(*train.logs.first()?),
            );
            let ramp = linspace(0.0, 1.0, steps, true);
            Some(
                ramp.iter()
                    .map(|t| (high + t * (low - high)).exp())
                    .collect(),
            )
        }
        Curve::Exponential => {
            let logs = linspace(sigma_max.ln(), sigma_min.ln(), steps, true);
            Some(logs.iter().map(|log| log.exp()).collect())
        }
        Curve::Beta => {
            let ramp = linspace(0.0, 1.0, steps, true);
            let quantiles = ramp.iter().map(|t| beta_quantile(1.0 - t));
            Some(
                quantiles
                    .map(|q| sigma_min + q * (sigma_max - sigma_min))
                    .collect(),
            )
        }
    }
}

/// Both shape parameters of the Beta curve.
const BETA_SHAPE: f64 = 0.6;

/// The x with I_x(0.6, 0.6) = p, by bisection in θ where x = sin²θ: the substitution takes both
/// end singularities of the density away.
fn beta_quantile(p: f64) -> f64 {
    if p <= 0.0 || p >= 1.0 {
        return p.clamp(0.0, 1.0);
    }
    if p > 0.5 {
        return 1.0 - beta_quantile(1.0 - p);
    }
    let (mut low, mut high) = (0.0, 0.5);
    // Doubles run out after about 1100 halvings near zero, long before that elsewhere.
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if beta_lower(middle) < p {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

/// I_x(a, a) for x ≤ ½, by the hypergeometric series
/// x^a / (a·B) · Σ (1−a)_n / n! · a / (a+n) · xⁿ (DLMF 8.17.7).
fn beta_lower(x: f64) -> f64 {
    let a = BETA_SHAPE;
    let (mut coefficient, mut total) = (1.0, 0.0);
    // At x = ½ each term at least halves, so 80 of them reach double precision.
    for n in 0..80 {
        total += coefficient * a / (a + n as f64);
        coefficient *= (1.0 - a + n as f64) / (n as f64 + 1.0) * x;
    }
    x.powf(a) / (a * beta_function()) * total
}

/// B(0.6, 0.6) = Γ(0.6)² / Γ(1.2) (DLMF 5.12.1).
fn beta_function() -> f64 {
    /// Γ(0.6), to double precision.
    const GAMMA_0_6: f64 = 1.489_192_248_812_816_9;
    /// Γ(1.2), to double precision.
    const GAMMA_1_2: f64 = 0.918_168_742_399_760_4;
    GAMMA_0_6 * GAMMA_0_6 / GAMMA_1_2
}
