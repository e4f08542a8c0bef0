//! Samplers as tables: each file writes one sampler's formulas as rows of numbers.
//!
//! Takes a [`SamplerConfig`] and a number of steps, gives a [`SamplerTable`] that the runtime obeys
//! without knowing which sampler it is. All arithmetic is double precision on the host, except
//! where the noise levels themselves are defined in single. It never sees a tensor.

mod config;
mod ddim;
mod ddpm;
mod deis;
mod dpm;
mod dpm2;
mod dpm2_a;
mod dpmpp_2m;
mod dpmpp_2m_sde;
mod dpmpp_2s;
mod edm_euler;
mod error;
mod euler;
mod euler_a;
mod given;
mod heun;
mod instaflow;
mod ipndm;
mod k_grid;
mod lcm;
mod levels;
mod lms;
mod multistep;
mod options;
mod perflow;
mod pndm;
mod prediction;
mod row;
mod schedule;
mod sigmas;
mod solver_grid;
mod spacing;
mod splam;
mod table;
mod tcd;
mod unipc;

pub use config::SamplerConfig;
pub use error::{SamplerError, Wanted};
pub use lcm::boundary as lcm_boundary;
use options::Sampler;
pub use prediction::PredictionType;
pub use table::table;

/// Every sampler. Where several share a class, the first stands for a file of that class.
const SAMPLERS: &[&Sampler] = &[
    &ddim::SAMPLER,
    &ddpm::SAMPLER,
    &deis::SAMPLER,
    &dpm2::SAMPLER,
    &dpm2_a::SAMPLER,
    &dpmpp_2m::SAMPLER,
    &dpmpp_2m_sde::SAMPLER,
    &dpm::SAMPLER,
    &dpmpp_2s::SAMPLER,
    &edm_euler::SAMPLER,
    &euler::SAMPLER,
    &euler_a::SAMPLER,
    &heun::SAMPLER,
    &instaflow::SAMPLER,
    &ipndm::SAMPLER,
    &lcm::SAMPLER,
    &lms::SAMPLER,
    &perflow::SAMPLER,
    &pndm::SAMPLER,
    &splam::SAMPLER,
    &tcd::SAMPLER,
    &unipc::SAMPLER,
];

/// Names that [`SamplerConfig::with_sampler`] takes.
pub fn names() -> impl Iterator<Item = &'static str> {
    SAMPLERS.iter().map(|sampler| sampler.name)
}
