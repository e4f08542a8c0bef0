//! DPM-Solver, first and second order, on ε (arXiv 2206.00927; spec 4.4).
//!
//! Its last step ends at the schedule's least noise: on ε it cannot reach none at all.

use super::multistep;
use super::options::{Preset, Sampler};

pub(super) const SAMPLER: Sampler = Sampler {
    name: "dpm",
    class: multistep::CLASS,
    options: multistep::OPTIONS,
    inert: multistep::INERT,
    defaults: &[],
    forced: &[
        ("algorithm_type", Preset::Word("dpmsolver")),
        ("final_sigmas_type", Preset::Word("sigma_min")),
        ("solver_order", Preset::Count(2)),
    ],
    rows: multistep::rows,
};
