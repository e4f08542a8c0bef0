//! Improved PNDM: linear multistep on a schedule of its own, whose network is told times in 0..1
//! (crowsonkb's v-diffusion, `sampling.plms_sample`, spliced cosine schedule squared).
//!
//! History: three earlier combinations of state and output in a ring.

use std::f64::consts::PI;

use compiler::program::sampler::{Limit, SamplerStep, SamplerTable, Store};

use super::error::SamplerError;
use super::options::{Options, Sampler};
use super::row::{OUTPUT, X, slot, sum};
use crate::noise_schedule::linspace_f32;

pub(super) const SAMPLER: Sampler = Sampler {
    name: "ipndm",
    class: "IPNDMScheduler",
    options: &[],
    inert: &[],
    defaults: &[],
    forced: &[],
    rows,
};

/// Outputs of earlier steps.
const RING: usize = 3;

fn rows(options: &Options, steps: usize) -> Result<SamplerTable, SamplerError> {
    if options.is_given("trained_betas") {
        return Err(options.wrong("trained_betas", "null"));
    }
    let times = linspace_f32(1.0, 0.0, steps + 1);
    let level = |time: &f32| {
        let sigma = (f64::from(*time) * PI / 2.0).sin().powi(2);
        (sigma, (1.0 - sigma * sigma).sqrt())
    };
    let levels: Vec<(f64, f64)> = times.iter().map(level).collect();
    let mut table = Vec::with_capacity(steps);
    for (step, pair) in levels.windows(2).enumerate() {
        let ((sigma, alpha), (sigma_to, alpha_to)) = (pair[0], pair[1]);
        let seen = sum(&[(sigma, X), (alpha, OUTPUT)]);
        let earlier = |age: usize| slot((step + RING - age) % RING);
        let combined = match step {
            0 => seen,
            1 => sum(&[(1.5, seen), (-0.5, earlier(1))]),
            2 => sum(&[
                (23.0 / 12.0, seen),
                (-16.0 / 12.0, earlier(1)),
                (5.0 / 12.0, earlier(2)),
            ]),
            _ => sum(&[
                (55.0 / 24.0, seen),
                (-59.0 / 24.0, earlier(1)),
                (37.0 / 24.0, earlier(2)),
                (-9.0 / 24.0, earlier(3)),
            ]),
        };
        // At the start no signal is left; diffusers divides by this instead.
        let divisor = alpha.max(1e-8);
        let estimate = sum(&[(1.0 / divisor, X), (-sigma / divisor, combined)]);
        table.push(SamplerStep {
            timestep: sigma.atan2(alpha) / PI * 2.0,
            input_scale: 1.0,
            draw: None,
            estimate,
            limit: Limit::None,
            next: sum(&[(alpha_to, estimate), (sigma_to, combined)]),
            stores: vec![Store {
                slot: step % RING,
                row: seen,
            }],
        });
    }
    Ok(SamplerTable {
        init_noise_sigma: 1.0,
        draws: 0,
        history_slots: RING,
        steps: table,
    })
}
