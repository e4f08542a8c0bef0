//! Ancestral DPM2 of k-diffusion: steps of DPM2 below the next noise level, then fresh noise up to
//! it.

use compiler::program::sampler::SamplerTable;

use super::dpm2;
use super::error::SamplerError;
use super::euler_a::split;
use super::k_grid;
use super::options::{Options, Sampler};

pub(super) const SAMPLER: Sampler = Sampler {
    name: "dpm2_a",
    class: "KDPM2AncestralDiscreteScheduler",
    options: k_grid::OPTIONS,
    inert: &[],
    defaults: &[],
    forced: &[],
    rows,
};

fn rows(options: &Options, steps: usize) -> Result<SamplerTable, SamplerError> {
    dpm2::table(options, steps, split)
}
